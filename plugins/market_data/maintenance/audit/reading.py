"""Read lake objects, some thousand at a time, and check them.

An object is readable, has the hash of its receipt, and holds rows of its own symbol and dates.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject
from market_data.lake import parquet
from market_data.lake.layout import ALL_SYMBOLS
from market_data.lake.receipts import SMALLEST
from market_data.maintenance.audit.cells import Mask, Names, months_of
from market_data.maintenance.audit.evidence import Evidence, object_codes
from market_data.maintenance.audit.listing import DAY, DOCUMENT, IN_SESSION, Listing, Numbers, cell_codes

if TYPE_CHECKING:
    from market_data.lake.store import Lake

AT_A_TIME = 4096
BYTES = 64 * 1024 * 1024
SYMBOLS = 400
"""Objects, their bytes, and symbols that are read before their rows are compared, about: a symbol's objects stay together."""

PARALLEL = 16
OBJECT = "object"


@dataclass
class Objects:
    """The state of the objects that were read; rows of the listing.

    :param unreadable: row -> why.
    :param changed: row -> how it differs from its receipt.
    :param gone: rows of objects that somebody deleted after they were listed.
    :param cells: codes of the cells with rows in an object, and the rows of the objects: parallel lists of arrays.
    """

    unreadable: dict[int, str] = field(default_factory=dict)
    changed: dict[int, str] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    count: int = 0
    cells: list[tuple[Numbers, Numbers]] = field(default_factory=list)

    def present(self) -> tuple[Numbers, Numbers]:
        """Return the cells with rows, sorted, and for each the row of an object that holds it."""
        if not self.cells:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        codes = np.concatenate([codes for codes, _ in self.cells])
        rows = np.concatenate([rows for _, rows in self.cells])
        found, first = np.unique(codes, return_index=True)
        return found, rows[first]

    def cells_in(self, row: int) -> Numbers:
        """Return the cells with rows in one object."""
        parts = [codes[rows == row] for codes, rows in self.cells]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *parts]))


class _One(NamedTuple):
    row: int
    rows: pa.Table | None
    hash: int
    problem: str


class Wanted:
    """The objects to read: all, or those that may hold rows of chosen symbols and months.

    :param months: ``cell_codes`` of symbol and month (since 1970), sorted; None: all.
    :param margin: months around each whose objects may hold its rows.
    """

    def __init__(self, months: Numbers | None, margin: int = 0) -> None:
        self.months, self._margin = months, margin

    def has(self, symbols: Numbers, months: Numbers) -> Mask:
        """Return a mask of the symbols and months that are wanted."""
        if self.months is None:
            return np.ones(len(symbols), dtype=bool)
        return np.isin(cell_codes(symbols, months), self.months)

    def objects(self, listing: Listing, symbols: Numbers) -> Mask:
        """Return a mask of the listed objects to read.

        :param symbols: the number of each object's symbol.
        """
        if self.months is None:
            return np.ones(len(listing), dtype=bool)
        around = range(-self._margin, self._margin + 1)
        wide = np.unique(np.concatenate([self.months + shift for shift in around]))
        first, last = months_of(listing.days), months_of(listing.last_days)
        found = np.zeros(len(listing), dtype=bool)
        for shift in range(12):
            month = first + shift
            found |= (month <= last) & np.isin(cell_codes(symbols, month), wide)
        documents = listing.periods == DOCUMENT  # their dates are not those of their cells
        found[documents] = np.isin(symbols[documents], np.unique((wide + (1 << 31)) >> 32))
        return found


