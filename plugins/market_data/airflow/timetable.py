"""The timetable of a feed's DAG: one run after every session of the exchange.

::

    @dag(schedule=SessionTimetable(run_at="20:30"), catchup=False, start_date=...)

The run of session 2026-11-03 has the logical date 2026-11-03 00:00 UTC, which is also the start of its data interval. The interval ends at
20:30 New York time of that date, in summer and winter, on early closes too; the run starts then. So
``airflow tasks clear -s 2026-11-02 -e 2026-11-05`` clears exactly the sessions of these four dates. A Backfill from 2026-11-02 to
2026-11-17 covers both dates and the sessions in between. These dates are UTC: a browser that shows Airflow in another time zone sends
another midnight, and one session at an end is missed.

``catchup=False``: unpausing runs the last completed session only, or the first one not before ``start_date`` if that is later.
``catchup=True``: runs every session from ``start_date`` on (or from 2000 on, where the calendar starts).

A manual run at moment X has the interval of the last session whose run was due at X. At exactly 00:00 UTC of a session's date (for
instance a logical date copied from another run) it has the interval of that session.

The plugin file registers it; Airflow rejects unregistered timetables.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Any

import pendulum
from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import DateTime

from market_data.core import calendar
from market_data.core.errors import MarketDataError


class SessionTimetable(Timetable):
    """One run for every session.

    :param run_at: earliest start, New York time on the session's date, ``16:00`` to ``23:59``.
    :param exchange: ``XNYS``, the only exchange with a calendar.
    """

    def __init__(self, run_at: str = "20:30", exchange: str = calendar.EXCHANGE) -> None:
        self.run_at = run_at
        self.exchange = exchange
        self.description = f"After every {exchange} session at {run_at} New York time"

    @property
    def summary(self) -> str:
        return f"{self.exchange} {self.run_at} New York"

    def serialize(self) -> dict[str, Any]:
        return {"run_at": self.run_at, "exchange": self.exchange}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> SessionTimetable:
        return cls(**data)

    def validate(self) -> None:
        """Check the arguments, and that the calendar is readable.

        :raises AirflowTimetableInvalid: naming the argument, its value and what is allowed.
        """
        if self.exchange != calendar.EXCHANGE:
            raise AirflowTimetableInvalid(f"exchange is {self.exchange!r}; allowed: {calendar.EXCHANGE!r}")
        if not isinstance(self.run_at, str) or not re.fullmatch(r"(1[6-9]|2[0-3]):[0-5][0-9]", self.run_at, re.ASCII):
            raise AirflowTimetableInvalid(
                f"run_at is {self.run_at!r}; allowed: HH:MM, New York time, from '16:00' (the session's close) to '23:59'"
            )
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
            if moment == _midnight(moment.date()) and calendar.is_session(moment.date()):
                return self._interval(moment.date())
            return self._interval(calendar.last_completed_session(moment, self._clock))
        except MarketDataError as error:
            raise ValueError(str(error)) from error

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run, or the first one, within ``restriction`` (both ends inclusive)."""
        days: list[date] = []
        if last_automated_data_interval is not None:
            days.append(calendar.next_session(last_automated_data_interval.start.in_timezone("UTC").date()))
        if restriction.earliest is not None:
            days.append(_first_session(restriction.earliest))
        if not restriction.catchup:
            days.append(calendar.last_completed_session(pendulum.now("UTC"), self._clock))
        if not days:
            return None
        interval = self._interval(max(days))
        if restriction.latest is not None and interval.start > restriction.latest:
            return None
        return DagRunInfo(run_after=interval.end, data_interval=interval)

    @property
    def _clock(self) -> time:
        return time.fromisoformat(self.run_at)

    def _interval(self, session: date) -> DataInterval:
        return DataInterval(start=_midnight(session), end=pendulum.instance(calendar.at(session, self._clock)))


def _midnight(day: date) -> DateTime:
    return pendulum.datetime(day.year, day.month, day.day, tz="UTC")


def _first_session(earliest: datetime) -> date:
    """Return the first session whose 00:00 UTC is not before ``earliest``."""
    moment = max(pendulum.instance(earliest).in_timezone("UTC"), _midnight(calendar.FIRST))
    day = moment.date()
    return day if moment == _midnight(day) and calendar.is_session(day) else calendar.next_session(day)
