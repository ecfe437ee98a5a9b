"""Gaps in gold: a return or a window over a missing session is null, by the calendar of the symbol, on every engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core import calendar
from market_data.datasets.bars import OHLCV_1D
from market_data.providers.registry import calendar_of_source
from market_data.warehouse import WarehouseConnection, migrations
from market_data.warehouse.base import Warehouse
from tests.warehouse.rows import bar, midnight, sessions, table

WINDOWS = {"ma_20": 20, "ma_50": 50, "close_stddev_20d": 20, "volatility_20d": 21, "high_52w": 252, "low_52w": 252}


def features(warehouse: Warehouse, days: Sequence[datetime], symbol: str = "BRK.B", **values: Any) -> list[dict[str, Any]]:
    """Load bars of ``days`` and return their features, by day."""
    rows = [bar(symbol, day, close=100.0 + n % 7, **values) for n, day in enumerate(days)]
    warehouse.load(OHLCV_1D, table(*rows), f"{symbol} {days[0]} {len(days)}")
    select = "SELECT * FROM gold_price_features WHERE symbol = ? ORDER BY bar_time"
    return warehouse.query(select, [symbol]).to_pylist()


def numbers(warehouse: Warehouse) -> dict[date, int | None]:
    found = warehouse.query("SELECT session_date, session_no FROM market_sessions WHERE calendar = 'XNYS'").to_pylist()
    return {row["session_date"]: row["session_no"] for row in found}


def test_a_return_over_thirteen_years_is_null(warehouse: Warehouse) -> None:
    """Two runs: some of 2013, some of 2026. Neither a return nor a mean joins them."""
    days = [*sessions(30, datetime(2013, 1, 2, tzinfo=UTC)), *sessions(30, datetime(2026, 1, 2, tzinfo=UTC))]
    found = features(warehouse, days)
    assert [row["simple_ret"] is None for row in found] == ([True] + [False] * 29) * 2
    assert [row["log_ret"] is None for row in found] == ([True] + [False] * 29) * 2
    assert [row["ma_20"] is None for row in found] == ([True] * 19 + [False] * 11) * 2
    assert [row["ma_50"] for row in found] == [None] * 60
    assert [row["volatility_20d"] is None for row in found] == ([True] * 20 + [False] * 10) * 2


@pytest.mark.parametrize("missing", [[300], [300, 301, 302, 310], list(range(290)), [251]])
def test_windows_are_null_until_they_are_full_again(warehouse: Warehouse, missing: list[int]) -> None:
    days = sessions(560, datetime(2022, 3, 1, tzinfo=UTC))
    there = [n for n in range(560) if n not in missing]
    found = features(warehouse, [days[n] for n in there])
    run = {n: next(size for size in range(1, 600) if n - size not in there) for n in there}  # bars in a row up to this one
    for name, size in {"simple_ret": 2, **WINDOWS}.items():
        wanted = [run[n] >= size for n in there]
        assert [row[name] is not None for row in found] == wanted, name
        assert any(wanted)


def test_weekends_and_holidays_are_not_gaps(warehouse: Warehouse) -> None:
    days = [date(2001, 9, 10), date(2001, 9, 17), date(2024, 12, 24), date(2024, 12, 26), date(2025, 1, 8), date(2025, 1, 10)]
    found = features(warehouse, [midnight(day) for day in days])
    assert [row["simple_ret"] is not None for row in found] == [False, True] * 3


def test_a_bar_on_a_day_without_a_session_has_no_return(warehouse: Warehouse) -> None:
    days = [date(2024, 7, 3), date(2024, 7, 4), date(2024, 7, 5), date(2024, 7, 8)]
    found = features(warehouse, [midnight(day) for day in days])
    assert [row["simple_ret"] is not None for row in found] == [False, False, False, True]


def test_sessions_are_counted_from_the_calendar(warehouse: Warehouse) -> None:
    wanted = calendar.sessions(calendar.FIRST, calendar.LAST + timedelta(days=1))
    assert numbers(warehouse) == {day: n for n, day in enumerate(wanted, 1)}


def test_sessions_that_were_deleted_come_back(warehouse: Warehouse) -> None:
    before = numbers(warehouse)
    with warehouse._transaction():
        warehouse._execute("delete", "DELETE FROM market_sessions WHERE session_no > 5000")
        warehouse._execute("update", "UPDATE market_sessions SET session_no = 7 WHERE session_no = 70")
    assert numbers(warehouse) != before
    assert warehouse.migrate() == []
    assert numbers(warehouse) == before


def test_an_extra_closure_is_not_a_gap(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, after = date(2027, 3, 2), date(2027, 3, 3)
    days = [day for day in sessions(30, datetime(2027, 2, 22, tzinfo=UTC)) if day.date() != closed]
    before = features(warehouse, days)
    monkeypatch.setenv("MARKET_DATA_EXTRA_CLOSURES", closed.isoformat())
    warehouse.migrate()
    found = features(warehouse, days)
    of_day = [row["bar_time"].date() for row in found].index(after)
    assert before[of_day]["simple_ret"] is None
    assert found[of_day]["simple_ret"] is not None
    counted = numbers(warehouse)
    assert (counted[closed], counted[after]) == (None, counted[date(2027, 3, 1)] + 1)  # type: ignore[operator]
    monkeypatch.delenv("MARKET_DATA_EXTRA_CLOSURES")
    warehouse.migrate()
    assert numbers(warehouse)[closed] == counted[after]


# --- other calendars ------------------------------------------------------------------------------------------------------------

EVERY_DAY = [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]


def test_a_symbol_follows_its_own_calendar(warehouse: Warehouse) -> None:
    days = [midnight(day) for day in EVERY_DAY[:40]]
    coin = features(warehouse, [*days[:25], *days[26:]], "X:BTCUSD")
    assert [n for n, row in enumerate(coin) if row["simple_ret"] is None] == [0, 25]
    assert [n for n, row in enumerate(coin) if row["ma_20"] is not None] == list(range(19, 25))
    share = features(warehouse, sessions(25), "AAPL")
    assert [n for n, row in enumerate(share) if row["simple_ret"] is None] == [0]
    features(warehouse, days, "X:BTCUSD")  # the rest, and again what is there
    found = warehouse.query("SELECT symbol, provider, calendar FROM symbol_calendars").to_pylist()
    assert [tuple(row.values()) for row in found] == [("X:BTCUSD", "polygon", "24/7")]


def test_futures_trade_on_holidays_of_the_stock_exchange(warehouse: Warehouse) -> None:
    """On Martin Luther King Jr. Day 2026 and on Good Friday 2026 New York is closed, and the E-mini S&P 500 trades."""
    for around in (date(2026, 1, 19), date(2026, 4, 3)):
        days = [midnight(day) for day in calendar.CMES.sessions(around - timedelta(days=4), around + timedelta(days=5))]
        assert midnight(around) in days
        found = features(warehouse, days, "ES.c.0")
        assert [row["simple_ret"] is None for row in found[-len(days) :]] == [True] + [False] * (len(days) - 1)


def test_a_provider_may_mean_something_else_by_a_spelling(warehouse: Warehouse) -> None:
    days = [midnight(day) for day in calendar.CMES.sessions(date(2026, 1, 15), date(2026, 1, 23))]
    rows = table(*(bar("15144", day, provider="databento~GLBX.MDP3") for day in days))
    select = "SELECT symbol FROM gold_price_features WHERE simple_ret IS NULL"
    warehouse.load(OHLCV_1D, rows, "by spelling")
    assert warehouse.query(select).num_rows == 3
    warehouse.load(OHLCV_1D, rows, "by provider", calendar_of=calendar_of_source("databento~GLBX.MDP3"))
    assert warehouse.query(select).num_rows == 1
    warehouse.load(OHLCV_1D, rows, "by spelling again")
    assert warehouse.query(select).num_rows == 3


def test_the_migration_names_the_calendars_of_symbols_already_loaded(
    connection: WarehouseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_with_hooks(connection) as warehouse:
        with monkeypatch.context() as earlier:
            earlier.setattr(migrations, "_ALL", tuple(m for m in migrations._ALL if m.version <= 32))
            earlier.setattr(Warehouse, "_count_sessions", lambda _: None)
            earlier.setattr(Warehouse, "_name_calendars", lambda *_: False)
            warehouse.migrate()
            rows = [bar(symbol, midnight(day), close=100.0) for day in EVERY_DAY[:30] for symbol in ("X:ETHUSD", "AAPL")]
            warehouse.load(OHLCV_1D, table(*rows), "before")
            before = warehouse.query("SELECT * FROM silver_prices ORDER BY symbol, bar_time")
            versions = warehouse.query("SELECT * FROM bronze_prices ORDER BY symbol, bar_time")
        assert "0038_gold_price_features" in warehouse.migrate()
        assert warehouse.query("SELECT symbol, calendar FROM symbol_calendars").to_pylist() == [
            {"symbol": "X:ETHUSD", "calendar": "24/7"}
        ]
        found = warehouse.query("SELECT symbol, simple_ret FROM gold_price_features WHERE simple_ret IS NOT NULL").to_pylist()
        assert [row["symbol"] for row in found].count("X:ETHUSD") == 29
        assert 0 < [row["symbol"] for row in found].count("AAPL") < 25
        assert warehouse.query("SELECT * FROM silver_prices ORDER BY symbol, bar_time").equals(before)
        assert warehouse.query("SELECT * FROM bronze_prices ORDER BY symbol, bar_time").equals(versions)


# --- prices of nothing and less -------------------------------------------------------------------------------------------------


def test_returns_of_negative_prices_are_null(warehouse: Warehouse) -> None:
    """Crude oil's May contract closed at -37.63 on 2020-04-20. There is no return from there, and no logarithm of it."""
    closes = {date(2020, 4, 17): 18.27, date(2020, 4, 20): -37.63, date(2020, 4, 21): 10.01, date(2020, 4, 22): 0.0}
    closes |= {date(2020, 4, 23): 16.5, date(2020, 4, 24): 16.94}
    rows = [
        bar("CL.c.0", midnight(day), close=close, low=min(close, -40.32) if close < 0 else close) for day, close in closes.items()
    ]
    assert warehouse.load(OHLCV_1D, table(*rows), "one").rows_changed == len(closes)
    found = warehouse.query("SELECT * FROM gold_price_features ORDER BY bar_time").to_pylist()
    assert [float(row["close_px"]) for row in found] == list(closes.values())
    assert [row["simple_ret"] for row in found] == [
        None,
        pytest.approx(-37.63 / 18.27 - 1),
        None,
        pytest.approx(-1),
        None,
        pytest.approx(16.94 / 16.5 - 1),
    ]
    assert [row["log_ret"] is None for row in found] == [True] * 5 + [False]
    lows = warehouse.query("SELECT low_px FROM silver_prices ORDER BY bar_time")["low_px"].to_pylist()
    assert float(lows[1]) == -40.32


