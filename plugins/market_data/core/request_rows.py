"""Rows of a response as cells of its request: the rows of its cells, and the symbols that lack rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Block, Request
from market_data.core.intervals import Interval, IntervalSet, difference

if TYPE_CHECKING:
    import pyarrow as pa

EPOCH = date(1970, 1, 1)
BESIDE, OUTSIDE = 0, -1
SAMPLE = 1_000
"""Rows that tell if the rows of a cell are together."""
AT_ONCE = 65_536
"""Rows that are looked at together: each may take 60 bytes of memory meanwhile."""


def rows_inside(rows: pa.Table, intervals: IntervalSet) -> Any:
    """Return a mask of the rows with sessions inside ``intervals``; false where the session is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.repeat(False, len(rows))
    for interval in intervals:
        here = pc.and_(pc.greater_equal(rows["session"], interval.start), pc.less(rows["session"], interval.end))
        found = pc.or_(found, pc.fill_null(here, False))
    return found


def of_request(rows: pa.Table, request: Request) -> pa.Table:
    """Return the rows without those between the cells of ``request``: other cells of its symbols.

    Rows of other symbols or dates are kept.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not request.parts:
        holes = difference([Interval(request.start, request.intervals[-1].end)], request.intervals)
        return rows.filter(pc.invert(rows_inside(rows, holes))) if holes else rows
    _, blocks = _places(rows, request)
    return rows.filter(pa.array(blocks != BESIDE))


def without_rows(rows: pa.Table, request: Request) -> list[tuple[Block, tuple[str, ...]]]:
    """Return each block of ``request`` with those of its symbols that have no row in its cells.

    Rows between the cells, which a response has too, do not count. Blocks that have rows of all symbols, or are outside of the request's
    dates, are left out.
    """
    import numpy as np

    from market_data.core.key_order import texts_of

    rows = rows.select(["symbol", "session"])
    cells = _some_of_each_cell(rows)
    if not request.parts:
        lacking = request.symbols
        for part in chain([rows.slice(0, 1)], cells):  # for most requests of one symbol the first row is enough
            having = texts_of(part["symbol"].filter(rows_inside(part, request.intervals)))
            lacking = tuple(symbol for symbol in lacking if symbol not in having)
            if not lacking:
                return []
        return [(block, lacking) for block in request.blocks]
    count, there = len(request.symbols), set[int]()
    for part in cells:
        symbols, blocks = _places(part, request)
        inside = blocks > BESIDE
        there.update(np.unique((blocks[inside] - 1) * count + symbols[inside]).tolist())
    places = {symbol: place for place, symbol in enumerate(request.symbols)}
    found = []
    for number, block in enumerate(request.blocks):
        if all(interval.start >= request.intervals[-1].end or interval.end <= request.start for interval in block.intervals):
            continue
        if absent := tuple(symbol for symbol in block.symbols if number * count + places[symbol] not in there):
            found.append((block, absent))
    return found


def _some_of_each_cell(rows: pa.Table) -> Iterator[pa.Table]:
    """Yield rows with each cell of ``rows`` at least once.

    They are few where the rows of a cell are together.
    """
    from market_data.core.key_order import run_starts

    for start in range(0, len(rows), AT_ONCE):
        piece = rows.slice(start, AT_ONCE)
        first = piece.slice(0, SAMPLE)
        runs = run_starts(first, first.column_names)
        together = runs is not None and 2 * len(runs) <= len(first)  # else to look for runs costs more than it saves
        starts = run_starts(piece, piece.column_names) if together else None
        yield piece if starts is None else piece.take(starts)


def _places(rows: pa.Table, request: Request) -> tuple[Any, Any]:
    """Return each row's symbol, and its block counted from 1, as numbers.

    A row of the request's symbols and span that is in no block has the number ``BESIDE``, one of other symbols or dates ``OUTSIDE``.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    first, days_of_all = request.start, (request.intervals[-1].end - request.start).days
    numbers = np.full((len(request.symbols), days_of_all), BESIDE, dtype=np.int64)
    places = {symbol: place for place, symbol in enumerate(request.symbols)}
    for number, block in enumerate(request.blocks, 1):
        own = np.array([places[symbol] for symbol in block.symbols])
        for interval in block.intervals:
            start, end = (max(0, (day - first).days) for day in interval)
            numbers[own, start:end] = number
    symbols = pc.fill_null(pc.index_in(rows["symbol"], pa.array(request.symbols, pa.string())), -1).to_numpy()
    days = pc.fill_null(rows["session"].cast(pa.int32()), -1).to_numpy() - (first - EPOCH).days
    inside = (symbols >= 0) & (days >= 0) & (days < days_of_all)
    found = np.full(len(rows), OUTSIDE, dtype=np.int64)
    found[inside] = numbers[symbols[inside], days[inside]]
    return symbols, found
