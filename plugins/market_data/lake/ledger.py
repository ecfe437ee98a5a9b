"""The coverage ledger: the recorded state of every cell (symbol x session) of a dataset and provider.

One object per run and batch, each cell with the moment it was recorded; the latest record of a cell counts. Maintenance folds them into
one object per month, see `FOLDED_FOLDER`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.core.outcome import CONFIRMED_WRONG, EARLIER_VALUE, SOME_QUARANTINED, SUSPECTED_GAP, State
from market_data.core.run import RunInfo
from market_data.lake import merge, parquet
from market_data.lake.broken import keep_aside
from market_data.lake.clock import EPOCH, MICROSECOND, check_stamp, microseconds
from market_data.lake.layout import manifest_prefix, recorded_source
from market_data.lake.store import Lake, Stored

log = logging.getLogger(__name__)

_NAME = re.compile(r"run=[^/]+/[^/]+\.parquet")

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

FOLDED_FOLDER = "run=folded"
"""Folder of the folded objects: ``run=folded/2024-09.parquet`` has the records made in that month. None of them is ever deleted, and each
is written before the objects that it replaces are deleted."""

OBJECT = pa.field("object", pa.string(), nullable=False)
"""A further column of folded objects: the name of the object that had the record, ``run=.../....parquet``."""

KEY = ("symbol", "session")
VALUES = ("state", "reason")
STAMP = "recorded_at"
_REPEATING = ("symbol", "state", "reason", "run_id", "batch_id")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_FOLDED = pa.schema([pa.field(f.name, _DICTIONARY if f.name in _REPEATING else f.type, nullable=False) for f in SCHEMA])

_STATES = frozenset({*map(str, State), UNKNOWN})

SMALL = 20_000
"""Records up to which an object is compressed for quick reading. A ledger has thousands of such objects before it is folded."""
AT_A_TIME = 64
DECODERS = 2
"""Threads that decode: more only compete for the interpreter."""

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

STATES = tuple(State)
"""The states in the order of ``Coverage.state_codes``."""


def write_cells(
    lake: Lake,
    dataset: str,
    provider: str,
    run: RunInfo,
    batch_id: str,
    cells: pa.Table,
    *,
    recorded_at: datetime | None = None,
    compared: bool = False,
) -> bool:
    """Record ``cells`` of a batch. Call it when their objects are in the lake.

    Cells that the batch has recorded already with the same state and reason keep their record; others are replaced or added.
    No record is dropped.

    :param cells: of schema ``CELLS``, no cell twice; none is fine. ``UNKNOWN`` as the state makes a cell missing.
    :param recorded_at: UTC; None: now.
    :param compared: the cells are those that differ from the ledger (``Coverage.changed``), so records of the batch that were folded
        need not be looked up.
    :return: True if anything was written.
    """
    if not len(cells):
        return False
    stamp = pa.scalar(recorded_at or datetime.now(UTC), SCHEMA.field(STAMP).type)
    added = [pa.repeat(value, len(cells)) for value in (stamp, run.run_id, batch_id)]
    rows = parquet.by_key(pa.table([*cells.cast(CELLS).columns, *added], schema=SCHEMA), KEY)
    folder, name = manifest_prefix(dataset, provider), f"run={run.key}/{batch_id}.parquet"
    key = f"{folder}/{name}"

    def revise(body: bytes | None) -> bytes | None:
        # The object was read first: if it is folded after that, it is gone when it is to be replaced, and both are read again.
        folded = SCHEMA.empty_table() if compared else _folded_records(lake, folder, name)
        stored, broken = SCHEMA.empty_table(), False
        if body is not None:
            try:
                stored = parquet.decode(body, key, SCHEMA)
            except BrokenObject as error:
                keep_aside(lake, key, body, error)
                broken = True
        if not broken and not len(folded) and not len(stored):
            return _encoded(rows)
        known = _latest(pa.concat_tables([folded, stored])) if len(folded) else stored
        found = merge.merge_rows(known, rows, key=KEY, values=VALUES, stamp=STAMP)
        if not found.changed:
            return _encoded(stored) if broken else None
        if not len(folded):
            return _encoded(found.rows)
        taken = found.current.filter(pa.array(found.taken))
        return _encoded(merge.merge_rows(stored, taken, key=KEY, values=VALUES, stamp=STAMP).rows)

    return lake.update(key, revise, new=compared) > 0


def _encoded(records: pa.Table) -> bytes:
    return parquet.encode(records, compression="snappy" if len(records) <= SMALL else "zstd")


def _folded_records(lake: Lake, folder: str, name: str) -> pa.Table:
    """Return the records in folded objects that the object ``name`` had, of schema ``SCHEMA``."""
    found = [SCHEMA.empty_table()]
    keys = [key for key, _ in lake.list(f"{folder}/{FOLDED_FOLDER}")]
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        try:
            records = parquet.decode(stored.body, key, dictionary=(*_REPEATING, OBJECT.name)) if stored else None
            if records is not None:
                with parquet.readable(key):
                    own = pc.equal(records[OBJECT.name].cast(pa.string()), name)
                    found.append(records.filter(own).select(SCHEMA.names).cast(SCHEMA))
        except BrokenObject as error:
            log.warning("%s; its records are not known", error)
    return pa.concat_tables(found)


def _latest(records: pa.Table) -> pa.Table:
    """Return the latest record of each cell, by key."""
    order = [(name, "ascending") for name in KEY] + [(STAMP, "descending")]
    records = records.take(pc.sort_indices(records, sort_keys=order))
    first = np.ones(len(records), dtype=bool)
    first[1:] = ~merge.same_as_next(records, KEY)
    return records.filter(pa.array(first))


def sources(lake: Lake, dataset: str) -> list[str]:
    """Return the providers in the ledger of a dataset, sorted, e.g. ``alpaca~iex``, ``polygon``."""
    found = {recorded_source(key) for key, _ in lake.list(manifest_prefix(dataset, "x").rpartition("/")[0])}
    return sorted(found - {""})


def read_coverage(lake: Lake, dataset: str, provider: str, since: datetime | None = None) -> Coverage:
    """Return the records of a dataset and provider; empty if nothing was recorded.

    :param since: read only objects that were written at this moment or later, by the store's clock: all records made since then, and
        some earlier ones.

    Objects that do not belong to the ledger, and those that cannot be read, are named in ``Coverage.unreadable`` and logged.
    """
    folder = manifest_prefix(dataset, provider)
    listed = _written(lake, folder, since)
    known = [key for key in listed if _NAME.fullmatch(key.removeprefix(f"{folder}/"))]
    unreadable = [f"lake object {key} does not belong to the coverage ledger" for key in sorted({*listed} - {*known})]
    records, broken = [_FOLDED.empty_table()], []
    # The folded objects are listed and read last: they have the records of those that were deleted in the meantime.
    for keys in (own_objects(folder, known), folded_objects(lake, folder, since)):
        for one in read_objects(lake, keys):
            records += [one.records] if one.records is not None else []
            broken += [one.problem] if one.problem else []
    for sentence in (unreadable := [*unreadable, *broken]):
        log.warning("%s; it is left out", sentence)
    coverage = Coverage(pa.concat_tables(records))
    coverage.unreadable, coverage.broken = tuple(unreadable), tuple(broken)
    return coverage


class Object(NamedTuple):
    """An object of the ledger as it was read.

    :param etag: its version tag; None: it does not exist any more.
    :param records: as ``decode_records`` returns them; None without an object, and if it cannot be read: ``problem`` says why.
    """

    key: str
    etag: str | None = None
    records: pa.Table | None = None
    problem: str = ""


def read_objects(lake: Lake, keys: Sequence[str]) -> Iterator[Object]:
    """Yield the objects in the order of ``keys``; the next ones are read and decoded meanwhile."""
    found = zip(keys, lake.get_many(keys), strict=True)
    for part in lake.each(_decoded, iter(lambda: list(islice(found, AT_A_TIME)), []), concurrency=DECODERS):
        yield from part


def _decoded(found: Sequence[tuple[str, Stored | None]]) -> list[Object]:
    return [Object(key) if stored is None else _object(key, stored) for key, stored in found]


def _object(key: str, stored: Stored) -> Object:
    try:
        return Object(key, stored.etag, decode_records(stored.body, key))
    except BrokenObject as error:
        return Object(key, stored.etag, problem=str(error))


def read_error(body: bytes, key: str) -> BrokenObject | None:
    """Return the error of reading an object of the ledger; None if it can be read."""
    try:
        decode_records(body, key)
    except BrokenObject as error:
        return error
    return None


def write_rebuilt(lake: Lake, dataset: str, provider: str, cells: pa.Table, moments: pa.Array) -> str:
    """Record cells as receipts and objects tell, each at a moment of its own, and return the object's key.

    A record that was made later counts. Equal cells have one object.

    :param cells: of schema ``CELLS``, no cell twice. ``moments``: UTC, when the response of each arrived.
    """
    names = [pa.repeat("rebuilt", len(cells))] * 2
    rows = pa.table([*cells.cast(CELLS).columns, moments.cast(SCHEMA.field(STAMP).type), *names], schema=SCHEMA)
    body = parquet.encode(parquet.by_key(rows, KEY))
    key = f"{manifest_prefix(dataset, provider)}/run=rebuilt/{hashlib.sha256(body).hexdigest()[:16]}.parquet"
    lake.put_new(key, body)
    return key


def own_objects(folder: str, keys: Sequence[str]) -> list[str]:
    """Return those of ``keys`` that belong to a run and batch, without folded ones and foreign ones."""
    return [
        key for key in keys if _NAME.fullmatch(name := key.removeprefix(f"{folder}/")) and not name.startswith(f"{FOLDED_FOLDER}/")
    ]


def folded_objects(lake: Lake, folder: str, since: datetime | None = None) -> list[str]:
    """Return the keys of the folded objects below the ledger's ``folder``.

    :param since: only those that were written at this moment or later.
    """
    return [key for key in _written(lake, f"{folder}/{FOLDED_FOLDER}", since) if _NAME.fullmatch(key.removeprefix(f"{folder}/"))]


def _written(lake: Lake, folder: str, since: datetime | None) -> list[str]:
    if since is None:
        return [key for key, _ in lake.list(folder)]
    return sorted(one.key for one in lake.listed(folder) if one.modified >= since)


def decode_records(body: bytes, key: str) -> pa.Table:
    """Return the records of an object, its strings dictionary-encoded.

    :raises BrokenObject: if it holds something else.
    """
    found = parquet.decode(body, key, dictionary=_REPEATING, columns=SCHEMA.names)
    with parquet.readable(key):
        if found.schema.equals(_FOLDED) and all(_STATES.issuperset(c.dictionary.to_pylist()) for c in found["state"].chunks):
            parquet.check_dates(found, ("session", STAMP))
            return found  # as it was written; thousands of objects are read at once
        found = found.select(_FOLDED.names).cast(_FOLDED)
        parquet.check_dates(found, ("session", STAMP))
        if any(column.null_count for column in found.columns):
            raise ValueError("a record has a null")
        for state in found["state"].unique().to_pylist():
            if state != UNKNOWN:
                State(state)
    return found


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
            order = np.lexsort((records[STAMP].to_numpy().astype("int64"), codes))
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
        added = [
            pa.table(
                [*table.cast(CELLS).columns, *(pa.repeat(value, len(table)) for value in (recorded_at, "", ""))], schema=SCHEMA
            )
            for table in cells
            if len(table)
        ]
        records = [self.table, self._reset, *(table.cast(_FOLDED) for table in added)]
        return Coverage(pa.concat_tables(records)) if added else self

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
        return self._recorded(cells, "state").cast(pa.string())

    def reasons(self, cells: pa.Table) -> pa.Array:
        """Return the recorded reason of each of ``cells``, null if there is no record."""
        return self._recorded(cells, "reason").cast(pa.string())

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

    def _recorded(self, cells: pa.Table, column: str) -> pa.Array:
        """Return one column of the record of each of ``cells``, null if there is none."""
        if not len(self.table):
            return pa.nulls(len(cells), self.table.schema.field(column).type)
        rows = self._rows(cells["symbol"], cells["session"])
        return _single(self.table[column]).take(pa.array(rows, mask=rows < 0))

    def lost(self, cells: pa.Table) -> pa.Array:
        """Return a mask of the ``cells`` that have no bar now, but a recorded value."""
        no_bar = pc.is_in(cells["state"], pa.array([str(State.EMPTY), str(State.PENDING)]))
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
