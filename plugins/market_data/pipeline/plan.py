"""Plan: find the missing cells and the requests that fetch them. Nothing is fetched."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial, reduce
from operator import or_
from types import MappingProxyType
from typing import TYPE_CHECKING

from market_data.config.run_params import RunParams
from market_data.core.batch import Request
from market_data.core.calendar import Calendar, sessions_of_any
from market_data.core.errors import ParamError
from market_data.core.instruments import by_calendar
from market_data.core.intervals import Interval, IntervalSet, intersection, union
from market_data.core.membership import EVER, Membership, changes, is_member, member_sessions
from market_data.core.messages import dollars, shortened
from market_data.core.outcome import FINAL, State
from market_data.pipeline.known_lives import KnownLives
from market_data.pipeline.open_cells import OwnCells
from market_data.pipeline.plan_by_calendar import plan_by_calendar
from market_data.pipeline.plan_staged import find_waiting, staged_masks, with_staged
from market_data.pipeline.planned import Planned
from market_data.pipeline.planner import Plan, make_plan
from market_data.pipeline.recheck import add_recheck, rechecked_sessions
from market_data.pipeline.requested_again import requested_again
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_records import LedgerRecords
from market_data.pipeline.run_sessions import Wanted

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.coverage import Coverage
    from market_data.providers.base import ProviderHook


BEFORE = timedelta(days=200)
"""Dates before a scheduled run's sessions in which it may request suspected gaps and rejected rechecks again, with a margin."""


def plan_run(
    context: RunContext,
    hook: ProviderHook,
    wanted: Wanted,
    symbols: Sequence[str],
    now: datetime,
    membership: Membership = MappingProxyType({}),
    coverage: Coverage | None = None,
) -> Planned:
    """Find the missing cells and plan their requests.

    A forced or cleared run requests its own cells again. All other cells are requested only if coverage has no state for them.
    Scheduled runs also request recent cells again that are pending, quarantined or refused, suspected gaps that are due, and cells of
    which a recheck was rejected. Likewise cells of sessions that the provider has issued again, unless that exceeds ``max_cost_usd``.

    :param symbols: all symbols of the universe, whenever they are members.
    :param membership: the cells of a symbol are the sessions on these dates; all sessions for a symbol that is left out.
    :param coverage: of the run's source; None: it is read from the lake.
    :raises ParamError: if a symbol cannot be requested, or the universe has ended before the run's sessions. If the history of the
        provider's plan is too short, or the work or its cost exceeds the limit of a run.
    :raises ProviderError: if the provider does not report the cost of requests that it charges for, or cannot expand a symbol.
    """
    try:
        return _plan(context, hook, wanted, symbols, now, membership, coverage)
    except CostAboveCap:
        return _plan(context, hook, wanted, symbols, now, membership, coverage, with_reissued=False)


class CostAboveCap(ParamError):
    """The cost exceeds ``max_cost_usd``."""


