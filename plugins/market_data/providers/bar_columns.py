"""Turn the bars of a JSON page into columns, for vendors that name the fields o, h, l, c, v, vw and n."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_data.providers.unexpected import Problems, whole_numbers

COLUMNS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw"}
"""Our name of a column -> the vendors'."""
EXACT = 2.0**53
"""Whole numbers below it, and above minus it, are the same as floats."""


class LetterBar(Protocol):
    """A bar with one-letter fields."""

    o: float | None
    h: float | None
    l: float | None  # noqa: E741 - the vendors' name
    c: float | None
    v: float | None
    vw: float | None
    n: float | None


def numbers(bars: Sequence[LetterBar]) -> dict[str, NDArray[np.float64]]:
    """Return the fields of bars by the vendors' names, as of `floats`.

    Each is read by its name into a list of its own: of all ways that takes the least time, and a response has millions of values.
    """
    fields = {
        "o": [bar.o for bar in bars],
        "h": [bar.h for bar in bars],
        "l": [bar.l for bar in bars],
        "c": [bar.c for bar in bars],
        "v": [bar.v for bar in bars],
        "vw": [bar.vw for bar in bars],
        "n": [bar.n for bar in bars],
    }
    return {name: floats(values) for name, values in fields.items()}


def floats(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return numbers as floats, NaN for None. JSON has no NaN.

    Whole numbers too large for a float become infinity.
    """
    with suppress(struct.error, OverflowError):  # for None, and for what the next lines say
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))  # half the time of NumPy's own ways
    try:
        return np.fromiter(values, np.float64, count=len(values))
    except OverflowError:  # an integer of more than 308 digits
        return np.fromiter(map(_number, values), np.float64, count=len(values))


def _number(value: float | None) -> float:
    if value is None:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number_columns(values: Mapping[str, NDArray[np.float64]]) -> dict[str, pa.Array]:
    """Return prices and volumes by our names of the columns, null for NaN.

    :param values: of `numbers`.
    """
    return {name: pa.array(values[field], pa.float64(), from_pandas=True) for name, field in COLUMNS.items()}


def trade_counts(bars: Sequence[LetterBar], values: NDArray[np.float64], problems: Problems) -> pa.Array:
    """Return the field ``n`` of bars as `whole_numbers` does.

    :param values: the same as floats, of `numbers`.
    """
    counts = _exact_whole_numbers(values)
    return whole_numbers([bar.n for bar in bars], "n", problems) if counts is None else counts


def _exact_whole_numbers(values: NDArray[np.float64]) -> pa.Array | None:
    """Return whole numbers as such, null for NaN.

    None if one is not whole, or too large to be exact as a float.
    """
    unknown = np.isnan(values)
    known = np.where(unknown, 0.0, values)
    if not ((np.abs(known) < EXACT) & (known == np.floor(known))).all():
        return None
    return pa.array(known.astype(np.int64), pa.int64(), mask=unknown)
