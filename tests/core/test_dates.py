"""ISO dates, and timestamps that mean one."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from market_data.core.dates import dates_of, read_date

NOVEMBER = date(2026, 11, 2)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-02",
        "2026-11-02T00:00:00Z",
        "2026-11-02T00:00",
        "2026-11-02 00:00:00",
        "2026-11-02T00:00:00.000000",
        "2026-11-02T00:00:00+00:00",
        "2026-11-02T00:00:00-05:00",
    ],
)
def test_midnight_is_a_date(text):
    assert read_date(text) == NOVEMBER


OTHERS = (
    *("soon", "20261102", "2026-W45", "2026-11-2", "2026-02-30", "2026-11-02x", "\u0662026-11-02"),
    *("2026-11-02T00:00:01Z", "2026-11-02T23:59"),
)


@pytest.mark.parametrize("text", OTHERS)
def test_anything_else_is_no_date(text):
    with pytest.raises(ValueError, match=r"."):
        read_date(text)


@pytest.mark.parametrize("days", [[], [NOVEMBER], [NOVEMBER, None, date(1, 1, 1), date(9999, 12, 31)]])
def test_a_column_of_dates_is_read_as_to_pylist_does(days):
    column = pa.array(days, pa.date32())
    assert dates_of(column) == dates_of(pa.chunked_array([column.slice(0, 1), column.slice(1)])) == column.to_pylist() == days
