"""A moment that is not in the calendar, or text that is none, makes an object of the lake a broken one."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from market_data.core.errors import BrokenObject
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.lake import fingerprint, ledger, parquet, quarantine
from market_data.lake.coverage import SCHEMA
from market_data.lake.layout import quarantine_prefix
from market_data.lake.store import Lake
from tests.lake.rows import D0, bars

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RECORD = pa.table([["A"], [D0], ["have"], [""], [NOW], ["r"], ["b"]], schema=SCHEMA)


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


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)])
def test_a_moment_that_may_be_null_is_kept_as_the_vendor_said_it(moment):
    """Old lakes have such statements: another refetch must not move the object aside."""
    row = {
        "symbol": "A",
        "session": D0,
        "statement": "income",
        "period": "Q1",
        "fiscal_year": 2024,
        "period_end": D0,
        "filing_date": D0,
    }
    row |= {"accepted_at": moment, "currency": "USD", "item": "revenue", "value": 1.0, "provider": "fmp", "ingest_ts": NOW}
    rows = pa.Table.from_pylist([row], schema=FUNDAMENTALS.schema)
    assert parquet.decode_rows(parquet.encode(rows), "x", FUNDAMENTALS).equals(rows)
    assert len(fingerprint.row_hashes(rows, rows.column_names)) == 1


def test_a_rejected_row_with_a_wrong_moment_stays_in_quarantine(tmp_path):
    lake, run = Lake.open(f"file://{tmp_path}"), RunInfo("d", "r", "scheduled", 0, NOW)
    schema = pa.schema([field.with_nullable(True) for field in OHLCV_1D.received])
    for symbol, moment in (("A", datetime(2999, 1, 1, tzinfo=UTC)), ("B", NOW)):
        rows = pa.Table.from_pylist([{"symbol": symbol, "session": D0, "bar_time": moment}], schema=schema)
        quarantine.write(lake, "ohlcv-1d", "p", run, "b001", rows.append_column("reasons", pa.array(["wrong"])))
    [key] = [key for key, _ in lake.list("")]
    assert key.startswith(quarantine_prefix("ohlcv-1d", "p", D0))
    assert parquet.decode(lake.get(key).body, key)["symbol"].to_pylist() == ["A", "B"]


def test_the_number_of_a_moment_is_that_of_its_nanoseconds():
    moments = pa.array([NOW, None, datetime(1969, 12, 31, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    as_nanoseconds = pa.table({"at": moments.cast(pa.timestamp("ns", tz="UTC"))})
    assert np.array_equal(fingerprint.row_hashes(pa.table({"at": moments}), ["at"]), fingerprint.row_hashes(as_nanoseconds, ["at"]))
