"""Runs that are larger than Airflow is set for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LARGEST = 20_000_000
"""Bytes of a run's configuration, times its batches. Airflow's scheduler takes about nine times as much memory while it reads them."""
SECONDS_PER_SESSION = 0.007
"""Time of Airflow's API server to store the event of a session, on a busy machine (measured: 17 s for 2,516)."""


def large_conf(conf: Mapping[str, Any] | None, batches: int) -> str:
    """Return what to do about a configuration that is too large for its batches; empty if it is not.

    In each of its loops, Airflow's scheduler reads the configuration of a run again for each of the run's task instances.

    :param conf: of the triggered run.
    """
    size = len(json.dumps(conf or {}, default=str))
    if size * batches <= LARGEST:
        return ""
    return (
        f"Airflow's scheduler reads the run's configuration of {size:,} bytes again for each of {batches:,} batches, which takes much "
        "memory: give the symbols by tickers_path or universe, or make larger batches (batch_size)"
    )


def slow_publish(sessions: int, timeout: float) -> str:
    """Return what to do if ``publish`` reports more sessions than it has time for; empty if it does not.

    Airflow has all events of a task in one call of its worker. After the time-out it makes the call again, while the first one goes on.

    :param sessions: of the run, each with new values at most once.
    :param timeout: seconds, ``[workers] execution_api_timeout`` of Airflow.
    """
    seconds = sessions * SECONDS_PER_SESSION
    if seconds <= timeout:
        return ""
    return (
        f"publish will report {sessions:,} sessions to Airflow in one call, which may take {math.ceil(seconds)} s. After {timeout:g} s "
        "it is made again, and events may come twice: set AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT=60 for the workers, or run fewer "
        "sessions at once"
    )
