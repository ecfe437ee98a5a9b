"""Every decoder of every provider: whatever bytes come, it returns rows or raises a typed error."""

from __future__ import annotations

import gzip
import tracemalloc
from contextlib import suppress
from datetime import UTC, date, datetime

import numpy as np
import pytest
import zstandard
from databento import DBNStore
from hypothesis import given
from hypothesis import strategies as st
from ib_async import BarData
from ib_async.util import parseIBDatetime

from market_data.core.batch import Request
from market_data.core.errors import MarketDataError, SchemaDrift, ServerError, TruncatedResponse
from market_data.core.intervals import Interval, closed
from market_data.core.retry_policy import USUAL
from market_data.datasets.registry import dataset
from market_data.http.client import Counters, Response, plain
from market_data.providers import responses
from market_data.providers._template.client import TemplateClient
from market_data.providers.alpaca import corporate_actions as alpaca_corporate_actions
from market_data.providers.alpaca.client import BarsClient
from market_data.providers.alpaca.parse import BarsQuery
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.client import Client
from market_data.providers.databento.conditions import read_conditions
from market_data.providers.databento.parse import Days, NotOfTheQuestionError, Strays, Symbols, read
from market_data.providers.fmp import corporate_actions as fmp_actions
from market_data.providers.fmp import fundamentals
from market_data.providers.fmp.client import FmpClient, RequestLog
from market_data.providers.ib.client import Link
from market_data.providers.ib.contracts import Instrument, last_step
from market_data.providers.ib.listings import listing_of
from market_data.providers.ib.parse import HistoryPage, readable_bars, separated_page, table, unexpected_bars
from market_data.providers.polygon import corporate_actions, ticker_events
from market_data.providers.polygon.client import Rest
from market_data.providers.polygon.flat_files import FlatFiles
from market_data.providers.polygon.parse import BarQuery
from market_data.providers.responses import NewYorkDays
from market_data.providers.unexpected import OnceMore, Unexpected
from market_data.quality.gate import gate
from sandbox.vendors import databento_records as dialect
from sandbox.vendors.databento_instruments import Piece, number
from sandbox.vendors.databento_query import Query
from tests.providers.bodies import bodies
from tests.tiers import tiers

DAY, LAST = date(2013, 1, 7), date(2013, 1, 11)
SESSIONS = [date(2013, 1, day) for day in range(7, 12)]
WHERE = {"provider": "vendor", "request": "a request"}


class OneBody:
    """A transport whose every response has the same body."""

    provider = "vendor"
    plain = staticmethod(plain)

    def __init__(self, body, **headers):
        self.body, self.headers, self.calls = body, headers, 0

    def get(self, path, params, what, parse):
        self.calls += 1
        if self.calls > 20:
            raise AssertionError("the paging loops")
        try:
            return parse(Response(200, self.headers, self.body))
        except ServerError:  # a transport repeats the call
            return parse(Response(200, self.headers, self.body))


def request(name, endpoint, *symbols, last=LAST):
    return Request(name, endpoint, symbols or ("IBM",), (closed(DAY, last),))


def judge(parts, name="ohlcv-1d", asked=None):
    """The gate takes what a decoder returns."""
    asked = asked or request(name, "range", "IBM", "SPY")
    for part in parts:
        table = getattr(part, "table", part)
        assert table.schema.names == dataset(name).received.names
        gate(dataset(name), table, asked, SESSIONS)
        odd = getattr(getattr(part, "unexpected", None), "odd", None)
        if odd is not None:
            assert odd.schema.names == [*dataset(name).received.names, "reasons"]
            assert odd["reasons"].null_count == 0


