"""Publish: record coverage, empty staging, write report and completion flag. Reads no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch
from market_data.core.outcome import Receipt, State, Verdict
from market_data.core.run import RunInfo
from market_data.pipeline.leftovers import group_leftovers, is_own
from market_data.pipeline.load import judged
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.ledger import Coverage
    from market_data.lake.staging import StagedInfo, StagedKey


def publish_run(
    context: RunContext,
    batches: Sequence[Batch],
    receipts: Sequence[Receipt],
    errors: Mapping[str, str],
    checked: Mapping[str, Any] | None,
    loaded: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Record coverage, write the report and, when all is well, the completion flag.

    Coverage is recorded for requests that have been loaded or refused only. Their staging objects are deleted afterwards, so that a
    publish that dies in between leaves them to the next run. Everything else stays in staging, and the run is red.

    :param errors: batch id -> error of the failed batch.
    :returns: for an XCom: ``report`` (lake key), ``sessions`` loaded (ISO dates), ``rows`` loaded, ``red`` (why, or empty), ``warnings``,
        ``unserved`` (what another provider might serve, see ``Tally.unserved``).
    """
    import pyarrow.compute as pc

    from market_data.lake import receipts as lake_receipts
    from market_data.lake.cells import table_of
    from market_data.lake.failures import Failures
    from market_data.lake.ledger import read_coverage
    from market_data.pipeline.report import Tally, write, write_flag
    from market_data.quality.verdicts import is_refused

    prefixes = [receipt.prefix for receipt in receipts]
    # A cleared task that does not run again leaves its old result: only results that belong together count.
    if checked is not None and checked["prefixes"] != prefixes:
        checked = None
    if loaded is not None and (checked is None or loaded["of"] != judged(checked)):
        loaded = None
    refused = {v["partition"]: Verdict.from_json(v) for v in (checked or {}).get("refused", ())}
    by_batch = {receipt.batch_id: receipt for receipt in receipts}
    coverage = read_coverage(context.lake, context.feed.dataset, context.source)
    settled = context.settled(now)
    tally = Tally(context.dataset, coverage.unreadable)
    tally.troubles(Failures.of(context.lake, context.feed.dataset, context.source, context.run).read())
    recorded: dict[str, pa.Table] = {}
    named: set[str] = set()
    # Only a year's object is shared by requests: of day files there are too many to compare their keys.
    columns = ["symbol", "new_rows"] if context.params.file_grain == "day" else ["symbol", "key", "new_rows"]
    found_of_batches = lake_receipts.read(context.lake, [by_batch[b.id].prefix for b in batches if b.id in by_batch], columns)
    for batch in batches:
        stored = by_batch.get(batch.id)
        if stored is None:
            folder = lake_receipts.prefix(context.feed.dataset, context.source, context.run, batch)
            details = lake_receipts.finished(context.lake, folder).values()
            tally.failed(batch, errors.get(batch.id, "the task was killed or never ran"), list(details))
            continue
        found = next(found_of_batches)
        for each in found:
            tally.add(each.receipt, each.objects)
            named.add(each.receipt.staged)
        tally.done(batch, stored)
        if loaded is not None and found:
            cells = _judged_states(table_of(run for each in found for run in each.receipt.cells), refused, settled)
            # Cells missing from a refused partition are not reported as gone: that response is not trusted.
            gone = pc.and_not(coverage.lost(cells), is_refused(cells, refused))
            tally.lost(cells.filter(gone))
            recorded[batch.id] = cells.filter(pc.invert(gone))
    done: set[str] = set()
    if loaded is not None and checked is not None:
        done = named | _record_leftovers(context, checked, loaded, coverage, list(recorded.values()), now)
    for batch_id, cells in recorded.items():
        _record(context, context.run, batch_id, coverage, cells, now)
    rest = _empty_staging(context, done)
    tally.not_loaded(*_not_loaded(context, [item for item in rest if not is_own(context, batches, receipts, named, item)]))
    document = tally.document(context, batches, refused, checked, loaded, summary, now)
    key = write(context.lake, document, context.run)
    if not document["red"]:
        write_flag(context.lake, key, document)
    result = {"report": key, "sessions": document["sessions_loaded"], "rows": document["rows_loaded"]}
    unserved = tally.unserved(context, batches, refused) if context.feed.fallback else []
    return {**result, "red": document["red"], "warnings": document["warnings"], "unserved": unserved}


