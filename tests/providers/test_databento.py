"""The Databento hook against a real HTTP server that answers real DBN: the provider contract, and what is Databento's own."""

import warnings
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import ClassVar

import pyarrow as pa
import pytest
import requests
from databento import DBNStore
from databento_dbn import DBNError

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import (
    AuthError,
    BadRequest,
    ConfigError,
    EntitlementError,
    NetworkError,
    NotYetAvailable,
    ProviderError,
    QuotaExhausted,
    RetriableError,
    SchemaDrift,
    Throttled,
    TruncatedResponse,
)
from market_data.core.intervals import closed
from market_data.core.retry_policy import RetryPolicy
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.errors import TooManyRows, WrongResponse
from market_data.providers.databento.hook import DatabentoHook
from market_data.providers.databento.parse import read
from sandbox.http import SampleApi
from sandbox.vendors.base import basic
from tests.contract.provider import FAULTS, HTTP_FAULTS, KEY, NOW, WEEK, YEAR, Fault, NetworkContract, until
from tests.providers.sample_setup import AAPL_ROW, as_row, hook_on, rows_held

STREAM, COUNT = r"get_range", r"get_record_count"
MIDNIGHT = datetime(2013, 1, 9, tzinfo=UTC)


def hook_of(server, *, key=KEY, **config):
    return hook_on(DatabentoHook, "databento", server, key=f"db-{key}", **config)


def question(*symbols, dataset="ohlcv-1d", days=WEEK):
    return Request(dataset, "range", symbols, (closed(*days),))


def vendor(server):
    return server.vendors["databento"]


def refuse(server, status, case, message, **options):
    """A refusal of a case."""
    server.fault("refused", status=status, case=case, message=message, **options)


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="databento", api_key=KEY) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    yield running
    vendor(running).available_start = datetime(2000, 1, 1, tzinfo=UTC)
    vendor(running).available_end = vendor(running).licensed_until = None


@pytest.fixture
def hook(server):
    with hook_of(server) as hook:
        yield hook


class TestDatabento(NetworkContract):
    provider = "databento"
    texts = r"/(metadata|symbology)\."
    endpoints: ClassVar = {"range": Shape.MULTI}
    anchor: ClassVar = AAPL_ROW
    besides = 1
    most_calls = 5  # the count, and twice the stream and the count again
    young_days = 1
    faults: ClassVar = {
        **HTTP_FAULTS,
        # A count is so short that it is whole when gzip's end is missing, and soon there when it trickles.
        **{name: {**HTTP_FAULTS[name], "match": STREAM} for name in HTTP_FAULTS if name.startswith(("cut_gzip", "trickle"))},
        "forbidden_timeframe": {
            "kind": "forbidden",
            "message": "A live data license is required to access EQUS.SUMMARY data after 2026-08-07T13:30:00Z.",
        },
        "error_with_200": {"kind": "error_with_200"},
        "drifted": {"kind": "drifted"},
        "counted_too_high": {"kind": "miscounted", "by": 1},
        "counted_too_low": {"kind": "miscounted", "by": -1},
        "absent_results": {"kind": "no_records", "match": STREAM},
        "other_symbol": {"kind": "other_symbol", "match": STREAM},
        "out_of_range": {"kind": "out_of_range", "match": STREAM},
    }
    without: ClassVar = {
        "null_results": "a stream has records or none",
        "other_adjustment": "nothing is adjusted",
        **dict.fromkeys(("page_loop", "page_loop_back"), "an answer is one stream"),
    }
    # What comes short twice in the same way is charged no third time; what is sound and of another question no second time.
    outcomes: ClassVar = {
        **dict.fromkeys(("counted_too_high", "counted_too_low", "absent_results"), Fault(WrongResponse)),
        **dict.fromkeys(("other_symbol", "out_of_range"), Fault(WrongResponse, passes=False, aside=True)),
    }

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleApi(vendor="databento", api_key=KEY) as api:
            yield api

    @pytest.fixture
    def server(self, running):
        running.forget()
        vendor(running).available_end = None
        return running

    def make_hook(self, server, **config):
        return hook_of(server, **config)

    sources: ClassVar = dict.fromkeys(("continuous", "parent"), "databento~GLBX.MDP3")

    def test_what_turns_to_the_dataset_of_futures_is_a_source_of_its_own(self, server):
        """No value of ``stype_in`` does, but for those that turn to the dataset of futures."""
        for options, own in (
            ({}, ""),
            ({"dataset": "XNAS.ITCH"}, "~XNAS.ITCH"),
            ({"stype_in": "instrument_id", "chunk_days": 7, "max_cost_usd": 5}, ""),
            ({"stype_in": "continuous"}, "~GLBX.MDP3"),
            ({"stype_in": "parent"}, "~GLBX.MDP3"),
            ({"stype_in": "raw_symbol", "dataset": "GLBX.MDP3"}, "~GLBX.MDP3"),
            ({"stype_in": "continuous", "dataset": "XNAS.ITCH"}, "~XNAS.ITCH"),
        ):
            assert self.make_hook(server, options=options).source == f"databento{own}"

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals, lambda bar: as_row(bar, vwap=None, trade_count=None))

    def refuse_from(self, server, day):
        vendor(server).available_end = datetime(day.year, day.month, day.day, tzinfo=UTC)

    def duplicate(self, server, *, conflicting):
        server.fault("duplicated", match=STREAM, conflicting=conflicting)
        server.fault("miscounted", match=COUNT, factor=2)


