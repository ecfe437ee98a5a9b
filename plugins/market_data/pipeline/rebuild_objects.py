"""Lake objects that a rebuild reads: their keys, judged without reading them, and their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from market_data.core.errors import BrokenObject
from market_data.core.run import GRAINS

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.layout import ParsedKey
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

KeysOf = Callable[[str], Sequence[str]]
"""Lists the keys of a symbol's objects."""


def listing_of(lake: Lake, selection: Selection, cells: pa.Table | None) -> KeysOf:
    """Return a function that lists the keys of a symbol's objects that may hold selected rows.

    :param cells: only objects that may hold rows of these, judged by their keys.
    :return: of ``ALL_SYMBOLS``, it lists the session files.
    """
    from market_data.lake import session_files
    from market_data.lake.layout import ALL_SYMBOLS

    holds = _holding(cells)
    layout, dataset = selection.layout, selection.dataset

    def keys_of(symbol: str) -> list[str]:
        if symbol == ALL_SYMBOLS:
            years = session_files.stored_years(lake, layout, dataset, selection.source)
            chosen = [year for year in years if selection.start.year <= year <= selection.end.year]
            found = session_files.stored_sessions(lake, layout, dataset, selection.source, chosen).values()
            return [key for key in found if (parsed := _selected(selection, key)) is not None and holds(parsed)]
        folders = [layout.symbol_prefix(dataset, selection.source, symbol, kind) for kind in dataset.files.kinds or (None,)]
        listed = ((key, _selected(selection, key)) for folder in folders for key, _ in lake.list(folder))
        return [key for key, parsed in listed if parsed is not None and holds(parsed)]

    return keys_of


def _holding(cells: pa.Table | None) -> Callable[[ParsedKey], bool]:
    """Return a test: may an object hold rows of ``cells``, judged by its key?"""
    from market_data.lake.layout import ALL_SYMBOLS

    if cells is None:
        return lambda _: True
    days: dict[str, set[tuple[int, ...]]] = {}
    for symbol, session in zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True):
        year, month, day = session.year, session.month, session.day
        for name in (symbol, ALL_SYMBOLS):
            days.setdefault(name, set()).update([(year,), (year, month), (year, month, day)])

    def holds(parsed: ParsedKey) -> bool:
        if parsed.docdate:
            return parsed.symbol in days
        period = (parsed.year, *([parsed.month] if parsed.month else []), *([parsed.session.day] if parsed.session else []))
        return period in days.get(parsed.symbol, ())

    return holds


def _selected(selection: Selection, key: str) -> ParsedKey | None:
    """Return the parts of the key of an object that may hold selected rows, else None."""
    parsed = selection.layout.parse(key)
    if parsed is None or parsed.folder != selection.dataset.folder:
        return None
    # No session is before the docdate of its file.
    years = range(selection.start.year, selection.end.year + 1)
    outside = parsed.year not in years if parsed.docdate is None else parsed.docdate > selection.end
    if outside or (parsed.session and not selection.start <= parsed.session <= selection.end):
        return None
    return parsed


def rows_of_objects(
    lake: Lake,
    selection: Selection,
    symbols: Sequence[str],
    cells: pa.Table | None,
    broken: Callable[[BrokenObject, str], None],
) -> Iterator[tuple[str, pa.Table]]:
    """Yield key and rows of the objects of ``symbols``; of session files the rows of these symbols.

    :param broken: takes the error and the key of an object that cannot be read.
    """
    from market_data.lake import parquet
    from market_data.lake.layout import ALL_SYMBOLS
    from market_data.lake.reader import Content, listed_objects, listing, reader_of

    layout, dataset = selection.layout, selection.dataset
    keys_of = listing_of(lake, selection, cells)
    named = listing(lake, layout, dataset, selection.source, keys_of, lambda: keys_of(ALL_SYMBOLS))
    read_whole = reader_of(lake, layout, dataset, frozenset(symbols))

    def read(key: str) -> Content | None:
        try:
            return read_whole(key)
        except BrokenObject as error:
            broken(error, key)
            return dataset.schema.empty_table()

    names = [*symbols, ALL_SYMBOLS] if dataset.has_session_files else symbols
    for key, content in listed_objects(lake, names, named, read=read):
        try:
            yield key, parquet.decode_rows(content, key, dataset) if isinstance(content, bytes) else content
        except BrokenObject as error:
            broken(error, key)


def day_files_first(selection: Selection, keys: Iterable[str]) -> list[str]:
    """Return ``keys`` in the order in which the first of equally new rows counts."""

    def place(key: str) -> tuple[int, str]:
        parsed = selection.layout.parse(key)
        return (GRAINS.index(parsed.grain) if parsed else len(GRAINS), key)

    return sorted(keys, key=place)
