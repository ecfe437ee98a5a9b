"""The run report: requested and received data, where it is, what is missing and why."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch, Block
from market_data.core.calendar import sessions_in
from market_data.core.capabilities import Shape
from market_data.core.errors import LakeError
from market_data.core.intervals import closed, intersection
from market_data.core.messages import some
from market_data.core.outcome import Receipt, State, Verdict
from market_data.core.run import RunInfo
from market_data.pipeline.run_context import RunContext
from market_data.quality.verdicts import parse

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.failures import Event
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.store import Lake


MOST_RUNS = 8
"""Most runs of another provider that one run may request."""

WARNED = 10
"""Sessions and symbol-years whose warnings are shown; the report has all."""


class Tally:
    """Adds up a run, batch by batch.

    :param unreadable: a sentence per lake object that could not be read.
    """

    def __init__(self, dataset: Dataset, unreadable: Sequence[str] = ()) -> None:
        self._dataset = dataset
        self._batches: list[dict[str, Any]] = []
        self._objects: list[pa.Table] = []
        self._left: dict[str, int] = {}
        self._broken: list[str] = []
        self._landed: set[date] = set()
        self._with_rows: set[str] = set()
        self._lost: list[str] = []
        self._failures: dict[str, str] = {}
        self._states: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._sources: set[str] = set()
        self._events: list[Event] = []
        self._said: dict[str, None] = {}
        self._unserved: list[Block] = []
        self._waiting: set[str] = set()
        self._written: dict[str, tuple[int, int]] = {}
        self._restated: list[tuple[str, str, int]] = []
        self._unreadable: dict[str, None] = dict.fromkeys(unreadable)

    def troubles(self, events: Sequence[Event]) -> None:
        """Add the failures of the run and their calls, which no receipt contains."""
        self._events = list(events)
        for event in events:
            self._totals.update({"calls": event.calls, "retries": event.retries, "bytes": event.bytes})

    def add(self, receipt: RequestReceipt, objects: pa.Table) -> None:
        """Add a finished request.

        :param objects: schema ``receipts.OBJECTS``.
        """
        self._totals["quarantined"] += receipt.counts["rows_quarantined"]
        self._totals["vanished"] += receipt.counts.get("rows_vanished", 0)
        for run in receipt.cells:
            if run.state is State.PENDING:
                self._waiting.update(run.symbols)
            if run.with_rows:
                self._with_rows.update(run.symbols)
                self._landed.update(sessions_in(run.intervals))
        self._objects.append(objects)
        self._restated += receipt.restated
        self._unreadable.update(dict.fromkeys(receipt.replaced))

    def not_loaded(self, left: Mapping[str, int], broken: Sequence[str]) -> None:
        """Add what still waits in staging: requests by run id, and objects that cannot be read."""
        self._left, self._broken = dict(left), list(broken)

    def done(self, batch: Batch, receipt: Receipt) -> None:
        """Add a successful batch; symbols that the provider refused count as failures."""
        self._failures.update(receipt.failed)
        self._said.update(dict.fromkeys(receipt.warnings))
        if receipt.failed:
            self._unserved.append(Block(tuple(receipt.failed), batch.intervals))
        self._totals["failed_cells"] += batch.cells - sum(receipt.cells.values())
        self._states.update(receipt.cells)
        self._sources.update(receipt.sources)
        self._totals.update(
            {
                name: getattr(receipt, name)
                for name in ("calls", "retries", "bytes", "files_written", "files_unchanged", "rows_landed")
            }
        )
        self._batches.append({**receipt.to_json(), "batch": batch.label, "state": "success"})

    def lost(self, cells: pa.Table) -> None:
        """Add the cells with a stored bar that the provider no longer has; the stored bar is kept."""
        self._lost += [
            f"{symbol} {session}" for symbol, session in zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True)
        ]

    def failed(self, batch: Batch, reason: str, finished: Sequence[RequestReceipt]) -> None:
        """Add a failed batch. Its ``finished`` requests are in the lake, but neither checked nor loaded."""
        answered = {symbol for detail in finished for symbol in detail.request.symbols} if batch.shape is Shape.SYMBOL else set()
        for detail in finished:
            self._totals.update({name: detail.counts[name] for name in ("calls", "retries", "bytes")})
        unanswered = [symbol for symbol in batch.symbols if symbol not in answered]
        self._failures.update(dict.fromkeys(unanswered, reason))
        self._failures.update(dict.fromkeys(answered, f"fetched, but not loaded because its batch failed: {reason}"))
        self._totals["failed_cells"] += batch.cells
        self._unserved += batch.blocks
        self._batches.append(
            {"batch_id": batch.id, "batch": batch.label, "state": "failed", "error": reason, "unanswered": unanswered}
        )

    def document(
        self,
        context: RunContext,
        batches: Sequence[Batch],
        refused: Mapping[str, Verdict],
        checked: Mapping[str, Any] | None,
        loaded: Mapping[str, Any] | None,
        summary: Mapping[str, Any],
        now: datetime,
    ) -> dict[str, Any]:
        """Return the report. Times are UTC; ``duration_seconds`` runs from the start of the run to ``now``."""
        symbols = list(dict.fromkeys(symbol for batch in batches for symbol in batch.symbols))
        failures = [{"symbol": symbol, "reason": reason} for symbol, reason in self._failures.items()]
        self._written = self._written_by_symbol()
        seconds = (now - context.run.started).total_seconds()
        planned = sum(batch.cells for batch in batches)
        return {
            "run_id": context.run.run_id,
            "dag_id": context.run.dag_id,
            "clear_number": context.run.clear_number,
            "provider": context.source,
            "dataset": context.feed.dataset,
            "date_range": {"from": summary.get("from"), "to": summary.get("to")},
            "total_batches": len(batches),
            "total_tickers": len(symbols),
            "symbols_processed": len(symbols),
            "successful_tickers": len(symbols) - len(failures),
            "failed_tickers": len(failures),
            "failed_tickers_list": [failure["symbol"] for failure in failures],
            "failures": failures,
            "batch_results": self._batches,
            "cells_planned": planned,
            "cells": dict(self._states),
            "files_written": self._totals["files_written"],
            "files_unchanged": self._totals["files_unchanged"],
            "rows_landed": self._totals["rows_landed"],
            "rows_written": sum(rows for _, rows in self._written.values()),
            "rows_quarantined": self._totals["quarantined"],
            "restated": [{"symbol": symbol, "session": session, "rows": rows} for symbol, session, rows in sorted(self._restated)],
            "unreadable": list(self._unreadable),
            "rows_loaded": (loaded or {}).get("rows", 0),
            "rows_changed": (loaded or {}).get("changed", 0),
            "refused": [verdict.to_json() for verdict in refused.values()],
            "warned": list((checked or {}).get("warned", ())),
            "warnings": self._warnings(context, batches, planned, checked, loaded),
            "sessions_loaded": sorted(
                s.isoformat() for s in self._landed if (loaded or {}).get("changed") and s.isoformat() not in refused
            ),
            "api_calls": self._totals["calls"],
            "retries": self._totals["retries"],
            "bytes": self._totals["bytes"],
            "sources": sorted(self._sources),
            "errors": sorted({*self._failures.values(), *(event.error for event in self._events if event.error)}),
            "events": [event.to_json() for event in self._events],
            "red": self._red(context, planned, refused, checked, loaded),
            "start_time": context.run.started.isoformat(),
            "end_time": now.isoformat(),
            "duration_seconds": round(seconds, 3),
            "rows_per_second": round(self._totals["rows_landed"] / seconds, 1) if seconds > 0 else 0.0,
            "results": [self._result(symbol) for symbol in symbols],
        }

    def _written_by_symbol(self) -> dict[str, tuple[int, int]]:
        """Return symbol -> files with rows first seen by this run, and how many such rows."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._objects:
            return {}
        written = pa.concat_tables(self._objects).unify_dictionaries()
        written = written.filter(pc.greater(written["new_rows"], 0))
        if "key" in written.column_names:  # several requests may have written one object, which counts once
            written = written.group_by(["symbol", "key"]).aggregate([("new_rows", "sum")])
            written = written.rename_columns(["symbol", "key", "new_rows"])
        if not len(written):
            return {}
        symbols = written["symbol"].combine_chunks()
        codes, names = symbols.indices.to_numpy(), symbols.dictionary.to_pylist()
        files = np.bincount(codes, minlength=len(names)).tolist()
        rows = np.bincount(codes, written["new_rows"].to_numpy(), len(names)).tolist()
        return {name: (count, int(total)) for name, count, total in zip(names, files, rows, strict=True) if count}

    def _warnings(
        self,
        context: RunContext,
        batches: Sequence[Batch],
        planned: int,
        checked: Mapping[str, Any] | None,
        loaded: Mapping[str, Any] | None,
    ) -> list[str]:
        """Return the warnings: findings that do not make the run red."""
        nowhere = self._nowhere(context, batches)
        warnings = []
        if nowhere:
            warnings.append(f"no bars for {some(nowhere)}: not listed in these sessions, or unknown to {context.source}")
        if self._totals["quarantined"]:
            warnings.append(f"{self._totals['quarantined']} rows were quarantined; see quarantine/ in the lake")
        if self._totals["vanished"]:
            warnings.append(
                f"{self._totals['vanished']} stored rows are missing from the responses of {context.source}; they are kept"
            )
        if self._restated:
            cells = [f"{symbol} {session}" for symbol, session, _ in sorted(self._restated)]
            warnings.append(f"{context.source} restated {some(cells)}; the new values replaced the old ones (gold_restatements)")
        warnings += list(self._unreadable)[:WARNED]
        if self._lost:
            warnings.append(f"{context.source} no longer has {some(self._lost)}; the stored bars are kept")
        if not self._too_much_missing(context, planned):
            warnings += self._refusals()
        warned = (checked or {}).get("warned", ())
        warnings += [
            f"loaded {len(left['keys'])} requests that {left['run_id']} had left in staging"
            for left in loaded_leftovers(checked, loaded)
        ]
        warnings += [f"{context.source} reported: {words}" for words in self._said]
        warnings += [f"{_named(v['partition'])}: {'; '.join(v['reasons'])}" for v in warned[:WARNED]]
        if len(warned) > WARNED:
            warnings.append(f"and {len(warned) - WARNED} more sessions or symbol-years with warnings; see `warned` in the report")
        return warnings

    def _nowhere(self, context: RunContext, batches: Sequence[Batch]) -> list[str]:
        """Return the symbols without rows and without pending cells; for bars only, where this is unusual."""
        asked = (symbol for batch in batches for symbol in batch.symbols) if context.dataset.is_bars else ()
        known = self._with_rows.union(self._failures, self._waiting)
        return [symbol for symbol in dict.fromkeys(asked) if symbol not in known]

    def unserved(self, context: RunContext, batches: Sequence[Batch], refused: Mapping[str, Verdict]) -> list[dict[str, Any]]:
        """Return params for runs of another provider that fetch the data this one could not serve.

        These are cells without a state, symbols without any bar and partitions that the checkpoint refused.

        :return: ``symbols``, ``start_date`` and ``end_date`` per run.
        """
        nowhere = set(self._nowhere(context, batches))
        planned = [block for batch in batches for block in batch.blocks]
        blocks = [*self._unserved, *(Block(tuple(s for s in b.symbols if s in nowhere), b.intervals) for b in planned)]
        for partition in refused:
            found = parse(partition)
            blocks += [_refused_part(found, block) for block in planned]
        wanted: dict[tuple[date, date], dict[str, None]] = defaultdict(dict)
        for block in blocks:
            for interval in block.intervals if block.symbols else ():
                wanted[interval.start, interval.last].update(dict.fromkeys(block.symbols))
        if len(wanted) > MOST_RUNS:  # then one larger run; covered cells are not requested again
            every = dict.fromkeys(symbol for symbols in wanted.values() for symbol in symbols)
            wanted = {(min(first for first, _ in wanted), max(last for _, last in wanted)): every}
        return [
            {"symbols": list(symbols), "start_date": first.isoformat(), "end_date": last.isoformat()}
            for (first, last), symbols in sorted(wanted.items())
        ]

    def _refusals(self) -> list[str]:
        """Return a message per symbol that the provider refused."""
        return [f"{b['batch']}: {symbol} failed: {why}" for b in self._batches for symbol, why in b.get("failed", {}).items()]

    def _too_much_missing(self, context: RunContext, planned: int) -> bool:
        return planned > 0 and self._totals["failed_cells"] / planned > context.params.max_missing_ratio

    def _result(self, symbol: str) -> dict[str, Any]:
        errors = [self._failures[symbol]] if symbol in self._failures else []
        files, rows = self._written.get(symbol, (0, 0))
        return {"symbol": symbol, "files_written": files, "rows_written": rows, "errors": errors}

    def _red(
        self,
        context: RunContext,
        planned: int,
        refused: Mapping[str, Verdict],
        checked: Mapping[str, Any] | None,
        loaded: Mapping[str, Any] | None,
    ) -> list[str]:
        """Return the reasons why the run is red, one sentence each; empty if it is not."""
        red = [f"batch {b['batch']} failed: {b['error']}" for b in self._batches if b["state"] == "failed"]
        if self._too_much_missing(context, planned):
            missing = self._totals["failed_cells"] / planned
            red += [
                *self._refusals(),
                f"{missing:.1%} of the planned cells are missing; {context.params.max_missing_ratio:.1%} is tolerated (max_missing_ratio)",
            ]
        if any(batch["state"] == "success" for batch in self._batches) and (checked is None or loaded is None):
            red.append("fetched rows were not loaded: see the logs of `check` and `load`")
        red += self._leftovers_red(checked, loaded)
        return [*red, *(f"{_named(v.partition)} was refused: {'; '.join(v.reasons)}" for v in refused.values())]

    def _leftovers_red(self, checked: Mapping[str, Any] | None, loaded: Mapping[str, Any] | None) -> list[str]:
        """Return a sentence per leftover of earlier runs that is still not in the warehouse."""
        left = (checked or {}).get("leftovers", ())
        failed = (loaded or {}).get("leftover_errors", {})
        red = [f"rows that {left[int(n)]['run_id']} left in staging were not loaded: {error}" for n, error in failed.items()]
        named = {left[int(n)]["run_id"] for n in failed}
        red += [
            f"{count} requests of {run} wait in staging and were not loaded; the feed's next run loads them"
            for run, count in self._left.items()
            if run not in named
        ]
        red += [
            f"staging object cannot be read: {message}; fetch its cells again (force), then delete it" for message in self._broken
        ]
        return red + [
            f"{_named(v['partition'])}, left in staging by {group['run_id']}, was refused: {'; '.join(v['reasons'])}"
            for group in left
            for v in group["refused"]
        ]


