"""See in one pass if rows are in the order of their key, each key once.

Most responses are, and need no sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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


def texts_of(column: pa.ChunkedArray) -> set[str | None]:
    """Return the values of a column of text, null as None."""
    if pa.types.is_string(column.type) and _is_one_text(column):
        return {column[0].as_py()}
    return set(pc.unique(column).to_pylist())


def _codes(column: pa.ChunkedArray) -> NDArray[np.signedinteger] | None:
    """Return whole numbers in the order of the values, or None.

    There is a single one where all rows have the same text.
    """
    if column.null_count:
        return None
    if pa.types.is_string(column.type):
        return _places(column)
    if pa.types.is_date32(column.type):
        whole = pa.int32()
    elif pa.types.is_timestamp(column.type):
        whole = pa.int64()
    elif pa.types.is_signed_integer(column.type):
        whole = column.type
    else:
        return None
    parts = [np.asarray(chunk.view(whole)) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.array([], np.int8), *parts])


def _places(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the place of each text among all, a single one where all are the same; text comes in runs."""
    if _is_one_text(column):
        return np.zeros(1, np.int64)
    runs = [pc.run_end_encode(chunk) for chunk in column.chunks]
    texts = [text for run in runs for text in run.values.to_pylist()]
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    lengths = [np.diff(run.run_ends.to_numpy(), prepend=0) for run in runs]
    return np.repeat(np.array([places[text] for text in texts], np.int64), np.concatenate([np.array([], np.int64), *lengths]))


def _is_one_text(column: pa.ChunkedArray) -> bool:
    """Return True if there are rows, and all have the same text: most responses are of one symbol.

    Then all have the length of the first, and the bytes repeat after that many. This takes a quarter of the time of a run-end encoding.
    """
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    if not chunks or column.null_count or any(before[0] != after[0] for before, after in pairwise(chunks)):
        return False
    for chunk in chunks:
        _, places, body = chunk.buffers()
        ends = np.frombuffer(places, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        width = int(ends[1] - ends[0])
        if int(ends[-1] - ends[0]) != width * len(chunk) or (np.diff(ends) != width).any():
            return False
        if width:
            texts = np.frombuffer(body, np.uint8)[ends[0] : ends[-1]]
            if (texts[width:] != texts[:-width]).any():
                return False
    return True
