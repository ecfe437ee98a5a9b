"""See in one pass if rows are in the order of their key, each key once.

Most responses are, and need no sorting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def is_ascending(rows: pa.Table, columns: Sequence[str]) -> bool:
    """Return True if each row is after the row before it by ``columns``.

    The first column counts first. No two rows are equal in all columns. False may also mean that it is not known: a value is null, or
    the type is neither text nor a date, a moment or a whole number.
    """
    tied: NDArray[np.bool_] | None = None  # rows that equal the row before them so far; None: all
    for name in columns:
        codes = _codes(rows[name])
        if codes is None:
            return False
        if len(codes) == 1 < len(rows):  # one value in all rows
            continue
        before, after = codes[:-1], codes[1:]  # compared, not subtracted: a difference may not fit into 64 bits
        rises = after > before
        if tied is None and rises.all():
            return True
        falls = after < before
        if (falls if tied is None else falls & tied).any():
            return False
        tied = ~rises if tied is None else tied & ~rises
    return len(rows) < 2 if tied is None else not tied.any()


def run_starts(rows: pa.Table, columns: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the first row of each run of rows that are equal in ``columns``.

    None if it is not known, as in `is_ascending`.
    """
    begins = np.zeros(len(rows), dtype=bool)
    begins[:1] = True
    for name in columns:
        codes = _codes(rows[name])
        if codes is None:
            return None
        if len(codes) == len(rows):
            begins[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(begins)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """Return whole numbers in the order of the values, or None.

    There is a single one where all rows have the same text.
    """
    if column.null_count:
        return None
    if pa.types.is_string(column.type):
        return _places(column)
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    elif not (pa.types.is_timestamp(column.type) or pa.types.is_signed_integer(column.type)):
        return None
    return np.asarray(column.cast(pa.int64()).to_numpy())


def _places(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the place of each text among all, a single one where all are the same; text comes in runs."""
    runs = [pc.run_end_encode(chunk) for chunk in column.chunks]
    texts = [text for run in runs for text in run.values.to_pylist()]
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    if len(places) == 1:
        return np.zeros(1, np.int64)
    lengths = [np.diff(run.run_ends.to_numpy(), prepend=0) for run in runs]
    return np.repeat(np.array([places[text] for text in texts], np.int64), np.concatenate([np.array([], np.int64), *lengths]))
