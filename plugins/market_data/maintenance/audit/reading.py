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
from market_data.lake.reader import newest
from market_data.lake.receipts import SMALLEST
from market_data.maintenance.audit.cells import Mask, Names, among, months_of
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
ANOTHER_HASH = "its hash is not that of its receipt"


@dataclass
class Objects:
    """The state of the objects that were read; rows of the listing.

    :param unreadable: row -> why.
    :param changed: row -> how it differs from its receipt.
    :param rewritten: rows of session files with another hash than their receipts. Their cells may be right: a writer of other symbols may
        have been killed before its receipt, or writes none.
    :param short: codes of cells in them with fewer rows than a request wrote.
    :param gone: rows of objects that somebody deleted after they were listed.
    :param cells: codes of the cells with rows in an object, and the rows of the objects: parallel lists of arrays.
    """

    unreadable: dict[int, str] = field(default_factory=dict)
    changed: dict[int, str] = field(default_factory=dict)
    rewritten: list[int] = field(default_factory=list)
    short: list[Numbers] = field(default_factory=list)
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

    def hold(self, rows: Numbers) -> Mask:
        """Return a mask of the objects that hold rows of their cells."""
        return np.isin(rows, np.concatenate([np.empty(0, dtype=np.int64), *(holders for _, holders in self.cells)]))


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


def batches(rows: Numbers, symbols: Numbers, sizes: Numbers, others: Numbers, shared: Mask) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield rows of objects and the numbers of their symbols, whole symbols, some at a time.

    :param rows: the objects to read; ``symbols`` and ``sizes``: of each.
    :param others: further symbols, without objects to read.
    :param shared: mask of ``rows``: session files. Each batch reads all of its symbols' files, so they do not count as objects.
    """
    every = np.union1d(symbols, others)
    starts = np.searchsorted(symbols, every)
    ends = np.searchsorted(symbols, every, side="right")
    weight = np.concatenate([[0], np.cumsum(sizes)])
    objects = np.concatenate([[0], np.cumsum(~shared)])
    begin = 0
    for end in range(1, len(every) + 1):
        count, size = objects[ends[end - 1]] - objects[starts[begin]], weight[ends[end - 1]] - weight[starts[begin]]
        if end == len(every) or count >= AT_A_TIME or size >= BYTES or end - begin >= SYMBOLS:
            yield rows[starts[begin] : ends[end - 1]], every[begin:end]
            begin = end


class _Read:
    """Reads objects by their rows of the listing; a session file once for all rows that name it."""

    def __init__(self, lake: Lake, listing: Listing, rows: Numbers, symbols: Numbers, names: Names) -> None:
        self._lake, self._listing, self._names = lake, listing, names
        in_session = listing.kinds[rows] == IN_SESSION
        self._every = names.of([ALL_SYMBOLS])[0]
        own = np.where(in_session, self._every, symbols)
        codes = object_codes(own, listing.periods[rows], listing.days[rows], listing.kinds[rows])
        self.codes = dict(zip(rows.tolist(), codes.tolist(), strict=True))
        self._symbols = dict(zip(rows.tolist(), symbols.tolist(), strict=True))
        self._shared: dict[int, list[int]] = defaultdict(list)
        for row in rows[in_session].tolist():
            self._shared[self.codes[row]].append(row)
        again = {row for some in self._shared.values() for row in some[1:]}
        self.rows = [row for row in rows.tolist() if row not in again]

    def __call__(self, row: int) -> _One:
        key, dataset = self._listing.key(row), self._listing.selection.dataset
        if self._listing.sizes[row] < SMALLEST:
            return _One(row, None, 0, f"it has {self._listing.sizes[row]} bytes")
        stored = self._lake.get(key)
        if stored is None:
            return _One(row, None, 0, "")
        digest = int.from_bytes(hashlib.sha256(stored.body).digest()[:8], signed=True)
        try:
            decoded = parquet.decode_rows(stored.body, key, dataset)
        except BrokenObject as error:
            return _One(row, None, digest, str(error).partition("cannot be read: ")[2])
        return _One(row, decoded, digest, "")

    def rows_of(self, row: int) -> list[int]:
        """Return the rows of the listing that name the same object."""
        return self._shared.get(self.codes[row], [row])

    def named(self, number: int, table: pa.Table) -> pa.Table:
        """Return the rows of an object, with the column ``object``.

        A session file gives only those of the symbols that name it.
        """
        some, places = self.rows_of(number), pa.repeat(pa.scalar(number, pa.int64()), len(table))
        if self._listing.kinds[number] == IN_SESSION and self._symbols[number] != self._every:
            symbols = pa.array([self._names.names[self._symbols[row]] for row in some], pa.string())
            table = table.filter(pc.is_in(table["symbol"], symbols))
            places = pa.array(some, pa.int64()).take(pc.index_in(table["symbol"], symbols))
        return table.append_column(pa.field(OBJECT, pa.int64()), places)


def read_objects(
    lake: Lake, listing: Listing, rows: Numbers, symbols: Numbers, names: Names, evidence: Evidence, found: Objects
) -> pa.Table:
    """Return the rows of objects, with the column ``object``, and note their problems in ``found``.

    :param rows: of the listing; ``symbols``: the number of each one's symbol.
    """
    read, rewritten = _Read(lake, listing, rows, symbols, names), list[int]()

    def checked() -> Iterator[pa.Table]:
        for one in lake.each(read, read.rows, concurrency=PARALLEL):
            found.count += 1
            if one.problem:
                found.unreadable |= dict.fromkeys(read.rows_of(one.row), one.problem)
            elif one.rows is None:
                found.gone += read.rows_of(one.row)
            else:
                hashes, least = evidence.expected(read.codes[one.row])
                if hashes and one.hash not in hashes and listing.kinds[one.row] == IN_SESSION:
                    rewritten.extend(read.rows_of(one.row))
                elif hashes and one.hash not in hashes:
                    lacking = f"; it has {len(one.rows)} rows, the request wrote {least}" if len(one.rows) < least else ""
                    found.changed[one.row] = f"{ANOTHER_HASH}{lacking}"
                yield read.named(one.row, one.rows)

    table = parquet.gather(checked(), listing.selection.dataset.schema.append(pa.field(OBJECT, pa.int64())))
    _note_cells(table, listing, rows, symbols, names, found)
    if rewritten:
        found.rewritten += rewritten
        own = np.array(sorted(rewritten))
        codes = np.sort(cell_codes(symbols[np.searchsorted(rows, own)], listing.days[own]))
        found.short.append(codes[_row_counts(table, listing, codes, names) < evidence.least(codes)])
    return table


def _row_counts(table: pa.Table, listing: Listing, codes: Numbers, names: Names) -> Numbers:
    """Count the rows of each of the cell ``codes``, which are sorted, in all objects that were read."""
    part = table.filter(pa.array(among(names.codes(table), codes))).drop_columns([OBJECT])
    held, counts = np.unique(names.codes(newest(part, listing.selection.dataset)), return_counts=True)
    found = np.zeros(len(codes), dtype=np.int64)
    found[np.searchsorted(codes, held)] = counts
    return found


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
    strange = ((own != symbols[place]) & ~whole) | ~inside | (own < 0)
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
