"""Find the cells that are not final: of a run, and in the older sessions of its feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch, calendar_for
from market_data.core.calendar import XNYS, Calendar, calendar, sessions_of_any
from market_data.core.instruments import CalendarOf, by_calendar
from market_data.core.intervals import Interval, IntervalSet, coalesce
from market_data.core.membership import Membership, between, is_member, member_cells, member_sessions
from market_data.core.outcome import FINAL, SUSPECTED_GAP, State

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.coverage import Coverage

WINDOW = 250
"""Older sessions in which open cells are named: about a year."""

BEFORE = timedelta(days=WINDOW * 7 // 5 + 35)
"""Calendar days that hold at least ``WINDOW`` sessions."""

KINDS = (str(State.PENDING), str(State.QUARANTINED), str(State.REFUSED), SUSPECTED_GAP)


@dataclass(frozen=True)
class OwnCells:
    """The cells of a run: ``symbols`` x ``sessions``, with covered cells, without the lookback.

    :param sessions: those of at least one symbol; a symbol has cells in the sessions of its own calendar.
    :param calendars: name -> its symbols, of all calendars other than XNYS.
    :param membership: dates on which a symbol belongs to the universe; all dates for a symbol that is left out.
    """

    symbols: tuple[str, ...]
    sessions: tuple[date, ...]
    calendars: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    membership: Membership = field(default_factory=dict)

    @classmethod
    def on(
        cls,
        symbols: Sequence[str],
        sessions: Sequence[date],
        find: CalendarOf,
        membership: Membership = MappingProxyType({}),
    ) -> OwnCells:
        """Return the cells of ``symbols`` in the ``sessions`` that their calendars have, see `calendar_of`.

        Symbols that are no member in any of them are left out.
        """
        if membership and sessions:
            members = member_sessions(symbols, sessions, membership)
            symbols = [symbol for symbol in symbols if members[symbol]]
            # For older sessions, membership is needed for a while before.
            membership = between(membership, Interval(sessions[0] - BEFORE, sessions[-1] + timedelta(days=1)))
            membership = {symbol: membership[symbol] for symbol in symbols if symbol in membership}
        groups = by_calendar(symbols, find)
        named = {one.name: tuple(names) for one, names in groups.items() if one is not XNYS}
        days = {day for one in groups for day in one.among(sessions)}
        return cls(tuple(symbols), tuple(day for day in sessions if day in days), named, membership)

    def calendar_of(self, symbol: str) -> Calendar:
        """Return the calendar of one of the symbols."""
        return self._calendars.get(symbol, XNYS)

    @cached_property
    def _calendars(self) -> Mapping[str, Calendar]:
        return {symbol: calendar(name) for name, symbols in self.calendars.items() for symbol in symbols}

    def is_cell(self) -> Any:
        """Return a mask, symbols x sessions: false where the exchange is closed or the symbol not a member."""
        import numpy as np

        mask = member_cells(self.symbols, self.sessions, self.membership)
        known = {one: set(one.among(self.sessions)) for one in {XNYS, *self._calendars.values()}}
        days = {one: np.array([day in own for day in self.sessions]) for one, own in known.items()}
        if not all(own.all() for own in days.values()):
            for row, symbol in enumerate(self.symbols):
                mask[row] &= days[self.calendar_of(symbol)]
        return mask

    def to_json(self) -> dict[str, Any]:
        ends = (self.sessions[0], self.sessions[-1] + timedelta(days=1)) if self.sessions else ()
        axis = sessions_of_any({self.calendar_of(symbol) for symbol in self.symbols}, *ends) if ends else ()
        named = {"calendars": {name: list(symbols) for name, symbols in self.calendars.items()}} if self.calendars else {}
        intervals = [i.to_json() for i in coalesce(self.sessions, axis)]
        return {"symbols": list(self.symbols), "intervals": intervals, **named, **self._members_json()}

    def _members_json(self) -> dict[str, Any]:
        spells: dict[IntervalSet, list[str]] = {}
        for symbol, dates in self.membership.items():
            spells.setdefault(dates, []).append(symbol)
        return {"members": [[[i.to_json() for i in dates], names] for dates, names in spells.items()]} if spells else {}

    @classmethod
    def of(cls, summary: Mapping[str, Any], batches: Sequence[Batch]) -> OwnCells:
        """Return the cells that the summary of ``plan`` names; without them, those of the batches."""
        from market_data.lake.receipts import dates_from_json

        if found := summary.get("own"):
            named = {name: tuple(symbols) for name, symbols in found.get("calendars", {}).items()}
            membership = {name: dates_from_json(dates) for dates, names in found.get("members", ()) for name in names}
            every = cls(tuple(found["symbols"]), (), named, membership)
            calendars = {every.calendar_of(symbol) for symbol in every.symbols}
            spans = [sessions_of_any(calendars, *interval) for interval in dates_from_json(found["intervals"])]
            return replace(every, sessions=tuple(session for span in spans for session in span))
        blocks = [block for batch in batches for block in batch.blocks]
        calendars_of = {symbol: calendar_for(block.calendar_name, (symbol,)) for block in blocks for symbol in block.symbols}
        days = sorted({session for block in blocks for session in block.sessions})
        return cls.on(tuple(calendars_of), days, calendars_of.__getitem__)


NO_CELLS = OwnCells((), ())


@dataclass(frozen=True)
class OpenCells:
    """The cells of a run that are not final.

    :param total: number of all cells of the run.
    :param missing: number of cells without a state.
    :param table: the others, with the columns of ``coverage.SCHEMA`` and ``kind``, one of ``KINDS``.
    :param unfinished: symbols with at least one cell that is not final.
    :param released: final cells of the run that a person let pass, with the columns of ``coverage.SCHEMA``, by session.
    """

    total: int
    missing: int
    table: pa.Table
    unfinished: frozenset[str]
    released: pa.Table | None = None

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of cells of each kind."""
        import pyarrow.compute as pc

        found = {item["values"]: item["counts"] for item in pc.value_counts(self.table["kind"]).to_pylist()}
        return {kind: found.get(kind, 0) for kind in KINDS}

    def of(self, kind: str) -> pa.Table:
        """Return the cells of one kind, by session."""
        import pyarrow.compute as pc

        return self.table.filter(pc.equal(self.table["kind"], kind)).sort_by("session")


