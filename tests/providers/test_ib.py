"""The Interactive Brokers hook against a real socket server that ``ib_async`` connects to: the provider contract, and what is its own."""

import asyncio
import gc
import logging
import re
import socket
import threading
import time
import warnings
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from itertools import pairwise
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape, Window
from market_data.core.errors import (
    BadRequest,
    ConfigError,
    NetworkError,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    UnknownSymbol,
)
from market_data.core.intervals import DAY, Interval, closed
from market_data.core.retry_policy import RetryPolicy
from market_data.core.spelling import SpellingError
from market_data.datasets.registry import dataset
from market_data.providers.base import ProviderConfig
from market_data.providers.ib import client, contracts
from market_data.providers.ib.contracts import MONTHS, Instrument, last_step, lead
from market_data.providers.ib.errors import CompetingSession
from market_data.providers.ib.hook import IDENTICAL, InteractiveBrokersHook
from market_data.providers.records import Records
from sandbox.ib_gateway import RULES, Rules, SampleGateway
from sandbox.ib_gateway.contracts import INDICES, roll
from sandbox.market.recorded_prices import universe_symbols
from tests.contract.provider import KEY, PATIENT, WEEK, YEAR, Fault, NetworkContract, until
from tests.providers import sample_setup
from tests.providers.sample_setup import AAPL_ROW, rows_held

FAST = {**sample_setup.FAST, "identical_seconds": 0}
NOW = datetime(2026, 11, 20, 23, tzinfo=UTC)
NO_PAGES = "an answer has no address of a next one"
NO_BODY = "there is no HTTP and no compression"
NO_FIELDS = "an answer has no such field"


class TestIb(NetworkContract):
    provider = "ib"
    endpoints: ClassVar = {"historical": Shape.SYMBOL}
    anchor: ClassVar = {**AAPL_ROW, "vwap": 522.8, "trade_count": 144_095}
    paged = "historical"
    second_page: ClassVar = staticmethod(lambda request: request.end < "20121201")
    says_unknown = True
    keyed = http = False
    says_when = False
    answered, too_many = 0, 162
    faults: ClassVar = {
        "not_found": {"kind": "refused", "code": 321, "text": "Error validating request"},
        "throttled": {"kind": "pacing"},
        "server_error": {"kind": "refused", "code": 162, "text": "Historical Market Data Service query failed"},
        "unavailable": {"kind": "refused", "code": 1100, "text": "Connectivity has been lost", "broadcast": True},
        "error_with_200": {"kind": "refused", "code": 322, "text": "Server error when processing an API client request"},
        "html": {"kind": "garbage"},
        "reset": {"kind": "reset"},
        "slow": {"kind": "slow", "seconds": 30},
        "trickle": {"kind": "trickle", "seconds": 0.05},
        **{f"broken_off_{share}": {"kind": "broken_off", "fraction": float(share) / 100} for share in ("50", "90", "99.9")},
        **{f"cut_{share}": {"kind": "short", "fraction": float(share) / 100} for share in ("50", "90", "99.9")},
        "drifted": {"kind": "drifted"},
        "counted_too_high": {"kind": "miscounted", "by": 1},
        "counted_too_low": {"kind": "miscounted", "by": -1},
        "out_of_range": {"kind": "out_of_range"},
        "page_loop": {"kind": "page_loop"},
    }
    without: ClassVar = {
        "unauthorized": "who may connect is the gateway's own business; there is no key",
        **dict.fromkeys(("forbidden", "forbidden_timeframe"), "subscriptions are an exchange's: the symbol is set aside"),
        "throttled_for_seconds": "a pacing violation does not say how long to wait",
        "throttled_until_date": "a pacing violation does not say how long to wait",
        "request_timeout": "the gateway has no HTTP status",
        "html_error": NO_BODY,
        "trickle_head": NO_BODY,
        **{f"cut_gzip_{share}": NO_BODY for share in ("50", "90", "99.9")},
        "bad_gzip": NO_BODY,
        "empty": "an answer that declares no bars is a whole one",
        "null_results": NO_FIELDS,
        "absent_results": NO_FIELDS,
        "other_adjustment": NO_FIELDS,
        "other_symbol": "an answer has the number of its request, and no symbol",
        "page_loop_back": "an answer that begins earlier than requested is whole",
    }
    outcomes: ClassVar = {
        "unavailable": Fault(NetworkError),
        "html": Fault(NetworkError, late=True),
        "page_loop": Fault(ServerError, passes=False, calls=1, paging=True),
        **{f"broken_off_{share}": Fault(NetworkError) for share in ("50", "90", "99.9")},
    }

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleGateway(now=lambda: NOW) as gateway:
            yield gateway

    @pytest.fixture
    def small_pages(self, monkeypatch):
        monkeypatch.setattr(contracts, "LONGEST_DAILY", timedelta(weeks=13))

    def parameters(self):
        return {**super().parameters(), "status": [100, 162, 200, 321, 366, 504, 10339]}

    def refuse_saying(self, server, text, status):
        server.fault("refused", times=None, code=status, text=text)

    def make_hook(self, server, *, key=KEY, late=False, base_url=None, extra=None, options=None):
        address = (base_url or server.address).removeprefix("http://")
        config = ProviderConfig("ib_default", address, password=key, extra={**FAST, **(extra or {})})
        return quick(late=server if late else None)(config=config, options=options)

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals, as_row)


def as_row(bar):
    vwap, trades = bar.vwap or round((bar.high + bar.low + bar.close) / 3, 4), bar.trades or int(bar.volume) // 120 + 1
    return sample_setup.as_row(bar, vwap=vwap, trade_count=trades)


def quick(*, late=None):
    """Return the class of the hook with no pauses between tries.

    :param late: while this gateway has a fault left to make, the hook waits tenths of a second for a response. Connecting may take long.
    """

    class Quick(InteractiveBrokersHook):
        sleep = staticmethod(lambda seconds: None)

        def connect(self):
            super().connect()
            if late is not None:
                link, respond = self._link, self._link._response

                def hurried(ask):
                    link.deadline = 0.3 if late.has_faults else PATIENT
                    return respond(ask)

                link._response = hurried

    return Quick


@pytest.fixture(scope="module")
def running():
    with SampleGateway(now=lambda: NOW, symbols=[*sorted(universe_symbols() - INDICES.keys()), "BAC.PRK", "AACT.WS"]) as gateway:
        yield gateway


@pytest.fixture
def gateway(running):
    running.forget()
    return running


