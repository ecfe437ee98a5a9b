"""Plan a run that requests exactly the cells of a list of gaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from market_data.core.calendar import Calendar, sessions_of_any
from market_data.core.dates import microseconds
from market_data.core.instruments import by_calendar
from market_data.core.intervals import coalesce
from market_data.pipeline.open_cells import OwnCells
from market_data.pipeline.plan import (
    check_spelling,
    cost_of,
    pending_and_over,
    ready_sessions,
    standing_of,
)
from market_data.pipeline.plan_by_calendar import plan_by_calendar
from market_data.pipeline.plan_staged import staged_masks, with_staged
from market_data.pipeline.planned import Planned
from market_data.pipeline.planner import Plan, make_plan
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage
    from market_data.pipeline.gap_list import GapList
    from market_data.providers.base import ProviderHook

DAY = timedelta(days=1)


def plan_gaps(context: RunContext, hook: ProviderHook, gaps: GapList, now: datetime) -> Planned:
    """Plan the requests for the cells of ``gaps``, recorded or not, with the fewest calls.

    Cells that were recorded after the gaps were found are left out, unless the run is forced or cleared. So are cells in staging, which
    this or an active run loads, and sessions that are not available yet or come before the history of the provider's plan.

    :raises ParamError: if the work or its cost exceeds the limit of a run.
    :raises ProviderError: if the provider does not report the cost of requests that it charges for.
    """
    from market_data.lake.ledger import read_coverage

    capabilities = hook.capabilities(context.feed.dataset)
    cells, early = _from(gaps.cells, capabilities.history_start)
    symbols: list[str] = sorted(cells["symbol"].unique().to_pylist())
    days: list[date] = sorted(cells["session"].unique().to_pylist())
    check_spelling(hook, symbols, chosen=False)
    groups = by_calendar(symbols, context.calendar_of)
    over = {one: ready_sessions(days, context.dataset, capabilities.available_after, now, one) for one in groups}
    pending, _ = pending_and_over(days, over)
    # Intervals extend over the dates between two neighbours: no session may be left out between them.
    axis = sessions_of_any(groups, days[0], days[-1] + DAY) if days else ()
    bits = {session: 1 << bit for bit, session in enumerate(axis)}
    wished = _masks(cells, bits, groups, over)
    coverage = read_coverage(context.lake, context.feed.dataset, context.source)
    refetch = context.params.force or context.run.clear_number > 0
    later = {} if refetch else _recorded_since(coverage, cells, bits, gaps.found)
    covered = {symbol: later.get(symbol, 0) & mask for symbol, mask in wished.items()}
    done = sum(mask.bit_count() for mask in covered.values())
    covered, staged = with_staged(covered, staged_masks(context, axis), wished)
    missing = {symbol: mask & ~covered[symbol] for symbol, mask in wished.items()}

    def make(missing: Mapping[str, int], sessions: Sequence[date]) -> Plan:
        return make_plan(
            context.feed.dataset, missing, sessions, capabilities, batch_size=context.params.batch_size,
            endpoint=context.params.endpoint, file_grain=context.params.file_grain, refetch=True, now=now,
        )  # fmt: skip

    plan = plan_by_calendar(missing, axis, capabilities, context.calendar_of, make).counted(hook.calls_of, capabilities.quota)
    cost, cap = cost_of(hook, [request for batch in plan.batches for request in batch.requests(batch.sessions)], context.params)
    own = _own(context, cells, axis)
    sentences = [f"Repaired since, not requested: {done:,} cells"] if done else []
    sentences += (
        [f"Not requested: {early:,} cells before {capabilities.history_start}, where the plan's history begins"] if early else []
    )
    sessions = tuple(day for day in days if any(day in ready for ready in over.values()))
    return Planned(
        plan,
        sessions,
        len(symbols),
        sum(mask.bit_count() for mask in wished.values()) - plan.cells,
        pending,
        {},
        (days[0], days[-1]) if days else None,
        plan.calls,
        cost,
        staged=staged,
        exceeded_cap=cap,
        conditions=tuple(sentences),
        own=own,
        calendars=tuple(groups),
        standing=standing_of(context, coverage, replace(own, sessions=sessions), now) if sessions else {},
        repaired=sessions,
    )


def _from(cells: pa.Table, start: date | None) -> tuple[pa.Table, int]:
    """Return the cells from ``start`` on, and the number of the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = cells if start is None else cells.filter(pc.greater_equal(cells["session"], pa.scalar(start, pa.date32())))
    return kept, len(cells) - len(kept)


def _masks(
    cells: pa.Table, bits: Mapping[date, int], groups: Mapping[Calendar, Sequence[str]], over: Mapping[Calendar, frozenset[date]]
) -> dict[str, int]:
    """Return symbol -> mask of its cells whose sessions are available."""
    ready = {symbol: over[calendar] for calendar, names in groups.items() for symbol in names}
    masks: dict[str, int] = defaultdict(int)
    for symbol, session in zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True):
        if session in ready[symbol]:
            masks[symbol] |= bits[session]
    return dict(masks)


def _recorded_since(coverage: Coverage, cells: pa.Table, bits: Mapping[date, int], found: datetime) -> dict[str, int]:
    masks: dict[str, int] = defaultdict(int)
    recorded = cells.filter(coverage.recorded_after(cells, microseconds(found)))
    for symbol, session in zip(recorded["symbol"].to_pylist(), recorded["session"].to_pylist(), strict=True):
        masks[symbol] |= bits.get(session, 0)
    return masks


def _own(context: RunContext, cells: pa.Table, axis: Sequence[date]) -> OwnCells:
    days: dict[str, list[date]] = defaultdict(list)
    for symbol, session in zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True):
        days[symbol].append(session)
    membership = {symbol: coalesce(sorted(own), axis) for symbol, own in days.items()}
    return OwnCells.on(list(days), sorted({day for own in days.values() for day in own}), context.calendar_of, membership)
