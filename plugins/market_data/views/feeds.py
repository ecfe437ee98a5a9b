"""A feed at a glance: how far it is complete, its next run, its last sessions, calls and spend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from market_data.core.calendar import NEW_YORK, Calendar, at, calendar
from market_data.core.membership import member_cells
from market_data.core.messages import counted, dollars
from market_data.maintenance.audit.expected import last_due
from market_data.pipeline.attempts import each_once
from market_data.views.coverage import KINDS, LETTERS, Grid, current_grid
from market_data.views.run_reports import recent_reports

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.core.capabilities import Quota, Window
    from market_data.views.places import Place
    from market_data.views.records import Records

SHOWN = 30
"""Sessions of the strip, and days of the spend."""

DAY = timedelta(days=1)
NOT_EXPECTED = LETTERS.index(".")


def feed_of(place: Place, siblings: Sequence[str], now: datetime) -> dict[str, Any]:
    """Return what the page shows of a feed from lake, calendar and reports.

    :param siblings: the ids of the DAGs that use the same connection, the feed's own among them: they share its quota.
    """
    feed, grid = place.feed, current_grid(place, now)
    sessions = calendar(feed.calendar)
    strip = strip_of(grid, sessions, last_due(feed, sessions, now))
    reports = recent_reports(place.lake, now, SHOWN)
    return {
        "feed": feed.dag_id,
        "source": place.source,
        "universe": feed.universe,
        "timeframe": place.selection.dataset.timeframe,
        "strip": strip,
        **completeness(strip, sessions, now, feed),
        "next": next_run(feed, now),
        "calls": calls_in_a_day(reports, siblings, now),
        "spend": spend(reports, feed.dag_id),
        "notes": list(grid.notes),
    }


def strip_of(grid: Grid, sessions: Calendar, due: date) -> list[dict[str, Any]]:
    """Return the last sessions with the worst kind of cell of each, and the counts.

    They begin at the first one that is recorded, if it is among them. They end at ``due``, or at the last one that is recorded; as long
    as no scheduled run has recorded any, none was due. A session is complete if every expected cell is final; after ``due`` those of all
    members are expected.
    """
    columns = np.flatnonzero(np.any(grid.rows >= 0, axis=0)).tolist()
    recorded = sessions.among([grid.sessions[column] for column in columns])
    due = due if not recorded or _was_scheduled(grid.records) else min(due, recorded[-1])
    shown = sessions.recent_sessions(max([due, *recorded[-1:]]), SHOWN)
    places = {session: number for number, session in enumerate(grid.sessions)}
    return [
        _session(grid, session, places.get(session), late=session > due)
        for session in shown
        if not recorded or session >= recorded[0]
    ]


def _was_scheduled(records: Records) -> bool:
    """Return True if a scheduled run has recorded a cell."""
    runs = [number for number, name in enumerate(records.texts["run_id"].names) if name.startswith("scheduled__")]
    return bool(np.isin(records.numbers["run_id"], runs).any())


def _session(grid: Grid, session: date, column: int | None, *, late: bool) -> dict[str, Any]:
    codes = grid.codes[:, column] if column is not None else np.empty(0, dtype=np.int8)
    waiting = 0
    if late and column is not None:
        members = (
            np.isin(grid.symbols, grid.universe.symbols) & member_cells(grid.symbols, [session], grid.universe.membership)[:, 0]
        )
        waiting = int((members & (codes == NOT_EXPECTED)).sum())
    counts = np.bincount(codes[codes != NOT_EXPECTED], minlength=len(KINDS)).tolist()
    found = [(kind, count) for kind, count in zip(KINDS, counts, strict=True) if count]
    worst = found[-1][0] if found else KINDS[NOT_EXPECTED]
    words = [f"{count:,} {kind.name}" for kind, count in found] or [worst.name]
    words += [f"{waiting:,} not requested yet"] if waiting else []
    complete = bool(found and grid.universe.symbols) and not waiting and all(kind.final for kind, _ in found)
    return {"session": session.isoformat(), "letter": worst.letter, "text": f"{session}: {', '.join(words)}", "complete": complete}


def completeness(strip: Sequence[Mapping[str, Any]], sessions: Calendar, now: datetime, feed: Feed) -> dict[str, Any]:
    """Return the last complete session, and how many due sessions follow it."""
    complete = [one["session"] for one in strip if one["complete"]]
    if not complete:
        nothing = all(one["letter"] == "." for one in strip)
        words = "nothing fetched yet" if nothing else f"no complete session among the last {len(strip)}"
        return {"last_complete": None, "behind": None, "behind_text": words}
    last = date.fromisoformat(complete[-1])
    due = sessions.last_completed_session(now, time.fromisoformat(feed.schedule) if feed.schedule else None)
    behind = sessions.sessions_count(last + DAY, due + DAY) if due > last else 0
    words = "up to date" if not behind else f"{counted(behind, 'session')} behind"
    return {"last_complete": complete[-1], "behind": behind, "behind_text": words}


def next_run(feed: Feed, now: datetime) -> dict[str, str] | None:
    """Return session and moment of the next scheduled run; None without a schedule."""
    if not feed.schedule:
        return None
    sessions, clock = calendar(feed.calendar), time.fromisoformat(feed.schedule)
    session = sessions.next_session(sessions.last_completed_session(now, clock))
    moment = at(session, clock)
    utc, exchange = moment.astimezone(UTC), moment.astimezone(NEW_YORK)
    return {"session": session.isoformat(), "utc": f"{utc:%Y-%m-%d %H:%M}", "new_york": f"{exchange:%Y-%m-%d %H:%M}"}


def calls_in_a_day(reports: Sequence[Mapping[str, Any]], dag_ids: Sequence[str], now: datetime) -> int:
    """Return the calls of the published runs of these DAGs that ended in the last 24 hours."""
    return sum(one["api_calls"] for one in each_once(reports) if one["dag_id"] in dag_ids and _moment(one["end_time"]) > now - DAY)


def spend(reports: Sequence[Mapping[str, Any]], dag_id: str) -> dict[str, Any]:
    """Return the charges of a feed's runs, in US dollars, as planned before each.

    ``unknown``: runs that made calls and whose report has no charge.
    """
    own = [one for one in each_once(reports) if one["dag_id"] == dag_id]
    known = [one["cost_usd"] for one in own if one["cost_usd"] is not None]
    return {
        "dollars": sum(known),
        "text": dollars(sum(known)),
        "unknown": sum(1 for one in own if one["cost_usd"] is None and one["api_calls"]),
    }


def quota_text(quota: Quota) -> str:
    """Return a quota in words."""
    limits = [
        f"1 call every {_seconds(window)}" if window.calls == 1 else f"{counted(window.calls, 'call')} in {_seconds(window)}"
        for window in quota.limits
    ]
    each = quota.calls_per_minute_per_slot
    return "; ".join([*limits, f"{each:g} {'call' if each == 1 else 'calls'} per minute per pool slot"])


def daily_limit(quota: Quota) -> int | None:
    """Return the calls that the account may make in 24 hours, None if it has no such window."""
    return min((window.calls for window in quota.limits if window.seconds == DAY.total_seconds()), default=None)


def _seconds(window: Window) -> str:
    return f"{window.seconds / 3600:g} h" if window.seconds >= 3600 else f"{window.seconds:g} s"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