# -- faults of the stream ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [name for name in HTTP_FAULTS if FAULTS[name].passes])
def test_a_stream_that_fails_once_is_requested_again(server, fault):
    late = FAULTS[fault].late
    server.fault(**HTTP_FAULTS[fault], match=STREAM)
    with hook_of(server, late=late) as hook:
        fetched = hook.fetch(question("IBM", "SPY", days=YEAR))
    assert len(fetched.table) == 500 == fetched.evidence.rows_declared
    assert fetched.evidence.retries >= 1


@pytest.mark.parametrize("fault", [*HTTP_FAULTS, "error_with_200"])
def test_a_stream_that_always_fails_is_an_error_after_two(server, fault):
    expected = FAULTS[fault]
    server.fault(**HTTP_FAULTS.get(fault, {"kind": fault}), match=STREAM, times=None)
    with hook_of(server, late=expected.late) as hook, pytest.raises(ProviderError) as caught:
        hook.fetch(question("IBM", "SPY", days=YEAR))
    assert isinstance(caught.value, RetriableError) == expected.passes
    # A call that was given up in tenths of a second may arrive later.
    assert until(lambda: len(server.calls) >= hook.counters.calls)
    streams = [call for call in server.calls if call.endpoint == "get_range"]
    assert len(streams) == (2 if expected.passes else 1)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
class TestSilentLoss:
    """What is cut and ended in good order decodes without an error."""

    big = question("AAPL", "IBM", "SPY", "BRK.B", dataset="ohlcv-1m", days=(date(2013, 1, 2), date(2013, 2, 28)))

    def test_the_vendors_client_does_not_see_it(self, server, official, share):
        requested = ("EQUS.MINI", "2013-01-02", "2013-03-01", self.big.symbols, "ohlcv-1m")
        whole = len(official.timeseries.get_range(*requested).to_ndarray())
        server.fault("truncated", match=STREAM, fraction=share, clean=True)
        with warnings.catch_warnings(action="ignore"):
            assert 0 < len(official.timeseries.get_range(*requested).to_ndarray()) < whole

    def test_the_hook_does(self, server, hook, share):
        server.fault("truncated", match=STREAM, fraction=share, clean=True, times=None)
        with pytest.raises(
            WrongResponse, match=r"\d+ records came, 6\d{4} are counted; the download before brought as many"
        ) as caught:
            hook.fetch(self.big)
        assert "every try is charged" in str(caught.value)
        assert [call.endpoint for call in server.calls] == ["get_record_count", *["get_range", "get_record_count"] * 2]

    def test_and_asks_again(self, server, hook, share):
        server.fault("truncated", match=STREAM, fraction=share, clean=True)
        fetched = hook.fetch(self.big)
        assert len(fetched.table) == fetched.evidence.rows_declared > 60_000
        assert len([call for call in server.calls if call.endpoint == "get_range"]) == 2


