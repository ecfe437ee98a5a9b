"""The template provider against a real HTTP server. Copy this file for a new provider."""

from typing import ClassVar

import pytest

from market_data.core.capabilities import Shape
from market_data.core.errors import ServerError
from market_data.providers._template.hook import TemplateHook
from market_data.providers._template.spec import SPEC
from market_data.providers.registry import providers
from tests.contract.provider import HTTP_FAULTS, KEY, Fault, NetworkContract
from tests.providers.sample_setup import AAPL_ROW, as_row, hook_on, rows_held
from tests.providers.template_vendor import template_server


class TestTemplate(NetworkContract):
    provider = "template"
    endpoints: ClassVar = {"history": Shape.SYMBOL}
    anchor: ClassVar = AAPL_ROW
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

    def make_hook(self, server, **config):
        return hook_on(TemplateHook, "template", server, **config)

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals, lambda bar: as_row(bar, vwap=None, trade_count=None))


def test_the_template_is_not_a_provider_itself():
    assert SPEC.name not in providers()
