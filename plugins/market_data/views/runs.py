"""A run: its batches as they end, what is left, and its verdict.

The sources are what the tasks leave in Airflow, and the report in the lake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_data.core.errors import OTHER_FORM, MarketDataError
from market_data.core.messages import some

if TYPE_CHECKING:
    from market_data.lake.store import Lake

STEPS = ("plan", "check", "load", "publish", "verdict")
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
FAILED = frozenset({"failed", "upstream_failed"})
MOST = 200
"""Rows of each table; the report has all."""


@dataclass(frozen=True)
class Task:
    """A task instance: its latest try. Times are UTC; ``note`` is what it says of its failure or result."""

    task_id: str
    map_index: int
    state: str | None
    started: datetime | None = None
    ended: datetime | None = None
    note: str = ""


@dataclass(frozen=True)
class Run:
    """A run and what its tasks returned.

    :param batches: of the plan, by map index. ``receipts``: map index -> receipt of a batch.
    :param notes: sentences on what of it cannot be read.
    :param summary: of the plan. ``checked``, ``published``: results of these tasks, empty before they have any.
    """

    dag_id: str
    run_id: str
    state: str
    started: datetime | None
    ended: datetime | None
    tasks: Sequence[Task] = ()
    batches: Sequence[Mapping[str, Any]] = ()
    receipts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    checked: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def step(self, name: str) -> Task:
        """Return a task that is not mapped; one without a state before it exists."""
        return next((task for task in self.tasks if task.task_id == name and task.map_index < 0), Task(name, -1, None))

    def result(self, name: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a task returned; nothing while it runs again."""
        return found if self.step(name).state == "success" else {}


def run_of(run: Run, lake: Lake | None, now: datetime) -> dict[str, Any]:
    """Return what the page shows of a run.

    :param lake: where its report is; None: the report is not read.
    """
    rows = batch_rows(run)
    published, checked = run.result("publish", run.published), run.result("check", run.checked)
    return {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "state": run.state,
        "finished": run.state in {"success", "failed"},
        "elapsed_seconds": _seconds(run.started, run.ended or now),
        "remaining_seconds": None if run.state in {"success", "failed"} else remaining(run, rows, now),
        "notes": list(run.notes),
        "steps": [{"task_id": name, "state": run.step(name).state or "not started"} for name in STEPS],
        "totals": totals(run, rows, now),
        "symbols": symbols_of(run, rows),
        "batches": sorted(rows, key=lambda row: row["state"] not in FAILED)[:MOST],
        "sentences": sentences(run, published),
        "refused": list(checked.get("refused", ()))[:MOST],
        "warned": list(checked.get("warned", ()))[:MOST],
        "checkpoint": checked.get("table", ""),
        "checkpoint_document": checked.get("document") or "",
        "data_docs": checked.get("data_docs", ""),
        "report": report_of(lake, published.get("report", "")),
    }


def batch_rows(run: Run) -> list[dict[str, Any]]:
    """Return a row per planned batch.

    A receipt of an earlier plan, or of a try before the latest, does not count.
    """
    tasks = {task.map_index: task for task in run.tasks if task.task_id == "fetch"}
    rows = []
    for index, batch in enumerate(run.batches):
        task = tasks.get(index, Task("fetch", index, None))
        receipt = run.receipts.get(index, {})
        own = receipt if task.state == "success" and receipt.get("batch_id") == batch["id"] else {}
        rows.append(
            {
                "map_index": index,
                "label": batch["label"],
                "state": task.state or "not started",
                "calls": own.get("calls", 0),
                "planned_calls": batch["calls"],
                "rows": own.get("rows_landed", 0),
                "quarantined": own.get("rows_quarantined", 0),
                "seconds": _seconds(task.started, task.ended),
                "reason": task.note if task.state in FAILED or own.get("failed") else "",
                "failed": dict(own.get("failed", {})),
                "failed_sessions": dict(own.get("failed_sessions", {})),
            }
        )
    return rows


