"""The calls of a plan are those in the server's log, for every provider and endpoint."""

from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime
from functools import cache

import pytest

from market_data.config.universes import members
from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import UnknownSymbol
from market_data.core.intervals import closed
from market_data.pipeline.planner import make_plan
from market_data.providers.alpaca.hook import AlpacaHook
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.hook import DatabentoHook
from market_data.providers.fmp.hook import FMPHook
from market_data.providers.ib.hook import InteractiveBrokersHook
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from sandbox.stack.settings import SAMPLE_API_KEY
from tests.providers.sample_setup import FAST

TEN_YEARS = calendar.sessions(date(2015, 1, 1), date(2025, 1, 1))
NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
NAMES = members("sp500_etf", TEN_YEARS[-1])
SIZES = (
    (12, 1),
    (12, 66),
    pytest.param(523, 1, marks=pytest.mark.slow),
    pytest.param(523, 504, marks=pytest.mark.slow),
    pytest.param(523, 2516, marks=pytest.mark.slow),
)
CASES = {
    "polygon": (PolygonHook, "ohlcv-1d", "auto", {}),
    "polygon range": (PolygonHook, "ohlcv-1d", "range", {}),
    "polygon actions": (PolygonHook, "corporate-actions", "auto", {}),
    "polygon events": (PolygonHook, "symbol-changes", "auto", {}),
    "alpaca": (AlpacaHook, "ohlcv-1d", "auto", {}),
    "fmp bulk": (FMPHook, "ohlcv-1d", "auto", {}),
    "fmp history": (FMPHook, "ohlcv-1d", "history", {"adj_close": "no"}),
    "fmp adjusted": (FMPHook, "ohlcv-1d", "history", {"adj_close": "yes"}),
    "fmp statements": (FMPHook, "fundamentals", "statements", {}),
    "fmp bulk statements": (FMPHook, "fundamentals", "bulk", {}),
    "fmp actions": (FMPHook, "corporate-actions", "auto", {}),
    "databento": (DatabentoHook, "ohlcv-1d", "auto", {}),
}

BY_SYMBOL = {"polygon range", "polygon events", "fmp history", "fmp adjusted", "fmp statements", "fmp actions"}
"""One symbol a request: ten years, or other data than bars, of 60 symbols tell as much as of 523, in a ninth of the time."""
BY_DATE = {"polygon", "fmp bulk statements"}
"""One date a request, whatever its symbols: files of 60 symbols tell as much as of 523."""
FEW = 60
PAGED_BY_ROWS = {"polygon actions"}
"""Nobody knows before how many actions a span has: the plan counts the most."""


@pytest.fixture(scope="module")
def servers():
    """Servers by the number of symbols that they have generated prices of: a file of a market has all of them."""
    with ExitStack() as stack:
        yield cache(lambda count: stack.enter_context(SampleApi(api_key=SAMPLE_API_KEY, now=lambda: NOW, symbols=NAMES[:count])))


@pytest.fixture(scope="module")
def gateway():
    with SampleGateway(now=lambda: NOW) as gateway:
        yield gateway


def hook_on(kind, server, options):
    extra = {**FAST, "plan": kind.default_plan if kind is DatabentoHook else "sample"}
    key = f"db-{SAMPLE_API_KEY}" if kind is DatabentoHook else SAMPLE_API_KEY
    config = ProviderConfig("calls_default", f"{server.url}/{kind.spec.name}", key, key, extra)
    return kind(config=config, options=options)


def planned_and_made(hook, server, dataset, endpoint, symbols, sessions, missing=None):
    """Return the planned calls, and those in the server's log after all requests of the plan were fetched."""
    capabilities = hook.capabilities(dataset)
    missing = missing or dict.fromkeys(symbols, (1 << len(sessions)) - 1)
    plan = make_plan(dataset, missing, sessions, capabilities, batch_size=1000, endpoint=endpoint).counted(
        hook.calls_of, capabilities.quota
    )
    server.forget()
    with hook:
        for batch in plan.batches:
            for request in batch.requests(sessions):
                hook.fetch(request)
    assert hook.counters.retries == 0
    assert len(server.calls) == hook.counters.calls
    return plan.calls, len(server.calls)