STAMP = 1357534800000  # 2013-01-07 00:00 New York
BAR = b'{"v":4.7e6,"vw":1.5,"o":1.5,"c":1.6,"h":1.7,"l":1.4,"t":%d,"n":%s}'
RANGE = (
    b'{"ticker":"IBM","queryCount":2,"resultsCount":2,"adjusted":false,"results":['
    + BAR % (STAMP, b"17")
    + b","
    + BAR % (STAMP + 86_400_000, b"1.5")
    + b'],"status":"OK","request_id":"r","count":2}'
)
GROUPED = RANGE.replace(b'"ticker":"IBM",', b"").replace(b'{"v"', b'{"T":"IBM","v"').replace(b"1357621200000", b"1357534800000")
ALPACA = (
    b'{"bars":{"IBM":[{"c":1.6,"h":1.7,"l":1.5,"n":17,"o":1.5,"t":"2013-01-07T05:00:00Z","v":100,"vw":1.55},'
    b'{"c":1.6,"h":1.7,"l":1.5,"n":17,"o":1.5,"t":"2013-01-08T05:00:00Z","v":100,"vw":1.55}],'
    b'"SPY":[{"c":1.6,"h":1.7,"l":1.5,"n":1.5,"o":1.5,"t":"2013-01-07T05:00:00Z","v":100,"vw":1.55}]},"next_page_token":null}'
)
HISTORY = (
    b'[{"symbol":"IBM","date":"2013-01-08","adjOpen":1.5,"adjHigh":1.7,"adjLow":1.4,"adjClose":1.6,"volume":100},'
    b'{"symbol":"IBM","date":"2013-01-07","adjOpen":1.5,"adjHigh":1.7,"adjLow":1.4,"adjClose":1.6,"volume":100}]'
)
BULK = (
    b"symbol,date,open,low,high,close,adjClose,volume\n"
    b'"IBM","2013-01-07","1.5","1.4","1.7","1.6","1.6","100"\n"SPY","2013-01-07","1.5","1.4","1.7","1.6","1.6","100"\n'
)
STATEMENT = (
    b'[{"date":"2012-12-31","symbol":"IBM","reportedCurrency":"USD","cik":"1","filingDate":"2013-01-08","acceptedDate":'
    b'"2013-01-08 16:32:01","fiscalYear":"2012","period":"FY","revenue":104507000000,"eps":14.37}]'
)
STATEMENTS = (
    b"date,symbol,reportedCurrency,cik,filingDate,acceptedDate,fiscalYear,period,revenue,eps\n"
    b"2012-12-31,IBM,USD,1,2013-01-08,2013-01-08 16:32:01,2012,FY,104507000000,14.37\n"
)
SPLITS = (
    b'{"results":[{"id":"a","execution_date":"2013-01-08","split_from":1,"split_to":4,"ticker":"IBM","ex_dividend_date":"2013-01-08",'
    b'"cash_amount":0.5,"currency":"USD","declaration_date":"2013-01-02","frequency":4,"name":"x","type":"CS","active":true,'
    b'"delisted_utc":"2013-01-08T00:00:00Z"}],"status":"OK","request_id":"r"}'
)
EVENTS = (
    b'{"results":{"name":"Meta","events":[{"type":"ticker_change","date":"2012-05-18","ticker_change":{"ticker":"FB"}},'
    b'{"type":"ticker_change","date":"2013-01-09","ticker_change":{"ticker":"IBM"}}]},"status":"OK","request_id":"r"}'
)
ALPACA_ACTIONS = (
    b'{"corporate_actions":{"forward_splits":[{"symbol":"IBM","ex_date":"2013-01-08","old_rate":1,"new_rate":4,"process_date":'
    b'"2013-01-08"}],"stock_dividends":[{"symbol":"IBM","ex_date":"2013-01-08","rate":0.05}],"cash_dividends":[{"symbol":"IBM",'
    b'"ex_date":"2013-01-08","rate":0.5,"special":false,"record_date":"2013-01-10","payable_date":"2013-02-01","process_date":'
    b'"9999-12-31"}],"name_changes":[{"old_symbol":"FB","new_symbol":"IBM","process_date":"2013-01-09"}]},"next_page_token":null}'
)
FMP_ACTIONS = (
    b'[{"symbol":"IBM","date":"2013-01-08","numerator":4,"denominator":1,"recordDate":"2013-01-10","paymentDate":"2013-02-01",'
    b'"declarationDate":"2013-01-02","dividend":0.5,"adjDividend":0.125,"yield":1.0,"frequency":"Quarterly"}]'
)
TEMPLATE = (
    b'{"symbol":"IBM","count":1,"bars":[{"date":"2013-01-07","open":1,"high":2,"low":1,"close":2,"volume":1}],"next_page":null}'
)
LINES = (
    b"ticker,volume,open,close,high,low,window_start,transactions\n"
    b"IBM,100,1.5,1.6,1.7,1.4,1357534800000000000,7\nSPY,100.5,1.5,1.6,1.7,1.4,1357534800000000000,8\n"
)


