"""A moment that is not in the calendar, or text that is none, makes an object of the lake a broken one."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from market_data.core.errors import BrokenObject
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import ledger, parquet
from tests.lake.rows import D0, bars

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RECORD = pa.table([["A"], [D0], ["have"], [""], [NOW], ["r"], ["b"]], schema=ledger.SCHEMA)


def decode(name, body):
    return ledger.decode_records(body, "x") if name == "ledger" else parquet.decode_rows(body, "x", OHLCV_1D)


CASES = [
    ("ledger", RECORD, "session"),
    ("ledger", RECORD, "recorded_at"),
    ("rows", bars([("A", D0)]), "session"),
    ("rows", bars([("A", D0)]), "bar_time"),
    ("rows", bars([("A", D0)]), "ingest_ts"),
]


@pytest.mark.parametrize(("name", "table", "column"), CASES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_moment_that_is_not_in_the_calendar_is_named(name, table, column, sign):
    assert len(decode(name, parquet.encode(table))) == 1
    kind = table.schema.field(column).type
    value = pa.array(
        [sign * (2**31 - 1 if pa.types.is_date(kind) else 2**63 - 1)], pa.int32() if pa.types.is_date(kind) else pa.int64()
    )
    odd = table.set_column(table.schema.get_field_index(column), table.schema.field(column), value.cast(kind))
    with pytest.raises(BrokenObject, match=f"{column} has a moment that is not in the calendar"):
        decode(name, parquet.encode(odd))


@pytest.mark.parametrize(("name", "table", "column"), [("ledger", RECORD, "batch_id"), ("rows", bars([("A", D0)]), "provider")])
def test_text_that_is_not_utf8_is_a_broken_object(name, table, column):
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    odd = table.set_column(table.schema.get_field_index(column), table.schema.field(column), text)
    with pytest.raises(BrokenObject, match="Invalid UTF8"):
        decode(name, parquet.encode(odd))
