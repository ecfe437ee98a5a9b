"""Rebuild: fill a warehouse from the lake alone, without a provider and without Airflow."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from market_data.core.errors import BrokenObject, ConfigError, LakeError
from market_data.core.run import RunInfo
from market_data.pipeline.known_actions import known_actions
from market_data.pipeline.load import in_chunks, load_id
from market_data.pipeline.loadable import Loadable
from market_data.pipeline.quality_entries import entries_of_lake
from market_data.pipeline.rebuild_objects import KeysOf, day_files_first, listing_of, rows_of_objects
from market_data.pipeline.selection import Selection
from market_data.providers.registry import calendar_of_source

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

AT_A_TIME = 4096
"""Lake objects that are read before their rows are loaded, about: a symbol's objects stay together."""

ROWS_AT_A_TIME = 200_000
"""Rows of session files that are read before they are loaded, about."""

SESSIONS_AHEAD = 2
"""Session files read at a time: each may hold the minutes of every symbol."""


@dataclass(frozen=True)
class Rebuilt:
    """Result of a rebuild.

    :param objects: lake objects read, or to read in a dry run.
    :param rows: rows given to the warehouse, ``changed`` of them new or different there. 0 in a dry run.
    :param left_out: rows in the lake whose cells are refused, quarantined, not recorded, or still in staging. 0 in a dry run.
    :param unreadable: a sentence per object that cannot be read. Nothing is loaded for its dates, as other objects may hold older values.
    """

    symbols: int
    objects: int
    rows: int = 0
    changed: int = 0
    left_out: int = 0
    unreadable: tuple[str, ...] = ()