def make(gateway, *, late=False, options=None, **extra):
    config = ProviderConfig("ib_default", gateway.address, extra={**FAST, **extra})
    return quick(late=gateway if late else None)(config=config, options=options)


@pytest.fixture
def hook(gateway):
    with make(gateway) as hook:
        yield hook


def ask(symbol, first, last=None, name="ohlcv-1d"):
    return Request(name, "historical", (symbol,), (closed(first, last or first),))


def requested(gateway):
    """What was requested, in words: contract month, duration and end."""
    return [(call.target.split()[3], call.duration, call.end[:8]) for call in gateway.calls]


# symbols


@pytest.mark.parametrize(
    ("symbol", "target"),
    [
        ("BRK.B", "history STK BRK B 1 day"),
        ("ES:STK", "history STK ES 1 day"),
        ("BAC.PRK", "history STK BAC PRK 1 day"),
        ("BACpK", "history STK BAC PRK 1 day"),
        ("AACT+", "history STK AACT WS 1 day"),
        ("VIX", "history IND VIX 1 day"),
        ("SPX:IND", "history IND SPX 1 day"),
        ("ES.c.0", "history FUT ES 202612 1 day"),
        ("MESZ2026", "history FUT MES 202612 1 day"),
        ("ESH2027", "history FUT ES 202703 1 day"),
    ],
)
def test_a_symbol_means_a_contract(gateway, hook, symbol, target):
    table = hook.fetch(ask(symbol, date(2026, 11, 19))).table
    assert table["symbol"].to_pylist() == [symbol]
    assert gateway.calls[0].target.startswith(target)


@pytest.mark.parametrize("symbol", ["ESF2027", "CLZ2026"])
def test_a_future_that_is_not_served_is_named_before_any_call(gateway, hook, symbol):
    with pytest.raises(BadRequest, match=f"{symbol} is not a future that is served; known are ES, .* with H, M, U, Z"):
        hook.fetch(ask(symbol, date(2026, 11, 19)))
    assert gateway.calls == []


def test_minutes_are_requested_with_the_epoch_and_futures_round_the_clock(gateway, hook):
    seen = []
    gateway.fault("slow", seconds=0, match=lambda request: seen.append((request.format_date, request.regular)))
    for symbol in ("AAPL", "VIX", "ES.c.0"):
        hook.fetch(ask(symbol, date(2026, 11, 19), name="ohlcv-5m"))
    assert seen == [(2, True), (2, True), (2, False)]


@pytest.mark.parametrize("root", contracts.FUTURES)
def test_a_root_alone_is_refused_before_any_call(gateway, hook, root):
    with pytest.raises(BadRequest, match=f"{root} is also a future: write {root}.c.0 or {root}:STK"):
        hook.fetch(ask(root, date(2026, 11, 19)))
    assert gateway.calls == []


def test_the_stock_of_a_root_is_another_instrument(hook):
    assert Instrument.of("ES:STK").kind == "STK"
    future, stock = (hook.fetch(ask(symbol, date(2026, 11, 19))).table for symbol in ("ES.c.0", "ES:STK"))
    assert future["close"] != stock["close"]
    assert (future["symbol"].to_pylist(), stock["symbol"].to_pylist()) == (["ES.c.0"], ["ES:STK"])


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ("BRK-B", "BRK-B has several meanings: write BRK.B .class B. or BRK.PRB"),
        ("^GSPC", "GSPC is not an index that is served; known are NDX, RUT, SPX and VIX"),
        ("DAX:IND", "DAX:IND is not an index that is served"),
        ("AAPL  240119C00150000", "is not a symbol of a US stock"),
    ],
)
def test_a_symbol_that_is_not_served_is_named_before_any_call(gateway, hook, symbol, why):
    with pytest.raises(BadRequest, match=why):
        hook.fetch(ask(symbol, date(2026, 11, 19)))
    assert gateway.calls == []


# listings


@pytest.mark.parametrize("name", ["ohlcv-1d", "ohlcv-5m"])
@pytest.mark.parametrize("symbol", ["META", "CSCO", "GLD", "BRK.B"])
def test_a_stock_with_listings_abroad_is_fetched_from_its_primary_exchange(gateway, hook, symbol, name):
    plain = hook.fetch(ask(symbol, date(2026, 11, 18), date(2026, 11, 19), name)).table
    gateway.forget()
    gateway.catalogue.abroad[symbol.replace(".", " ")] = "EBS"
    with make(gateway) as other:
        assert other.fetch(ask(symbol, date(2026, 11, 18), date(2026, 11, 19), name)).table == plain
        assert [call.target.split()[0] for call in gateway.calls] == ["history", "details", "history"]
        other.fetch(ask(symbol, date(2026, 11, 17), name=name))
    assert [call.target.split()[0] for call in gateway.calls] == ["history", "details", "history", "history"]  # remembered


def test_listings_that_leave_it_open_are_named(gateway, hook):
    gateway.catalogue.abroad["META"] = "NASDAQ"
    with pytest.raises(
        BadRequest, match="META is ambiguous.*2 of its listings have a primary exchange in the US; .*: NASDAQ, NYSE"
    ):
        hook.fetch(ask("META", *WEEK))


class Universe(Records):
    """Knows the primary exchanges of a universe."""

    def __init__(self, **exchanges):
        super().__init__()
        self.exchanges = exchanges

    def exchange(self, symbol):
        return self.exchanges.get(symbol, "")


@pytest.mark.parametrize("primary", ["NYSE", "XNYS"])
def test_the_universe_names_the_listing_that_is_meant(gateway, hook, primary):
    plain = hook.fetch(ask("META", *WEEK)).table
    gateway.catalogue.abroad["META"] = "NASDAQ"
    hook.records = Universe(META=primary)
    assert hook.fetch(ask("META", *WEEK)).table == plain
    (listing,) = hook._listings.values()
    assert listing.primaryExchange == "NYSE"


def test_a_listing_of_the_universe_that_the_vendor_lacks_is_named(gateway, hook):
    gateway.catalogue.abroad["META"] = "EBS"
    hook.records = Universe(META="AMEX")
    with pytest.raises(BadRequest, match="0 of its listings have the primary exchange 'AMEX' of the universe; .*: EBS, NYSE"):
        hook.fetch(ask("META", *WEEK))


