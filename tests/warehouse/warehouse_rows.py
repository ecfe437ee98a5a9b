"""Rows of the bar dataset for the warehouse's tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from market_data.datasets.bars import SCHEMA

FIRST = datetime(2024, 1, 2, tzinfo=UTC)
SEEN = datetime(2024, 9, 1, 22, 0, 0, 123456, tzinfo=UTC)


def bar(symbol: str = "AAPL", day: datetime = FIRST, **values: Any) -> dict[str, Any]:
    """A daily bar of ``day``, seen at ``SEEN``; ``values`` overrule."""
    price = values.get("close", 100.25)
    prices = {"open": price, "high": price, "low": price, "close": price}
    optional = {"adj_close": None, "volume": 1000.0, "vwap": price, "trade_count": 10}
    where = {"symbol": symbol, "timeframe": "1d", "bar_time": day, "session": day.date(), "provider": "polygon", "ingest_ts": SEEN}
    return where | prices | optional | values


def table(*rows: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def bars(symbol: str, count: int, start: datetime = FIRST, **values: Any) -> pa.Table:
    """``count`` bars on consecutive days with rising closes."""
    return table(*(bar(symbol, start + timedelta(days=n), close=100.0 + n, **values) for n in range(count)))


def later(seconds: float) -> datetime:
    """A moment after ``SEEN``."""
    return SEEN + timedelta(seconds=seconds)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def naive(moment: datetime) -> datetime:
    """As the warehouse gives it back."""
    return moment.astimezone(UTC).replace(tzinfo=None)
