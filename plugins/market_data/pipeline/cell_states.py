"""Decide the state of every cell of a request, by what its response brought and what is in the lake."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.batch import Request
from market_data.core.calendar import Calendar
from market_data.core.intervals import IntervalSet, closed, coalesce
from market_data.core.outcome import MAY_BE_MORE, NOTHING_YET, SOME_QUARANTINED, State
from market_data.pipeline.landing import Written

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.receipts import CellRun

NOTHING = "the provider has nothing"
NOTHING_AT_ALL = f"{NOTHING} in the whole span: not listed, or unknown to it"
"""Reasons of ``empty`` cells."""


def cells_of_request(
    dataset: Dataset,
    request: Request,
    symbols: Sequence[str],
    written: Written,
    settled: date,
    reported: dict[date, tuple[State, str]],
    unproved: Mapping[str, str],
    doubted: Mapping[str, str],
) -> tuple[CellRun, ...]:
    """Return the state of every cell of a request that has one.

    :param symbols: the symbols that the provider did not refuse.
    :param settled: the last final session: the vendor does not add rows to it any more.
    :param reported: session -> state and reason that the provider reported.
    :param unproved: symbols whose cells without rows are not known to be empty.
    :param doubted: see ``AbsenceCheck.check_rows``.
    """
    from market_data.lake.receipts import CellRun

    alike: dict[tuple[State, str, bool, IntervalSet], list[str]] = defaultdict(list)
    axis = axis_of(request.sessions, request.calendar)
    chosen = set(symbols)
    own = [(symbol, block) for block in request.blocks for symbol in block.symbols if symbol in chosen]
    days_of = {block.intervals: block.sessions for _, block in own}
    all_of = {intervals: frozenset(sessions) for intervals, sessions in days_of.items()}
    for symbol, block in own:
        sessions = days_of[block.intervals]
        if sessions and sessions[-1] <= settled and _is_whole(written, symbol, all_of[block.intervals]):
            alike[State.HAVE, "", True, coalesce(sessions, axis)].append(symbol)
            continue
        known = dict.fromkeys(sessions if symbol in doubted else (), (State.PENDING, doubted.get(symbol, ""))) | reported
        states = _states(dataset, symbol, sessions, written, settled, known, unproved)
        for (state, reason, there), days in states.items():
            alike[state, reason, there, coalesce(days, axis)].append(symbol)
    name = request.calendar_name
    return tuple(CellRun(tuple(names), *kind[:2], kind[3], kind[2], name) for kind, names in alike.items())


def _states(
    dataset: Dataset,
    symbol: str,
    sessions: Sequence[date],
    written: Written,
    settled: date,
    known: Mapping[date, tuple[State, str]],
    unproved: Mapping[str, str],
) -> dict[tuple[State, str, bool], list[date]]:
    """Return the sessions of a symbol by their state, its reason, and true if the cell has rows.

    The other params are those of ``cells_of_request``.

    :param known: session -> state and reason without rows.
    """
    later = f"requested again until {dataset.settle_sessions} sessions later"
    states: dict[tuple[State, str, bool], list[date]] = defaultdict(list)
    have, quarantined = written.have.get(symbol, ()), written.quarantined.get(symbol, ())
    for session in sessions:
        recent, there = session > settled, session in have
        if session in quarantined:
            state, reason = State.QUARANTINED, SOME_QUARANTINED if there else "the gate rejected the row"
        elif there and recent and dataset.grows:
            state, reason = State.PENDING, f"{MAY_BE_MORE}; {later}"
        elif there:
            state, reason = State.HAVE, ""
        elif session in known:
            state, reason = known[session]
        elif recent:
            state, reason = State.PENDING, f"{NOTHING_YET}; {later}"
        elif symbol in unproved:
            continue
        else:
            state, reason = State.EMPTY, NOTHING if have or quarantined else NOTHING_AT_ALL
        state, reason = _unless_confirmed(written, (symbol, session), (state, reason))
        states[state, reason, there].append(session)
    return states


def _is_whole(written: Written, symbol: str, sessions: frozenset[date]) -> bool:
    """Return true if the lake has rows of a symbol in all ``sessions``, and none was rejected."""
    return not written.confirmed and symbol not in written.quarantined and sessions <= written.have.get(symbol, set())


def _unless_confirmed(written: Written, cell: tuple[str, date], found: tuple[State, str]) -> tuple[State, str]:
    """Return the state and reason of a cell whose rejected rows are confirmed to be wrong; else ``found``."""
    symbol, session = cell
    if cell not in written.confirmed or found[0] is State.QUARANTINED:
        return found
    return (State.HAVE if session in written.have.get(symbol, ()) else State.EMPTY, written.confirmed[cell])


def without_state(
    request: Request, symbols: Sequence[str], cells: Sequence[CellRun], unproved: Mapping[str, str]
) -> dict[str, str]:
    """Return the part of ``unproved`` with cells that got no state."""
    open_cells: Counter[str] = Counter()
    for block in request.blocks if unproved else ():
        open_cells.update(dict.fromkeys(block.symbols, len(block.sessions)))
    for run in cells if unproved else ():
        open_cells.subtract(dict.fromkeys(run.symbols, run.size // len(run.symbols)))
    return {symbol: why for symbol, why in unproved.items() if symbol in symbols and open_cells[symbol] > 0}


def axis_of(sessions: Sequence[date], calendar: Calendar) -> Sequence[date]:
    """Return ``sessions`` and those in the holes between them.

    An interval over a hole would give its cells a state.
    """
    return calendar.sessions_in((closed(sessions[0], sessions[-1]),)) if sessions else ()