@dataclass(frozen=True)
class Findings:
    """The open cells after a run, for its verdict and report.

    :param own: the cells of the run.
    :param older: by session and kind: ``session``, ``kind``, ``count`` and the first ``symbols``; for scheduled runs only.
    :param unfetched: older sessions in which symbols have no state, although they have one in an earlier session.
    :param suspected: the suspected gaps of the feed in the ``WINDOW`` sessions that end with the run's, and of the run itself.
    :param found: suspected gaps of which no earlier run knew, as a table of ``symbol`` and ``session``.
    :param unknown: symbol -> the known symbol that it probably should be, or None.
    """

    own: OpenCells
    older: Sequence[Mapping[str, Any]] = ()
    unfetched: Sequence[date] = ()
    suspected: pa.Table | None = None
    found: pa.Table | None = None
    unknown: Mapping[str, str | None] = field(default_factory=dict)


def survey(coverage: Coverage, own: OwnCells, dataset: Dataset) -> OpenCells:
    """Return the cells of a run that are not final.

    ``pending`` is the normal state of a recent session in datasets that grow: such cells are listed, and yet count as final.
    """
    import numpy as np
    import pyarrow as pa

    from market_data.lake.coverage import STATES

    cells = own.is_cell()
    rows, symbols, sessions = coverage.recorded(own.symbols, own.sessions)
    inside = cells[symbols, sessions]
    rows, symbols = rows[inside], symbols[inside]
    states, gaps = coverage.state_codes(rows), coverage.suspected[rows]
    is_open = ~np.isin(states, [STATES.index(state) for state in FINAL]) | gaps
    unfinished = is_open & (states != STATES.index(State.PENDING)) if dataset.grows else is_open
    lacking = cells.sum(axis=1) > np.bincount(symbols, minlength=len(own.symbols))
    lacking[symbols[unfinished]] = True
    names = np.array([str(state) for state in STATES])[states[is_open]] if is_open.any() else np.array([], dtype=str)
    kinds = pa.array(np.where(gaps[is_open], SUSPECTED_GAP, names).tolist(), pa.string())
    table = coverage.table.take(pa.array(rows[is_open])).append_column("kind", kinds)
    total = int(cells.sum())
    released = coverage.table.take(pa.array(rows[states == STATES.index(State.RELEASED)])).sort_by("session")
    unfinished_symbols = frozenset(own.symbols[place] for place in np.flatnonzero(lacking))
    return OpenCells(total, total - len(rows), table, unfinished_symbols, released)


