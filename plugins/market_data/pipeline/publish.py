"""Publish: record coverage, empty staging, write report and completion flag. Reads no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.calendar import DAY
from market_data.core.intervals import coalesce
from market_data.core.outcome import EARLIER_VALUE, State, Verdict
from market_data.pipeline.attempts import attempt_of
from market_data.pipeline.decided import kept as kept_cells
from market_data.pipeline.decided import with_decided, without_settled
from market_data.pipeline.examine import examine
from market_data.pipeline.gaps import find_gaps, without_gaps
from market_data.pipeline.leftovers import find_unloaded, is_own
from market_data.pipeline.open_cells import OwnCells
from market_data.pipeline.report import Tally
from market_data.pipeline.report_document import document, write, write_flag
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_records import forget
from market_data.pipeline.run_result import RunResult
from market_data.pipeline.verdict import headline

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.core.run import RunInfo
    from market_data.lake.coverage import Coverage
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.staging import StagedInfo, StagedKey


Record = tuple["RunInfo", str, "pa.Table"]
"""Run, batch id and cells of one ledger object."""

GAPS = "suspected-gaps"
"""Batch id of the records of suspected gaps."""


def publish_run(context: RunContext, result: RunResult, now: datetime) -> dict[str, Any]:
    """Record coverage, write the report, and the flag if every cell of the run is final and loaded.

    Coverage is recorded for requests that have been loaded or refused only. Their staging objects are deleted afterwards, so that a
    publish that dies in between leaves them to the next run. Everything else stays in staging, and the run is red.

    :returns: for an XCom: ``report`` (lake key), ``sessions`` loaded (ISO dates), ``new_sessions``: see that function,
        ``rows`` loaded, ``red`` (why, or empty), ``warnings``,
        ``headline`` (figures for the note), ``unserved`` (what another provider might serve, see ``Tally.unserved``).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import CELLS
    from market_data.lake.failures import Failures
    from market_data.lake.ledger import read_coverage, write_cells

    result = result.consistent()
    place = (context.lake, context.feed.dataset, context.source)
    coverage = read_coverage(*place)
    tally = Tally(context.dataset, coverage.unreadable)
    tally.troubles(Failures.of(*place, context.run).read())
    recorded, named = _own_cells(context, result, coverage, tally)
    records: list[Record] = []
    done: set[str] = set()
    if result.loaded is not None:
        taken, records = _leftover_records(context, result, coverage, list(recorded.values()))
        done = named | taken
    records += [(context.run, batch_id, cells) for batch_id, cells in recorded.items()]
    tables = [cells for _, _, cells in records]
    stamp = coverage.next_stamp(pa.concat_tables([CELLS.empty_table(), *tables]), now)
    after = coverage.updated(tables, stamp)
    gaps = find_gaps(after, tables if context.dataset.follows_trading else (), now, context.calendar_of)
    stamp = coverage.next_stamp(gaps, stamp)
    # The moment of these records matters: a vendor's new issue, or a repair, is requested once.
    again = (*result.summary.get("reissued", ()), *result.summary.get("repaired", ()))
    reissued = [date.fromisoformat(session) for session in again]
    for run, batch_id, cells in [
        *((run, batch, without_gaps(cells, gaps)) for run, batch, cells in records),
        (context.run, GAPS, gaps),
    ]:
        write_cells(*place, run, batch_id, coverage.changed(cells, reissued), recorded_at=stamp, compared=True)
    rest = _empty_staging(context, done)
    not_own = [item for item in rest if not is_own(context, result.batches, result.receipts, named, item)]
    own = OwnCells.of(result.summary, result.batches)
    tally.unloaded = find_unloaded(context, not_own, result.sessions.union(own.sessions))
    new = gaps.filter(pc.invert(coverage.are_suspected(gaps)))
    findings = examine(context, after.updated([gaps], stamp), own, now, found=new, with_rows=tally.with_rows)
    report = document(context, result, tally, findings, own, now)
    key = write(context.lake, report, context.run)
    write_flag(context.lake, key, report)
    forget(context)
    return {
        "report": key,
        "sessions": report["sessions_loaded"],
        "new_sessions": new_sessions(tally, tables, coverage, report["rows_changed"], result.refused),
        "rows": report["rows_loaded"],
        "red": report["red"],
        "warnings": report["warnings"],
        "headline": headline(context, report, key),
        "unserved": tally.unserved(result) if context.feed.fallback else [],
    }


