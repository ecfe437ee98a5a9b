"""The hosts that fetch: limits kept in a file of each host are right for one host only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from market_data.http.call_state import LONG_WINDOW
from market_data.http.limiter import FIX, apart

RECENT = timedelta(days=1)
REMOTE = ("Celery", "Kubernetes", "Astro", "Edge", "Ecs", "Batch")
"""First parts of the names of executors that run tasks on other hosts than the scheduler's."""


def sharing(session: Any, pool: str, now: datetime, longest: float) -> list[str]:
    """Return the hosts that ran tasks of a pool and share a window of its account; nothing for one host.

    Hosts that ran over the same time in the last day share every window. Those that followed one another, such
    as a container made anew, share a window of an hour or more that both ran in.

    :param longest: seconds of the account's longest window.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancehistory import TaskInstanceHistory

    # Earlier tries of a task are in the history: a killed worker's tasks, tried again elsewhere, are on its host there only.
    begun = now - max(RECENT, timedelta(seconds=longest))
    tries = [_span(session, table, pool, begun, now) for table in (TaskInstance, TaskInstanceHistory)]
    spans = sorted((span for found in tries for span in found), key=lambda span: span[0])
    apart_by = timedelta(seconds=longest if longest >= LONG_WINDOW else 0)
    return sorted({host for _, _, host in spans}) if _meet(spans, apart_by) else []


def _meet(spans: Sequence[tuple[datetime, datetime, str]], apart_by: timedelta) -> bool:
    """Return True if spans of two hosts overlap, or are less than ``apart_by`` apart.

    :param spans: ordered by their starts.
    """
    ends: dict[str, datetime] = {}  # of the two hosts that ended last
    for start, end, host in spans:
        if any(start < ended + apart_by for other, ended in ends.items() if other != host):
            return True
        ends[host] = max(end, ends.get(host, end))
        ends = dict(sorted(ends.items(), key=lambda one: one[1])[-2:])
    return False


def _span(session: Any, table: Any, pool: str, begun: datetime, now: datetime) -> list[tuple[datetime, datetime, str]]:
    """Return the hosts of a table's tries that began after ``begun``: first start, last end, host."""
    from sqlalchemy import func, select

    columns = table.hostname, func.min(table.start_date), func.max(func.coalesce(table.end_date, now))
    recent = select(*columns).where(table.pool == pool, table.start_date > begun, table.hostname != "")
    return [(_utc(start), _utc(end), host) for host, start, end in session.execute(recent.group_by(table.hostname))]


def note(pool: str, longest: float) -> str:
    """Return what the page says of a pool whose limits are kept in a file of each host; empty: nothing.

    :param longest: seconds of the account's longest window.
    """
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        return apart(sharing(session, pool, datetime.now(UTC), longest))


def note_of_executors(executors: str) -> str:
    """Return what a task logs whose limits are kept in a file of its host; empty: nothing.

    :param executors: Airflow's setting ``core.executor``.
    """
    remote = [name for name in _names(executors) if name.startswith(REMOTE)]
    if not remote:
        return ""
    return f"{' and '.join(remote)} may run tasks on several hosts, and each host knows its own calls only. To do: {FIX}"


def _names(executors: str) -> Sequence[str]:
    """Return the class names in a list such as ``LocalExecutor,team:my.module.CeleryExecutor:alias``."""
    return [part.rpartition(".")[2] for entry in executors.split(",") for part in entry.strip().split(":") if "Executor" in part]


def _utc(moment: datetime | str) -> datetime:
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return found if found.tzinfo else found.replace(tzinfo=UTC)