def _plan(
    context: RunContext,
    hook: ProviderHook,
    wanted: Wanted,
    symbols: Sequence[str],
    now: datetime,
    membership: Membership,
    coverage: Coverage | None,
    *,
    with_reissued: bool = True,
) -> Planned:
    """Plan a run, with or without the sessions that the provider has issued again.

    :raises CostAboveCap: if the cost exceeds the limit.
    """
    check_history(context.feed.dataset, context.params, hook, wanted)
    hook.records = LedgerRecords(context, KnownLives(context))
    capabilities = hook.capabilities(context.feed.dataset)
    start = capabilities.history_start
    universe, scheduled = symbols, context.run.run_type == "scheduled"
    symbols = _members_near(symbols, wanted, membership, before=BEFORE if scheduled else timedelta())
    check_spelling(hook, symbols, chosen=bool(context.params.symbols))
    wished = [s for s in (*wanted.lookback, *wanted.own) if not start or s >= start]
    groups = by_calendar(symbols, context.calendar_of)
    ready = partial(ready_sessions, wished, context.dataset, capabilities.available_after, now)
    over = {calendar: ready(calendar) for calendar in groups}
    pending, sessions = pending_and_over(wished, over)
    if sessions:
        symbols, membership = _expanded(hook, symbols, sessions, membership)
        groups = by_calendar(symbols, context.calendar_of)
    coverage = _coverage(context) if coverage is None else coverage
    first = sessions[0] if sessions else now.date()

    kept = partial(_wished_again, sessions=sessions, before=first, start=start, membership=membership)
    once_more = requested_again(context, hook, coverage, symbols, sessions, now, kept)
    once_more = once_more if with_reissued else once_more.without_reissued()
    due = once_more.cells
    if due and min(due) < first:  # intervals extend over the dates between neighbours: no session may be left out between them
        sessions = (*sessions_of_any(groups, min(due), sessions[0]), *sessions)
    bits = {session: 1 << bit for bit, session in enumerate(sessions)}
    wished_bits = {one: sum(bits.get(session, 0) for session in over.get(one) or ready(one)) for one in groups}
    members = member_sessions(symbols, sessions, membership)
    everything = {name: wished_bits[one] & members[name] for one, names in groups.items() for name in names}
    covered = {
        name: mask
        for one, names in groups.items()
        for name, mask in _covered(coverage, names, sessions, scheduled=scheduled, settled=context.settled(now, one)).items()
    }
    covered, staged = with_staged(covered, staged_masks(context, sessions), everything)
    refetch = context.params.force or context.run.clear_number > 0
    again = sum(bits.get(session, 0) for session in wanted.own) if refetch else 0
    missing = {symbol: everything[symbol] & (~covered.get(symbol, 0) | again) for symbol in symbols}
    for session, names in due.items():
        for symbol in names:
            missing[symbol] |= bits[session]

    stored = refetch or once_more.refetch or _may_be_stored(coverage, missing, bits)

    def plan_with(
        file_grain: str,
        endpoint: str,
        cells: Mapping[str, int] = missing,
        axis: Sequence[date] = sessions,
        again: bool = stored,
    ) -> Plan:
        def make(missing: Mapping[str, int], days: Sequence[date]) -> Plan:
            return make_plan(
                context.feed.dataset, missing, days, capabilities, batch_size=context.params.batch_size, endpoint=endpoint,
                file_grain=file_grain, refetch=again, now=now,
                members=member_sessions([symbol for symbol in membership if symbol in missing], days, membership),
            )  # fmt: skip

        return plan_by_calendar(cells, axis, capabilities, context.calendar_of, make).counted(hook.calls_of, capabilities.quota)

    plan = plan_with(context.params.file_grain, context.params.endpoint)
    covered_cells = _total(everything) - plan.cells + sum(len(names) for session, names in due.items() if session < first)
    rechecked = rechecked_sessions(context, hook, wanted.own, start, groups)
    plan = add_recheck(
        plan, missing, sessions, rechecked, coverage, partial(plan_with, context.params.file_grain, context.params.endpoint), groups,
        membership,
    )  # fmt: skip
    cheaper = plan.calls
    if context.params.file_grain == "year":
        with contextlib.suppress(ParamError):  # too many calls for one run: then there is nothing to recommend
            cheaper = plan_with("day", "auto").calls
    left = {symbol: everything[symbol] & ~mask for symbol, mask in missing.items()}
    doubtful = {str(state): _count(coverage, left, sessions, state) for state in (State.PENDING, State.QUARANTINED, State.REFUSED)}
    doubtful = {state: count for state, count in doubtful.items() if count}
    cost, cap = cost_of(hook, [request for batch in plan.batches for request in batch.requests(batch.sessions)], context.params)
    own = OwnCells.on(symbols, wanted.own, context.calendar_of, membership)
    return Planned(
        plan,
        tuple(session for session in sessions if bits[session] & reduce(or_, wished_bits.values(), 0)),
        sum(map(bool, everything.values())) if membership else len(symbols),
        covered_cells,
        pending,
        doubtful,
        wanted.dates,
        cheaper,
        cost,
        staged=staged,
        waiting=find_waiting(context) if context.params.dry_run else None,
        exceeded_cap=cap,
        gaps=sum(map(len, once_more.gaps.values())),
        rejected=sum(map(len, once_more.rejected.values())),
        reissued=sum(map(len, once_more.reissued.values())),
        reissued_sessions=tuple(sorted(once_more.conditions.reissued)),
        conditions=once_more.conditions.sentences(requested=refetch or bool(once_more.reissued)),
        own=own,
        calendars=tuple(groups),
        changes=changes(dict.fromkeys((*universe, *symbols)), wanted.own, membership),
        standing=standing_of(context, coverage, replace(own, sessions=tuple(s for s in own.sessions if s not in pending)), now),
    )


