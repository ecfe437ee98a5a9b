"""Runs of another provider's feed for what the first could not serve."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from market_data.airflow.tasks import run_of

log = logging.getLogger(__name__)

FALLBACK = "fallback__"
"""How the ids of runs begin that another feed asked for."""


def fallback_runs(published: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to run the other feed with: ``conf`` and ``trigger_run_id`` of each run, the same again for the same attempt.

    A run that is itself a fallback asks for none: two feeds that name each other would go on for ever.
    """
    run = run_of(context)
    if run.run_id.startswith(FALLBACK):
        return []
    wanted = [
        {"conf": conf, "trigger_run_id": f"{FALLBACK}{run.dag_id}__{run.key}__{n}"} for n, conf in enumerate(published["unserved"])
    ]
    for kwargs in wanted:
        log.info("asking the other provider for %d symbols, %s", len(kwargs["conf"]["symbols"]), kwargs["trigger_run_id"])
    return wanted
