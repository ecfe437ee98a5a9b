"""Resolve the sessions of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from market_data.config.run_params import RunParams
from market_data.core import calendar


@dataclass(frozen=True)
class Wanted:
    """The sessions of a run, ascending.

    :param own: sessions of the run itself; ``force`` and a clear request them again.
    :param lookback: sessions before them; requested only if coverage lacks them.
    :param dates: first and last date of the run (inclusive), sessions or not; None if ``own`` has them.
    """

    own: tuple[date, ...]
    lookback: tuple[date, ...] = ()
    dates: tuple[date, date] | None = field(default=None, compare=False)


def resolve_sessions(params: RunParams, interval: tuple[datetime, datetime] | None, *, scheduled: bool, now: datetime) -> Wanted:
    """Return the sessions of a run: from its params, else its data interval, else the last completed one.

    Without ``end_date``, the dates of the params end with the last session of the data interval, else with the last completed session,
    but never before ``start_date``. So a run for today's session is accepted before the close; the session is then not available yet.

    :param interval: the run's data interval, UTC, or None; a session belongs to it if it starts on a date inside.
    :param scheduled: only scheduled runs have a lookback.
    :param now: UTC.
    """
    if interval is None:
        first = last = calendar.last_completed_session(now)
        own: tuple[date, ...] = (last,)
    else:
        # The interval ends when the run starts, perhaps after midnight UTC: the session of that next day has not begun.
        own = tuple(
            s for s in calendar.sessions(interval[0].date(), interval[1].date() + timedelta(days=1)) if _inside(s, interval)
        )
        first, last = (own[0], own[-1]) if own else (interval[0].date(), calendar.last_completed_session(now))
    end = params.end_date or max(last, params.start_date or last)
    ranged = params.start_date is not None or params.backfill_days is not None
    if ranged:
        first = params.start_date or end - timedelta(days=params.backfill_days or 0)
        own = calendar.sessions(first, end + timedelta(days=1))
    elif not own:
        end = first
    if ranged or not scheduled or not own:
        return Wanted(own, dates=(first, end))
    return Wanted(own, calendar.sessions(own[0] - timedelta(days=params.lookback_days), own[0]), dates=(first, end))


def _inside(session: date, interval: tuple[datetime, datetime]) -> bool:
    midnight = datetime(session.year, session.month, session.day, tzinfo=interval[0].tzinfo)
    return interval[0] <= midnight and calendar.session_close(session) <= interval[1]
