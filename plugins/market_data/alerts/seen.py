"""Everything that is known of a feed at a moment, and the choice of sessions that are looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from market_data.alerts.reports import Report
from market_data.alerts.sessions import SessionStatus
from market_data.config.alerts import due_at
from market_data.core.calendar import DAY, Calendar, calendar

if TYPE_CHECKING:
    from market_data.config.feeds import Feed

SESSION = "session"
SESSIONS = 5
"""Sessions that are looked at: the last ones."""
RECENT = timedelta(days=10)
"""Age of a session up to which it has a cause of its own; older ones share one per year."""


@dataclass(frozen=True)
class Quarantined:
    """Quarantined cells: number, the first symbols, and the session or year that they are of."""

    where: str
    cells: int
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """Everything that is known of a feed.

    :param sessions: status of each session that is looked at, by date.
    :param reports: of its runs, oldest first.
    :param quarantined: cells by session or year.
    :param open_ids: ids of the causes that were reported.
    """

    feed: Feed
    sessions: Mapping[date, SessionStatus]
    reports: Sequence[Report] = ()
    quarantined: Sequence[Quarantined] = ()
    open_ids: Collection[str] = ()

    def is_recent(self, report: Report) -> bool:
        """Return True if a run was about sessions that are looked at one by one."""
        return report.first in self.sessions and report.last in self.sessions


def sessions_to_see(
    feed: Feed, now: datetime, recorded: date | None, reports: Sequence[Report], open_ids: Collection[str]
) -> list[date]:
    """Return the sessions of a feed that may have trouble, ascending.

    The last ``SESSIONS`` that are over, as far as the ledger goes back; the last due one and those with a run of their own in any case.
    Also those of open causes.

    :param recorded: the first session that the ledger knows of lately; None: it has no record.
    """
    found = calendar(feed.calendar)
    recent = [day for day in _recent(feed, now) if day >= feed.start_date]
    due = [day for day in recent if is_due(feed, found, day, now)][-1:]
    own = {*due, *(one.first for one in reports if one.first == one.last)}
    kept = [day for day in recent if day in own or (recorded is not None and day >= recorded)]
    return sorted({*kept, *_open_sessions(feed, open_ids)})


def first_record(feed: Feed, now: datetime, open_ids: Collection[str]) -> datetime:
    """Return a moment before all records of the sessions that may have trouble, UTC."""
    return datetime.combine(min([*_recent(feed, now), *_open_sessions(feed, open_ids)]) - DAY, time(), UTC)


def _recent(feed: Feed, now: datetime) -> tuple[date, ...]:
    found = calendar(feed.calendar)
    return found.recent_sessions(found.last_completed_session(now), SESSIONS)


def _open_sessions(feed: Feed, open_ids: Collection[str]) -> list[date]:
    """Return the sessions of a feed that have an open cause."""
    return [date.fromisoformat(name.rpartition("/")[2]) for name in open_ids if name.startswith(f"{SESSION}/{feed.dag_id}/")]


def is_due(feed: Feed, found: Calendar, session: date, now: datetime) -> bool:
    """Return True if the session should be complete at ``now``."""
    return feed.due is not None and due_at(found, session, feed.due) <= now