def test_a_symbol_with_a_primary_exchange_in_the_universe_is_a_stock(gateway, hook):
    stock = hook.fetch(ask("ES:STK", *WEEK)).table
    gateway.forget()
    hook.records = Universe(ES="NYSE", VIX="CBOE")
    fetched = hook.fetch(ask("ES", *WEEK)).table
    assert fetched.drop_columns("symbol") == stock.drop_columns("symbol")
    assert fetched["symbol"].unique().to_pylist() == ["ES"]
    assert [hook.vendor_symbol(symbol) for symbol in ("ES", "ES.c.0", "VIX")] == ["STK ES", "FUT ES", "IND VIX"]
    with pytest.raises(SpellingError, match="is also a future: write MES.c.0 or MES:STK"):
        hook.vendor_symbol("MES")


def test_details_that_are_not_told_leave_the_first_error(gateway, hook):
    gateway.fault("refused", times=None, code=200, text="The contract description specified for IBM is ambiguous.")
    with pytest.raises(BadRequest, match="ib: historical IBM .* is ambiguous.*error 200"):
        hook.fetch(ask("IBM", *WEEK))
    assert len(gateway.calls) == 2


# volumes


@pytest.mark.parametrize("name", ["ohlcv-1d", "ohlcv-5m", "ohlcv-1m"])
@pytest.mark.parametrize("extra", [{}, {"stock_volumes": "lots"}])
def test_volumes_in_lots_become_shares(gateway, hook, name, extra):
    request = ask("AAPL", date(2026, 11, 18), date(2026, 11, 19), name)
    shares = hook.fetch(request)
    gateway.in_lots = True
    with make(gateway, **extra) as other:
        lots = other.fetch(request)
    expected = [volume // 100 * 100 for volume in shares.table["volume"].to_pylist()]
    assert lots.table["volume"].to_pylist() == expected
    assert lots.table.drop_columns("volume") == shares.table.drop_columns("volume")
    assert lots.warnings == (
        () if extra else ("the gateway counts volumes of US stocks in lots of 100; they are stored in shares",)
    )
    assert shares.warnings == ()


def test_the_unit_is_measured_once_by_a_stock_whose_trades_are_known(gateway):
    gateway.in_lots = True
    with make(gateway) as hook:
        for symbol in ("AAPL", "IBM", "AAPL"):
            hook.fetch(ask(symbol, date(2026, 11, 19)))
    symbols = [call.target.split()[2] for call in gateway.calls]
    assert symbols == ["AAPL", "SPY", "IBM", "AAPL"]


def test_volumes_below_the_number_of_trades_are_in_lots_for_sure(gateway, monkeypatch):
    gateway.in_lots = True
    monkeypatch.setattr("sandbox.ib_gateway.server.LOT", 1000)
    with make(gateway) as hook:
        hook.fetch(ask("AAPL", date(2026, 11, 19)))
        assert hook._volumes.found.startswith("the gateway counts volumes of US stocks in lots of 100")
    assert len(gateway.calls) == 1


def test_a_unit_that_spy_does_not_tell_follows_from_the_stocks_own_trades_with_a_warning(gateway, hook):
    shares = hook.fetch(ask("AAPL", date(2026, 11, 19))).table["volume"][0].as_py()
    gateway.in_lots = True
    gateway.fault("refused", times=None, match="STK SPY", code=200, text="No security definition")
    with make(gateway) as other:
        fetched = [other.fetch(ask("AAPL", date(2026, 11, 19))) for _ in range(2)]
    assert [one.table["volume"][0].as_py() for one in fetched] == [shares // 100 * 100] * 2
    assert all("cannot be measured by SPY" in one.warnings[0] for one in fetched)
    assert [call.target.split()[2] for call in gateway.calls] == ["AAPL", "AAPL", "SPY", "AAPL"]


@pytest.mark.parametrize(("symbol", "shown"), [("ES.c.0", "trades"), ("VIX", "trades"), ("AAPL", "midpoint"), ("AAPL", "bid")])
def test_futures_indices_and_quotes_have_no_lots(gateway, hook, symbol, shown):
    request = ask(symbol, date(2026, 11, 19))
    with make(gateway, options={"what_to_show": shown}) as one:
        before = one.fetch(request).table
    gateway.in_lots = True
    with make(gateway, options={"what_to_show": shown}, stock_volumes="lots") as other:
        assert other.fetch(request).table == before


def test_an_older_gateway_counts_in_lots():
    request = ask("AAPL", date(2026, 11, 19))
    volumes = []
    for version in (157, 163, 164, 178):
        with SampleGateway(version=version, now=lambda: NOW) as old, make(old) as hook:
            volumes += hook.fetch(request).table["volume"].to_pylist()
            assert len(old.calls) == 1
    assert volumes == [volumes[3] // 100 * 100] * 2 + [volumes[3]] * 2


@pytest.mark.parametrize(
    ("code", "text", "calls"),
    [
        (162, "Historical Market Data Service error message:Time length exceed max.", 1),
        (162, "Historical Market Data Service error message:Starting time must occur before ending time", 1),
        (10299, "Expected what to show is MIDPOINT, please use that instead of TRADES.", 1),
        (366, "No historical data query found for ticker id:7", 5),
        (162, "Historical Market Data Service error message:Trading TWS session is connected from a different IP address", 5),
        (10197, "No market data during competing live session", 5),
    ],
)
def test_only_what_may_pass_is_retried(gateway, hook, code, text, calls):
    gateway.fault("refused", times=None, code=code, text=text)
    with pytest.raises(ProviderError):
        hook.fetch(ask("IBM", *WEEK))
    assert len(gateway.calls) == calls


def test_a_query_that_was_not_found_succeeds_when_repeated(gateway, hook):
    gateway.fault("refused", code=366, text="No historical data query found for ticker id:7")
    fetched = hook.fetch(ask("IBM", *WEEK))
    assert (len(fetched.table), fetched.evidence.retries) == (5, 1)


def test_a_front_of_an_unknown_root_is_named(hook):
    with pytest.raises(BadRequest, match="CL.c.0 is not a future that is served; known are ES, "):
        hook.fetch(ask("CL.c.0", date(2026, 11, 19)))


def test_an_index_has_no_volume(hook):
    for name in ("ohlcv-1d", "ohlcv-5m"):
        table = hook.fetch(ask("VIX", date(2026, 11, 19), name=name)).table
        assert len(table) == (1 if name == "ohlcv-1d" else 78)
        assert all(table[column].null_count == len(table) for column in ("volume", "vwap", "trade_count"))
        assert 5 < table["close"][0].as_py() < 100


@pytest.mark.parametrize("value", ["1.7976931348623157E308", "nan", "Infinity"])
def test_a_number_that_is_none_is_null(gateway, hook, value):
    gateway.fault("blank", value=value)
    table = hook.fetch(ask("IBM", *WEEK)).table
    assert len(table) == 5
    assert all(table[name].null_count == 5 for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count"))


# intraday


def test_minutes_of_a_half_day_and_after_a_clock_change_stand_under_their_session(hook):
    for day, opens, closes in ((date(2012, 7, 3), 13, 17), (date(2012, 3, 9), 14, 21), (date(2012, 3, 12), 13, 20)):
        table = hook.fetch(ask("AAPL", day, name="ohlcv-1m")).table
        assert table.schema == dataset("ohlcv-1m").received
        assert set(table["session"].to_pylist()) == {day}
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        first, last = midnight + timedelta(hours=opens, minutes=30), midnight + timedelta(hours=closes)
        minutes = [first + timedelta(minutes=n) for n in range(int((last - first) / timedelta(minutes=1)))]
        assert table["bar_time"].to_pylist() == minutes


def test_minutes_fold_to_the_daily_bar(hook):
    day = date(2026, 11, 19)
    for symbol in ("AAPL", "ES.c.0", "VIX"):
        (whole,) = hook.fetch(ask(symbol, day)).table.to_pylist()
        for name in ("ohlcv-1m", "ohlcv-5m"):
            bars = hook.fetch(ask(symbol, day, name=name)).table.to_pylist()
            assert (bars[0]["open"], bars[-1]["close"]) == (whole["open"], whole["close"])
            assert (max(bar["high"] for bar in bars), min(bar["low"] for bar in bars)) == (whole["high"], whole["low"])
            assert symbol == "VIX" or sum(bar["volume"] for bar in bars) == whole["volume"]


def test_extended_hours_come_only_when_requested(gateway, hook):
    request = ask("AAPL", date(2026, 11, 19), name="ohlcv-1m")
    with make(gateway, options={"hours": "extended"}) as extended:
        more = extended.fetch(request).table["bar_time"].to_pylist()
    less = hook.fetch(request).table["bar_time"].to_pylist()
    assert set(less) < set(more)
    assert (more[0].hour, less[0].hour) == (9, 14)


def test_quotes_have_no_volume(gateway, hook):
    request = ask("AAPL", date(2026, 11, 19))
    with make(gateway, options={"what_to_show": "bid"}) as bids:
        (bid,) = bids.fetch(request).table.to_pylist()
    (trade,) = hook.fetch(request).table.to_pylist()
    assert bid["close"] == pytest.approx(trade["close"] - 0.01)
    assert (bid["volume"], bid["vwap"], bid["trade_count"]) == (None, None, None)


def test_a_year_of_minutes_is_requested_by_the_month_and_whole(gateway, hook):
    fetched = hook.fetch(ask("SPY", date(2025, 11, 21), date(2026, 11, 20), "ohlcv-5m"))
    assert sorted(call.duration for call in gateway.calls) == ["1 M"] * 11 + ["4 W"]  # February has 28 days
    days = calendar.sessions(date(2025, 11, 21), date(2026, 11, 21))
    times = fetched.table["bar_time"].to_pylist()
    assert times == sorted(set(times))
    assert tuple(dict.fromkeys(fetched.table["session"].to_pylist())) == days
    assert fetched.evidence.pages == fetched.evidence.calls == 12
    assert fetched.evidence.rows_received == len(fetched.table)  # the months fit together


def test_ten_years_of_days_are_one_call(gateway, hook):
    table = hook.fetch(ask("IBM", date(2013, 1, 2), date(2022, 12, 30))).table
    assert [call.duration for call in gateway.calls] == ["10 Y"]
    assert table["session"].to_pylist() == list(calendar.sessions(date(2013, 1, 2), date(2022, 12, 31)))


# futures


def test_a_futures_day_begins_on_the_evening_before(hook):
    friday, monday = date(2026, 10, 30), date(2026, 11, 2)  # clocks go back in between
    table = hook.fetch(ask("ES.c.0", friday, monday, "ohlcv-1m")).table
    times, sessions = table["bar_time"].to_pylist(), table["session"].to_pylist()
    assert len(table) == 2 * 1380
    assert (times[0], sessions[0]) == (datetime(2026, 10, 29, 22, tzinfo=UTC), friday)
    assert (times[1380], sessions[1380]) == (datetime(2026, 11, 1, 23, tzinfo=UTC), monday)


LABOR_DAY = date(2026, 9, 7)
FRIDAY, TUESDAY = date(2026, 9, 4), date(2026, 9, 8)


HOLIDAYS = ["2026-01-19", "2026-04-03", "2026-05-25", "2026-06-19", "2026-07-03", "2026-09-07"]
"""On these the stock exchange is closed and futures trade for a part of the day."""


@pytest.mark.parametrize("text", HOLIDAYS)
def test_a_holiday_on_which_futures_trade_is_a_session_of_theirs_alone(hook, text):
    holiday = date.fromisoformat(text)
    before, after = calendar.previous_session(holiday), calendar.next_session(holiday)
    assert hook.fetch(ask("ES.c.0", before, after)).table["session"].to_pylist() == [before, holiday, after]
    assert hook.fetch(ask("ES.c.0", holiday)).table["session"].to_pylist() == [holiday]
    for symbol in ("AAPL", "VIX", "SPX"):
        assert hook.fetch(ask(symbol, before, after)).table["session"].to_pylist() == [before, after]


def test_on_christmas_day_a_future_has_no_bar(hook):
    assert not calendar.CMES.is_session(date(2025, 12, 25))
    assert hook.fetch(ask("ES.c.0", date(2025, 12, 24), date(2025, 12, 26))).table["session"].to_pylist() == [
        date(2025, 12, 24),
        date(2025, 12, 26),
    ]


def by_session(hook, *days, symbol="ES.c.0"):
    table = hook.fetch(ask(symbol, *days, name="ohlcv-5m")).table
    times = table["bar_time"].to_pylist()
    assert times == sorted(set(times))
    found = {}
    for moment, session in zip(times, table["session"].to_pylist(), strict=True):
        found.setdefault(session, []).append(moment)
    assert list(found) == list(calendar.CMES.sessions(days[0], days[-1] + DAY))
    return found


@pytest.mark.parametrize(
    "days",
    [(LABOR_DAY,), (FRIDAY, LABOR_DAY), (FRIDAY, TUESDAY), (date(2026, 8, 3), date(2026, 10, 7)), (LABOR_DAY, date(2026, 11, 4))],
)
def test_the_bars_of_a_holiday_begin_the_evening_before_and_end_early(hook, days):
    times = by_session(hook, *days)[LABOR_DAY]
    assert times[0] == calendar.at(date(2026, 9, 6), clock(18))
    assert times[-1] == calendar.at(LABOR_DAY, clock(12, 55))


@pytest.mark.parametrize("days", [(TUESDAY,), (FRIDAY, TUESDAY), (TUESDAY, date(2026, 11, 4))])
def test_the_session_after_a_holiday_begins_on_its_evening(hook, days):
    times = by_session(hook, *days)[TUESDAY]
    assert times[0] == calendar.at(LABOR_DAY, clock(18))
    assert times[-1] == calendar.at(TUESDAY, clock(16, 55))


@pytest.mark.parametrize("end", [date(2026, 10, 6) + n * DAY for n in range(4)])
def test_a_month_that_begins_with_a_holiday_keeps_its_bars(hook, end):
    found = by_session(hook, date(2026, 8, 31), end, symbol="ESZ2026")
    assert [found[day][0] for day in (LABOR_DAY, TUESDAY)] == [
        calendar.at(date(2026, 9, 6), clock(18)),
        calendar.at(LABOR_DAY, clock(18)),
    ]


@given(st.dates(date(2010, 1, 1), date(2039, 12, 31)), st.integers(1, 40))
def test_a_futures_steps_end_between_their_last_session_and_the_next(first, days):
    future, dates = Instrument.of("ES.c.0"), Interval(first, first + timedelta(days=days))
    end, sessions = future.end(dates), calendar.CMES.sessions(dates.start, dates.end)
    following = calendar.CMES.next_session(dates.last)
    assert future.session(end) == following
    assert all(future.session(calendar.at(day, clock(16))) == day and calendar.at(day, clock(17)) < end for day in sessions)
    hours = ((end - n * timedelta(hours=1)).astimezone(calendar.NEW_YORK) for n in range(1, 240))
    open_hours = [hour for hour in hours if hour.hour < 16 and calendar.CMES.is_session(hour.date())]
    assert following not in map(future.session, open_hours)
    first = calendar.CMES.next_session(dates.start - DAY)
    assert future.session(calendar.at(dates.start - DAY, clock(18))) == first


def test_the_front_rolls_from_contract_to_contract(gateway, hook):
    table = hook.fetch(ask("ES.c.0", date(2026, 3, 2), date(2026, 10, 30))).table
    assert requested(gateway) == [("202612", "7 W", "20261030"), ("202609", "13 W", "20260913"), ("202606", "13 W", "20260614"),
                              ("202603", "2 W", "20260315")]  # fmt: skip
    assert table["session"].to_pylist() == list(calendar.CMES.sessions(date(2026, 3, 2), date(2026, 10, 31)))
    for month, day in (("H", date(2026, 3, 13)), ("M", date(2026, 3, 16)), ("M", date(2026, 6, 12)), ("U", date(2026, 6, 15))):
        (dated,) = hook.fetch(ask(f"ES{month}2026", day)).table.to_pylist()
        (front,) = (row for row in table.to_pylist() if row["session"] == day)
        assert {**dated, "symbol": "ES.c.0"} == front


def test_no_continuous_future_is_requested(gateway, hook):
    """It takes no end date (10339)."""
    hook.fetch(ask("MES.c.0", date(2025, 1, 2), date(2026, 11, 19)))
    assert all("CONTFUT" not in call.target and call.status == 0 for call in gateway.calls)


def test_what_is_older_than_the_contracts_that_are_kept_is_empty_and_reported(gateway, hook):
    fetched = hook.fetch(ask("MES.c.0", date(2024, 6, 3), date(2025, 1, 31)))
    assert fetched.table["session"].to_pylist()[0] == date(2024, 9, 16)
    assert "of the contracts that led are not known any more" in fetched.warnings[0]
    older = hook.fetch(ask("MES.c.0", date(2020, 1, 2), date(2020, 6, 30)))
    assert (len(older.table), len(older.warnings)) == (0, 1)  # not UnknownSymbol: the ledger has later bars of it


def test_a_front_whose_contracts_should_be_known_is_unknown_if_they_are_not(gateway, hook):
    gateway.fault("refused", times=None, code=200, text="No security definition has been found for the request")
    with pytest.raises(UnknownSymbol, match="No security definition"):
        hook.fetch(ask("MES.c.0", date(2026, 10, 1), date(2026, 10, 30)))


@given(st.dates(date(2010, 1, 1), date(2039, 12, 31)), st.integers(1, 800))
def test_the_parts_of_a_front_cover_its_dates_once(first, days):
    dates = Interval(first, first + timedelta(days=days))
    parts = list(Instrument.of("ES.c.0").parts(dates))
    assert parts[0].dates.end == dates.end
    assert parts[-1].dates.start == dates.start
    assert all(later.dates.start == earlier.dates.end for later, earlier in pairwise(parts))
    for part in parts:
        assert {lead(part.dates.start + timedelta(days=n))[0] for n in range((part.dates.end - part.dates.start).days)} == {
            part.contract.lastTradeDateOrContractMonth
        }


@given(st.dates(date(2010, 1, 1), date(2039, 12, 31)))
def test_who_leads_expires_next_and_not_in_this_week(day):
    month, since = lead(day)
    expires = next(
        third
        for year in (day.year, day.year + 1)
        for number in MONTHS.values()
        for third in [friday(year, number)]
        if day < roll(third)
    )
    assert month == f"{expires:%Y%m}"
    assert since <= day
    assert since.weekday() == calendar.MONDAY
    assert lead(since - DAY)[0] != month


def friday(year, month):
    return next(day for n in range(15, 22) if (day := date(year, month, n)).weekday() == calendar.FRIDAY)


@given(st.dates(date(2001, 1, 1), date(2030, 1, 1)), st.integers(1, 9000), st.booleans())
def test_a_step_ends_where_requested_and_its_duration_reaches_its_start(first, days, daily):
    dates = Interval(first, first + timedelta(days=days))
    step = last_step(dates, daily=daily)
    assert step.dates.end == dates.end
    assert dates.start <= step.dates.start < dates.end
    number, unit = step.duration.split()
    covered = {"D": 1, "W": 7, "M": (dates.end - contracts._month_before(dates.end)).days, "Y": 365}[unit] * int(number)
    assert covered >= (step.dates.end - step.dates.start).days
    assert not (unit == "D" and int(number) > 365)
    assert daily or covered <= 31


# answers


def test_a_response_for_a_shorter_span_is_continued(gateway, hook):
    gateway.fault("half")
    request = ask("IBM", *YEAR)
    fetched = hook.fetch(request)
    assert fetched.table["session"].to_pylist() == list(calendar.sessions(YEAR[0], YEAR[1] + DAY))
    assert fetched.evidence.pages == fetched.evidence.calls == 2


@pytest.mark.parametrize(("name", "stamp"), [("ohlcv-1d", "20130117"), ("ohlcv-1d", "20030107"), ("ohlcv-1m", "1358287200")])
def test_a_bar_of_another_date_is_left_aside_and_counted(gateway, hook, name, stamp):
    whole = hook.fetch(ask("IBM", *WEEK, name)).table
    gateway.forget()
    gateway.fault("out_of_range", times=None, stamp=stamp)
    fetched = hook.fetch(ask("IBM", *WEEK, name))
    assert fetched.table.equals(whole.slice(0, len(whole) - 1))
    assert (fetched.evidence.rows_left_aside, fetched.evidence.rows_received) == (1, len(whole))
    assert re.fullmatch(r"rows of 20\d\d-01-\d\d came", fetched.unproved["IBM"])
    assert len(gateway.calls) == 2  # it may be the one that is missing


def test_bars_that_are_mostly_of_other_dates_are_an_error(gateway, hook):
    gateway.fault("out_of_range", times=None)
    with pytest.raises(ServerError, match="rows of 2035-01-02 came"):
        hook.fetch(ask("IBM", WEEK[0]))


# bars that cannot be read

LEGIBLE = ("open", "high", "low", "close", "volume", "vwap", "trade_count")


@pytest.mark.parametrize("name", ["ohlcv-1d", "ohlcv-5m"])
@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        *((place, "n/a", f"{field} is 'n/a', not a number") for place, field in enumerate(LEGIBLE[:5], 1)),
        *((place, "", f"{field} is '', not a number") for place, field in ((4, "close"), (6, "average"))),
        (5, "[1]", "volume is '[1]', not a number"),
        *((7, value, f"barCount is {value!r}, not a whole number below 2^63") for value in ("1.5", str(2**63), "", "nan", "true")),
        (7, "9" * 400, "not a whole number below 2^63"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_odd_bar_is_quarantined_and_the_others_come(gateway, hook, name, field, value, reason):
    whole = hook.fetch(ask("IBM", *WEEK, name)).table
    gateway.fault("odd", field=field, value=value)
    fetched = hook.fetch(ask("IBM", *WEEK, name))
    assert fetched.table.equals(pa.concat_tables([whole.slice(0, 1), whole.slice(2)]))
    (odd,), (lost,) = fetched.odd.to_pylist(), whole.slice(1, 1).to_pylist()
    assert reason in odd.pop("reasons")
    unread = [column for column in odd if odd[column] != lost[column]]
    assert unread == [LEGIBLE[field - 1]]
    assert odd[unread[0]] is None
    assert fetched.evidence.rows_received == fetched.evidence.rows_declared == len(whole)
    assert not fetched.unproved


@pytest.mark.parametrize(("name", "other"), [("ohlcv-1d", "1357570800"), ("ohlcv-5m", "20130108")])
@pytest.mark.parametrize("stamp", ["", "soon", "20131301", "9" * 30, "20130108 10:00:00", "-5", None])
def test_an_odd_bar_without_a_date_leaves_cells_unproved(gateway, hook, name, other, stamp):
    whole = hook.fetch(ask("IBM", *WEEK, name)).table
    gateway.forget()
    gateway.fault("odd", times=None, field=0, value=other if stamp is None else stamp)
    fetched = hook.fetch(ask("IBM", *WEEK, name))
    assert len(fetched.table) == len(whole) - 1
    (odd,) = fetched.odd.to_pylist()
    assert odd["reasons"].startswith("date is ")
    assert (odd["session"] is None) == (stamp is not None)
    assert set(fetched.unproved) == ({"IBM"} if stamp is not None else set())
    assert len(gateway.calls) == (2 if stamp is not None else 1)


def test_bars_that_are_mostly_odd_are_another_form(gateway, hook):
    gateway.fault("drifted", times=None)
    with pytest.raises(SchemaDrift, match="a bar cannot be read: close is 'USD .*', not a number, and 5 of 5 bars are like that"):
        hook.fetch(ask("IBM", *WEEK))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(("field", "value"), [(3, "x"), (10, "x"), (11, "n/a"), (11, ""), (25, "1.5"), (16, "\\x")])
def test_an_odd_field_of_a_listing_does_not_hide_it(gateway, hook, row, field, value):
    plain = hook.fetch(ask("META", date(2026, 11, 18), date(2026, 11, 19))).table
    gateway.catalogue.abroad["META"] = "EBS"
    with make(gateway) as other:
        gateway.fault("odd", match="details", field=field, value=value, row=row)
        assert other.fetch(ask("META", date(2026, 11, 18), date(2026, 11, 19))).table == plain


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (100, "Max rate of messages per second has been exceeded", Throttled),
        (162, "Historical Market Data Service error message:Historical data request pacing violation", Throttled),
        (162, "Historical Market Data Service error message:API historical data query cancelled: 7", ServerError),
        (200, "No security definition has been found for the request", UnknownSymbol),
        (162, "Historical Market Data Service error message:Time length exceed max.", BadRequest),
        (162, "Historical Market Data Service error message:Starting time must occur before ending time", BadRequest),
        (10299, "Expected what to show is MIDPOINT, please use that instead of TRADES.", BadRequest),
        (366, "No historical data query found for ticker id:7", ServerError),
        (321, "Error validating request.-'bW' : cause - Historical data bar size setting is invalid", BadRequest),
        (504, "Not connected", NetworkError),
        (1100, "Connectivity between IBKR and Trader Workstation has been lost.", NetworkError),
        (10314, "End Date/Time: The date, time, or time-zone entered is invalid.", BadRequest),
        (10339, "Setting end date/time for continuous future security type is not allowed.", BadRequest),
        (99_999, "something new", ServerError),
    ],
)
def test_an_error_of_the_gateway_is_the_typed_one_at_once(gateway, hook, code, text, error):
    gateway.fault("refused", times=None, code=code, text=text)
    hook.retry = RetryPolicy(attempts=1)
    began = time.monotonic()
    with pytest.raises(error, match=f"ib: historical IBM .*error {code}") as caught:
        hook.fetch(ask("IBM", *WEEK))
    assert type(caught.value) is error
    assert len(gateway.calls) == 1
    assert time.monotonic() - began < PATIENT  # none of them waits for the deadline of two minutes


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (162, "Historical Market Data Service error message:Trading TWS session is connected from a different IP address"),
        (10197, "No market data during competing live session"),
    ],
)
def test_another_session_of_the_user_is_named_as_the_cause(gateway, hook, code, text):
    gateway.fault("refused", times=None, code=code, text=text)
    hook.retry = RetryPolicy(attempts=2)
    with pytest.raises(CompetingSession, match="To do: log out of the user's other session, or give the gateway a user of its own"):
        hook.fetch(ask("IBM", *WEEK))
    assert len(gateway.calls) == 2  # it is retried: the other session may end


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (162, "Historical Market Data Service error message:No market data permissions for CBOE IND"),
        (354, "Requested market data is not subscribed."),
        (10089, "Requested market data requires additional subscription for API."),
        (10189, "Failed to request tick-by-tick data: No market data permissions for CBOE IND"),
    ],
)
def test_a_symbol_that_the_account_may_not_see_is_named_and_the_others_come(gateway, hook, code, text):
    gateway.fault("refused", code=code, text=text)
    refused, fine = (hook.fetch(ask(symbol, date(2026, 11, 16), date(2026, 11, 19))) for symbol in ("VIX", "ES.c.0"))
    assert list(refused.refused) == ["VIX"]
    assert refused.refused["VIX"] == f"{text} (error {code})"
    assert (len(refused.table), refused.table.schema) == (0, dataset("ohlcv-1d").received)
    assert (refused.evidence.rows_received, refused.evidence.rows_declared, refused.evidence.calls) == (0, 0, 1)
    assert (len(fine.table), fine.refused) == (4, {})


