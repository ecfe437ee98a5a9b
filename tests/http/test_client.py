"""The HTTP session, against real servers: waits, bounds, addresses, words. What it does about faults is in the provider contract."""

import contextlib
import gzip
import http.server
import socket
import threading
import time
import tracemalloc
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from market_data.core.capabilities import Quota
from market_data.core.capabilities import Window as QuotaWindow
from market_data.core.errors import NetworkError, ProviderError, QuotaExhausted, ServerError, Throttled, TruncatedResponse
from market_data.core.retry_policy import RetryPolicy
from market_data.http import client
from market_data.http.call_state import CallState, Rules
from market_data.http.client import LONGEST_RETRY_AFTER, Transport, headers_without, retry_after, without
from market_data.http.file_store import FileStore
from market_data.http.gzip_body import TooLargeError
from market_data.http.limiter import Limiter, Permit
from market_data.http.rate_limit import Pacer
from sandbox.http import SampleApi, Window

KEY = "a-key-nobody-may-see"
PATH = "/v2/aggs/ticker/IBM/range/1/day/2012-01-03/2012-01-31"


@pytest.fixture(scope="module")
def running():
    with SampleApi(api_key=KEY, symbols=()) as api:
        yield api


@pytest.fixture
def api(running):
    running.forget()
    return running


def classify(response, what):
    if response.status == 429:
        return Throttled("too many", retry_after=retry_after(response.headers), provider="test", request=what)
    return ServerError(f"status {response.status}", provider="test", request=what) if response.status >= 400 else None


def transport(url, tmp_path, windows=(), *, attempts=5, **settings):
    pacer = Pacer(Quota(600_000), Limiter(FileStore(tmp_path / "limits.json"), Rules(tuple(windows))))
    found = Transport(
        "test", url, {"Authorization": f"Bearer {KEY}"}, pacer, classify, secrets=(KEY,), retry=RetryPolicy(attempts), **settings
    )
    found.slept = []
    found.sleep = found.slept.append
    return found


def noting(note):
    """Return the handler of a server that gives each call to ``note`` and responds with ``{}``."""

    class Noting(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            note(self)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    return Noting


def get(found, path=PATH):
    return found.get(path, {}, "a month", lambda response: response.body)


# waits


def test_waits_double_with_jitter_and_are_bounded(api, tmp_path):
    api.fault("server_error", times=None)
    slept = []
    for _ in range(3):
        found = transport(api.url, tmp_path, attempts=8)
        with pytest.raises(ServerError, match="status 500"):
            get(found)
        slept.append(found.slept)
        assert all(0.9 * usual <= pause <= 1.1 * usual for pause, usual in zip(found.slept, (1, 2, 4, 8, 16, 20, 20), strict=True))
    assert len({tuple(pauses) for pauses in slept}) == 3


def test_a_feed_decides_how_often_and_when_a_call_is_repeated(api, tmp_path):
    api.fault("server_error", times=None)
    found = transport(api.url, tmp_path)
    found.retry = RetryPolicy(attempts=6, base_delay=0.5, factor=3, longest_delay=10, jitter=0)
    with pytest.raises(ServerError, match="status 500"):
        get(found)
    assert found.slept == [0.5, 1.5, 4.5, 10, 10]
    assert found.counters.retries == 5


def test_retry_after_is_waited_for_as_it_is(api, tmp_path):
    api.fault("throttled", retry_after=0.25)
    found, began = transport(api.url, tmp_path), time.monotonic()
    get(found)
    assert found.slept == [0.25]
    assert time.monotonic() - began >= 0.25  # the account's limiter holds every slot back, whoever sleeps


@pytest.mark.parametrize("seconds", [61, 1e9])
def test_a_wait_beyond_patience_is_left_to_the_task(api, tmp_path, seconds):
    api.fault("throttled", times=None, retry_after=seconds)
    found = transport(api.url, tmp_path)
    with pytest.raises(Throttled) as caught:
        get(found)
    assert found.slept == []
    assert caught.value.retry_after == min(seconds, LONGEST_RETRY_AFTER)
    assert len(api.calls) == found.counters.calls == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        (" 0.5 ", 0.5),
        ("0", 0),
        ("-5", 0),
        ("1e9", LONGEST_RETRY_AFTER),
        ("inf", LONGEST_RETRY_AFTER),
        ("nan", 0),
        (timedelta(minutes=2), 120),
        (timedelta(days=9), LONGEST_RETRY_AFTER),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value, seconds):
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    found = retry_after({"Retry-After": value})
    assert found == (seconds if seconds is None else pytest.approx(seconds, abs=60))
    assert retry_after({}) is None


