"""What the Databento hook makes of DBN: every dataset and symbology, sessions, ordinals, blanks, memory."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import databento
import databento_dbn as dbn
import numpy as np
import pyarrow as pa
import pytest
from databento.common.error import BentoWarning
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.intervals import closed
from market_data.datasets import generated
from market_data.datasets.registry import dataset
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.errors import WrongResponse
from market_data.providers.databento.hook import DatabentoHook
from market_data.providers.databento.parse import Days, Symbols, numbered, ordinals, read
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.vendors import databento_records as dialect
from sandbox.vendors.databento_instruments import Piece, number
from sandbox.vendors.databento_query import Query

PROJECT = Path(__file__).parents[2]
KEY = "a-key"
EXTRA = {"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.05}]}
WEEK = (date(2013, 1, 7), date(2013, 1, 11))
ROLL = (date(2024, 3, 4), date(2024, 3, 22))  # ES turns from March to June on the 8th (n, v), or after the 15th (c)


@pytest.fixture(scope="module")
def server():
    with SampleApi(vendor="databento", api_key=KEY) as api:
        yield api


@pytest.fixture(autouse=True)
def _forget(server):
    server.forget()


def hook_of(server, **options):
    return DatabentoHook(config=ProviderConfig("databento_default", server.url, password=f"db-{KEY}", extra=EXTRA), options=options)


def fetch(server, name, *symbols, days=WEEK, **options):
    with hook_of(server, **options) as hook:
        fetched = hook.fetch(Request(name, "range", symbols, (closed(*days),)))
    assert fetched.table.schema == dataset(name).received
    return fetched.table


def nanos(table, column):
    return table[column].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy()


# -- datasets ------------------------------------------------------------------------------------------------------------------------


def held(server, symbols, days=WEEK):
    """The daily bars, and the symbol of each."""
    return [bar for symbol in symbols for bar in server.market.range(symbol, days[0], days[1] + timedelta(days=1))]


def by_symbol(table):
    return table.sort_by([("symbol", "ascending")])  # which keeps the order of equals


def test_minutes_are_those_held(server):
    bars = held(server, ["IBM", "SPY"])
    wanted = server.market.minutes(bars)
    found = by_symbol(fetch(server, "ohlcv-1m", "SPY", "IBM"))
    assert found["symbol"].to_pylist() == [bars[cell].symbol for cell in wanted.cell]
    assert found["session"].to_pylist() == [bars[cell].session for cell in wanted.cell]
    assert nanos(found, "bar_time").tolist() == wanted.time.tolist()
    for name in ("open", "high", "low", "close", "volume"):
        assert found[name].to_pylist() == getattr(wanted, name).tolist()
    assert found["vwap"].null_count == found["trade_count"].null_count == found["adj_close"].null_count == len(found) > 3500


@pytest.mark.parametrize("name", ["trades", "tbbo"])
def test_trades_are_those_held(server, name):
    bars = held(server, ["IBM", "SPY"])
    wanted = server.market.trades(bars)
    found = by_symbol(fetch(server, name, "SPY", "IBM"))
    assert found["symbol"].to_pylist() == [bars[cell].symbol for cell in wanted.cell]
    assert found["session"].to_pylist() == [bars[cell].session for cell in wanted.cell]
    assert nanos(found, "ts_event").tolist() == wanted.time.tolist()
    names = ["sequence", "price", "size", "side"]
    names += ["bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct"] if name == "tbbo" else []
    for column in names:
        assert found[column].to_pylist() == getattr(wanted, column).tolist()
    assert found["venue"].unique().to_pylist() == ["95"]
    assert found["conditions"].null_count == len(found)
    keys = set(
        zip(*(found[key].to_pylist() for key in dataset(name).key if key != "ts_event"), nanos(found, "ts_event"), strict=True)
    )
    assert len(keys) == len(found)
    assert set(found["ordinal"].to_pylist()) == {0, 1}  # fills of one order


def test_statistics_are_those_held(server):
    bars = held(server, ["IBM"])
    wanted = server.market.statistics(bars)
    found = fetch(server, "statistics", "IBM")
    assert found["stat_type"].to_pylist() == [generated.STATISTICS[kind] for kind in wanted.kind]
    assert nanos(found, "ts_event").tolist() == wanted.time.tolist()
    for name in ("price", "quantity"):
        assert found[name].to_pylist() == [None if np.isnan(value) else value for value in getattr(wanted, name)]
    assert found["ts_ref"][0].as_py() is None
    assert found["ts_ref"][1].as_py() == datetime(2013, 1, 7, tzinfo=UTC)
    assert found["update_action"].unique().to_pylist() == ["new"]


def test_a_price_that_is_none_is_null(server):
    server.alter("IBM", date(2013, 1, 8), open=None)
    table = fetch(server, "ohlcv-1d", "IBM")
    assert [price is None for price in table["open"].to_pylist()] == [False, True, False, False, False]
    assert table["close"].null_count == 0


def test_a_session_without_a_trade_has_no_bar(server):
    server.alter("IBM", date(2013, 1, 8), volume=0)
    assert date(2013, 1, 8) not in fetch(server, "ohlcv-1d", "IBM")["session"].to_pylist()


def test_closes_are_polygons_to_a_cent(server):
    config = ProviderConfig("polygon_default", f"{server.url}/polygon", password=KEY, extra=EXTRA)
    symbols = ("AAPL", "IBM", "SPY", "BRK.B")
    ours = {(row["symbol"], row["session"]): row["close"] for row in fetch(server, "ohlcv-1d", *symbols).to_pylist()}
    with PolygonHook(config=config) as hook:
        theirs = [
            row
            for symbol in symbols
            for row in hook.fetch(Request("ohlcv-1d", "range", (symbol,), (closed(*WEEK),))).table.to_pylist()
        ]
    assert len(theirs) == len(ours) == 20
    assert all(abs(ours[row["symbol"], row["session"]] - row["close"]) < 0.01 for row in theirs)


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("ohlcv-1d", {}, "EQUS.SUMMARY"),
        ("statistics", {}, "EQUS.SUMMARY"),
        ("ohlcv-1m", {}, "EQUS.MINI"),
        ("trades", {"dataset": "XNAS.ITCH"}, "XNAS.ITCH"),
        ("ohlcv-1d", {"stype_in": "continuous"}, "GLBX.MDP3"),
    ],
)
def test_auto_is_the_dataset_that_has_it(server, name, options, wanted):
    with hook_of(server, **options) as hook:
        hook.fetch(Request(name, "range", ("ES.c.0" if "stype_in" in options else "IBM",), (closed(*WEEK),)))
    assert all(f"dataset={wanted}&" in f"{call.target}&" for call in server.calls)
    assert len(server.calls) == 2


# -- symbologies ---------------------------------------------------------------------------------------------------------------------


def contracts(server, table):
    """The contract that each session's close is of."""
    market = server.vendors["databento"]._instruments["GLBX.MDP3"].market
    known = {(bar.session, bar.close): name for name in ("ESH2024", "ESM2024", "ESU2024") for bar in market.range(name, *ROLL)}
    return [known.get((row["session"], row["close"])) for row in table.to_pylist()]


