"""The report of a run that failed before it published one: failed tasks, sessions and symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.run import RunInfo
from market_data.pipeline.attempts import attempts_of
from market_data.pipeline.report_document import find, write, write_flag
from market_data.pipeline.run_result import RunResult

if TYPE_CHECKING:
    from market_data.lake.store import Lake

LONGEST = 500
"""Characters of an error that the report has."""
NO_FIGURES = (
    "cells_planned", "cells_own", "files_written", "files_unchanged", "rows_landed", "rows_written", "rows_quarantined",
    "values_cleared", "rows_left_aside", "rows_loaded", "rows_changed", "retries", "bytes", "successful_tickers",
)  # fmt: skip
NO_LISTS = (
    "successful_tickers_list", "batch_results", "pending", "quarantined", "refused_cells", "released", "suspected_gaps", "not_loaded",
    "unknown", "open_in_older_sessions", "sessions_without_state", "restated", "unreadable", "refused", "warned", "warnings",
    "sessions_loaded", "sources", "events", "results",
)  # fmt: skip
NO_COUNTS = ("cells", "open_cells")


@dataclass(frozen=True)
class FailedRun:
    """A run without a report, as far as it is known.

    :param source: name of the provider in the lake.
    :param errors: failed task -> its error.
    :param sessions: of the run itself, ascending.
    :param symbols: those that it was to request; empty if they are not known.
    :param result: batches, receipts and summary, if they exist.
    :param red: further reasons, of a run with nothing to do.
    """

    run: RunInfo
    source: str
    dataset: str
    errors: Mapping[str, str]
    sessions: Sequence[date]
    symbols: Sequence[str]
    result: RunResult
    red: Sequence[str] = ()


def report_failed_run(lake: Lake, failed: FailedRun, now: datetime) -> str:
    """Write the report of a failed run and return its key.

    It has the keys of every report; figures that are not known are 0. If the task failed after it wrote the report of this attempt, its
    errors are added to that one.

    :raises LakeError: if the object store fails.
    """
    report = document(failed, now)
    if known := find(lake, failed.run):
        red = list(dict.fromkeys([*known["red"], *report["red"]]))
        report = {**known, **{name: report[name] for name in ("failed_tasks", "complete", "end_time")}, "red": red}
    key = write(lake, report, failed.run)
    write_flag(lake, key, report)
    return key


def document(failed: FailedRun, now: datetime) -> dict[str, Any]:
    """Return the report. Times are UTC."""
    run, summary, batches = failed.run, failed.result.summary, failed.result.batches
    errors = {task: " ".join(error.split())[:LONGEST] for task, error in failed.errors.items()}
    stopped = [f"`{task}` failed: {error}" for task, error in errors.items()]
    symbols = list(failed.symbols) if stopped else []
    span = {"from": str(failed.sessions[0]), "to": str(failed.sessions[-1])} if failed.sessions else {"from": None, "to": None}
    calls = sum(receipt.calls for receipt in failed.result.receipts)
    return {
        **dict.fromkeys(NO_FIGURES, 0),
        **{name: [] for name in NO_LISTS},
        **{name: {} for name in NO_COUNTS},
        "run_id": run.run_id,
        "dag_id": run.dag_id,
        "clear_number": run.clear_number,
        "provider": failed.source,
        "dataset": failed.dataset,
        "date_range": {name: summary.get(name) or span[name] for name in span},
        "own_range": span if failed.sessions else None,
        "total_batches": len(batches),
        "total_tickers": len(failed.symbols),
        "own_tickers": len(failed.symbols),
        "symbols_processed": len(failed.symbols),
        "failed_tickers": len(symbols),
        "failed_tickers_list": symbols,
        "failures": [{"symbol": symbol, "reason": stopped[0]} for symbol in symbols],
        "failed_tasks": [{"task": task, "error": error} for task, error in errors.items()],
        "api_calls": calls,
        "cost_usd": summary.get("cost_usd"),
        "attempts": attempts_of(run, failed.result, calls),
        "errors": sorted(set(errors.values())),
        "red": [*stopped, *failed.red],
        "complete": False,
        "start_time": run.started.isoformat(),
        "end_time": now.isoformat(),
        "duration_seconds": round((now - run.started).total_seconds(), 3),
        "rows_per_second": 0.0,
    }