def new_sessions(
    tally: Tally, recorded: Sequence[pa.Table], coverage: Coverage, rows_changed: int, refused: Mapping[str, Verdict]
) -> list[str]:
    """Return the sessions (ISO dates, sorted) for which the warehouse has new values.

    Downstream DAGs run once for each.

    A session is new if one of its cells becomes ``have``, or if a response of this run first brought values. Either alone would lose
    sessions: the first if publish dies after it recorded coverage, the second if an earlier run wrote the values and did not load them.
    Rechecked sessions with equal values are not new, nor are those of a cleared run.

    :param recorded: the cells that are recorded now, with ``coverage`` as it was before.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows_changed:
        return []
    have = pa.scalar(str(State.HAVE))
    found = {session for session in tally.first_seen if session.isoformat() not in refused}
    for cells in recorded:
        before = pc.fill_null(pc.equal(coverage.states(cells), have), False)
        new = cells.filter(pc.and_(pc.equal(cells["state"], have), pc.invert(before)))
        found.update(pc.unique(new["session"]).to_pylist())
    return sorted(session.isoformat() for session in found)


def _own_cells(context: RunContext, result: RunResult, coverage: Coverage, tally: Tally) -> tuple[dict[str, pa.Table], set[str]]:
    """Add the run's batches to ``tally``.

    :return: batch id -> cells to record, none if nothing was loaded; the staging keys that receipts name.
    """
    import pyarrow.compute as pc

    from market_data.lake import receipts as lake_receipts
    from market_data.lake.cells import table_of
    from market_data.quality.verdicts import is_refused

    by_batch = {receipt.batch_id: receipt for receipt in result.receipts}
    recorded: dict[str, pa.Table] = {}
    named: set[str] = set()
    decided = kept_cells(context.lake, result.checked or {})
    # Several requests may have written a symbol's year; those of a session are not compared, there are too many.
    columns = ["symbol", "key", "new_rows"] if context.params.file_grain == "year" else ["symbol", "new_rows"]
    folders = [by_batch[batch.id].prefix for batch in result.batches if batch.id in by_batch]
    found_of_batches = lake_receipts.read(context.lake, folders, columns)
    for batch in result.batches:
        stored = by_batch.get(batch.id)
        if stored is None:
            folder = lake_receipts.prefix(context.feed.dataset, context.source, context.run, batch)
            details = lake_receipts.finished(context.lake, folder).values()
            tally.failed(batch, result.errors.get(batch.id, "the task was killed or never ran"), list(details))
            continue
        found = next(found_of_batches)
        for each in found:
            tally.add(_without_refused(each.receipt, result.refused), each.objects, attempt_of(stored.prefix, context.run))
            named.add(each.receipt.staged)
        tally.done(batch, stored)
        if result.loaded is not None and found:
            cells = _judged_states(table_of(run for each in found for run in each.receipt.cells), result.refused, coverage, decided)
            # Cells missing from a refused partition are not reported as gone: that response is not trusted.
            gone = pc.and_not(coverage.lost(cells), is_refused(cells, result.refused))
            if pc.any(gone).as_py():
                tally.lost(cells.filter(gone))
                cells = cells.filter(pc.invert(gone))
            recorded[batch.id] = cells
    return recorded, named


def _without_refused(receipt: RequestReceipt, refused: Mapping[str, Verdict]) -> RequestReceipt:
    """Return the receipt without restated cells of refused partitions: their loaded values are kept.

    Nor are sessions renewed in which every symbol of the request is refused.
    """
    from market_data.quality.verdicts import verdict_of

    if not refused:
        return receipt
    restated = [cell for cell in receipt.restated if verdict_of(refused, cell[0], date.fromisoformat(cell[1])) is None]
    request, renewed = receipt.request, receipt.renewed
    if renewed:
        days = request.calendar.sessions_in(renewed)
        cells = [(symbol, block) for block in request.blocks for symbol in block.symbols]
        kept = [
            day
            for day in days
            if any(
                verdict_of(refused, symbol, day) is None and any(day in one for one in block.intervals) for symbol, block in cells
            )
        ]
        renewed = coalesce(kept, request.calendar.sessions(days[0], days[-1] + DAY))
    return replace(receipt, restated=tuple(restated), renewed=renewed)


def _judged_states(cells: pa.Table, refused: Mapping[str, Verdict], coverage: Coverage, decided: pa.Table | None) -> pa.Table:
    """Set the cells of refused partitions to ``refused``, those without rows included.

    The reasons of refused and quarantined cells tell if an earlier value is loaded: see ``EARLIER_VALUE``. Cells that a person has
    decided on get the state of the decision; those that have it already are left out.

    :param decided: see ``decided.kept``.
    """
    from market_data.quality.verdicts import refused_states

    judged = _with_earlier(refused_states(cells, refused), coverage)
    return without_settled(judged if decided is None else with_decided(judged, decided), coverage)


def _with_earlier(cells: pa.Table, coverage: Coverage) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    rejected = pc.is_in(cells["state"], pa.array([str(State.REFUSED), str(State.QUARANTINED)]))
    if not pc.any(rejected).as_py():
        return cells
    hit = pc.and_(rejected, coverage.had_values(cells))
    reasons = pc.if_else(hit, pc.binary_join_element_wise(cells["reason"], EARLIER_VALUE, "; "), cells["reason"])
    return cells.set_column(cells.schema.get_field_index("reason"), cells.schema.field("reason"), reasons)


def _leftover_records(
    context: RunContext, result: RunResult, coverage: Coverage, own: Sequence[pa.Table]
) -> tuple[set[str], list[Record]]:
    """Return the records of loaded or refused leftovers, under the run and batch that fetched them.

    This run's own cells are newer and not overwritten. Neither are records made after the leftovers were fetched, except for cells that
    a later response without the bar made ``empty`` or ``pending``: their rows are now in lake and warehouse, so they become ``have``.

    :param own: the cells that this run records itself.
    :return: staging keys that need not be kept; the records.
    """
    import pyarrow.compute as pc

    from market_data.lake import staging
    from market_data.lake.cells import table_of
    from market_data.lake.coverage import without

    place = (context.lake, context.feed.dataset, context.source)
    sizes = {item.key: item for item in staging.waiting(*place)} if result.loaded_leftovers else {}
    newer, records, done = list(own), [], set()
    for left in reversed(result.loaded_leftovers):  # newest first
        infos, _ = staging.describe(context.lake, [sizes[key] for key in left["keys"] if key in sizes])
        refused = {v["partition"]: Verdict.from_json(v) for v in left["refused"]}
        decided = kept_cells(context.lake, left)
        by_batch: dict[tuple[str, str], list[StagedInfo]] = {}
        for info in infos.values():
            by_batch.setdefault((info.run.key, info.batch_id), []).append(info)
        for (_, batch_id), found in by_batch.items():
            judged = _judged_states(table_of(run for info in found for run in info.receipt.cells), refused, coverage, decided)
            cells = without(judged, newer)
            newer.append(cells)
            later = coverage.recorded_after(cells, min(info.staged_us for info in found))
            overruled = pc.and_(later, pc.invert(_is_have_over_nothing(coverage, cells)))
            kept = cells.filter(pc.invert(pc.or_(overruled, coverage.lost(cells))))
            records.append((found[0].run, batch_id, kept))
        done |= set(infos)
    return done, records


def _empty_staging(context: RunContext, done: set[str]) -> list[StagedKey]:
    """Delete the staging objects in ``done``; return all others of the feed."""
    from market_data.lake import staging

    waiting = staging.waiting(context.lake, context.feed.dataset, context.source)
    staging.delete(context.lake, [item.key for item in waiting if item.key in done])
    return [item for item in waiting if item.key not in done]


def _is_have_over_nothing(coverage: Coverage, cells: pa.Table) -> pa.Array:
    """Return a mask of the cells that are ``have`` now and recorded without a row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nothing = pc.is_in(coverage.states(cells), pa.array([str(State.EMPTY), str(State.PENDING)]))
    return pc.and_(pc.equal(cells["state"], str(State.HAVE)), nothing)
