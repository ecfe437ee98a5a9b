"""The run report and its completion flag in the lake."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.errors import OTHER_FORM, LakeError
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.pipeline.attempts import attempts_of
from market_data.pipeline.open_cells import Findings, OwnCells
from market_data.pipeline.report import Tally
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_result import RunResult
from market_data.pipeline.verdict import red_sentences, warning_sentences

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.store import Lake

MOST_CELLS = 5_000
"""Cells of each kind that the report lists; ``open_cells`` has the numbers of all."""

FOLDER = "logs/ingest"
"""Folder of the reports, by date of the run's start, UTC."""

SECONDS = 10_007
"""Seconds from a run's start on that may name its report. A prime number."""


def document(
    context: RunContext, result: RunResult, tally: Tally, findings: Findings, own: OwnCells, now: datetime
) -> dict[str, Any]:
    """Return the report. Times are UTC; ``duration_seconds`` runs from the start of the run to ``now``."""
    symbols, totals, loaded = result.symbols, tally.totals, result.loaded or {}
    failures = [{"symbol": symbol, "reason": reason} for symbol, reason in tally.failures.items()]
    unfinished = {*tally.failures, *findings.own.unfinished, *findings.unknown, *tally.unloaded.symbols}
    successful = [s for s in symbols if s not in unfinished and result.loaded is not None]
    written = tally.written()
    seconds = (now - context.run.started).total_seconds()
    red = red_sentences(context, result, tally, findings)
    return {
        "run_id": context.run.run_id,
        "dag_id": context.run.dag_id,
        "clear_number": context.run.clear_number,
        "provider": context.source,
        "dataset": context.feed.dataset,
        "date_range": {"from": result.summary.get("from"), "to": result.summary.get("to")},
        "own_range": own_range(own),
        "total_batches": len(result.batches),
        "total_tickers": len(symbols),
        "own_tickers": len(own.symbols),
        "symbols_processed": len(symbols),
        "successful_tickers": len(successful),
        "successful_tickers_list": successful,
        "failed_tickers": len(failures),
        "failed_tickers_list": [failure["symbol"] for failure in failures],
        "failures": failures,
        "failed_tasks": [],
        "batch_results": tally.batches,
        "cells_planned": result.planned,
        "cells": dict(tally.states),
        "cells_own": findings.own.total,
        "open_cells": {**findings.own.counts, "missing": findings.own.missing},
        "pending": _cells(findings.own.of(str(State.PENDING))),
        "quarantined": _cells(findings.own.of(str(State.QUARANTINED))),
        "refused_cells": _cells(findings.own.of(str(State.REFUSED))),
        "released": _cells(findings.own.released) if findings.own.released is not None else [],
        "suspected_gaps": _cells(findings.suspected) if findings.suspected is not None else [],
        "not_loaded": [symbol for symbol in symbols if symbol in tally.unloaded.symbols],
        "unknown": [{"symbol": symbol, "did_you_mean": known} for symbol, known in findings.unknown.items()],
        "open_in_older_sessions": list(findings.older),
        "sessions_without_state": [session.isoformat() for session in findings.unfetched],
        "files_written": totals["files_written"],
        "files_unchanged": totals["files_unchanged"],
        "rows_landed": totals["rows_landed"],
        "rows_written": sum(rows for _, rows in written.values()),
        "rows_quarantined": totals["quarantined"],
        "values_cleared": totals["cleared"],
        "rows_left_aside": totals["left_aside"],
        "restated": [
            {"symbol": symbol, "session": session, "rows": rows, "attempt": attempt}
            for symbol, session, rows, attempt in sorted(tally.restated)
        ],
        "unreadable": list(tally.unreadable),
        "rows_loaded": loaded.get("rows", 0),
        "rows_changed": loaded.get("changed", 0),
        "refused": [verdict.to_json() for verdict in result.refused.values()],
        "warned": list((result.checked or {}).get("warned", ())),
        "warnings": warning_sentences(context, result, tally, findings),
        "sessions_loaded": sorted(
            s.isoformat() for s in tally.landed if loaded.get("changed") and s.isoformat() not in result.refused
        ),
        "api_calls": totals["calls"],
        "cost_usd": result.summary.get("cost_usd"),
        "attempts": attempts_of(context.run, result, totals["calls"]),
        "retries": totals["retries"],
        "bytes": totals["bytes"],
        "sources": sorted(tally.sources),
        "errors": sorted({*tally.failures.values(), *(event.error for event in tally.events if event.error)}),
        "events": [event.to_json() for event in tally.events],
        "red": red,
        "complete": not red and not tally.unloaded.symbols and is_complete(findings, own),
        "start_time": context.run.started.isoformat(),
        "end_time": now.isoformat(),
        "duration_seconds": round(seconds, 3),
        "rows_per_second": round(totals["rows_landed"] / seconds, 1) if seconds > 0 else 0.0,
        "results": [_result(symbol, tally, written) for symbol in symbols],
    }


