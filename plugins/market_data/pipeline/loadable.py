"""The rows of the lake that may be loaded: those that runs have loaded, by the ledger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from market_data.core.errors import BrokenObject
from market_data.core.outcome import EARLIER_VALUE, MAY_BE_MORE, SOME_QUARANTINED, State

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.layout import ParsedKey
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

log = logging.getLogger(__name__)


class Loadable:
    """Keeps the rows that runs have loaded, by the ledger; counts the others in ``left_out``.

    ``unreadable`` has a sentence per object that cannot be read. Rows of its dates are left out and not counted.
    """

    def __init__(self, lake: Lake, selection: Selection, cells: pa.Table | None = None) -> None:
        from market_data.lake import staging
        from market_data.lake.cells import table_of
        from market_data.lake.ledger import read_coverage

        self._selection, self._cells, self.left_out = selection, cells, 0
        self.unreadable: list[str] = []
        self._broken: list[ParsedKey] = []
        self._coverage = read_coverage(lake, selection.dataset.name, selection.source)
        waiting = staging.waiting(lake, selection.dataset.name, selection.source)
        infos, broken = staging.describe(lake, waiting)
        for message in broken:
            log.warning("staging object cannot be read: %s", message)
        self._staged = table_of(run for info in infos.values() for run in info.receipt.cells if run.with_rows)

    def broken(self, error: BrokenObject, key: str) -> None:
        """Remember an object that cannot be read."""
        log.warning("%s; nothing is loaded for its dates", error)
        if str(error) not in self.unreadable:
            self.unreadable.append(str(error))
        if found := self._selection.layout.parse(key):
            self._broken.append(found)

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        from market_data.lake.coverage import contains

        start, end = pa.scalar(self._selection.start), pa.scalar(self._selection.end)
        rows = rows.filter(pc.and_(pc.greater_equal(rows["session"], start), pc.less_equal(rows["session"], end)))
        if self._cells is not None:
            rows = rows.filter(pa.array(contains(self._cells, rows)))
        for broken in self._broken:
            rows = rows.filter(pc.invert(_may_be_in(broken, rows)))
        loaded = self._is_loaded(rows)
        kept = rows.filter(loaded)
        self.left_out += len(rows) - len(kept)
        return kept

    def _is_loaded(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from market_data.lake.coverage import contains

        states, reasons = self._coverage.states(rows), self._coverage.reasons(rows)
        good_rows = pc.or_(pc.starts_with(reasons, SOME_QUARANTINED), pc.ends_with(reasons, EARLIER_VALUE))
        partly = pc.and_(pc.equal(states, str(State.QUARANTINED)), good_rows)
        growing = pc.and_(pc.equal(states, str(State.PENDING)), pc.starts_with(reasons, MAY_BE_MORE))
        whole = pc.is_in(states, pa.array([str(State.HAVE), str(State.RELEASED)]))
        loaded = pc.or_(whole, pc.or_(partly, growing))
        return pc.and_(pc.fill_null(loaded, False), pc.invert(pa.array(contains(self._staged, rows))))


def _may_be_in(broken: ParsedKey, rows: pa.Table) -> Any:
    """Return a mask of the rows that ``broken`` may have held."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if broken.grain == "session":
        return pc.equal(rows["session"], pa.scalar(broken.session))
    inside = pc.equal(rows["symbol"], broken.symbol)
    if broken.session:
        return pc.and_(inside, pc.equal(rows["session"], pa.scalar(broken.session)))
    if broken.docdate is None:
        inside = pc.and_(inside, pc.equal(pc.year(rows["session"]), broken.year))
    if broken.month:
        inside = pc.and_(inside, pc.equal(pc.month(rows["session"]), broken.month))
    return inside
