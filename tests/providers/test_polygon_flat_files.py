"""Polygon's flat files on a real S3 server: the provider contract for day and minute files, and what is a file's own."""

import gzip
import json
import re
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import pytest

from market_data.airflow.connections import provider_config
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
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.intervals import closed
from market_data.core.retry_policy import RetryPolicy
from market_data.pipeline.planner import make_plan
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.vendors import flat_files
from tests.contract.provider import KEY, TURNS, WEEK, YEAR, ProviderContract, rows
from tests.providers.s3_files import CONN_ID, SECRET, S3Files
from tests.providers.sample_setup import AAPL_ROW, FAST, rows_held
from tests.providers.test_polygon_minutes import held as held_minutes

SYMBOLS = ("BRK.B", "SPY", "NA", "BAC.PRK", "AIIA.RT")
SESSIONS = (YEAR[0], *calendar.sessions(WEEK[0], WEEK[1] + timedelta(days=1)), *TURNS)
VARIABLE = f"AIRFLOW_CONN_{CONN_ID.upper()}"
DAY = WEEK[0]


class Quick(PolygonHook):
    """Without pauses between tries."""

    @property
    def flat_files(self):
        files = super().flat_files
        files.transport.sleep = lambda seconds: None
        return files


class Servers:
    """The API, and the S3 server with files of what the API has."""

    def __init__(self, api, s3):
        self.api, self.s3, self.market = api, s3, api.market

    @property
    def calls(self):
        return [*self.api.calls, *self.s3.reads]

    def forget(self):
        self.api.forget()
        self.s3.forget()


@pytest.fixture(scope="module")
def servers():
    with (
        pytest.MonkeyPatch.context() as patch,
        SampleApi(api_key=KEY, symbols=SYMBOLS) as api,
        S3Files.running() as s3,
    ):
        flat_files.write(s3.client, api.market, SESSIONS)
        patch.setenv(VARIABLE, s3.connection())
        yield Servers(api, s3)


def make_hook(server, *, extra=None, options=None, **_):
    extra = {**FAST, "flat_files_conn_id": CONN_ID, **(extra or {})}
    config = ProviderConfig("polygon_default", server.api.url, password=KEY, extra=extra)
    return Quick(config, options=options, connections=provider_config)


class FlatFiles(ProviderContract):
    provider = "polygon"

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, servers):
        return servers

    def make_hook(self, server, **config):
        return make_hook(server, **config)


class TestPolygonDayFiles(FlatFiles):
    endpoints: ClassVar = {"grouped": Shape.MARKET, "range": Shape.SYMBOL, "flatfile": Shape.MARKET}
    anchor: ClassVar = AAPL_ROW
    symbols = ("IBM", "AAPL", "MSFT")  # recorded: the API has no VWAP of theirs either

    def held(self, server, symbols, intervals):
        return rows_held(server, symbols, intervals)


class TestPolygonMinuteFiles(FlatFiles):
    dataset = "ohlcv-1m"
    endpoints: ClassVar = {"flatfile": Shape.MARKET}
    anchor: ClassVar = {
        "symbol": "AAPL",
        "bar_time": datetime(2013, 1, 7, 14, 30, tzinfo=UTC),
        "session": date(2013, 1, 7),
        "adj_close": None,
        "trade_count": 913,
        "open": 522.0,
        "high": 522.41,
        "low": 521.55,
        "close": 521.65,
        "volume": 109441.0,
        "vwap": None,
    }

    @pytest.fixture(autouse=True)
    def _without_range(self, monkeypatch):
        # Its minutes have a VWAP, so they are compared without it below.
        kept = PolygonHook._endpoints
        monkeypatch.setattr(PolygonHook, "_endpoints", lambda hook, name: tuple(e for e in kept(hook, name) if e.name != "range"))

    def held(self, server, symbols, intervals):
        return [{**row, "vwap": None} for row in held_minutes(server.market, symbols, intervals, 1)]


