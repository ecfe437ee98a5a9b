"""The context that all steps of a run share."""

from __future__ import annotations

from collections.abc import Callable
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
class RunContext:
    """Feed, params, run, lake and layout of a run, for every step.

    :param source: the provider's name in lake and warehouse, e.g. ``polygon`` or ``alpaca~iex``.
    :param is_running: returns true for another run that is still active; its objects in staging are not touched.
    """

    feed: Feed
    params: RunParams
    run: RunInfo
    lake: Lake
    layout: Layout
    source: str
    is_running: Callable[[RunInfo], bool] = lambda _: False

    @property
    def dataset(self) -> Dataset:
        return find_dataset(self.feed.dataset)

    def settled(self, now: datetime) -> date:
        """Return the last final session, to which vendors do not add rows any more.

        A cell of a later session without a row is ``pending``.
        """
        session = calendar.last_completed_session(now)
        for _ in range(self.dataset.settle_sessions):
            session = calendar.previous_session(session)
        return session