@pytest.mark.parametrize(("symbols", "sessions"), SIZES)
@pytest.mark.parametrize("case", CASES)
def test_a_plan_counts_the_calls_that_are_made(case, symbols, sessions, servers):
    kind, dataset, endpoint, options = CASES[case]
    few = symbols if sessions <= 504 and dataset == "ohlcv-1d" else min(symbols, FEW)
    symbols = few if case in BY_SYMBOL else symbols
    server = servers(few if case in BY_DATE else symbols)
    hook = hook_on(kind, server, options)
    planned, made = planned_and_made(hook, server, dataset, endpoint, NAMES[:symbols], TEN_YEARS[-sessions:])
    if case in PAGED_BY_ROWS:
        assert 0 < made <= planned
    else:
        assert planned == made


def test_symbols_with_different_holes_share_the_calls_that_are_planned(servers):
    """Each symbol lacks a session of its own: on 0.4.0 each of them took a call."""
    days = TEN_YEARS[-60:]
    missing = {name: 1 << 5 * place for place, name in enumerate(NAMES[:12])}
    assert planned_and_made(hook_on(AlpacaHook, servers(12), {}), servers(12), "ohlcv-1d", "auto", (), days, missing) == (1, 1)


# -- Interactive Brokers: a call for each step of each contract ------------------------------------------------------------------------


def ib_calls(gateway, dataset, symbol, first, last):
    """Return the calls that the hook plans for a request, and those that the gateway saw."""
    request = Request(dataset, "historical", (symbol,), (closed(first, last),))
    gateway.forget()
    with ib_hook(gateway) as hook, suppress(UnknownSymbol):
        planned = hook.calls_of(request)
        hook.fetch(request)
    return planned, len(gateway.calls)


def ib_hook(gateway):
    extra = {**FAST, "plan": "sample", "stock_volumes": "shares"}
    return InteractiveBrokersHook(ProviderConfig("calls_default", gateway.address, extra=extra), options={})


@pytest.mark.parametrize(("symbols", "sessions"), SIZES)
def test_a_plan_of_ib_counts_the_calls_that_are_made(symbols, sessions, gateway):
    symbols = min(symbols, FEW) if sessions > 504 else symbols
    names = ["ES:STK" if name == "ES" else name for name in NAMES[:symbols]]  # ES alone is refused: it is also a future
    planned, made = planned_and_made(ib_hook(gateway), gateway, "ohlcv-1d", "auto", names, TEN_YEARS[-sessions:])
    assert planned == made == symbols


@pytest.mark.parametrize(
    ("dataset", "symbol", "first", "last", "calls"),
    [
        ("ohlcv-1d", "ES.c.0", date(2016, 11, 18), date(2026, 11, 18), 41),  # ten years: a contract each quarter
        ("ohlcv-1d", "ES.c.0", date(2026, 9, 1), date(2026, 10, 1), 2),  # across a roll
        ("ohlcv-1d", "ESZ2026", date(2026, 1, 5), date(2026, 11, 18), 1),
        ("ohlcv-5m", "AAPL", date(2026, 6, 1), date(2026, 8, 31), 3),
        ("ohlcv-1m", "AAPL", date(2026, 6, 1), date(2026, 6, 1), 1),
        ("ohlcv-1m", "ES.c.0", date(2026, 9, 11), date(2026, 9, 16), 2),
    ],
)
def test_a_plan_of_ib_counts_contracts_and_months(dataset, symbol, first, last, calls, gateway):
    assert ib_calls(gateway, dataset, symbol, first, last) == (calls, calls)