@pytest.mark.parametrize("name", ["ohlcv-1d", "ohlcv-1m"])
@pytest.mark.parametrize("symbols", [("BAC.PRK", "AIIA.RT", "SPY"), ("BACpK", "AIIAr", "SPY"), ("BAC-PK", "AIIA^", "SPY")])
def test_rows_of_a_file_come_back_under_the_requested_symbols(servers, name, symbols):
    with make_hook(servers) as hook:
        fetched = hook.fetch(Request(name, "flatfile", symbols, (closed(DAY, DAY),)))
    assert set(fetched.table["symbol"].to_pylist()) == set(symbols)
    assert not fetched.refused


# a file's own


@pytest.fixture
def server(servers):
    servers.forget()
    return servers


@pytest.fixture
def s3(server):
    return server.s3


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        yield hook


@pytest.fixture
def file(server):
    """The lines of a day file that a test may spoil; it is put right after the test."""
    bars = sorted(server.market.session(DAY))
    whole = flat_files.packed(flat_files.day_rows(bars))
    yield gzip.decompress(whole).decode()
    server.s3.put(flat_files.key("day", DAY), whole)


def ask(symbols=("SPY", "IBM"), day=DAY, dataset="ohlcv-1d"):
    return Request(dataset, "flatfile", tuple(symbols), (closed(day, day),))


def put(s3, text):
    s3.put(flat_files.key("day", DAY), gzip.compress(text.encode()))


def test_a_byte_order_mark_inside_the_compressed_file_changes_nothing(server, hook, file):
    held = rows(hook.fetch(ask(SYMBOLS[:2])).table)
    put(server.s3, f"\ufeff{file}")
    assert rows(hook.fetch(ask(SYMBOLS[:2])).table) == held


def test_a_file_is_one_call_whatever_is_requested_from_it(server, hook):
    fetched = hook.fetch(ask(SYMBOLS[:2], dataset="ohlcv-1m"))
    assert server.calls == [f"/flatfiles/{flat_files.key('minute', DAY)}"]
    evidence = fetched.evidence
    assert (evidence.calls, evidence.retries, evidence.pages, evidence.rows_declared) == (1, 0, 1, None)
    assert evidence.rows_received > 10_000 > len(fetched.table) > 700
    assert evidence.source == "generated"
    assert hook.counters.bytes == evidence.bytes > 10_000


def test_minutes_are_those_of_the_range_endpoint(hook):
    file, range_ = (
        hook.fetch(Request("ohlcv-1m", endpoint, ("SPY",), (closed(DAY, DAY),))).table for endpoint in ("flatfile", "range")
    )
    assert file.drop_columns("vwap") == range_.drop_columns("vwap")


def test_a_symbol_that_looks_like_a_missing_value_is_a_symbol(hook):
    assert hook.fetch(ask(["NA"])).table["symbol"].to_pylist() == ["NA"]


def test_columns_are_found_by_name_and_others_left_aside(s3, hook, file):
    usual = hook.fetch(ask()).table
    lines = [line.split(",") for line in file.splitlines()]
    put(s3, "".join(",".join([str(n), *reversed(line)]) + "\r\n" for n, line in enumerate(lines)))
    assert hook.fetch(ask()).table == usual


def test_volumes_may_be_fractional_and_values_absent(s3, hook):
    stamp = int(calendar.at(DAY, datetime.min.time()).timestamp()) * 10**9
    put(s3, f"{','.join(flat_files.NAMES)}\nSPY,1234.567891,1,2,3,0.5,{stamp},7\nIBM,1.5e+08,,2,3,0.5,{stamp},\n")
    found = rows(hook.fetch(ask()).table)
    assert [(row["symbol"], row["volume"], row["open"], row["close"], row["trade_count"]) for row in found] == [
        ("IBM", 150_000_000.0, None, 2.0, None),
        ("SPY", 1234.567891, 1.0, 2.0, 7),
    ]


@pytest.mark.parametrize("block", [64, 1000, 4096])
def test_blocks_may_end_anywhere(hook, monkeypatch, block):
    whole = hook.fetch(ask())
    monkeypatch.setattr("market_data.providers.polygon.flat_files.BLOCK", block)
    again = hook.fetch(ask())
    assert again.table.equals(whole.table)
    assert again.evidence.rows_received == whole.evidence.rows_received