@pytest.mark.parametrize("by", [1, -1, 1000])
def test_a_count_that_was_wrong_is_requested_again_and_not_the_stream(server, hook, by):
    server.fault("miscounted", by=by)
    assert len(hook.fetch(question("IBM")).table) == 5
    assert [call.endpoint for call in server.calls] == ["get_record_count", "get_range", "get_record_count"]


def test_a_download_that_brings_another_number_each_time_may_work_later(server, hook):
    server.fault("truncated", match=STREAM, fraction=0.5, clean=True)
    server.fault("truncated", match=STREAM, fraction=0.9, clean=True)
    with pytest.raises(TruncatedResponse, match="are counted"):
        hook.fetch(TestSilentLoss.big)
    assert [call.endpoint for call in server.calls] == ["get_record_count", *["get_range", "get_record_count"] * 2]


def test_records_that_are_counted_and_refused_are_not_taken_for_none(server, hook):
    refuse(server, 422, "symbology_invalid_request", "None of the symbols could be resolved", match=STREAM)
    with pytest.raises(WrongResponse, match="5 records are counted, and none come: None of the symbols could be resolved"):
        hook.fetch(question("IBM"))


def test_a_strange_record_of_a_damaged_stream_is_damage(server, hook, monkeypatch):
    """Which may pass; only what is sound to its end is an answer to judge."""
    real = DBNStore.to_ndarray

    def damaged(store, **options):
        yield from [*real(store, **options)] * 2
        raise DBNError("cut")

    server.fault("other_symbol", match=STREAM)
    monkeypatch.setattr(DBNStore, "to_ndarray", damaged)
    with pytest.raises(TruncatedResponse, match="damaged"):
        hook.fetch(question("IBM"))


def test_a_stream_of_another_schema_is_no_response(server, hook):
    server.fault("other_schema", match=STREAM, times=None)
    with pytest.raises(WrongResponse, match="the stream is status of EQUS.SUMMARY"):
        hook.fetch(question("IBM"))
    assert len(server.calls) == 2


def test_a_stream_of_a_version_to_come_asks_for_a_new_package(server, hook):
    server.fault("drifted", match=STREAM)
    with pytest.raises(SchemaDrift, match="newer version of DBN.*databento package"):
        hook.fetch(question("IBM"))
    assert len(server.calls) == 2


def test_a_server_that_says_nothing_is_waited_for_as_long_as_between_two_bytes(server):
    server.fault("slow", seconds=30, times=None)
    with DatabentoHook(config=hook_of(server).config) as hook:
        hook._transport.timeout, hook._transport.retry = (5.0, 0.2), RetryPolicy(attempts=1)
        with pytest.raises(NetworkError, match=r"no response in 0\.2 s \(ReadTimeout\)"):
            hook.fetch(question("IBM"))


def test_the_key_is_shown_in_a_header_and_no_body_is_compressed_twice(server, hook):
    seen = []
    server.fault("slow", match=seen.append, times=None)
    hook.fetch(question("IBM"))
    assert [basic(request) for request in seen] == [(f"db-{KEY}", "")] * 2
    assert [request.headers["accept-encoding"] for request in seen] == ["identity"] * 2
    assert [(request.method, request.form["encoding"], request.form["compression"]) for request in seen[1:]] == [
        ("POST", "dbn", "zstd")
    ]


