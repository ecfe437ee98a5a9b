"""The rows of a response as cells of its request."""

from datetime import date, timedelta
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import request_rows
from market_data.core.batch import Block, Request
from market_data.core.intervals import closed
from market_data.core.request_rows import without_rows

FIRST = date(2024, 1, 2)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
BLOCKS = (
    Block(("A", "B"), (closed(DAYS[0], DAYS[1]),)),
    Block(("B", "C"), (closed(DAYS[3], DAYS[3]),)),
)

OF_BLOCKS = Request("ohlcv-1d", "bars", ("A", "B", "C"), (closed(DAYS[0], DAYS[3]),), "", BLOCKS)
WITH_A_HOLE = Request("ohlcv-1d", "bars", ("A", "B", "C"), (closed(DAYS[0], DAYS[1]), closed(DAYS[3], DAYS[3])))


@given(st.lists(st.tuples(st.sampled_from([None, "A", "B", "C", "other"]), st.sampled_from([None, *DAYS])), max_size=8), st.data())
def test_the_symbols_without_a_row_in_a_block(cells, data):
    """Whatever the order and the chunks of the rows, how many a cell has, and where their symbol or date is null."""
    request = data.draw(st.sampled_from([OF_BLOCKS, WITH_A_HOLE]))
    found = [cell for cell in cells for _ in range(data.draw(st.integers(1, 3)))]
    cut = data.draw(st.integers(0, len(found)))
    columns = [
        pa.chunked_array([values[:cut], values[cut:]], kind)
        for values, kind in (([symbol for symbol, _ in found], pa.string()), ([session for _, session in found], pa.date32()))
    ]
    rows = pa.table(columns, names=["symbol", "session"])
    expected = []
    for block in request.blocks:
        there = {symbol for symbol, session in found if session and any(session in interval for interval in block.intervals)}
        if absent := tuple(symbol for symbol in block.symbols if symbol not in there):
            expected.append((block, absent))
    with patch.multiple(request_rows, AT_ONCE=data.draw(st.integers(1, 5)), SAMPLE=data.draw(st.integers(1, 5))):
        assert without_rows(rows, request) == expected
