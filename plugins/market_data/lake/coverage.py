"""The current state of every cell (symbol x session), folded from the records of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.dates import EPOCH, MICROSECOND, microseconds
from market_data.core.outcome import CONFIRMED_WRONG, EARLIER_VALUE, SOME_QUARANTINED, SUSPECTED_GAP, State
from market_data.lake import merge
from market_data.lake.clock import check_stamp

CELLS = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("session", pa.date32(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Cells: ``state`` is one of ``State``; ``reason`` is empty where there is none."""

UNKNOWN = "unknown"
"""In place of a state: a person has reset the cell. No reader sees a cell whose latest record this is."""

SCHEMA = pa.schema(
    [
        *CELLS,
        pa.field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("batch_id", pa.string(), nullable=False),
    ]
)

KEY = ("symbol", "session")
VALUES = ("state", "reason")
STAMP = "recorded_at"
REPEATING = ("symbol", "state", "reason", "run_id", "batch_id")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
ENCODED = pa.schema([pa.field(f.name, _DICTIONARY if f.name in REPEATING else f.type, nullable=False) for f in SCHEMA])
"""``SCHEMA`` with its ``REPEATING`` columns dictionary-encoded."""

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

STATES = tuple(State)
"""The states in the order of ``Coverage.state_codes``."""