# -- what is not to be had -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "case", "error", "text"),
    [
        (401, "auth_authentication_failed", AuthError, "connection 'databento_default'"),
        (402, "account_insufficient_funds", QuotaExhausted, "no money left"),
        (403, "auth_account_locked", AuthError, "connection 'databento_default'"),
        (403, "license_dataset_not_subscribed", EntitlementError, "no such thing"),
        (422, "data_time_range_start_on_or_after_end", BadRequest, "HTTP 422"),
        (422, "dataset_unavailable_range", EntitlementError, "no such thing"),
        (422, "data_start_before_available_start", EntitlementError, "no such thing"),
    ],
)
def test_a_refusal_is_the_error_that_says_what_to_do(server, hook, status, case, error, text):
    refuse(server, status, case, "no such thing")
    with pytest.raises(error, match=text) as caught:
        hook.fetch(question("IBM"))
    assert type(caught.value) is error
    assert len(server.calls) == 1


def test_a_request_without_a_key_is_refused(server):
    response = requests.post(f"{server.url}/v0/metadata.list_datasets", timeout=10)
    assert response.json() == {"detail": "Not authenticated"}


def test_a_429_waits_as_long_as_it_says(server):
    server.fault("throttled", match=STREAM, times=None, retry_after=7)
    waits = []
    with DatabentoHook(config=hook_of(server).config) as hook:
        hook._transport.sleep = waits.append
        hook._transport.pacer.limiter.patience = 0
        with pytest.raises(Throttled) as caught:
            hook.fetch(question("IBM"))
    assert waits[0] == 7
    assert 6 < caught.value.retry_after <= 7


def test_what_is_not_there_yet_is_left_for_later(server, hook):
    vendor(server).available_end = datetime(2013, 1, 9, 13, tzinfo=UTC)
    hook.now = lambda: datetime(2013, 1, 9, 14, tzinfo=UTC)
    fetched = hook.fetch(question("IBM", "SPY"))
    assert set(fetched.table["session"].to_pylist()) == {date(2013, 1, 7), date(2013, 1, 8)}  # half a day is no day
    assert fetched.pending_from == date(2013, 1, 9)
    assert "data available up to '2013-01-09 13:00" in fetched.pending_reason
    assert [call.status for call in server.calls] == [422, 200, 200]


@pytest.mark.parametrize("reported", [True, False])
def test_what_needs_a_live_licence_is_left_for_later(server, hook, reported):
    hook.now = lambda: datetime(2013, 1, 10, 12, tzinfo=UTC)
    if reported:
        vendor(server).licensed_until = datetime(2013, 1, 9, 12, tzinfo=UTC)
    else:
        server.fault("forbidden", message="A live data license is required.")
    fetched = hook.fetch(question("IBM"))
    assert (len(fetched.table), fetched.pending_from) == (2, date(2013, 1, 9))
    assert "live data license" in fetched.pending_reason


def test_a_subscription_that_ends_is_as_a_licence(server, hook):
    hook.now = lambda: datetime(2013, 1, 10, 12, tzinfo=UTC)
    reported = (
        "Part or all of your request requires a subscription. Try again with an end time before 2013-01-09T04:36:14.380325000Z."
    )
    refuse(server, 422, "dataset_unavailable_range", reported)
    assert hook.fetch(question("IBM")).pending_from == date(2013, 1, 9)


def test_it_is_requested_again_once(server, hook):
    hook.now = lambda: datetime(2013, 1, 10, 12, tzinfo=UTC)
    server.fault("forbidden", message="A live data license is required.", times=None)
    with pytest.raises(EntitlementError) as caught:
        hook.fetch(question("IBM"))
    assert type(caught.value) is EntitlementError
    assert len(server.calls) == 2


def test_it_is_requested_again_once_even_if_the_vendor_takes_more_back(server, hook):
    hook.now = lambda: datetime(2013, 1, 12, tzinfo=UTC)
    for day in (11, 9):
        server.fault("forbidden", message=f"A live data license is required to access data after 2013-01-{day:02}T00:00:00Z.")
    with pytest.raises(EntitlementError, match="after 2013-01-09"):
        hook.fetch(question("IBM"))
    assert len(server.calls) == 2