def loaded_leftovers(checked: Mapping[str, Any] | None, loaded: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the leftovers of earlier runs that this run loaded."""
    if checked is None or loaded is None:
        return []
    return [left for n, left in enumerate(checked.get("leftovers", ())) if str(n) not in loaded["leftover_errors"]]


def _refused_part(partition: date | tuple[str, int], block: Block) -> Block:
    """Return the part of ``block`` that is in a refused partition."""
    if isinstance(partition, date):
        return Block(block.symbols, intersection(block.intervals, (closed(partition, partition),)))
    symbol, year = partition
    span = closed(date(year, 1, 1), date(year, 12, 31))
    return Block((symbol,) if symbol in block.symbols else (), intersection(block.intervals, (span,)))


def _named(partition: str) -> str:
    return partition if "/" in partition else f"session {partition}"


def write(lake: Lake, document: Mapping[str, Any], run: RunInfo) -> str:
    """Write the report to ``logs/ingest/date=.../run-{unix}.json`` and return its key.

    The time is the run's start, UTC. If several runs started in the same second, the later ones use the next free second.

    :raises LakeError: if the object store fails.
    """
    body = json.dumps(document, indent=1).encode()
    started = int(run.started.timestamp())
    for second in range(started, started + 60):
        key = f"logs/ingest/date={datetime.fromtimestamp(started, UTC):%Y-%m-%d}/run-{second}.json"
        standing = lake.get(key)
        if standing is None and lake.put_new(key, body):
            return key
        if standing is not None and _same_run(standing.body, document):
            lake.update(key, lambda _: body)
            return key
    raise LakeError(f"no free key for the report of {run.run_id} next to {key}")


def _same_run(body: bytes, document: Mapping[str, Any]) -> bool:
    found = json.loads(body)
    return all(found.get(name) == document[name] for name in ("dag_id", "run_id", "clear_number"))


def write_flag(lake: Lake, report: str, document: Mapping[str, Any]) -> str:
    """Write the completion flag beside the report and return its key. Red runs have no flag."""
    key = report.removesuffix(".json") + ".flag"
    body = json.dumps({name: document[name] for name in ("run_id", "dag_id", "date_range", "rows_loaded", "end_time")}).encode()
    lake.update(key, lambda standing: None if standing == body else body, new=True)
    return key
