"""Rebuild: fill a warehouse from the lake alone, without a provider and without Airflow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.errors import BrokenObject, ConfigError
from market_data.core.outcome import EARLIER_VALUE, MAY_BE_MORE, SOME_QUARANTINED, State
from market_data.core.run import RunInfo
from market_data.pipeline.load import in_chunks, load_id

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.layout import Layout, ParsedKey
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

AT_A_TIME = 4096
"""Lake objects that are read before their rows are loaded, about: a symbol's objects stay together."""

EVER = (date(1, 1, 1), date(9999, 12, 31))


@dataclass(frozen=True)
class Selection:
    """The rows to load.

    :param source: the provider's name in the lake, e.g. ``polygon`` or ``alpaca~iex``.
    :param symbols: None: all that the lake has.
    :param start: first session, inclusive; ``end``: last session, inclusive.
    """

    dataset: Dataset
    source: str
    layout: Layout
    symbols: tuple[str, ...] | None = None
    start: date = EVER[0]
    end: date = EVER[1]


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
    lake: Lake, warehouse: Warehouse, selection: Selection, *, dry_run: bool = False, now: datetime | None = None
) -> Rebuilt:
    """Load everything from the lake that the ledger records as loaded, a few thousand objects at a time.

    Day files and year files may overlap: the newest row of each key is loaded, as ``read_rows`` returns it. Rows of refused cells, of
    cells without a record, and of cells that wait in staging (the feed's next run checks and loads them) are left out. The warehouse
    need not be empty: equal rows change nothing, older ones replace nothing.

    :param dry_run: count objects; read no rows and do not open the warehouse.
    :raises ConfigError: if the dataset has no table in the warehouse.
    """
    dataset = selection.dataset
    if dataset.table is None:
        raise ConfigError(f"{dataset.name} has no table in the warehouse; it stays in the lake")
    groups = _objects(lake, selection)
    found = Rebuilt(len(groups), sum(map(len, groups.values())))
    if dry_run:
        return found
    # Every rebuild has load ids of its own: after somebody emptied a table by hand, the audit rows are still there.
    started = now or datetime.now(UTC)
    run = RunInfo("rebuild-warehouse", started.isoformat(), "manual", 0, started)
    loadable = _Loadable(lake, selection)
    warehouse.migrate()
    rows = changed = 0
    for chunk in in_chunks(_tables(lake, selection, groups.values(), loadable), warehouse.chunk_rows):
        loaded = warehouse.load(dataset, chunk, load_id(run, chunk), run)
        rows, changed = rows + loaded.rows_in, changed + loaded.rows_changed
        log.info("rebuild: %d rows loaded, %d new or changed", rows, changed)
    return Rebuilt(found.symbols, found.objects, rows, changed, loadable.left_out, tuple(loadable.unreadable))


def _objects(lake: Lake, selection: Selection) -> dict[str, list[str]]:
    """Return symbol -> keys of its objects that may hold selected rows, year files first."""
    layout, dataset = selection.layout, selection.dataset
    level = f"/provider={selection.source}" if layout.provider_level else ""
    folder = f"{layout.raw_prefix}/{dataset.folder}{level}"
    if selection.symbols is None:
        listed = [key for key, _ in lake.list(folder)]
    else:
        kinds = dataset.files.kinds or (None,)
        folders = [layout.symbol_prefix(dataset, selection.source, symbol, kind) for symbol in selection.symbols for kind in kinds]
        listed = [key for keys in lake.each(lake.list, folders) for key, _ in keys]
    groups: dict[str, list[tuple[str, str]]] = {}
    for key in listed:
        parsed = layout.parse(key)
        if parsed is None or parsed.folder != dataset.folder:
            continue
        if parsed.docdate is None:
            outside = not selection.start.year <= parsed.year <= selection.end.year
        else:
            outside = parsed.docdate > selection.end  # no session is before the date of its file
        if outside or (parsed.session and not selection.start <= parsed.session <= selection.end):
            continue
        groups.setdefault(parsed.symbol, []).append(("0" if parsed.grain == "year" else "1", key))
    return {symbol: [key for _, key in sorted(keys)] for symbol, keys in sorted(groups.items())}


