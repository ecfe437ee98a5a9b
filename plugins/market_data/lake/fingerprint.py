"""Fingerprints of rows and of cells: 64-bit numbers that are equal where the values are.

They are kept in the lake for years, so they depend on the values alone: not on the order of rows, the library or the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
_CELL = ("symbol", "session")
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds per unit."""


def row_hashes(rows: pa.Table, columns: Sequence[str]) -> Hashes:
    """Return a number per row, over the values of ``columns``."""
    found = np.zeros(len(rows), dtype=np.uint64)
    for name in columns:
        seed = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
        found = _mixed(found ^ (_mixed(_numbers(rows[name]) ^ seed)))
    return found


def cell_hashes(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return ``symbol``, ``session`` and ``sum`` per cell: the sum of its rows' numbers, of type int64.

    The sums of a cell's parts add up to that of the cell; see ``added`` and ``finished``.
    """
    sums = pa.array(_mixed(row_hashes(rows, columns)).view(np.int64))
    return added(pa.table({"symbol": rows["symbol"], "session": rows["session"], "sum": sums}))


def added(parts: pa.Table) -> pa.Table:
    """Return one row per cell with the sum of its parts."""
    symbols = parts["symbol"].cast(pa.string()).combine_chunks().dictionary_encode()
    sessions = parts["session"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = (symbols.indices.to_numpy().astype(np.int64) << 32) + sessions
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=np.int64(-1)))
    values = parts["sum"].to_numpy().view(np.uint64)[order]
    sums = np.add.reduceat(values, starts) if len(starts) else values[:0]
    cells = parts.select(list(_CELL)).take(pa.array(order[starts]))
    return cells.append_column("sum", pa.array(sums.view(np.int64)))


def finished(cells: pa.Table) -> Hashes:
    """Return the number of each cell of ``cell_hashes``."""
    named = row_hashes(cells, _CELL)
    return _mixed(named + cells["sum"].to_numpy().view(np.uint64))


def of_empty(symbols: Sequence[str], sessions: Sequence[date]) -> Hashes:
    """Return the number of cells without a row."""
    cells = pa.table({"symbol": pa.array(symbols, pa.string()), "session": pa.array(sessions, pa.date32())})
    return _mixed(row_hashes(cells, _CELL))


def _numbers(column: pa.ChunkedArray) -> Hashes:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    null = pc.is_null(column).to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        found = column.dictionary_encode()
        texts = [
            int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") for text in found.dictionary.to_pylist()
        ]
        codes = np.array([*texts, 0], dtype=np.uint64)[pc.fill_null(found.indices, len(texts)).to_numpy()]
        return np.where(null, _NULL, codes)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        values = np.where(np.isnan(values), np.nan, values)
        return np.where(null, _NULL, values.view(np.uint64))
    if pa.types.is_timestamp(column.type):
        whole = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).view(np.uint64)
        # As nanoseconds. Those of a moment outside 1678 to 2261 have no number; its product is taken modulo 2**64.
        return np.where(null, _NULL, whole * np.uint64(NANOSECONDS[column.type.unit]))
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_decimal(column.type):
        return _numbers(column.cast(pa.string()))
    return np.where(null, _NULL, pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).view(np.uint64))


def _mixed(values: Hashes) -> Hashes:
    """Return well spread numbers: the finalizer of SplitMix64."""
    found = values + _NULL
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
