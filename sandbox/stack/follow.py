"""Start a run and watch it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sandbox.stack.api import Airflow, UnreachableError
from sandbox.stack.environment import LocalError
from sandbox.stack.holds import Holds
from sandbox.stack.progress import Snapshot, figures, line, observe, times

POLL = 1.0  # seconds
SETTLE_SECONDS = 15.0
PARSE_SECONDS = 90.0
GONE_SECONDS = 60.0  # so long Airflow may be silent: a busy machine is, and the watchdog may be starting its api-server again


@dataclass
class Watch:
    """A run that is watched. Each finished task's result is requested once."""

    airflow: Airflow
    dag_id: str
    run_id: str
    plan: list[dict[str, Any]] | None = None
    receipts: dict[int, dict[str, Any]] = field(default_factory=dict)
    instances: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> Snapshot:
        run = self.airflow.run(self.dag_id, self.run_id)
        self.instances = self.airflow.task_instances(self.dag_id, self.run_id)
        succeeded = [(instance["task_id"], instance["map_index"]) for instance in self.instances if instance["state"] == "success"]
        if self.plan is None and ("plan", -1) in succeeded:
            self.plan = self.airflow.result(self.dag_id, self.run_id, "plan") or []
        for task_id, index in succeeded:
            if task_id == "fetch" and index >= 0 and index not in self.receipts:
                receipt = self.airflow.result(self.dag_id, self.run_id, "fetch", index)
                self.receipts |= {index: receipt} if receipt else {}
        return observe(run, self.instances, self.plan, self.receipts, datetime.now(UTC))

    def estimate(self) -> dict[str, Any]:
        """Return the cost estimate of ``plan``; empty until there is one."""
        return self.airflow.result(self.dag_id, self.run_id, "plan", key="summary") or {}

    def report_key(self) -> str | None:
        """Return the key of the run report in the lake, or None before the report exists."""
        result = self.airflow.result(self.dag_id, self.run_id, "publish")
        return result.get("report") if isinstance(result, dict) else None

    def reasons(self, limit: int = 5) -> list[str]:
        """Why tasks failed, from their logs: ``task: error``."""
        failed = [instance for instance in self.instances if instance["state"] == "failed"][:limit]
        return [f"{instance['task_id']}: {self.airflow.why(self.dag_id, self.run_id, instance)}" for instance in failed]


def wait_for_dag(airflow: Airflow, dag_id: str) -> dict[str, Any]:
    """Return the DAG as soon as Airflow has parsed it.

    :raises LocalError: if its file cannot be imported, or no file makes it.
    """
    began = time.monotonic()
    while not (dag := airflow.dag(dag_id)):
        waited = time.monotonic() - began
        # The database may still hold the state before a file's last change; after this time it does not.
        if waited > SETTLE_SECONDS and (errors := airflow.import_errors()):
            last = str(errors[0]["stack_trace"]).strip().splitlines()[-1]
            raise LocalError(f"{errors[0]['filename']} cannot be imported: {last}")
        if waited > SETTLE_SECONDS and (others := airflow.dag_ids()):
            raise LocalError(f"there is no DAG {dag_id!r}; there are: {', '.join(others)}")
        if waited > PARSE_SECONDS:
            raise LocalError(f"Airflow has not read a single DAG in {PARSE_SECONDS:.0f} s; see the log of the dag-processor")
        time.sleep(0.3)
    return dag


def start(airflow: Airflow, holds: Holds, dag: Mapping[str, Any], conf: Mapping[str, Any]) -> str:
    """Trigger a run and return its id. A paused DAG is held and unpaused: a paused one starts no run.

    End it with ``holds.release``, which pauses the DAG again.
    """
    dag_id, run_id = dag["dag_id"], f"make_run__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    if dag["is_paused"] or dag_id in holds.dag_ids():  # another command may hold it: the last one pauses it
        holds.add(dag_id)
    airflow.trigger(dag_id, {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)})
    if dag["is_paused"]:
        airflow.unpause(dag_id)
    return run_id


def follow(watch: Watch, console: Console, notices: Callable[[], list[str]] = list) -> Snapshot:
    """Watch a run to its end: a live bar on a terminal, else a line whenever something changed.

    :param notices: returns what else to print, since its last call.
    """
    if not console.is_terminal:
        shown = ""

        def show(snapshot: Snapshot) -> None:
            nonlocal shown
            words = line(snapshot)
            if _without_times(words, snapshot) != shown:
                shown = _without_times(words, snapshot)
                console.print(words, soft_wrap=True)

        return _poll(watch, show, lambda: _print_all(console, notices()))
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        return _poll(watch, lambda snapshot: live.update(bar(snapshot)), lambda: _print_all(console, notices()))


def _print_all(console: Console, lines: list[str]) -> None:
    for words in lines:
        console.print(words, style="yellow", soft_wrap=True, markup=False, highlight=False)


def bar(snapshot: Snapshot) -> Group:
    """Return a snapshot as a progress bar with two lines of text."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=10)
    grid.add_column(width=30)
    grid.add_column()
    done = f"{snapshot.batches_done}/{snapshot.batches} batches" if snapshot.batches else ""
    total = float(snapshot.batches) if snapshot.batches else None
    completed = float(snapshot.batches_done) if snapshot.batches else float(snapshot.is_over)
    track = ProgressBar(total=total or 1.0, completed=completed, pulse=total is None and not snapshot.is_over)
    grid.add_row(Text(snapshot.stage, style="bold"), track, Text("  ".join([done, *times(snapshot)]).strip()))
    return Group(grid, Text(" · ".join(figures(snapshot)), style="dim"))


def _poll(watch: Watch, show: Callable[[Snapshot], None], report: Callable[[], None]) -> Snapshot:
    responded = time.monotonic()
    while True:
        report()
        try:
            snapshot = watch.look()
        except UnreachableError:
            if time.monotonic() - responded > GONE_SECONDS:
                raise
        else:
            responded = time.monotonic()
            show(snapshot)
            if snapshot.is_over:
                return snapshot
        time.sleep(POLL)


def _without_times(words: str, snapshot: Snapshot) -> str:
    return words.removesuffix(", ".join(times(snapshot)))