def _tables(lake: Lake, selection: Selection, groups: Iterable[list[str]], loadable: _Loadable) -> Iterator[pa.Table]:
    """Yield the newest rows of whole symbols, several symbols at a time."""
    from market_data.lake import parquet
    from market_data.lake.reader import newest

    held: list[str] = []

    def read() -> pa.Table:
        # Day files first: of equally new rows the reader returns those.
        keys = sorted(held, key=lambda key: getattr(selection.layout.parse(key), "grain", "") == "year")
        bodies = zip(keys, lake.get_many(keys), strict=True)
        rows = parquet.gather((loadable.decode(stored.body, key) for key, stored in bodies if stored), selection.dataset.schema)
        return loadable(newest(rows, selection.dataset))

    for keys in groups:
        held += keys
        if len(held) >= AT_A_TIME:
            yield read()
            held = []
    if held:
        yield read()


class _Loadable:
    """Keeps the rows that runs have loaded, by the ledger; counts the others in ``left_out``.

    ``unreadable`` has a sentence per object that cannot be read. Rows of its dates are left out and not counted.
    """

    def __init__(self, lake: Lake, selection: Selection) -> None:
        from market_data.lake import staging
        from market_data.lake.cells import table_of
        from market_data.lake.ledger import read_coverage

        self._selection, self.left_out = selection, 0
        self.unreadable: list[str] = []
        self._broken: list[ParsedKey] = []
        self._coverage = read_coverage(lake, selection.dataset.name, selection.source)
        waiting = staging.waiting(lake, selection.dataset.name, selection.source)
        infos, broken = staging.describe(lake, waiting)
        for message in broken:
            log.warning("staging object cannot be read: %s", message)
        self._staged = table_of(run for info in infos.values() for run in info.receipt.cells if run.with_rows)

    def decode(self, body: bytes, key: str) -> pa.Table:
        """Return the rows of an object, none if it cannot be read."""
        from market_data.lake import parquet

        schema = self._selection.dataset.schema
        try:
            return parquet.decode(body, key, schema)
        except BrokenObject as error:
            log.warning("%s; nothing is loaded for its dates", error)
            self.unreadable.append(str(error))
            if found := self._selection.layout.parse(key):
                self._broken.append(found)
            return schema.empty_table()

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        start, end = pa.scalar(self._selection.start), pa.scalar(self._selection.end)
        rows = rows.filter(pc.and_(pc.greater_equal(rows["session"], start), pc.less_equal(rows["session"], end)))
        for broken in self._broken:
            rows = rows.filter(pc.invert(_may_be_in(broken, rows)))
        loaded = self._is_loaded(rows)
        kept = rows.filter(loaded)
        self.left_out += len(rows) - len(kept)
        return kept

    def _is_loaded(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from market_data.lake.ledger import contains

        states, reasons = self._coverage.states(rows), self._coverage.reasons(rows)
        good_rows = pc.or_(pc.starts_with(reasons, SOME_QUARANTINED), pc.ends_with(reasons, EARLIER_VALUE))
        partly = pc.and_(pc.equal(states, str(State.QUARANTINED)), good_rows)
        growing = pc.and_(pc.equal(states, str(State.PENDING)), pc.starts_with(reasons, MAY_BE_MORE))
        loaded = pc.or_(pc.equal(states, str(State.HAVE)), pc.or_(partly, growing))
        return pc.and_(pc.fill_null(loaded, False), pc.invert(pa.array(contains(self._staged, rows))))


def _may_be_in(broken: ParsedKey, rows: pa.Table) -> Any:
    """Return a mask of the rows that ``broken`` may have held."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inside = pc.equal(rows["symbol"], broken.symbol)
    if broken.session:
        return pc.and_(inside, pc.equal(rows["session"], pa.scalar(broken.session)))
    if broken.docdate is None:
        inside = pc.and_(inside, pc.equal(pc.year(rows["session"]), broken.year))
    if broken.month:
        inside = pc.and_(inside, pc.equal(pc.month(rows["session"]), broken.month))
    return inside
