"""Polygon's minute and five-minute bars against a real HTTP server: the provider contract, and pages that count minutes."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.core.intervals import closed
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.vendors.polygon import Polygon
from tests.contract.provider import KEY, WEEK, ProviderContract, order, rows
from tests.providers.sample_setup import FAST, hook_on

SYMBOLS = ("BRK.B", "SPY")
PLUGINS = Path(__file__).parents[2] / "plugins"
FIELDS = ("open", "high", "low", "close", "volume", "vwap")


@pytest.fixture(scope="module")
def running():
    with SampleApi(api_key=KEY, symbols=SYMBOLS) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    return running


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        yield hook


def make_hook(server, **config):
    return hook_on(PolygonHook, "polygon", server, **config)


def held(market, symbols, intervals, size):
    """The bars of ``size`` minutes, as rows."""
    days = [bar for symbol in symbols for part in intervals for bar in market.range(symbol, part.start, part.end)]
    bars = market.minutes(days, size)
    columns = zip(bars.cell, bars.time, bars.trades, *(getattr(bars, name) for name in FIELDS), strict=True)
    return sorted(
        (
            {
                "symbol": days[cell].symbol,
                "bar_time": datetime.fromtimestamp(time // 10**9, UTC),
                "session": days[cell].session,
                "adj_close": None,
                "trade_count": int(trades),
                **dict(zip(FIELDS, map(float, values), strict=True)),
            }
            for cell, time, trades, *values in columns
        ),
        key=order,
    )


class Minutes(ProviderContract):
    provider = "polygon"
    endpoints: ClassVar = {"range": Shape.SYMBOL}
    span = (date(2012, 12, 3), date(2013, 1, 31))
    size: ClassVar[int]

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleApi(api_key=KEY, symbols=SYMBOLS) as api:
            yield api

    def make_hook(self, server, **config):
        return make_hook(server, **config)

    def held(self, server, symbols, intervals):
        return held(server.market, symbols, intervals, self.size)


class TestPolygonMinutes(Minutes):
    dataset = "ohlcv-1m"
    size = 1
    anchor: ClassVar = {
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, 14, 30, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "adj_close": None,
        "trade_count": 913,
        "open": 522.0,
        "high": 522.41,
        "low": 521.55,
        "close": 521.65,
        "volume": 109441.0,
        "vwap": 521.9025,
    }


class TestPolygonFiveMinutes(Minutes):
    dataset = "ohlcv-5m"
    size = 5
    anchor: ClassVar = {
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, 14, 30, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "adj_close": None,
        "trade_count": 4359,
        "open": 522.0,
        "high": 522.41,
        "low": 520.51,
        "close": 521.3,
        "volume": 522789.0,
        "vwap": 521.4927,
    }


# pages


def ask(dataset, first, last, symbol="SPY"):
    return Request(dataset, "range", (symbol,), (closed(first, last),))


@pytest.mark.parametrize(("dataset", "size"), [("ohlcv-1m", 1), ("ohlcv-5m", 5)])
@pytest.mark.parametrize("limit", [997, 1000, 1003])
def test_pages_count_minutes_and_cut_no_bar(server, hook, monkeypatch, dataset, size, limit):
    monkeypatch.setattr("market_data.providers.polygon.client.PAGE_ROWS", limit)
    request = ask(dataset, date(2013, 1, 2), date(2013, 1, 17))
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server.market, request.symbols, request.intervals, size)
    evidence = fetched.evidence
    assert evidence.pages == evidence.calls == len(server.calls) == 5  # 12 sessions of about 380 minutes
    assert evidence.rows_received == evidence.rows_declared == len(fetched.table)
    assert all(f"/{size}/minute/" in call.target and "adjusted=false" in call.target for call in server.calls)


@pytest.mark.parametrize(
    ("kind", "options", "error", "calls"),
    [
        ("truncated", {"fraction": 0.9, "clean": True}, TruncatedResponse, 6),
        ("truncated_gzip", {"fraction": 0.999}, TruncatedResponse, 6),
        ("miscounted", {"by": 1}, TruncatedResponse, 6),
        ("other_symbol", {}, ServerError, 6),
        ("other_adjustment", {}, ServerError, 6),
        ("page_loop", {}, ServerError, 3),
        ("page_loop", {"days_back": 1}, ServerError, 3),
    ],
)
def test_a_later_page_that_is_wrong_is_an_error_and_no_row_comes(server, hook, monkeypatch, kind, options, error, calls):
    monkeypatch.setattr("market_data.providers.polygon.client.PAGE_ROWS", 500)
    server.fault(kind, match="cursor=", times=None, **options)
    with pytest.raises(error):
        hook.fetch(ask("ohlcv-1m", *WEEK))
    assert len(server.calls) == calls


def test_a_page_that_begins_with_the_bar_before_is_an_error(hook, monkeypatch):
    monkeypatch.setattr("market_data.providers.polygon.client.PAGE_ROWS", 500)
    following = Polygon._next_range
    monkeypatch.setattr(
        Polygon,
        "_next_range",
        lambda vendor, request, found, reached, *rest, **more: following(vendor, request, found, reached - 60_000, *rest, **more),
    )
    with pytest.raises(ServerError, match="a page goes back in time"):
        hook.fetch(ask("ohlcv-1m", *WEEK))


def test_the_evening_belongs_to_the_session_though_utc_has_the_next_day(server, hook):
    server.fault("out_of_range", days=0.15)  # 15:59 becomes 19:35 in New York, 00:35 in UTC
    table = hook.fetch(ask("ohlcv-1m", WEEK[0], WEEK[0])).table
    assert table["bar_time"][-1].as_py() == datetime(2013, 1, 8, 0, 35, tzinfo=UTC)
    assert table["session"].unique().to_pylist() == [WEEK[0]]


def test_the_night_after_is_not_of_the_session(server, hook):
    server.fault("out_of_range", days=0.4, times=None)  # 01:35 in New York
    fetched = hook.fetch(ask("ohlcv-1m", WEEK[0], WEEK[0]))
    assert fetched.table["session"].unique().to_pylist() == [WEEK[0]]
    assert fetched.warnings == ("1 row that was not requested came and is left aside: 2013-01-08",)


@pytest.mark.parametrize("dataset", ["ohlcv-5m", "ohlcv-1m"])
def test_bars_fold_to_the_daily_bar(hook, dataset):
    (day,) = hook.fetch(ask("ohlcv-1d", WEEK[0], WEEK[0])).table.to_pylist()
    bars = hook.fetch(ask(dataset, WEEK[0], WEEK[0])).table.to_pylist()
    assert (bars[0]["open"], bars[-1]["close"]) == (day["open"], day["close"])
    assert (max(bar["high"] for bar in bars), min(bar["low"] for bar in bars)) == (day["high"], day["low"])
    assert np.isclose(sum(bar["volume"] for bar in bars), day["volume"])


MEASURE = r"""
import json, re, sys
from datetime import date, timedelta
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon.hook import PolygonHook
from market_data.core.intervals import closed
from market_data.core.batch import Request

def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024

url, key, extra = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with PolygonHook(config=ProviderConfig("polygon_default", url, password=key, extra=extra)) as hook:
    hook.fetch(Request("ohlcv-1m", "range", ("SPY",), (closed(date(2013, 1, 7), date(2013, 1, 7)),)))
    before = peak()
    fetched = hook.fetch(Request("ohlcv-1m", "range", ("SPY",), (closed(date(2013, 1, 2), date(2017, 2, 10)),)))
print(json.dumps({"rows": len(fetched.table), "pages": fetched.evidence.pages, "before": before, "after": peak()}))
"""


@pytest.mark.slow
def test_400000_minutes_take_little_memory(server):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, server.url, KEY, json.dumps(FAST)],
        env={**os.environ, "PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["rows"] > 390_000
    assert measured["pages"] == 8
    assert measured["after"] < 300, measured
