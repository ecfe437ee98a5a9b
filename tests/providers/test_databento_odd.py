"""Odd records of Databento's streams, and responses beside them that are too large or partly unreadable."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from databento import DBNStore

from market_data.core.errors import MarketDataError, SchemaDrift, ServerError
from market_data.datasets.registry import dataset
from market_data.providers.databento import client
from market_data.providers.databento.conditions import UNREADABLE, read_conditions
from market_data.providers.databento.parse import Days, NotOfTheQuestionError, Strays, Symbols, read
from market_data.quality.gate import gate
from sandbox.http import SampleApi
from sandbox.vendors import databento_records as dialect
from sandbox.vendors.databento_instruments import Piece, number
from sandbox.vendors.databento_query import Query
from tests.contract.provider import KEY
from tests.providers.test_databento import hook_of as make_hook
from tests.providers.test_decoders import DAY, LAST, SESSIONS, request

SCHEMAS = ("ohlcv-1d", "ohlcv-1m", "trades", "tbbo", "statistics")
ONE = {"price": 10**11, "size": 100, "volume": 100, "quantity": 100, "side": b"B", "action": b"T", "sequence": 1, "stat_type": 1}
EARLY, DAY_NANOS = 1357516800 * 10**9, 86_400 * 10**9  # 2013-01-07 00:00 UTC


def stream(name, field=None, value=None):
    """Three records of three days; ``field`` of the second is ``value``."""
    query = Query("EQUS.MINI", name, ("IBM",), "raw_symbol", datetime(2013, 1, 7, tzinfo=UTC), datetime(2013, 1, 12, tzinfo=UTC))
    form = dialect.dtype(name)
    records = np.zeros(3, form)
    records["instrument_id"] = number("IBM")
    for each in form.names:
        if each in ("ts_event", "ts_recv"):
            records[each] = [EARLY + (0 if name == "ohlcv-1d" else 15 * 3600 * 10**9) + n * DAY_NANOS for n in range(3)]
        elif each in ("open", "high", "low", "close") or each.endswith("_px_00"):
            records[each] = 10**11
        elif each in ONE:
            records[each] = ONE[each]
        elif each == "update_action":
            records[each] = 1
    if field:
        records[1][field] = value
    return dialect.metadata(query, {"IBM": [Piece(DAY, date(2013, 1, 12), "IBM")]}) + records.tobytes()


def gated(name, body):
    days = (Days.utc if name == "ohlcv-1d" else Days.new_york)(DAY, LAST)
    store, strays = DBNStore.from_bytes(body), Strays()
    symbols = Symbols(store.metadata.mappings, {"IBM": "IBM"})
    table, _ = client.Client("vendor", "http://x", {}, None, lambda *_: None, key="db-key")._decoded(
        "a request", lambda: read(store, name, symbols, days, days.span, strays)
    )
    return gate(dataset(name), table, request(name, "stream"), SESSIONS), strays.count


def extremes(kind):
    if kind.kind == "S":
        return [b"\xff", b"\x00", b"Z", b"\n"]
    most = np.iinfo(kind).max
    return [np.iinfo(kind).min, most, most - 1, most // 2 + 7, 1]


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_odd_record_spoils_no_other(name):
    good, strays = gated(name, stream(name))
    assert (len(good.good), len(good.bad), strays) == (3, 0, 0)
    form, read_at_all = dialect.dtype(name), 0
    for field in form.names:
        for value in extremes(form[field]) if form[field].kind in "iuS" else ():
            try:
                found, strays = gated(name, stream(name, field, value))
            except (MarketDataError, NotOfTheQuestionError):
                assert field in ("length", "rtype")  # the frame of a record: the stream is damaged
                continue
            read_at_all += 1
            assert len(found.good) + len(found.bad) + strays == 3
            assert {DAY, date(2013, 1, 9)} <= set(found.good["session"].to_pylist())
    assert read_at_all > 30


@pytest.mark.parametrize("name", ["trades", "tbbo"])
def test_a_trade_of_an_impossible_moment_is_quarantined_under_the_session_in_which_it_was_received(name):
    for value in (0, 2**64 - 2, 2**63 + 6):
        found, _ = gated(name, stream(name, "ts_event", value))
        assert found.bad["session"].to_pylist() == [date(2013, 1, 8)]
        assert "outside the trading day" in found.bad["reasons"].to_pylist()[0]


# responses without records


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="databento", api_key=KEY) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    return running


@pytest.mark.parametrize("call", [lambda hook: hook.conditions("ohlcv-1d", DAY, LAST), lambda hook: hook._probe()])
def test_a_response_that_is_too_large_is_not_read(server, monkeypatch, call):
    monkeypatch.setattr(client, "LARGEST_METADATA", 20)
    with make_hook(server) as hook, pytest.raises(ServerError, match="the response is too large: more than 20 bytes of JSON"):
        call(hook)


def test_a_refusal_that_is_too_large_is_not_read(server, monkeypatch):
    monkeypatch.setattr(client, "LARGEST_METADATA", 2000)
    server.fault("forbidden", match="timeseries", times=None, message="x" * 3000)
    with make_hook(server) as hook, pytest.raises(ServerError, match="more than 2,000 bytes of JSON"):
        hook.fetch(request("ohlcv-1d", "range"))


def test_a_stream_that_is_too_large_is_not_kept(server, monkeypatch):
    monkeypatch.setattr(client, "LARGEST_STREAM", 20)
    with make_hook(server) as hook, pytest.raises(ServerError, match="more than 20 bytes of records"):
        hook.fetch(request("ohlcv-1d", "range"))


@pytest.mark.parametrize("text", ["[" * 200_000, "[NaN", '{"a":' * 100_000])
def test_conditions_that_are_not_json_are_typed(server, text):
    server.fault("substituted", match="condition", times=None, pattern=r"(?s)^.*$", text=text)
    with make_hook(server) as hook, pytest.raises(ServerError):
        hook.conditions("ohlcv-1d", DAY, LAST)


GOOD = [{"date": f"2013-01-{day:02}", "condition": "available", "last_modified_date": "2013-02-01"} for day in (7, 8, 9)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"date": "2013-01-10", "condition": 7}, UNREADABLE),
        ({"date": "2013-01-10", "condition": "available", "last_modified_date": "soon"}, UNREADABLE),
        ({"date": "2013-01-10"}, UNREADABLE),
        ({"date": "soon", "condition": "available"}, None),
        (None, None),
        (["2013-01-10", "available"], None),
    ],
)
def test_an_odd_condition_spoils_no_other(row, words, caplog):
    found = read_conditions([*GOOD, row], {"provider": "databento", "request": "the conditions"})
    assert {day: one.words for day, one in found.items() if day < date(2013, 1, 10)} == dict.fromkeys(SESSIONS[:3], "")
    assert (found[date(2013, 1, 10)].words if words else len(found)) == (words or 3)
    assert "the condition of a date cannot be read" in caplog.text


def test_conditions_that_are_mostly_odd_are_another_form():
    with pytest.raises(SchemaDrift, match="condition is not of the known form: it is null, and 2 of 3 rows are like that"):
        read_conditions([GOOD[0], None, None], {"provider": "databento", "request": "the conditions"})
