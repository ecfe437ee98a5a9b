"""Read rows from the lake, from files of every grain alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import LakeError
from market_data.core.run import GRAINS
from market_data.datasets.base import Dataset
from market_data.lake import merge, parquet, session_files
from market_data.lake.cells import row_filter
from market_data.lake.layout import ALL_SYMBOLS, Layout, ParsedKey, symbol_of_folder
from market_data.lake.receipts import StoredReceipt
from market_data.lake.store import Lake

STAMP = "ingest_ts"
SHORT = 7
FEW_YEARS = 2
TRIES = 5
MANY = 16
"""Symbols from which on their folders are listed first: most may have session files only."""

Content: TypeAlias = bytes | pa.Table
"""An object's bytes, or the wanted rows of a session file."""

KeysOf = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
"""Lists the keys of the objects of some names, by name."""


def read_rows(
    lake: Lake, layout: Layout, dataset: Dataset, provider: str, symbols: Sequence[str], start: date, end_exclusive: date
) -> pa.Table:
    """Return the rows of ``symbols`` with sessions from ``start`` (inclusive) to ``end_exclusive``.

    The result has ``dataset.schema`` and is sorted by key. Day files, session files and year (or month) files may overlap: the row with
    the newest ``ingest_ts`` per key is returned; of equally new ones that of the first in this order.

    :raises LakeError: if the store fails or an object cannot be read.
    """
    days = [start + timedelta(n) for n in range((end_exclusive - start).days)]
    names = list(dict.fromkeys(symbols))
    if not days or not names:
        return dataset.schema.empty_table()

    def inside(key: str, content: Content) -> pa.Table:
        rows = parquet.decode_rows(content, key, dataset) if isinstance(content, bytes) else content
        found = layout.parse(key)
        if found and found.session:  # read by its date, so all rows are inside; filtering takes a third of the time of a small file
            return rows
        return rows.filter(pc.and_(pc.greater_equal(rows["session"], start), pc.less(rows["session"], end_exclusive)))

    place = (lake, layout, dataset, provider, names, days)
    if len(days) <= SHORT and dataset.files.date == "session":
        return newest(parquet.gather((inside(key, content) for key, content in _by_key(*place)), dataset.schema), dataset)
    # The order of the grains matters to equally new rows.
    parts = [parquet.Gathered(dataset.schema) for _ in (*GRAINS, "foreign")]
    try:
        for key, content in _listed(*place, once=True):
            parts[_grain(layout, key)].add(inside(key, content))
        rows = pa.concat_tables([part.table() for part in parts])
    except Overtaken:
        # The later reading counts.
        found = {key: inside(key, content) for key, content in _listed(*place)}
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
) -> Iterator[tuple[str, Content]]:
    """Yield every object that may hold rows of the few ``days``, requested by key."""
    seen: set[str] = set()
    # Finer grains come first: a row that is folded into a coarser file in the meantime is then found there.
    for grain in GRAINS:
        if grain not in dataset.files.grains:
            continue
        if grain == "session":
            yield from _of_sessions(lake, dataset, [layout.session_key(dataset, provider, day) for day in days], symbols)
            continue
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
) -> Iterator[tuple[str, Content]]:
    """Yield every object of the symbols that overlaps ``days``, found by listing.

    :param once: as in ``listed_objects``.
    """
    overlaps, years = _overlapping(days), sorted({day.year for day in days})

    def keys(symbol: str) -> list[str]:
        prefixes = _folders(layout, dataset, provider, symbol, years)
        listed = ((layout.parse(key), key) for prefix in prefixes for key, _ in lake.list(prefix))
        return [key for _, key in sorted((GRAINS.index(found.grain), key) for found, key in listed if found and overlaps(found))]

    def sessions() -> list[str]:
        return [
            key
            for day, key in session_files.stored_sessions(lake, layout, dataset, provider, years).items()
            if days[0] <= day <= days[-1]
        ]

    named, present = listing(lake, layout, dataset, provider, keys, sessions), reader_of(lake, layout, dataset, symbols)
    names = [*symbols, ALL_SYMBOLS] if dataset.has_session_files else symbols
    yield from listed_objects(lake, names, named, once=once, read=present)


