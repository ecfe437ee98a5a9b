"""Read hashes of lake objects, and states of cells without a record, from the receipts.

A hash is that after the latest request. The records of compaction have those of the files that it wrote.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data.core.dates import microseconds
from market_data.core.errors import BrokenObject
from market_data.lake import parquet
from market_data.lake.cells import table_of
from market_data.lake.layout import receipts_prefix, unescape
from market_data.lake.receipts import OBJECTS
from market_data.maintenance.audit.cells import Names, among, days_of, symbols_of
from market_data.maintenance.audit.listing import IN_SESSION, Numbers, cell_codes, day_of, parse_keys

if TYPE_CHECKING:
    from market_data.lake.receipts import StoredReceipt
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

log = logging.getLogger(__name__)

Column = npt.NDArray[Any]

AT_A_TIME = 20_000
"""Keys that are parsed at once."""
GIVEN = {"rows": np.int32, "run": np.int32, "moment": np.int64, "compacted": np.bool_}


@dataclass(frozen=True)
class Told:
    """The cells without a record as receipts have them, columns in the order of ``codes``.

    :param states: by the latest request. ``runs``: the key of its run. ``moments``: when its response arrived, microseconds since 1970.
    """

    codes: Numbers
    states: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    moments: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The receipts of a dataset and source, and the records of compaction.

    :param objects: codes of the lake objects that they name, sorted; the other columns likewise.
    :param hashes: the first 64 bits of each object's hash.
    :param rows: rows of the request in the object.
    :param latest: whether the latest run or compaction tells it of an object.
    :param moments: when, microseconds since 1970.
    :param compacted: whether compaction tells it.
    :param shares: codes of the cells in session files that they name, sorted; ``share_rows``: rows that a request wrote of each, at most.
    :param told: of the cells without a record.
    :param count: number of receipts.
    """

    objects: Numbers
    hashes: Numbers
    rows: Column
    latest: Column
    moments: Numbers
    compacted: Column
    shares: Numbers
    share_rows: Numbers
    told: Told
    count: int = 0

    def expected(self, code: int) -> tuple[set[int], int]:
        """Return the hashes that an object may have, and the rows that it has at least.

        Without any hash, nothing is known of it. Several requests of the latest run may have written it; the order of their writes is
        not known.
        """
        start, end = np.searchsorted(self.objects, [code, code + 1])
        if start == end:
            return set(), 0
        chosen = np.flatnonzero(self.latest[start:end]) + start
        return set(self.hashes[chosen].tolist()), int(self.rows[start:end].max())

    def least(self, codes: Numbers) -> Numbers:
        """Return how many rows each of the cells has at least, by receipts of session files; 0 without one."""
        found = np.zeros(len(codes), dtype=np.int64)
        known = among(codes, self.shares)
        found[known] = self.share_rows[np.searchsorted(self.shares, codes[known])]
        return found

    def moment(self, codes: Numbers, *, compacted: bool = False) -> Numbers:
        """Return when each of the object ``codes`` was written last, -1 where that is not known.

        :param compacted: by compaction.
        """
        chosen = self.compacted if compacted else np.ones(len(self.objects), dtype=bool)
        objects, moments = self.objects[chosen], self.moments[chosen]
        places = np.searchsorted(objects, codes, side="right") - 1  # the last of equal codes is the latest
        known = (places >= 0) & among(codes, objects)
        found = np.full(len(codes), -1)
        found[known] = moments[places[known]]
        return found


