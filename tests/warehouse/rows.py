"""Rows of the datasets that have tables, for the warehouse's tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from market_data.core import calendar
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.base import Dataset
from market_data.warehouse import repeated_keys, upsert_sql

OF_A_LOAD = (
    upsert_sql.count_stage,
    upsert_sql.compare,
    upsert_sql.insert_versions,
    upsert_sql.insert_first_versions,
    upsert_sql.insert_new,
    upsert_sql.insert_confirmed,
    upsert_sql.begin_again,
    upsert_sql.merge,
    upsert_sql.insert_newest,
    upsert_sql.delete_replaced,
    repeated_keys.repeated_keys,
)
"""What makes a load's statements, but for those of the audit row."""
FIRST = datetime(2024, 1, 2, tzinfo=UTC)
SEEN = datetime(2024, 9, 1, 22, 0, 0, 123456, tzinfo=UTC)


def bar(symbol: str = "AAPL", day: datetime = FIRST, **values: Any) -> dict[str, Any]:
    """A daily bar of ``day``, seen at ``SEEN``; ``values`` overrule."""
    price = values.get("close", 100.25)
    prices = {"open": price, "high": price, "low": price, "close": price}
    optional = {"adj_close": None, "volume": 1000.0, "vwap": price, "trade_count": 10}
    where = {"symbol": symbol, "timeframe": "1d", "bar_time": day, "session": day.date(), "provider": "polygon", "ingest_ts": SEEN}
    return where | prices | optional | values


def trade(symbol: str = "AAPL", **values: Any) -> dict[str, Any]:
    """A trade at ``FIRST``, seen at ``SEEN``; ``values`` overrule, here and below."""
    where = {"symbol": symbol, "session": FIRST.date(), "provider": "databento", "ingest_ts": SEEN}
    event = {"ts_event": FIRST, "sequence": 1, "ordinal": 0}
    return where | event | {"price": 100.25, "size": 10.0, "side": "A", "venue": "39", "conditions": "12,37"} | values


def item(symbol: str = "AAPL", **values: Any) -> dict[str, Any]:
    """An item of an income statement."""
    where = {"symbol": symbol, "session": date(2024, 2, 2), "provider": "fmp", "ingest_ts": SEEN}
    statement = {"statement": "income", "period": "Q1", "fiscal_year": 2024, "period_end": date(2023, 12, 30)}
    filed = {"filing_date": date(2024, 2, 2), "accepted_at": datetime(2024, 2, 1, 18, 3, 38, tzinfo=UTC), "currency": "USD"}
    return where | statement | filed | {"item": "revenue", "value": 119575000000.0} | values


def dividend(symbol: str = "AAPL", ex_date: date = date(2024, 2, 9), amount: float = 0.24, **values: Any) -> dict[str, Any]:
    """A quarterly dividend in cash."""
    where = {"symbol": symbol, "session": ex_date, "provider": "polygon", "ingest_ts": SEEN}
    action = {"action": "dividend", "ex_date": ex_date, "action_id": f"E{ex_date}", "split_from": None, "split_to": None}
    dates = {"declaration_date": date(2024, 2, 1), "record_date": date(2024, 2, 12), "pay_date": date(2024, 2, 15)}
    return where | action | {"amount": amount, "currency": "USD", "kind": "CD", "frequency": 4} | dates | values


def split(
    symbol: str = "AAPL", ex_date: date = date(2020, 8, 31), ratio: tuple[float, float] = (1, 4), **values: Any
) -> dict[str, Any]:
    """A split of ``ratio``: how many shares became how many."""
    none = dict.fromkeys(("amount", "currency", "kind", "frequency", "declaration_date", "record_date", "pay_date"))
    return dividend(symbol, ex_date) | none | {"action": "split", "split_from": ratio[0], "split_to": ratio[1]} | values


def table(*rows: Mapping[str, Any], dataset: Dataset = OHLCV_1D) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=dataset.schema)


def bars(symbol: str, count: int, start: datetime = FIRST, **values: Any) -> pa.Table:
    """``count`` bars on consecutive days with rising closes."""
    return table(*(bar(symbol, start + timedelta(days=n), close=100.0 + n, **values) for n in range(count)))


def sessions(count: int, start: datetime = FIRST) -> list[datetime]:
    """The first ``count`` sessions from ``start`` on, at midnight."""
    days = calendar.sessions(start.date(), start.date() + timedelta(days=2 * count + 10))
    return [midnight(day) for day in days[:count]]


def later(seconds: float) -> datetime:
    """A moment after ``SEEN``."""
    return SEEN + timedelta(seconds=seconds)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def naive(moment: datetime) -> datetime:
    """As the warehouse gives it back."""
    return moment.astimezone(UTC).replace(tzinfo=None)