@pytest.mark.parametrize(("symbol", "march"), [("ES.c.0", 10), ("ES.v.0", 4), ("ES.n.0", 4), ("ES.c.1", 0)])
def test_a_continuous_symbol_is_another_contract_after_the_roll(server, symbol, march):
    table = fetch(server, "ohlcv-1d", symbol, days=(ROLL[0], date(2024, 3, 21)), stype_in="continuous")
    assert set(table["symbol"].to_pylist()) == {symbol}
    found = contracts(server, table)
    assert found.count("ESH2024") == march
    assert None not in found
    assert len(found) == 14


def test_two_symbols_for_one_contract_have_its_rows_each(server):
    alone = [fetch(server, "ohlcv-1m", symbol, days=ROLL, stype_in="continuous") for symbol in ("ES.c.0", "ES.v.0")]
    both = fetch(server, "ohlcv-1m", "ES.c.0", "ES.v.0", days=ROLL, stype_in="continuous")
    for symbol, one in zip(("ES.c.0", "ES.v.0"), alone, strict=True):
        rows = [row for row in both.to_pylist() if row["symbol"] == symbol]
        assert sorted(rows, key=lambda row: row["bar_time"]) == one.to_pylist()


def test_instruments_go_by_their_numbers(server):
    requested = str(number("IBM"))
    table = fetch(server, "ohlcv-1d", requested, stype_in="instrument_id")
    assert table.drop("symbol").equals(fetch(server, "ohlcv-1d", "IBM").drop("symbol"))
    assert table["symbol"].unique().to_pylist() == [requested]