def test_of_a_symbol_that_may_be_seen_in_part_nothing_is_kept(gateway, hook):
    gateway.fault(
        "refused", match=lambda request: request.end < "20260901", code=354, text="Requested market data is not subscribed."
    )
    fetched = hook.fetch(ask("ES.c.0", date(2026, 3, 2), date(2026, 10, 30)))
    assert len(gateway.calls) > 1
    assert (list(fetched.refused), len(fetched.table), fetched.evidence.rows_received) == (["ES.c.0"], 0, 0)


@pytest.mark.parametrize("code", [1100, 1101, 1102, 504])
def test_word_of_a_lost_link_ends_the_request_that_waits(gateway, hook, code):
    gateway.fault("refused", code=code, text="Connectivity has been lost", broadcast=True)
    fetched = hook.fetch(ask("IBM", *WEEK))
    assert len(fetched.table) == 5
    assert fetched.evidence.retries == 1


def test_word_of_a_data_farm_ends_nothing(gateway, hook):
    hook.fetch(ask("IBM", *WEEK))
    gateway.fault("refused", code=2105, text="HMDS data farm connection is broken:ushmds", broadcast=True)
    hook._link.deadline, hook.retry = 0.3, RetryPolicy(attempts=1)
    with pytest.raises(NetworkError, match="no whole response in 0.3 s"):
        hook.fetch(ask("IBM", *WEEK))


