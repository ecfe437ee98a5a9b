"""The Alpaca hook against a real HTTP server: the provider contract, and what is Alpaca's own."""

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape, Window
from market_data.core.errors import AuthError, BadRequest, ConfigError, EntitlementError, SchemaDrift, ServerError, Throttled
from market_data.core.intervals import closed
from market_data.core.retry_policy import RetryPolicy
from market_data.datasets.registry import dataset
from market_data.pipeline.planner import make_plan
from market_data.providers.alpaca.client import IN_MEMORY, MOST_EMPTY
from market_data.providers.alpaca.hook import AlpacaHook
from market_data.providers.alpaca.parse import UTC_MICROS, _spans, malformed
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import providers
from market_data.providers.spool import nothing_to_release
from sandbox.http import SampleApi
from sandbox.vendors.alpaca import NOT_RECENT, last_date
from tests.contract.provider import HTTP_FAULTS, KEY, NOW, SECOND_PAGE, TURNS, WEEK, YEAR, Fault, NetworkContract, order, rows
from tests.providers.sample_setup import AAPL_ROW, as_row, hook_on, rows_held

KEY_ID = "an-id-nobody-may-see"


def make_hook(server, *, key_id=KEY_ID, **config):
    return hook_on(AlpacaHook, "alpaca", server, login=key_id, **config)


class TestAlpaca(NetworkContract):
    provider = "alpaca"
    endpoints: ClassVar = {"bars": Shape.MULTI}
    anchor: ClassVar = AAPL_ROW
    unknown = "NOSUC"  # six letters would be malformed
    paged = "bars"
    second_page = "page_token="
    young_days = 0
    tells_quota = True
    faults: ClassVar = {
        **HTTP_FAULTS,
        "forbidden_timeframe": {"kind": "forbidden", "message": NOT_RECENT},
        "error_with_200": {"kind": "error_with_200"},
        "drifted": {"kind": "drifted"},
        "absent_results": {"kind": "no_bars"},
        "other_symbol": {"kind": "other_symbol"},
        "out_of_range": {"kind": "out_of_range"},
        "page_loop": {"kind": "page_loop"},
        "page_loop_back": {"kind": "page_loop", "days_back": 30},
    }
    without: ClassVar = {
        **dict.fromkeys(("counted_too_high", "counted_too_low"), "an answer does not say how many rows it has"),
        "other_adjustment": "an answer does not say how it is adjusted",
        "null_results": "`bars` is null on a last page without bars",
    }
    outcomes: ClassVar = {
        "forbidden": Fault(AuthError, passes=False, calls=1),  # also for a wrong key
        "other_symbol": Fault(ServerError, of=(Shape.MULTI,), aside=True),
        "page_loop": Fault(ServerError, passes=False, calls=1, paging=True),  # a token that does not move is seen at once
    }

    def is_error(self, case):
        return super().is_error(case) or (case.fault == "other_symbol" and case.place == SECOND_PAGE)  # which has no other symbol

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleApi(vendor="alpaca", api_key=KEY) as api:
            yield api

    @pytest.fixture
    def small_pages(self, monkeypatch):
        monkeypatch.setattr("market_data.providers.alpaca.hook.PAGE_ROWS", 60)

    def make_hook(self, server, **config):
        return make_hook(server, **config)

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals)

    def refuse_from(self, server, day):
        server.fault("forbidden", match=lambda request: last_date(request) >= day, times=None, message=NOT_RECENT)


# what is Alpaca's own


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="alpaca", api_key=KEY) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    running.vendor.page_rows, running.vendor.embargo, running.vendor.bare = 10_000, timedelta(), False
    return running


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        yield hook


def ask(symbols, first=WEEK[0], last=WEEK[1], name="ohlcv-1d"):
    return Request(name, "bars", tuple(symbols), (closed(first, last),))


def held(server, request):
    found = [server.market.range(symbol, request.start, request.last + timedelta(days=1)) for symbol in request.symbols]
    return sorted((as_row(bar) for bars in found for bar in bars), key=order)


def sent(call):
    return dict(part.split("=", 1) for part in call.target.partition("?")[2].split("&"))


# pages


@pytest.fixture(params=[0, IN_MEMORY], ids=["rows in a file", "rows in memory"])
def in_memory(request, monkeypatch):
    monkeypatch.setattr("market_data.providers.alpaca.client.IN_MEMORY", request.param)
    return request.param > 0


