"""Publish: coverage, report, completion flag, and whether the run is red."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch
from market_data.core.calendar import sessions_in
from market_data.core.outcome import Receipt, State, Verdict
from market_data.lake.cells import cells_of
from market_data.pipeline.load import judged
from market_data.pipeline.run_context import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.receipts import Detail


def publish_run(
    job: Job,
    batches: Sequence[Batch],
    receipts: Sequence[Receipt],
    errors: Mapping[str, str],
    checked: Mapping[str, Any] | None,
    loaded: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Record coverage, write the report and, when all is well, the completion flag.

    Coverage is recorded of what has been loaded or refused only: a cell that landed and never got into the warehouse stays missing.

    :param errors: batch id -> what the failed batch said.
    :returns: for an XCom: ``report`` (lake key), ``sessions`` loaded (ISO dates), ``rows`` loaded, ``red`` (why, or empty), ``warnings``,
        ``unserved`` (what another provider might serve, see ``Tally.unserved``).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.failures import Failures
    from market_data.lake.ledger import read_coverage, write_cells
    from market_data.lake.receipts import finished, prefix, read
    from market_data.pipeline import report
    from market_data.quality.verdicts import is_refused

    prefixes = [receipt.prefix for receipt in receipts]
    # A cleared task that does not run again leaves what it returned before: only what belongs together counts.
    if checked is not None and checked["prefixes"] != prefixes:
        checked = None
    if loaded is not None and (checked is None or loaded["of"] != judged(checked)):
        loaded = None
    refused = {v["partition"]: Verdict.from_json(v) for v in (checked or {}).get("refused", ())}
    by_batch = {receipt.batch_id: receipt for receipt in receipts}
    coverage = read_coverage(job.lake, job.feed.dataset, job.source)
    tally = report.Tally(job.dataset, job.params.file_grain)
    tally.troubles(Failures.of(job.lake, job.feed.dataset, job.source, job.run).read())
    for batch in batches:
        stored = by_batch.get(batch.id)
        if stored is None:
            details = finished(job.lake, prefix(job.feed.dataset, job.source, job.run, batch)).values()
            tally.failed(batch, errors.get(batch.id, "the task was killed or never ran"), list(details))
            continue
        states: list[pa.Table] = []
        for receipt in read(job.lake, stored.prefix):
            tally.add(receipt.detail, receipt.rows)
            if loaded is not None:
                states.append(_states(receipt.detail, receipt.rows, refused, job.settled(now)))
        tally.done(batch, stored)
        if states:
            cells = pa.concat_tables(states)
            # What is absent from a refused partition is not lost: nobody believes that answer.
            lost = pc.and_not(coverage.lost(cells), is_refused(cells, refused))
            tally.lost(cells.filter(lost))
            changed = coverage.changed(cells.filter(pc.invert(lost)))
            write_cells(job.lake, job.feed.dataset, job.source, job.run, batch.id, changed, recorded_at=now)
    document = tally.document(job, batches, refused, checked, loaded, summary, now)
    key = report.write(job.lake, document, job.run)
    if not document["red"]:
        report.write_flag(job.lake, key, document)
    found = {"report": key, "sessions": document["sessions_loaded"], "rows": document["rows_loaded"]}
    unserved = tally.unserved(job, batches, refused) if job.feed.fallback else []
    return {**found, "red": document["red"], "warnings": document["warnings"], "unserved": unserved}


def _states(detail: Detail, landed: pa.Table, refused: Mapping[str, Verdict], settled: date) -> pa.Table:
    """The state of every cell of a request."""
    import pyarrow as pa

    from market_data.lake.ledger import CELLS
    from market_data.quality.verdicts import verdict_of

    cells: dict[tuple[str, date], tuple[str, str]] = {}

    def add(symbol: str, session: date, state: State, reason: str) -> None:
        verdict = verdict_of(refused, symbol, session)
        if verdict is not None:
            # What is absent from a refused partition is as doubtful as what is there. A young one is asked again by the next days' runs.
            state, reason = State.PENDING if session > settled else State.REFUSED, "; ".join(verdict.reasons)
        cells[symbol, session] = state, reason

    for symbol, sessions in cells_of(landed).items():
        for session in sessions:
            add(symbol, session, State.HAVE, "")
    for run in detail.absent:  # some of them have rows, and are not whole
        for session in sessions_in(run.intervals):
            add(run.symbol, session, run.state, run.reason)
    columns = list(zip(*((*cell, *what) for cell, what in cells.items()), strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, CELLS, strict=True)], schema=CELLS)
