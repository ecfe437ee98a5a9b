"""Polygon's splits, dividends and tickers against a real HTTP server."""

from datetime import date, timedelta

import msgspec
import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Shape
from market_data.core.errors import AuthError, EntitlementError, SchemaDrift, ServerError, TruncatedResponse
from market_data.core.intervals import closed
from market_data.datasets.corporate_actions import ACTIONS, identify
from market_data.datasets.registry import dataset
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon import corporate_actions
from market_data.providers.polygon.corporate_actions import TICKERS, Dividend, Split
from market_data.providers.polygon.hook import PolygonHook
from market_data.providers.polygon.parse import PolygonPage
from market_data.quality.gate import gate
from sandbox.http import SampleApi
from sandbox.vendors.polygon import Polygon
from tests.contract.provider import KEY
from tests.providers.test_polygon_minutes import make_hook

YEAR = (date(2019, 1, 1), date(2019, 12, 31))
SCHEMA = dataset("corporate-actions").received


@pytest.fixture(scope="module")
def running():
    with SampleApi(api_key=KEY) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    return running


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        yield hook


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(corporate_actions, "PAGE_ROWS", 100)


def ask(symbols, first=YEAR[0], last=YEAR[1]):
    return Request("corporate-actions", "reference", tuple(symbols), (closed(first, last),))


def rows(table):
    return sorted(table.to_pylist(), key=lambda row: (row["symbol"], row["action"], row["ex_date"], row["action_id"]))


def held(server, request):
    """The rows that the server has of a request, found out without the hook."""
    blank = dict.fromkeys(SCHEMA.names)
    end = request.last + timedelta(days=1)
    splits = [
        {**blank, "action": "split", "split_from": float(s.split_from), "split_to": float(s.split_to), **common(s)}
        for s in server.market.splits(request.start, end, request.symbols)
    ]
    dividends = [
        {
            **blank,
            "action": "dividend",
            "currency": "USD",
            **{name: getattr(d, name) for name in ("amount", "declaration_date", "record_date", "pay_date", "kind", "frequency")},
            **common(d),
        }
        for d in server.market.dividends(request.start, end, request.symbols)
    ]
    return rows(identify(pa.Table.from_pylist(splits + dividends, schema=SCHEMA)))


def common(action):
    return {"symbol": action.symbol, "ex_date": action.ex_date, "session": action.ex_date, "action_id": action.action_id}


def endpoints(server):
    return [call.endpoint for call in server.calls]


# what comes


@pytest.mark.parametrize("count", [1, 3, 40, 400])
def test_all_actions_of_the_requested_symbols_come(server, hook, count):
    request = ask(sorted(server.market.symbols)[:count])
    fetched = hook.fetch(request)
    assert fetched.table.schema == SCHEMA
    assert rows(fetched.table) == held(server, request)
    assert set(fetched.table["action"].to_pylist()) == set(ACTIONS) or count == 1
    evidence = fetched.evidence
    assert evidence.last_page_seen
    assert evidence.rows_declared is None
    assert evidence.pages == evidence.calls == len(server.calls)
    assert evidence.source == "generated"
    sessions = calendar.sessions(request.start, request.last)
    assert len(gate(dataset("corporate-actions"), fetched.table, request, sessions).bad) == 0


def test_few_symbols_are_requested_one_by_one_and_many_at_once(server, hook):
    some = sorted(server.market.symbols)
    hook.fetch(ask(some[:5]))
    assert [call.ticker for call in server.calls] == [symbol for symbol in some[:5] for _ in range(2)]
    server.forget()
    hook.fetch(ask(some[:523], YEAR[0], YEAR[0] + timedelta(days=1)))
    assert [(call.endpoint, call.ticker) for call in server.calls] == [("splits", None), ("dividends", None)]


def test_pages_are_followed_to_the_last(server, hook, small_pages):
    request = ask(sorted(server.market.symbols))
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert fetched.evidence.pages == len(server.calls) > 10
    assert fetched.evidence.rows_received == len(fetched.table) > 1000


def test_rows_of_others_are_left_aside_and_counted(server, hook):
    request = ask(sorted(server.market.symbols)[:200])
    fetched = hook.fetch(request)
    assert fetched.evidence.rows_received > 2 * len(fetched.table)


def test_a_span_without_actions_is_empty(server, hook):
    fetched = hook.fetch(ask(["NOSUCH"]))
    assert (len(fetched.table), fetched.table.schema, fetched.evidence.last_page_seen) == (0, SCHEMA, True)


def test_the_weekend_before_belongs_to_the_first_session(server, hook):
    hook.fetch(ask(["IBM"], date(2019, 1, 7), date(2019, 1, 8)))  # a Monday
    assert all("date.gte=2019-01-05&" in call.target and "date.lte=2019-01-08&" in call.target for call in server.calls)