def test_what_the_limiter_says_names_the_request(api, tmp_path):
    found = transport(api.url, tmp_path, windows=[Window(1, 7200)])
    get(found)
    with pytest.raises(QuotaExhausted, match="test: a month: all 1 calls of 7200 s are used") as caught:
        get(found)
    assert caught.value.resets_at > datetime.now(UTC)
    assert found.counters.calls == len(api.calls) == 1


# bounds


def test_a_call_that_was_given_up_counts_until_its_thread_ends(api, tmp_path, monkeypatch):
    """Looking the name up hangs; the call still leaves afterwards."""
    found, hangs, look_up = transport(api.url, tmp_path, [QuotaWindow(5, 60)], attempts=1, deadline=0.05), threading.Event(), None

    def slow(*arguments, **fields):
        hangs.wait(60)
        return look_up(*arguments, **fields)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    limiter, before = found.pacer.limiter, set(threading.enumerate())
    with pytest.raises(NetworkError, match="no whole response in 0.05 s"):
        found.get(PATH, {}, "bars", lambda response: response.body)
    assert len(CallState.parse(limiter.store.read().text).running) == 1
    [late] = [thread for thread in set(threading.enumerate()) - before if thread.name == "market-data-call"]
    hangs.set()
    late.join(60)
    state = CallState.parse(limiter.store.read().text)
    assert (state.running, len(state.ended[60.0])) == ({}, 1)


@pytest.mark.parametrize("head", [False, True])
def test_a_call_ends_at_its_deadline_however_it_trickles(api, tmp_path, head):
    api.fault("trickle", times=None, seconds=0.005 if head else 0.02, head=head)
    before = set(threading.enumerate())
    found, began = transport(api.url, tmp_path, attempts=2, deadline=0.3), time.monotonic()
    with pytest.raises(NetworkError, match="no whole response in 0.3 s"):
        get(found)
    assert 0.6 <= time.monotonic() - began < 15
    assert found.counters.calls == 2
    # What is late is given up in its thread too: with the next byte of the body, or with the end of the headers.
    late = [thread for thread in set(threading.enumerate()) - before if thread.name == "market-data-call"]
    assert len(late) <= 2
    for thread in late:
        thread.join(15 if head else 8)  # the whole body would take 16 seconds
    assert not any(thread.is_alive() for thread in late)


def test_silence_is_named_by_its_timeout(api, tmp_path):
    api.fault("slow", times=None, seconds=30)
    found = transport(api.url, tmp_path, attempts=1, timeout=(5.0, 0.2))
    with pytest.raises(NetworkError, match=r"no response in 5 s \+ 0.2 s"):
        get(found)


def test_a_connection_is_kept_for_the_next_call(tmp_path):
    connections, encodings = set(), set()

    def note(call):
        connections.add(call.client_address)
        encodings.add(call.headers["Accept-Encoding"])

    with serving(noting(note)) as url:
        found = transport(url, tmp_path)
        assert [get(found) for _ in range(3)] == [b"{}"] * 3
        found.close()
    assert len(connections) == 1
    assert encodings == {"gzip"}  # no other is decompressed
    assert found.counters.bytes == 6


# bodies whose length no header tells

BODY = b'{"rows": [' + b"1, " * 5000 + b"1]}"
ZIPPED = gzip.compress(BODY)
CHUNKS = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (ZIPPED[:20], ZIPPED[20:]))