def test_no_data_is_a_response(gateway, hook):
    fetched = hook.fetch(ask("FB", date(2010, 1, 4), date(2010, 1, 8)))
    assert [call.status for call in gateway.calls] == [162]
    assert len(fetched.table) == 0
    assert fetched.evidence.last_page_seen
    assert (fetched.evidence.pages, fetched.evidence.rows_declared) == (1, 0)


def test_a_hang_ends_with_the_deadline_and_the_next_try_has_a_new_connection(gateway):
    with make(gateway, late=True) as hook:
        hook.fetch(ask("SPY", *WEEK))
        before = hook._link._ib
        gateway.fault("hang")
        assert len(hook.fetch(ask("IBM", *WEEK)).table) == 5
        assert hook._link._ib is not before
    assert [call.fault for call in gateway.calls] == [None, "hang", None]


def test_a_connection_that_ended_between_two_requests_costs_no_call(gateway, hook):
    hook.fetch(ask("IBM", *WEEK))
    gateway.break_links()
    time.sleep(0.05)
    fetched = hook.fetch(ask("IBM", *WEEK))
    assert fetched.evidence.retries == 0
    assert len(fetched.table) == 5


# client ids


def test_hooks_side_by_side_take_client_ids_of_their_own(gateway):
    request = ask("IBM", *WEEK)
    with make(gateway, client_id=40) as one, make(gateway, client_id=40) as two, make(gateway, client_id=40) as three:
        for hook in (one, two, three):
            assert len(hook.fetch(request).table) == 5
        assert gateway.clients >= {40, 41, 42}
    assert [call.client_id for call in gateway.calls] == [40, 41, 42]
    await_no(gateway, {40, 41, 42})
    with make(gateway, client_id=40) as again:
        again.fetch(request)
    assert gateway.calls[-1].client_id == 40