@pytest.mark.parametrize(
    ("ex_date", "last", "session"),
    [
        (date(2019, 1, 5), date(2019, 1, 8), date(2019, 1, 7)),  # Saturday
        (date(2019, 1, 8), date(2019, 1, 8), date(2019, 1, 8)),
        (date(2019, 1, 12), date(2019, 1, 13), None),  # Saturday, and the Monday after is not requested
    ],
)
def test_an_action_stands_under_the_first_session_on_or_after_its_date(server, hook, monkeypatch, ex_date, last, session):
    found = server.market.splits(*YEAR)[0]._replace(symbol="IBM", ex_date=ex_date)
    monkeypatch.setattr(server.market, "splits", lambda *_: [found])
    monkeypatch.setattr(server.market, "dividends", lambda *_: [])
    table = hook.fetch(ask(["IBM"], date(2019, 1, 7), last)).table
    assert [(row["ex_date"], row["session"]) for row in table.to_pylist()] == ([(ex_date, session)] if session else [])


def test_the_vendors_id_does_not_matter(server, hook, monkeypatch):
    monkeypatch.setattr(corporate_actions, "PAGE_ROWS", 1)
    (found, *_) = server.market.dividends(*YEAR)
    monkeypatch.setattr(server.market, "splits", lambda *_: [])
    tables = []
    for ids in ((None,), ("E1",), ("E2", "E3")):
        paid = [found._replace(symbol="IBM", action_id=name) for name in ids]
        monkeypatch.setattr(server.market, "dividends", lambda *_, paid=paid: paid)
        tables.append(hook.fetch(ask(["IBM"])).table)
    assert len(tables[0]) == 1
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        ({"dividend_type": "CD"}, "CD"),
        ({"distribution_type": "recurring"}, "CD"),
        ({"distribution_type": "special"}, "SC"),
        ({"distribution_type": "supplemental"}, "supplemental"),
        ({"distribution_type": "unknown"}, None),
        ({}, None),
    ],
)
def test_both_endpoints_words_for_the_type_are_understood(recorded, kind):
    dividend = Dividend("ENB", date(2023, 8, 14), 0.8875, "CAD", **recorded)
    assert corporate_actions._of_dividend(dividend)["kind"] == kind


def test_a_server_without_the_successors_is_called_at_the_old_addresses(server, hook, monkeypatch):
    request = ask(["IBM"])
    wanted = rows(hook.fetch(request).table)
    assert {call.target.partition("?")[0] for call in server.calls} == {"/stocks/v1/splits", "/stocks/v1/dividends"}
    server.forget()
    monkeypatch.setattr(Polygon, "splits", without_successor(Polygon.splits))
    monkeypatch.setattr(Polygon, "dividends", without_successor(Polygon.dividends))
    assert rows(hook.fetch(request).table) == wanted
    assert [call.target.partition("?")[0].split("/")[1] for call in server.calls] == ["stocks", "v3", "stocks", "v3"]


def without_successor(endpoint):
    def respond(vendor, request, found):
        return vendor.unknown_path(request) if "/stocks/v1/" in request.path else endpoint(vendor, request, found)

    return respond


def test_what_the_vendor_is_recorded_to_write_is_read():
    """https://github.com/massive-com/client-python/issues/494"""
    body = (
        b'{"results":[{"cash_amount":0.8875,"currency":"CAD","declaration_date":"2023-08-01","dividend_type":"CD",'
        b'"ex_dividend_date":"2023-08-14","frequency":4,"pay_date":"2023-09-01","record_date":"2023-08-15","ticker":"ENB"}],"status":"OK"}'
    )
    (dividend,) = msgspec.json.decode(body, type=PolygonPage[Dividend]).results
    assert (dividend.cash_amount, dividend.currency, dividend.pay_date, dividend.id) == (0.8875, "CAD", date(2023, 9, 1), None)
    assert (
        msgspec.json.decode(b'{"ticker":"A","execution_date":"2020-08-31","split_from":1,"split_to":4}', type=Split).split_to == 4
    )


# faults

LATER = "cursor="


@pytest.mark.parametrize(
    ("kind", "options", "match", "error", "calls"),
    [
        ("unauthorized", {}, None, AuthError, 1),
        ("forbidden", {}, None, EntitlementError, 1),
        ("truncated", {"fraction": 0.9, "clean": True}, None, TruncatedResponse, 5),
        ("truncated", {"fraction": 0.999, "clean": True}, LATER, TruncatedResponse, 6),
        ("truncated_gzip", {"fraction": 0.9}, LATER, TruncatedResponse, 6),
        ("html", {}, None, ServerError, 5),
        ("error_with_200", {}, LATER, ServerError, 6),
        ("no_results", {}, None, TruncatedResponse, 5),
        ("no_results", {"null": True}, LATER, TruncatedResponse, 6),
        ("page_loop", {}, None, ServerError, 2),
        ("page_loop", {}, LATER, ServerError, 3),
    ],
)
def test_a_fault_that_lasts_is_its_error(server, hook, small_pages, kind, options, match, error, calls):
    server.fault(kind, match=match, times=None, **options)
    with pytest.raises(error) as caught:
        hook.fetch(ask(sorted(server.market.symbols)))
    assert str(caught.value).startswith(f"polygon: reference {len(server.market.symbols)} symbols 2019-01-01..2019-12-31: ")
    assert len(server.calls) == hook.counters.calls == calls


