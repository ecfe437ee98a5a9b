"""Read rows from the lake, from day files and year files alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import LakeError
from market_data.core.run import Grain
from market_data.datasets.base import Dataset
from market_data.lake import merge, parquet
from market_data.lake.cells import row_filter
from market_data.lake.layout import Layout, ParsedKey, symbol_of_folder
from market_data.lake.receipts import StoredReceipt
from market_data.lake.store import Lake

STAMP = "ingest_ts"
GRAINS: tuple[Grain, ...] = ("day", "year")  # for equally new rows the first grain counts
SHORT = 7
FEW_YEARS = 2
TRIES = 5


def read_rows(
    lake: Lake, layout: Layout, dataset: Dataset, provider: str, symbols: Sequence[str], start: date, end_exclusive: date
) -> pa.Table:
    """Return the rows of ``symbols`` with sessions from ``start`` (inclusive) to ``end_exclusive``.

    The result has ``dataset.schema`` and is sorted by key. Day files and year (or month) files may overlap: the row with the newest
    ``ingest_ts`` per key is returned, and the day file's row for equally new ones.

    :raises LakeError: if the store fails or an object cannot be read.
    """
    days = [start + timedelta(n) for n in range((end_exclusive - start).days)]
    names = list(dict.fromkeys(symbols))
    if not days or not names:
        return dataset.schema.empty_table()

    def inside(key: str, body: bytes) -> pa.Table:
        rows = parquet.decode_rows(body, key, dataset)
        found = layout.parse(key)
        if found and found.session:  # read by its date, so all rows are inside; filtering takes a third of the time of a small file
            return rows
        return rows.filter(pc.and_(pc.greater_equal(rows["session"], start), pc.less(rows["session"], end_exclusive)))

    place = (lake, layout, dataset, provider, names, days)
    if len(days) <= SHORT and dataset.files.date == "session":
        return newest(parquet.gather((inside(key, body) for key, body in _by_key(*place)), dataset.schema), dataset)
    try:
        rows = parquet.gather((inside(key, body) for key, body in _listed(*place, once=True)), dataset.schema)
    except Overtaken:
        # The later reading counts, and the order of the grains: both matter to equally new rows.
        found = {key: inside(key, body) for key, body in _listed(*place)}
        rows = parquet.gather((found[key] for key in sorted(found, key=lambda key: _grain(layout, key))), dataset.schema)
    return newest(rows, dataset)


class Overtaken(Exception):
    """Objects were folded into others, or written, while they were read."""


def newest(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """Return the row with the newest ``ingest_ts`` per key, sorted by key; the first of equally new rows."""
    order = [(name, "ascending") for name in dataset.key] + [(STAMP, "descending")]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))
    first = np.ones(len(rows), dtype=bool)
    first[1:] = ~merge.same_as_next(rows, dataset.key)
    return rows.filter(pa.array(first))


def _by_key(
    lake: Lake, layout: Layout, dataset: Dataset, provider: str, symbols: Sequence[str], days: Sequence[date]
) -> Iterator[tuple[str, bytes]]:
    """Yield every object that may hold rows of the few ``days``, requested by key."""
    seen: set[str] = set()
    # Day files come first: a row that is folded into a year file in the meantime is then found there.
    for grain in GRAINS:
        keys = [layout.object_key(dataset, provider, symbol, day, grain) for symbol in symbols for day in days]
        keys = [key for key in dict.fromkeys(keys) if key not in seen]
        seen.update(keys)
        for key, stored in zip(keys, lake.get_many(keys), strict=True):
            if stored is not None:
                yield key, stored.body


def _grain(layout: Layout, key: str) -> int:
    found = layout.parse(key)
    return GRAINS.index(found.grain) if found else len(GRAINS)


def _listed(
    lake: Lake, layout: Layout, dataset: Dataset, provider: str, symbols: Sequence[str], days: Sequence[date], *, once: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Yield every object of the symbols that overlaps ``days``, found by listing.

    :param once: as in ``listed_objects``.
    """
    overlaps = _overlapping(days)

    def keys(symbol: str) -> list[str]:
        prefixes = _folders(layout, dataset, provider, symbol, {day.year for day in days})
        listed = ((layout.parse(key), key) for prefix in prefixes for key, _ in lake.list(prefix))
        return [key for _, key in sorted((GRAINS.index(found.grain), key) for found, key in listed if found and overlaps(found))]

    yield from listed_objects(lake, symbols, keys, once=once)


