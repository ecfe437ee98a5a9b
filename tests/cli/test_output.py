"""Rows as text."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from market_data.cli import output

ROWS = pa.table(
    {
        "symbol": ["AAPL", "MSFT"],
        "bar_time": pa.array([datetime(2024, 9, 16), datetime(2024, 9, 16, 14, 31)], pa.timestamp("us")),  # noqa: DTZ001
        "ingest_ts": pa.array([datetime(2024, 9, 17, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
        "close_px": [216.5, 431.34000000000003],
        "volume": pa.array([Decimal("59357400.00000000"), None], pa.decimal128(28, 8)),
        "reason": ["x" * 50, None],
    }
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (datetime(2024, 9, 16), "2024-09-16"),  # noqa: DTZ001
        (datetime(2024, 9, 16, 14, 31), "2024-09-16 14:31"),  # noqa: DTZ001
        (datetime(2024, 9, 16, 14, 31, 5), "2024-09-16 14:31:05"),  # noqa: DTZ001
        (date(2024, 9, 16), "2024-09-16"),
        (Decimal("100.50000000"), "100.5"),
        (Decimal("59357400.00000000"), "59357400"),
        (431.34000000000003, "431.34"),
        (1000, "1000"),
        ("two\nlines", "two lines"),
    ],
)
def test_values_are_short(value, text):
    assert output.short(value) == text


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_a_table_fits_the_width_and_names_what_is_left_out(width):
    text = output.as_table(ROWS, width)
    lines = text.splitlines()
    assert max(map(len, lines[:5])) <= width
    for name in ROWS.column_names:
        assert name in text


def test_technical_columns_go_first():
    assert "ingest_ts" not in output.as_table(ROWS, 90).splitlines()[0]
    assert "reason" in output.as_table(ROWS, 90).splitlines()[0]


def test_numbers_are_right_aligned():
    line = output.as_table(ROWS.select(["volume"]), 80).splitlines()[3]
    assert output.as_table(ROWS.select(["symbol", "close_px"]), 80).splitlines()[2] == "AAPL       216.5"
    assert line == ""


def test_csv_and_json_have_every_column_and_the_exact_values():
    first = next(csv.DictReader(io.StringIO(output.as_csv(ROWS))))
    assert first["close_px"] == "216.5"
    assert first["ingest_ts"] == "2024-09-17T00:00:00+00:00"
    assert json.loads(output.as_json(ROWS))[1]["close_px"] == 431.34000000000003
    assert json.loads(output.as_json(ROWS))[0]["volume"] == 59357400


def test_vertical_has_a_line_per_value():
    assert len(output.as_lines(ROWS).splitlines()) == 2 * (1 + ROWS.num_columns)
    assert output.as_lines(ROWS.slice(0, 0)) == "0 rows"
