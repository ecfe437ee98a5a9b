"""Measure the time from trigger to verdict of 523 symbols x 1 session, task by task.

``python -m benchmarks.latency [RUNS]`` starts a stack of its own in a temporary folder, on free ports. The first run warms it up. Each
further run (default 5) fetches another session in one call, a day file per symbol. It prints one line of JSON with medians in seconds:
``total``; ``gaps``: what Airflow takes before each task; and one figure for each task.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sandbox.stack.environment import PORT_VARIABLES, Paths
from sandbox.stack.follow import start, wait_for_dag
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[1]
DAG = "polygon_ohlcv_1d"
SESSIONS = [f"2012-03-{day:02}" for day in (1, 2, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 19, 20, 21, 22)]
RUNS = 5
POLL = 0.5  # seconds
PATIENCE = 600.0  # seconds that a run may take


def measure(runs: int = RUNS) -> dict[str, object]:
    """Return the medians of ``runs`` runs in seconds; no more than 15 runs."""
    with _stack() as stack:
        found = [_latency(stack, session) for session in SESSIONS[: runs + 1]]
    return {"runs": runs, **{name: round(median(one[name] for one in found[1:]), 2) for name in found[0]}}


@contextmanager
def _stack() -> Iterator[Stack]:
    """Yield a stack that runs; end it and delete its folder afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "MARKET_DATA_LOCAL_DIR": folder, **{name: str(free_port()) for name in PORT_VARIABLES.values()}}
        stack = Stack(Paths.of(PROJECT, environ), environ, lambda words: print(words, file=sys.stderr))
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


def _latency(stack: Stack, session: str) -> dict[str, float]:
    """Make one run of ``session`` and return the seconds of the run, its gaps and each task."""
    airflow = stack.airflow
    conf = {"start_date": session, "end_date": session}
    run_id = start(airflow, stack.holds, wait_for_dag(airflow, DAG), conf)
    run = ended(stack, DAG, run_id)
    if run["state"] != "success":
        raise RuntimeError(f"the run of {session} is {run['state']}: see {stack.paths.logs}")
    tasks = sorted(airflow.task_instances(DAG, run_id), key=lambda task: str(task["start_date"]))
    took = {str(task["task_id"]): _seconds(task["start_date"], task["end_date"]) for task in tasks}
    total = _seconds(run["queued_at"], tasks[-1]["end_date"])
    return {"total": total, "gaps": total - sum(took.values()), **took}


def ended(stack: Stack, dag_id: str, run_id: str, patience: float = PATIENCE) -> dict[str, Any]:
    """Return the run when it has ended.

    :raises RuntimeError: if that takes longer than ``patience`` seconds.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until:
        run = stack.airflow.run(dag_id, run_id)
        if run["state"] in ("success", "failed"):
            return run
        time.sleep(POLL)
    raise RuntimeError(f"run {run_id} of {dag_id} has not ended in {patience:.0f} s")


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:2]))))