@pytest.mark.parametrize(("hour", "sessions"), [(0, 1), (1, 2), (5, 2)])
def test_minutes_are_there_when_trading_has_ended(server, hook, hour, sessions):
    """20:00 New York is 01:00 UTC in winter."""
    vendor(server).available_end = datetime(2013, 1, 9, hour, tzinfo=UTC)
    hook.now = lambda: datetime(2013, 1, 9, 6, tzinfo=UTC)
    fetched = hook.fetch(question("IBM", dataset="ohlcv-1m", days=(date(2013, 1, 7), date(2013, 1, 8))))
    assert len(set(fetched.table["session"].to_pylist())) == sessions
    assert fetched.pending_from == (None if sessions == 2 else date(2013, 1, 8))
    assert (fetched.pending_reason == "") == (sessions == 2)


def test_a_dataset_that_has_ended_is_not_waited_for(server, hook):
    vendor(server).available_end = datetime(2013, 1, 9, tzinfo=UTC)
    for days in (WEEK, (date(2014, 1, 6), date(2014, 1, 10))):
        with pytest.raises(EntitlementError, match="up to '2013-01-09") as caught:
            hook.fetch(question("IBM", days=days))
        assert type(caught.value) is EntitlementError


def test_what_is_before_a_dataset_is_reported(server, hook):
    vendor(server).available_start = datetime(2013, 1, 8, tzinfo=UTC)
    with pytest.raises(EntitlementError, match=r"before the available start of dataset EQUS.SUMMARY \('2013-01-08.*later `start`"):
        hook.fetch(question("IBM"))


# -- symbols -----------------------------------------------------------------------------------------------------------------------


def test_symbols_that_stand_for_nothing_are_named(server, hook):
    fetched = hook.fetch(question("IBM", "NOSUCH", *(f"NO{n}" for n in range(9))))
    assert fetched.table["symbol"].unique().to_pylist() == ["IBM"]
    assert server.calls[1].status == 206
    header, ours = fetched.warnings
    assert header.startswith("The request had symbols which did not resolve: NOSUCH, NO0")
    assert ours == "NOSUCH, NO0, NO1, NO2, NO3 and 5 more: no instrument in EQUS.SUMMARY on these dates"


def test_where_none_stands_for_anything_the_response_is_empty(server, hook):
    fetched = hook.fetch(question("NOSUCH", "NO2"))
    assert (len(fetched.table), fetched.evidence.pages, fetched.warnings) == (0, 0, ("None of the symbols could be resolved",))
    assert [call.status for call in server.calls] == [422]


def test_malformed_symbols_are_set_aside(server, hook):
    fetched = hook.fetch(question("IBM", "BAD$", "A,B", "WORSE!", "SPY", " X"))
    assert len(fetched.table) == 10
    assert set(fetched.refused) == {"BAD$", "A,B", "WORSE!", " X"}
    assert "Invalid format for `raw_symbol` symbol 'BAD$'" in fetched.refused["BAD$"]
    assert fetched.refused["A,B"] == "it is not a valid raw_symbol"
    fetched = hook.fetch(question("BAD$"))
    assert (len(fetched.table), set(fetched.refused)) == (0, {"BAD$"})


def test_rows_carry_the_symbol_as_it_was_requested(hook):
    fetched = hook.fetch(question("ibm", "IBM", "spy"))
    assert fetched.table["symbol"].unique().to_pylist() == ["ibm", "spy"]
    assert fetched.refused == {"IBM": "the vendor does not tell it from ibm"}


# -- money and calls -----------------------------------------------------------------------------------------------------------------


def test_cost_is_the_vendors_sum(server, hook):
    requested = [question("IBM", "SPY"), question("AAPL", dataset="trades")]
    cost = hook.cost(requested)
    trades = len(hook.fetch(requested[1]).table)
    assert cost == pytest.approx((10 * 56 * 600 + trades * 48 * 28) / 2**30)
    assert [call.endpoint for call in server.calls][:2] == ["get_cost", "get_cost"]


