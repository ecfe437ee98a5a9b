"""Universes: named, point-in-time sets of symbols.

A universe is a CSV file in ``include/universes``, named by the file; each row is a member::

    symbol,added_date,removed_date,source

``added_date`` is the first date the symbol belongs to it, ``removed_date`` the first on which it no longer does; empty means
unknown. A symbol that left and came back has two rows. More columns may follow and are ignored.

**Survivorship bias**: the files that come with this project hold the members on the day they were written, without dates. Companies
that were members in 2012 and have since been acquired, gone bankrupt or been replaced are missing, so a study of the past over
``sp500_etf`` sees survivors only. :func:`update` dates every change from now on; a file with the full history can replace it without
a code change.

Symbols are case sensitive (Polygon's preferred shares are written ``KIMpL``) and never changed: others are rejected.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

from market_data.config.symbols import symbol_problem
from market_data.core.errors import ConfigError, ParamError
from market_data.core.messages import shortened, shown
from market_data.core.paths import INCLUDE

FOLDER = INCLUDE / "universes"

# 20 widely used US ETFs: large companies, other parts of the market, abroad, bonds, metals, sectors.
ETFS = (
    *("DIA", "IVV", "SPY", "VOO"),
    *("IWM", "QQQ", "VTI"),
    *("EEM", "EFA", "VEA", "VWO"),
    *("AGG", "BND", "HYG", "LQD", "TLT"),
    *("GLD", "SLV"),
    *("XLF", "XLK"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A symbol's membership of a universe: from ``added`` (inclusive) to ``removed`` (exclusive).

    None means unknown.
    """

    symbol: str
    added: date | None = None
    removed: date | None = None
    source: str = ""

    def on(self, day: date) -> bool:
        """Return True if it is a member on ``day``; an unknown date does not exclude it."""
        return (self.added is None or self.added <= day) and (self.removed is None or day < self.removed)