@dataclass
class _Gathered:
    """Lake objects and cells that receipts name.

    Small tables wait until there are some thousand rows: parsing each alone is slow.

    :ivar objects: columns of some objects each: code, hash, rows, run, moment, compacted. Narrow, as there may be millions.
    :ivar shares: codes of cells in session files, and their rows.
    :ivar columns: what is read of the objects of receipts: ``symbol`` only if there are session files.
    """

    selection: Selection
    names: Names
    columns: tuple[str, ...]
    escaped: dict[str, int] = field(default_factory=dict)
    objects: list[tuple[Column, ...]] = field(default_factory=list)
    shares: list[tuple[Numbers, Column]] = field(default_factory=list)
    cells: list[tuple[Numbers, list[str], int, str]] = field(default_factory=list)
    _waiting: list[pa.Table] = field(default_factory=list)
    _rows: int = 0

    def add(self, objects: pa.Table, run: int, moment: int, compacted: int = 0) -> None:
        """Add the objects of a receipt, or of a record of compaction."""
        columns = {name: objects[name].cast(OBJECTS.field(name).type) for name in self.columns}
        for name, value in (("run", run), ("moment", moment), ("compacted", compacted)):
            columns[name] = pa.repeat(pa.scalar(value, pa.int64()), len(objects))
        self._waiting.append(pa.table(columns))
        self._rows += len(objects)
        if self._rows >= AT_A_TIME:
            self.parse()

    def parse(self) -> None:
        """Parse the keys that wait."""
        waiting = pa.concat_tables(self._waiting).combine_chunks() if self._rows else None
        self._waiting, self._rows = [], 0
        if waiting is None:
            return
        hashes = np.array([int(text, 16) for text in waiting["sha256"].to_pylist()], dtype=np.uint64).view(np.int64)
        numbered = pa.table({"key": waiting["key"], "size": pa.array(np.arange(len(waiting)))})
        parsed = parse_keys(numbered, self.selection, self.escaped, [])
        symbols = self.names.of([unescape(text) for text in self.escaped])[parsed[0]] if self.escaped else parsed[0]
        known = symbols >= 0
        own = parsed[4][known]
        given = [waiting[name].to_numpy()[own].astype(width) for name, width in GIVEN.items()]
        self.objects.append((object_codes(symbols[known], *parsed[1:4, known]), hashes[own], *given))
        if "symbol" in self.columns:
            shared = parsed[:, parsed[3] == IN_SESSION]
            whose = self.names.of(waiting["symbol"])[shared[4]]
            rows = waiting["rows"].to_numpy()[shared[4]].astype(np.int32)
            self.shares.append((cell_codes(whose, shared[2])[whose >= 0], rows[whose >= 0]))


def read_evidence(lake: Lake, selection: Selection, names: Names, missing: Numbers, *, shared: bool) -> Evidence:
    """Read all receipts of a dataset and source.

    :param missing: codes of cells without a record, sorted.
    :param shared: there are session files.
    """
    from market_data.lake import receipts

    folders = folders_of(lake, selection)
    runs: dict[str, int] = {}
    columns = ("key", "rows", "sha256", *(["symbol"] if shared else []))
    gathered, count = _Gathered(selection, names, columns), 0
    sought = _Sought(names, missing)
    for folder, found in zip(folders, receipts.read(lake, folders, columns), strict=True):
        key = folder.rpartition("/run=")[2].partition("/")[0]
        run = runs.setdefault(key, len(runs))
        for stored in found:
            count += 1
            moment = stored.receipt.counts.get("ingest_us", 0)
            gathered.add(stored.objects, run, moment)
            if sought.may_be_in(stored):
                gathered.cells.append((*sought.cells(stored), moment, key))
    for name, objects in _compactions(lake, selection):
        gathered.add(objects, runs.setdefault(name, len(runs)), _moment(name), compacted=1)
    gathered.parse()
    return _evidence(gathered, count)


class _Sought:
    """Cells without a record, looked for in receipts."""

    def __init__(self, names: Names, missing: Numbers) -> None:
        self._names, self._missing = names, missing
        self._symbols = {names.names[symbol] for symbol in np.unique(symbols_of(missing)).tolist()}
        self._days = [day_of(day) for day in np.unique(days_of(missing)).tolist()]

    def may_be_in(self, stored: StoredReceipt) -> bool:
        """Return true if a receipt may have one of the cells, by its symbols and dates."""
        request = stored.receipt.request
        dates = any(bisect_left(self._days, one.start) < bisect_left(self._days, one.end) for one in request.intervals)
        return dates and not self._symbols.isdisjoint(request.symbols)

    def cells(self, stored: StoredReceipt) -> tuple[Numbers, list[str]]:
        """Return those of the cells that a receipt has, and their states."""
        table = table_of(stored.receipt.cells)
        known = self._names.of(table["symbol"]) >= 0
        table = table.filter(pa.array(known)) if not known.all() else table
        codes = self._names.codes(table)
        hits = among(codes, self._missing)
        return codes[hits], table["state"].filter(pa.array(hits)).to_pylist()


