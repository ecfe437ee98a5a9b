"""The context that all steps of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from market_data.config.feeds import Feed
from market_data.config.run_params import RunParams
from market_data.core.calendar import Calendar
from market_data.core.errors import ParamError
from market_data.core.instruments import CalendarOf
from market_data.core.run import IN_SHELL, IsRunning, RunInfo
from market_data.datasets.registry import dataset as find_dataset
from market_data.lake.at_work import is_at_work
from market_data.providers.registry import calendar_of_source, known_provider
from market_data.providers.spec import source_of

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.layout import Layout
    from market_data.lake.store import Lake

RunName = tuple[str, str]
"""DAG and run id."""


@dataclass(frozen=True)
class RunContext:
    """Feed, params, run, lake and layout of a run, for every step.

    :param source: the provider's name in lake and warehouse, e.g. ``polygon`` or ``alpaca~iex``.
    :param is_running: looks up another run of Airflow. Objects of other runs in staging are touched only if these have ended.
    :param open_s3: returns the body of an ``s3://`` URL, for a tickers file; None: there is no access.
    """

    feed: Feed
    params: RunParams
    run: RunInfo
    lake: Lake
    layout: Layout
    source: str
    is_running: IsRunning = lambda _: False
    open_s3: Callable[[str], bytes] | None = None

    @property
    def dataset(self) -> Dataset:
        return find_dataset(self.feed.dataset)

    def activity(self, runs: Iterable[RunInfo]) -> dict[RunName, bool | None]:
        """Return DAG and run id of each of ``runs`` -> true if it is active, None if that is not known.

        This run counts as ended.
        """
        mine = (self.run.dag_id, self.run.run_id)
        others = {(run.dag_id, run.run_id): run for run in runs}
        return {name: False if name == mine else self._is_active(run) for name, run in others.items()}

    def _is_active(self, run: RunInfo) -> bool | None:
        if run.dag_id == IN_SHELL:
            return is_at_work(self.lake, self.feed.dataset, self.source, run)
        return self.is_running(run)

    def calendar_of(self, symbol: str) -> Calendar:
        """Return the calendar of a symbol's sessions."""
        return self._calendar_of(symbol)

    @cached_property
    def _calendar_of(self) -> CalendarOf:
        return calendar_of_source(self.source)

    def settled(self, now: datetime, calendar: Calendar) -> date:
        """Return the last final session of a calendar, to which vendors do not add rows any more.

        A cell of a later session without a row is ``pending``.
        """
        session = calendar.last_completed_session(now)
        for _ in range(self.dataset.settle_sessions):
            session = calendar.previous_session(session)
        return session


def source_of_run(feed: Feed, params: RunParams) -> str:
    """Return the provider's name under which a run stores its rows, see `source_of`.

    :raises ParamError: if the params change values, and the feed stores those of the provider itself only.
    """
    source = source_of(known_provider(feed.provider), {**feed.options, **params.options})
    if source != feed.provider and not feed.provider_level:
        raise ParamError(
            [f"options {dict(params.options)} change values; a feed without provider_level stores those of {feed.provider} only"]
        )
    return source