def listing(
    lake: Lake,
    layout: Layout,
    dataset: Dataset,
    provider: str,
    keys: Callable[[str], Sequence[str]],
    sessions: Callable[[], Sequence[str]],
) -> KeysOf:
    """Return how to list the objects of symbols and, under the name ``ALL_SYMBOLS``, the session files.

    :param keys: lists the objects of a symbol.
    :param sessions: lists the session files.
    """

    def named(names: Sequence[str]) -> dict[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        symbols = [name for name in names if name != ALL_SYMBOLS]
        wanted = symbols
        if len(symbols) > MANY:
            stored = frozenset(stored_symbols(lake, layout, dataset, provider))
            wanted = [symbol for symbol in symbols if symbol in stored]
            found = dict.fromkeys(symbols, ())
        found |= zip(wanted, lake.each(keys, wanted), strict=True)
        return found | ({ALL_SYMBOLS: sessions()} if len(symbols) < len(names) else {})

    return named


def reader_of(lake: Lake, layout: Layout, dataset: Dataset, symbols: Collection[str] | None) -> Callable[[str], Content | None]:
    """Return a function that reads an object: its bytes, or the rows of ``symbols`` in a session file.

    It returns None if the object does not exist.
    """

    def read(key: str) -> Content | None:
        parsed = layout.parse(key)
        if parsed is not None and parsed.grain == "session":
            return session_files.read_symbols(lake, key, dataset, symbols)
        stored = lake.get(key)
        return None if stored is None else stored.body

    return read


def _of_sessions(lake: Lake, dataset: Dataset, keys: Sequence[str], symbols: Sequence[str]) -> Iterator[tuple[str, Content]]:
    for key, rows in zip(keys, lake.each(lambda key: session_files.read_symbols(lake, key, dataset, symbols), keys), strict=True):
        if rows is not None:
            yield key, rows


def stored_symbols(lake: Lake, layout: Layout, dataset: Dataset, provider: str) -> list[str]:
    """Return the symbols that have a folder, by name. Lists folders, not objects.

    Symbols that are in session files only are not among them.
    """
    found: set[str] = set()
    for kind in dataset.files.kinds or (None,):
        parent, _, _ = layout.symbol_prefix(dataset, provider, "X", kind).rpartition("/symbol=")
        found.update(filter(None, map(symbol_of_folder, lake.folders(parent))))
    return sorted(found)


def listed_objects(
    lake: Lake, names: Sequence[str], keys_of: KeysOf, *, once: bool = False, read: Callable[[str], Content | None] | None = None
) -> Iterator[tuple[str, Content]]:
    """Yield key and content of all objects that are listed for each of ``names``.

    Compaction may fold objects into others in the meantime: it writes the other object first. So what is gone is listed again, and what
    a listing missed while it went from page to page is found by a second one. An object may be yielded twice: the later content counts.

    :param keys_of: lists the keys of names; called several times. If a session file disappears, all names are listed again: its rows may
        be in any symbol's objects.
    :param read: reads an object, None if it does not exist; without it, the bytes.
    :param once: yield each object once, in the order of ``keys_of``; where that is not possible, raise ``Overtaken`` instead.
    :raises LakeError: if objects keep disappearing.
    """
    every = names
    for _ in range(TRIES):
        listed = keys_of(names)
        gone: dict[str, None] = {}
        yield from _present(lake, [(name, key) for name, keys in listed.items() for key in keys], gone, read)
        rest = [name for name in names if name not in gone]
        new = []
        for name, keys in keys_of(rest).items():
            known = set(listed[name])
            new += [(name, key) for key in keys if key not in known]
        if once and (gone or new):
            raise Overtaken
        yield from _present(lake, new, gone, read)
        if not gone:
            return
        names = every if ALL_SYMBOLS in gone else list(gone)
        if ALL_SYMBOLS in every and ALL_SYMBOLS not in names:
            names = [*names, ALL_SYMBOLS]  # a day file may be in the file of its session by now
    names = [name or "sessions" for name in gone]
    raise LakeError(f"lake objects of {', '.join(names)} were deleted {TRIES} times while they were read; try again later")


def _present(
    lake: Lake, wanted: Sequence[tuple[str, str]], gone: dict[str, None], read: Callable[[str], Content | None] | None
) -> Iterator[tuple[str, Content]]:
    """Yield the objects that exist; add the names of the others to ``gone``."""

    def body(key: str) -> Content | None:
        stored = lake.get(key)
        return None if stored is None else stored.body

    for (name, key), content in zip(wanted, lake.each(read or body, (key for _, key in wanted)), strict=True):
        if content is None:
            gone[name] = None
        else:
            yield key, content


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

    The values are the current ones, newer than the request's if an object has changed since. An object may no longer exist, or
    have fewer rows of a symbol's requested cells than the request had: its rows were folded into another object, or never left one. All
    rows of the request's cells are then read with ``read_rows``.

    :raises LakeError: if the store fails or an object cannot be read.
    """
    keep, request = row_filter(stored.receipt.cells), stored.receipt.request
    written: defaultdict[str, Counter[str]] = defaultdict(Counter)  # an object of several symbols has a row for each
    for key, symbol, count in zip(*(stored.objects[name].to_pylist() for name in ("key", "symbol", "rows")), strict=True):
        written[key][symbol] += count
    tables = []
    read = reader_of(lake, layout, dataset, frozenset(request.symbols))
    for key, content in zip(written, lake.each(read, written), strict=True):
        rows = parquet.decode_rows(content, key, dataset) if isinstance(content, bytes) else content
        rows = None if rows is None else keep(rows)
        if rows is None or not written[key] <= _per_symbol(rows):
            span = (request.intervals[0].start, request.intervals[-1].end)
            tables = [keep(read_rows(lake, layout, dataset, provider, request.symbols, *span))]
            break
        tables.append(rows)
    yield parquet.by_key(parquet.gather(tables, dataset.schema), dataset.key)


def _per_symbol(rows: pa.Table) -> Counter[str]:
    """Return the number of rows of each symbol."""
    found = rows["symbol"].value_counts()
    return Counter(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