def test_that_all_client_ids_are_in_use_is_reported(gateway, monkeypatch):
    monkeypatch.setattr(client, "CLIENT_IDS", 2)
    with make(gateway, client_id=50) as one, make(gateway, client_id=50) as two, make(gateway, client_id=50) as three:
        one.fetch(ask("IBM", *WEEK))
        two.fetch(ask("IBM", *WEEK))
        three.retry = RetryPolicy(attempts=1)
        with pytest.raises(NetworkError, match="the client ids 50 to 51 of 127.0.0.1:.* are all in use"):
            three.fetch(ask("IBM", *WEEK))


def await_no(gateway, ids):
    assert until(lambda: not gateway.clients & ids)


# pacing


def test_the_vendors_rules_are_kept(gateway):
    """60 in 600 s as 6 in 0.6 s; the log of the gateway proves it."""
    gateway.rules = Rules((Window(6, 0.6),), Window(5, 0.02))
    with make(
        gateway, calls_per_minute_per_slot=60_000, limits=[{"calls": 6, "seconds": 0.6}, {"calls": 5, "seconds": 0.02}]
    ) as hook:
        for session in calendar.sessions(*YEAR)[:15]:
            hook.fetch(ask("IBM", session))
    assert [call.status for call in gateway.calls] == [0] * 15
    assert gateway.max_in_window(0.6) <= 6