# files that are not whole, or not those

CUTS = [(share, kind) for share in (0.5, 0.9, 0.999) for kind in ("object", "transfer")]


@pytest.mark.parametrize(("share", "kind"), CUTS)
def test_a_cut_file_is_an_error_and_no_row_comes(s3, hook, file, share, kind):
    if kind == "object":  # the length fits, the gzip stream ends early
        body = gzip.compress(file.encode())
        s3.put(flat_files.key("day", DAY), body[: int(len(body) * share)])
    else:
        s3.fault(200, share=share, times=None)
    with pytest.raises(TruncatedResponse, match="polygon: flatfile 2 symbols 2013-01-07: ") as caught:
        hook.fetch(ask())
    assert SECRET not in str(vars(caught.value))
    assert len(s3.reads) == hook.counters.calls == 5


def test_a_file_stored_with_a_content_encoding_is_unpacked_once(s3, hook, file):
    usual = hook.fetch(ask())
    s3.put(flat_files.key("day", DAY), gzip.compress(file.encode()), ContentEncoding="gzip")
    found = hook.fetch(ask())
    assert found.table == usual.table
    assert found.evidence.bytes > usual.evidence.bytes  # the transport has unpacked it


@pytest.mark.parametrize("cut", [-1, -20, -8])
def test_a_last_line_that_ends_early_is_an_error(s3, hook, file, cut):
    put(s3, file[:cut])
    with pytest.raises(TruncatedResponse, match="the file ends early"):
        hook.fetch(ask())


def test_a_damaged_file_is_an_error(s3, hook, file):
    body = bytearray(gzip.compress(file.encode()))
    body[-6] ^= 0xFF  # of the checksum
    s3.put(flat_files.key("day", DAY), bytes(body))
    with pytest.raises(ServerError, match="not a whole gzip file"):
        hook.fetch(ask())


@pytest.mark.parametrize("body", [b"", b"<html>Just a moment...</html>"])
def test_what_is_no_file_is_an_error(s3, hook, file, body):
    s3.put(flat_files.key("day", DAY), body)
    with pytest.raises(ServerError, match=f"{len(body)} bytes came that are not a whole gzip file"):
        hook.fetch(ask())


def test_a_file_without_a_row_is_an_error(s3, hook, file):
    put(s3, file.splitlines()[0] + "\n")
    with pytest.raises(ServerError, match="has no row"):
        hook.fetch(ask())


def test_the_file_of_another_session_is_an_error(s3, hook, file):
    body = s3.client.get_object(Bucket="flatfiles", Key=flat_files.key("day", WEEK[1]))["Body"].read()
    s3.put(flat_files.key("day", DAY), body)
    with pytest.raises(ServerError, match="rows of 2013-01-11 05:00 UTC came"):
        hook.fetch(ask())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace("window_start", "start", 1), "column window_start is missing; columns are ticker, volume"),
        (lambda text: text.replace("\n", "\nmany", 1).replace("high", "high,high", 1), "a column is there twice"),
        (lambda text: re.sub(",([0-9.]+),", r",many\1,", text), "conversion error"),
        (lambda text: re.sub("(\n[A-Z.a-z]+),", r"\1,1,", text), "Expected 8 columns, got 9"),
    ],
)
def test_a_file_of_another_form_is_drift_after_one_call(s3, hook, file, change, text):
    put(s3, change(file))
    with pytest.raises(SchemaDrift, match=f"polygon: flatfile 2 symbols 2013-01-07: the file is not of the known form: .*{text}"):
        hook.fetch(ask())
    assert len(s3.reads) == 1


# rows that are odd or of something else

ODD = [
    (lambda line: line.replace("SPY,", "SPY,many", 1), "volume is many"),
    (lambda line: line.replace("SPY,", "SPY,1,", 1), "the line has 9 fields, not 8: 'SPY,1,"),
    (lambda line: line.rpartition(",")[0], "the line has 7 fields, not 8: 'SPY,"),
    (lambda line: f"{line.rpartition(',')[0]},1.5", "transactions is 1.5"),
    (lambda line: f"{line.rpartition(',')[0]},{2**63}", f"transactions is {2**63}"),
]