def test_a_volatility_over_a_negative_price_is_null(warehouse: Warehouse) -> None:
    days = [midnight(day) for day in calendar.CMES.sessions(date(2024, 1, 2), date(2024, 4, 2))[:60]]
    rows = [bar("CL.c.0", day, close=-1.0 if n == 30 else 20.0 + n % 3) for n, day in enumerate(days)]
    warehouse.load(OHLCV_1D, table(*rows), "one")
    found = warehouse.query("SELECT * FROM gold_price_features ORDER BY bar_time").to_pylist()
    there = [n for n, row in enumerate(found) if row["volatility_20d"] is not None]
    assert there == [*range(20, 30), *range(51, 60)]
    assert [n for n, row in enumerate(found) if row["ma_20"] is None] == list(range(19))


def test_adjusted_prices_of_negative_ones_are_as_traded(warehouse: Warehouse) -> None:
    rows = [bar("CL.c.0", day, close=close) for day, close in zip(sessions(3), (18.27, -37.63, 10.01), strict=True)]
    warehouse.load(OHLCV_1D, table(*rows), "one")
    found = warehouse.query("SELECT close_px, adj_close_px FROM gold_adjusted_prices ORDER BY bar_time").to_pylist()
    assert [float(row["close_px"]) for row in found] == [18.27, -37.63, 10.01]
