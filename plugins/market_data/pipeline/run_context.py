"""What the steps of a run share: the job, and small words about cells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.config.feeds import Feed
from market_data.config.run_params import RunParams
from market_data.core import calendar
from market_data.core.run import RunInfo
from market_data.datasets.registry import dataset as find_dataset

if TYPE_CHECKING:
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