@pytest.mark.parametrize(
    ("headers", "sent", "error"),
    [
        ({"Transfer-Encoding": "chunked"}, CHUNKS + b"0\r\n\r\n", None),
        ({"Transfer-Encoding": "chunked"}, CHUNKS, TruncatedResponse),  # all of it, but not its end
        ({"Transfer-Encoding": "chunked"}, CHUNKS[:-9] + b"0\r\n\r\n", TruncatedResponse),
        ({"Transfer-Encoding": "chunked"}, CHUNKS[:12], TruncatedResponse),
        ({"Transfer-Encoding": "chunked"}, b"", TruncatedResponse),
        ({}, ZIPPED, None),
        ({}, ZIPPED[:-1], TruncatedResponse),
        ({}, ZIPPED[:30] + b"x" + ZIPPED[31:], ServerError),
        ({"Content-Encoding": "br"}, ZIPPED, ServerError),
    ],
    ids=["chunked", "no_last_chunk", "short_chunk", "half_a_chunk", "no_chunk", "to_the_end", "short", "damaged", "not_gzip"],
)
def test_a_body_is_whole_or_an_error_without_a_length_too(tmp_path, headers, sent, error):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            for name, value in {"Content-Encoding": "gzip", "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        found = transport(url, tmp_path, attempts=2)
        if error is None:
            assert get(found) == BODY
        else:
            with pytest.raises(error):
                get(found)
            assert found.counters.calls == 2


# the account's limits


def test_a_call_counts_from_the_head_of_its_response(tmp_path, monkeypatch):
    arrived, in_time = threading.Event(), []
    monkeypatch.setattr(Permit, "arrived", lambda _: arrived.set())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            in_time.append(arrived.wait(30))
            self.wfile.write(b"[]")

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        assert get(transport(url, tmp_path)) == b"[]"
    assert in_time == [True]


@pytest.mark.parametrize("fault", [None, "reset", "server_error"])
def test_a_call_that_is_over_counts_once_and_is_not_on_its_way(api, tmp_path, fault):
    found = transport(api.url, tmp_path, (QuotaWindow(100, 60),), attempts=1)
    if fault:
        api.fault(fault)
    with contextlib.suppress(ProviderError):
        get(found)
    state = CallState.parse(found.pacer.limiter.store.read().text)
    assert state.running == {}
    assert [calls for _, calls in state.ended[60]] == [1]


# addresses


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://a.example", "/v2/x", "https://a.example/v2/x"),
        ("https://a.example/", "https://b.example/v2/x?cursor=c", "https://a.example/v2/x?cursor=c"),
        ("https://a.example/gate", "/v2/x", "https://a.example/gate/v2/x"),
        ("https://a.example/gate/", "https://b.example/v2/x?cursor=c", "https://a.example/gate/v2/x?cursor=c"),
        ("https://a.example/gate", "https://a.example/gate/v2/x", "https://a.example/gate/v2/x"),
        ("https://a.example/gate", "https://a.example/gateway/x", "https://a.example/gate/gateway/x"),
        ("https://a.example", "//b.example/x", "https://a.example//b.example/x"),
    ],
)
def test_every_address_is_on_the_host_and_path_of_the_connection(tmp_path, base, path, url):
    assert transport(base, tmp_path)._url(path) == url


@pytest.mark.parametrize("path", [".b.example/x", "@b.example/x", "x", "", "https://b.example", "ftp://b.example/x"])
def test_an_address_that_could_name_another_host_is_an_error_and_no_call(api, tmp_path, path):
    found = transport(api.url, tmp_path, attempts=1)
    with pytest.raises(ServerError, match="the address of the next page is not a URL"):
        get(found, path)
    assert found.counters.calls == len(api.calls) == 0


def test_a_redirect_is_not_followed(api, tmp_path):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", api.url + PATH)
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(Elsewhere) as url, pytest.raises(ServerError, match="redirect"):
        get(transport(url, tmp_path))
    assert api.calls == []


def test_a_key_that_the_vendor_repeats_is_taken_out_of_body_and_headers():
    key = "0123456789ab"
    assert without(f'{{"{key}": 1, "x": "db-{key}"}}'.encode(), (key, f"db-{key}", "")) == b'{"***": 1, "x": "***"}'
    assert without(b"AAPL", ("AAPL",)) == b"AAPL"  # a short key may be any word
    headers = CaseInsensitiveDict({"X-Request-Id": f"of {key}", "Date": "now"})
    assert headers_without(headers, (key,))["x-request-id"] == "of ***"
    assert headers_without(headers, ("another-key-of-ours",)) is headers


def test_a_netrc_entry_does_not_take_the_keys_place(api, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert b"results" in get(transport(api.url, tmp_path))


def test_the_proxy_of_this_host_is_used_except_for_the_hosts_that_it_leaves_out(tmp_path, monkeypatch):
    asked = []

    def note(call):
        asked.append((call.path, call.headers["Authorization"]))

    with serving(noting(note)) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "direct.invalid")
        assert get(transport("http://vendor.invalid", tmp_path)) == b"{}"
        with pytest.raises(NetworkError):
            get(transport("http://direct.invalid", tmp_path, attempts=1))
    assert asked == [(f"http://vendor.invalid{PATH}", f"Bearer {KEY}")]


def test_a_host_that_is_none_is_an_error_of_the_call(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "x.invalid")
    with pytest.raises(NetworkError):
        get(transport("https://vendor.invalid:port", tmp_path, attempts=1))


