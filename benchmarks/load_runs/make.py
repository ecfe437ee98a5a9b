"""Make the runs of a case on a stack, and measure them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks.latency import PROJECT, ended
from benchmarks.load_runs.cases import POLYGON, Case
from benchmarks.load_runs.results import Found, Reader, problems_of_figures, problems_of_rows, problems_of_run
from benchmarks.load_runs.watch import Watch
from sandbox.stack.environment import process_env
from sandbox.stack.follow import wait_for_dag
from sandbox.stack.launcher import Stack

PATIENCE = 5400.0  # seconds that a case may take


def make(stack: Stack, case: Case, lake: Path) -> Found:
    """Make the runs of a case, wait for their end and return the figures, with what is wrong."""
    reader, began = Reader(stack, lake), time.monotonic()
    unpause(stack, case)
    control = f"{stack.ports.sample_api_url}/_control/calls"
    requests.delete(control, timeout=60)
    with Watch(stack) as watch:
        runs = _scheduled(stack, case.scheduled) if case.scheduled else _triggered(stack, case)
    calls = [call for call in requests.get(control, timeout=60).json()["calls"] if call["status"] == 200]
    instances = [one for run in runs for one in stack.airflow.task_instances(run["dag_id"], run["dag_run_id"])]
    problems, rows, objects = problems_of_rows(case, reader)
    planned = 0
    for run in runs:
        where = (run["dag_id"], run["dag_run_id"])
        report = reader.report(*where)
        problems += problems_of_run(" ".join(where), run, report)
        summary = stack.airflow.result(*where, "plan", key="summary") or {}
        planned += summary.get("calls", 0)
        if failed := [one for one in instances if one["dag_run_id"] == where[1] and one["state"] == "failed"]:
            problems += [f"{one['task_id']} {one['map_index']}: {stack.airflow.why(*where, one)}" for one in failed[:3]]
    found = Found(
        case.title,
        max(_moment(run["end_date"]) for run in runs) - min(_moment(run["queued_at"]) for run in runs),
        watch.cpu_seconds,
        rows,
        objects,
        len(calls),
        planned,
        watch.by_task(instances),
        watch.scheduler_mb,
        reader.xcoms(),
        max(reader.page(run["dag_id"], run["dag_run_id"]) for run in runs),
        _seconds(instances),
    )
    print(f"{case.title}: {time.monotonic() - began:.0f} s with all counting", file=sys.stderr)
    return replace(found, problems=[*problems, *problems_of_figures(case, found)])


def unpause(stack: Stack, case: Case) -> None:
    """Unpause the DAGs of a case, and hold them: Airflow creates no runs of later sessions by itself."""
    for dag_id in [dag_id for dag_id, _ in case.runs] or [POLYGON]:
        wait_for_dag(stack.airflow, dag_id)
        stack.holds.add(dag_id)
        stack.airflow.unpause(dag_id)


def _triggered(stack: Stack, case: Case) -> list[dict[str, Any]]:
    """Trigger all runs at once and return them when they have ended."""
    bodies = [
        (dag_id, {"dag_run_id": f"load__{dag_id}", "logical_date": None, "conf": _conf(stack, conf)}) for dag_id, conf in case.runs
    ]
    runs = [stack.airflow.trigger(dag_id, body) for dag_id, body in bodies]
    return [ended(stack, run["dag_id"], run["dag_run_id"], PATIENCE) for run in runs]


def _conf(stack: Stack, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with the path of the stack's tickers file."""
    return {name: str(stack.paths.local / value) if name == "tickers_path" else value for name, value in conf.items()}


def _scheduled(stack: Stack, sessions: Sequence[date]) -> list[dict[str, Any]]:
    """Make the scheduled run of each session when the one before has ended."""
    env = process_env(stack.environ, stack.paths, stack.ports)
    runs = []
    for session in sessions:
        command = [sys.executable, "-m", "tests.e2e.scheduled_runs", POLYGON, "0", str(session)]
        done = subprocess.run(command, env=env, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
        (run_id,) = [line for line in done.stdout.splitlines() if line.startswith("scheduled__")]
        runs.append(ended(stack, POLYGON, run_id, PATIENCE))
    return runs


def _seconds(instances: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return task id -> seconds from the first start to the last end, of all its instances."""
    spans: dict[str, list[float]] = defaultdict(list)
    for one in instances:
        if one["start_date"] and one["end_date"]:
            spans[one["task_id"]] += [_moment(one["start_date"]), _moment(one["end_date"])]
    return {task: round(max(moments) - min(moments), 1) for task, moments in spans.items()}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