def test_records_of_other_days_are_no_response(server):
    """A number stands for itself on any day."""
    server.fault("out_of_range", match="get_range", times=None)
    with hook_of(server, stype_in="instrument_id") as hook:
        hook._transport.sleep = lambda seconds: None
        with pytest.raises(WrongResponse, match="records of 2023-12-21T00:00:00 UTC came"):
            hook.fetch(Request("ohlcv-1d", "range", (str(number("IBM")),), (closed(WEEK[0], WEEK[0]),)))


def test_a_record_of_another_day_is_left_aside_and_counted(server):
    server.fault("out_of_range", match="get_range", times=None)
    with hook_of(server, stype_in="instrument_id") as hook:
        fetched = hook.fetch(Request("ohlcv-1d", "range", (str(number("IBM")),), (closed(*WEEK),)))
    assert (len(fetched.table), fetched.evidence.rows_received, fetched.evidence.rows_left_aside) == (4, 5, 1)
    assert set(fetched.unproved) == {str(number("IBM"))}


def test_a_parent_is_expanded_to_its_contracts(server):
    with hook_of(server, stype_in="parent") as hook:
        symbols = hook.expand(["ES.FUT", "NOSUCH.FUT", "MESH4"], *ROLL)
        assert symbols == ("ESH4", "ESM4", "ESU4", "ESZ4", "NOSUCH.FUT", "MESH4")
        assert [call.endpoint for call in server.calls] == ["resolve", "resolve"]
        fetched = hook.fetch(Request("ohlcv-1d", "range", symbols, (closed(*ROLL),)))
    assert set(fetched.table["symbol"].to_pylist()) == set(symbols) - {"NOSUCH.FUT"}
    assert fetched.refused == {"NOSUCH.FUT": "it is a parent without instruments on these dates"}


def test_other_symbols_are_not_expanded(server):
    assert hook_of(server).expand(["IBM", "ES.FUT"], *ROLL) == ("IBM", "ES.FUT")
    assert server.calls == []


def test_a_symbol_used_twice_is_the_contract_of_its_time(server):
    """ESH4 is of 2014 and of 2024."""
    table = fetch(server, "ohlcv-1d", "ESH4", days=(date(2014, 2, 3), date(2014, 2, 7)), stype_in="parent")
    market = server.vendors["databento"]._instruments["GLBX.MDP3"].market
    assert table["close"].to_pylist() == [bar.close for bar in market.range("ESH2014", date(2014, 2, 3), date(2014, 2, 8))]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=6), st.data())
def test_an_instrument_has_every_symbol_that_stands_for_it(spans, data):
    first = date(2024, 1, 1)
    mappings = {
        f"S{n}": [{"start_date": first + timedelta(days=s), "end_date": first + timedelta(days=s + d), "symbol": str(i)}]
        for n, (i, s, d) in enumerate(spans)
    }
    symbols = Symbols(mappings, {name: name for name in mappings})
    day, instrument = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 3))
    moment = np.array([int(datetime.combine(first + timedelta(days=day), time(13), UTC).timestamp()) * 10**9])
    found = [symbols.names[codes[0]] for codes in symbols.of(np.array([instrument]), moment) if codes[0] >= 0]
    assert sorted(found) == [f"S{n}" for n, (i, s, d) in enumerate(spans) if i == instrument and s <= day < s + d]


# -- sessions ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [(date(2024, 3, 7), date(2024, 3, 13)), (date(2024, 1, 12), date(2024, 1, 17))])
def test_an_evening_of_futures_belongs_to_the_session_after_it(server, days):
    """Over a change of clocks, and over a holiday on Monday the 15th, on which they trade too."""
    table = fetch(server, "ohlcv-1m", "ES.c.0", days=days, stype_in="continuous")
    counts = {row["values"].isoformat(): row["counts"] for row in table["session"].value_counts().to_pylist()}
    assert counts == {str(day): 390 for day in calendar.CMES.sessions(days[0], days[1] + timedelta(days=1))}
    first = table.slice(0, 1).to_pylist()[0]
    assert first["bar_time"].astimezone(calendar.NEW_YORK).date() < first["session"]


HOLIDAYS = ["2024-01-15", "2024-06-19", "2025-01-09", "2026-01-19", "2026-04-03"]
"""On these the stock exchange is closed and futures trade for a part of the day."""


