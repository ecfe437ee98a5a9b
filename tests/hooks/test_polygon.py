"""The Polygon hook against a real HTTP server: exactly the right rows, or a typed error; never fewer rows."""

import http.server
import pickle
import threading
import time
from datetime import date, timedelta

import pytest

from include.local.sample_api import SampleApi, Window
from market_data import calendar
from market_data.errors import (
    AuthError,
    BadRequest,
    ConfigError,
    EntitlementError,
    NetworkError,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.hooks import provider
from market_data.hooks.base import ProviderConfig
from market_data.hooks.polygon import PolygonHook
from market_data.interval import closed
from market_data.types import Request

FAST = {"calls_per_minute_per_slot": 60_000, "limits": []}
KEY = "a-key-nobody-may-see"


@pytest.fixture(scope="module")
def server():
    with SampleApi(api_key=KEY) as api:
        yield api


@pytest.fixture
def api(server):
    server.faults.clear()
    server.log.clear()
    server.limits = ()
    return server


def hook_for(url, password=KEY, options=None, **extra):
    hook = PolygonHook(config=ProviderConfig("polygon_default", url, password=password, extra={**FAST, **extra}), options=options)
    hook.connect()
    hook._transport.sleep = lambda seconds: None
    return hook


@pytest.fixture
def hook(api):
    with hook_for(api.url) as hook:
        yield hook


def span(symbol, first, last):
    return Request("ohlcv-1d", "range", (symbol,), (closed(first, last),))


def day(session, *symbols):
    return Request("ohlcv-1d", "grouped", symbols, (closed(session, session),))


WEEK = (date(2013, 1, 7), date(2013, 1, 11))


def rows(fetched):
    return fetched.table.sort_by([("symbol", "ascending"), ("session", "ascending")])


# -- what comes ----------------------------------------------------------------------------------------------------------------


def test_range_brings_recorded_bars_under_their_sessions(hook):
    fetched = hook.fetch(span("AAPL", *WEEK))
    table = fetched.table.to_pydict()
    assert table["session"] == [date(2013, 1, 7) + timedelta(days=n) for n in range(5)]
    assert table["close"] == [523.90, 525.31, 517.10, 523.51, 520.30]  # Apple's closes of that week, as traded then
    assert [t.hour for t in table["bar_time"]] == [0] * 5
    assert fetched.evidence.source == "recorded"
    assert fetched.evidence.last_page_seen


@pytest.mark.parametrize("session", [date(2012, 3, 9), date(2012, 3, 12), date(2012, 11, 2), date(2012, 11, 5), date(2012, 7, 3)])
def test_both_stamps_are_the_same_session_around_clock_changes_and_on_half_days(hook, session):
    by_symbol, by_day = rows(hook.fetch(span("IBM", session, session))), rows(hook.fetch(day(session, "IBM")))
    assert by_symbol["session"].to_pylist() == [session]
    assert by_symbol.select(["symbol", "bar_time", "session", "close"]) == by_day.select(["symbol", "bar_time", "session", "close"])


def test_grouped_keeps_only_the_asked_symbols(hook):
    fetched = hook.fetch(day(WEEK[0], "BRK.B", "IBM"))
    assert sorted(fetched.table["symbol"].to_pylist()) == ["BRK.B", "IBM"]
    assert fetched.evidence.rows_received > 500


def test_range_and_grouped_agree_on_every_value(hook):
    sessions = calendar.sessions(WEEK[0], WEEK[1] + timedelta(days=1))
    for symbol in ("BRK.B", "SPY", "GOOG"):
        alone = rows(hook.fetch(span(symbol, *WEEK)))
        together = [hook.fetch(day(session, symbol)).table.to_pylist()[0] for session in sessions]
        assert alone.to_pylist() == together


@pytest.mark.parametrize(
    "request_", [span("AAPL", date(2013, 1, 1), date(2013, 1, 1)), span("NOSUCH", *WEEK), day(date(2013, 1, 1), "AAPL")]
)
def test_nothing_to_bring_is_empty_not_an_error(hook, request_):
    fetched = hook.fetch(request_)
    assert len(fetched.table) == 0
    assert fetched.evidence.last_page_seen


def test_pages_are_followed_to_the_last(api, hook, monkeypatch):
    monkeypatch.setattr("market_data.hooks.polygon.PAGE_ROWS", 100)
    fetched = hook.fetch(span("MSFT", date(2010, 1, 4), date(2011, 12, 30)))
    expected = calendar.sessions(date(2010, 1, 4), date(2011, 12, 31))
    assert fetched.table["session"].to_pylist() == list(expected)
    assert fetched.evidence.pages == fetched.evidence.calls == len(api.calls) == 6


def test_split_adjustment_is_a_source_of_its_own(api):
    with hook_for(api.url, options={"adjustment": "split"}) as adjusted, hook_for(api.url) as raw:
        assert (raw.source, adjusted.source) == ("polygon", "polygon~split")
        request = span("AAPL", date(2005, 1, 3), date(2005, 1, 7))
        assert adjusted.fetch(request).table["close"].to_pylist() != raw.fetch(request).table["close"].to_pylist()


# -- faults ----------------------------------------------------------------------------------------------------------------------

ONCE = [
    ("server_error", {}),
    ("server_error", {"status": 503}),
    ("truncated", {"fraction": 0.5}),
    ("truncated", {"fraction": 0.9}),
    ("truncated", {"fraction": 0.999}),
    ("truncated", {"fraction": 0.5, "clean": True}),
    ("truncated", {"fraction": 0.999, "clean": True}),
    ("reset", {}),
    ("html", {}),
    ("throttled", {"retry_after": 1}),
    ("throttled", {}),
]


@pytest.mark.parametrize(("kind", "options"), ONCE)
@pytest.mark.parametrize(
    "request_", [span("MSFT", date(2012, 1, 3), date(2012, 12, 31)), day(WEEK[0], "AAPL", "SPY", "BRK.B")], ids=str
)
def test_a_fault_that_passes_costs_a_call_and_no_row(api, hook, request_, kind, options):
    expected = rows(hook.fetch(request_))
    api.fault(kind, times=1, **options)
    fetched = hook.fetch(request_)
    assert rows(fetched) == expected
    assert (fetched.evidence.calls, fetched.evidence.retries) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("server_error", {}, ServerError),
        ("truncated", {"fraction": 0.9}, TruncatedResponse),
        ("truncated", {"fraction": 0.9, "clean": True}, TruncatedResponse),
        ("reset", {}, NetworkError),
        ("html", {}, ServerError),
        ("throttled", {"retry_after": 0}, Throttled),
    ],
)
def test_a_fault_that_stays_is_a_typed_error_after_a_few_calls(api, hook, kind, options, error):
    api.fault(kind, times=None, **options)
    with pytest.raises(error) as caught:
        hook.fetch(span("MSFT", *WEEK))
    assert caught.value.provider == "polygon"
    assert "range MSFT 2013-01-07..2013-01-11" in str(caught.value)
    assert 2 <= len(api.calls) <= 5
    assert pickle.loads(pickle.dumps(caught.value)).__dict__ == caught.value.__dict__