def test_what_is_not_there_costs_nothing(server, hook):
    vendor(server).available_end = MIDNIGHT
    hook.now = lambda: MIDNIGHT + timedelta(hours=1)
    whole = question("IBM")
    assert hook.cost([whole]) == pytest.approx(2 * 56 * 600 / 2**30)
    assert (
        hook.cost([question("IBM", days=(date(2013, 1, 10), date(2013, 1, 11))), question("NOSUCH", days=(WEEK[0], WEEK[0]))]) == 0
    )


@pytest.mark.parametrize(
    ("first", "last", "bars"),
    [
        (date(2013, 1, 7), date(2013, 1, 7), 523),
        pytest.param(date(2012, 1, 3), date(2014, 1, 2), 262_974, marks=pytest.mark.slow),
        pytest.param(date(2010, 1, 4), date(2020, 1, 2), 1_315_792, marks=pytest.mark.slow),
    ],
)
def test_daily_bars_of_all_symbols_are_one_stream(server, hook, first, last, bars):
    symbols = sorted(server.market.symbols)[:523]
    sessions = calendar.sessions(first, last + timedelta(days=1))
    missing = dict.fromkeys(symbols, (1 << len(sessions)) - 1)
    plan = make_plan("ohlcv-1d", missing, sessions, hook.capabilities("ohlcv-1d"), batch_size=2000)
    assert (plan.calls, len(plan.batches)) == (1, 1)
    (request,) = plan.batches[0].requests(sessions)
    assert len(hook.fetch(request).table) == bars
    assert [call.endpoint for call in server.calls] == ["get_record_count", "get_range"]


@pytest.mark.parametrize(("days", "requests"), [(None, 1), (7, 52), (30, 12), (366, 1)])
def test_requests_span_as_many_days_as_the_option_allows(server, days, requests):
    hook = hook_of(server, options={} if days is None else {"chunk_days": days})
    (endpoint,) = hook.capabilities("ohlcv-1d").endpoints
    assert endpoint.max_days == days
    sessions = calendar.sessions(date(2012, 1, 1), date(2013, 1, 1))
    plan = make_plan("ohlcv-1d", {"IBM": (1 << len(sessions)) - 1}, sessions, hook.capabilities("ohlcv-1d"))
    requested = [request for batch in plan.batches for request in batch.requests(sessions)]
    assert len(requested) == pytest.approx(requests, abs=2)
    assert all((request.last - request.start).days < (days or 366) + 4 for request in requested)  # holidays are not seen in advance


@pytest.mark.parametrize(("days", "wanted"), [(None, 1), (1, 1), (7, 1)])
def test_requests_for_trades_are_of_one_day(server, days, wanted):
    """Whatever ``chunk_days`` allows."""
    hook = hook_of(server, options={} if days is None else {"chunk_days": days})
    assert [endpoint.max_days for endpoint in hook.capabilities("trades").endpoints] == [wanted]


# -- many rows -----------------------------------------------------------------------------------------------------------------------


def limit(hook, rows):
    """So many rows at most in one stream."""
    own = hook._endpoints
    hook._endpoints = lambda dataset: tuple(replace(endpoint, request_rows=rows) for endpoint in own(dataset))
    return hook