def changed(file, symbol, change):
    lines = file.splitlines()
    return "\n".join(change(line) if line.startswith(f"{symbol},") else line for line in lines) + "\n"


@pytest.mark.parametrize(("change", "reason"), ODD)
def test_an_odd_row_is_quarantined_and_the_others_are_kept(s3, hook, file, change, reason):
    put(s3, changed(file, "SPY", change))
    fetched = hook.fetch(ask())
    assert fetched.table["symbol"].to_pylist() == ["IBM"]
    (odd,) = fetched.odd.to_pylist()
    assert (odd["symbol"], odd["session"]) == ("SPY", DAY)
    assert reason in odd["reasons"]
    assert not fetched.unproved
    assert len(s3.reads) == 1


def test_an_odd_row_of_a_symbol_that_was_not_requested_does_not_matter(s3, hook, file):
    put(s3, changed(file, "AAPL", lambda line: "AAPL,many"))
    fetched = hook.fetch(ask())
    assert len(fetched.table) == 2
    assert fetched.odd is None


@pytest.mark.parametrize("symbol", ["S\xffY", ""])
def test_a_row_whose_symbol_cannot_be_read_may_be_that_of_a_symbol_without_one(s3, hook, file, symbol):
    body = changed(file, "SPY", lambda line: symbol + line.removeprefix("SPY")).encode("latin-1")
    s3.put(flat_files.key("day", DAY), gzip.compress(body))
    fetched = hook.fetch(ask())
    assert fetched.table["symbol"].to_pylist() == ["IBM"]
    assert fetched.odd["reasons"].to_pylist()[0].startswith("ticker is ")
    assert fetched.unproved == {"SPY": "a row came whose symbol cannot be read"}
    assert len(s3.reads) == 2


@pytest.mark.parametrize(("symbol", "unproved", "calls"), [("AAPL", set(), 1), ("SPY", {"SPY"}, 2)])
def test_a_row_of_another_day_is_left_aside_and_counted(s3, hook, file, symbol, unproved, calls):
    later = int(calendar.at(WEEK[1], datetime.min.time()).timestamp()) * 10**9
    put(s3, changed(file, symbol, lambda line: re.sub(r",\d{19},", f",{later},", line)))
    fetched = hook.fetch(ask())
    assert fetched.table["symbol"].to_pylist() == ["IBM", "SPY"][: 2 - len(unproved)]
    assert fetched.evidence.rows_left_aside == 1
    assert fetched.warnings == ("1 row that was not requested came and is left aside: 2013-01-11 05:00 UTC",)
    assert set(fetched.unproved) == unproved
    assert len(s3.reads) == calls


def test_a_byte_order_mark_is_read(s3, hook, file):
    usual = hook.fetch(ask()).table
    put(s3, f"\ufeff{file}")
    assert hook.fetch(ask()).table == usual