@pytest.mark.parametrize("size", [1, 3, 7, 249, 250, 251])
def test_a_symbol_may_span_pages_and_a_page_may_be_shorter_than_requested(server, hook, size, in_memory):
    server.vendor.page_rows = size
    request = ask(("IBM", "AAPL", "SPY"), WEEK[0], WEEK[1]) if size < 100 else ask(("IBM", "AAPL", "SPY"), *YEAR)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert fetched.evidence.pages == len(server.calls) == -(-len(fetched.table) // size)
    assert fetched.evidence.last_page_seen
    assert (fetched.release is nothing_to_release) == in_memory


def test_null_bars_on_the_last_page_are_an_empty_page(server, hook):
    server.fault("no_bars", null=True)
    fetched = hook.fetch(ask(("AAPL", "IBM")))
    assert (len(fetched.table), fetched.evidence.last_page_seen, len(server.calls)) == (0, True, 1)


def test_null_bars_on_a_second_page_that_is_the_last_keep_the_first_page(server, hook):
    server.vendor.page_rows = 30
    request = ask(("AAPL", "IBM"))
    whole = held(server, request)
    server.vendor.page_rows = -(-len(whole) // 2)
    server.fault("no_bars", match="page_token", null=True)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == whole[: server.vendor.page_rows]


def test_null_bars_on_a_page_that_names_a_next_one_are_retried(server, hook):
    server.vendor.page_rows = 4
    request = ask(("AAPL", "IBM"))
    whole = held(server, request)
    server.fault("no_bars", null=True)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == whole
    assert fetched.evidence.retries == 1


@given(st.lists(st.tuples(st.sampled_from(["A", "AA", "other"]), st.integers(0, 5), st.booleans())))
def test_the_span_of_a_symbol_is_from_its_first_to_its_last_dated_row(found):
    request = Request("ohlcv-1m", "bars", ("A", "AA"), (WEEK,))
    columns = {
        "symbol": pa.array([symbol for symbol, _, _ in found], pa.string()),
        "bar_time": pa.array([moment for _, moment, _ in found], UTC_MICROS),
        "session": pa.array([date(2024, 1, 2) if dated else None for _, _, dated in found], pa.date32()),
    }
    own = {name: [moment for symbol, moment, dated in found if dated and symbol == name] for name in request.symbols}
    assert _spans(pa.table(columns), request) == {name: (min(moments), max(moments)) for name, moments in own.items() if moments}


def test_pages_without_rows_are_followed_a_few_times(server, hook):
    server.vendor.page_rows = 4
    request = ask(("AAPL", "IBM"))
    server.fault("no_rows", match="page_token", times=MOST_EMPTY)
    assert rows(hook.fetch(request).table) == held(server, request)
    server.forget()
    server.fault("no_rows", match="page_token", times=None)
    with pytest.raises(ServerError, match="brings nothing new and names a next one"):
        hook.fetch(request)
    assert len(server.calls) == MOST_EMPTY + 2


@pytest.mark.parametrize("size", [1, 4])
def test_a_first_page_that_comes_again_is_an_error(server, hook, size):
    server.vendor.page_rows = size
    server.fault("page_loop")
    with pytest.raises(ServerError, match="the paging loops"):
        hook.fetch(ask(("AAPL", "IBM")))
    assert len(server.calls) == 2


def test_a_symbol_that_comes_again_after_others_is_an_error(server, hook):
    """The third page is about the first symbol again, with later rows of it than any before."""
    server.vendor.page_rows = 3
    server.fault("other_symbol", match=lambda request: "SU" in request.query.get("page_token", ""), symbol="AAPL", times=None)
    with pytest.raises(ServerError, match="repeats what came before"):
        hook.fetch(ask(("AAPL", "IBM"), WEEK[0], date(2013, 1, 31)))


def test_a_response_that_does_not_say_whether_a_page_follows_is_not_whole(server, hook):
    server.fault("no_token")
    request = ask(("IBM",))
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert (fetched.evidence.calls, fetched.evidence.retries, fetched.evidence.pages) == (2, 1, 1)


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("other_hour", SchemaDrift, "not midnight New York, and 10 of 10 rows are like that"),
        ("error_with_200", ServerError, "HTTP 200 with an error: Internal error"),
    ],
)
def test_what_cannot_be_the_response_is_reported(server, hook, kind, error, text):
    server.fault(kind, times=None)
    with pytest.raises(error, match=text):
        hook.fetch(ask(("IBM", "AAPL")))