def known(folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the names of all universes, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.csv")))


def members(name: str, as_of: date | None = None, folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the symbols of a universe, sorted, each once.

    :param name: one of :func:`known`.
    :param as_of: members on this date; None: all that have not been removed.
    :raises ParamError: if the universe does not exist.
    :raises ConfigError: if its file is invalid; lists every problem with its line.
    """
    if name not in known(folder):
        raise ParamError([f"universe is {shown(name)}; known universes: {', '.join(known(folder)) or f'none in {folder}'}"])
    rows = read_members((folder / f"{name}.csv").read_text(encoding="utf-8-sig"), source=f"{name}.csv")
    return tuple(sorted({row.symbol for row in rows if (row.removed is None if as_of is None else row.on(as_of))}))


def read_members(text: str, *, source: str) -> tuple[Member, ...]:
    """Return the rows of a universe file.

    :param source: the file's name, for the messages.
    :raises ConfigError: listing every problem with its line.
    """
    table = csv.DictReader(io.StringIO(text))
    missing = {"symbol", "added_date", "removed_date"} - set(table.fieldnames or ())
    if missing:
        raise ConfigError(
            f"{source}: columns {', '.join(sorted(missing))} are missing; symbol, added_date, removed_date are needed"
        )
    rows: list[Member] = []
    problems: list[str] = []
    for record in table:
        try:
            row = Member(
                record["symbol"], parse_date(record["added_date"]), parse_date(record["removed_date"]), record.get("source") or ""
            )
        except ValueError as error:
            problems.append(f"line {table.line_num}: {error}")
            continue
        problem = symbol_problem(row.symbol)
        if problem:
            problems.append(f"line {table.line_num}: {shown(row.symbol)} {problem}")
        if row.added and row.removed and row.added >= row.removed:
            problems.append(
                f"line {table.line_num}: {row.symbol} is removed on {row.removed}, not after it was added on {row.added}"
            )
        rows.append(row)
    problems += _overlaps(rows)
    if problems:
        raise ConfigError("\n  ".join([f"{source} is not a universe:", *shortened(problems)]))
    return tuple(rows)


def write_members(rows: Iterable[Member], *, sources: bool = True) -> str:
    """Return ``rows`` as the text of a universe file, sorted; :func:`read_members` reads it back.

    :param sources: write the column ``source``.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    width = 4 if sources else 3
    table.writerow(["symbol", "added_date", "removed_date", "source"][:width])
    for row in sorted(rows, key=lambda row: (row.symbol, row.added or date.min)):
        table.writerow([row.symbol, row.added or "", row.removed or "", row.source][:width])
    return out.getvalue()


def update(rows: Iterable[Member], wanted: Mapping[str, str], day: date, *, begins: date | None = None) -> tuple[Member, ...]:
    """Return ``rows`` brought up to date: on ``day``, exactly the symbols in ``wanted`` are members.

    New members are added on ``day`` and missing ones removed on it; earlier memberships are kept.

    :param wanted: symbol -> source.
    :param begins: if there are no rows yet, the date from which the first ones are members; None: the past is unknown.
    """
    rows = list(rows)
    since = day if rows else begins
    kept = [replace(row, removed=day) if row.removed is None and row.symbol not in wanted else row for row in rows]
    kept = [row for row in kept if row.added is None or row.added != row.removed]  # came and went on the same day
    new = wanted.keys() - {row.symbol for row in kept if row.removed is None}
    return (*kept, *(Member(symbol, added=since, source=wanted[symbol]) for symbol in sorted(new)))


@dataclass(frozen=True, slots=True)
class IndexChange:
    """A change of an index file.

    :param text: the new content, or None where the members are unchanged.
    :param added: new members. ``removed``: former members. Both sorted.
    """

    text: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def update_index(text: str | None, symbols: Iterable[str], day: date, *, source: str) -> IndexChange:
    """Bring an index file (columns ``symbol``, ``added_date``, ``removed_date``) up to date.

    New members are added on ``day``, in a new file all of them; missing ones are removed on it; the others keep their dates.

    :param text: the current file, or None.
    :param source: its name, for the messages.
    :raises ConfigError: if the current file is invalid; lists every problem with its line.
    """
    rows = read_members(text.removeprefix("\ufeff"), source=source) if text is not None else ()
    wanted, current = set(symbols), {row.symbol for row in rows if row.removed is None}
    if wanted == current:
        return IndexChange(None)
    revised = write_members(update(rows, dict.fromkeys(wanted, ""), day, begins=day), sources=False)
    return IndexChange(revised, tuple(sorted(wanted - current)), tuple(sorted(current - wanted)))


def sp500_etf_symbols() -> tuple[str, ...]:
    """Return today's S&P 500 from ``pytickersymbols`` (no network) and :data:`ETFS`, sorted."""
    return tuple(sorted({*_index("S&P 500"), *ETFS}))


def dow30_symbols() -> tuple[str, ...]:
    """Return today's Dow Jones Industrial Average from ``pytickersymbols`` (no network), sorted."""
    return tuple(sorted(_index("DOW JONES")))


LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "dow30": dow30_symbols,
    "etf20": lambda: tuple(sorted(ETFS)),
    "sp500_etf": sp500_etf_symbols,
}


def refresh(day: date, folder: Path = FOLDER) -> None:
    """Bring the files of this project's universes up to ``day``, after an update of ``pytickersymbols``.

    ::

        PYTHONPATH=plugins python -c "from datetime import date; from market_data.config import universes as u; u.refresh(date.today())"
    """
    for name, symbols in LISTS.items():
        path = folder / f"{name}.csv"
        rows = read_members(path.read_text(encoding="utf-8-sig"), source=path.name) if path.exists() else ()
        wanted = {symbol: "airflow-market-data" if symbol in ETFS else "pytickersymbols" for symbol in symbols()}
        path.write_text(write_members(update(rows, wanted, day)), encoding="utf-8")


def _index(name: str) -> Iterator[str]:
    from pytickersymbols import PyTickerSymbols

    return (stock["symbol"] for stock in PyTickerSymbols().get_stocks_by_index(name))


def _overlaps(rows: Sequence[Member]) -> list[str]:
    ordered = sorted(rows, key=lambda row: (row.symbol, row.added or date.min))
    return [
        f"{left.symbol} has two rows that hold at once"
        for left, right in pairwise(ordered)
        if left.symbol == right.symbol and (left.removed is None or right.added is None or right.added < left.removed)
    ]


def parse_date(text: str | None) -> date | None:
    """Return the date that an ISO text names; None for an empty one.

    :raises ValueError: if it is not an ISO date.
    """
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a date; ISO dates are needed, e.g. 2026-11-02") from None