@pytest.mark.parametrize(
    ("name", "symbols", "days", "options"),
    [
        ("trades", ("SPY", "IBM"), (date(2013, 1, 4), date(2013, 1, 8)), {}),
        ("tbbo", ("SPY", "IBM"), (date(2013, 1, 7), date(2013, 1, 7)), {}),
        ("ohlcv-1m", ("SPY", "IBM", "NOSUCH"), WEEK, {}),
        ("ohlcv-1d", ("SPY", "IBM"), YEAR, {}),
        ("trades", ("ES.c.0", "ES.v.0"), (date(2024, 1, 11), date(2024, 1, 17)), {"stype_in": "continuous"}),
        ("ohlcv-1m", ("ESH4",), (date(2024, 3, 13), date(2024, 3, 20)), {"stype_in": "parent"}),  # which ends on the 15th
    ],
)
def test_what_is_too_much_for_one_stream_comes_in_several(server, name, symbols, days, options):
    requested = question(*symbols, dataset=name, days=days)
    with hook_of(server, options=options) as hook:
        whole = hook.fetch(requested)
        most = whole.evidence.rows_received // 5
        server.forget()
        found = limit(hook, most).fetch(requested)
    # Of two symbols for one instrument, each chunk of a stream holds the one's rows after the other's.
    assert found.table.sort_by("symbol").equals(whole.table.sort_by("symbol"))
    assert found.evidence.rows_declared == found.evidence.rows_received == whole.evidence.rows_received
    assert found.evidence.pages == len([call for call in server.calls if call.endpoint == "get_range"]) > 4
    assert found.evidence.calls == len(server.calls) == 3 * found.evidence.pages - 1
    assert found.evidence.retries == 0
    order = [call.endpoint for call in server.calls]
    assert order == sorted(order, reverse=True)  # all is counted before anything is paid for
    assert found.warnings[-1:] == whole.warnings[-1:]


def test_a_symbol_that_begins_or_ends_between_two_streams_is_not_missing(server):
    with hook_of(server, options={"stype_in": "parent"}) as hook:
        days = (date(2024, 3, 13), date(2024, 3, 22))
        found = limit(hook, 1000).fetch(question("ESH4", "ESM4", "ESZ4", dataset="ohlcv-1m", days=days))
    assert found.table["symbol"].unique().to_pylist() == ["ESH4", "ESM4", "ESZ4"]
    assert not [text for text in found.warnings if "no instrument in" in text]  # ours; the vendor says it of each stream


def test_no_stream_brings_more_than_it_may(server, hook, monkeypatch):
    seen = []

    def spied(*arguments):
        table, count = read(*arguments)
        seen.append(count)
        return table, count

    monkeypatch.setattr("market_data.providers.databento.hook.read", spied)
    fetched = limit(hook, 100).fetch(question("SPY", dataset="trades", days=(date(2013, 1, 7), date(2013, 1, 8))))
    assert sum(seen) == len(fetched.table) > 800
    assert max(seen) <= 100


@pytest.mark.parametrize("by", [-700, 700])
def test_parts_that_are_not_the_whole_are_not_paid_for(server, hook, by):
    order = count()
    server.fault("miscounted", by=by, match=lambda request: next(order) == 1)
    with pytest.raises(TruncatedResponse, match=f"3862 records are counted, and {3862 + by} in two parts"):
        limit(hook, 2500).fetch(question("SPY", "IBM", dataset="ohlcv-1m"))
    assert [call.endpoint for call in server.calls] == ["get_record_count"] * 3


def test_a_part_without_any_symbol_is_requested_and_empty(server):
    """ESH4 ends on the 15th."""
    with hook_of(server, options={"stype_in": "parent"}) as hook:
        requested = question("ESH4", dataset="ohlcv-1m", days=(date(2024, 3, 14), date(2024, 3, 27)))
        fetched = limit(hook, 700).fetch(requested)
    assert len(fetched.table) == 2 * 390
    assert [call.status for call in server.calls if call.endpoint == "get_range"][-1] == 422


def test_what_memory_is_not_meant_for_is_refused_before_it_is_paid(server, hook, monkeypatch):
    monkeypatch.setattr("market_data.providers.databento.hook.MOST_ROWS", 1000)
    with pytest.raises(
        TooManyRows, match=r"it has 1,9\d\d rows; a request may bring 1,000. To do: request fewer symbols"
    ) as caught:
        hook.fetch(question("SPY", dataset="ohlcv-1m"))
    assert isinstance(caught.value, BadRequest)
    assert [call.endpoint for call in server.calls] == ["get_record_count"]