def _compactions(lake: Lake, selection: Selection) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and content of each record of compaction."""
    folder = f"compactions/{selection.dataset.name}/provider={selection.source}"
    keys = [key for key, _ in lake.list(folder)]
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        if stored is not None:
            try:
                yield key.rpartition("/")[2], parquet.decode(stored.body, key, OBJECTS)
            except BrokenObject as error:
                log.warning("%s; it is left out", error)


def _moment(name: str) -> int:
    """Return the moment that the name of a record of compaction begins with, else 0."""
    try:
        return microseconds(datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC))
    except ValueError:
        return 0


def folders_of(lake: Lake, selection: Selection) -> list[str]:
    """Return the folders of the receipts of a dataset and source, sorted."""
    root = receipts_prefix(selection.dataset.name, selection.source, "x", "x").partition("/run=")[0]
    return sorted({key.rpartition("/")[0] for some in lake.walk(root) for key, _ in some if "/run=" in key})


def _evidence(gathered: _Gathered, count: int) -> Evidence:
    columns = [list(column) for column in zip(*gathered.objects, strict=True)] or [[]] * (2 + len(GIVEN))
    gathered.objects.clear()  # each is a part of the peak memory, and so is each column as it came
    widths = (np.int64, np.int64, *GIVEN.values())
    codes, hashes, rows, runs, moments, compacted = (_joined(column, width) for column, width in zip(columns, widths, strict=True))
    order = np.lexsort((moments, codes))
    codes, runs = codes[order], runs[order]
    last = np.append(codes[1:] != codes[:-1], np.ones(min(1, len(codes)), dtype=bool))
    group = np.cumsum(last) - last  # the number of each row's object
    latest = runs == runs[last][group] if len(codes) else runs.astype(bool)
    told, shares = _told(gathered.cells), _most(gathered.shares)
    return Evidence(codes, hashes[order], rows[order], latest, moments[order], compacted[order], *shares, told, count)


def _most(parts: list[tuple[Numbers, Column]]) -> tuple[Numbers, Column]:
    """Return each code once, sorted, and its greatest number of rows."""
    codes, rows = _joined([codes for codes, _ in parts], np.int64), _joined([rows for _, rows in parts], np.int32)
    order = np.lexsort((rows, codes))
    last = np.append(codes[order][1:] != codes[order][:-1], np.ones(min(1, len(codes)), dtype=bool))
    return codes[order][last], rows[order][last]


def _joined(parts: list[Column], width: type[np.generic]) -> Column:
    """Return the parts as one column; they are given back at once."""
    joined = np.concatenate([np.empty(0, dtype=width), *parts])
    parts.clear()
    return joined


def _told(cells: list[tuple[Numbers, list[str], int, str]]) -> Told:
    latest: dict[int, tuple[str, str, int]] = {}
    for codes, states, moment, run in sorted(cells, key=lambda item: item[2]):
        latest.update({code: (state, run, moment) for code, state in zip(codes.tolist(), states, strict=True)})
    order = sorted(latest)
    found = [latest[code] for code in order]
    return Told(np.array(order, dtype=np.int64), *(tuple(one[n] for one in found) for n in range(3)))  # type: ignore[arg-type]


def object_codes(symbols: Numbers, periods: Column, days: Numbers, kinds: Column) -> Numbers:
    """Return one number per lake object."""
    return (((symbols << 32) + days) << 5) + (periods << 3) + kinds
