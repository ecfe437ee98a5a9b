"""The template provider against a real HTTP server. Copy this file for a new provider."""

from datetime import UTC, date, datetime
from typing import ClassVar

import pytest

from market_data.core.capabilities import Shape
from market_data.core.errors import ServerError
from market_data.providers._template.hook import TemplateHook
from market_data.providers._template.spec import SPEC
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import providers
from tests.contract.provider import HTTP_FAULTS, KEY, Fault, NetworkContract, order, quick
from tests.providers.template_vendor import template_server

FAST = {"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.05}]}


class TestTemplate(NetworkContract):
    provider = "template"
    endpoints: ClassVar = {"history": Shape.SYMBOL}
    anchor: ClassVar = {
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "open": 522.0,
        "high": 529.3,
        "low": 515.2,
        "close": 523.9,
        "adj_close": None,
        "volume": 17_291_300.0,
        "vwap": None,
        "trade_count": None,
    }
    paged = "history"
    second_page = r"&page=[2-9]"
    faults: ClassVar = {
        **HTTP_FAULTS,
        "error_with_200": {"kind": "error_with_200"},
        "drifted": {"kind": "drifted"},
        "counted_too_high": {"kind": "miscounted", "by": 1},
        "counted_too_low": {"kind": "miscounted", "by": -1},
        "null_results": {"kind": "no_bars", "null": True},
        "absent_results": {"kind": "no_bars"},
        "other_symbol": {"kind": "other_symbol"},
        "out_of_range": {"kind": "out_of_range"},
        "page_loop": {"kind": "page_loop"},
        "page_loop_back": {"kind": "page_loop", "pages_back": 1},
    }
    without: ClassVar = {
        "forbidden_timeframe": "there are daily bars only",
        "other_adjustment": "a response does not say how it is adjusted",
    }
    outcomes: ClassVar = dict.fromkeys(
        ("page_loop", "page_loop_back"), Fault(ServerError, passes=False, calls=1, paging=True)
    )  # a page that does not name the one after it is seen at once

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with template_server(api_key=KEY) as server:
            yield server

    @pytest.fixture
    def small_pages(self, monkeypatch):
        monkeypatch.setattr("market_data.providers._template.client.PAGE_ROWS", 50)

    def make_hook(self, server, *, key=KEY, late=False, base_url=None, extra=None, options=None):
        config = ProviderConfig("template_default", base_url or server.url, password=key, extra={**FAST, **(extra or {})})
        return quick(TemplateHook, late=late)(config, options=options)

    def held(self, server, symbols, intervals):
        bars = [bar for symbol in symbols for part in intervals for bar in server.market.range(symbol, part.start, part.end)]
        return sorted((as_row(bar) for bar in bars), key=order)


def as_row(bar):
    """Return a bar of the server as the hook's row."""
    midnight = datetime(bar.session.year, bar.session.month, bar.session.day, tzinfo=UTC)
    named = {name: getattr(bar, name) for name in ("symbol", "session", "open", "high", "low", "close", "volume")}
    return {**named, "bar_time": midnight, **dict.fromkeys(("adj_close", "vwap", "trade_count"))}


def test_the_template_is_not_a_provider_itself():
    assert SPEC.name not in providers()