def test_the_certificates_of_this_host_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(OSError, match=r"none\.pem"):
        get(transport("https://vendor.invalid", tmp_path, attempts=1))


# words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Unknown API Key", "Unknown API Key"),
        (f"no key {KEY}, sorry", "no key ***, sorry"),
        (f"?apiKey={KEY}&x=1", "?apiKey=***&x=1"),
        ("<h1>Bad\n Gateway</h1><hr>nginx", "Bad Gateway nginx"),
        ("<script>alert('a')</script>x<style>p { color: red }</style>", "x"),
        ("<!DOCTYPE html><html><body", ""),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_words_are_plain_short_and_without_the_key(tmp_path, said, shown):
    assert transport("https://a.example", tmp_path).plain(said) == shown


@pytest.mark.parametrize("members", [1, 2])
def test_a_body_that_grows_too_much_is_not_decompressed(members):
    bomb = gzip.compress(bytes(32 * 1024 * 1024)) * members  # a thousand times as much as is sent
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="more than 16,777,216 bytes"):
        client._decompressed("gzip", bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 1024 * 1024


def test_a_body_of_very_many_members_is_not_decompressed():
    with pytest.raises(TooLargeError, match="more than 64 gzip members"):
        client._decompressed("gzip", gzip.compress(b"") * 65)
    assert client._decompressed("gzip", gzip.compress(b"a") * 64) == b"a" * 64


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.integers(1, 19))  # the shortest member has 20 bytes
def test_a_body_of_several_members_is_whole_or_an_error(parts, cut):
    body = b"".join(map(gzip.compress, parts))
    assert client._decompressed("gzip", body) == b"".join(parts)
    with pytest.raises((EOFError, zlib.error)):
        client._decompressed("gzip", body[:-cut])


@given(st.binary(max_size=2_000), st.integers(0), st.integers(1, 255))
def test_no_damage_of_a_body_passes(content, place, flipped):
    body = bytearray(gzip.compress(content))
    body[place % len(body)] ^= flipped
    with suppress(EOFError, zlib.error, TooLargeError):
        assert client._decompressed("gzip", bytes(body)) == content  # a time stamp and the like may differ


def test_of_a_page_of_markup_the_beginning_is_read(tmp_path):
    """Otherwise the time to strip the tags grows with the square of the page's length."""
    assert transport("https://a.example", tmp_path).plain("<b>" * 5_000 + "far behind") == ""


def test_the_key_is_in_no_representation(tmp_path):
    assert KEY not in repr(transport("https://a.example", tmp_path))


class serving:
    """A server of ``handler`` in a thread; gives its address."""

    def __init__(self, handler):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@given(
    before=st.integers(client.LONGEST_MARKUP - 200, client.LONGEST_MARKUP + 200),
    between=st.integers(0, 40),
    repeated=st.integers(1, 40),
    text=st.sampled_from(["x ", "<b>", "<script>", "</script> "]),
)
def test_no_part_of_a_secret_is_shown_wherever_the_words_are_cut(before, between, repeated, text):
    secret = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = client.plain((text * before)[:before] + " " + (secret + " " * (1 + between)) * repeated, [secret, "short"])
    short = client.plain(" " * before + (secret + " " * (1 + between)) * repeated, [secret])
    for shown in (words, short):
        assert not any(secret[n : n + 8] in shown for n in range(len(secret) - 7))


@pytest.mark.parametrize(
    "text",
    [
        *("<script" * 4_000, "<script>" * 4_000, "</script   " * 3_000, "<style>x</style" * 2_000),
        *("<a" * 14_000, "<!" * 14_000, "\x00<" * 14_000),
    ],
    ids=lambda text: text[:15],
)
def test_28_kb_of_markup_take_a_moment(text):
    began = time.thread_time()
    client.plain(text * 100, ["a secret"] * 3)
    assert time.thread_time() - began < 0.4


@pytest.mark.parametrize("coded", [False, True])
def test_a_body_may_have_a_bound_of_its_own(tmp_path, coded):
    body = b"0123456789" * 1000

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            sent = gzip.compress(body) if coded else body
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            if coded:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert len(get(transport(url, tmp_path, attempts=1, largest=10_000), "/")) == 10_000
        with pytest.raises(ServerError, match="too large: more than 9,999 bytes"):
            get(transport(url, tmp_path, attempts=1, largest=9_999), "/")
    finally:
        server.shutdown()
        server.server_close()