@pytest.mark.parametrize(("kind", "text"), [("other_symbol", "rows of ZVZZT came"), ("out_of_range", "rows of 2023-12-21 came")])
def test_a_response_of_nothing_that_was_requested_is_an_error(server, hook, kind, text):
    server.fault(kind, times=None)
    with pytest.raises(ServerError, match=text):
        hook.fetch(ask(("IBM",), WEEK[0], WEEK[0]))


@pytest.mark.parametrize("days", [-1, 1, -4000, 4000])
def test_a_row_from_outside_the_span_is_left_aside(server, hook, days):
    server.fault("out_of_range", days=days, times=None)
    fetched = hook.fetch(ask(("IBM",), WEEK[0], WEEK[0], "ohlcv-5m"))
    assert fetched.table["session"].unique().to_pylist() == [WEEK[0]]
    assert (fetched.evidence.rows_left_aside, fetched.evidence.rows_received) == (1, len(fetched.table) + 1)
    assert set(fetched.unproved) == {"IBM"}


# symbols


@pytest.mark.parametrize("bare", [False, True])
def test_malformed_symbols_are_set_aside_with_their_names(server, hook, bare):
    server.vendor.bare = bare
    request = ask(("AAPL", "B2", "BRK.B", "A1", "NOSUC", "TOOLONG"))
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, ask(("AAPL", "BRK.B")))
    assert sorted(fetched.refused) == ["A1", "B2", "TOOLONG"]
    assert all(f"invalid symbol: {symbol}" in why for symbol, why in fetched.refused.items())
    assert (fetched.evidence.calls, fetched.evidence.retries, fetched.evidence.pages) == (4, 0, 1)
    assert [call.status for call in server.calls] == [400, 400, 400, 200]


def test_what_the_vendor_says_of_a_malformed_symbol_may_hold_spaces():
    assert malformed("code=400, message=invalid symbol: BRK B", ("BRK", "BRK B", "AAPL")) == "BRK B"


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ("BRK-B", "BRK-B has several meanings: write BRK.B (class B) or BRK.PRB (preferred, series B)"),
        ("AAPL  240119C00150000", "is not a symbol of a US stock; Alpaca serves stocks and ETFs, e.g. AAPL, BRK.B"),
        ("^GSPC", "is not a symbol of a US stock"),
        ("ES.c.0", "is not a symbol of a US stock"),
        ("ABC.CL", "ABC.CL cannot be requested: Alpaca has no symbol for called; leave it out"),
    ],
)
def test_a_symbol_that_the_vendor_cannot_have_is_named_without_a_call(server, hook, symbol, why):
    fetched = hook.fetch(ask(("AAPL", symbol)))
    assert rows(fetched.table) == held(server, ask(("AAPL",)))
    assert why in fetched.refused[symbol]
    assert [call.ticker for call in server.calls] == ["AAPL"]


def test_words_may_follow_a_malformed_symbol(server, hook):
    server.fault("server_error", status=400, message="code=400, message=invalid symbol: IBM (no such class)")
    assert list(hook.fetch(ask(("I", "IBM"))).refused) == ["IBM"]


def test_where_all_symbols_are_malformed_nothing_is_known(server, hook):
    fetched = hook.fetch(ask(("A1", "TOOLONG")))
    assert len(fetched.table) == 0
    assert set(fetched.refused) == {"A1", "TOOLONG"}
    assert len(server.calls) == 2


def test_a_malformed_symbol_between_pages_begins_the_chain_anew(server, hook, in_memory):
    server.vendor.page_rows = 4
    server.fault("server_error", match="page_token", status=400, message="invalid symbol: IBM")
    fetched = hook.fetch(ask(("AAPL", "IBM")))
    assert rows(fetched.table) == held(server, ask(("AAPL",)))
    assert list(fetched.refused) == ["IBM"]
    assert fetched.evidence.rows_received == 5


@pytest.mark.parametrize(
    "message", ["invalid symbol: TSLA", "invalid symbol: IBMX", "invalid symbol: ", "invalid limit: 10000", "no subscription"]
)
def test_a_400_that_names_none_of_the_requested_symbols_is_an_error(server, hook, message):
    server.fault("server_error", status=400, message=message)
    with pytest.raises(BadRequest, match=f"{message.strip()} .HTTP 400"):
        hook.fetch(ask(("AAPL", "IBM")))
    assert len(server.calls) == 1