def polygon(endpoint, body, name="ohlcv-1d"):
    asked = request(name, endpoint, "IBM", *(["SPY"] if endpoint == "grouped" else []), last=DAY if endpoint == "grouped" else LAST)
    rest, query = Rest(OneBody(body)), BarQuery("vendor", asked, False)
    judge(rest.grouped(query) if endpoint == "grouped" else rest.ranged(query), name, asked)


def alpaca(body, name="ohlcv-1d"):
    asked = request(name, "bars", "IBM", "SPY")
    response = BarsClient(OneBody(body)).chain(BarsQuery("vendor", asked, asked.symbols, NewYorkDays(DAY, LAST)), {})
    judge([response.rows.table(), *response.pages], name, asked)


def alpaca_actions(body, name="corporate-actions"):
    judge(alpaca_corporate_actions.chain(OneBody(body), request(name, "actions")), name)


def flat_file(body, name="ohlcv-1d", **headers):
    files = FlatFiles("vendor", ProviderConfig("c", "", "id", "secret"), "b", None, Counters(), USUAL)
    asked = request(name, "flatfile", "IBM", "SPY", last=DAY)
    once_more = OnceMore()
    once_more._seen = True
    judge([files._part(Response(200, headers, body), asked, once_more)], name, asked)


def actions(body):
    judge(corporate_actions.actions(Rest(OneBody(body)), request("corporate-actions", "reference")), "corporate-actions")


def fmp(call):
    def run(body):
        log = RequestLog("vendor", "a request")
        found = call(FmpClient(OneBody(body)), log)
        filings = [one for one in found if isinstance(one, fundamentals.Filing)]
        if filings:
            fundamentals.table(fundamentals.current(filings, request("fundamentals", "x"))[0])

    return run


def databento(body, name="ohlcv-1d"):
    client = Client("vendor", "http://x", {}, None, lambda response, what: None, key="db-key")
    days = Days.utc(DAY, LAST)
    try:
        store = DBNStore.from_bytes(body)
    except Exception as error:  # noqa: BLE001 - as where the vendor's client makes it
        raise client._failure(error, "a request") from None
    judge(
        [
            client._decoded(
                "a request",
                lambda: read(store, name, Symbols(store.metadata.mappings, {"IBM": "IBM"}), days, days.span, Strays())[0],
            )
        ],
        name,
    )


def stream(name):
    query = Query("EQUS.MINI", name, ("IBM",), "raw_symbol", datetime(2013, 1, 7, tzinfo=UTC), datetime(2013, 1, 12, tzinfo=UTC))
    records = np.zeros(3, dialect.dtype(name))
    records["instrument_id"] = number("IBM")
    for field in {"ts_event", "ts_recv"} & set(records.dtype.names):
        records[field] = [1357570800 * 10**9 + n for n in range(3)]
    return dialect.metadata(query, {"IBM": [Piece(DAY, date(2013, 1, 12), "IBM")]}) + records.tobytes()