@pytest.mark.parametrize("text", HOLIDAYS)
@pytest.mark.parametrize("name", ["ohlcv-1d", "ohlcv-1m", "trades", "statistics"])
def test_a_holiday_on_which_futures_trade_is_a_session_of_theirs_alone(server, name, text):
    holiday = date.fromisoformat(text)
    days = (calendar.previous_session(holiday), calendar.next_session(holiday))
    found = fetch(server, name, "ES.c.0", days=days, stype_in="continuous")["session"].unique().to_pylist()
    assert found == [days[0], holiday, days[1]]
    assert fetch(server, name, "ES.c.0", days=(holiday, holiday), stype_in="continuous")["session"].unique().to_pylist() == [
        holiday
    ]
    assert fetch(server, name, "SPY", days=days)["session"].unique().to_pylist() == [*days]


def test_a_daily_bar_of_futures_on_a_day_without_a_session_is_left_aside(server):
    """The vendor's are of UTC days: there is one of Sunday the 14th. It is counted, and charged."""
    days = (date(2024, 1, 12), date(2024, 1, 17))
    with hook_of(server, stype_in="continuous") as hook:
        fetched = hook.fetch(Request("ohlcv-1d", "range", ("ES.c.0",), (closed(*days),)))
        alone = hook.fetch(Request("ohlcv-1d", "range", ("ES.c.0",), (closed(days[0] + timedelta(days=1), date(2024, 1, 16)),)))
    assert fetched.table["session"].to_pylist() == [date(2024, 1, day) for day in (12, 15, 16, 17)]
    assert fetched.evidence.rows_received == fetched.evidence.rows_declared == 5
    assert alone.table["session"].to_pylist() == [date(2024, 1, 15), date(2024, 1, 16)]


def test_the_trades_of_a_holiday_begin_on_the_evening_before(server):
    table = fetch(server, "trades", "ES.c.0", days=(date(2024, 1, 15), date(2024, 1, 15)), stype_in="continuous")
    moments = nanos(table, "ts_event").astype("datetime64[ns]").astype("datetime64[s]").tolist()
    evenings = {moment.replace(tzinfo=UTC).astimezone(calendar.NEW_YORK).date() for moment in moments}
    assert evenings == {date(2024, 1, 14), date(2024, 1, 15)}  # Sunday, and the holiday
    assert table["session"].unique().to_pylist() == [date(2024, 1, 15)]


def test_futures_have_nothing_on_days_that_are_not_sessions(server):
    for days in ((date(2024, 1, 13), date(2024, 1, 14)), (date(2025, 4, 18), date(2025, 4, 20))):
        assert len(fetch(server, "trades", "ES.c.0", days=days, stype_in="continuous")) == 0
    assert server.calls == []


def test_requests_for_neighbouring_sessions_share_no_row_and_lose_none(server):
    for name, symbol, options in (("trades", "ES.c.0", {"stype_in": "continuous"}), ("trades", "SPY", {})):
        parts = [
            fetch(server, name, symbol, days=(day, day), **options)
            for day in calendar.CMES.sessions(date(2024, 1, 11), date(2024, 1, 19))
        ]
        whole = fetch(server, name, symbol, days=(date(2024, 1, 11), date(2024, 1, 18)), **options)
        assert pa.concat_tables(parts).equals(whole)


@given(st.dates(date(2010, 1, 1), date(2030, 1, 1)), st.integers(0, 20), st.data())
def test_every_moment_is_in_one_session(first, length, data):
    last = first + timedelta(days=length)
    for name in ("utc", "new_york", "futures"):
        days = getattr(Days, name)(first, last)
        begin, end = (int(moment.timestamp()) for moment in days.span)
        if begin == end:
            assert name == "futures"
            assert calendar.CMES.sessions(first, last + timedelta(days=1)) == ()
            continue
        second = data.draw(st.integers(begin, end - 1))
        (day,) = days.of(np.array([second * 10**9])).tolist()
        local = datetime.fromtimestamp(second, calendar.NEW_YORK)
        if name == "utc":
            assert day == datetime.fromtimestamp(second, UTC).date()
        elif name == "new_york":
            assert day == local.date()
        else:
            trading = local.date() + timedelta(days=local.hour >= 18)
            assert day == calendar.CMES.first_session(trading)