def test_equal_requests_keep_their_distance_whichever_hook_makes_them(gateway):
    gateway.rules = Rules(identical=1.5)
    for _ in range(3):
        with make(gateway, identical_seconds=1.5) as hook:
            hook.fetch(ask("IBM", *WEEK))
            hook.fetch(ask("SPY", *WEEK))
    calls = gateway.calls
    assert [call.status for call in calls] == [0] * 6
    gaps = [later.monotonic - earlier.monotonic for earlier, later in zip(calls, calls[2:], strict=False)]
    assert min(gaps) >= 1.5
    assert calls[1].monotonic - calls[0].monotonic < 1.4  # another symbol does not wait


def test_a_retry_is_an_equal_request_too(gateway):
    gateway.rules = Rules(identical=0.3)
    gateway.fault("reset")
    with make(gateway, identical_seconds=0.3) as hook:
        assert len(hook.fetch(ask("IBM", *WEEK)).table) == 5
    assert [call.accepted for call in gateway.calls] == [True, True]


def test_the_plans_are_the_vendors_rules():
    plan = InteractiveBrokersHook.plans["standard"].quota
    assert set(plan.limits) == {*RULES.windows, RULES.per_contract}
    assert IDENTICAL["standard"] == RULES.identical
    assert plan.calls_per_minute(100) == 6