def _coverage(context: RunContext) -> Coverage:
    from market_data.lake.ledger import read_coverage

    return read_coverage(context.lake, context.feed.dataset, context.source)


def _members_near(symbols: Sequence[str], wanted: Wanted, membership: Membership, before: timedelta) -> tuple[str, ...]:
    """Return the symbols that are members on a date of the run's sessions, or of the time ``before``.

    :raises ParamError: if the last member has left before.
    """
    days = (*wanted.lookback, *wanted.own)
    if not membership or not days:
        return tuple(symbols)
    span = Interval(days[0] - before, days[-1] + timedelta(days=1))
    near = tuple(s for s in symbols if s not in membership or intersection(membership[s], (span,)))
    ends = [one.end for symbol in symbols for one in membership.get(symbol, EVER)]
    if not near and max(ends) <= span.start:
        raise ParamError([f"the universe has no members from {days[0]} on: the last one was removed on {max(ends)}"])
    return near


def _wished_again(
    found: Mapping[date, Sequence[str]], *, sessions: Sequence[date], before: date, start: date | None, membership: Membership
) -> dict[date, set[str]]:
    """Return the cells of members in ``sessions``, and in those ``before`` and from ``start`` on."""
    # Sessions that the lookback leaves out belong to active runs.
    again = {s: names for s, names in found.items() if s in sessions or (s < before and (not start or s >= start))}
    members = {s: {symbol for symbol in names if is_member(membership, symbol, s)} for s, names in again.items()}
    return {s: names for s, names in members.items() if names}


def _expanded(
    hook: ProviderHook, symbols: Sequence[str], sessions: Sequence[date], membership: Membership
) -> tuple[tuple[str, ...], Membership]:
    """Return the symbols that rows carry, and their membership: that of the symbol that was expanded."""
    if not membership:
        return hook.expand(symbols, sessions[0], sessions[-1]), membership
    groups: dict[IntervalSet, list[str]] = defaultdict(list)
    for symbol in symbols:
        groups[membership.get(symbol, EVER)].append(symbol)
    spans: dict[str, list[Interval]] = {}
    for dates, names in groups.items():
        inside = [session for session in sessions if any(session in one for one in dates)]
        found = hook.expand(names, inside[0], inside[-1]) if inside else names
        for name in found:
            spans.setdefault(name, []).extend(dates)
    expanded = {name: union(dates) for name, dates in spans.items()}
    order = symbols if expanded.keys() == {*symbols} else expanded
    return tuple(order), {**membership, **{name: dates for name, dates in expanded.items() if dates != EVER}}


def standing_of(context: RunContext, coverage: Coverage, own: OwnCells, now: datetime) -> dict[str, list[str]]:
    """Return the sentences on open cells before the run: the verdict of a run with nothing to do."""
    from market_data.pipeline.examine import examine
    from market_data.pipeline.verdict import WARNED, open_red, open_warnings

    findings = examine(context, coverage, own, now)
    warnings = [*open_warnings(context, findings), *coverage.unreadable[:WARNED]]
    return {"red": open_red(context, findings), "warnings": warnings}


def cost_of(hook: ProviderHook, requests: Sequence[Request], params: RunParams) -> tuple[float | None, float | None]:
    """Return the charge in US dollars, and the limit ``max_cost_usd`` of a dry run that would exceed it.

    Each may be None.

    :raises CostAboveCap: if the cost of a run that is not a dry run exceeds the limit.
    """
    cost = hook.cost(requests) if requests else None
    cap = hook.option("max_cost_usd") if "max_cost_usd" in hook.known_options else None
    if cost is None or cap is None or cost <= cap:
        return cost, None
    if params.dry_run:
        return cost, cap
    raise CostAboveCap(
        [f"max_cost_usd is {cap:g}; the run would cost {dollars(cost)}: request fewer symbols or dates, or raise the limit"]
    )


def _total(masks: Mapping[str, int]) -> int:
    return sum(mask.bit_count() for mask in masks.values())


def _count(coverage: Coverage, left: Mapping[str, int], sessions: Sequence[date], state: State) -> int:
    """Count the cells in ``state`` among those that are not requested (``left``)."""
    found = coverage.covered(list(left), sessions, states={state})
    return sum((mask & found[symbol]).bit_count() for symbol, mask in left.items())


