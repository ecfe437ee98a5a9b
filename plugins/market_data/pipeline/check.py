"""Check: one Great Expectations checkpoint over what landed."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch
from market_data.core.calendar import sessions_in
from market_data.core.intervals import coalesce
from market_data.core.outcome import Receipt
from market_data.pipeline.run_context import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

RECENT = timedelta(days=365)
"""A session this young must have the universe in full, even where no other session is known to compare with."""

NOTHING = "The provider has none of the sessions yet; there is nothing to check."


def check_run(job: Job, batches: Sequence[Batch], receipts: Sequence[Receipt], warehouse: Warehouse) -> dict[str, Any]:
    """The checkpoint over what the given receipts landed.

    :returns: for an XCom: ``prefixes`` of the receipts, ``passed`` as date intervals, ``refused`` and ``warned`` verdicts, ``statistics``,
        ``table`` for the log, ``document``: the lake key of the whole result. What is refused is a session, or with ``file_grain=year``
        perhaps a symbol's year: see ``quality.partitions``.
    """
    from market_data.lake.receipts import finished, read
    from market_data.quality.checkpoint import Scope, run_checkpoint
    from market_data.quality.verdicts import session_of

    landed = {receipt.batch_id for receipt in receipts}
    details = [detail for receipt in receipts for detail in finished(job.lake, receipt.prefix).values()]
    planned = planned_symbols([batch for batch in batches if batch.id in landed])
    for detail in details:
        for session in sessions_in(detail.unanswered):
            planned[session] -= frozenset(detail.request.symbols)
    for session, symbol in _unanswered(job, batches, receipts):  # missing, as the report says; what came is not judged by it
        planned[session] -= {symbol}
    planned = {session: asked for session, asked in planned.items() if asked}
    prefixes = [receipt.prefix for receipt in receipts]
    if not planned:
        return {
            "prefixes": prefixes,
            "passed": [],
            "refused": [],
            "warned": [],
            "statistics": {},
            "table": NOTHING,
            "document": None,
        }
    symbols = sorted(set().union(*planned.values()))
    previous = _previous(job, warehouse, min(planned), symbols)
    chunks = (stored.rows for receipt in receipts for stored in read(job.lake, receipt.prefix))
    counts = {session: len(asked) for session, asked in planned.items()}
    prefix = f"quality/{job.feed.dataset}/provider={job.source}/run={job.run.key}"
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) if job.params.data_docs else None
        scope = Scope(
            planned=counts,
            requested=planned,
            previous=previous,
            provider=job.source,
            recent_from=job.run.started.date() - RECENT,
            grain=job.params.file_grain,
        )
        result = run_checkpoint(job.dataset, scope, chunks, run_name=job.run.run_id, docs=docs)
        if docs:
            _keep_docs(job.lake, f"{prefix}/docs", docs)
    job.lake.update(f"{prefix}.json", lambda _: json.dumps(result.document, default=str).encode(), new=True)
    refused = [v for v in result.verdicts if not v.passed]
    refused_sessions = {session_of(v.partition) for v in refused}
    axis = sorted(planned)
    return {
        "prefixes": prefixes,
        "passed": [interval.to_json() for interval in coalesce([s for s in axis if s not in refused_sessions], axis)],
        "refused": [v.to_json() for v in refused],
        "warned": [v.to_json() for v in result.verdicts if v.passed and v.reasons],
        "statistics": result.statistics,
        "table": result.table,
        "document": f"{prefix}.json",
    }


def _previous(job: Job, warehouse: Warehouse, before: date, symbols: Sequence[str]) -> pa.Table:
    """What the sessions are compared with: bars are, nothing else is."""
    import pyarrow as pa

    if not job.dataset.is_bars:
        return pa.table({})
    warehouse.migrate()
    return warehouse.previous_bars(job.dataset, job.source, before, symbols=symbols)


def _unanswered(job: Job, batches: Sequence[Batch], receipts: Sequence[Receipt]) -> Iterator[tuple[date, str]]:
    """The cells of finished batches that the provider refused to answer for."""
    from market_data.lake.receipts import finished

    by_id = {batch.id: batch for batch in batches}
    for receipt in receipts:
        if not receipt.failed:
            continue
        batch, done = by_id[receipt.batch_id], finished(job.lake, receipt.prefix)
        for request in batch.requests(sessions_in(batch.intervals)):
            refused = done[request.id].refused if request.id in done else request.symbols
            yield from ((session, symbol) for session in sessions_in(request.intervals) for symbol in refused)


def _keep_docs(lake: Lake, prefix: str, folder: Path) -> None:
    """Great Expectations' pages, from a folder into the lake. Whoever opens ``index.html`` needs the folder as it stands."""
    from market_data.quality.great_expectations import docs_files

    def put(file: tuple[str, Path]) -> None:
        name, path = file
        lake.update(f"{prefix}/{name}", lambda _: path.read_bytes(), new=True)

    for _ in lake.each(put, docs_files(folder).items()):
        pass
    log.info("Great Expectations' pages: %s/%s/index.html", lake.url, prefix)


def planned_symbols(batches: Sequence[Batch]) -> dict[date, frozenset[str]]:
    """For each session the symbols that the batches ask for. Sessions asked for the same symbols share one set."""
    blocks = [block for batch in batches for block in batch.blocks]
    members: dict[date, list[int]] = defaultdict(list)
    for number, block in enumerate(blocks):
        for session in sessions_in(block.intervals):
            members[session].append(number)
    shared: dict[tuple[int, ...], frozenset[str]] = {}
    for numbers in map(tuple, members.values()):
        if numbers not in shared:
            shared[numbers] = frozenset(symbol for number in numbers for symbol in blocks[number].symbols)
    return {session: shared[tuple(numbers)] for session, numbers in sorted(members.items())}
