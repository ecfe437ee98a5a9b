"""Runs of a feed that overlap: each session is fetched by one of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

log = logging.getLogger(__name__)

ACTIVE = ["queued", "running"]


def without_active_runs(context: Mapping[str, Any], sessions: Sequence[date]) -> tuple[date, ...]:
    """Return the sessions of the lookback that no queued or running run of the DAG has as its own.

    Such a run fetches its session itself; if it fails, the next scheduled run finds the session missing.
    """
    ti, dag_id = context["ti"], context["dag_run"].dag_id
    left = []
    for session in sessions:
        midnight = datetime.combine(session, time(), UTC)
        if not ti.get_dr_count(dag_id=dag_id, logical_dates=[midnight], states=ACTIVE):
            left.append(session)
    if len(left) < len(sessions):
        log.info("%d earlier sessions are left to active runs of their own", len(sessions) - len(left))
    return tuple(left)
