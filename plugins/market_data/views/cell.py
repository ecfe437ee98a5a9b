"""One cell: why it is as it is, what happens next, and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.config.symbols import symbol_problem
from market_data.core.calendar import FIRST, LAST
from market_data.core.errors import ParamError
from market_data.core.membership import is_member
from market_data.core.messages import shown
from market_data.core.outcome import SUSPECTED_GAP, State
from market_data.lake import decisions
from market_data.pipeline.gaps import next_request
from market_data.providers.registry import calendar_of_source
from market_data.views.coverage import KINDS, LETTERS, Grid
from market_data.views.run_reports import recent_reports, restatements

if TYPE_CHECKING:
    from market_data.views.places import Place
    from market_data.views.records import Records

WHY = {
    State.HAVE: "Loaded: its rows are in the lake and, if the dataset has a table, in the warehouse.",
    State.RELEASED: "Its values were held back; a person released them, and they are loaded.",
    State.EMPTY: "The provider has no rows.",
    State.PENDING: "Not final: rows may still follow.",
    State.QUARANTINED: "The gate rejected rows of it.",
    State.REFUSED: "The checkpoint rejected it: its rows are in the lake, not in the warehouse.",
}
NEXT = {
    State.HAVE: "Scheduled runs compare the last sessions again; a corrected value replaces the stored one.",
    State.RELEASED: "Nothing: it is final.",
    State.EMPTY: "Nothing: it is final.",
    State.PENDING: "Scheduled runs request it again until it is final.",
    State.QUARANTINED: "Decide on page Quality: release the rows, or confirm that they are wrong.",
    State.REFUSED: "Decide on page Quality: release its rows, or confirm that they are wrong.",
}


def cell_of(place: Place, grid: Grid, symbol: str, session: date, now: datetime) -> dict[str, Any]:
    """Return a cell for a page.

    :raises ParamError: if the symbol cannot be one, or the date is outside the calendars.
    """
    problem = symbol_problem(symbol)
    if problem and symbol not in grid.symbols:
        raise ParamError([f"symbol {shown(symbol)} {problem}"])
    if not FIRST <= session <= LAST:
        raise ParamError([f"session is {session}; {FIRST} to {LAST} are allowed"])
    records = grid.records
    row = int(records.rows_of([symbol], [session])[0, 0])
    letter = _letter(grid, symbol, session)
    kind = KINDS[LETTERS.index(letter)]
    found = {
        "symbol": symbol,
        "session": session.isoformat(),
        "letter": letter,
        "kind": kind.name,
        "history": history(records, symbol, session),
        "decisions": _decisions(place, symbol, session),
        "restatements": _restatements(place, symbol, session, now),
    }
    if row < 0:
        return {**found, "why": _why_missing(place, grid, symbol, session, letter), "reason": "", "next": _next_missing(letter)}
    record = records.record(row)
    state = State(record["state"])
    if records.suspected[row]:
        step = next_request(record["reason"])
        later = f"A scheduled run requests it again at T+{step}." if step else "No scheduled run requests it again: repair it."
        return {**found, "why": "No rows, although the symbol trades before and after.", "reason": record["reason"], "next": later}
    return {**found, "why": WHY[state], "reason": record["reason"], "next": NEXT[state]}


def history(records: Records, symbol: str, session: date) -> list[dict[str, Any]]:
    """Return the records of a cell, newest first; ``state`` in words."""
    found = [records.record(row) for row in records.history(symbol, session).tolist()]
    return [
        {
            "at": one["recorded_at"].isoformat(),
            "state": _words(one["state"], one["reason"]),
            "reason": one["reason"],
            "run_id": one["run_id"],
            "batch_id": one["batch_id"],
        }
        for one in reversed(found)
    ]


def _words(state: str | None, reason: str) -> str:
    if state is None:
        return "reset"
    return SUSPECTED_GAP if state == State.EMPTY and reason.startswith(SUSPECTED_GAP) else state


def _letter(grid: Grid, symbol: str, session: date) -> str:
    if symbol not in grid.symbols or session not in grid.sessions:
        return "."
    return LETTERS[grid.codes[grid.symbols.index(symbol), grid.sessions.index(session)]]


def _why_missing(place: Place, grid: Grid, symbol: str, session: date, letter: str) -> str:
    if letter == "m":
        return "No run has recorded it, or a person has reset it."
    if closed := calendar_of_source(place.source)(symbol).why_closed(session):
        return f"The exchange is closed: {closed}."
    universe = grid.universe
    if symbol not in universe.symbols:
        return f"{symbol} is not in {universe.name}, and no run has requested it."
    if not is_member(universe.membership, symbol, session):
        return f"{symbol} is not a member of {universe.name} on this date."
    if grid.sessions and session > grid.sessions[-1]:
        return "The session is not over, or its run is not due yet."
    return "The date is before the history of this feed begins."


def _next_missing(letter: str) -> str:
    if letter == "m":
        return "Repair it, or wait for a scheduled run if it is one of the last sessions."
    return "Nothing: no rows are expected."


def _decisions(place: Place, symbol: str, session: date) -> list[dict[str, str]]:
    """Return what people decided on values of the cell, newest first."""
    found = decisions.read(place.lake, place.selection.dataset.name, place.source)
    rows = zip(*(found.table[name].to_pylist() for name in ("symbol", "session", "number")), strict=True)
    numbers = {number for own, day, number in rows if (own, day) == (symbol, session)}
    made: Sequence[decisions.Decision] = [found.made[number] for number in sorted(numbers, reverse=True)]
    return [{"at": one.at.isoformat(), "kind": str(one.kind), "by": one.by, "reason": one.reason} for one in made]


def _restatements(place: Place, symbol: str, session: date, now: datetime) -> list[Mapping[str, Any]]:
    own = restatements(recent_reports(place.lake, now), place.selection.dataset.name, place.source)
    return [one for one in own if (one["symbol"], one["session"]) == (symbol, session.isoformat())]