def test_a_fault_on_page_two_loses_nothing(api, hook, monkeypatch):
    monkeypatch.setattr("market_data.hooks.polygon.PAGE_ROWS", 50)
    request = span("MSFT", date(2012, 1, 3), date(2012, 12, 31))
    expected = rows(hook.fetch(request))
    api.fault("truncated", match=r"cursor=", times=1, fraction=0.9, clean=True)
    assert rows(hook.fetch(request)) == expected


def test_a_long_retry_after_is_left_to_the_task(api, hook):
    api.fault("throttled", times=None, retry_after=300)
    with pytest.raises(Throttled) as caught:
        hook.fetch(span("MSFT", *WEEK))
    assert caught.value.retry_after == 300
    assert len(api.calls) == 1


def test_a_wrong_key_fails_at_once_and_says_where_the_key_is(api):
    with hook_for(api.url, password="wrong-key") as hook, pytest.raises(AuthError, match="connection 'polygon_default'") as caught:
        hook.fetch(span("MSFT", *WEEK))
    assert len(api.calls) == 1
    assert "wrong-key" not in str(caught.value)


def test_a_port_nobody_listens_on_is_a_network_error_without_the_key(api):
    with hook_for("http://127.0.0.1:9") as hook, pytest.raises(NetworkError, match="no answer from 127.0.0.1:9") as caught:
        hook.fetch(span("MSFT", *WEEK))
    assert KEY not in repr(caught.value)


class Scripted:
    """A server that says what a real one should not: bodies by turn."""

    def __init__(self, monkeypatch, hook, *bodies):
        from market_data.transport import Answer

        answers = iter(bodies)
        self.asked = []

        def call(path, params, what):
            self.asked.append((path, dict(params)))
            status, body = next(answers)
            answer = Answer(status, {"Content-Type": "application/json"}, body.encode())
            if failure := hook._transport.classify(answer, what):
                raise failure
            return answer

        monkeypatch.setattr(hook._transport, "_call", call)