def rebuild_warehouse(
    lake: Lake,
    warehouse: Warehouse,
    selection: Selection,
    *,
    cells: pa.Table | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Rebuilt:
    """Load everything from the lake that the ledger records as loaded, a few thousand objects at a time.

    Day files and year files may overlap: the newest row of each key is loaded, as ``read_rows`` returns it. Rows of refused cells, of
    cells without a record, and of cells that wait in staging (the feed's next run checks and loads them) are left out. The warehouse
    need not be empty: equal rows change nothing, older ones replace nothing.

    :param cells: has ``symbol`` and ``session``: only these cells, of which values that were altered in the warehouse become those of
        the lake again.
    :param dry_run: count objects; read no rows and do not open the warehouse.
    :raises ConfigError: if the dataset has no table in the warehouse.
    """
    from market_data.lake.layout import ALL_SYMBOLS

    dataset = selection.dataset
    if dataset.table is None:
        raise ConfigError(f"{dataset.name} has no table in the warehouse; it stays in the lake")
    selection = selection if cells is None else _around(selection, cells)
    keys_of = listing_of(lake, selection, cells)
    counts, sessions = _counts(lake, selection, keys_of), keys_of(ALL_SYMBOLS)
    in_sessions = _recorded_symbols(lake, selection) if sessions else set()
    found = Rebuilt(len({*counts, *in_sessions}), sum(counts.values()) + len(sessions))
    if dry_run:
        return found
    # Every rebuild has load ids of its own: after somebody emptied a table by hand, the audit rows are still there.
    started = now or datetime.now(UTC)
    run = RunInfo("rebuild-warehouse", started.isoformat(), "manual", 0, started)
    loadable = Loadable(lake, selection, cells)
    load = warehouse.load if cells is None else warehouse.restore
    warehouse.migrate()
    rows = changed = 0
    for chunk in in_chunks(_tables(lake, selection, cells, counts, loadable), warehouse.chunk_rows):
        loaded = load(dataset, chunk, load_id(run, chunk), run, calendar_of_source(selection.source))
        rows, changed = rows + loaded.rows_in, changed + loaded.rows_changed
        log.info("rebuild: %d rows loaded, %d new or changed", rows, changed)
    warehouse.log_quality(entries_of_lake(lake, dataset.name, selection.source))
    if dataset.name == "corporate-actions":
        warehouse.know_actions(known_actions(lake, selection.source, started))
    return Rebuilt(found.symbols, found.objects, rows, changed, loadable.left_out, tuple(loadable.unreadable))


def rows_of_cells(lake: Lake, selection: Selection, cells: pa.Table) -> pa.Table:
    """Return the newest rows of some cells in the lake, recorded or not.

    Rows of dates of which an object cannot be read are included: they are in other objects.
    """
    import pyarrow as pa

    from market_data.lake import parquet
    from market_data.lake.coverage import contains
    from market_data.lake.reader import newest

    selection = _around(selection, cells)
    held: dict[str, pa.Table] = {}

    def left_out(error: BrokenObject, _: str) -> None:
        log.warning("%s; it is left out", error)

    for key, rows in rows_of_objects(lake, selection, selection.symbols or (), cells, left_out):
        held[key] = rows.filter(pa.array(contains(cells, rows)))
    return newest(
        parquet.gather((held[key] for key in day_files_first(selection, held)), selection.dataset.schema), selection.dataset
    )


def rows_to_load(lake: Lake, selection: Selection, cells: pa.Table) -> pa.Table:
    """Return those of ``rows_of_cells`` that the ledger records as loaded."""
    rows = rows_of_cells(lake, selection, cells)
    return Loadable(lake, _around(selection, cells), cells)(rows)


def _around(selection: Selection, cells: pa.Table) -> Selection:
    """Return the selection of the cells' symbols and dates."""
    import pyarrow.compute as pc

    symbols, dates = cells["symbol"].unique().to_pylist(), pc.min_max(cells["session"]).as_py()
    if not symbols:
        return replace(selection, symbols=())
    return replace(selection, symbols=tuple(sorted(symbols)), start=dates["min"], end=dates["max"])


def _counts(lake: Lake, selection: Selection, keys_of: KeysOf) -> dict[str, int]:
    """Return symbol -> number of its own objects that may hold selected rows."""
    from market_data.lake.reader import stored_symbols

    symbols: Sequence[str] | None = selection.symbols
    if symbols is None:
        symbols = stored_symbols(lake, selection.layout, selection.dataset, selection.source)
    found = zip(symbols, lake.each(keys_of, symbols), strict=True)
    return dict(sorted((symbol, len(keys)) for symbol, keys in found if keys))


def _recorded_symbols(lake: Lake, selection: Selection) -> set[str]:
    """Return the selected symbols of the ledger."""
    from market_data.lake.ledger import read_coverage

    if selection.symbols is not None:
        return set(selection.symbols)
    found: list[str] = read_coverage(lake, selection.dataset.name, selection.source).table["symbol"].unique().to_pylist()
    return set(found)


def _tables(
    lake: Lake, selection: Selection, cells: pa.Table | None, counts: Mapping[str, int], loadable: Loadable
) -> Iterator[pa.Table]:
    """Yield the newest rows: of whole symbols, several at a time, then of session files.

    Session files give those of symbols without other files.
    """
    done: set[str] = set()
    while True:
        yield from _tables_of_symbols(lake, selection, cells, counts, loadable)
        done |= set(counts)
        gone = yield from _tables_of_sessions(lake, selection, cells, done, loadable)
        if not gone:
            return
        # Session files were folded into files of symbols in the meantime.
        again = _counts(lake, selection, listing_of(lake, selection, cells))
        counts = {symbol: count for symbol, count in again.items() if symbol not in done}
        if not counts:
            raise LakeError(f"lake objects were deleted while they were read, e.g. {gone[0]}; try again later")


def _tables_of_symbols(
    lake: Lake, selection: Selection, cells: pa.Table | None, counts: Mapping[str, int], loadable: Loadable
) -> Iterator[pa.Table]:
    from market_data.lake import parquet
    from market_data.lake.layout import ALL_SYMBOLS
    from market_data.lake.reader import newest

    def read(symbols: Sequence[str]) -> pa.Table:
        # Listed again: objects may have been folded into others since they were counted.
        found = dict(rows_of_objects(lake, selection, symbols, cells, loadable.broken))
        rows = parquet.gather((found[key] for key in day_files_first(selection, found)), selection.dataset.schema)
        return loadable(newest(rows, selection.dataset))

    held: list[str] = []
    size = 0
    sessions = len(listing_of(lake, selection, cells)(ALL_SYMBOLS)) if counts else 0
    if selection.dataset.timeframe == "1d":  # each has one row of a symbol; every group of symbols reads all of them
        sessions = sessions * AT_A_TIME // ROWS_AT_A_TIME
    for symbol, count in counts.items():
        held.append(symbol)
        size += count + sessions
        if size >= AT_A_TIME:
            yield read(held)
            held, size = [], 0
    if held:
        yield read(held)


def _tables_of_sessions(
    lake: Lake, selection: Selection, cells: pa.Table | None, done: set[str], loadable: Loadable
) -> Generator[pa.Table, None, list[str]]:
    """Yield the rows of session files, without the symbols in ``done``.

    :return: the keys of files that do not exist any more.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake import session_files
    from market_data.lake.layout import ALL_SYMBOLS

    dataset = selection.dataset
    gone: list[str] = []
    held: list[pa.Table] = []

    def read(key: str) -> pa.Table | None:
        try:
            return session_files.read_symbols(lake, key, dataset, selection.symbols)
        except BrokenObject as error:
            loadable.broken(error, key)
            return dataset.schema.empty_table()

    keys = listing_of(lake, selection, cells)(ALL_SYMBOLS)
    others = pa.array(sorted(done), pa.string())
    for key, rows in zip(keys, lake.each(read, keys, concurrency=SESSIONS_AHEAD), strict=True):
        if rows is None:
            gone.append(key)
            continue
        held.append(rows.filter(pc.invert(pc.is_in(rows["symbol"], others))))
        if sum(map(len, held)) >= ROWS_AT_A_TIME:
            yield loadable(pa.concat_tables(held))
            held = []
    if held:
        yield loadable(pa.concat_tables(held))
    return gone