# -- connection and options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"password": ""}, "password is empty; the API key is needed there"),
        ({"password": KEY}, "password is not a Databento API key"),
        ({"password": f"db-{KEY}\n"}, "password has white space around it"),
        ({"base_url": "hist.databento.com"}, "host is 'hist.databento.com'; a full base URL is needed, e.g. https://hist"),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(server, change, text):
    config = ProviderConfig(**{"conn_id": "databento_default", "base_url": server.url, "password": f"db-{KEY}", **change})
    with pytest.raises(ConfigError, match=text) as caught:
        DatabentoHook(config=config).validate_config()
    assert KEY not in str(caught.value)
    assert server.calls == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stype_in": "smart"}, "stype_in is 'smart'; allowed: raw_symbol, continuous, parent, instrument_id"),
        ({"dataset": "equities"}, "dataset is 'equities'; text such as auto is needed"),
        ({"chunk_days": 0}, "chunk_days is 0; a whole number from 1 to 366 is needed"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(server, options, text):
    with pytest.raises(ConfigError, match=text):
        hook_of(server, options=options).validate_config()


def test_a_host_of_its_own_is_called_at_its_path():
    with SampleApi(api_key=KEY) as api, hook_of(api, base_url=f"{api.url}/databento/") as hook:
        assert len(hook.fetch(question("IBM")).table) == 5
        assert {call.vendor for call in api.calls} == {"databento"}


def test_the_connection_test_tells_what_there_is(server):
    vendor(server).available_end = MIDNIGHT
    works, message = hook_of(server).test_connection()
    assert works
    assert message.endswith("has EQUS.SUMMARY from 2000-01-01 to 2013-01-09")


def test_the_last_day_that_is_young_is_pending_until_it_is_over(server, hook):
    hook.now = lambda: NOW
    vendor(server).available_end = NOW
    with pytest.raises(NotYetAvailable) as caught:
        hook.fetch(question("IBM", days=(NOW.date(), NOW.date())))
    assert caught.value.until == datetime(2020, 6, 19, tzinfo=UTC)


@pytest.fixture
def official(server):
    import databento

    client = databento.Historical(f"db-{KEY}")
    for name in ("metadata", "symbology", "timeseries"):
        getattr(client, name)._base_url = f"{server.url}/v0/{name}"
    return client


# hours of a day

HOURS = [("0930-1000", "AAPL", {}), ("1530-1600", "AAPL", {}), ("0100-0200", "ES.c.0", {"stype_in": "continuous"})]


@pytest.mark.parametrize("name", ["trades", "tbbo"])
@pytest.mark.parametrize(("hours", "symbol", "options"), HOURS)
def test_ticks_of_some_hours_are_those_of_the_session_in_these_hours(server, name, hours, symbol, options):
    day = date(2024, 1, 16) if options else date(2013, 1, 7)
    request = question(symbol, dataset=name, days=(day, day))
    whole = hook_of(server, options=options).fetch(request).table
    some = hook_of(server, options={**options, "hours": hours})
    found = some.fetch(request).table
    start, end = (calendar.at(day, time(int(text[:2]), int(text[2:]))) for text in hours.split("-"))
    moments = whole["ts_event"].cast(pa.int64()).to_pylist()
    inside = [start.timestamp() * 1e9 <= moment < end.timestamp() * 1e9 for moment in moments]
    assert 0 < len(found) < len(whole)
    assert found.drop_columns("ordinal").equals(whole.filter(pa.array(inside)).drop_columns("ordinal"))
    assert some.cost([request]) < hook_of(server, options=options).cost([request])
    assert some.source == "~".join(filter(None, ["databento", "GLBX.MDP3" if options else "", hours]))


def test_hours_change_no_other_dataset(server):
    request = question("AAPL")
    assert hook_of(server, options={"hours": "0930-1000"}).fetch(request).table.equals(hook_of(server).fetch(request).table)


@pytest.mark.parametrize("hours", ["1600-0930", "0930-0930", "9:30-16:00", "0930", "2400-2500", 930])
def test_other_hours_are_named_before_any_call(server, hours):
    with pytest.raises(ConfigError, match="hours is"):
        hook_of(server, options={"hours": hours}).validate_config()
    assert not server.calls
