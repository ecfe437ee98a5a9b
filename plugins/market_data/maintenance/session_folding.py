"""Fold session files of closed months into the files of their symbols.

This is for a feed whose grain is not ``session`` any more.

A session file is deleted only after the rows of all its symbols are verified in their files, and in the version that was read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.lake import parquet
from market_data.lake.layout import file_period
from market_data.lake.session_files import read_symbols
from market_data.maintenance.foldable import Foldable, Group
from market_data.maintenance.folding import Done, inside, merged_into, record

AT_ONCE = 32
"""Symbols whose rows are in memory at a time: a month of their minutes is 270,000 rows."""

PARALLEL = 8


@dataclass(frozen=True)
class Sessions:
    """:param delete: takes if any file was written; returns if folded session files are deleted."""

    now: datetime
    delete: Callable[[bool], bool]


def fold_sessions(foldable: Foldable, how: Sessions, counts: Counter[str], left: list[str], *, dry_run: bool) -> set[str]:
    """Fold the session files of closed months; add to ``counts`` and ``left``.

    :return: the symbols whose rows were folded.
    """
    dataset, found = (
        foldable.selection.dataset,
        foldable.session_files(left) if foldable.selection.dataset.has_session_files else {},
    )
    if not found:
        return set()
    if foldable.selection.symbols is not None:
        left.append(f"{len(found):,} session files are left alone: they hold all symbols, and some were selected")
        return set()
    counts["day_files"] += len(found)
    if dry_run:
        return set()
    periods: dict[tuple[int, int], dict[date, str]] = defaultdict(dict)
    for day, key in found.items():
        periods[day.year, day.month if file_period(dataset, "year") == "month" else 0][day] = key
    symbols: set[str] = set()
    for files in periods.values():
        symbols |= _fold_period(foldable, how, files, counts, left)
    return symbols


def _fold_period(foldable: Foldable, how: Sessions, files: dict[date, str], counts: Counter[str], left: list[str]) -> set[str]:
    lake, selection = foldable.lake, foldable.selection
    read: dict[str, tuple[date, str]] = {}
    symbols: set[str] = set()
    for day, key in files.items():
        stored = lake.get(key)
        if stored is None:
            continue
        try:
            rows = parquet.decode_rows(stored.body, key, selection.dataset)
        except BrokenObject as error:
            left.append(f"{error}; it is left alone")
            continue
        if not inside(rows, selection.layout.parse(key)):
            left.append(f"{key} holds rows of another session; it is left alone")
        elif foldable.wait(rows):
            left.append(f"{key} is left alone: a cell of it waits in staging; the feed's next run loads it")
        else:
            read[key] = (day, stored.etag)
            symbols.update(rows["symbol"].unique().to_pylist())
    done = [one for some in _chunks(sorted(symbols)) for one in _fold_symbols(foldable, read, some)]
    for one in done:
        left += one.left
    written = any(one.written for one in done)
    counts["written"] += sum(one.written for one in done)
    counts["files"] += len(done)
    whole = [one for one in done if one.days]
    record(lake, selection, whole, how.now)
    if len(whole) < len(done) or not how.delete(written):
        return symbols
    for key, (_, etag) in read.items():
        deleted = lake.delete_if(key, etag)
        counts["deleted"] += deleted
        if not deleted:
            left.append(f"{key} was replaced while it was folded; the next compaction folds it again")
    return symbols


def _chunks(symbols: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(symbols), AT_ONCE):
        yield symbols[start : start + AT_ONCE]


def _fold_symbols(foldable: Foldable, read: dict[str, tuple[date, str]], symbols: Sequence[str]) -> list[Done]:
    """Write the rows of some symbols into the files of their period."""
    lake, selection = foldable.lake, foldable.selection
    tables = [read_symbols(lake, key, selection.dataset, symbols) for key in read]
    rows = pa.concat_tables([selection.dataset.schema.empty_table(), *(table for table in tables if table is not None)])
    day = next(iter(read.values()))[0]

    def fold(symbol: str) -> Done:
        key = selection.layout.object_key(selection.dataset, selection.source, symbol, day, "year")
        group = Group(key, symbol, list(read))
        own = rows.filter(pc.equal(rows["symbol"], symbol))
        return merged_into(lake, selection, group, [own], Done(group, [(key, etag) for key, (_, etag) in read.items()]))

    return list(lake.each(fold, symbols, concurrency=PARALLEL))
