"""Plan: find the missing cells and the requests that fetch them. Nothing is fetched."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING

from market_data.config.run_params import RunParams
from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import ParamError
from market_data.core.messages import dollars
from market_data.core.outcome import FINAL, State
from market_data.pipeline.interrupted import interrupted
from market_data.pipeline.leftovers import active_runs, group_leftovers
from market_data.pipeline.open_cells import OwnCells
from market_data.pipeline.planned import Planned
from market_data.pipeline.planner import Plan, make_plan
from market_data.pipeline.recheck import add_recheck, rechecked_sessions, rejected_rechecks
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_sessions import Wanted

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.ledger import Coverage
    from market_data.providers.base import ProviderHook


TRADING_ENDS = time(20)
"""End of extended trading, New York time."""


def plan_run(context: RunContext, hook: ProviderHook, wanted: Wanted, symbols: Sequence[str], now: datetime) -> Planned:
    """Find the missing cells and plan their requests.

    A forced or cleared run requests its own cells again. All other cells are requested only if coverage has no state for them.
    Scheduled runs also request recent cells again that are pending, quarantined or refused, suspected gaps that are due, and cells of
    which a recheck was rejected.

    :raises ParamError: if the history of the provider's plan is too short, or the work or its cost exceeds the limit of a run.
    :raises ProviderError: if the provider does not report the cost of requests that it charges for, or cannot expand a symbol.
    """
    from market_data.lake.ledger import read_coverage
    from market_data.pipeline.gaps import due_gaps

    check_history(context.feed.dataset, context.params, hook, wanted)
    capabilities = hook.capabilities(context.feed.dataset)
    start = capabilities.history_start
    wished = [s for s in (*wanted.lookback, *wanted.own) if not start or s >= start]
    pending = tuple(s for s in wished if max(_over(s, context.dataset), _available(s, capabilities.available_after)) > now)
    sessions = tuple(s for s in wished if s not in pending)
    if sessions:
        symbols = hook.expand(symbols, sessions[0], sessions[-1])
    scheduled = context.run.run_type == "scheduled"
    coverage = read_coverage(context.lake, context.feed.dataset, context.source)
    first = sessions[0] if sessions else now.date()

    def wished_again(found: Mapping[date, Sequence[str]]) -> dict[date, set[str]]:
        # Sessions that the lookback leaves out belong to active runs.
        return {s: {*found[s]} for s in found if s in sessions or (s < first and (not start or s >= start))}

    rejected = wished_again(rejected_rechecks(context, hook, coverage, symbols, sessions[-1])) if scheduled and sessions else {}
    gaps = wished_again(due_gaps(coverage, symbols, now)) if scheduled and sessions else {}
    due = {session: gaps.get(session, set()) | rejected.get(session, set()) for session in (*gaps, *rejected)}
    if due and min(due) < first:  # intervals extend over the dates between neighbours: no session may be left out between them
        sessions = (*calendar.sessions(min(due), sessions[0]), *sessions)
    bits = {session: 1 << bit for bit, session in enumerate(sessions)}
    everything = sum(bits[session] for session in wished if session in bits)
    covered = _covered(coverage, symbols, sessions, scheduled=scheduled, settled=context.settled(now))
    covered, at_work = _with_staged(covered, _staged(context, sessions), everything)
    refetch = context.params.force or context.run.clear_number > 0
    again = sum(bits.get(session, 0) for session in wanted.own) if refetch else 0
    missing = {symbol: everything & (~covered.get(symbol, 0) | again) for symbol in symbols}
    for session, names in due.items():
        for symbol in names:
            missing[symbol] |= bits[session]

    def plan_with(
        file_grain: str,
        endpoint: str,
        cells: Mapping[str, int] = missing,
        axis: Sequence[date] = sessions,
        again: bool = refetch or bool(rejected),
    ) -> Plan:
        size, dataset = context.params.batch_size, context.feed.dataset
        return make_plan(
            dataset, cells, axis, capabilities, batch_size=size, endpoint=endpoint, file_grain=file_grain, refetch=again, now=now,
        )  # fmt: skip

    plan = plan_with(context.params.file_grain, context.params.endpoint)
    older = sum(len(names) for session, names in due.items() if session < first)
    covered_cells = len(symbols) * everything.bit_count() - (plan.cells - older)
    rechecked = rechecked_sessions(context, hook, wanted.own, start)
    make = partial(plan_with, context.params.file_grain, context.params.endpoint)
    plan, axis = add_recheck(plan, missing, sessions, rechecked, coverage, make)
    cheaper = plan.calls
    if context.params.file_grain != "day":
        with contextlib.suppress(ParamError):  # too many calls for one run: then there is nothing to recommend
            cheaper = plan_with("day", "auto").calls
    left = {symbol: everything & ~mask for symbol, mask in missing.items()}
    doubtful = {str(state): _count(coverage, left, sessions, state) for state in (State.PENDING, State.QUARANTINED, State.REFUSED)}
    doubtful = {state: count for state, count in doubtful.items() if count}
    cost, cap = _cost(hook, [request for batch in plan.batches for request in batch.requests(axis)], context.params)
    own = OwnCells(tuple(symbols), wanted.own)
    return Planned(
        plan,
        tuple(session for session in sessions if bits[session] & everything),
        len(symbols),
        covered_cells,
        pending,
        doubtful,
        wanted.dates,
        cheaper,
        cost,
        staged=at_work.pop(None, 0),
        at_work=at_work,
        waiting=_waiting(context) if context.params.dry_run else None,
        exceeded_cap=cap,
        gaps=sum(map(len, gaps.values())),
        rejected=sum(map(len, rejected.values())),
        own=own,
        standing=_standing(context, coverage, OwnCells(own.symbols, tuple(s for s in own.sessions if s not in pending)), now),
    )


def _standing(context: RunContext, coverage: Coverage, own: OwnCells, now: datetime) -> dict[str, list[str]]:
    """Return the sentences on open cells before the run: the verdict of a run with nothing to do."""
    from market_data.pipeline.examine import examine
    from market_data.pipeline.verdict import WARNED, open_red, open_warnings

    findings = examine(context, coverage, own, now)
    warnings = [*open_warnings(context, findings), *coverage.unreadable[:WARNED]]
    return {"red": open_red(context, findings), "warnings": warnings}


def _cost(hook: ProviderHook, requests: Sequence[Request], params: RunParams) -> tuple[float | None, float | None]:
    """Return the charge in US dollars, and the limit ``max_cost_usd`` of a dry run that would exceed it.

    Each may be None.

    :raises ParamError: if the cost of a run that is not a dry run exceeds the limit.
    """
    cost = hook.cost(requests) if requests else None
    cap = hook.option("max_cost_usd") if "max_cost_usd" in hook.known_options else None
    if cost is None or cap is None or cost <= cap:
        return cost, None
    if params.dry_run:
        return cost, cap
    raise ParamError(
        [f"max_cost_usd is {cap:g}; the run would cost {dollars(cost)}: request fewer symbols or dates, or raise the limit"]
    )


def _count(coverage: Coverage, left: Mapping[str, int], sessions: Sequence[date], state: State) -> int:
    """Count the cells in ``state`` among those that are not requested (``left``)."""
    found = coverage.covered(list(left), sessions, states={state})
    return sum((mask & found[symbol]).bit_count() for symbol, mask in left.items())


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


def _staged(context: RunContext, sessions: Sequence[date]) -> dict[str | None, dict[str, int]]:
    """Return the cells in staging: fetched, not loaded, not requested again.

    :return: id of the active run that will load them, None for those that this run loads -> symbol -> mask of sessions.
    """
    from market_data.lake import staging

    waiting = staging.waiting(context.lake, context.feed.dataset, context.source)
    if not waiting or not sessions:
        return {}
    bits = {session: 1 << bit for bit, session in enumerate(sessions)}
    infos = staging.describe(context.lake, waiting)[0].values()
    active = active_runs(context, [info.run for info in infos])
    masks: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for info in infos:
        found = masks[info.run.run_id if (info.run.dag_id, info.run.run_id) in active else None]
        for run in info.receipt.cells:
            if run.state in (State.HAVE, State.EMPTY):
                mask = sum(bits.get(session, 0) for session in calendar.sessions_in(run.intervals))
                for symbol in run.symbols:
                    found[symbol] |= mask
    return masks


def _waiting(context: RunContext) -> dict[str, int]:
    """Return id of an ended run -> number of its requests that are not loaded.

    They wait in staging, or a worker was killed before it staged their rows.
    """
    from market_data.lake import staging

    found = Counter[str]()
    infos, _ = staging.describe(context.lake, staging.waiting(context.lake, context.feed.dataset, context.source))
    for group in group_leftovers(context, infos):
        found[group.run.run_id] += len(group.infos)
    found.update(info.run.run_id for info in interrupted(context).values())
    return dict(found)


def _with_staged(
    covered: dict[str, int], staged: Mapping[str | None, Mapping[str, int]], wished: int
) -> tuple[dict[str, int], dict[str | None, int]]:
    """Return covered and staged cells, and how many of ``wished`` each run of ``_staged`` adds."""
    counts: dict[str | None, int] = {}
    for run_id, masks in staged.items():
        count = sum((mask & ~covered[symbol] & wished).bit_count() for symbol, mask in masks.items() if symbol in covered)
        covered = {symbol: mask | masks.get(symbol, 0) for symbol, mask in covered.items()}
        if count:
            counts[run_id] = count
    return covered, counts


def _over(session: date, dataset: Dataset) -> datetime:
    """Return the close of a session, or the end of extended trading for datasets that follow trades."""
    return calendar.at(session, TRADING_ENDS) if dataset.follows_trading else calendar.session_close(session)


def _available(session: date, after: float) -> datetime:
    return datetime(session.year, session.month, session.day, tzinfo=UTC) + timedelta(seconds=after)


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