def test_an_empty_page_that_another_follows_is_an_error(server, hook):
    server.fault("page_loop", times=3)
    with pytest.raises(ServerError, match="brings nothing and names a next one"):
        hook.fetch(ask(["NOSUCH"]))
    assert len(server.calls) == 1


def test_a_fault_that_passes_costs_a_call_and_no_row(server, hook, small_pages):
    request = ask(sorted(server.market.symbols))
    server.fault("truncated", match=LATER, fraction=0.5)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert fetched.evidence.retries == 1


def test_a_row_of_another_symbol_or_date_is_an_error(server, hook, monkeypatch):
    found = server.market.splits(*YEAR)[0]
    monkeypatch.setattr("sandbox.vendors.polygon.filtered", lambda rows, *_: rows)
    for wrong, text in (({"symbol": "MSFT"}, "rows of MSFT came"), ({"ex_date": date(2018, 6, 1)}, "rows of 2018-06-01 came")):
        action = found._replace(symbol="IBM", ex_date=date(2019, 6, 3))._replace(**wrong)
        monkeypatch.setattr(server.market, "splits", lambda *_, action=action: [action])
        with pytest.raises(ServerError, match=text):
            hook.fetch(ask(["IBM"]))


def test_another_form_is_drift_after_one_call(server, hook, monkeypatch):
    found = server.market.splits(*YEAR)[0]._replace(symbol="IBM", split_to="four")
    monkeypatch.setattr(server.market, "splits", lambda *_: [found, found])
    with pytest.raises(SchemaDrift, match='split_to is "four": expected `float | null`, got `str`, and 2 of 2 rows'):
        hook.fetch(ask(["IBM"]))
    assert len(server.calls) == 1


# plan, and tickers


def test_the_endpoint_takes_many_symbols(hook):
    (endpoint,) = hook.capabilities("corporate-actions").endpoints
    assert (endpoint.name, endpoint.shape) == ("reference", Shape.MULTI)


@pytest.mark.parametrize("plan", PolygonHook.plans)
def test_only_the_free_plan_lacks_old_actions(plan):
    hook = PolygonHook(config=ProviderConfig("polygon_default", "https://x.example", password=KEY, extra={"plan": plan}))
    assert (hook.capabilities("corporate-actions").history_start is None) == (plan != "basic")
    assert (hook.capabilities("ohlcv-1d").history_start is None) == (plan == "sample")


def test_a_day_of_523_symbols_is_two_calls(server, hook):
    sessions = (date(2019, 1, 7),)
    symbols = sorted(server.market.symbols)[:523]
    plan = make_plan(
        "corporate-actions", dict.fromkeys(symbols, 1), sessions, hook.capabilities("corporate-actions"), batch_size=1000
    )
    for batch in plan.batches:
        for request in batch.requests(sessions):
            hook.fetch(request)
    assert plan.calls == len(server.calls) == 2


def test_tickers_of_a_day_are_paged_through(server, hook, small_pages):
    table = hook.tickers(date(2019, 1, 7))
    assert table.schema == TICKERS
    assert table["ticker"].to_pylist() == sorted(server.market.symbols)
    assert len(server.calls) == -(-len(table) // 100) > 5
    assert "active=true&" in server.calls[0].target
    assert "date=2019-01-07" in server.calls[0].target
    assert table.slice(0, 1).to_pylist()[0].keys() == {"ticker", "name", "type", "active", "primary_exchange", "cik", "delisted"}


def test_delisted_tickers_are_requested_and_have_their_date(server, hook, monkeypatch):
    gone = {"ticker": "TWTR", "active": False, "type": "CS", "cik": "0001418091", "delisted_utc": "2022-11-08T00:00:00Z"}
    monkeypatch.setattr(
        Polygon, "tickers", lambda vendor, request, _: vendor._references(request, [gone], "ticker", order="asc", limit=9)
    )
    (row,) = hook.tickers(date(2023, 1, 9), active=False).to_pylist()
    wanted = {"name": None, "primary_exchange": None, "delisted": date(2022, 11, 8), **gone}
    assert row == {name: wanted[name] for name in TICKERS.names}
    assert "active=false&" in server.calls[0].target


@pytest.mark.parametrize(
    ("kind", "error"), [("page_loop", ServerError), ("truncated", TruncatedResponse), ("forbidden", EntitlementError)]
)
def test_tickers_come_whole_or_not_at_all(server, hook, small_pages, kind, error):
    server.fault(kind, match=LATER if kind != "page_loop" else None, times=None)
    with pytest.raises(error, match="polygon: tickers 2019-01-07: "):
        hook.tickers(date(2019, 1, 7))