def body(ticker="MSFT", n=1, start=1357534800000, adjusted="false", count=None, next_url=None, status="OK"):
    bars = ",".join(f'{{"t":{start + i * 86_400_000},"o":1,"h":2,"l":1,"c":2,"v":1}}' for i in range(n))
    following = f',"next_url":"{next_url}"' if next_url else ""
    total = n if count is None else count
    return (
        200,
        f'{{"status":"{status}","ticker":"{ticker}","adjusted":{adjusted},"resultsCount":{total},"results":[{bars}]{following}}}',
    )


@pytest.mark.parametrize(
    ("bodies", "error", "text"),
    [
        ([body(ticker="AAPL")], ServerError, "about 'AAPL'"),
        ([body(n=3, count=5)] * 5, TruncatedResponse, "3 results came, 5 are declared"),
        ([body(adjusted="true")] * 5, ServerError, "adjusted is True"),
        ([body(start=1357189200000)], ServerError, "rows of 2013-01-03"),
        ([body(next_url="http://x/p2"), body(next_url="http://x/p2")], ServerError, "loops"),
        ([body(n=3, next_url="http://x/p2"), body(n=3, next_url="http://x/p3")], ServerError, "goes back in time"),
        ([(200, '{"status":"ERROR","error":"Something"}')] * 5, ServerError, "Something"),
        ([(200, "")] * 5, ServerError, "no JSON but 0 bytes"),
        ([(404, '{"status":"NOT_FOUND","message":"Page not found"}')], BadRequest, "Page not found"),
        ([(403, '{"status":"NOT_AUTHORIZED","message":"You are not entitled to this data."}')], EntitlementError, "not entitled"),
    ],
)
def test_an_answer_that_cannot_be_right_is_an_error(hook, monkeypatch, bodies, error, text):
    Scripted(monkeypatch, hook, *bodies)
    with pytest.raises(error, match=text):
        hook.fetch(span("MSFT", *WEEK))


def test_a_next_page_on_another_host_is_asked_of_ours(hook, monkeypatch):
    assert hook._transport._url("https://elsewhere.example/v2/x?cursor=abc") == f"{hook.base_url}/v2/x?cursor=abc"


def test_a_redirect_is_not_followed(hook):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", hook.base_url)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with hook_for(f"http://127.0.0.1:{server.server_port}") as redirected, pytest.raises(ServerError, match="redirect"):
            redirected.fetch(span("MSFT", *WEEK))
        server.shutdown()


# -- configuration -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"password": ""}, "password is empty"),
        ({"base_url": "api.massive.com"}, "host is 'api.massive.com'; a full base URL"),
        ({"extra": {"plan": "gold"}}, "extra.plan is 'gold'; known plans: basic, starter"),
        ({"extra": {"calls_per_minute_per_slot": 0}}, "a number above 0"),
        ({"extra": {"limits": [{"calls": 5}]}}, "extra.limits"),
        ({"extra": {"rate": 5}}, "unknown key 'rate'"),
    ],
)
def test_a_wrong_connection_is_named_before_any_call(api, change, text):
    config = ProviderConfig(**{"conn_id": "polygon_default", "base_url": api.url, "password": KEY, "extra": {}, **change})
    with pytest.raises(ConfigError, match=text):
        PolygonHook(config=config).validate_config()
    assert api.calls == []


def test_a_wrong_option_is_named_with_the_allowed_ones(api):
    hook = PolygonHook(config=ProviderConfig("polygon_default", api.url, password=KEY), options={"adjustment": "dividend"})
    with pytest.raises(ConfigError, match="adjustment is 'dividend'; allowed: raw, split"):
        hook.validate_config()


def test_test_connection_says_what_happened(api):
    good = PolygonHook(config=ProviderConfig("polygon_default", api.url, password=KEY, extra=FAST))
    bad = PolygonHook(config=ProviderConfig("polygon_default", api.url, password="no", extra=FAST))
    assert good.test_connection()[0]
    works, message = bad.test_connection()
    assert not works
    assert "Unknown API Key" in message


def test_the_key_is_in_no_representation(hook):
    assert KEY not in repr(hook.config)


def test_unknown_names_are_answered_with_the_known_ones(hook):
    with pytest.raises(ConfigError, match="known providers: mock, polygon"):
        provider("yahoo")
    with pytest.raises(ConfigError, match="polygon does not serve the dataset 'trades'; it serves: ohlcv-1d"):
        hook.capabilities("trades")


def test_the_quota_of_the_server_holds(api):
    time.sleep(2.1)  # the server remembers the calls of other tests
    api.limits = [Window(10, 2.0)]
    with hook_for(api.url, limits=[{"calls": 10, "seconds": 2.0}]) as hook:
        for n in range(25):
            hook.fetch(day(WEEK[0] + timedelta(days=n % 5), "AAPL"))
    assert not [call for call in api.calls if call.status == 429]
    assert api.max_in_window(2.0) <= 10