def test_a_pacing_violation_holds_every_slot_back(gateway):
    gateway.fault("pacing")
    limits = [{"calls": 100, "seconds": 0.3}, {"calls": 100, "seconds": 0.1}]
    with make(gateway, limits=limits) as one, make(gateway, limits=limits) as other:
        one.retry = RetryPolicy(attempts=1)
        with pytest.raises(Throttled) as caught:
            one.fetch(ask("IBM", *WEEK))
        other.fetch(ask("SPY", *WEEK))
    assert caught.value.retry_after == 0.3
    first, second = gateway.calls
    assert second.monotonic - first.monotonic >= 0.25


# the connection


@pytest.mark.parametrize(
    ("address", "extra", "text"),
    [
        ("127.0.0.1", {}, r"host and port are '127.0.0.1'; a host name and a port from 1 to 65535 are needed: 4001"),
        ("127.0.0.1:70000", {}, "host and port are '127.0.0.1:70000'"),
        ("http://127.0.0.1:4001", {}, "host and port are 'http://127.0.0.1:4001'"),
        (":4001", {}, "host and port are ':4001'"),
        ("127.0.0.1:4001", {"client_id": 0}, "extra.client_id is 0; a whole number from 1 to"),
        ("127.0.0.1:4001", {"client_id": "7"}, "extra.client_id is '7'"),
        ("127.0.0.1:4001", {"client_id": True}, "extra.client_id is true"),
        ("127.0.0.1:4001", {"identical_seconds": -1}, "extra.identical_seconds is -1; a number from 0 on"),
        ("127.0.0.1:4001", {"identical_seconds": 3600}, "extra.identical_seconds is 3600; a number from 0 on, less than 3,600,"),
        ("127.0.0.1:4001", {"stock_volumes": "hundreds"}, "extra.stock_volumes is 'hundreds'; allowed: auto, shares, lots"),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(address, extra, text):
    with pytest.raises(ConfigError, match=text):
        InteractiveBrokersHook(config=ProviderConfig("ib_default", address, extra=extra)).validate_config()


@pytest.mark.parametrize("address", ["", "127.0.0.1:4002", "ib-gateway.internal:4001", "[::1]:7497"])
def test_a_good_connection_is_taken(address):
    InteractiveBrokersHook(config=ProviderConfig("ib_default", address, extra={"client_id": 7})).validate_config()


@pytest.mark.parametrize(("value", "text"), [("adjusted_last", "takes no end date"), ("bid_ask", "bar")])
def test_why_a_kind_of_price_is_not_served_is_reported(value, text):
    config = ProviderConfig("ib_default", "127.0.0.1:4001")
    with pytest.raises(ConfigError, match=f"what_to_show is '{value}'.*{text}"):
        InteractiveBrokersHook(config=config, options={"what_to_show": value}).validate_config()


def test_the_connection_test_tells_version_and_client_id(gateway):
    works, text = make(gateway, client_id=77).test_connection()
    assert works
    assert text == f"{gateway.address} responded: protocol version 178, client id 77; it knows SPY as SPY INC"


def test_an_older_gateway_is_served_too():
    for version in (157, 163, 165):
        with SampleGateway(version=version, now=lambda: NOW) as old, make(old) as hook:
            assert len(hook.fetch(ask("IBM", *WEEK)).table) == 5
            assert f"protocol version {version}" in hook._probe()


class Hasty(InteractiveBrokersHook):
    def connect(self):
        super().connect()
        self._link.connecting = 0.3


def test_what_is_no_gateway_is_reported_within_the_deadline(gateway):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ProviderConfig("ib_default", f"127.0.0.1:{silent.getsockname()[1]}", extra=FAST)
        hook = Hasty(config=config)
        hook.retry = RetryPolicy(attempts=1)
        began = time.monotonic()
        works, text = hook.test_connection()
    assert not works
    assert "no gateway responds at 127.0.0.1:" in text
    assert time.monotonic() - began < 8  # without its own limit it would be ten seconds


# the event loop


def test_it_works_in_any_thread_and_leaves_nothing_behind(gateway):
    found = []

    def run():
        with make(gateway) as hook:
            found.append(len(hook.fetch(ask("IBM", *WEEK)).table))

    before = set(gateway.clients)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert found == [5] * 4
    await_no(gateway, set(gateway.clients) - before)


@pytest.mark.filterwarnings("error")
def test_the_loop_of_the_caller_is_not_touched(gateway):
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what other tests left
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        with make(gateway) as hook:
            hook.fetch(ask("IBM", *WEEK))
        del hook
        gc.collect()  # an unclosed loop or socket would warn
        assert asyncio.get_event_loop_policy().get_event_loop() is mine
        assert not mine.is_closed()
    finally:
        asyncio.set_event_loop(None)
        mine.close()


def test_what_the_library_logs_does_not_reach_the_tasks_log(gateway, hook, caplog):
    with caplog.at_level(logging.INFO):
        hook.fetch(ask("FB", date(2010, 1, 4), date(2010, 1, 8)))
    assert not [record for record in caplog.records if record.name.startswith("ib_async")]