DECODERS = {
    "polygon range": (lambda body: polygon("range", body), [RANGE]),
    "polygon range minutes": (lambda body: polygon("range", body, "ohlcv-1m"), [RANGE]),
    "polygon grouped": (lambda body: polygon("grouped", body), [GROUPED]),
    "polygon flat file": (lambda body: flat_file(body, **{"Content-Encoding": "gzip"}), [LINES]),
    "polygon flat file minutes": (lambda body: flat_file(body, "ohlcv-1m", **{"Content-Encoding": "gzip"}), [LINES]),
    "polygon flat file, packed": (flat_file, [gzip.compress(LINES)]),
    "polygon actions": (actions, [SPLITS]),
    "polygon tickers": (lambda body: corporate_actions.tickers(Rest(OneBody(body)), DAY, active=True), [SPLITS]),
    "polygon ticker events": (
        lambda body: judge(ticker_events.changes(Rest(OneBody(body)), request("symbol-changes", "reference")), "symbol-changes"),
        [EVENTS],
    ),
    "alpaca actions": (alpaca_actions, [ALPACA_ACTIONS]),
    "alpaca name changes": (lambda body: alpaca_actions(body, "symbol-changes"), [ALPACA_ACTIONS]),
    "fmp actions": (
        fmp(lambda client, log: fmp_actions.actions(client, request("corporate-actions", "reference"), log).to_pylist()),
        [FMP_ACTIONS],
    ),
    "alpaca bars": (alpaca, [ALPACA]),
    "alpaca minutes": (lambda body: alpaca(body, "ohlcv-1m"), [ALPACA]),
    "fmp history": (fmp(lambda client, log: client.history("IBM", DAY, LAST, log).bars), [HISTORY]),
    "fmp bulk": (fmp(lambda client, log: client.bulk_bars(request("ohlcv-1d", "bulk", last=DAY), log)), [BULK]),
    "fmp statements": (fmp(lambda client, log: client.statements("IBM", "income", "annual", 5, log)), [STATEMENT]),
    "fmp bulk statements": (
        fmp(lambda client, log: client.bulk_statements("income", 2012, "FY", request("fundamentals", "bulk"), log)),
        [STATEMENTS],
    ),
    "databento bars": (databento, [stream("ohlcv-1d"), zstandard.compress(stream("ohlcv-1d"))]),
    "databento trades": (lambda body: databento(body, "trades"), [stream("trades")]),
    "databento statistics": (lambda body: databento(body, "statistics"), [stream("statistics")]),
    "template": (
        lambda body: judge(TemplateClient(OneBody(body)).bars(request("ohlcv-1d", "history"), {})),
        [TEMPLATE],
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_good_body_is_read(name):
    decoder, good = DECODERS[name]
    for body in good:
        decoder(body)


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_any_body_ends_in_rows_or_a_typed_error(name, data):
    decoder, good = DECODERS[name]
    body = data.draw(bodies(good))
    with suppress(MarketDataError, NotOfTheQuestionError):  # of which Databento's hook makes a WrongResponse
        decoder(body)


# rows that are odd or of something else

ODD = {
    "1.5": "n is 1.5, not a whole number below 2^63",
    str(2**63): f"n is {2**63}, not a whole number below 2^63",
    "9" * 400: "n is a number of about 401 digits, not a whole number below 2^63",
    '"17"': 'n is "17": expected `int | float | null`, got `str`',
    "1e400": "n is 1e400: number out of range",
    "[[[1]]]": "n is [[[1]]]: expected `int | float | null`, got `array`",
}


@pytest.mark.parametrize(("value", "reason"), ODD.items(), ids=lambda text: text[:20])
def test_a_row_with_an_odd_field_is_set_apart_with_its_other_fields(value, reason):
    body = RANGE.replace(b'"n":1.5', b'"n":17').replace(b'"n":17', b'"n":%s' % value.encode(), 1)
    (page,) = Rest(OneBody(body)).ranged(BarQuery("vendor", request("ohlcv-1d", "range"), False))
    assert page.table["session"].to_pylist() == [date(2013, 1, 8)]
    (odd,) = page.unexpected.odd.to_pylist()
    assert (odd["symbol"], odd["session"], odd["close"], odd["trade_count"]) == ("IBM", DAY, 1.6, None)
    assert odd["reasons"] == reason
    assert not page.unexpected.unproved


@pytest.mark.parametrize("stamp", [b"null", b"-1", b'"x"', b"1e99", b"[]"])
def test_a_row_without_a_readable_date_leaves_the_symbols_empty_cells_unproved(stamp):
    body = RANGE.replace(b'"n":1.5', b'"n":17').replace(b'"t":1357534800000', b'"t":' + stamp, 1)
    (page,) = Rest(OneBody(body)).ranged(BarQuery("vendor", request("ohlcv-1d", "range"), False))
    assert page.unexpected.odd["session"].to_pylist() == [None]
    assert page.unexpected.unproved == {"IBM": "a row came whose date cannot be read"}


def test_a_row_without_a_ticker_may_be_that_of_a_symbol_without_a_row():
    body = GROUPED.replace(b'"n":1.5', b'"n":17').replace(b'"T":"IBM"', b'"T":"SPY"', 1).replace(b'"T":"IBM",', b"", 1)
    asked = request("ohlcv-1d", "grouped", "IBM", "SPY", last=DAY)
    (page,) = Rest(OneBody(body)).grouped(BarQuery("vendor", asked, False))
    assert page.table["symbol"].to_pylist() == ["SPY"]
    assert page.unexpected.odd.select(["symbol", "session", "reasons"]).to_pylist() == [
        {"symbol": None, "session": DAY, "reasons": "T is missing"}
    ]
    whole = Unexpected.of([page.unexpected], asked, page.table)
    assert whole.unproved == {"IBM": "a row came whose symbol cannot be read"}


def test_most_rows_with_an_odd_field_are_another_form():
    body = RANGE.replace(b'"n":17', b'"n":"17"').replace(b'"n":1.5', b'"n":"17"')
    with pytest.raises(SchemaDrift, match='n is "17": expected .*, and 2 of 2 rows are like that'):
        list(Rest(OneBody(body)).ranged(BarQuery("vendor", request("ohlcv-1d", "range"), False)))


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        (b'{"status":"OK","request_id":"\xff"}', SchemaDrift, "field request_id is not UTF-8 text"),
        (b'{"x":' + b"[" * 100_000, SchemaDrift, "nested too deeply"),
        (b'{"status":1}', SchemaDrift, "Expected `str`, got `int` - at `$.status`"),
        (b'{"status":"OK"', TruncatedResponse, "ends early"),
        (b"<html>", ServerError, "not JSON"),
    ],
)
def test_a_body_of_another_form_names_the_field(body, error, text):
    with pytest.raises(error, match=text.replace("$", r"\$").replace("`", ".")):
        list(Rest(OneBody(body)).ranged(BarQuery("vendor", request("ohlcv-1d", "range"), False)))