@pytest.mark.parametrize("line", ["0", "A,1\n", "A,1,1,1,1,1,1357534800000000000,x\n"])
def test_a_small_file_does_not_fill_the_memory(s3, hook, file, line):
    head = ",".join(flat_files.NAMES) + "\n"
    s3.put(flat_files.key("day", DAY), gzip.compress((head + line * (200_000_000 // len(line))).encode(), 9))
    tracemalloc.start()
    try:
        with pytest.raises((ServerError, SchemaDrift)):
            hook.fetch(ask())
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


# refusals


@pytest.mark.parametrize(
    ("status", "code", "error", "calls", "text"),
    [
        (403, "InvalidAccessKeyId", AuthError, 1, f"login and password of connection '{CONN_ID}' are the S3 key"),
        (403, "SignatureDoesNotMatch", AuthError, 1, f"login and password of connection '{CONN_ID}' are the S3 key"),
        (403, "AccessDenied", EntitlementError, 1, "AccessDenied"),
        (403, "", EntitlementError, 1, "HTTP status 403"),
        (404, "NoSuchBucket", BadRequest, 1, "the bucket is 'flatfiles'"),
        (400, "InvalidRequest", BadRequest, 1, "about InvalidRequest"),
        (500, "InternalError", ServerError, 2, "InternalError"),
        (503, "SlowDown", Throttled, 2, "SlowDown"),
        (429, "", Throttled, 2, "HTTP status 429"),
    ],
)
def test_a_refusal_is_typed(s3, hook, status, code, error, calls, text):
    s3.fault(status, code, times=None)
    hook.flat_files.transport.retry = RetryPolicy(attempts=2)
    with pytest.raises(error, match=text) as caught:
        hook.fetch(ask())
    assert type(caught.value) is error
    assert str(caught.value).startswith("polygon: flatfile 2 symbols 2013-01-07: ")
    assert len(s3.reads) == hook.counters.calls == calls


def test_a_passing_fault_costs_a_call_and_no_row(s3, hook):
    whole = hook.fetch(ask()).table
    for fault in ((500, "InternalError"), (503, "SlowDown")):
        s3.fault(*fault)
    s3.fault(200, share=0.5)
    fetched = hook.fetch(ask())
    assert fetched.table == whole
    assert (fetched.evidence.calls, fetched.evidence.retries) == (4, 3)


def test_keys_are_checked_by_their_signature(s3, server, hook, monkeypatch):
    with s3.checking_keys() as (key_id, secret):
        monkeypatch.setenv(VARIABLE, s3.connection(key_id=key_id, secret=secret))
        reported = f"{server.api.url} responded with status OK; {s3.endpoint} listed the flat files"
        assert make_hook(server).test_connection() == (True, reported)
        with make_hook(server) as good:
            assert len(good.fetch(ask()).table) == 2
        for wrong in ({"key_id": key_id, "secret": "another-secret"}, {"key_id": "AKIDOTHER", "secret": secret}):
            monkeypatch.setenv(VARIABLE, s3.connection(**wrong))
            with make_hook(server) as bad, pytest.raises(AuthError, match=f"connection '{CONN_ID}'"):
                bad.fetch(ask())
            works, message = make_hook(server).test_connection()
            assert not works
            assert "put a valid key into the connection" in message
            assert secret not in message


def test_a_server_that_is_not_there_is_a_network_error(server, monkeypatch, s3):
    monkeypatch.setenv(VARIABLE, s3.connection(endpoint="http://127.0.0.1:9"))
    with make_hook(server) as hook, pytest.raises(NetworkError, match="127.0.0.1:9"):
        hook.fetch(ask())


def test_the_secret_is_in_no_representation(hook):
    hook.fetch(ask())
    shown = [hook, hook.flat_files, hook.flat_files.transport, hook.flat_files.config]
    assert not any(SECRET in text for thing in shown for text in (repr(thing), str(thing)))


# files that are not there


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (datetime(2013, 1, 15, 3, tzinfo=UTC), datetime(2013, 1, 16, 16, tzinfo=UTC)),  # in the night after the session
        (datetime(2013, 1, 16, 10, tzinfo=UTC), datetime(2013, 1, 17, 16, tzinfo=UTC)),
        (datetime(2013, 1, 22, 15, tzinfo=UTC), datetime(2013, 1, 23, 16, tzinfo=UTC)),
    ],
)
def test_a_young_file_may_still_come(hook, s3, now, until):
    hook.now = lambda: now
    with pytest.raises(NotYetAvailable) as caught:
        hook.fetch(ask(day=date(2013, 1, 15)))
    assert caught.value.until == until
    assert len(s3.reads) == 1


def test_an_old_session_without_a_file_is_an_error_not_an_empty_session(hook, s3):
    hook.now = lambda: datetime(2013, 1, 24, tzinfo=UTC)
    with pytest.raises(ServerError, match="was due at 2013-01-16 16:00 UTC; the endpoint range may have it"):
        hook.fetch(ask(day=date(2013, 1, 15)))
    assert len(s3.reads) == 1


def test_a_young_file_that_is_refused_may_still_come(hook, s3):
    hook.now = lambda: datetime(2013, 1, 8, 10, tzinfo=UTC)
    s3.fault(403, "AccessDenied")
    with pytest.raises(NotYetAvailable):
        hook.fetch(ask())


# settings


def test_files_are_no_endpoint_without_a_connection_nor_of_adjusted_prices(server):
    def names(hook, dataset="ohlcv-1d"):
        return [endpoint.name for endpoint in hook.capabilities(dataset).endpoints]

    assert names(make_hook(server)) == ["grouped", "range", "flatfile"]
    assert names(make_hook(server), "ohlcv-1m") == ["flatfile", "range"]
    assert names(make_hook(server), "ohlcv-5m") == ["range"]
    assert names(make_hook(server, options={"adjustment": "split"})) == ["grouped", "range"]
    assert names(make_hook(server, extra={"flat_files_conn_id": ""})) == ["grouped", "range"]


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"flat_files_conn_id": 5}, "extra.flat_files_conn_id is 5; the name of an Airflow connection is needed"),
        ({"flat_files_bucket": ""}, "extra.flat_files_bucket is ''; the name of an S3 bucket is needed"),
        ({"flat_files_conn_id": "nowhere"}, "connection 'nowhere' cannot be read"),
    ],
)
def test_wrong_settings_are_named(server, extra, text):
    with pytest.raises(ConfigError, match=text):
        make_hook(server, extra=extra).validate_config()
    assert not server.calls


