"""The Polygon hook against a real HTTP server: the provider contract, and what is Polygon's own."""

from datetime import date, timedelta
from typing import ClassVar

import pytest

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import ConfigError, RetriableError, ServerError, Throttled
from market_data.core.intervals import closed
from market_data.core.retry_policy import RetryPolicy
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon.hook import PolygonHook
from market_data.providers.registry import provider
from sandbox.http import SampleApi
from sandbox.vendors.polygon import NO_TIMEFRAME, last_date
from tests.contract.provider import HTTP_FAULTS, KEY, WEEK, YEAR, NetworkContract, rows
from tests.providers.sample_setup import AAPL_ROW, FAST, hook_on, rows_held


class TestPolygon(NetworkContract):
    provider = "polygon"
    endpoints: ClassVar = {"grouped": Shape.MARKET, "range": Shape.SYMBOL}
    anchor: ClassVar = AAPL_ROW
    paged = "range"
    second_page = r"cursor="
    young_days = 1
    faults: ClassVar = {
        **HTTP_FAULTS,
        "forbidden_timeframe": {"kind": "forbidden", "message": NO_TIMEFRAME},
        "error_with_200": {"kind": "error_with_200"},
        "drifted": {"kind": "drifted"},
        "counted_too_high": {"kind": "miscounted", "by": 1},
        "counted_too_low": {"kind": "miscounted", "by": -1},
        "null_results": {"kind": "no_results", "null": True},
        "absent_results": {"kind": "no_results"},
        "other_adjustment": {"kind": "other_adjustment"},
        "other_symbol": {"kind": "other_symbol"},
        "out_of_range": {"kind": "out_of_range"},
        "page_loop": {"kind": "page_loop"},
        "page_loop_back": {"kind": "page_loop", "days_back": 30},
    }

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleApi(api_key=KEY) as api:
            yield api

    @pytest.fixture
    def small_pages(self, monkeypatch):
        monkeypatch.setattr("market_data.providers.polygon.client.PAGE_ROWS", 50)

    def make_hook(self, server, **config):
        return hook_on(PolygonHook, "polygon", server, **config)

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals)

    def refuse_from(self, server, day):
        server.fault("forbidden", match=lambda request: last_date(request) >= day, times=None, message=NO_TIMEFRAME)

    # what is Polygon's own

    def test_rows_of_others_are_left_aside_and_counted(self, server, hook):
        fetched = hook.fetch(self.ask("grouped", *WEEK, ["BRK.B", "IBM"]))
        assert "include_otc=true" in server.calls[0].target  # else an OTC symbol would look as if it had no bars
        assert len(fetched.table) == 2
        assert fetched.evidence.rows_received == fetched.evidence.rows_declared > 500
        assert fetched.evidence.source == "recorded+generated"

    def test_split_adjusted_prices_differ(self, server, hook):
        request = self.ask("range", date(2005, 1, 3), date(2005, 1, 7), ["AAPL"])
        with self.make_hook(server, options={"adjustment": "split"}) as adjusted:
            assert adjusted.fetch(request).table["close"].to_pylist() != hook.fetch(request).table["close"].to_pylist()

    def test_every_page_is_requested_with_its_adjustment(self, server, hook, small_pages):
        hook.fetch(self.ask("range", *YEAR))
        assert len(server.calls) > 3
        assert all("adjusted=false" in call.target for call in server.calls)

    @pytest.mark.parametrize(
        ("where", "kind", "text"),
        [
            ("grouped", "page_loop", "names a next page"),
            ("grouped", "without_ticker", "without a ticker"),
            ("range", "other_symbol", "about 'ZVZZT'"),
            ("range", "miscounted", "5 results came, 6 are declared"),
            ("range", "other_adjustment", "adjusted is True, False was requested"),
        ],
    )
    def test_what_cannot_be_the_response_is_reported(self, server, hook, where, kind, text):
        server.fault(kind, times=None)
        with pytest.raises(RetriableError, match=text):
            hook.fetch(self.ask(where, *WEEK))

    def test_a_row_of_another_day_in_a_grouped_response_is_left_aside(self, server, hook):
        request = self.ask("grouped", *WEEK)
        server.fault("out_of_range", times=None)
        fetched = hook.fetch(request)
        assert rows(fetched.table) == self.held(server, request.symbols, request.intervals)
        assert fetched.evidence.rows_left_aside == 1
        assert fetched.evidence.rows_received == fetched.evidence.rows_declared
        assert fetched.warnings == ("1 row that was not requested came and is left aside: 2023-12-21",)
        assert not fetched.unproved  # it is of a symbol that was not requested
        assert len(server.calls) == 1

    def test_an_empty_page_that_another_follows_is_an_error(self, server, hook):
        server.fault("page_loop", times=None)
        with pytest.raises(ServerError, match="brings nothing and names a next one"):
            hook.fetch(self.ask("range", date(2013, 1, 5), date(2013, 1, 6)))
        assert len(server.calls) == 1

    def test_a_429_without_retry_after_waits_for_the_narrowest_window(self, server):
        server.fault("throttled", times=None)
        limits = [{"calls": 100, "seconds": 0.3}, {"calls": 1000, "seconds": 60}, {"calls": 10_000, "seconds": 86_400}]
        with self.make_hook(server, extra={"limits": limits}) as hook:
            hook._transport.retry = RetryPolicy(attempts=1)
            with pytest.raises(Throttled) as caught:
                hook.fetch(self.ask("range", *WEEK))
        assert caught.value.retry_after == 0.3

    def test_a_young_session_behind_a_hole_does_not_refuse_the_older_one(self, server, hook, young):
        self.refuse_from(server, young)
        old = young - timedelta(days=30)
        parts = (closed(old, young - timedelta(days=20)), closed(young, young + timedelta(days=1)))
        fetched = hook.fetch(Request("ohlcv-1d", "range", ("IBM",), parts))
        self.check_whole(fetched, server, Request("ohlcv-1d", "range", ("IBM",), parts[:1]))
        assert (fetched.pending_from, fetched.pending_reason) == (young, NO_TIMEFRAME)
        assert [last_date_of(call) for call in server.calls] == [young + timedelta(days=1), young - timedelta(days=20)]

    @pytest.mark.parametrize(("last", "calls"), [(date(2013, 1, 7), 1), (date(2013, 1, 11), 5)])
    def test_523_symbols_take_a_call_a_session(self, server, hook, last, calls):
        symbols = sorted(server.market.symbols)[:523]
        sessions = calendar.sessions(WEEK[0], last + timedelta(days=1))
        missing = dict.fromkeys(symbols, (1 << len(sessions)) - 1)
        plan = make_plan("ohlcv-1d", missing, sessions, hook.capabilities("ohlcv-1d"))
        found = [hook.fetch(request).table for batch in plan.batches for request in batch.requests(sessions)]
        assert plan.calls == len(server.calls) == calls
        assert sum(map(len, found)) == 523 * calls

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"password": ""}, "password is empty; the API key is needed there"),
            ({"password": f" {KEY}\n"}, "password has white space around it"),
            ({"base_url": "api.massive.com"}, "host is 'api.massive.com'; a full base URL is needed, e.g. https://api.massive.com"),
        ],
    )
    def test_a_wrong_field_of_the_connection_is_named(self, server, change, text):
        config = ProviderConfig(**{"conn_id": "polygon_default", "base_url": server.url, "password": KEY, **change})
        with pytest.raises(ConfigError, match=text):
            PolygonHook(config=config).validate_config()
        assert server.calls == []

    def test_an_unknown_adjustment_is_refused_with_the_known_ones(self, server):
        with pytest.raises(ConfigError, match="adjustment is 'dividend'; allowed: raw, split"):
            self.make_hook(server, options={"adjustment": "dividend"}).validate_config()


def last_date_of(call):
    return date.fromisoformat(call.target.partition("?")[0].rpartition("/")[2])


def test_pages_behind_a_gateway_are_requested_through_it(monkeypatch):
    monkeypatch.setattr("market_data.providers.polygon.client.PAGE_ROWS", 50)
    with SampleApi(api_key=KEY, symbols=(), prefix="/vendors/polygon") as api:
        config = ProviderConfig("polygon_default", api.url, password=KEY, extra=FAST)
        with PolygonHook(config=config) as hook:
            fetched = hook.fetch(Request("ohlcv-1d", "range", ("IBM",), (closed(*YEAR),)))
        assert len(fetched.table) == 250
        assert [call.status for call in api.calls] == [200] * 5


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="known providers: .*mock, polygon"):
        provider("yahoo")