SPLINTERS_OF_JSON = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30) | st.dates().map(str)
CONDITION_ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(("date", "condition", "last_modified_date"), SPLINTERS_OF_JSON))


@given(rows=st.lists(CONDITION_ROWS | SPLINTERS_OF_JSON | st.lists(st.text(max_size=3), max_size=3), max_size=6))
def test_any_conditions_are_read_or_another_form(rows):
    with suppress(SchemaDrift):
        for day, condition in read_conditions(rows, WHERE).items():
            assert type(day) is date
            assert isinstance(condition.words, str)
            assert condition.modified is None or type(condition.modified) is date


@given(fields=st.lists(st.text(max_size=8) | st.sampled_from(["", "1", "-1", "META", "NASDAQ", "9" * 400, "nan"]), max_size=30))
@pytest.mark.parametrize("version", [0, 163, 164, 178])
def test_any_details_tell_a_listing_or_are_too_short(version, fields):
    with suppress(ValueError, IndexError):
        number, details = listing_of(["10", *fields], version)
        assert isinstance(number, int)
        assert isinstance(details.contract.conId, int)


@given(
    cells=st.lists(
        st.text(max_size=8) | st.sampled_from(["1", "-1", "1.5", "20130107", "1357570800", "1e400", "9" * 400, "nan", ""]),
        min_size=8,
        max_size=8,
    ),
    daily=st.booleans(),
)
def test_any_bar_of_a_message_is_a_row_or_odd(cells, daily):
    bar = ["20130108" if daily else "1357657800", "1.5", "1.7", "1.4", "1.6", "100", "1.5", "7"]
    kept, odd = readable_bars([*bar, *cells, *bar])
    assert len(kept) + 8 * len(odd) == 24
    bars = [
        BarData(*[parseIBDatetime(kept[at]), *map(float, kept[at + 1 : at + 7]), int(kept[at + 7])])
        for at in range(0, len(kept), 8)
    ]
    name = "ohlcv-1d" if daily else "ohlcv-1m"
    asked, instrument = request(name, "historical"), Instrument.of("IBM")
    step = last_step(Interval(DAY, date(2013, 1, 12)), daily=daily)
    page = separated_page(HistoryPage(bars, None, 0, "", odd), instrument, step, daily=daily)
    judge([table(asked, instrument, page.bars, step.dates)], name, asked)
    found = unexpected_bars(page, asked, instrument, step.dates)
    assert (found.odd is None) or found.odd.schema.names == [*dataset(name).received.names, "reasons"]