def test_no_more_malformed_symbols_are_set_aside_than_a_list_has_by_mistake(server, hook, monkeypatch):
    monkeypatch.setattr("market_data.providers.alpaca.client.MOST_REFUSED", 3)
    with pytest.raises(BadRequest, match="invalid symbol: A4"):
        hook.fetch(ask(("A1", "A2", "A3", "A4", "IBM")))
    assert len(server.calls) == 4


# options


def test_the_feed_is_left_out_by_default(server, hook):
    hook.fetch(ask(("IBM",)))
    with make_hook(server, options={"feed": "sip"}) as named:
        named.fetch(ask(("IBM",)))
    assert [sent(call).get("feed") for call in server.calls] == [None, "sip"]
    assert {(sent(call)["adjustment"], sent(call)["asof"]) for call in server.calls} == {("raw", "-")}


def test_iex_has_the_prices_and_a_small_part_of_the_volume(server, hook):
    request = ask(("AAPL", "SPY"), *YEAR)
    with make_hook(server, options={"feed": "iex"}) as iex:
        few, all_ = rows(iex.fetch(request).table), rows(hook.fetch(request).table)
    assert [row["close"] for row in few] == [row["close"] for row in all_]
    assert all(0 < row["volume"] < 0.1 * whole["volume"] for row, whole in zip(few, all_, strict=True))


def test_what_is_not_traded_on_a_feed_is_absent(server):
    with make_hook(server, options={"feed": "otc"}) as otc:
        assert len(otc.fetch(ask(("AAPL", "SPY"))).table) == 0


@pytest.mark.parametrize("feed", ["delayed_sip", "overnight"])
def test_a_feed_without_history_is_refused_with_the_reason(server, feed):
    with pytest.raises(ConfigError, match=f"feed is '{feed}'; .*latest quotes and trades only"):
        make_hook(server, options={"feed": feed}).validate_config()


@pytest.mark.parametrize("adjustment", providers()["alpaca"].options["adjustment"].schema["enum"][1:])
def test_adjusted_prices_differ(server, hook, adjustment):
    request = ask(("AAPL",), date(2005, 1, 3), date(2005, 1, 7))
    with make_hook(server, options={"adjustment": adjustment}) as adjusted:
        assert adjusted.fetch(request).table["close"].to_pylist() != hook.fetch(request).table["close"].to_pylist()
    assert sent(server.calls[0])["adjustment"] == adjustment


# minutes


def minutes_held(server, request, size):
    found = []
    for symbol in request.symbols:
        days = server.market.range(symbol, request.start, request.last + timedelta(days=1))
        bars = server.market.minutes(days, size)
        columns = [column.tolist() for column in bars]
        for cell, stamp, *values in zip(*columns, strict=True):
            moment = datetime.fromtimestamp(stamp / 1e9, UTC)
            found.append((symbol, moment, days[cell].session, *values))
    return sorted(found)


@pytest.mark.parametrize(("name", "size"), [("ohlcv-1m", 1), ("ohlcv-5m", 5)])
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_minutes_stand_under_their_session_around_clock_changes_and_on_half_days(server, hook, name, size, turn):
    request = ask(("SPY", "AAPL"), turn, turn, name)
    table = hook.fetch(request).table
    assert table.schema == dataset(name).received
    columns = ("symbol", "bar_time", "session", "open", "high", "low", "close", "volume", "vwap", "trade_count")
    wanted = minutes_held(server, request, size)
    assert [tuple(row[name] for name in columns) for row in rows(table)] == wanted
    assert len(wanted) > 0.9 * 2 * (210 if calendar.is_early_close(turn) else 390) / size
    assert min(row[1] for row in wanted) == calendar.session_close(turn) - timedelta(
        hours=3.5 if calendar.is_early_close(turn) else 6.5
    )


