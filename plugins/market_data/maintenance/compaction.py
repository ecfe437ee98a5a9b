"""Compaction: fold the day files of closed months into the file of their year or session.

Bars within the day go into the file of their month. For a feed with ``file_grain=session`` the day files of all symbols go into the file
of their session; for another one, session files are folded too: see ``session_folding``.

For each symbol and period: read the day files, merge them into the period's file as the reader does, write it by a conditional PUT, read it
back, and merge again. Only when that changes nothing are the day files deleted, each in the version that was read. So a row is in one
of the files at any moment; readers count a row once that is in both. Killed at any point, the next compaction goes on.

Writers need not be stopped. A day file that a correction has replaced in the meantime stays for the next compaction; so does one that is
written later.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice

from market_data.core.errors import BrokenObject, ConfigError
from market_data.core.messages import shortened
from market_data.core.run import Grain
from market_data.lake import conditional, parquet
from market_data.lake.layout import compactions_prefix
from market_data.lake.reader import stored_symbols
from market_data.lake.receipts import OBJECTS
from market_data.lake.store import Lake
from market_data.maintenance import journal
from market_data.maintenance.foldable import Foldable, Group
from market_data.maintenance.folding import Done, inside, merged_into, record
from market_data.maintenance.session_folding import Sessions, fold_sessions
from market_data.pipeline.selection import Selection

log = logging.getLogger(__name__)

GROUPS = 64
"""Periods whose files are written and verified before the first of their day files is deleted."""

PARALLEL = 8
READ_AHEAD = 16


class Deletes(StrEnum):
    """Which day files are deleted after they were folded and verified."""

    ALL = "all"
    EARLIER = "earlier"  # those that an earlier compaction has folded: readers that began before it have ended
    NONE = "none"


@dataclass(frozen=True)
class Compacted:
    """Result of a compaction, or of its dry run.

    :param symbols: with day files to fold.
    :param day_files: folded, or to fold in a dry run.
    :param files: the year or month files that hold their rows now; ``written`` of them were created or replaced.
    :param deleted: day files.
    :param left: a sentence on everything that was left alone, with the reason.
    """

    dataset: str
    source: str
    dry_run: bool
    symbols: int = 0
    day_files: int = 0
    files: int = 0
    written: int = 0
    deleted: int = 0
    left: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return the result in words: totals, then what was left alone."""
        name = f"{self.dataset} of {self.source}"
        found = f"{self.day_files:,} day files of {self.symbols:,} symbols"
        if self.dry_run:
            total = f"{name}: {found} can be folded into {self.files:,} files; nothing was changed (dry run)"
        else:
            total = f"{name}: {found} are in {self.files:,} files, {self.written:,} written; {self.deleted:,} day files deleted"
        return [total, *shortened(self.left)]