# -- ordinals ------------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_ordinals_count_rows_of_equal_keys_in_the_order_received(keys):
    seen = {}
    wanted = []
    for key in keys:
        wanted.append(seen.get(key, 0))
        seen[key] = wanted[-1] + 1
    columns = np.array(keys, np.int64).reshape(-1, 3).T
    assert ordinals(*columns).tolist() == wanted


def streamed(schema, **columns):
    """A stream of records of one instrument, as a table."""
    start = datetime(2013, 1, 7, tzinfo=UTC)
    query = Query("EQUS.MINI", schema, ("IBM",), "raw_symbol", start, start + timedelta(days=1))
    pieces = {"IBM": [Piece(start.date(), start.date() + timedelta(days=1), "IBM")]}
    records = np.zeros(len(columns["ts_recv"]), dialect.dtype(schema))
    records["instrument_id"] = number("IBM")
    for name, values in columns.items():
        records[name] = values
    store = databento.DBNStore.from_bytes(dialect.metadata(query, pieces) + records.tobytes())
    symbols, days = Symbols(store.metadata.mappings, {"IBM": "IBM"}), Days.new_york(start.date(), start.date())
    return numbered(read(store, schema, symbols, days, (query.start, query.end))[0])


NOON = int(datetime(2013, 1, 7, 17, tzinfo=UTC).timestamp()) * 10**9


def test_ordinals_tell_apart_what_has_one_microsecond_and_one_sequence():
    event = [NOON, NOON + 999, NOON + 1000, NOON + 1001, NOON + 1002, NOON]
    table = streamed("trades", ts_event=event, ts_recv=[NOON + 5000] * 6, sequence=[1, 1, 1, 2, 1, 1])
    assert table["ordinal"].to_pylist() == [0, 1, 0, 0, 1, 2]
    assert nanos(table, "ts_event").tolist() == event


def test_ordinals_count_on_over_chunks(monkeypatch):
    monkeypatch.setattr("market_data.providers.databento.parse.CHUNK", 2)
    table = streamed("trades", ts_event=[NOON] * 5, ts_recv=[NOON] * 5, sequence=7)
    assert table["ordinal"].to_pylist() == [0, 1, 2, 3, 4]


def test_ordinals_count_on_over_streams():
    parts = [streamed("trades", ts_event=[NOON, NOON + 5000], ts_recv=[NOON] * 2, sequence=7) for _ in range(2)]
    assert numbered(pa.concat_tables(parts))["ordinal"].to_pylist() == [0, 0, 1, 1]


@given(st.dates(date(2010, 1, 1), date(2030, 1, 1)), st.integers(0, 20))
def test_a_span_is_cut_between_sessions_as_long_as_it_has_several(first, length):
    days = Days.new_york(first, first + timedelta(days=length))
    spans, found = [days.span], []
    while spans:
        start, end = spans.pop()
        cut = days.cut(start, end)
        assert start < cut < end
        if cut not in days.begins:
            found.append((start, end))
            assert cut - start == pytest.approx((end - start) / 2, abs=timedelta(microseconds=1))
        else:
            spans += [(start, cut), (cut, end)]
    assert sorted(found) == list(zip(days.begins[1:-1], days.begins[2:], strict=True))
    assert days.cut(found[0][0], found[0][0] + timedelta(seconds=1)) is None


def test_what_is_undefined_or_unknown_stays_so():
    table = streamed(
        "statistics",
        ts_event=np.array([dbn.UNDEF_TIMESTAMP, NOON], np.uint64),
        ts_recv=[NOON + 7, NOON + 9],
        stat_type=[9, 4711],
        price=[dbn.UNDEF_PRICE, 1_500_000_000],
        quantity=[3, dbn.UNDEF_STAT_QUANTITY],
        update_action=[2, 77],
    )
    assert nanos(table, "ts_event").tolist() == [NOON + 7, NOON]  # when the vendor got it, at least
    assert table["stat_type"].to_pylist() == ["open_interest", "4711"]
    assert (table["price"].to_pylist(), table["quantity"].to_pylist()) == ([None, 1.5], [3.0, None])
    assert table["update_action"].to_pylist() == ["delete", "77"]


# -- the double itself -----------------------------------------------------------------------------------------------------------------


