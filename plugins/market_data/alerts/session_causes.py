"""Decide what is wrong with single sessions. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.alerts.cause import Cause
from market_data.alerts.reports import ROOT_CAUSES, Report, last_failed_for
from market_data.alerts.seen import SESSION, Seen, is_due
from market_data.alerts.sessions import SessionStatus
from market_data.config.alerts import Thresholds
from market_data.core.calendar import DAY, calendar
from market_data.core.messages import some
from market_data.core.outcome import State
from market_data.datasets.registry import dataset

if TYPE_CHECKING:
    from market_data.config.feeds import Feed

RED_IS = "docs/tasks/yesterday-is-red.md"
NEVER = "No run has reported on it: the DAG may be paused, the scheduler down, or the run still at work"

NOT_STARTED = "check that the scheduler is up and the DAG unpaused; then trigger it with the session's date"


def session_causes(seen: Seen, told_runs: Collection[str], limits: Thresholds, now: datetime) -> tuple[list[Cause], set[date]]:
    """Return the causes of single sessions, and the sessions that they concern.

    A refusal of a symbol's year refuses its cells in many sessions: the latest of them has the cause, or the one that was reported. The
    others have none, unless something else is wrong with them too.

    :param told_runs: ids of failed runs that have a cause of their own. It tells of their refusals.
    """
    found = {day: cause for day, status in seen.sessions.items() if (cause := _cause_of(seen, day, status, limits, now))}
    known: dict[tuple[str, str], str] = {}
    also: dict[str, list[date]] = {}
    kept: list[Cause] = []
    for day in sorted(found, key=lambda one: (found[one].id in seen.open_ids, one), reverse=True):
        status, cause = seen.sessions[day], found[day]
        new = [one for one in status.refusals if one not in known and one[0] not in told_runs]
        if cause.id not in seen.open_ids and status.refusals and not new and status.is_fetched(*_limits(seen.feed, limits)):
            for first in {known[one] for one in status.refusals if one in known}:
                also.setdefault(first, []).append(day)
            continue
        known |= dict.fromkeys(new, cause.id)
        kept.append(cause)
    return [_with_others(cause, also.get(cause.id, ())) for cause in kept], set(found)


def _with_others(cause: Cause, days: Sequence[date]) -> Cause:
    return replace(cause, why=(*cause.why, f"The same refusal concerns {some(map(str, sorted(days)))}")) if days else cause


def _limits(feed: Feed, limits: Thresholds) -> tuple[float, float]:
    """Return the shares of missing and of pending cells that are tolerated."""
    return float(feed.params.get("max_missing_ratio", 0.0)), 1.0 if dataset(feed.dataset).grows else limits.pending


def _cause_of(seen: Seen, day: date, status: SessionStatus, limits: Thresholds, now: datetime) -> Cause | None:
    """Return the one cause of a session: its run failed, it is refused, or it is due and not complete."""
    if not status.known:
        return _by_reports(seen, day, status, limits, now)
    feed, found = seen.feed, calendar(seen.feed.calendar)
    complete = status.is_complete(*_limits(feed, limits))
    reports = [one for one in seen.reports if one.covers(day, day)]
    reds = [one for one in reports if one.red and seen.is_recent(one)]
    # A later run that was not red may have filled the cells without having the session as its own.
    still_red = bool(reds) and (not complete or any(one.first == one.last and not _is_followed(seen, one) for one in reds))
    late = is_due(feed, found, day, now) and not complete
    refused = status.symbols.get(str(State.REFUSED), ())
    name = f"{SESSION}/{feed.dag_id}/{day}"
    # A shared cause tells of it, as long as the feed's last run has that cause. A message on the session itself stays true.
    shared = any(last_failed_for(reports, root) and last_failed_for(seen.reports, root) for root in ROOT_CAUSES)
    told = shared and name not in seen.open_ids
    if not (refused or ((late or still_red) and not told)):
        return None
    what = "a run failed" if still_red else "refused" if refused else "late"
    lines = [_was_due(feed, day)] if late else []
    lines += [] if complete else status.sentences()
    lines += ([one for one in reds if one.requested] or reds)[-1].red if still_red else [] if reports else [NEVER]
    todo = f"read the note of the run's verdict, see {RED_IS}" if still_red else _todo(status, refused)
    return Cause(name, feed.dag_id, f"{feed.dag_id} {day}: {what}", tuple(lines), todo)


def _is_followed(seen: Seen, report: Report) -> bool:
    """Return True if a later run of the feed requested something, or was not red."""
    return any(one.requested or not one.red for one in seen.reports[seen.reports.index(report) + 1 :])


def _by_reports(seen: Seen, day: date, status: SessionStatus, limits: Thresholds, now: datetime) -> Cause | None:
    """Return the cause of a session by reports only: its last run failed, or it is due without one."""
    feed = seen.feed
    reports = [one for one in seen.reports if one.covers(day, day)]
    reds = [one for one in reports if one.red and one.first == one.last]
    later = any(one.last is not None and one.last > day and not one.red for one in seen.reports)  # its lookback has the session
    name = f"{SESSION}/{feed.dag_id}/{day}"
    if reds and reports[-1].red:
        todo = f"read the note of the run's verdict, see {RED_IS}"
        return Cause(name, feed.dag_id, f"{feed.dag_id} {day}: a run failed", reds[-1].red, todo)
    if reports or later or status.is_complete(*_limits(feed, limits)) or not is_due(feed, calendar(feed.calendar), day, now):
        return None
    return Cause(name, feed.dag_id, f"{feed.dag_id} {day}: late", (_was_due(feed, day), NEVER), NOT_STARTED)


def _was_due(feed: Feed, day: date) -> str:
    return f"It was due at {feed.due} on {day + DAY} ({getattr(calendar(feed.calendar).zone, 'key', 'UTC')})"


def _todo(status: SessionStatus, refused: Sequence[str]) -> str:
    if refused:
        return "look at the reasons; release the cells if they are right (market-data release), or fetch them again with force"
    if status.unknown:
        return NOT_STARTED
    return "trigger the DAG with the session's date: it requests what is missing"
