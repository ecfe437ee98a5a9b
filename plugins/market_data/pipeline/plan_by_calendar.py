"""Plan symbols of several exchanges in one run: those with the same sessions together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from market_data.core.batch import Batch, spec_hash
from market_data.core.capabilities import Capabilities
from market_data.core.errors import ParamError
from market_data.core.instruments import CalendarOf, by_calendar, calendar_of
from market_data.pipeline.planner import MAX_BATCHES, Plan

MakePlan = Callable[[Mapping[str, int], Sequence[date]], Plan]
"""Returns the plan for missing cells (symbol -> mask) over sessions, as ``make_plan`` does."""


def plan_by_calendar(
    missing: Mapping[str, int], sessions: Sequence[date], capabilities: Capabilities, find: CalendarOf, make: MakePlan
) -> Plan:
    """Return the plan for the missing cells of symbols with several calendars.

    Intervals extend over the dates between two neighbours. So symbols with the same sessions are planned together, over these only:
    a holiday on which others trade does not split a request for stocks.

    :param missing: symbol -> bit mask of missing cells over ``sessions``, none on a day without a session of the symbol.
    :param sessions: the sessions of all symbols.
    :param find: returns a symbol's calendar.
    :raises ParamError: if the plan has too many batches.
    """
    days: dict[tuple[date, ...], list[str]] = {}
    for calendar, symbols in by_calendar(missing, find).items():
        days.setdefault(calendar.among(sessions), []).extend(symbols)
    if [*days] in ([], [tuple(sessions)]):
        return _named(make(missing, sessions), find)
    batches: list[Batch] = []
    for own, symbols in days.items():
        inside = set(own)
        places = [place for place, session in enumerate(sessions) if session in inside]
        # Most symbols miss the same sessions.
        own_masks = {
            mask: sum((mask >> place & 1) << bit for bit, place in enumerate(places))
            for mask in {missing[name] for name in symbols}
        }
        masks = {name: own_masks[missing[name]] for name in symbols}
        if any(masks.values()):
            batches += _named(make(masks, own), find).batches
    if len(batches) > MAX_BATCHES:
        raise ParamError([f"the run needs {len(batches):,} batches; at most {MAX_BATCHES:,} fit into one run: request fewer dates"])
    numbered = tuple(
        replace(batch, id=f"b{number:03d}-{batch.id.partition('-')[2]}", of=len(batches)) for number, batch in enumerate(batches)
    )
    return Plan(numbered, capabilities.quota.calls_per_minute(sum(batch.calls for batch in numbered)))


def _named(plan: Plan, find: CalendarOf) -> Plan:
    """Return ``plan`` with the name of the calendar in each block whose symbols do not tell it."""
    return Plan(tuple(_named_batch(batch, find) for batch in plan.batches), plan.calls_per_minute)


def _named_batch(batch: Batch, find: CalendarOf) -> Batch:
    if all(find(block.symbols[0]) is calendar_of(block.symbols[0]) for block in batch.blocks):
        return batch
    blocks = tuple(replace(block, calendar_name=find(block.symbols[0]).name) for block in batch.blocks)
    number = batch.id.partition("-")[0]
    return replace(batch, id=f"{number}-{spec_hash(batch.dataset, batch.endpoint, blocks)[:8]}", blocks=blocks)
