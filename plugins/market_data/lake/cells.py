"""Cells (symbol x session) of Arrow tables."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import TYPE_CHECKING, Any

from market_data.core.intervals import IntervalSet

if TYPE_CHECKING:
    import pyarrow as pa


def cells_of(rows: pa.Table) -> dict[str, set[date]]:
    """Symbol -> the sessions that ``rows`` has of it."""
    cells: dict[str, set[date]] = defaultdict(set)
    unique = rows.group_by(["symbol", "session"]).aggregate([])
    for symbol, session in zip(unique["symbol"].to_pylist(), unique["session"].to_pylist(), strict=True):
        cells[symbol].add(session)
    return cells


def only(rows: pa.Table, intervals: IntervalSet) -> pa.Table:
    """``rows`` of sessions inside ``intervals``."""
    return rows.filter(rows_inside(rows, intervals))


def rows_inside(rows: pa.Table, intervals: IntervalSet) -> Any:
    """Which rows' sessions are inside; false where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.repeat(False, len(rows))
    for interval in intervals:
        here = pc.and_(pc.greater_equal(rows["session"], interval.start), pc.less(rows["session"], interval.end))
        found = pc.or_(found, pc.fill_null(here, False))
    return found
