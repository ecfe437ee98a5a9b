"""Turn the bars of a JSON page into columns, for vendors that name the fields o, h, l, c, v and vw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa


class LetterBar(Protocol):
    """A bar with one-letter fields."""

    o: float | None
    h: float | None
    l: float | None  # noqa: E741 - the vendors' name
    c: float | None
    v: float | None
    vw: float | None


def bar_columns(bars: Sequence[LetterBar]) -> dict[str, pa.Array]:
    """Return the prices and volumes of bars by our names of the columns.

    Each field is read by its name: ``getattr`` takes twice as long, and a response has millions of values.
    """
    values = {
        "open": [bar.o for bar in bars],
        "high": [bar.h for bar in bars],
        "low": [bar.l for bar in bars],
        "close": [bar.c for bar in bars],
        "volume": [bar.v for bar in bars],
        "vwap": [bar.vw for bar in bars],
    }
    return {name: pa.array(column, pa.float64()) for name, column in values.items()}