# memory

SMALL = {"LARGEST_JSON": 800_000, "MOST_VALUES": 20_000}
STATED = SMALL["LARGEST_JSON"] + 100 * SMALL["MOST_VALUES"]
"""Bytes that a JSON response may take: its own, and 100 for each value."""


ROWS = ["{}", "[]", "1", '""', '{"t":1}', "null", "1.5", '{"T":"A"}', '{"symbol":"IBM"}', '"' + "é" * 30 + '"']


@pytest.mark.parametrize("row", tiers(ROWS, *(row for row in ROWS if row not in ('{"T":"A"}', '{"symbol":"IBM"}'))))
@pytest.mark.parametrize("form", ['{"results":[%s],"resultsCount":1}', "[%s]", '{"bars":{"IBM":[%s]}}', '{"x":[%s]}'])
def test_no_body_takes_more_than_twice_the_stated_memory(monkeypatch, row, form):
    for name, value in SMALL.items():
        monkeypatch.setattr(responses, name, value)
    for size in (18_000, 40_000):  # below the limit of values, and above
        body = (form % ",".join([row] * (size // (1 + row.count(":"))))).encode()
        for name in (
            "polygon range",
            "polygon grouped",
            "alpaca bars",
            "fmp history",
            "fmp statements",
            "polygon tickers",
            "template",
        ):
            assert any(_peak(name, body) < 2 * STATED for _ in range(3)), name


def _peak(name: str, body: bytes) -> int:
    """Return the most bytes that were held while a body was read, those of other threads of this process included."""
    tracemalloc.start()
    try:
        with suppress(MarketDataError):
            DECODERS[name][0](body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Interactive Brokers' messages


@given(
    cells=st.lists(st.text(max_size=8) | st.sampled_from(["1", "-1", "1.5", "20130107", "1e400", "9" * 400, "nan"]), max_size=24)
)
def test_any_message_with_bars_is_read_or_ends_its_request(cells):
    link, ended = Link("x", 1, 1), []
    link._fail = ended.append

    def decode(fields):
        for cell in fields[5:]:
            float(cell)

    link._take(["17", *cells], decode)
    link._runner.close()
    assert ended or link._heads
    assert all(isinstance(error, MarketDataError) for error in ended)
