"""Read session files: objects that hold all symbols of a session, sorted by symbol.

A large one has row groups of some symbols each. Reading a few symbols fetches its footer and their row groups only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data.core.errors import LakeError
from market_data.datasets.base import Dataset
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.lake.store import Lake, Part

ROW_GROUP = 16_384
"""Rows per row group: the minutes of some 40 symbols."""

TAIL = 256 * 1024
"""Bytes that the first call requests. The daily bars of 5,000 symbols take less."""

NEAR = 256 * 1024
"""Row groups with fewer bytes between them are one call."""

TRIES = 8


def stored_sessions(lake: Lake, layout: Layout, dataset: Dataset, provider: str, years: Iterable[int]) -> dict[date, str]:
    """Return session -> key of the session files of some years, ascending. One LIST per year."""
    if not dataset.has_session_files:
        return {}
    root = layout.root(dataset, provider)
    found: dict[date, str] = {}
    for listed in lake.each(lake.list, [f"{root}/year={year:04d}" for year in sorted(set(years))]):
        for key, _ in listed:
            parsed = layout.parse(key)
            if parsed is not None and parsed.grain == "session" and parsed.session:
                found[parsed.session] = key
    return found


def stored_years(lake: Lake, layout: Layout, dataset: Dataset, provider: str) -> list[int]:
    """Return the years of session files, ascending. Lists folders, not objects."""
    if not dataset.has_session_files:
        return []
    names = (folder.rpartition("/")[2].removeprefix("year=") for folder in lake.folders(layout.root(dataset, provider)))
    return sorted(int(name) for name in names if len(name) == 4 and name.isdecimal())


def read_symbols(lake: Lake, key: str, dataset: Dataset, symbols: Collection[str] | None) -> pa.Table | None:
    """Return the rows of ``symbols`` in a session file, of ``dataset.schema``; None if it does not exist.

    :param symbols: None: all.
    :raises BrokenObject: if it cannot be read.
    :raises LakeError: if the store fails, or other writers keep replacing the object.
    """
    found = _read(lake, key, symbols)
    if found is None:
        return None
    with parquet.readable(key):
        rows = parquet.conformed(found, dataset)
    return rows if symbols is None else rows.filter(pc.is_in(rows["symbol"], pa.array(sorted(symbols), pa.string())))


def symbols_in(lake: Lake, key: str, symbols: Collection[str] | None) -> list[str] | None:
    """Return the symbols with rows in a session file, in any order; None if it does not exist.

    Fetches one column of a large file.

    :param symbols: only these; None: all.
    :raises BrokenObject: if it cannot be read.
    :raises LakeError: as ``read_symbols``.
    """
    found = _read(lake, key, symbols, ("symbol",))
    if found is None:
        return None
    with parquet.readable(key):
        names: list[str] = found["symbol"].cast(pa.string()).unique().drop_null().to_pylist()
    return names if symbols is None else sorted(set(symbols).intersection(names))


def _read(lake: Lake, key: str, symbols: Collection[str] | None, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Return stored rows, at least those of ``symbols``; None if the object does not exist.

    :param columns: None: all.
    """
    for _ in range(TRIES):
        tail = lake.get_tail(key, TAIL)
        if tail is None:
            return None
        if len(tail.body) == tail.size:
            return parquet.decode(tail.body, key, columns=columns)
        if (found := _chosen_groups(lake, key, tail, symbols, columns)) is not None:
            return found
    raise LakeError(f"lake object {key} was replaced {TRIES} times while it was read; try again later")


def _chosen_groups(
    lake: Lake, key: str, tail: Part, symbols: Collection[str] | None, columns: Sequence[str] | None
) -> pa.Table | None:
    """Return the row groups that may hold rows of ``symbols``; None if the object is another one by now."""
    file = _SparseFile(tail.size)
    end, footer = tail.body, int.from_bytes(tail.body[-8:-4], "little") + 8
    if len(end) < footer <= tail.size:
        more = lake.get_part(key, tail.size - footer, tail.size, tail.etag)
        if more is None:
            return None
        end = more
    with parquet.readable(key):
        metadata = pq.read_metadata(pa.BufferReader(end))
        groups = [n for n in range(metadata.num_row_groups) if symbols is None or _may_hold(metadata.row_group(n), symbols)]
        spans = list(_joined(_span(metadata.row_group(n), columns) for n in groups))
    for first, last in spans:
        body = lake.get_part(key, first, last, tail.etag)
        if body is None:
            return None
        file.add(first, body)
    with parquet.readable(key):
        source = parquet.open_file(pa.PythonFile(file, mode="r"), metadata=metadata, pre_buffer=False)
        rows = source.read_row_groups(groups, columns and list(columns), use_threads=False)
        rows.validate(full=True)  # as `parquet.decode` does
        return rows


def _may_hold(group: Any, symbols: Collection[str]) -> bool:
    columns = (group.column(n) for n in range(group.num_columns))
    statistics = next((column.statistics for column in columns if column.path_in_schema == "symbol"), None)
    if statistics is None or not statistics.has_min_max:
        return True
    return any(statistics.min <= symbol <= statistics.max for symbol in symbols)


def _span(group: Any, columns: Sequence[str] | None) -> tuple[int, int]:
    """Return the first byte of a row group's ``columns``, and the one after their last."""
    starts, ends = [], []
    for column in (group.column(n) for n in range(group.num_columns)):
        if columns is not None and column.path_in_schema not in columns:
            continue
        first = min(filter(None, [column.dictionary_page_offset, column.data_page_offset]))
        starts.append(first)
        ends.append(first + column.total_compressed_size)
    return min(starts, default=0), max(ends, default=0)


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ascending ``spans``, near ones as one."""
    start = end = -NEAR - 1
    for first, last in spans:
        if first - end > NEAR:
            if end > start:
                yield start, end
            start = first
        end = last
    if end > start:
        yield start, end


class _SparseFile(RawIOBase):
    """A file of which some pieces are known."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._place = size, 0
        self._pieces: list[tuple[int, bytes]] = []

    def add(self, start: int, body: bytes) -> None:
        self._pieces.append((start, body))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + {SEEK_CUR: self._place, SEEK_END: self._size}.get(whence, 0)
        return self._place

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._place + size, self._size)
        for start, body in self._pieces:
            if start <= self._place and end <= start + len(body):
                found = body[self._place - start : end - start]
                self._place = end
                return found
        raise OSError(f"bytes {self._place} to {end} of {self._size} were not fetched")
