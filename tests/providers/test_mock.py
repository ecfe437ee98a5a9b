"""The mock provider: the provider contract, and what is its own."""

from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import numpy as np
import pytest

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import ConfigError
from market_data.core.intervals import closed
from market_data.datasets import generated
from market_data.datasets.registry import DATASETS, dataset
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.providers.registry import providers
from market_data.quality.gate import gate
from tests.contract.provider import ProviderContract, order, rows

FAST = {"calls_per_minute_per_slot": 60_000, "limits": []}
SPAN = (date(2020, 2, 3), date(2020, 3, 31))


def make_hook(*, extra=None, options=None):
    return MockHook(config=ProviderConfig("mock_default", "", extra={**FAST, **(extra or {})}), options=options)


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

    def make_hook(self, server=None, **config):
        return make_hook(**config)

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

    def test_the_same_bar_comes_whatever_is_requested(self, hook):
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


class TestMockMinutes(ProviderContract):
    provider = "mock"
    dataset = "ohlcv-1m"
    endpoints: ClassVar = {"symbol": Shape.SYMBOL}
    anchor: ClassVar = {
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, 14, 30, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "open": 40.96,
        "high": 40.99,
        "low": 40.93,
        "close": 40.94,
        "adj_close": None,
        "volume": 20445.0,
        "vwap": 40.955,
        "trade_count": 171,
    }
    unknown = None
    span = (date(2012, 12, 3), date(2013, 1, 31))

    def make_hook(self, server=None, **config):
        return make_hook(**config)

    def held(self, server, symbols, intervals):
        """Each session's minutes made alone."""
        found = []
        for symbol in symbols:
            for session in [s for part in intervals for s in calendar.sessions(part.start, part.end)]:
                minutes = generated.minutes(generated.cells([generated.key(0, symbol)], [session]))
                for n in range(len(minutes.cell)):
                    moment = datetime.fromtimestamp(minutes.time[n] // 10**9, UTC)
                    values = {name: getattr(minutes, name)[n].item() for name in ("open", "high", "low", "close", "volume", "vwap")}
                    row = {"symbol": symbol, "bar_time": moment, "session": session, **values, "adj_close": None}
                    found.append({**row, "trade_count": minutes.trades[n].item()})
        return sorted(found, key=order)


# every dataset

DAYS = (date(2020, 1, 2), date(2020, 12, 31))
WEEK = (date(2020, 3, 2), date(2020, 3, 6))
NAMES = tuple(f"S{n}" for n in range(12))


def fetch(name, symbols=("IBM",), days=WEEK, **config):
    with make_hook(**config) as hook:
        return hook.fetch(Request(name, "symbol", tuple(symbols), (closed(*days),)))


def test_every_dataset_is_served():
    assert set(providers()["mock"].serves) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_of_the_dataset_and_pass_its_gate(name):
    days = DAYS if name in ("fundamentals", "corporate-actions", "symbol-changes") else WEEK
    request = Request(name, "symbol", NAMES, (closed(*days),))
    with make_hook() as hook:
        fetched = hook.fetch(request)
    assert fetched.table.schema == dataset(name).received
    assert len(fetched.table) == fetched.evidence.rows_received == fetched.evidence.rows_declared > 12
    assert set(NAMES).issuperset(fetched.table["symbol"].to_pylist())
    gated = gate(dataset(name), fetched.table, request, calendar.sessions(days[0], days[1] + timedelta(days=1)))
    assert set(gated.bad["reasons"].to_pylist()) == set()
    keys = list(zip(*(fetched.table[column].to_pylist() for column in dataset(name).key if column != "timeframe"), strict=True))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", DATASETS)
def test_a_symbol_and_a_session_alone_are_what_they_are_among_others(name):
    days = DAYS if name in ("fundamentals", "corporate-actions", "symbol-changes") else WEEK
    among = fetch(name, NAMES, days).table.to_pylist()
    session = next(row["session"] for row in among if row["symbol"] == "S7")
    alone = fetch(name, ["S7"], (session, session)).table.to_pylist()
    assert alone == [row for row in among if (row["symbol"], row["session"]) == ("S7", session)]
    assert fetch(name, ["S7"], (session, session), extra={"seed": 1}).table.to_pylist() != alone


@pytest.mark.parametrize("name", DATASETS)
def test_a_closed_day_has_nothing_of_any_dataset(name):
    assert len(fetch(name, NAMES, (date(2020, 3, 7), date(2020, 3, 8))).table) == 0


@pytest.mark.parametrize("name", ["ohlcv-1m", "ohlcv-5m", "trades", "tbbo"])
def test_what_is_inside_a_session_folds_to_its_daily_bar(name):
    days = {(row["symbol"], row["session"]): row for row in fetch("ohlcv-1d", NAMES).table.to_pylist()}
    inside = {}
    for row in fetch(name, NAMES).table.to_pylist():
        inside.setdefault((row["symbol"], row["session"]), []).append(row)
    assert inside.keys() == days.keys()
    for cell, some in inside.items():
        prices = {field: [row[field if "open" in row else "price"] for row in some] for field in ("open", "high", "low", "close")}
        found = (prices["open"][0], max(prices["high"]), min(prices["low"]), prices["close"][-1])
        assert found == tuple(days[cell][field] for field in ("open", "high", "low", "close"))
        assert sum(row["volume"] if "volume" in row else row["size"] for row in some) == pytest.approx(days[cell]["volume"])


def test_statistics_say_what_the_daily_bar_says():
    (day,) = fetch("ohlcv-1d", days=(WEEK[0], WEEK[0])).table.to_pylist()
    found = {
        row["stat_type"]: row["price"] or row["quantity"] for row in fetch("statistics", days=(WEEK[0], WEEK[0])).table.to_pylist()
    }
    assert (found["opening_price"], found["close_price"], found["cleared_volume"]) == (day["open"], day["close"], day["volume"])


def test_fills_of_one_order_differ_in_their_ordinal():
    found = fetch("trades", NAMES).table
    assert set(found["ordinal"].to_pylist()) == {0, 1}


def test_quotes_stand_around_their_trade():
    for row in fetch("tbbo").table.to_pylist():
        assert row["bid_px"] <= row["price"] <= row["ask_px"]
