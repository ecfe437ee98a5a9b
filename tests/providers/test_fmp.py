"""The Financial Modeling Prep hook against a real HTTP server: the provider contract, and what is its own of daily bars."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import (
    AuthError,
    ConfigError,
    EntitlementError,
    QuotaExhausted,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.intervals import closed
from market_data.core.retry_policy import RetryPolicy
from market_data.datasets.registry import dataset
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.fmp.client import FmpClient, History
from market_data.providers.fmp.errors import BULK_PAUSE
from market_data.providers.fmp.hook import FMPHook, few
from market_data.providers.fmp.parse import read_file, vendors_name
from market_data.providers.polygon.hook import PolygonHook
from market_data.providers.records import Records
from market_data.providers.registry import providers
from market_data.quality.gate import gate
from sandbox.http import SampleApi
from sandbox.vendors.fmp import RESTRICTED, SYMBOL, UNKNOWN_KEY
from sandbox.vendors.fmp_faults import EOD_COLUMNS
from sandbox.vendors.messages import VendorRequest
from tests.contract.provider import HTTP_FAULTS, KEY, NOW, WEEK, YEAR, Fault, NetworkContract, order, rows
from tests.providers import sample_setup
from tests.providers.sample_setup import AAPL_ROW, FAST, hook_on, rows_held

ENDPOINTS = {endpoint.name: endpoint.shape for endpoint in providers()["fmp"].serves["ohlcv-1d"]}
HISTORY = next(name for name, shape in ENDPOINTS.items() if shape is Shape.SYMBOL)
DAY = timedelta(days=1)


def make_hook(server, *, extra=None, **config):
    return hook_on(FMPHook, "fmp", server, extra={"plan": "sample", **(extra or {})}, **config)


class TestFMP(NetworkContract):
    provider = "fmp"
    endpoints: ClassVar = ENDPOINTS
    anchor: ClassVar = {**AAPL_ROW, "adj_close": 67.937}
    lacking: ClassVar = {HISTORY: ("adj_close",)}
    paged = HISTORY
    second_page = r"from=(?!2012-01-03)"
    faults: ClassVar = {
        **HTTP_FAULTS,
        **{f"cut_{share}": {"kind": "cut", "fraction": float(share) / 100} for share in ("50", "90", "99.9")},
        "forbidden_timeframe": {"kind": "refused", "message": RESTRICTED},
        "error_with_200": {"kind": "error_with_200"},
        "drifted": {"kind": "drifted"},
        "other_symbol": {"kind": "other_symbol"},
        "out_of_range": {"kind": "out_of_range"},
    }
    without: ClassVar = {
        **dict.fromkeys(("counted_too_high", "counted_too_low"), "an answer does not say how many rows it has"),
        **dict.fromkeys(("null_results", "absent_results"), "an answer is the rows and nothing beside"),
        **dict.fromkeys(("page_loop", "page_loop_back"), "an answer does not name a next one: the hook slices by date"),
        "other_adjustment": "an answer does not say how it is adjusted",
    }
    outcomes: ClassVar = {"out_of_range": Fault(ServerError)}

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls):
        with SampleApi(vendor="fmp", api_key=KEY, symbols=("BRK.B", "SPY")) as api:
            yield api

    @pytest.fixture
    def small_pages(self, monkeypatch):
        monkeypatch.setattr("market_data.providers.fmp.hook.SLICE", 50)

    def make_hook(self, server, **config):
        return make_hook(server, **config)

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals, as_row)


def as_row(bar):
    return sample_setup.as_row(bar, adj_close=round(bar.close * bar.ratio, 4), vwap=None, trade_count=None)


# what is its own


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="fmp", api_key=KEY) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    running.vendor.plan, running.vendor.most_rows = "ultimate", 5000
    return running


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        yield hook


def bulk(day, *symbols):
    return Request("ohlcv-1d", "bulk", symbols or ("IBM", "BRK.B", "SPY"), (closed(day, day),))


def span(symbol, first=WEEK[0], last=WEEK[1]):
    return Request("ohlcv-1d", HISTORY, (symbol,), (closed(first, last),))


def held(server, request, *, adj_close=True):
    bars = [
        bar for symbol in request.symbols for part in request.intervals for bar in server.market.range(symbol, part.start, part.end)
    ]
    return sorted(({**as_row(bar), **({} if adj_close else {"adj_close": None})} for bar in bars), key=order)


MONDAY = WEEK[0]


# symbols


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        *(("BRK.B", "BRK-B"), ("BF.A", "BF-A"), ("LEN.B", "LEN-B"), ("MKC.V", "MKC-V"), ("KIMpL", "KIM-PL"), ("AACT+", "AACT-WT")),
        *((same, same) for same in ("AAPL", "BRK-B", "VOD.L", "0700.HK", "7203.T", "RY.TO", "B", "^VIX", "BTCUSD", "X-L")),
    ],
)
def test_suffixes_of_us_stocks_stand_behind_a_dash_and_exchanges_stay(symbol, name):
    assert vendors_name(symbol) == name


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_symbol_comes_back_as_it_was_requested(server, hook, endpoint):
    for symbol in ("BRK.B", "BRK-B"):
        request = bulk(MONDAY, symbol) if endpoint == "bulk" else span(symbol, MONDAY, MONDAY)
        assert hook.fetch(request).table["symbol"].to_pylist() == [symbol]
    assert "BRK.B" not in "".join(call.target for call in server.calls)


def test_the_second_of_two_spellings_of_a_stock_is_refused_by_name(hook):
    fetched = hook.fetch(bulk(MONDAY, "BRK-B", "BRK.B"))
    assert fetched.table["symbol"].to_pylist() == ["BRK-B"]
    assert fetched.refused == {"BRK.B": "fmp calls BRK.B and BRK-B both BRK-B: request one of them"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("symbol", ["X.Y.Z", "ES.c.0", "O:SPY251219C00650000", "I:SPX", "BTC/USD", "X.A.WI", "ABC.CL"])
def test_a_symbol_that_the_vendor_cannot_have_is_named_without_a_call(server, hook, endpoint, symbol):
    fetched = hook.fetch(bulk(MONDAY, symbol) if endpoint == "bulk" else span(symbol, MONDAY, MONDAY))
    assert fetched.refused[symbol].startswith(f"{symbol} ")
    assert (len(fetched.table), server.calls) == (0, [])


# prices


def test_a_close_agrees_with_polygons_raw_one_to_a_cent(server, hook):
    day, symbols = date(2013, 1, 7), ("AAPL", "IBM", "BRK.B", "SPY")
    config = ProviderConfig("polygon_default", f"{server.url}/polygon", password=KEY, extra={"plan": "sample", **FAST})
    with PolygonHook(config=config) as polygon:
        theirs = rows(polygon.fetch(Request("ohlcv-1d", "grouped", symbols, (closed(day, day),))).table)
    ours = [
        rows(hook.fetch(bulk(day, *symbols)).table),
        [row for s in symbols for row in rows(hook.fetch(span(s, day, day)).table)],
    ]
    for found in ours:
        assert {row["symbol"]: row["close"] for row in found} == pytest.approx(
            {row["symbol"]: row["close"] for row in theirs}, abs=0.01
        )


def test_prices_are_as_traded_not_adjusted_for_the_splits_since(server, hook):
    (bar,) = server.market.range("AAPL", date(2005, 1, 3), date(2005, 1, 4))
    assert bar.adjusted.close < 0.95 * bar.close
    for request in (bulk(bar.session, "AAPL"), span("AAPL", bar.session, bar.session)):
        assert hook.fetch(request).table["close"].to_pylist() == [bar.close]
    assert not any("/full" in call.target for call in server.calls)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_volume_may_be_fractional_and_a_value_absent(server, hook, endpoint):
    request = bulk(MONDAY, "IBM") if endpoint == "bulk" else span("IBM", MONDAY, MONDAY)
    server.alter("IBM", MONDAY, volume=1234.5)
    assert hook.fetch(request).table["volume"].to_pylist() == [1234.5]
    server.alter("IBM", MONDAY, volume=None, open=None)
    found = rows(hook.fetch(request).table)[0]
    assert (found["volume"], found["open"], found["close"] > 0) == (None, None, True)
    gated = gate(dataset("ohlcv-1d"), hook.fetch(request).table, request, [MONDAY])
    assert gated.bad["reasons"].to_pylist() == ["open is null"]


def test_a_field_that_is_gone_is_drift_unless_it_is_the_volume(server, hook):
    server.fault("without", field="volume")
    assert hook.fetch(span("IBM")).table["volume"].null_count == 5
    server.fault("without", field="adjClose", times=None)
    for request, text in (
        (span("IBM"), "adjClose is missing, and 5 of 5 rows are like that"),
        (bulk(MONDAY), "no column adjClose"),
    ):
        with pytest.raises(SchemaDrift, match=text):
            hook.fetch(request)


def test_unexpected_symbols_are_left_aside_and_counted(hook):
    fetched = hook.fetch(bulk(MONDAY, "BRK.B", "IBM"))
    assert len(fetched.table) == 2
    assert fetched.evidence.rows_received > 800
    assert (fetched.evidence.rows_declared, fetched.evidence.source) == (None, "recorded+generated")


# slices: no answer may reach the most rows that one holds


def test_a_span_is_cut_into_slices_that_no_response_fills(server, hook, monkeypatch):
    server.vendor.most_rows = 50
    monkeypatch.setattr("market_data.providers.fmp.client.MOST_ROWS", 50)
    monkeypatch.setattr("market_data.providers.fmp.hook.SLICE", 49)
    request = span("IBM", *YEAR)
    assert rows(hook.fetch(request).table) == held(server, request, adj_close=False)
    assert len(server.calls) == 6 == -(-250 // 49)


def test_twenty_years_are_two_slices_and_ten_are_one(server, hook):
    for first, calls in ((date(2003, 1, 1), 1), (date(2000, 1, 1), 2)):
        server.forget()
        request = span("SPY", first, date(2020, 12, 31))
        assert rows(hook.fetch(request).table) == held(server, request, adj_close=False)
        assert len(server.calls) == calls


@given(
    first=st.dates(calendar.FIRST, date(2039, 1, 1)),
    days=st.integers(0, 700),
    size=st.integers(1, 60),
)
def test_slices_cover_every_day_once(first, days, size):
    requested = []

    class Client(FmpClient):
        def history(self, symbol, first, last, log):
            requested.append((first, last))
            return History(first, last, [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("market_data.providers.fmp.hook.SLICE", size)
        patch.setattr("market_data.providers.fmp.hook.FmpClient", Client)
        request = span("IBM", first, first + days * DAY)
        FMPHook(ProviderConfig("fmp_default", "http://127.0.0.1", password="k")).fetch(request)
    assert requested[0][0] == request.start
    assert requested[-1][1] == request.last
    assert all(after[0] == before[1] + DAY for before, after in pairwise(requested))
    assert all(calendar.sessions_count(start, last + DAY) <= size for start, last in requested)


def test_a_response_with_the_most_rows_is_no_whole_one(server, hook, monkeypatch):
    server.vendor.most_rows = 5
    monkeypatch.setattr("market_data.providers.fmp.client.MOST_ROWS", 5)
    with pytest.raises(TruncatedResponse, match="5 rows from 2012-01-03 to 2012-12-31 came, the most a response holds"):
        hook.fetch(span("IBM", *YEAR))
    assert len(server.calls) == 1  # the same would come again


def test_rows_come_newest_first_and_are_turned_round(hook):
    sessions = hook.fetch(span("IBM", *YEAR)).table["session"].to_pylist()
    assert sessions == sorted(sessions)


# files that are not whole


@pytest.mark.parametrize("few", [("IBM", "BRK.B", "SPY")])
def test_what_a_file_cut_between_lines_lost_comes_from_the_symbols_themselves(server, hook, few):
    for symbol in few:
        server.fault("cut_lines", before=vendors_name(symbol))
        request = bulk(MONDAY, *few)
        fetched = hook.fetch(request)
        lost = [
            name for name in few if fetched.table["adj_close"].to_pylist()[fetched.table["symbol"].to_pylist().index(name)] is None
        ]
        assert symbol in lost
        wanted = [{**row, **({"adj_close": None} if row["symbol"] in lost else {})} for row in held(server, request)]
        assert rows(fetched.table) == wanted
        assert fetched.warnings == (f"eod-bulk of {MONDAY} lacks {', '.join(lost)}; taken from their histories",)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_cut_between_lines_that_lost_more_than_a_few_is_refused(server, hook, share):
    symbols = sorted(bar.symbol for bar in server.market.session(MONDAY))
    lines = [line for line in file_of(server, MONDAY).splitlines()[1:] if not line.split(",")[0].strip('"')[0].isdigit()]
    server.fault("cut_lines", before=lines[int(len(lines) * share)].split(",")[0].strip('"'))
    with pytest.raises(TruncatedResponse, match="the file lacks .* and more, which have a bar of 2013-01-07: it is cut"):
        hook.fetch(bulk(MONDAY, *symbols))
    assert len(server.calls) == 1 + few(len(symbols)) + 1


def test_a_thousandth_cut_between_lines_costs_no_row(server, hook):
    symbols = sorted(bar.symbol for bar in server.market.session(MONDAY))
    last = next(line for line in reversed(file_of(server, MONDAY).splitlines()) if not line.strip('"')[0].isdigit())
    server.fault("cut_lines", before=last.split(",")[0].strip('"'))
    table = hook.fetch(bulk(MONDAY, *symbols)).table
    assert len(table) == len(symbols)
    assert table["adj_close"].null_count == 1


@pytest.mark.parametrize("symbol", ["IBM", "AAPL"])
@pytest.mark.parametrize("digits", [0, 1, 3])
def test_a_last_line_without_a_line_end_is_not_trusted(server, hook, symbol, digits):
    server.fault("cut_digits", symbol=symbol, digits=digits)
    request = bulk(MONDAY, symbol)
    assert rows(hook.fetch(request).table) == held(server, request, adj_close=False)
    assert len(server.calls) == 2


@pytest.mark.parametrize(("last", "calls"), [("600001.SS", 1), ("000001.SZ", 1), ("SPY", 2)])
def test_files_may_end_without_a_line_end(server, hook, last, calls):
    server.fault("without_end", last=last)
    request = bulk(MONDAY)
    assert [row["close"] for row in rows(hook.fetch(request).table)] == [row["close"] for row in held(server, request)]
    assert len(server.calls) == calls


def test_an_absent_symbol_is_looked_up_once_for_all_sessions(server, hook):
    server.hide(MONDAY, ["SPY"])
    server.hide(MONDAY + DAY, ["SPY"])
    for day in (MONDAY, MONDAY + DAY, MONDAY + 2 * DAY):
        found = hook.fetch(bulk(day)).table["symbol"].to_pylist()
        assert sorted(found) == ["BRK.B", "IBM", *["SPY"] * (day > MONDAY + DAY)]
    assert [call.endpoint for call in server.calls] == ["eod_bulk", "eod", "eod_bulk", "eod_bulk"]


def test_a_session_that_is_not_there_yet_takes_few_calls(server, hook):
    symbols = sorted(server.market.symbols)
    assert len(hook.fetch(bulk(date(2013, 1, 5), *symbols)).table) == 0
    assert len(server.calls) == 4


@pytest.mark.parametrize("body", ["[]", " []\n", ",".join(f'"{column}"' for column in EOD_COLUMNS) + "\n"])
def test_an_empty_file_is_empty_in_either_form(server, hook, body):
    server.fault("other_body", body=body)
    server.hide(MONDAY, ["IBM"])
    assert len(hook.fetch(bulk(MONDAY, "IBM")).table) == 0


@pytest.mark.parametrize("body", ["{}", "null", "7", '"words"', '{"symbol": "IBM", "historical": []}'])
def test_what_is_neither_a_list_nor_a_file_is_an_error(server, hook, body):
    server.fault("other_body", body=body, times=None)
    with pytest.raises(ServerError, match="neither a list nor a file but HTTP 200"):
        hook.fetch(span("IBM"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_as_text_whatever_its_symbols_are_called(end):
    lines = ['"symbol","date","close"', '"NA","2013-01-07",1.5', '"NULL","2013-01-07",', '"A,B","2013-01-07",1.8646e-8', ""]
    rows, problems = read_file(end.join(lines).encode(), ("symbol", "close"), {})
    assert problems == {}
    assert rows["symbol"].to_pylist() == ["NA", "NULL", "A,B"]
    assert rows["close"].to_pylist() == ["1.5", None, "1.8646e-8"]


@given(st.integers(0, 100))
def test_a_file_cut_anywhere_has_fewer_lines_or_is_an_error(place):
    body = b'"symbol","date"\n' + b"".join(b'"S%d","2013-01-07"\n' % number for number in range(5))
    try:
        found = read_file(body[:place], ("symbol",), {"provider": "fmp", "request": "a file"})[0]["symbol"].to_pylist()
    except TruncatedResponse:
        return
    assert found == [f"S{number}" for number in range(len(found))]
    assert len(found) <= max(0, body[:place].count(b"\n") - 1)


def file_of(server, day):
    vendor = server.vendor
    return vendor.eod_bulk(VendorRequest(vendor, "/stable/eod-bulk", {"date": f"{day}"}), {}).body


class Known(Records):
    """Records of given symbols."""

    def __init__(self, *, traded=(), untraded=()):
        super().__init__()
        self.known = {True: traded, False: untraded}

    def traded(self, symbols, day):
        return tuple(symbol for symbol in symbols if symbol in self.known[True])

    def untraded(self, symbols, day):
        return tuple(symbol for symbol in symbols if symbol in self.known[False])


def without_lines(server, gone, times=1):
    """The next bulk files lack the lines of some symbols."""
    names = {vendors_name(symbol) for symbol in gone}
    lines = file_of(server, MONDAY).splitlines(keepends=True)
    body = "".join(line for line in lines if line.split(",")[0].strip('"') not in names)
    server.fault("other_body", match="eod-bulk", body=body, times=times)


def test_a_file_with_none_of_150_requested_symbols_is_cut(server, hook):
    symbols = sorted(bar.symbol for bar in server.market.session(MONDAY))[:150]
    without_lines(server, symbols)
    with pytest.raises(TruncatedResponse, match="the file lacks .* and more, which have a bar of 2013-01-07: it is cut"):
        hook.fetch(bulk(MONDAY, *symbols))
    assert len(server.calls) == 1 + few(150) + 1


def test_a_file_with_none_of_a_few_requested_symbols_loses_no_row(server, hook):
    without_lines(server, ("IBM", "BRK.B", "SPY"))
    request = bulk(MONDAY)
    assert rows(hook.fetch(request).table) == held(server, request, adj_close=False)


def test_a_file_that_lacks_most_symbols_beside_unlisted_ones_is_cut(server, hook):
    symbols = sorted(bar.symbol for bar in server.market.session(MONDAY))[:20]
    unlisted = [f"NONE{number}" for number in range(20)]
    without_lines(server, symbols[1:])
    with pytest.raises(TruncatedResponse):
        hook.fetch(bulk(MONDAY, *unlisted, *symbols))


def test_a_file_that_lacks_symbols_which_traded_the_day_before_is_cut_without_a_look_up(server, hook):
    symbols = sorted(bar.symbol for bar in server.market.session(MONDAY))[:20]
    hook.records = Known(traded=symbols)
    without_lines(server, symbols[:5])
    with pytest.raises(TruncatedResponse, match="which traded until just before 2013-01-07: it is cut"):
        hook.fetch(bulk(MONDAY, *symbols))
    assert len(server.calls) == 1


@pytest.mark.parametrize(("count", "most"), [(1, 3), (20, 3), (150, 7), (523, 26), (6000, 300)])
def test_a_large_universe_may_lack_more_symbols_than_a_small_one(count, most):
    assert few(count) == most


def test_symbols_that_the_vendor_lacked_in_the_sessions_around_are_not_looked_up(server, hook):
    unlisted = [f"NONE{number}" for number in range(149)]
    hook.records = Known(untraded=unlisted)
    request = bulk(MONDAY, "IBM", *unlisted)
    assert hook.fetch(request).table["symbol"].to_pylist() == ["IBM"]
    assert len(server.calls) == 1


def test_hooks_of_one_run_look_a_symbol_up_once(server):
    records, days = Records(), calendar.sessions(MONDAY, MONDAY + 30 * DAY)
    server.hide(days[3], ["SPY"])
    for day in days:  # a task each
        with make_hook(server) as hook:
            hook.records = records
            found = hook.fetch(bulk(day, "IBM", "SPY", "NONE")).table["symbol"].to_pylist()
            assert sorted(found) == ["IBM", *["SPY"] * (day != days[3])]
    looked_up = [call.target for call in server.calls if call.endpoint == "eod"]
    assert [("NONE" in target, "SPY" in target) for target in looked_up] == [(True, False), (False, True)]


def test_a_symbol_that_the_plan_lacks_is_looked_up_once_in_a_run(server):
    records = Records()
    server.fault("refused", match="symbol=SPY", message=SYMBOL, times=None)
    for day in (MONDAY, MONDAY + DAY):
        server.hide(day, ["SPY"])
        with make_hook(server) as hook:
            hook.records = records
            assert list(hook.fetch(bulk(day)).refused) == ["SPY"]
    assert sum(call.endpoint == "eod" for call in server.calls) == 1


def test_what_a_run_remembers_and_cannot_read_is_looked_up_again(server, hook):
    hook.records.remember("history-SPY", b"something else")
    server.hide(MONDAY, ["SPY"])
    assert sorted(hook.fetch(bulk(MONDAY)).table["symbol"].to_pylist()) == ["BRK.B", "IBM"]
    assert sum(call.endpoint == "eod" for call in server.calls) == 1


@pytest.mark.parametrize("symbols", [("IBM", "BRK.B", "SPY"), ("NONE",)])
def test_a_file_of_another_session_is_an_error(server, hook, symbols):
    server.fault("other_body", match="eod-bulk", body=file_of(server, MONDAY + DAY), times=None)
    with pytest.raises(ServerError, match="rows of 2013-01-08 came"):
        hook.fetch(bulk(MONDAY, *symbols))


def test_a_stray_row_of_another_date_is_left_aside_and_counted(server, hook):
    body = file_of(server, MONDAY)
    stray = next(line for line in file_of(server, MONDAY + DAY).splitlines(keepends=True) if '"IBM"' in line)
    server.fault("other_body", match="eod-bulk", body=body + stray)
    request = bulk(MONDAY)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert fetched.warnings == (f"1 row that was not requested came and is left aside: {MONDAY + DAY}",)
    assert fetched.evidence.rows_left_aside == 1


# adjusted closes


@pytest.mark.parametrize("plan", ["basic", "starter", "premium"])
def test_plans_without_bulk_files_get_adjusted_closes_with_a_second_call(server, plan):
    with make_hook(server, extra={"plan": plan}) as hook:
        request = span("AAPL", *YEAR)
        assert rows(hook.fetch(request).table) == held(server, request)
    assert [call.target.split("?")[0].rpartition("/")[2] for call in server.calls] == ["non-split-adjusted", "dividend-adjusted"]


@pytest.mark.parametrize(
    ("plan", "wish", "calls"), [("starter", "no", 1), ("starter", "yes", 2), ("ultimate", "auto", 1), ("ultimate", "yes", 2)]
)
def test_the_option_tells_if_adjusted_closes_are_fetched_and_the_plan_counts_their_calls(server, plan, wish, calls):
    with make_hook(server, extra={"plan": plan}, options={"adj_close": wish}) as hook:
        table = hook.fetch(span("AAPL", *YEAR)).table
        (endpoint,) = [one for one in hook.capabilities("ohlcv-1d").endpoints if one.name == HISTORY]
        assert {one.chains for one in hook.capabilities("fundamentals").endpoints} == {6} | ({51} if plan == "ultimate" else set())
    assert (table["adj_close"].null_count == 0) == (calls == 2)
    assert len(server.calls) == endpoint.calls(250) == calls
    assert hook.source == "fmp"


def test_bars_stay_without_an_adjusted_close_where_the_plan_lacks_that_endpoint(server):
    server.fault("refused", match="dividend-adjusted", message=RESTRICTED)
    with make_hook(server, extra={"plan": "starter"}) as hook:
        fetched = hook.fetch(span("AAPL"))
    assert (len(fetched.table), fetched.table["adj_close"].null_count) == (5, 5)
    assert fetched.warnings[0].startswith("adj_close of AAPL is left out: Restricted Endpoint")


def test_a_bar_whose_adjusted_close_is_not_there_yet_is_named(server):
    body = server.vendor.eod(VendorRequest(server.vendor, "", {"symbol": "AAPL", "from": "2013-01-07", "to": "2013-01-10"}),
                             {"kind": "dividend-adjusted"}).body  # fmt: skip
    server.fault("other_body", match="dividend-adjusted", body=json.dumps(body))
    with make_hook(server, extra={"plan": "starter"}) as hook:
        fetched = hook.fetch(span("AAPL"))
    assert [value is None for value in fetched.table["adj_close"].to_pylist()] == [False] * 4 + [True]
    assert fetched.warnings == ("AAPL: 1 bars have no adj_close yet, the first of 2013-01-11",)


# refusals, in the vendor's words


def test_a_symbol_that_the_plan_lacks_is_named_and_the_run_goes_on(server):
    server.vendor.plan = "basic"
    with make_hook(server, extra={"plan": "basic"}) as hook:
        refused, fine = hook.fetch(span("BRK.B")), hook.fetch(span("IBM"))
    assert len(refused.table) == 0
    assert refused.table.schema == dataset("ohlcv-1d").received
    assert list(refused.refused) == ["BRK.B"]
    assert refused.refused["BRK.B"].startswith("Premium Query Parameter: 'Special Endpoint : This value set for 'symbol'")
    assert (len(fine.table), fine.refused, len(server.calls)) == (5, {}, 3)


@pytest.mark.parametrize("status", [200, 402, 403])
@pytest.mark.parametrize("words", [RESTRICTED, "Exclusive Endpoint : This endpoint is not available"])
def test_what_the_plan_lacks_altogether_stops_the_run(server, hook, status, words):
    server.fault("refused", message=words, status=status)
    with pytest.raises(EntitlementError, match=words[:40]) as caught:
        hook.fetch(span("IBM"))
    assert type(caught.value) is EntitlementError
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [200, 402])
def test_a_refused_symbol_is_told_by_the_words_whatever_the_status(server, hook, status):
    server.fault("refused", message=SYMBOL, status=status)
    assert list(hook.fetch(span("IBM")).refused) == ["IBM"]


def test_a_bulk_file_is_never_refused_for_a_symbol(server, hook):
    server.fault("refused", match="/eod-bulk", message=SYMBOL)
    with pytest.raises(EntitlementError):
        hook.fetch(bulk(MONDAY))


def test_an_absent_symbol_that_the_plan_lacks_is_named_and_the_others_come(server, hook):
    server.hide(MONDAY, ["SPY"])
    server.fault("refused", match="symbol=SPY", message=SYMBOL)
    fetched = hook.fetch(bulk(MONDAY))
    assert (sorted(fetched.table["symbol"].to_pylist()), list(fetched.refused)) == (["BRK.B", "IBM"], ["SPY"])


def test_a_bad_key_with_200_is_a_bad_key(server, hook):
    server.fault("error_with_200", message=UNKNOWN_KEY)
    with pytest.raises(AuthError, match="Invalid API KEY"):
        hook.fetch(span("IBM"))


def test_the_legacy_api_is_refused(server):
    with make_hook(server) as hook, pytest.raises(EntitlementError, match="Legacy Endpoint"):
        hook.transport.get("/api/v3/quote/AAPL", {}, "a quote", lambda response: response)


@pytest.mark.parametrize("status", [200, 429])
def test_the_daily_quota_ends_the_run_and_says_when_it_is_renewed(server, status):
    server.fault("refused", message='{"Error Message": "Limit Reach . Please upgrade your plan"}', status=status)
    with make_hook(server, extra={"plan": "basic", "limits": [{"calls": 250, "seconds": 86_400}]}) as hook:
        hook.now = lambda: NOW
        with pytest.raises(QuotaExhausted, match="Limit Reach .* renewed at 2020-06-18 00:00 UTC") as caught:
            hook.fetch(span("IBM"))
    assert caught.value.resets_at == datetime(2020, 6, 18, tzinfo=UTC)
    assert len(server.calls) == 1


def test_an_account_counts_as_the_vendor_does(server):
    with make_hook(server, extra={"plan": "basic", "limits": [{"calls": 2, "seconds": 86_400}]}) as hook:
        hook.fetch(span("IBM"))
        with pytest.raises(QuotaExhausted, match=r"renewed at \d{4}-\d\d-\d\d 00:01 UTC"):
            hook.fetch(span("IBM"))


def test_the_same_words_are_the_minutes_quota_where_the_plan_has_none_for_a_day(server):
    server.fault("throttled", times=None)
    with make_hook(server, extra={"plan": "starter", "limits": [{"calls": 300, "seconds": 0.2}]}) as hook:
        hook._transport.retry = RetryPolicy(attempts=1)
        with pytest.raises(Throttled) as caught:
            hook.fetch(span("IBM"))
    assert caught.value.retry_after == 0.2


def test_the_servers_daily_quota_is_met_with_a_stop(server):
    server.limits = FMPHook.plans["basic"].quota.limits
    with make_hook(server, extra={"plan": "basic", "limits": [{"calls": 1000, "seconds": 86_400}]}) as hook:
        for _ in range(250):
            server.vendor.quota.admit(server._clock())
        with pytest.raises(QuotaExhausted):
            hook.fetch(span("IBM"))


def test_the_bandwidth_of_a_month_has_no_known_end(server, hook):
    server.fault("bandwidth")
    with pytest.raises(QuotaExhausted, match="bytes of the last 30 days") as caught:
        hook.fetch(span("IBM"))
    assert caught.value.resets_at is None


def test_the_throttle_of_bulk_files_comes_with_200_and_is_waited_for(server, hook):
    waits = []
    hook._transport.pacer.penalise = waits.append  # every slot of the account is held back
    server.fault("bulk_throttled")
    request = bulk(MONDAY)
    assert rows(hook.fetch(request).table) == held(server, request)
    assert waits == [BULK_PAUSE]


# plans and calls


@pytest.mark.parametrize(
    ("plan", "has_bulk"), [("basic", False), ("starter", False), ("premium", False), ("ultimate", True), ("sample", True)]
)
@pytest.mark.parametrize("name", ["ohlcv-1d", "fundamentals"])
def test_bulk_files_are_there_where_the_plan_has_them(server, plan, has_bulk, name):
    names = [endpoint.name for endpoint in make_hook(server, extra={"plan": plan}).capabilities(name).endpoints]
    assert ("bulk" in names) == has_bulk
    assert len(names) == 1 + has_bulk


@pytest.mark.parametrize(
    ("plan", "first", "last", "calls", "chosen"),
    [
        ("ultimate", date(2019, 12, 31), date(2019, 12, 31), 1, "bulk"),
        ("ultimate", date(2018, 1, 1), date(2019, 12, 31), 503, "bulk"),
        ("ultimate", date(2010, 1, 1), date(2019, 12, 31), 523, HISTORY),
        ("starter", date(2019, 12, 31), date(2019, 12, 31), 2 * 523, HISTORY),
        ("starter", date(2018, 1, 1), date(2019, 12, 31), 2 * 523, HISTORY),
    ],
)
def test_the_plan_takes_as_few_calls_as_the_account_allows(server, plan, first, last, calls, chosen):
    sessions = calendar.sessions(first, last + DAY)
    missing = dict.fromkeys([f"S{n}" for n in range(523)], (1 << len(sessions)) - 1)
    made = make_plan("ohlcv-1d", missing, sessions, make_hook(server, extra={"plan": plan}).capabilities("ohlcv-1d"), now=NOW)
    assert made.calls == calls
    assert {batch.endpoint for batch in made.batches} == {chosen}


@pytest.mark.parametrize(
    ("first", "last", "calls"),
    [
        (date(2019, 12, 31), date(2019, 12, 31), 1),
        (date(2018, 1, 1), date(2019, 12, 31), 503),
        (date(2010, 1, 1), date(2019, 12, 31), 523),
    ],
)
def test_bars_of_523_symbols_take_a_call_a_session_or_a_call_a_symbol(server, first, last, calls):
    """That the server sees as many is tested in tests/pipeline/test_planned_calls.py."""
    symbols = sorted(server.market.symbols)[:523]
    sessions = calendar.sessions(first, last + DAY)
    missing = dict.fromkeys(symbols, (1 << len(sessions)) - 1)
    with make_hook(server) as hook:
        assert make_plan("ohlcv-1d", missing, sessions, hook.capabilities("ohlcv-1d"), now=NOW).calls == calls


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"password": ""}, "password is empty; the API key is needed there"),
        ({"password": f" {KEY}\n"}, "password has white space around it"),
        (
            {"base_url": "financialmodelingprep.com"},
            "host is 'financialmodelingprep.com'; a full base URL is needed, e.g. https://financialmodelingprep.com",
        ),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(server, change, text):
    config = ProviderConfig(**{"conn_id": "fmp_default", "base_url": server.url, "password": KEY, **change})
    with pytest.raises(ConfigError, match=text):
        FMPHook(config=config).validate_config()
    assert server.calls == []


def test_the_free_plan_is_the_default_and_reaches_back_five_years(server):
    hook = FMPHook(config=ProviderConfig("fmp_default", server.url, password=KEY))
    hook.now = lambda: NOW
    found = hook.capabilities("ohlcv-1d")
    assert (found.history_start, found.quota.window_calls) == (date(2015, 6, 17), 250)
