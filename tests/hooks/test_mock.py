"""The mock provider: the provider contract, and what is its own."""

from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import numpy as np
import pytest

from market_data import calendar
from market_data.errors import ConfigError
from market_data.hooks import generated
from market_data.hooks.base import ProviderConfig
from market_data.hooks.mock import MockHook
from market_data.types import Shape
from tests.contract.provider import ProviderContract, rows

FAST = {"calls_per_minute_per_slot": 60_000, "limits": []}
SPAN = (date(2020, 2, 3), date(2020, 3, 31))


class TestMock(ProviderContract):
    provider = "mock"
    endpoints: ClassVar = {"market": Shape.MARKET, "symbol": Shape.SYMBOL}
    anchor: ClassVar = {  # a changed generator would look like a restatement of everything already in a lake
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "open": 40.96,
        "high": 41.94,
        "low": 40.87,
        "close": 41.79,
        "adj_close": None,
        "volume": 3_230_242.0,
        "vwap": 41.39,
        "trade_count": None,
    }
    unknown = None

    def make_hook(self, server=None, *, extra=None, options=None):
        return MockHook(config=ProviderConfig("mock_default", "", extra={**FAST, **(extra or {})}), options=options)

    def held(self, server, symbols, intervals):
        return [
            self.bar(symbol, session)
            for symbol in sorted(symbols)
            for part in intervals
            for session in calendar.sessions(part.start, part.end)
        ]

    def bar(self, symbol, session):
        """A bar computed alone."""
        key, day = np.array([[generated.key(0, symbol)]], np.uint64), np.array([session.toordinal()])
        names = ("open", "high", "low", "close", "volume", "vwap")
        values = dict(zip(names, (column.item() for column in generated.columns(key, day)), strict=True))
        moment = datetime(session.year, session.month, session.day, tzinfo=UTC)
        return {"symbol": symbol, "bar_time": moment, "session": session, **values, "adj_close": None, "trade_count": None}

    def test_the_same_bar_comes_whatever_is_asked(self, hook):
        span = rows(hook.fetch(self.ask("symbol", *SPAN, ["AAPL"])).table)
        assert [row["session"] for row in span] == list(calendar.sessions(SPAN[0], SPAN[1] + timedelta(days=1)))
        for row in span[::7]:
            market = hook.fetch(self.ask("market", row["session"], row["session"], ["MSFT", "AAPL", "BRK.B"])).table.to_pylist()
            assert row in market
            assert [r["symbol"] for r in market] == ["MSFT", "AAPL", "BRK.B"]

    def test_another_seed_gives_other_prices(self, hook):
        request = self.ask("symbol", *SPAN)
        other = [self.make_hook(extra={"seed": 1}).fetch(request).table for _ in range(2)]
        assert hook.fetch(request).table != other[0] == other[1]

    def test_bars_are_possible_ones(self, hook):
        days = (date(2012, 1, 3), date(2016, 12, 30))
        found = [row for n in range(50) for row in hook.fetch(self.ask("symbol", *days, [f"S{n}"])).table.to_pylist()]
        assert all(0 < r["low"] <= min(r["open"], r["close"]) <= max(r["open"], r["close"]) <= r["high"] for r in found)
        assert all(r["volume"] > 0 for r in found)

    def test_a_wrong_seed_is_named(self):
        with pytest.raises(ConfigError, match="extra.seed is 'x'"):
            self.make_hook(extra={"seed": "x"}).validate_config()