def compact(
    lake: Lake,
    selection: Selection,
    now: datetime,
    *,
    dry_run: bool = False,
    deletes: Deletes = Deletes.ALL,
    to: Grain = "year",
    by: str = "market-data",
) -> Compacted:
    """Fold the day files of a dataset and source, symbol by symbol, and session files with ``to=year``.

    Left alone and named in ``Compacted.left``: months that are not closed, cells that wait in staging, objects that cannot be read or hold
    rows of others, and day files that changed in the meantime. A store that ignores conditions of a DELETE keeps its day files.

    :param dry_run: count day files by their keys; read no rows and change nothing.
    :param to: the grain of the files that they go into: ``year`` or ``session``.
    :param by: who runs it, for the journal.
    :raises ConfigError: if the store ignores conditions of a PUT; nothing was written.
    :raises LakeError: if the store fails, or does not return what was written; no row is lost.
    """
    dataset = selection.dataset
    if to not in ("year", "session") or to not in dataset.files.grains:
        raise ConfigError(
            f"the grain to fold into is {to!r}; for {dataset.name} allowed: year" + ", session" * dataset.has_session_files
        )
    if dataset.files.year_grain == "day" and to == "year":
        what = "statement" if dataset.files.date != "session" else "session"
        reason = f"{dataset.name} has a file per {what} in every grain: there is nothing to fold"
        return Compacted(dataset.name, selection.source, dry_run, left=(reason,))
    foldable = Foldable.of(lake, selection, now, to)
    symbols = selection.symbols or stored_symbols(lake, selection.layout, dataset, selection.source)
    left, counts = list(foldable.blocked), Counter[str]()
    with_files: set[str] = set()
    if not dry_run and not foldable.blocked:
        conditional.check_conditional_put(lake)
        if deletes is not Deletes.NONE and not conditional.honours_conditional_delete(lake):
            left.append(
                f"the store of {lake.url} ignores conditions of a DELETE: folded day files stay, and readers count their rows once"
            )
            deletes = Deletes.NONE
    try:
        for groups in _chunks(foldable.groups(symbols, left)):
            with_files |= {group.symbol for group in groups}
            counts["files"] += len(groups)
            counts["day_files"] += sum(len(group.days) for group in groups)
            if not dry_run:
                _fold(lake, selection, groups, (now, deletes), counts, left)
        if to == "year" and not foldable.blocked:
            how = Sessions(now, delete=lambda written: deletes is Deletes.ALL or (deletes is Deletes.EARLIER and not written))
            with_files |= fold_sessions(foldable, how, counts, left, dry_run=dry_run)
    finally:
        if counts["written"] or counts["deleted"]:
            details = {"dataset": dataset.name, "source": selection.source, **counts, "left": len(left)}
            journal.write(lake, journal.Entry(now, "compact", by, "day files of closed months were folded", details))
    values = {name: counts[name] for name in ("day_files", "files", "written", "deleted")}
    return Compacted(dataset.name, selection.source, dry_run, len(with_files), left=tuple(left), **values)


def recorded_hashes(lake: Lake, dataset: str, source: str) -> dict[str, str]:
    """Return key -> ``sha256`` (see ``receipts.OBJECTS``) of each file as the latest compaction left it.

    With the receipts they tell which content an object should have.
    """
    folder = compactions_prefix(dataset, source)
    keys = [key for key, _ in lake.list(folder)]
    found: dict[str, str] = {}
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        if stored is not None:
            table = parquet.decode(stored.body, key, OBJECTS)
            found |= dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    return found


def _chunks(groups: Iterator[Group]) -> Iterator[list[Group]]:
    while some := list(islice(groups, GROUPS)):
        yield some


def _fold(
    lake: Lake, selection: Selection, groups: Sequence[Group], how: tuple[datetime, Deletes], counts: Counter[str], left: list[str]
) -> None:
    """Fold some periods, record their files, and then delete their day files."""
    now, deletes = how
    done: list[Done] = []
    try:
        for one in lake.each(lambda group: _fold_group(lake, selection, group), groups, concurrency=PARALLEL):
            counts["written"] += one.written
            left += one.left
            done.append(one)
    finally:
        record(lake, selection, [one for one in done if one.days], now)
    ready = [one for one in done if deletes is Deletes.ALL or (deletes is Deletes.EARLIER and not one.written)]
    days = [day for one in ready for day in one.days]
    for (key, _), deleted in zip(days, lake.each(lambda day: lake.delete_if(*day), days), strict=True):
        counts["deleted"] += deleted
        if not deleted:
            left.append(f"{key} was replaced while it was folded; the next compaction folds it again")


def _fold_group(lake: Lake, selection: Selection, group: Group) -> Done:
    """Write the file of a period, with the rows of its day files, until it reads back as it should be."""
    dataset, done = selection.dataset, Done(group)
    tables = []
    for key, stored in zip(group.days, lake.get_many(group.days, concurrency=READ_AHEAD), strict=True):
        if stored is None:
            continue
        try:
            rows = parquet.decode_rows(stored.body, key, dataset)
        except BrokenObject as error:
            done.left.append(f"{error}; it is left alone")
            continue
        if not inside(rows, selection.layout.parse(key)):
            done.left.append(f"{key} holds rows of another symbol or session; it is left alone")
            continue
        tables.append(rows)
        done.days.append((key, stored.etag))
    return merged_into(lake, selection, group, tables, done) if tables else done