class Coverage:
    """The current record of every cell.

    ``unreadable`` has a sentence per object that ``read_coverage`` left out; ``broken`` has those of objects with records of the ledger,
    which are not known now. A cell that was reset has no record.

    :param records: of schema ``SCHEMA``, its strings dictionary-encoded, in the order of the objects' keys; a cell may
        occur in several. The record with the latest ``recorded_at`` counts; for equal ones the last record.
    """

    unreadable: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def __init__(self, records: pa.Table) -> None:
        records = records.unify_dictionaries().combine_chunks()
        self._symbols: pa.Array = _single(records["symbol"]).dictionary
        codes = _codes(_single(records["symbol"]).indices, records["session"])
        latest = records
        if not np.all(codes[1:] > codes[:-1]):  # else each cell has one record, and they are in order
            stamps = _single(records[STAMP]).cast(pa.int64()).to_numpy()
            by_time = bool(np.all(stamps[1:] >= stamps[:-1]))
            order = np.argsort(codes, kind="stable") if by_time else np.lexsort((stamps, codes))
            codes = codes[order]
            last = np.append(codes[1:] != codes[:-1], np.ones(min(1, len(codes)), dtype=bool))
            latest, codes = records.take(pa.array(order[last])), codes[last]
        unknown = pc.equal(latest["state"].cast(pa.string()), UNKNOWN)
        known = pc.invert(unknown).to_numpy(zero_copy_only=False) if pc.any(unknown).as_py() else None
        self._codes: Codes = codes if known is None else codes[known]
        self._reset: pa.Table = latest.slice(0, 0) if known is None else latest.filter(unknown)
        self.table: pa.Table = latest if known is None else latest.filter(pa.array(known)).combine_chunks()
        """One row per cell with the columns of ``SCHEMA``; strings are dictionary-encoded; the order is not defined."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def reset(self) -> pa.Table:
        """The cells that a person has reset and nobody has recorded since, with the columns of ``SCHEMA``."""
        return self._reset

    def state(self, symbol: str, session: date) -> State | None:
        """Return the state of a cell, or None if it has no record."""
        row = self._rows(pa.array([symbol]), pa.array([session], pa.date32()))[0]
        return None if row < 0 else State(self.table["state"][int(row)].as_py())

    def covered(
        self, symbols: Sequence[str], sessions: Sequence[date], *, states: Collection[State] = frozenset(State)
    ) -> dict[str, int]:
        """Return a bit mask per symbol: bit i is set if (symbol, ``sessions[i]``) is in one of ``states``.

        :param sessions: distinct dates, any order.
        """
        names, days = list(dict.fromkeys(symbols)), pa.array(sessions, pa.date32())
        kept = self.table.filter(pc.is_in(self.table["state"].cast(pa.string()), pa.array([str(s) for s in states], pa.string())))
        kept = kept.combine_chunks()
        symbol_of = _positions(_single(kept["symbol"]).dictionary, pa.array(names, pa.string()))
        rows = symbol_of[_single(kept["symbol"]).indices.to_numpy()]
        bits = _positions(_single(kept["session"]), days)
        requested = (rows >= 0) & (bits >= 0)
        grid = np.zeros((len(names), len(days)), dtype=bool)
        grid[rows[requested], bits[requested]] = True
        packed = np.packbits(grid, axis=1, bitorder="little")
        return {name: int.from_bytes(packed[i].tobytes(), "little") for i, name in enumerate(names)}

    def updated(self, cells: Sequence[pa.Table], recorded_at: datetime) -> Coverage:
        """Return this coverage with further records, as ``read_coverage`` will after they are written.

        :param cells: of schema ``CELLS``; of a cell that is in several, the last counts.
        """
        added = pa.concat_tables([CELLS.empty_table(), *(table.cast(CELLS) for table in cells)])
        if not len(added):
            return self
        stamp = pa.repeat(pa.scalar(recorded_at, SCHEMA.field(STAMP).type), len(added))
        nothing = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(added)), [""])
        encoded = [added[field.name].cast(field.type) for field in list(ENCODED)[: len(CELLS)]]
        return Coverage(pa.concat_tables([self.table, self._reset, pa.table([*encoded, stamp, nothing, nothing], schema=ENCODED)]))

    def rows_of(self, symbols: Sequence[str], sessions: Sequence[date]) -> Codes:
        """Return the row of each cell in ``table``, or -1, as a matrix of symbols x sessions."""
        positions = _positions(pa.array(symbols, pa.string()), self._symbols)[:, None]
        days = pa.array(sessions, pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
        return self._found(np.broadcast_to(positions, (len(symbols), len(days))), (positions << 32) + days)

    def recorded(self, symbols: Sequence[str], sessions: Sequence[date]) -> tuple[Codes, Codes, Codes]:
        """Return the rows of ``table`` with one of the cells, and the places of their symbols and sessions."""
        column = _single(self.table["symbol"])
        symbol = _positions(column.dictionary, pa.array(symbols, pa.string()))[column.indices.to_numpy()]
        session = _positions(_single(self.table["session"]), pa.array(sessions, pa.date32()))
        rows = np.flatnonzero((symbol >= 0) & (session >= 0))
        rows = rows[np.lexsort((session[rows], symbol[rows]))]
        return rows, symbol[rows], session[rows]

    def state_codes(self, rows: Codes) -> npt.NDArray[np.int8]:
        """Return the state of each of ``rows`` (of ``table``) as its position in ``STATES``; -1 for row -1."""
        return self._state_codes[rows]

    @cached_property
    def _state_codes(self) -> npt.NDArray[np.int8]:
        states = _single(self.table["state"])
        known = _positions(states.dictionary, pa.array([str(state) for state in STATES], pa.string())).astype(np.int8)
        return np.append(known[states.indices.to_numpy()], np.int8(-1))  # row -1 is the last

    @cached_property
    def suspected(self) -> Mask:
        """Mask of the rows of ``table`` that are suspected gaps; one element more, False, for row -1."""
        reasons = _single(self.table["reason"])
        named = pc.starts_with(reasons.dictionary, SUSPECTED_GAP).to_numpy(zero_copy_only=False)[reasons.indices.to_numpy()]
        return np.append(named & (self._state_codes[:-1] == STATES.index(State.EMPTY)), np.False_)

    @cached_property
    def confirmed(self) -> Mask:
        """Mask of the rows of ``table`` that are confirmed to be wrong; one element more, False, for row -1."""
        reasons = _single(self.table["reason"])
        named = pc.starts_with(reasons.dictionary, CONFIRMED_WRONG).to_numpy(zero_copy_only=False)[reasons.indices.to_numpy()]
        return np.append(named, np.False_)

    def are_suspected(self, cells: pa.Table) -> pa.Array:
        """Return a mask of the ``cells`` that are recorded as suspected gaps."""
        return pa.array(self.suspected[self._rows(cells["symbol"], cells["session"])])

    def changed(self, cells: pa.Table, fetched_again: Collection[date] = ()) -> pa.Table:
        """Return the ``cells`` (schema ``CELLS``) without a record or with a new state or reason.

        :param fetched_again: sessions of which equal records count as new too: the moment of the record matters.
        """
        cells = cells.cast(CELLS)
        rows = self._rows(cells["symbol"], cells["session"])
        known = rows >= 0
        if not known.any():
            return cells
        current = self.table.select(CELLS.names).take(pa.array(np.where(known, rows, 0))).cast(CELLS)
        again = pc.is_in(cells["session"], pa.array(sorted(fetched_again), pa.date32())).to_numpy(zero_copy_only=False)
        return cells.filter(pa.array(~known | ~merge.same(current, cells, VALUES) | again))

    def states(self, cells: pa.Table) -> pa.Array:
        """Return the recorded state of each of ``cells`` (schema ``CELLS``), null if there is no record."""
        return self._recorded_text(cells, "state")

    def reasons(self, cells: pa.Table) -> pa.Array:
        """Return the recorded reason of each of ``cells``, null if there is no record."""
        return self._recorded_text(cells, "reason")

    def recorded_after(self, cells: pa.Table, moment_us: int) -> pa.Array:
        """Return a mask of the ``cells`` whose record was made after ``moment_us``.

        :param moment_us: microseconds since 1970, UTC.
        """
        return pc.fill_null(pc.greater(self._recorded(cells, STAMP).cast(pa.int64()), moment_us), False)

    def next_stamp(self, cells: pa.Table, now: datetime) -> datetime:
        """Return the moment to record ``cells`` at, so that the new records are the latest ones.

        It is ``now``, or a microsecond after the latest record.

        :raises ClockError: if a record is more than 5 s in the future.
        """
        stamps = [pc.max(self._recorded(cells, STAMP).cast(pa.int64())).as_py()]
        if len(self._reset):
            stamps.append(pc.max(self._reset.filter(pa.array(contains(cells, self._reset)))[STAMP].cast(pa.int64())).as_py())
        latest = max((stamp for stamp in stamps if stamp is not None), default=None)
        if latest is None or latest < microseconds(now):
            return now
        check_stamp(latest, microseconds(now), "a record of the coverage ledger")
        return EPOCH + (latest + 1) * MICROSECOND

    def _recorded_text(self, cells: pa.Table, column: str) -> pa.Array:
        # To make text of an empty dictionary takes much longer.
        return self._recorded(cells, column).cast(pa.string()) if len(self.table) else pa.nulls(len(cells), pa.string())

    def _recorded(self, cells: pa.Table, column: str) -> pa.Array:
        """Return one column of the record of each of ``cells``, null if there is none."""
        if not len(self.table):
            return pa.nulls(len(cells), self.table.schema.field(column).type)
        rows = self._rows(cells["symbol"], cells["session"])
        return _single(self.table[column]).take(pa.array(rows, mask=rows < 0))

    def lost(self, cells: pa.Table) -> pa.Array:
        """Return a mask of the ``cells`` that have no bar now, but a recorded value."""
        no_bar = pc.is_in(cells["state"], pa.array([str(State.EMPTY), str(State.PENDING)]))
        if not pc.any(no_bar).as_py():
            return no_bar
        partly = pc.fill_null(pc.starts_with(self.reasons(cells), SOME_QUARANTINED), False)
        return pc.and_(no_bar, pc.or_(self.had_values(cells), partly))

    def had_values(self, cells: pa.Table) -> pa.Array:
        """Return a mask of the ``cells`` with a loaded value: ``have``, ``released``, or one kept since then."""
        have = pc.fill_null(pc.is_in(self.states(cells), pa.array([str(State.HAVE), str(State.RELEASED)])), False)
        return pc.or_(have, pc.fill_null(pc.ends_with(self.reasons(cells), EARLIER_VALUE), False))

    def _rows(self, symbols: pa.Array, sessions: pa.Array) -> Codes:
        """Return the row of each cell in ``table``, or -1."""
        if not len(self._codes):
            return np.full(len(symbols), -1)
        positions = _positions(symbols, self._symbols)
        return self._found(positions, _codes(pa.array(positions), sessions))

    def _found(self, positions: Codes, codes: Codes) -> Codes:
        """Return the row in ``table`` of each code, or -1; ``positions``: of the code's symbol, or -1."""
        rows = np.searchsorted(self._codes, codes)
        found = (positions >= 0) & (rows < len(self._codes))
        found[found] = self._codes[rows[found]] == codes[found]
        return np.where(found, rows, -1)


def without(cells: pa.Table, others: Sequence[pa.Table]) -> pa.Table:
    """Return ``cells`` without those that occur in one of ``others``; all of schema ``CELLS``."""
    for other in others:
        cells = cells.filter(pa.array(~contains(other, cells)))
    return cells


def contains(cells: pa.Table, others: pa.Table) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows of ``others`` whose symbol and session are in ``cells``."""
    names = pc.unique(cells["symbol"])
    known = _codes(pa.array(_positions(cells["symbol"], names)), cells["session"])
    sought = _codes(pa.array(_positions(others["symbol"], names)), others["session"])
    return np.isin(sought, known)


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _codes(symbols: pa.Array, sessions: pa.Array) -> Codes:
    """Return one number per cell that sorts by the symbol's position, then by session."""
    days = pc.cast(sessions, pa.int32()).to_numpy().astype(np.int64)
    return (symbols.to_numpy().astype(np.int64) << 32) + days


def _positions(values: pa.Array, among: pa.Array) -> Codes:
    """Return the position of each value in ``among``, or -1."""
    return pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy().astype(np.int64)