def _record(context: RunContext, run: RunInfo, batch_id: str, coverage: Coverage, cells: pa.Table, now: datetime) -> None:
    """Record the cells whose state is new, as the latest records of these cells."""
    from market_data.lake.ledger import write_cells

    changed = coverage.changed(cells)
    stamp = coverage.next_stamp(changed, now)
    write_cells(context.lake, context.feed.dataset, context.source, run, batch_id, changed, recorded_at=stamp)


def _judged_states(cells: pa.Table, refused: Mapping[str, Verdict], settled: date) -> pa.Table:
    """Set the cells of refused partitions to ``refused``, or to ``pending`` if they are recent.

    This includes cells without rows. The next scheduled runs request recent cells again.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.ledger import CELLS
    from market_data.quality.verdicts import year_partitions

    if not refused or not len(cells):
        return cells
    names = pa.array(list(refused), pa.string())
    by_session = pc.index_in(cells["session"].cast(pa.string()), value_set=names)
    verdict = pc.coalesce(by_session, pc.index_in(year_partitions(cells), value_set=names))
    why = pa.array(["; ".join(v.reasons) for v in refused.values()], pa.string()).take(verdict.combine_chunks())
    hit = pc.is_valid(verdict)
    state = pc.if_else(pc.greater(cells["session"], pa.scalar(settled)), str(State.PENDING), str(State.REFUSED))
    columns = {
        "symbol": cells["symbol"],
        "session": cells["session"],
        "state": pc.if_else(hit, state, cells["state"]),
        "reason": pc.if_else(hit, why, cells["reason"]),
    }
    return pa.table(columns, schema=CELLS)


def _record_leftovers(
    context: RunContext,
    checked: Mapping[str, Any],
    loaded: Mapping[str, Any],
    coverage: Coverage,
    own: Sequence[pa.Table],
    now: datetime,
) -> set[str]:
    """Record the cells of loaded or refused leftovers under the run and batch that fetched them.

    This run's own cells are newer and not overwritten. Neither are records made after the leftovers were fetched, except for cells that
    a later response without the bar made ``empty`` or ``pending``: their rows are now in lake and warehouse, so they become ``have``.

    :param own: the cells that this run records itself.
    :return: staging keys that need not be kept.
    """
    import pyarrow.compute as pc

    from market_data.lake import staging
    from market_data.lake.cells import table_of
    from market_data.lake.ledger import without

    taken = [left for n, left in enumerate(checked.get("leftovers", ())) if str(n) not in loaded["leftover_errors"]]
    sizes = {item.key: item for item in staging.waiting(context.lake, context.feed.dataset, context.source)} if taken else {}
    newer, settled, done = list(own), context.settled(now), set()
    for left in reversed(taken):  # newest first
        infos, _ = staging.describe(context.lake, [sizes[key] for key in left["keys"] if key in sizes])
        refused = {v["partition"]: Verdict.from_json(v) for v in left["refused"]}
        by_batch: dict[tuple[str, str], list[StagedInfo]] = {}
        for info in infos.values():
            by_batch.setdefault((info.run.key, info.batch_id), []).append(info)
        for (_, batch_id), found in by_batch.items():
            cells = _judged_states(table_of(run for info in found for run in info.receipt.cells), refused, settled)
            cells = without(cells, newer)
            newer.append(cells)
            fetched = min(info.staged_us for info in found)
            later = coverage.recorded_after(cells, fetched)
            overruled = pc.and_(later, pc.invert(_is_have_over_nothing(coverage, cells)))
            kept = cells.filter(pc.invert(pc.or_(overruled, coverage.lost(cells))))
            _record(context, found[0].run, batch_id, coverage, kept, now)
        done |= set(infos)
    return done


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


def _not_loaded(context: RunContext, rest: Sequence[StagedKey]) -> tuple[dict[str, int], list[str]]:
    """Return run id -> requests that an ended run left in staging, and messages on unreadable objects."""
    from market_data.lake import staging

    infos, broken = staging.describe(context.lake, rest)
    counts: dict[str, int] = {}
    for group in group_leftovers(context, infos):
        counts[group.run.run_id] = counts.get(group.run.run_id, 0) + len(group.infos)
    return counts, broken
