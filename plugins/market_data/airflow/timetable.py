"""The timetable of a feed's DAG: one run after every session of the exchange.

::

    @dag(schedule=SessionTimetable(run_at="20:30"), catchup=False, start_date=...)

The run of session 2026-11-03 has the logical date 2026-11-03 00:00 UTC, which is also the start of its data interval. The interval ends at
20:30 New York time of that date, in summer and winter, on early closes too; the run starts then. So
``airflow tasks clear -s 2026-11-02 -e 2026-11-05`` clears exactly the sessions of these four dates. A Backfill from 2026-11-02 to
2026-11-17 covers both dates and the sessions in between. These dates are UTC: a browser that shows Airflow in another time zone sends
another midnight, and one session at an end is missed.

``catchup=False``: **unpausing never fetches the past**. The first scheduled run is that of the first session that becomes due after
it. From then on every session has a run of its own. Sessions missed while the DAG was paused or Airflow was down are caught up one by
one, at most the last ``catch_up_sessions`` of them. Before the first scheduled run, manual runs and a Backfill do not count: the
sessions after them are not caught up. ``catchup=True``: runs every session from ``start_date`` on (or from 2000 on, where the calendar
starts); this is how a Backfill lists its sessions.

A manual run at moment X has the interval of the last session whose run was due at X. At exactly 00:00 UTC of a session's date (for
instance a logical date copied from another run) it has the interval of that session.

The plugin file registers it; Airflow rejects unregistered timetables.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import DateTime

from market_data.airflow import known_runs
from market_data.core import calendar
from market_data.core.errors import MarketDataError
from market_data.core.run import CATCH_UP_SESSIONS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType

SESSION_RUNS = ("scheduled", "backfill")
"""Types of runs of which each session has at most one."""


class SessionTimetable(Timetable):
    """One run for every session.

    :param run_at: earliest start, New York time on the session's date, from the session's close to ``23:59``.
    :param exchange: name of the calendar: ``XNYS``, ``CMES``, see ``core/calendar.py``.
    :param catch_up_sessions: how many of the last completed sessions may be caught up; at least 1.
    :param dag_id: the DAG that it belongs to. Without it, a first run that is due is left out if the DAG is read again before the
        scheduler has created it.
    """

    def __init__(
        self,
        run_at: str = "20:30",
        exchange: str = calendar.EXCHANGE,
        catch_up_sessions: int = CATCH_UP_SESSIONS,
        dag_id: str = "",
    ) -> None:
        self.run_at = run_at
        self.exchange = exchange
        self.catch_up_sessions = catch_up_sessions
        self.dag_id = dag_id
        self.description = f"After every {exchange} session at {run_at} New York time"

    @property
    def summary(self) -> str:
        return f"{self.exchange} {self.run_at} New York"

    def serialize(self) -> dict[str, Any]:
        names = ("run_at", "exchange", "catch_up_sessions", "dag_id")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> SessionTimetable:
        return cls(**data)

    def validate(self) -> None:
        """Check the arguments, and that the calendar is readable.

        :raises AirflowTimetableInvalid: naming the argument, its value and what is allowed.
        """
        if self.exchange not in calendar.CALENDARS:
            raise AirflowTimetableInvalid(f"exchange is {self.exchange!r}; allowed: {', '.join(map(repr, calendar.CALENDARS))}")
        if not isinstance(self.run_at, str) or not re.fullmatch(r"(1[6-9]|2[0-3]):[0-5][0-9]", self.run_at, re.ASCII):
            raise AirflowTimetableInvalid(
                f"run_at is {self.run_at!r}; allowed: HH:MM, New York time, from '16:00' (the session's close) to '23:59'"
            )
        if self._clock < self._calendar.over_by:
            raise AirflowTimetableInvalid(
                f"run_at is {self.run_at!r}; sessions of {self.exchange} are over by {self._calendar.over_by:%H:%M} New York time"
            )
        if isinstance(self.catch_up_sessions, bool) or not isinstance(self.catch_up_sessions, int) or self.catch_up_sessions < 1:
            raise AirflowTimetableInvalid(f"catch_up_sessions is {self.catch_up_sessions!r}; allowed: a whole number from 1")
        try:
            calendar.extra_closures()
        except MarketDataError as error:
            raise AirflowTimetableInvalid(str(error)) from error

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """Return the interval of a manual run with logical date ``run_after``.

        :raises ValueError: if that is outside the calendar; the API returns 400 with the message.
        """
        moment = run_after.in_timezone("UTC")
        try:
            if moment == _midnight(moment.date()) and self._calendar.is_session(moment.date()):
                return self._interval(moment.date())
            return self._interval(self._calendar.last_completed_session(moment, self._clock))
        except MarketDataError as error:
            raise ValueError(str(error)) from error

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run, or the first one, within ``restriction`` (both ends inclusive)."""
        last = last_automated_data_interval
        days = [] if last is None else [self._calendar.next_session(last.start.in_timezone("UTC").date())]
        if restriction.earliest is not None:
            days.append(_first_session(restriction.earliest, self._calendar))
        if not restriction.catchup:
            days.append(self._first() if last is None else self._oldest_caught_up())
        if not days:
            return None
        interval = self._interval(max(days))
        if restriction.latest is not None and interval.start > restriction.latest:
            return None
        return DagRunInfo(run_after=interval.end, data_interval=interval)

    def run_info_from_dag_run(self, *, dag_run: DagRun) -> DagRunInfo:
        """Return the run that the next one follows: ``dag_run`` if it was scheduled.

        Airflow also passes runs of a Backfill, and a triggered run with the logical date of the next session. These follow the last
        scheduled run: sessions that were missed before them are still caught up. Without a scheduled run nothing precedes the next
        run, or unpausing would fetch every session after the Backfill's last one.
        """
        info = super().run_info_from_dag_run(dag_run=dag_run)
        if known_runs.was_scheduled(dag_run):
            return info
        last = known_runs.last_in_a_row(dag_run, self._calendar)
        return info._replace(data_interval=self._interval(last) if last else None)

    def generate_run_id(
        self, *, run_type: DagRunType, run_after: DateTime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Return the id of a run. A scheduled run's has its session's date, not the next day's.

        Airflow does not call this for a Backfill.
        """
        if data_interval is not None and run_type.value in SESSION_RUNS:
            return run_type.generate_run_id(suffix=data_interval.start.date().isoformat())
        return super().generate_run_id(run_type=run_type, run_after=run_after, data_interval=data_interval, **extra)

    def _first(self) -> date:
        """Return the first session whose time to run is still to come.

        An unpaused DAG that waits for its first run keeps its session: Airflow may read the DAG again after that run was due and before
        the scheduler creates it.
        """
        upcoming = self._calendar.next_session(self._calendar.last_completed_session(pendulum.now("UTC"), self._clock))
        awaited = known_runs.awaited_session(self.dag_id) if self.dag_id else None
        if awaited is None or not self._calendar.is_session(awaited):
            return upcoming
        return max(min(awaited, upcoming), self._oldest_caught_up())

    def _oldest_caught_up(self) -> date:
        """Return the first of the last ``catch_up_sessions`` sessions whose time to run has come."""
        session = self._calendar.last_completed_session(pendulum.now("UTC"), self._clock)
        for _ in range(self.catch_up_sessions - 1):
            session = self._calendar.previous_session(session)
        return session

    @property
    def _calendar(self) -> calendar.Calendar:
        return calendar.calendar(self.exchange)

    @property
    def _clock(self) -> time:
        return time.fromisoformat(self.run_at)

    def _interval(self, session: date) -> DataInterval:
        return DataInterval(start=_midnight(session), end=pendulum.instance(calendar.at(session, self._clock)))


def _midnight(day: date) -> DateTime:
    return pendulum.datetime(day.year, day.month, day.day, tz="UTC")


def _first_session(earliest: datetime, sessions: calendar.Calendar) -> date:
    """Return the first session whose 00:00 UTC is not before ``earliest``."""
    moment = max(pendulum.instance(earliest).in_timezone("UTC"), _midnight(calendar.FIRST))
    day = moment.date()
    return day if moment == _midnight(day) and sessions.is_session(day) else sessions.next_session(day)
