"""Recheck: scheduled runs request recent sessions again that they have, to find restated values."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

from market_data.config.run_params import RECHECK_SESSIONS
from market_data.core.calendar import DAY, XNYS, Calendar, sessions_of_any
from market_data.core.errors import ParamError
from market_data.core.instruments import by_calendar
from market_data.core.membership import Membership, member_sessions
from market_data.core.outcome import EARLIER_VALUE, State
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.pipeline.planner import Plan
    from market_data.providers.base import ProviderHook

REPEATED = 7
"""Sessions for which a rejected recheck is repeated by each scheduled run."""

log = logging.getLogger(__name__)

MakePlan = Callable[[Mapping[str, int], Sequence[date], bool], "Plan"]
"""Returns the plan for the missing cells (symbol -> mask) over sessions; the last argument is ``refetch``."""


def is_charged(hook: ProviderHook) -> bool:
    """Return true if the provider charges for single requests."""
    from market_data.providers.base import ProviderHook

    return type(hook).cost is not ProviderHook.cost


def recheck_count(context: RunContext, hook: ProviderHook) -> int:
    """Return how many sessions before their own scheduled runs request again."""
    count = context.params.recheck_sessions
    if count is None:
        return 0 if is_charged(hook) else RECHECK_SESSIONS
    return count


def rejected_rechecks(
    context: RunContext, hook: ProviderHook, coverage: Coverage, symbols: Sequence[str], last: date
) -> dict[date, list[str]]:
    """Return session -> symbols of recent cells with an earlier value and a rejected response.

    Rejected means refused or quarantined. A scheduled run requests them again until the provider is right again, or they are
    ``REPEATED`` sessions older than those that it rechecks. With ``file_grain=year`` one bad value refuses a symbol's year, so that all
    its refused cells are among them.

    :param last: the last session of the run.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = recheck_count(context, hook)
    if not count:
        return {}
    first = min(calendar.recent_sessions(last, count + REPEATED + 1)[0] for calendar in by_calendar(symbols, context.calendar_of))
    table = coverage.table
    inside = pc.and_(pc.greater_equal(table["session"], first), pc.less_equal(table["session"], last))
    found = table.filter(pc.and_(inside, pc.is_in(table["symbol"].cast(pa.string()), pa.array(list(symbols), pa.string()))))
    states = found["state"].cast(pa.string())
    held = pc.is_in(states, pa.array([str(State.REFUSED), str(State.QUARANTINED)]))
    rejected = pc.and_(held, pc.ends_with(found["reason"].cast(pa.string()), EARLIER_VALUE))
    if context.params.file_grain == "year":
        rejected = pc.or_(rejected, pc.equal(states, str(State.REFUSED)))
    found = found.filter(rejected)
    cells: dict[date, list[str]] = defaultdict(list)
    for symbol, session in zip(found["symbol"].to_pylist(), found["session"].to_pylist(), strict=True):
        cells[session].append(symbol)
    return dict(cells)


def rechecked_sessions(
    context: RunContext, hook: ProviderHook, own: Sequence[date], start: date | None, calendars: Iterable[Calendar] = (XNYS,)
) -> tuple[date, ...]:
    """Return the last sessions before the run's own that it may request again, ascending.

    Only scheduled runs recheck. A forced or cleared run requests its own sessions and no others.

    :param own: sessions of the run, ascending.
    :param start: first session that the provider's plan has; None: all.
    :param calendars: those of the run's symbols.
    """
    refetch = context.params.force or context.run.clear_number > 0
    if context.run.run_type != "scheduled" or refetch or not own:
        return ()
    count = recheck_count(context, hook)
    found = {session for one in calendars for session in one.recent_sessions(own[0] - DAY, count)} if count else set()
    return tuple(session for session in sorted(found) if start is None or session >= start)


def add_recheck(
    plan: Plan,
    missing: Mapping[str, int],
    sessions: Sequence[date],
    rechecked: Sequence[date],
    coverage: Coverage,
    make: MakePlan,
    calendars: Collection[Calendar] = (XNYS,),
    membership: Membership = MappingProxyType({}),
) -> Plan:
    """Add loaded cells of ``rechecked`` to a plan, if that costs at most one more call per session.

    A market-wide endpoint takes one more call per session. Endpoints for ranges of dates return them in the same call.

    :param plan: the plan for ``missing``.
    :param missing: symbol -> bit mask of missing cells over ``sessions``.
    :param calendars: those of the run's symbols.
    :param membership: dates on which a symbol may be requested; all dates for a symbol that is left out.
    """
    if not rechecked or not sessions:
        return plan
    # Intervals extend over the dates between neighbours: no session may be left out in between.
    axis = sessions_of_any(calendars, min(rechecked[0], sessions[0]), sessions[0]) + tuple(sessions)
    have = coverage.covered(list(missing), axis, states={State.HAVE, State.RELEASED})
    wanted = sum(1 << bit for bit, session in enumerate(axis) if session in set(rechecked))
    shift = len(axis) - len(sessions)
    members = member_sessions(missing, axis, membership)
    every = {symbol: mask << shift | have[symbol] & members[symbol] & wanted for symbol, mask in missing.items()}
    if all(mask == missing[symbol] << shift for symbol, mask in every.items()):
        return plan
    try:
        more = make(every, axis, True)
    except ParamError as error:
        log.info("sessions from %s are not rechecked: %s", rechecked[0], error)
        return plan
    extra = more.calls - plan.calls
    if extra > len(rechecked):
        log.info("%d sessions from %s are not rechecked: %d more calls", len(rechecked), rechecked[0], extra)
        return plan
    log.info("%d sessions from %s are rechecked with %d more calls", len(rechecked), rechecked[0], max(0, extra))
    return more
