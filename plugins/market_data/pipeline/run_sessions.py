"""Resolve the sessions of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from market_data.config.run_params import RunParams
from market_data.core.calendar import DAY, XNYS, Calendar, sessions_of_any


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


def resolve_sessions(
    params: RunParams,
    interval: tuple[datetime, datetime] | None,
    *,
    scheduled: bool,
    now: datetime,
    calendars: Collection[Calendar] = (XNYS,),
) -> Wanted:
    """Return the sessions of a run: from its params, else its data interval, else the last completed one.

    Without ``end_date``, the dates of the params end with the last session of the data interval, else with the last completed session,
    but never before ``start_date``. So a run for today's session is accepted before the close; the session is then not available yet.

    :param interval: the run's data interval, UTC, or None; a session belongs to it if it starts on a date inside.
    :param scheduled: only scheduled runs have a lookback.
    :param now: UTC.
    :param calendars: those of the run's symbols; the sessions are those of at least one.
    """
    completed = [one.last_completed_session(now) for one in calendars]
    if interval is None:
        first, last = min(completed), max(completed)
        own = sessions_of_any(calendars, first, last + DAY)
    else:
        # The interval ends when the run starts, perhaps after midnight UTC: the session of that next day has not begun.
        days = (interval[0].date(), interval[1].date() + DAY)
        own = tuple(sorted({s for one in calendars for s in one.sessions(*days) if _inside(s, interval, one)}))
        first, last = (own[0], own[-1]) if own else (interval[0].date(), max(completed))
    end = params.end_date or max(last, params.start_date or last)
    ranged = params.start_date is not None or params.backfill_days is not None
    if ranged:
        first = params.start_date or end - timedelta(days=params.backfill_days or 0)
        own = sessions_of_any(calendars, first, end + DAY)
    elif not own:
        end = first
    if ranged or not scheduled or not own:
        return Wanted(own, dates=(first, end))
    lookback = sessions_of_any(calendars, own[0] - params.lookback_days * DAY, own[0])
    return Wanted(own, lookback, dates=(first, end))


def _inside(session: date, interval: tuple[datetime, datetime], calendar: Calendar) -> bool:
    midnight = datetime(session.year, session.month, session.day, tzinfo=interval[0].tzinfo)
    return interval[0] <= midnight and calendar.session_close(session) <= interval[1]