def test_a_bucket_without_a_connection_is_named(server):
    config = ProviderConfig("polygon_default", server.api.url, password=KEY, extra={"flat_files_bucket": "b"})
    with pytest.raises(ConfigError, match="flat_files_bucket is set without flat_files_conn_id"):
        PolygonHook(config=config).validate_config()


def test_what_is_wrong_with_the_s3_connection_is_named_at_once(server, monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "aws", "extra": {"endpoint_url": "files.massive.com"}}))
    with pytest.raises(ConfigError) as caught:
        make_hook(server).validate_config()
    for text in ("login is empty", "password is empty", "extra.endpoint_url is 'files.massive.com'; a full URL is needed"):
        assert f"connection '{CONN_ID}': {text}" in str(caught.value)


def test_another_bucket_is_read(server, s3):
    s3.client.create_bucket(Bucket="flatfiles-copy")
    flat_files.write(s3.client, server.market, [DAY], ("day",), "flatfiles-copy")
    with make_hook(server, extra={"flat_files_bucket": "flatfiles-copy"}) as hook:
        assert len(hook.fetch(ask()).table) == 2
    assert s3.reads == [f"/flatfiles-copy/{flat_files.key('day', DAY)}"]


# plans


def test_minutes_of_many_symbols_take_a_file_a_session(server, hook, s3):
    sessions = calendar.sessions(WEEK[0], WEEK[1] + timedelta(days=1))
    symbols = sorted(symbol for symbol in server.market.symbols if symbol not in SYMBOLS)
    missing = dict.fromkeys(symbols, (1 << len(sessions)) - 1)
    plan = make_plan("ohlcv-1m", missing, sessions, hook.capabilities("ohlcv-1m"))
    assert {batch.endpoint for batch in plan.batches} == {"flatfile"}
    for batch in plan.batches:
        for request in batch.requests(sessions):
            hook.fetch(request)
    assert plan.calls == len(server.calls) == len(s3.reads) == len(sessions) == 5


def test_a_session_too_recent_for_a_file_is_requested_from_the_range_endpoint(hook):
    sessions = calendar.sessions(date(2013, 1, 7), date(2013, 1, 19))
    missing = {f"S{n}": (1 << len(sessions)) - 1 for n in range(50)}
    now = datetime(2013, 1, 19, 12, tzinfo=UTC)
    plan = make_plan("ohlcv-1m", missing, sessions, hook.capabilities("ohlcv-1m"), now=now)
    requested = {batch.endpoint: batch.intervals for batch in plan.batches}
    assert requested["flatfile"][-1].last == date(2013, 1, 17)
    assert requested["range"] == (closed(date(2013, 1, 18), date(2013, 1, 18)),)
