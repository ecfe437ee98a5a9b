"""Collect the results of a run, batch by batch: what was requested and received, what failed and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch, Block
from market_data.core.capabilities import Shape
from market_data.core.intervals import closed, intersection
from market_data.core.outcome import Receipt, State
from market_data.pipeline.leftovers import Unloaded
from market_data.pipeline.run_result import RunResult

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.failures import Event
    from market_data.lake.receipts import RequestReceipt


MOST_RUNS = 8
"""Most runs of another provider that one run may request."""


class Tally:
    """Adds up a run, batch by batch."""

    def __init__(self, dataset: Dataset, unreadable: Sequence[str] = ()) -> None:
        self._dataset = dataset
        self._objects: list[pa.Table] = []
        self._unserved: list[Block] = []
        self._waiting: set[str] = set()
        self._quarantined: set[str] = set()
        self.batches: list[dict[str, Any]] = []
        self.unloaded = Unloaded()
        self.landed: set[date] = set()
        self.first_seen: set[date] = set()
        self.with_rows: set[str] = set()
        self.lost_cells: list[str] = []
        self.failures: dict[str, str] = {}
        self.states: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.sources: set[str] = set()
        self.events: list[Event] = []
        self.said: dict[str, None] = {}
        self.restated: list[tuple[str, str, int, int]] = []
        self.unreadable: dict[str, None] = dict.fromkeys(unreadable)

    def troubles(self, events: Sequence[Event]) -> None:
        """Add the failures of the run and their calls, which no receipt contains."""
        self.events = list(events)
        for event in events:
            self.totals.update({"calls": event.calls, "retries": event.retries, "bytes": event.bytes})

    def add(self, receipt: RequestReceipt, objects: pa.Table, attempt: int = 0) -> None:
        """Add a finished request.

        :param objects: schema ``receipts.OBJECTS``.
        :param attempt: clear number of the run when it was made.
        """
        import pyarrow.compute as pc

        self.totals["quarantined"] += receipt.counts["rows_quarantined"]
        self.totals["cleared"] += receipt.counts.get("values_cleared", 0)
        self.totals["missing"] += receipt.counts.get("rows_missing", 0)
        self.totals["left_aside"] += receipt.counts.get("rows_left_aside", 0)
        seen = receipt.renewed is None and bool(pc.any(pc.greater(objects["new_rows"], 0)).as_py())
        self.first_seen.update(receipt.request.calendar.sessions_in(receipt.renewed or ()))
        for run in receipt.cells:
            if run.state is State.PENDING:
                self._waiting.update(run.symbols)
            if run.state is State.QUARANTINED:
                self._quarantined.update(run.symbols)
            if run.with_rows:
                self.with_rows.update(run.symbols)
                self.landed.update(run.sessions)
                if seen:
                    self.first_seen.update(run.sessions)
        self._objects.append(objects)
        self.restated += [(*cell, attempt) for cell in receipt.restated]
        self.unreadable.update(dict.fromkeys(receipt.replaced))

    def done(self, batch: Batch, receipt: Receipt) -> None:
        """Add a successful batch; symbols that the provider refused count as failures."""
        self.failures.update(receipt.failed)
        self.said.update(dict.fromkeys(receipt.warnings))
        for day, why in receipt.failed_sessions.items():
            session = date.fromisoformat(day)
            blocks = [block for block in batch.blocks if any(session in interval for interval in block.intervals)]
            self._unserved += [Block(block.symbols, (closed(session, session),)) for block in blocks]
            self.failures.update({symbol: f"session {day}: {why}" for block in blocks for symbol in block.symbols})
        if receipt.failed:
            self._unserved.append(Block(tuple(receipt.failed), batch.intervals))
        self.totals["failed_cells"] += batch.cells - sum(receipt.cells.values())
        self.states.update(receipt.cells)
        self.sources.update(receipt.sources)
        self.totals.update(
            {
                name: getattr(receipt, name)
                for name in ("calls", "retries", "bytes", "files_written", "files_unchanged", "rows_landed")
            }
        )
        self.batches.append({**receipt.to_json(), "batch": batch.label, "state": "success"})

    def lost(self, cells: pa.Table) -> None:
        """Add the cells with a stored bar that the provider no longer has; the stored bar is kept."""
        self.lost_cells += [
            f"{symbol} {session}" for symbol, session in zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True)
        ]

    def failed(self, batch: Batch, reason: str, finished: Sequence[RequestReceipt]) -> None:
        """Add a failed batch. Its ``finished`` requests are in the lake, but neither checked nor loaded."""
        answered = {symbol for detail in finished for symbol in detail.request.symbols} if batch.shape is Shape.SYMBOL else set()
        for detail in finished:
            self.totals.update({name: detail.counts[name] for name in ("calls", "retries", "bytes")})
        unanswered = [symbol for symbol in batch.symbols if symbol not in answered]
        self.failures.update(dict.fromkeys(unanswered, reason))
        self.failures.update(dict.fromkeys(answered, f"fetched, but not loaded because its batch failed: {reason}"))
        self.totals["failed_cells"] += batch.cells
        self._unserved += batch.blocks
        self.batches.append(
            {"batch_id": batch.id, "batch": batch.label, "state": "failed", "error": reason, "unanswered": unanswered}
        )

    def written(self) -> dict[str, tuple[int, int]]:
        """Return symbol -> files with rows first seen by this run, and how many such rows."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._objects:
            return {}
        written = pa.concat_tables(self._objects)
        written = written.filter(pc.greater(written["new_rows"], 0))
        if "key" in written.column_names:  # several requests may have written one object, which counts once
            written = written.group_by(["symbol", "key"]).aggregate([("new_rows", "sum")])
            written = written.rename_columns(["symbol", "key", "new_rows"])
        if not len(written):
            return {}
        symbols = written["symbol"].combine_chunks().dictionary_encode()
        codes, names = symbols.indices.to_numpy(), symbols.dictionary.to_pylist()
        files = np.bincount(codes).tolist()
        rows = np.bincount(codes, written["new_rows"].to_numpy()).tolist()
        return {name: (count, int(total)) for name, count, total in zip(names, files, rows, strict=True)}

    def nowhere(self, result: RunResult) -> list[str]:
        """Return the symbols of bars without rows and without pending or quarantined cells."""
        known = self.with_rows.union(self.failures, self._waiting, self._quarantined)
        return [symbol for symbol in (result.symbols if self._dataset.is_bars else ()) if symbol not in known]

    def refusals(self) -> list[str]:
        """Return a message per symbol that the provider refused, and per session that failed alone."""
        return [
            f"{batch['batch']}: {name} failed: {why}"
            for batch in self.batches
            for name, why in (*batch.get("failed", {}).items(), *batch.get("failed_sessions", {}).items())
        ]

    def missing_share(self, result: RunResult) -> float:
        """Return the share of the planned cells that ended without a state."""
        return self.totals["failed_cells"] / result.planned if result.planned else 0.0

    def unserved(self, result: RunResult) -> list[dict[str, Any]]:
        """Return params for runs of another provider that fetch the data this one could not serve.

        These are cells without a state, symbols without any good bar and partitions that the checkpoint refused.

        :return: ``symbols``, ``start_date`` and ``end_date`` per run.
        """
        from market_data.quality.verdicts import parse

        nowhere = {*self.nowhere(result), *(self._quarantined - self.with_rows)}
        planned = [block for batch in result.batches for block in batch.blocks]
        blocks = [*self._unserved, *(Block(tuple(s for s in b.symbols if s in nowhere), b.intervals) for b in planned)]
        for partition in result.refused:
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


def _refused_part(partition: date | tuple[str, int], block: Block) -> Block:
    """Return the part of ``block`` that is in a refused partition."""
    if isinstance(partition, date):
        return Block(block.symbols, intersection(block.intervals, (closed(partition, partition),)))
    symbol, year = partition
    span = closed(date(year, 1, 1), date(year, 12, 31))
    return Block((symbol,) if symbol in block.symbols else (), intersection(block.intervals, (span,)))
