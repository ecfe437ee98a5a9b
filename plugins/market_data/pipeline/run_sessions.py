"""Which sessions a run is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from market_data.config.run_params import RunParams
from market_data.core import calendar


@dataclass(frozen=True)
class Wanted:
    """The sessions a run is about, ascending.

    :param own: of the run itself: asked again by ``force`` and by a clear.
    :param lookback: before them; asked only where coverage lacks them.
    :param dates: first and last date that the run is about (inclusive), sessions or not; None where that is just ``own``.
    """

    own: tuple[date, ...]
    lookback: tuple[date, ...] = ()
    dates: tuple[date, date] | None = field(default=None, compare=False)


def resolve_sessions(params: RunParams, interval: tuple[datetime, datetime] | None, *, scheduled: bool, now: datetime) -> Wanted:
    """Which sessions a run asks for: its params', else its data interval's, else the last completed one.

    Without ``end_date`` the params' dates end with the data interval's last session, else the last completed one; but never before
    ``start_date``: today's session can be asked for before it is over, and waits as one that is not to be had yet.

    :param interval: the run's data interval, UTC, or None; a session belongs to it when it starts on a date inside.
    :param scheduled: only a scheduled run looks back.
    :param now: UTC.
    """
    if interval is None:
        first = last = calendar.last_completed_session(now)
        own: tuple[date, ...] = (last,)
    else:
        # The interval ends when the run starts, perhaps past midnight UTC of the next day: that day's session has not begun.
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
