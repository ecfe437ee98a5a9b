from datetime import date, timedelta

import pytest

from market_data import calendar
from market_data.datasets import dataset
from market_data.errors import ConfigError
from market_data.hooks.base import ProviderConfig
from market_data.hooks.mock import MockHook
from market_data.interval import closed
from market_data.types import Request

FAST = {"calls_per_minute_per_slot": 60_000, "limits": []}


def hook(**extra):
    return MockHook(config=ProviderConfig("mock_default", "", extra={**FAST, **extra}))


def ask(endpoint, symbols, first, last):
    return Request("ohlcv-1d", endpoint, symbols, (closed(first, last),))


FIRST, LAST = date(2020, 2, 3), date(2020, 3, 31)


def test_the_same_bar_comes_whatever_is_asked():
    mock = hook()
    span = mock.fetch(ask("symbol", ("AAPL",), FIRST, LAST)).table
    assert span.schema == dataset("ohlcv-1d").received
    assert span["session"].to_pylist() == list(calendar.sessions(FIRST, LAST + timedelta(days=1)))
    for row in span.to_pylist()[::7]:
        market = mock.fetch(ask("market", ("MSFT", "AAPL", "BRK.B"), row["session"], row["session"])).table.to_pylist()
        assert row in market
        assert [r["symbol"] for r in market] == ["MSFT", "AAPL", "BRK.B"]


def test_another_seed_gives_other_prices():
    request = ask("symbol", ("AAPL",), FIRST, LAST)
    assert hook().fetch(request).table != hook(seed=1).fetch(request).table
    assert hook(seed=1).fetch(request).table == hook(seed=1).fetch(request).table


def test_bars_are_possible_ones():
    rows = hook().fetch(ask("symbol", tuple(f"S{n}" for n in range(50)), date(2012, 1, 3), date(2016, 12, 30))).table.to_pylist()
    assert all(0 < r["low"] <= min(r["open"], r["close"]) <= max(r["open"], r["close"]) <= r["high"] for r in rows)
    assert all(r["volume"] > 0 for r in rows)


def test_a_wrong_seed_is_named():
    with pytest.raises(ConfigError, match="extra.seed is 'x'"):
        hook(seed="x").validate_config()