def own_range(own: OwnCells) -> dict[str, str] | None:
    """Return the first and last session of the run itself, without the lookback; None without sessions."""
    return {"from": own.sessions[0].isoformat(), "to": own.sessions[-1].isoformat()} if own.sessions else None


def is_complete(findings: Findings, own: OwnCells) -> bool:
    """Return true if every cell of the run is final."""
    return not findings.own.missing and not findings.own.unfinished and bool(own.sessions)


def _cells(cells: pa.Table) -> list[dict[str, Any]]:
    rows = cells.slice(0, MOST_CELLS).select(["symbol", "session", "reason"]).to_pylist()
    return [{**row, "session": row["session"].isoformat()} for row in rows]


def _result(symbol: str, tally: Tally, written: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    errors = [tally.failures[symbol]] if symbol in tally.failures else []
    files, rows = written.get(symbol, (0, 0))
    return {"symbol": symbol, "files_written": files, "rows_written": rows, "errors": errors}


def write(lake: Lake, document: Mapping[str, Any], run: RunInfo) -> str:
    """Write the report to ``logs/ingest/date=.../run-{unix}.json`` and return its key.

    The time is the run's start, UTC. If other runs started in the same second, it is one of the next ``SECONDS``.

    :raises LakeError: if the object store fails, or none of them is free.
    """
    body = json.dumps(document, indent=1).encode()
    for key in _keys(run):
        if lake.put_new(key, body):
            return key
        stored = lake.get(key)
        if stored is not None and _same_run(stored.body, document):
            lake.update(key, lambda _: body)
            return key
    raise LakeError(f"no free key for the report of {run.run_id} in the {SECONDS:,} seconds after {run.started:%Y-%m-%d %H:%M:%S}")


def find(lake: Lake, run: RunInfo) -> dict[str, Any] | None:
    """Return the report of this attempt of a run; None if there is none."""
    wanted = {"dag_id": run.dag_id, "run_id": run.run_id, "clear_number": run.clear_number}
    for key in _keys(run):
        stored = lake.get(key)
        if stored is None:
            return None
        if _same_run(stored.body, wanted):
            found: dict[str, Any] = json.loads(stored.body)
            return found
    return None


def _keys(run: RunInfo) -> Iterator[str]:
    """Yield the keys that the report of a run may have, in the order in which they are tried.

    All runs of a year start in the same second when they are cleared. So each run has an order of its own: in the order of time, the
    last of them would have to read the reports of all others. The order has every second once, as their number is prime.
    """
    started = int(run.started.timestamp())
    step = 1 + int(run.key.partition("-")[0], 16) % (SECONDS - 1)
    for n in range(SECONDS):
        yield f"{FOLDER}/date={run.started.astimezone(UTC):%Y-%m-%d}/run-{started + n * step % SECONDS}.json"


def _same_run(body: bytes, document: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(body)
        return all(found.get(name) == document[name] for name in ("dag_id", "run_id", "clear_number"))
    except OTHER_FORM:  # an unreadable report is left where it is
        return False


def write_flag(lake: Lake, report: str, document: Mapping[str, Any]) -> str:
    """Write the completion flag if the run is complete, else delete that of an earlier try.

    The flag is beside the report; the result is its key.

    A run is complete if it is not red and every cell of it is final and loaded.
    """
    key = report.removesuffix(".json") + ".flag"
    if not document["complete"]:
        delete_flag(lake, report)
        return key
    body = json.dumps({name: document[name] for name in ("run_id", "dag_id", "date_range", "rows_loaded", "end_time")}).encode()
    lake.update(key, lambda standing: None if standing == body else body, new=True)
    return key


def delete_flag(lake: Lake, report: str) -> None:
    """Delete the completion flag beside a report, if there is one."""
    key = report.removesuffix(".json") + ".flag"
    if lake.get(key) is not None:
        lake.delete(key)
