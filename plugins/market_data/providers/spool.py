"""Keep the rows of a large response in a file, and hand them out in groups of symbols.

A table of the file is an ordinary Arrow table whose memory is the file's: it takes memory where it is read, until it is released.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

IN_MEMORY = 65_536
"""Rows of a response that stay in memory, if no other number is given: some 6 MB."""

MOST_PIECES = 256
"""Pieces of a group, at most, for which it is put together symbol by symbol: rows that came by time are then in the order of their key."""

Slices = list[tuple[int, int]]
"""First row (inclusive) and last (exclusive) of each piece."""


def nothing_to_release() -> None:
    """Do nothing: the rows are in memory."""


@dataclass
class Spool:
    """Rows that arrive table by table.

    :param schema: of all tables.
    :param most: rows that stay in memory.
    :param release: drop from memory what was read of the file, once there is one.
    """

    schema: pa.Schema
    most: int = IN_MEMORY
    release: Callable[[], None] = nothing_to_release
    _tables: list[pa.Table] = field(default_factory=list)
    _rows: int = 0
    _writer: pa.RecordBatchFileWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Append rows. In a file, those of one table are ordered by symbol, else as they came."""
        self._rows += len(table)
        self._tables.append(table)
        if self._rows <= self.most:
            return
        if self._writer is None:
            self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as the table
            self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), self.schema)
        while self._tables:
            one = self._tables.pop(0)
            self._writer.write_table(one.take(pc.sort_indices(one["symbol"].combine_chunks())).combine_chunks())

    def table(self) -> pa.Table:
        """Return all rows. None can be added afterwards."""
        if self._writer is None:
            return pa.concat_tables([self.schema.empty_table(), *self._tables])
        self._writer.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()  # the map holds it
        pa.default_memory_pool().release_unused()
        self.release = lambda: mapped.madvise(mmap.MADV_DONTNEED)
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()


def groups_of(rows: pa.Table, column: str, most: int) -> list[Slices] | None:
    """Return groups of about ``most`` rows that share no value of ``column``, as pieces of ``rows``.

    :return: None if the rows of some chunk are not in its order, so that a group would have too many pieces.
    """
    chunks = rows[column].chunks
    names = pc.unique(rows[column]).sort()
    codes = [pc.index_in(chunk, names).to_numpy(zero_copy_only=False) for chunk in chunks]
    if any((np.diff(found) < 0).any() for found in codes):
        return None
    counts = np.sum([np.bincount(found, minlength=len(names)) for found in codes], axis=0)
    starts = np.concatenate([[0], np.cumsum([len(found) for found in codes])[:-1]])
    edges = np.array(
        [start + np.searchsorted(found, np.arange(len(names) + 1)) for found, start in zip(codes, starts, strict=True)]
    )
    return [_pieces(edges, first, last) for first, last in _ranges(counts, most)]


def _ranges(counts: npt.NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    first, held = 0, 0
    for place, count in enumerate(counts.tolist()):
        if held and held + count > most:
            yield first, place
            first, held = place, 0
        held += count
    yield first, len(counts)


def _pieces(edges: npt.NDArray[np.int64], first: int, last: int) -> Slices:
    """:param edges: of each chunk, the first row of each value, and at the end that after the last one."""
    few = (last - first) * len(edges) <= MOST_PIECES
    found = edges[:, first : last + 1] if few else edges[:, [first, last]]
    begins, ends = found[:, :-1].T.ravel(), found[:, 1:].T.ravel()
    return [(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True) if end > begin]


def taken(rows: pa.Table, pieces: Slices) -> pa.Table:
    """Return the pieces of ``rows`` as one table; nothing is copied."""
    return pa.concat_tables([rows.slice(begin, end - begin) for begin, end in pieces])


def in_memory(rows: pa.Table, release: Callable[[], None]) -> pa.Table:
    """Return ``rows`` as one piece each column.

    :param release: of the rows' file. It is called after each column: the system keeps far more of a file in memory than was read.
    """
    if release is nothing_to_release and all(column.num_chunks == 1 for column in rows.columns):
        return rows
    columns = []
    for column in rows.columns:
        columns.append(column.combine_chunks())
        release()
    return pa.table(columns, schema=rows.schema)
