"""What the steps of a run share: the job, and small words about cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data import calendar
from market_data.datasets import dataset as find_dataset
from market_data.feeds import Feed
from market_data.interval import IntervalSet
from market_data.params import RunParams
from market_data.types import RunInfo

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.layout import Layout
    from market_data.lake.store import Lake


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share.

    :param source: what stands in the lake and the warehouse as provider, e.g. ``polygon`` or ``alpaca~iex``.
    """

    feed: Feed
    params: RunParams
    run: RunInfo
    lake: Lake
    layout: Layout
    source: str

    @property
    def dataset(self) -> Dataset:
        return find_dataset(self.feed.dataset)

    def settled(self, now: datetime) -> date:
        """The last session that vendors add nothing to any more. Of a later one, a cell without a row stays ``pending``."""
        session = calendar.last_completed_session(now)
        for _ in range(self.dataset.settle_sessions):
            session = calendar.previous_session(session)
        return session


def sessions_in(intervals: IntervalSet) -> tuple[date, ...]:
    """The exchange's sessions inside ``intervals``, ascending."""
    return tuple(session for interval in intervals for session in calendar.sessions(interval.start, interval.end))


def some(names: Iterable[str], most: int = 10) -> str:
    """The first of ``names``, each once, and how many more there are."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most:,} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more


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