def batches(rows: Numbers, symbols: Numbers, sizes: Numbers, others: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield rows of objects and the numbers of their symbols, whole symbols, some at a time.

    :param rows: the objects to read; ``symbols`` and ``sizes``: of each.
    :param others: further symbols, without objects to read.
    """
    every = np.union1d(symbols, others)
    starts = np.searchsorted(symbols, every)
    ends = np.searchsorted(symbols, every, side="right")
    weight = np.concatenate([[0], np.cumsum(sizes)])
    begin = 0
    for end in range(1, len(every) + 1):
        count, size = ends[end - 1] - starts[begin], weight[ends[end - 1]] - weight[starts[begin]]
        if end == len(every) or count >= AT_A_TIME or size >= BYTES or end - begin >= SYMBOLS:
            yield rows[starts[begin] : ends[end - 1]], every[begin:end]
            begin = end


def read_objects(
    lake: Lake, listing: Listing, rows: Numbers, symbols: Numbers, names: Names, evidence: Evidence, found: Objects
) -> pa.Table:
    """Return the rows of objects, with the column ``object``, and note their problems in ``found``.

    :param rows: of the listing; ``symbols``: the number of each one's symbol.
    """
    dataset = listing.selection.dataset
    schema = dataset.schema.append(pa.field(OBJECT, pa.int64()))

    def read(row: int) -> _One:
        key = listing.key(row)
        if listing.sizes[row] < SMALLEST:
            return _One(row, None, 0, f"it has {listing.sizes[row]} bytes")
        stored = lake.get(key)
        if stored is None:
            return _One(row, None, 0, "")
        digest = int.from_bytes(hashlib.sha256(stored.body).digest()[:8], signed=True)
        try:
            decoded = parquet.decode_rows(stored.body, key, dataset)
        except BrokenObject as error:
            return _One(row, None, digest, str(error).partition("cannot be read: ")[2])
        return _One(row, decoded, digest, "")

    in_session = listing.kinds[rows] == IN_SESSION
    everything = names.of([ALL_SYMBOLS])[0]
    codes = object_codes(np.where(in_session, everything, symbols), listing.periods[rows], listing.days[rows], listing.kinds[rows])
    expected = dict(zip(rows.tolist(), codes.tolist(), strict=True))
    shared: dict[int, list[int]] = defaultdict(list)  # a session file is read once; code -> its rows
    for row, code in zip(rows[in_session].tolist(), codes[in_session].tolist(), strict=True):
        shared[code].append(row)
    again = {row for some in shared.values() for row in some[1:]}
    numbers = dict(zip(rows.tolist(), symbols.tolist(), strict=True))

    def of_row(one: _One) -> tuple[list[int], pa.Table | None]:
        """Return the rows of the listing that are one object, and its rows of their symbols."""
        some = shared.get(expected[one.row], [one.row])
        if one.rows is None or listing.kinds[one.row] != IN_SESSION or numbers[one.row] == everything:
            return some, one.rows
        wanted = pa.array([names.names[numbers[row]] for row in some], pa.string())
        return some, one.rows.filter(pc.is_in(one.rows["symbol"], wanted))

    def checked() -> Iterator[pa.Table]:
        for one in lake.each(read, [row for row in rows.tolist() if row not in again], concurrency=PARALLEL):
            found.count += 1
            some, own = of_row(one)
            if one.problem:
                found.unreadable |= dict.fromkeys(some, one.problem)
            elif one.rows is None or own is None:
                found.gone += some
            else:
                hashes, least = evidence.expected(expected[one.row])
                if hashes and one.hash not in hashes:
                    lacking = f"; it has {len(one.rows)} rows, the request wrote {least}" if len(one.rows) < least else ""
                    found.changed |= dict.fromkeys(some, f"its hash is not that of its receipt{lacking}")
                places = pa.repeat(pa.scalar(one.row, pa.int64()), len(own))
                if len(some) > 1:
                    row_of = {names.names[numbers[row]]: row for row in some}
                    places = pa.array([row_of[symbol] for symbol in own["symbol"].to_pylist()], pa.int64())
                yield own.append_column(schema.field(OBJECT), places)

    table = parquet.gather(checked(), schema)
    _note_cells(table, listing, rows, symbols, names, found)
    return table


def _note_cells(table: pa.Table, listing: Listing, rows: Numbers, symbols: Numbers, names: Names, found: Objects) -> None:
    """Note which cells the objects hold, and objects with rows of other symbols or dates."""
    if not len(table):
        return
    objects = table[OBJECT].to_numpy()
    own, days = names.of(table["symbol"]), table["session"].combine_chunks().cast(pa.int32()).to_numpy().astype(np.int64)
    place = np.searchsorted(rows, objects)
    dated = listing.periods[objects] != DOCUMENT
    inside = (days >= listing.days[objects]) & (days <= listing.last_days[objects]) | ~dated
    whole = (listing.kinds[objects] == IN_SESSION) & (symbols[place] == names.of([ALL_SYMBOLS])[0])
    strange = ((own != symbols[place]) & ~whole) | ~inside
    for row in np.unique(objects[strange]).tolist():
        found.changed.setdefault(row, "it holds rows of another symbol or date")
    good = ~strange
    pairs = np.unique(np.stack([cell_codes(own[good], days[good]), objects[good]]), axis=1)
    found.cells.append((pairs[0], pairs[1]))


def overlapping(listing: Listing, symbols: Numbers, codes: Numbers, among_rows: Sequence[int]) -> Iterator[tuple[int, Numbers]]:
    """Yield each of some objects and those of the cell ``codes`` that belong into it.

    :param symbols: the number of each listed object's symbol.
    :param codes: sorted.
    """
    for row in among_rows:
        if listing.periods[row] == DOCUMENT:
            continue
        last = listing.days[row] if listing.periods[row] == DAY else listing.last_days[row]
        start, end = np.searchsorted(codes, cell_codes(symbols[[row, row]], np.array([listing.days[row], last + 1])))
        yield row, codes[start:end]