def test_the_servers_records_are_those_of_the_vendors_encoder(server):
    client = databento.Historical(f"db-{KEY}")
    client.timeseries._base_url = f"{server.url}/v0/timeseries"
    ours = next(iter(client.timeseries.get_range("EQUS.MINI", "2013-01-07", "2013-01-08", ["IBM"], "tbbo")))
    theirs = dbn.MBP1Msg(
        publisher_id=ours.publisher_id,
        instrument_id=number("IBM"),
        ts_event=ours.ts_event,
        price=ours.price,
        size=ours.size,
        action=dbn.Action.TRADE,
        side=ours.side,
        depth=0,
        ts_recv=ours.ts_event + dialect.WAY,
        flags=130,
        sequence=ours.sequence,
        levels=ours.levels[0],
    )
    assert bytes(ours) == bytes(theirs)
    assert ours.rtype == dbn.RType.MBP_1


def test_the_vendors_client_reads_all_that_the_server_says(server):
    client = databento.Historical(f"db-{KEY}")
    for name in ("metadata", "symbology", "timeseries"):
        getattr(client, name)._base_url = f"{server.url}/v0/{name}"
    requested = {
        "dataset": "EQUS.MINI",
        "start": "2013-01-07",
        "end": "2013-01-12",
        "symbols": ["IBM", "NOSUCH"],
        "schema": "trades",
    }
    with pytest.warns(BentoWarning, match="did not resolve: NOSUCH"):
        store = client.timeseries.get_range(**requested)
    assert (store.metadata.not_found, store.schema, store.dataset) == (["NOSUCH"], "trades", "EQUS.MINI")
    count = len(store.to_ndarray())
    assert client.metadata.get_record_count(**requested) == count
    assert client.metadata.get_billable_size(**requested) == 48 * count
    assert client.metadata.get_cost(**requested) == pytest.approx(48 * count * 28 / 2**30)
    assert client.metadata.list_datasets() == ["EQUS.MINI", "EQUS.SUMMARY", "GLBX.MDP3", "XNAS.ITCH"]
    assert client.metadata.get_dataset_range("EQUS.MINI")["start"] == "2000-01-01T00:00:00.000000000Z"
    assert len(client.metadata.get_dataset_condition("EQUS.MINI", "2013-01-07", "2013-01-11")) == 5
    found = client.symbology.resolve("EQUS.MINI", ["IBM", "NOSUCH"], "raw_symbol", "instrument_id", "2013-01-07", "2013-01-12")
    assert found["result"]["IBM"] == [{"d0": "2013-01-07", "d1": "2013-01-12", "s": str(number("IBM"))}]
    assert found["not_found"] == ["NOSUCH"]
    for wrong in (["b$d"], ["NOSUCH"]):
        with pytest.raises(databento.BentoClientError, match="symbology_invalid"):
            client.timeseries.get_range(**{**requested, "symbols": wrong})


# -- memory --------------------------------------------------------------------------------------------------------------------------

CHILD = """
import json, sys
from datetime import date
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.hook import DatabentoHook
from market_data.core.intervals import closed
from market_data.core.batch import Request

url, key, extra, name, symbols, days = json.loads(sys.argv[1])
first, last = map(date.fromisoformat, days)
peak = lambda: next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
with DatabentoHook(config=ProviderConfig("databento_default", url, password=key, extra=extra)) as hook:
    table = hook.fetch(Request(name, "range", tuple(symbols), (closed(first, last),))).table
print(json.dumps([len(table), table.nbytes / 2**20, before, peak()]))
"""


def peak_of(server, name, symbols, days):
    """Rows, MB of the table, and the highest memory of a process before and after it was fetched, MB."""
    requested = json.dumps([server.url, f"db-{KEY}", EXTRA, name, symbols, [str(day) for day in days]])
    command = [sys.executable, "-c", CHILD, requested]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(PROJECT / "plugins")}, timeout=250
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_million_trades_take_little_more_memory_than_their_table(server):
    rows, size, before, after = peak_of(
        server, "trades", ["AAPL", "IBM", "SPY", "QQQ", "DIA"], (date(2013, 1, 2), date(2014, 12, 31))
    )
    assert rows > 1_000_000
    assert after - before < 2.5 * size + 60


@pytest.mark.slow
def test_400_000_minutes_stay_below_300_mb(server):
    rows, _, _, after = peak_of(server, "ohlcv-1m", ["AAPL", "IBM", "SPY", "QQQ"], (date(2013, 1, 2), date(2014, 1, 17)))
    assert rows > 400_000
    assert after < 300
