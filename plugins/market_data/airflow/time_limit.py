"""Stop tasks when the feed's ``run_timeout`` is over, and report the work that was left undone.

Airflow's own ``dagrun_timeout`` skips all unfinished tasks, ``publish`` and ``verdict`` too, and counts the time that a run waits for the
pool. So each task is limited instead: a task by itself to ``run_timeout``, and all batches of a run together to ``run_timeout`` from the
start of its first batch. The batches that are left then fail at once, each with a note, and the rest of the run goes on: what was fetched
is loaded, and the verdict lists what was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowTaskTimeout

from market_data.airflow import task_notes
from market_data.config.feeds import Feed
from market_data.core.errors import RunTimeout

STARTED = "market_data_started"
TO_DO = "To do: clear the failed tasks to continue, or give the feed a longer run_timeout"


@contextmanager
def time_limit(feed: Feed, context: Mapping[str, Any]) -> Iterator[None]:
    """Turn Airflow's time-out of the task into an error that says so.

    :raises RunTimeout: the task took longer than ``run_timeout``.
    """
    ti = context["ti"]
    try:
        yield
    except AirflowTaskTimeout:
        raise _noted(
            ti, f"{ti.task_id} was stopped: it took longer than run_timeout ({duration(feed.run_timeout)}). {TO_DO}"
        ) from None


@contextmanager
def batch_time_limit(feed: Feed, context: Mapping[str, Any]) -> Iterator[None]:
    """Limit a batch to the time that the run has left.

    :raises RunTimeout: the time was over before the batch started, or while it ran.
    """
    from airflow.sdk.execution_time.timeout import timeout

    ti, now = context["ti"], datetime.now(UTC)
    left = (_first_started(context, now) + feed.run_timeout - now).total_seconds()
    limit = f"run_timeout ({duration(feed.run_timeout)})"
    if left <= 0:
        raise _noted(ti, f"not fetched: the run's {limit} was over before this batch started. {TO_DO}")
    try:
        with timeout(left):
            yield
    except AirflowTaskTimeout:
        raise _noted(ti, f"not fetched completely: the run's {limit} was over. {TO_DO}") from None


def duration(limit: timedelta) -> str:
    """Return a duration as in ``include/feeds.yaml``: ``4h``, ``90m``."""
    minutes = round(limit.total_seconds() / 60)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def _first_started(context: Mapping[str, Any], now: datetime) -> datetime:
    """Return when the first batch of this attempt of the run started.

    Airflow starts map index 0 first; it leaves its start for the others. A clear starts the time anew.
    """
    ti, attempt = context["ti"], context["dag_run"].clear_number or 0
    if (ti.map_index or 0) <= 0:
        ti.xcom_push(key=STARTED, value={"at": now.isoformat(), "attempt": attempt})
        return now
    first = ti.xcom_pull(task_ids=ti.task_id, key=STARTED, map_indexes=0)
    return datetime.fromisoformat(first["at"]) if first and first["attempt"] == attempt else now


def _noted(ti: Any, text: str) -> RunTimeout:
    task_notes.leave(ti, text)
    return RunTimeout(text)