def stored_symbols(lake: Lake, layout: Layout, dataset: Dataset, provider: str) -> list[str]:
    """Return the symbols that have a folder, by name. Lists folders, not objects."""
    found: set[str] = set()
    for kind in dataset.files.kinds or (None,):
        parent, _, _ = layout.symbol_prefix(dataset, provider, "X", kind).rpartition("/symbol=")
        found.update(filter(None, map(symbol_of_folder, lake.folders(parent))))
    return sorted(found)


def listed_objects(
    lake: Lake, names: Sequence[str], keys_of: Callable[[str], Sequence[str]], *, once: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of all objects that are listed for each of ``names``.

    Compaction may fold objects into others in the meantime: it writes the other object first. So what is gone is listed again, and what
    a listing missed while it went from page to page is found by a second one. An object may be yielded twice: the later content counts.

    :param keys_of: lists the keys of a name; called several times.
    :param once: yield each object once, in the order of ``keys_of``; where that is not possible, raise ``Overtaken`` instead.
    :raises LakeError: if objects keep disappearing.
    """
    for _ in range(TRIES):
        listed = dict(zip(names, lake.each(keys_of, names), strict=True))
        gone: dict[str, None] = {}
        yield from _present(lake, [(name, key) for name, keys in listed.items() for key in keys], gone)
        rest = [name for name in names if name not in gone]
        new = []
        for name, keys in zip(rest, lake.each(keys_of, rest), strict=True):
            known = set(listed[name])
            new += [(name, key) for key in keys if key not in known]
        if once and (gone or new):
            raise Overtaken
        yield from _present(lake, new, gone)
        if not gone:
            return
        names = list(gone)
    raise LakeError(f"lake objects of {', '.join(names)} were deleted {TRIES} times while they were read; try again later")


def _present(lake: Lake, wanted: Sequence[tuple[str, str]], gone: dict[str, None]) -> Iterator[tuple[str, bytes]]:
    """Yield the objects that exist; add the names of the others to ``gone``."""
    for (name, key), stored in zip(wanted, lake.get_many(key for _, key in wanted), strict=True):
        if stored is None:
            gone[name] = None
        else:
            yield key, stored.body


def _folders(layout: Layout, dataset: Dataset, provider: str, symbol: str, years: Collection[int]) -> Iterator[str]:
    """Yield the folders that hold all rows of a symbol with a session in ``years``; they may hold more."""
    for kind in dataset.files.kinds or (None,):
        folder = layout.symbol_prefix(dataset, provider, symbol, kind)
        if dataset.files.date == "session" and len(years) <= FEW_YEARS:
            yield from (f"{folder}/year={year:04d}" for year in sorted(years))
        else:
            yield folder


def _overlapping(days: Sequence[date]) -> Callable[[ParsedKey], bool]:
    """Return a test: may an object hold a row with a session in ``days`` (ascending)?"""
    sessions, months, years = set(days), {(day.year, day.month) for day in days}, {day.year for day in days}

    def overlaps(found: ParsedKey) -> bool:
        if found.docdate is not None:
            return found.docdate <= days[-1]  # a session is never before the date of its file; only the rows tell how long after
        if found.session is not None:
            return found.session in sessions
        return (found.year, found.month) in months if found.month else found.year in years

    return overlaps


def read_request(lake: Lake, layout: Layout, dataset: Dataset, provider: str, stored: StoredReceipt) -> Iterator[pa.Table]:
    """Yield the rows of a request, of ``dataset.schema``, from the lake objects that its receipt names.

    The values are the current ones, newer than the request's if an object has changed since. If an object no longer exists, or has fewer
    rows than the request wrote, its rows were folded into another one: then all rows of the request's cells are read with ``read_rows``.

    :raises LakeError: if the store fails or an object cannot be read.
    """
    keep, request = row_filter(stored.receipt.cells), stored.receipt.request
    keys, counts = stored.objects["key"].to_pylist(), stored.objects["rows"].to_pylist()
    tables = []
    for key, count, found in zip(keys, counts, lake.get_many(keys), strict=True):
        rows = parquet.decode_rows(found.body, key, dataset) if found else None
        if rows is None or len(rows) < count:
            span = (request.intervals[0].start, request.intervals[-1].end)
            tables = [keep(read_rows(lake, layout, dataset, provider, request.symbols, *span))]
            break
        tables.append(keep(rows))
    yield parquet.by_key(parquet.gather(tables, dataset.schema), dataset.key)
