"""Turn what was read into findings, each cell with one cause.

Damage of the lake comes first, then of the ledger, then of silver.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from market_data.config.run_params import RunParams
from market_data.core.dates import EPOCH, MICROSECOND
from market_data.core.instruments import by_calendar
from market_data.core.outcome import State
from market_data.maintenance.audit.cells import Collector, Mask, among, days_of, symbols_of
from market_data.maintenance.audit.contents import Contents
from market_data.maintenance.audit.documents import cells_of_documents, missing_documents
from market_data.maintenance.audit.evidence import Told
from market_data.maintenance.audit.expected import settled
from market_data.maintenance.audit.holes import missing_keys, without_day_file
from market_data.maintenance.audit.listing import DAY, DOCUMENT, Numbers, cell_codes, numbers_of
from market_data.maintenance.audit.reading import ANOTHER_HASH, overlapping
from market_data.maintenance.audit.world import World
from market_data.maintenance.findings import Cause, Repair
from market_data.pipeline.gaps import next_request


def judge_objects(world: World, read: Contents, without_object: Numbers, collector: Collector) -> None:
    """Add objects that are missing, unreadable or changed, and cells whose rows they lack."""
    for key, codes in missing_documents(world, read.evidence).items():
        collector.cells(codes, Cause.OBJECT_MISSING, Repair.FETCH, "an object of the cell does not exist", key)
    loaded = world.loaded
    lacking = loaded[read.read_for(loaded) & ~read.has(loaded)]
    without_object = without_object[~read.has(without_object)]
    keys = missing_keys(world, read.evidence, without_object)
    collector.cells(without_object, Cause.OBJECT_MISSING, Repair.FETCH, "the cell's object does not exist", keys)
    _unreadable(world, read, lacking, collector)
    _changed(world, read, lacking, collector)
    _rewritten(world, read, lacking, collector)
    if world.dated:
        rows = [row for row in range(len(world.listing)) if world.listing.periods[row] != DAY] if len(lacking) else []
        for row, codes in overlapping(world.listing, world.symbols, lacking, rows):
            collector.cells(
                codes, Cause.OBJECT_CHANGED, Repair.FETCH, "rows of the cell are lacking in the object", world.listing.key(row)
            )
    collector.cells(lacking, Cause.OBJECT_MISSING, Repair.FETCH, "no object of the symbol has rows of the cell")


def _unreadable(world: World, read: Contents, lacking: Numbers, collector: Collector) -> None:
    listing, missing = world.listing, world.missing.codes
    missing = missing[~read.has(missing)]
    if world.dated:
        missing = np.setdiff1d(missing, without_day_file(world, read.evidence, missing))
    doubtful = np.union1d(lacking, missing)
    # Day files first: the file of their year would take their cells.
    broken = sorted(read.objects.unreadable, key=lambda row: (listing.periods[row], row))
    cells = dict(overlapping(listing, world.symbols, doubtful, broken))
    documents = cells_of_documents(world, [listing.key(row) for row in broken if listing.periods[row] == DOCUMENT])
    for row in broken:
        key, detail = listing.key(row), f"it cannot be read: {read.objects.unreadable[row]}"
        codes = documents.get(key, cells.get(row, np.empty(0, dtype=np.int64)))
        if listing.periods[row] == DAY:
            codes = world.symbols[[row]] * (1 << 32) + listing.days[[row]]
        before = len(collector.taken)
        collector.cells(codes, Cause.OBJECT_UNREADABLE, Repair.FETCH, detail, key)
        if len(collector.taken) == before:
            symbol, span = listing.names[listing.symbols[row]], (int(listing.days[row]), int(listing.last_days[row]))
            days = span if world.dated else None
            collector.object(key, Cause.OBJECT_UNREADABLE, Repair.FETCH, detail, symbol, days)


def _changed(world: World, read: Contents, lacking: Numbers, collector: Collector) -> None:
    """Add the cells of changed objects: those that differ from silver, all if nothing was compared.

    An object that holds the values of silver was rewritten, e.g. folded; nothing is wrong with it.
    """
    rows = sorted(read.objects.changed)
    within = dict(overlapping(world.listing, world.symbols, lacking, rows))
    found = read.differences
    for row in rows:
        own, lost = read.objects.cells_in(row), within.get(row, np.empty(0, dtype=np.int64))
        detail, key = read.objects.changed[row], world.listing.key(row)
        if found is None:
            codes = np.union1d(own, lost)
        else:
            differing = np.union1d(np.union1d(found.lacking, found.changed), found.only)
            codes = np.union1d(np.intersect1d(own, differing), lost)
        collector.cells(codes, Cause.OBJECT_CHANGED, Repair.FETCH, detail, key)
        if "another symbol" in detail and not len(codes):
            collector.object(key, Cause.OBJECT_CHANGED, Repair.FETCH, detail, world.listing.names[world.listing.symbols[row]])


def _rewritten(world: World, read: Contents, lacking: Numbers, collector: Collector) -> None:
    """Add cells of rewritten session files that differ from silver; without it, those that lack rows.

    Any writer of any symbol changes the hash, so it says nothing of a single cell.
    """
    rows, found = np.unique(np.array(read.objects.rewritten, dtype=np.int64)), read.differences
    codes = cell_codes(world.symbols[rows], world.listing.days[rows])
    if found is None:
        wrong = among(codes, np.unique(np.concatenate([np.empty(0, dtype=np.int64), *read.objects.short])))
    else:
        wrong = among(codes, np.union1d(np.union1d(found.lacking, found.changed), found.only)) & read.objects.hold(rows)
    wrong |= among(codes, lacking)
    keys = [world.listing.key(row) for row in rows[wrong].tolist()]
    collector.cells(codes[wrong], Cause.OBJECT_CHANGED, Repair.FETCH, ANOTHER_HASH, keys)


def judge_ledger(world: World, read: Contents, broken_ledger: Sequence[str], collector: Collector) -> None:
    """Add cells without a record: with rows in the lake, known from a receipt, or missing."""
    told = read.evidence.told
    states = dict(zip(told.codes.tolist(), told.states, strict=True))
    broken = _broken_records(told, broken_ledger)

    def in_broken(codes: Numbers) -> Mask:
        return np.array([code in broken for code in codes.tolist()], dtype=bool)

    collector.cells(world.reset, Cause.MISSING, Repair.FETCH, "reset, and not requested since")
    present = read.present[~world.recorded.has(read.present) & ~among(read.present, world.staged)]
    missing = np.setdiff1d(world.missing.codes, present)
    known = np.array([states.get(code, State.HAVE) != State.HAVE for code in missing.tolist()], dtype=bool)
    for codes in (present[in_broken(present)], missing[known & in_broken(missing)]):
        keys = [broken[code] for code in codes.tolist()]
        collector.cells(codes, Cause.LEDGER_UNREADABLE, Repair.LEDGER, "its ledger object cannot be read", keys)
    holders = {int(row): world.listing.key(int(row)) for row in np.unique(read.holder(present)).tolist()}
    keys = [holders[row] for row in read.holder(present).tolist()]
    collector.cells(present, Cause.NOT_RECORDED, Repair.LEDGER, "rows in the lake, no record", keys)
    told_of = missing[known]
    details = [f"no record; its receipt says {states[code]}" for code in told_of.tolist()]
    collector.cells(told_of, Cause.MISSING, Repair.LEDGER, details)
    collector.cells(missing, Cause.MISSING, Repair.FETCH, "no record, no rows in the lake")


def _broken_records(told: Told, broken_ledger: Sequence[str]) -> dict[int, str]:
    """Return cell -> key of the unreadable ledger object that had its record.

    That is the object of its run, or the folded one of its month.
    """
    names = {key.rpartition("/run=")[2].partition("/")[0]: key for key in broken_ledger}
    folded = {key.rpartition("/")[2].partition(".")[0]: key for key in broken_ledger if "/run=folded/" in key}
    found = {}
    for code, run, moment in zip(told.codes.tolist(), told.runs, told.moments, strict=True):
        month = f"{EPOCH + moment * MICROSECOND:%Y-%m}"
        if run in names or month in folded:
            found[code] = names.get(run) or folded[month]
    return found


def judge_silver(world: World, read: Contents, lacking: Numbers, collector: Collector) -> None:
    """Add cells that silver lacks, has with other values, or has alone."""
    if world.silver is None:
        return
    name = world.silver.table.silver
    if not world.silver.exists:
        collector.cells(world.loaded, Cause.NOT_LOADED, Repair.LOAD, f"the table {name} does not exist")
        return
    text = f"{name} lacks rows of the cell"
    collector.cells(lacking, Cause.NOT_LOADED, Repair.LOAD, text)
    if read.differences is None:
        return
    found = read.differences
    collector.cells(found.lacking, Cause.NOT_LOADED, Repair.LOAD, text)
    collector.cells(found.changed, Cause.WAREHOUSE_CHANGED, Repair.LOAD, "other values than the lake")
    from market_data.lake.coverage import STATES

    # A cell that is refused, quarantined or pending keeps its earlier value in silver.
    kept = [STATES.index(state) for state in (State.REFUSED, State.QUARANTINED, State.PENDING)]
    open_cells = world.recorded.codes[np.isin(world.recorded.states, kept)]
    only = found.only[~among(found.only, open_cells) & ~among(found.only, world.staged)]
    not_to_load = among(only, world.recorded.confirmed_wrong)
    only = only[~read.has(only) | world.recorded.are_loaded(only) | not_to_load]
    text = "rows that the lake lacks"
    collector.cells(only[among(only, found.loaded)], Cause.ONLY_IN_WAREHOUSE, Repair.FETCH, text)
    collector.cells(only, Cause.ONLY_IN_WAREHOUSE, Repair.REMOVE, "rows by hand: no load wrote them")


def judge_states(world: World, collector: Collector) -> None:
    """Add suspected gaps, and cells that are quarantined, refused, or pending past their time."""
    from market_data.lake.coverage import STATES

    recorded = world.recorded
    scheduled = world.feed.schedule is not None
    final_from = _final_from(world)
    days = days_of(recorded.codes)
    recent = days > final_from[symbols_of(recorded.codes)] if len(recorded.codes) else np.empty(0, dtype=bool)
    looked_back = days >= numbers_of([world.now.date() - timedelta(days=_lookback(world))])[0]
    gaps = np.flatnonzero(recorded.suspected & ~among(recorded.codes, world.staged))
    reasons = _reasons(world, gaps)
    again = [Repair.WAIT if scheduled and next_request(text) is not None else Repair.NONE for text in reasons]
    collector.cells(recorded.codes[gaps], Cause.SUSPECTED_GAP, again, reasons)
    groups = (
        (Cause.QUARANTINED, State.QUARANTINED, Repair.DECIDE, recent, ~recent & False),
        (Cause.REFUSED, State.REFUSED, Repair.DECIDE, recent, ~recent & False),
        (Cause.PENDING, State.PENDING, Repair.FETCH, looked_back, recent),
    )
    for cause, state, repair, waits, left_out in groups:
        rows = np.flatnonzero((recorded.states == STATES.index(state)) & ~left_out & ~among(recorded.codes, world.staged))
        repairs = [Repair.WAIT if scheduled and wait else repair for wait in waits[rows].tolist()]
        collector.cells(recorded.codes[rows], cause, repairs, _reasons(world, rows))


def _final_from(world: World) -> Numbers:
    """Return the last day of each symbol to which vendors add no rows any more."""
    found = np.empty(len(world.names.names), dtype=np.int64)
    for calendar, symbols in by_calendar(world.names.names, world.find).items():
        found[world.names.of(symbols)] = numbers_of([settled(world.selection, calendar, world.now)])[0]
    return found


def _lookback(world: World) -> int:
    return int(world.feed.params.get("lookback_days", RunParams("x").lookback_days))


def _reasons(world: World, rows: Numbers) -> Sequence[str]:
    import pyarrow as pa

    found: list[str] = world.recorded.reasons.take(pa.array(rows)).cast(pa.string()).to_pylist()
    return [text or "no reason is recorded" for text in found]