def totals(run: Run, rows: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """Return the figures of the batches that ended.

    Calls per minute count since the run began, or was cleared.
    """
    fetches = {task.map_index: task for task in run.tasks if task.task_id == "fetch"}
    current = {
        index: task for index, task in fetches.items() if task.started and (run.started is None or task.started >= run.started)
    }
    calls = sum(row["calls"] for row in rows if row["map_index"] in current)
    started = min((task.started for task in current.values() if task.started), default=None)
    running = any(task.state not in ENDED for task in fetches.values())
    ended = now if running else max((task.ended for task in current.values() if task.ended), default=now)
    seconds = _seconds(started, ended)
    return {
        "batches": len(rows),
        "ended": sum(row["state"] in ENDED for row in rows),
        "failed": sum(row["state"] in FAILED for row in rows),
        "running": sum(row["state"] == "running" for row in rows),
        "rows": sum(row["rows"] for row in rows),
        "quarantined": sum(row["quarantined"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "planned_calls": sum(row["planned_calls"] for row in rows),
        "calls_per_minute": round(calls * 60 / seconds, 1) if seconds and calls else None,
    }


def symbols_of(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many symbols are ok, failed and pending, and why those failed.

    One failed batch fails a symbol.
    """
    failed: dict[str, str] = {}
    pending: set[str] = set()
    seen: set[str] = set()
    for batch, row in zip(run.batches, rows, strict=True):
        own = {symbol for block in batch["blocks"] for symbol in block["symbols"]}
        seen |= own
        if row["state"] in FAILED:
            failed |= dict.fromkeys(own, row["reason"] or "its batch failed: see the log of `fetch`")
        elif row["state"] not in ENDED:
            pending |= own
        failed |= row["failed"]
    pending -= failed.keys()
    listed = [{"symbol": symbol, "reason": failed[symbol]} for symbol in sorted(failed)]
    counts = {"ok": len(seen - pending - failed.keys()), "failed": len(failed), "pending": len(pending)}
    return {**counts, "failures": listed[:MOST], "pending_text": some(sorted(pending), 20)}


def remaining(run: Run, rows: Sequence[Mapping[str, Any]], now: datetime) -> float | None:
    """Return about how many seconds the batches still take; None if unknown.

    The batches that ended tell the seconds per planned call; as many as run now are assumed to run until the end.
    """
    if not rows:
        return None
    starts = {task.map_index: task.started for task in run.tasks if task.task_id == "fetch" and task.state == "running"}
    spent = sum(row["seconds"] for row in rows if row["state"] in ENDED)
    calls = sum(row["planned_calls"] for row in rows if row["state"] in ENDED and row["seconds"])
    if calls:
        expected = {row["map_index"]: row["planned_calls"] * spent / calls for row in rows if row["state"] not in ENDED}
        left = sum(max(0.0, seconds - _seconds(starts.get(index), now)) for index, seconds in expected.items())
        return round(left / max(1, len(starts)), 1)
    minutes = run.summary.get("minutes")
    return (
        None
        if minutes is None
        else round(max(0.0, minutes * 60 - _seconds(min(filter(None, starts.values()), default=None), now)), 1)
    )


def sentences(run: Run, published: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the verdict: why the run is red, warnings, and what else it says."""
    if published:
        said = {"red": list(published.get("red", ())), "warnings": list(published.get("warnings", ()))}
        return {**said, "other": [text for text in [published.get("headline"), run.summary.get("note")] if text]}
    tasks = [run.step(name) for name in ("verdict", *STEPS[:-1])]
    ended = [task for task in tasks if task.state in ENDED and task.note]
    return {
        "red": [task.note for task in ended if task.state in FAILED][:1],
        "warnings": [],
        "other": [task.note for task in ended if task.state not in FAILED][:1],
    }


def report_of(lake: Lake | None, key: str) -> dict[str, Any]:
    """Return the report's key and the cells that it lists; ``problem`` says why it cannot be read."""
    if lake is None or not key:
        return {"key": key, "problem": "", "quarantined": [], "pending": [], "open_cells": {}}
    listed: dict[str, Any] = {"quarantined": [], "pending": [], "open_cells": {}}
    problem = ""
    try:
        stored = lake.get(key)
        found = json.loads(stored.body) if stored else {}
        lists = {name: list(found.get(name, ()))[:MOST] for name in ("quarantined", "pending")}
        listed = {**lists, "open_cells": dict(found.get("open_cells", {}))}
        problem = "" if stored else f"the report {key} is not in the lake"
    except MarketDataError as error:
        problem = str(error)
    except ValueError:
        problem = f"the report {key} is not JSON"
    except OTHER_FORM:
        problem = f"the report {key} is not that of a run"
    return {"key": key, "problem": problem, **listed}


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return round((end - start).total_seconds(), 1) if start and end else 0.0
