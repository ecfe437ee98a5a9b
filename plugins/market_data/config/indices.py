"""Index files in the lake: ``metadata/indices/{index}.csv``.

They hold the members of an index with the dates on which they joined and left.
A run writes one (param ``index_name``), and may take it as its universe (``universe: index:NAME``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from market_data.config.universes import Member, read_members, write_members

INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
PREFIX = "index:"
"""Begins the name of a universe that is an index file in the lake."""
FOLDER = "metadata/indices/"
FROM_FILE = "auto"
"""Value of ``index_name``: the index has the name of the tickers file."""

# A year or date at the end names an edition. The year 2000 is not one: Russell 2000.
_EDITION = re.compile(r"[ _.-]+(?:(?:19\d\d|20(?!00)\d\d)|(?:19|20)\d\d[_.-]?(?:0[1-9]|1[0-2])(?:[_.-]?(?:0[1-9]|[12]\d|3[01]))?)$")


def key_of(index: str) -> str:
    """Return the lake key of an index file."""
    return f"{FOLDER}{index}.csv"


def name_of_file(path: str) -> str | None:
    """Return the index that a tickers file is named after, or None if its name gives none.

    ``SP500_2024.csv`` and ``sp500-2024-09-30.csv`` give ``sp500``: lower case, other characters as ``_``, without a year or date at the
    end.
    """
    stem = path.rsplit("/", 1)[-1].rpartition(".")[0].lower()
    name = re.sub(r"[^a-z0-9_-]+", "_", _EDITION.sub("", stem)).strip("_-")
    return name if INDEX_NAME.fullmatch(name) else None


@dataclass(frozen=True, slots=True)
class IndexChange:
    """A change of an index file.

    :param text: the new content, or None where nothing changes.
    :param added: new members. ``removed``: former members. Both sorted.
    """

    text: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def update_index(
    text: str | None, members: Iterable[str | Member], day: date, *, source: str, since_ever: bool = False
) -> IndexChange:
    """Bring an index file (columns ``symbol``, ``added_date``, ``removed_date``) up to date.

    Dates of ``members`` replace those of the stored memberships that they overlap, except that an earlier first date is kept. All
    other stored memberships are kept. A symbol without dates that is not yet a member is added on ``day``. Stored members that ``members``
    lack are removed on ``day``.

    :param text: the current file, or None.
    :param members: symbols, or symbols with dates.
    :param source: its name, for the messages.
    :param since_ever: in a new file, a symbol without dates has an unknown first date, which excludes nothing. Else it is ``day``.
    :raises ConfigError: if the current file is invalid; lists every problem with its line.
    """
    stored = read_members(text, source=source) if text is not None else ()
    given = [Member(one) if isinstance(one, str) else replace(one, source="") for one in members]
    dated: dict[str, list[Member]] = {}
    for row in given:
        if row.added or row.removed:
            dated.setdefault(row.symbol, []).append(row)
    plain = {row.symbol for row in given} - dated.keys()
    present = {row.symbol for row in given if row.on(day)}
    rows: list[Member] = []
    for row in stored:
        if row.symbol in dated:
            continue
        gone = row.removed is None and row.symbol not in plain
        back = row.removed == day and row.symbol in plain  # removed and added again on the same day
        rows.append(replace(row, removed=day if gone else None) if gone or back else row)
    since = None if text is None and since_ever else day
    rows += [Member(symbol, since) for symbol in plain - {row.symbol for row in rows if row.removed is None or row.on(day)}]
    for symbol, corrections in dated.items():
        rows += _corrected([row for row in stored if row.symbol == symbol], corrections, day)
    # A row without a date of membership is left out: came and went on the same day, or was removed before it came.
    rows = [row for row in rows if row.added is None or row.removed is None or row.added < row.removed]
    before, revised = {row.symbol for row in stored if row.on(day)}, write_members(rows, sources=False)
    joined, left = tuple(sorted(present - before)), tuple(sorted(before - present))
    unchanged = text is not None and write_members(stored, sources=False) == revised
    return IndexChange(None) if unchanged else IndexChange(revised, joined, left)


def _corrected(stored: list[Member], given: list[Member], day: date) -> list[Member]:
    """Return the memberships of one symbol: those given, and the stored ones that none of them overlaps.

    An earlier date of a stored one that is overlapped stays the first date.
    """
    rows: list[Member] = []
    kept = list(stored)
    for row in given:
        met = [other for other in kept if _meet(row, other)]
        kept = [other for other in kept if other not in met]
        begins = (
            None if any(other.added is None for other in met) else min((other.added for other in met if other.added), default=None)
        )
        first = begins if row.added is None else min(row.added, begins or row.added)
        rows.append(replace(row, added=first))
    return rows + [replace(row, removed=day) if row.removed is None else row for row in kept]


def _meet(one: Member, other: Member) -> bool:
    starts, ends = one.added or date.min, one.removed or date.max
    return (other.added or date.min) < ends and starts < (other.removed or date.max)
