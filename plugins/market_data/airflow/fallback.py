"""Runs of another provider's feed for cells that the first could not serve."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from market_data.airflow.tasks import run_of

log = logging.getLogger(__name__)

FALLBACK = "fallback__"
"""Prefix of the ids of runs that another feed triggered."""
REPAIR = "repair__"
"""Prefix of the ids of runs that request exactly the gaps of an audit."""


def fallback_runs(published: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return ``conf`` and ``trigger_run_id`` of each run of the other feed, equal for equal attempts.

    A fallback run triggers none: two feeds that name each other would loop. Nor does a repair: only its gaps are requested.
    """
    run = run_of(context)
    if run.run_id.startswith((FALLBACK, REPAIR)):
        return []
    wanted = [
        {"conf": conf, "trigger_run_id": f"{FALLBACK}{run.dag_id}__{run.key}__{n}"} for n, conf in enumerate(published["unserved"])
    ]
    for kwargs in wanted:
        log.info("requesting %d symbols from the other provider, %s", len(kwargs["conf"]["symbols"]), kwargs["trigger_run_id"])
    return wanted