def _may_be_stored(coverage: Coverage, missing: Mapping[str, int], bits: Mapping[date, int]) -> bool:
    """Return true if the lake may have rows of the ``missing`` cells, in files of any grain.

    A person has reset them, their rows were rejected, or what recorded them cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    symbols = [symbol for symbol, mask in missing.items() if mask]
    rejected = coverage.covered(symbols, list(bits), states={State.QUARANTINED, State.REFUSED})
    if (coverage.broken and symbols) or any(mask & missing[symbol] for symbol, mask in rejected.items()):
        return True
    reset = coverage.reset
    reset = reset.filter(pc.is_in(reset["symbol"].cast(pa.string()), pa.array(symbols, pa.string())))
    cells = zip(reset["symbol"].to_pylist(), reset["session"].to_pylist(), strict=True)
    return any(missing[symbol] & bits.get(session, 0) for symbol, session in cells)


def _covered(
    coverage: Coverage, symbols: Sequence[str], sessions: Sequence[date], *, scheduled: bool, settled: date
) -> dict[str, int]:
    """Return the cells with a state, which need not be requested, as a mask per symbol.

    A scheduled run requests recent cells again unless they are final. Any run requests ``pending`` cells again whose session is final.
    """
    recent = sum(1 << bit for bit, session in enumerate(sessions) if session > settled)
    final = coverage.covered(symbols, sessions, states=FINAL)
    bad = coverage.covered(symbols, sessions, states=set(State) - FINAL - {State.PENDING})
    pending = {} if scheduled else coverage.covered(symbols, sessions, states={State.PENDING})
    kept = ~recent if scheduled else -1
    return {symbol: mask | bad[symbol] & kept | pending.get(symbol, 0) & recent for symbol, mask in final.items()}


def ready_sessions(
    wished: Sequence[date], dataset: Dataset, available_after: float, now: datetime, calendar: Calendar
) -> frozenset[date]:
    """Return the sessions of ``calendar`` among ``wished`` that are over and available."""
    return frozenset(s for s in calendar.among(wished) if max(_over(s, dataset, calendar), _available(s, available_after)) <= now)


def pending_and_over(
    wished: Sequence[date], over: Mapping[Calendar, Collection[date]]
) -> tuple[tuple[date, ...], tuple[date, ...]]:
    """Return the sessions for which some calendar has to wait, and those that are over for at least one."""
    done = {session for days in over.values() for session in days}
    later = {session for calendar, days in over.items() for session in calendar.among(wished) if session not in days}
    return tuple(s for s in wished if s in later), tuple(s for s in wished if s in done)


def _over(session: date, dataset: Dataset, calendar: Calendar) -> datetime:
    """Return the close of a session, or the end of extended trading for datasets that follow trades."""
    return calendar.trading_end(session) if dataset.follows_trading else calendar.session_close(session)


def _available(session: date, after: float) -> datetime:
    return datetime(session.year, session.month, session.day, tzinfo=UTC) + timedelta(seconds=after)


def check_spelling(hook: ProviderHook, symbols: Sequence[str], *, chosen: bool) -> None:
    """Check that the provider has a name of its own for each symbol.

    :param chosen: the symbols were given for this run. In a file or universe, a symbol without a name does not end the run: it is
        reported as refused when its request comes, and the others are fetched.
    :raises ParamError: names each symbol without a name, and each that shares its name with another.
    """
    from market_data.providers.translation import vendor_names

    found = vendor_names(hook, symbols)
    problems = [*found.shared.values(), *(found.unknown.values() if chosen or not found.symbols else ())]
    if problems:
        raise ParamError(shortened([f"symbols: {problem}" for problem in problems]))


def check_history(dataset: str, params: RunParams, hook: ProviderHook, wanted: Wanted) -> None:
    """Check that the history of the provider's plan covers the run's own sessions.

    :raises ParamError: if it does not; the message has the plan and its first date.
    """
    start = hook.capabilities(dataset).history_start
    if not start or not wanted.own or wanted.own[0] >= start:
        return
    if params.start_date:
        problem = f"start_date is {params.start_date}"
    elif params.backfill_days:
        problem = f"backfill_days is {params.backfill_days}, back to {wanted.own[0]}"
    else:
        problem = f"the run's session is {wanted.own[0]}"
    plan = hook.config.extra.get("plan", hook.default_plan)
    raise ParamError([f"{problem}; the plan {plan!r} of connection {hook.config.conn_id!r} has sessions from {start} on"])