def test_minutes_over_many_pages_are_all_there(server, hook, in_memory):
    server.vendor.page_rows = 700
    request = ask(("AAPL", "BRK.B", "SPY"), date(2012, 3, 5), date(2012, 3, 16), "ohlcv-1m")
    fetched = hook.fetch(request)
    wanted = minutes_held(server, request, 1)
    assert [(row["symbol"], row["bar_time"]) for row in rows(fetched.table)] == [row[:2] for row in wanted]
    assert fetched.evidence.pages == -(-len(wanted) // 700) > 10


def test_minutes_fold_to_the_daily_bar(server, hook):
    daily = rows(hook.fetch(ask(("SPY", "AAPL"))).table)
    minutes = rows(hook.fetch(ask(("SPY", "AAPL"), name="ohlcv-1m")).table)
    for bar in daily:
        own = [row for row in minutes if (row["symbol"], row["session"]) == (bar["symbol"], bar["session"])]
        assert (own[0]["open"], own[-1]["close"]) == (bar["open"], bar["close"])
        assert sum(row["volume"] for row in own) == pytest.approx(bar["volume"])


# the quota


def test_when_no_call_is_left_every_slot_waits_for_the_reset(server, hook):
    with make_hook(server) as other:
        server.fault("used_up", reset=0)  # whole seconds: up to one from now
        hook.fetch(ask(("IBM",)))
        until = hook.pacer().limiter.paused() + time.time()
        assert until == pytest.approx(float(int(until)), abs=0.2)  # a whole second of the server, and the time until it was read
        other.fetch(ask(("IBM",)))
        assert time.time() >= until - 0.01
    assert [call.status for call in server.calls] == [200, 200]


@pytest.mark.parametrize(("kind", "error"), [({"reset": 30}, Throttled), ({"reset": 30, "retry_after": 7}, Throttled)])
def test_a_429_waits_for_the_reset(server, hook, kind, error):
    server.fault("throttled", times=None, **kind)
    hook.connect()
    hook._transport.retry = RetryPolicy(attempts=1)
    with pytest.raises(error) as caught:
        hook.fetch(ask(("IBM",)))
    assert caught.value.retry_after == pytest.approx(kind.get("retry_after", 30), abs=1.1)


def test_no_reset_holds_calls_back_for_longer_than_the_vendors_window(server, hook):
    server.fault("used_up", reset=86_400)
    hook.fetch(ask(("IBM",)))
    blocked = hook.pacer().limiter.paused()
    assert 55 < blocked <= 60


@pytest.mark.parametrize("status", [400, 500])
def test_what_an_error_says_of_the_quota_is_obeyed_too(server, hook, status):
    server.limits = [Window(1, 0.5)]
    server.fault("server_error", status=status, message="invalid symbol: IBM")
    hook.fetch(ask(("IBM", "AAPL")))
    assert [call.status for call in server.calls] == [status, 200]


# calls: as many as planned


@pytest.mark.parametrize(
    ("first", "last", "rows_a_page", "calls"),
    [
        (date(2012, 1, 3), date(2012, 1, 3), 10_000, 1),
        (date(2012, 1, 3), date(2012, 1, 9), 100, 27),
        pytest.param(date(2012, 1, 1), date(2013, 12, 31), 10_000, 27, marks=pytest.mark.slow),
    ],
)
def test_calls_are_as_many_as_planned(monkeypatch, first, last, rows_a_page, calls):
    monkeypatch.setattr("market_data.providers.alpaca.hook.PAGE_ROWS", rows_a_page)
    symbols = [f"X{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(523)]
    sessions = calendar.sessions(first, last + timedelta(days=1))
    with SampleApi(vendor="alpaca", api_key=KEY, symbols=symbols) as api, make_hook(api) as hook:
        capabilities = hook.capabilities("ohlcv-1d")
        endpoints = tuple(replace(endpoint, page_rows=rows_a_page) for endpoint in capabilities.endpoints)
        everything = dict.fromkeys(symbols, (1 << len(sessions)) - 1)
        plan = make_plan("ohlcv-1d", everything, sessions, replace(capabilities, endpoints=endpoints), batch_size=1000)
        fetched = [hook.fetch(request) for batch in plan.batches for request in batch.requests(sessions)]
        assert sum(len(one.table) for one in fetched) == 523 * len(sessions)
        assert plan.calls == len(api.calls) == calls


# what is young, and refusals


def test_after_hours_the_session_of_today_is_requested_up_to_what_the_free_plan_has():
    moment = calendar.at(date(2020, 6, 16), clock(20, 20))
    with SampleApi(vendor="alpaca", api_key=KEY, embargo=900, now=lambda: moment) as api, make_hook(api) as hook:
        hook.now = lambda: moment
        fetched = hook.fetch(ask(("SPY", "IBM"), date(2020, 6, 15), date(2020, 6, 16)))
        assert len(fetched.table) == 4
        assert fetched.pending_from is None
        assert [call.status for call in api.calls] == [200]


def test_before_that_it_is_pending():
    moment = calendar.at(date(2020, 6, 16), clock(20, 10))
    with SampleApi(vendor="alpaca", api_key=KEY, embargo=900, now=lambda: moment) as api, make_hook(api) as hook:
        hook.now = lambda: moment
        fetched = hook.fetch(ask(("SPY", "IBM", "A1"), date(2020, 6, 15), date(2020, 6, 16)))
        assert len(fetched.table) == 2
        assert (fetched.pending_from, fetched.pending_reason) == (date(2020, 6, 16), NOT_RECENT)
        assert list(fetched.refused) == ["A1"]
        assert [call.status for call in api.calls] == [400, 403, 400, 200]


def test_in_the_evening_today_is_old_enough_and_tomorrow_is_pending():
    moment = calendar.at(date(2020, 6, 16), clock(21))
    with SampleApi(vendor="alpaca", api_key=KEY, embargo=900, now=lambda: moment) as api, make_hook(api) as hook:
        hook.now = lambda: moment
        fetched = hook.fetch(ask(("SPY",), date(2020, 6, 15), date(2020, 6, 17)))
        assert fetched.table["session"].to_pylist() == [date(2020, 6, 15), date(2020, 6, 16)]
        assert fetched.pending_from == date(2020, 6, 17)
        assert [call.status for call in api.calls] == [403, 200]


def test_a_subscription_that_never_has_a_feed_is_no_matter_of_age(server, hook):
    hook.now = lambda: NOW
    server.fault("forbidden", message="subscription does not permit querying OTC data", times=None)
    with pytest.raises(EntitlementError, match="OTC"):
        hook.fetch(ask(("IBM",), NOW.date() - timedelta(days=30), NOW.date()))
    assert len(server.calls) == 1


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden"])
def test_401_and_403_are_both_sent_for_a_bad_key(server, hook, kind):
    server.fault(kind)
    with pytest.raises(AuthError, match="login and password of connection 'alpaca_default' are the key"):
        hook.fetch(ask(("IBM",)))


def test_a_401_of_the_vendors_gateway_is_one_too(server, hook):
    server.fault("html", status=401)
    with pytest.raises(AuthError, match="HTTP status 401"):
        hook.fetch(ask(("IBM",)))


# the connection


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"login": ""}, "login is empty; the key's id is needed there"),
        ({"password": ""}, "password is empty; the secret of the key is needed there"),
        ({"login": f"{KEY_ID} "}, "login has white space around it"),
        ({"password": f" {KEY}\n"}, "password has white space around it"),
        ({"base_url": "data.alpaca.markets"}, "host is 'data.alpaca.markets'; .* e.g. https://data.alpaca.markets"),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(server, change, text):
    config = ProviderConfig(**{"conn_id": "alpaca_default", "base_url": server.url, "login": KEY_ID, "password": KEY, **change})
    with pytest.raises(ConfigError, match=text) as caught:
        AlpacaHook(config=config).validate_config()
    assert KEY not in str(caught.value)
    assert KEY_ID not in str(caught.value)
    assert server.calls == []


def test_the_keys_id_is_no_more_shown_than_its_secret(server, hook):
    server.fault("server_error", status=400, message=f"what is {KEY_ID}:{KEY}?")
    with pytest.raises(BadRequest, match=r"what is \*\*\*:\*\*\*\?") as caught:
        hook.fetch(ask(("IBM",)))
    assert not any(KEY_ID in text for text in (repr(hook), repr(hook.config), repr(hook._transport), repr(vars(caught.value))))


@pytest.mark.parametrize(
    ("plan", "limit", "start", "hours"),
    [("basic", 200, date(2016, 1, 1), 24.25), ("plus", 10_000, date(2016, 1, 1), 25), ("sample", 6000, None, 0)],
)
def test_what_the_plans_have(server, plan, limit, start, hours):
    config = ProviderConfig("alpaca_default", server.url, KEY_ID, KEY, {"plan": plan})
    capabilities = AlpacaHook(config=config).capabilities("ohlcv-1d")
    assert capabilities.history_start == start
    assert capabilities.available_after == hours * 3600
    assert 60 * capabilities.quota.limits[0].calls / capabilities.quota.limits[0].seconds == limit