def older_open(
    coverage: Coverage, before: date, settled: date, most: int = 3, membership: Membership = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return what is open in the ``WINDOW`` sessions before ``before``, by session and kind.

    These are refused, quarantined and suspected cells, and cells that are pending although their session is final.

    :param settled: the last final session.
    :param most: symbols named of each.
    :param membership: cells on other dates are left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    first = XNYS.recent_sessions(before - timedelta(days=1), WINDOW)[0]
    table = coverage.table.append_column("gap", pa.array(coverage.suspected[:-1]))
    states = table["state"].cast(pa.string())
    is_open = pc.is_in(states, pa.array([str(State.QUARANTINED), str(State.REFUSED)]))
    late = pc.and_(pc.equal(states, str(State.PENDING)), pc.less_equal(table["session"], pa.scalar(settled)))
    inside = pc.and_(pc.greater_equal(table["session"], first), pc.less(table["session"], before))
    found = table.filter(pc.and_(inside, pc.or_(pc.or_(is_open, late), table["gap"])))
    groups: dict[tuple[date, str], list[str]] = {}
    columns = (found[name].to_pylist() for name in ("session", "gap", "state", "symbol"))
    for session, gap, state, symbol in sorted(zip(*columns, strict=True)):
        if not is_member(membership, symbol, session):
            continue
        groups.setdefault((session, SUSPECTED_GAP if gap else state), []).append(symbol)
    return [
        {"session": session.isoformat(), "kind": kind, "count": len(symbols), "symbols": symbols[:most]}
        for (session, kind), symbols in groups.items()
    ]


def suspected_until(coverage: Coverage, own: OwnCells) -> pa.Table:
    """Return the suspected gaps of a run's sessions and of the ``WINDOW`` before, by session."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = coverage.table.filter(pa.array(coverage.suspected[:-1]))
    if not len(found) or not own.sessions:
        return found.slice(0, 0)
    first = min(own.sessions[0], XNYS.recent_sessions(own.sessions[-1], WINDOW)[0])
    inside = pc.and_(pc.greater_equal(found["session"], first), pc.less_equal(found["session"], own.sessions[-1]))
    return _of_members(found.filter(inside), own.membership).sort_by("session")


def _of_members(cells: pa.Table, membership: Membership) -> pa.Table:
    """Return the ``cells`` without those of symbols that are no members then."""
    import pyarrow as pa

    if not membership:
        return cells
    columns = zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True)
    return cells.filter(pa.array([is_member(membership, symbol, day) for symbol, day in columns], pa.bool_()))


def unfetched_sessions(coverage: Coverage, own: OwnCells, before: date, catch_up: int) -> list[date]:
    """Return the sessions without a state for symbols that have an earlier one, too old to catch up.

    These are older than the last ``catch_up`` sessions before ``before``.

    Only sessions after the first in which at least half of the symbols have a state are considered: a trial of one symbol does not
    begin a feed's history.
    """
    groups = by_calendar(own.symbols, own.calendar_of)
    return sorted(
        {day for one, names in groups.items() for day in _unfetched(coverage, names, one, before, catch_up, own.membership)}
    )


def _unfetched(
    coverage: Coverage, symbols: Sequence[str], calendar: Calendar, before: date, catch_up: int, membership: Membership
) -> list[date]:
    """Return the same for symbols that have one calendar."""
    import numpy as np

    axis = calendar.recent_sessions(before - timedelta(days=1), WINDOW)
    known = coverage.rows_of(symbols, axis) >= 0
    cells = member_cells(symbols, axis, membership)
    begun = np.flatnonzero((known & cells).sum(axis=0) * 2 >= np.maximum(1, cells.sum(axis=0)))
    if not len(begun):
        return []
    seen = np.logical_or.accumulate(known, axis=1)
    holes = np.flatnonzero((seen & ~known & cells).any(axis=0))
    return [axis[place] for place in holes if begun[0] <= place < len(axis) - catch_up]
