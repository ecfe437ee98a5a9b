"""What every store of limits promises, each on the real thing: a file, a PostgreSQL server, a Redis server."""

import contextlib
import errno
import json
import multiprocessing
import os
import threading

import pytest

from market_data.core.capabilities import Window
from market_data.core.errors import ConfigError, QuotaExhausted, Throttled
from market_data.http.call_state import CallState, Rules
from market_data.http.file_store import FileStore
from market_data.http.limiter import Limiter, LimiterError, Reading
from market_data.http.postgres_store import TABLE, PostgresServer, PostgresStore
from market_data.http.redis_store import RedisServer
from tests.http.limit_stores import CUT, SERVERS, STORES
from tests.services import postgres_server, redis_server


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


@pytest.fixture
def open_store(kind, tmp_path):
    with STORES[kind](tmp_path) as opened:
        yield opened


def test_an_account_is_empty_at_first_and_none_of_anothers(open_store):
    one, other = open_store("one"), open_store("other")
    assert one.read().text == ""
    assert one.swap(one.read(), "a text")
    assert other.read().text == ""
    assert open_store("one").read().text == "a text"


@pytest.mark.parametrize("before", ["", "first"])
def test_of_two_that_read_the_same_only_the_first_may_write(open_store, before):
    one, other = open_store("one"), open_store("one")
    if before:
        assert one.swap(one.read(), before)
    seen, seen_too = one.read(), other.read()
    assert one.swap(seen, "second")
    assert not other.swap(seen_too, "third")
    assert not one.swap(seen, "fourth")
    assert other.read().text == "second"
    assert other.swap(other.read(), "fifth")


def test_a_long_text_with_any_character_comes_back(open_store):
    text = "§ 'quoted' \"\\ %s :x {} € " * 5000
    store = open_store("one")
    assert store.swap(store.read(), text)
    assert store.read().text == text
    assert store.swap(store.read(), "short")


def test_one_clock_for_all_that_goes_forward(open_store):
    one, other = open_store("one"), open_store("one")
    moments = [reader.read().now for _ in range(3) for reader in (one, other)]
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] < 60


def test_what_one_host_is_told_to_wait_holds_all_others_back(open_store):
    """After a 429 at one, no slot of any host makes a call before the pause is over."""
    one, other, apart = (Limiter(open_store(name), Rules((Window(5, 60),)), patience=1) for name in ("one", "one", "apart"))
    one.penalise(300)
    assert 0 < other.paused() <= 300
    with pytest.raises(Throttled):
        other.acquire()
    assert apart.paused() == 0
    apart.acquire().done()


def _count(open_store, times):
    store = open_store("one")
    for _ in range(times):
        while not store.swap(seen := store.read(), str(int(seen.text or "0") + 1)):
            pass
    if isinstance(store, PostgresStore) and multiprocessing.parent_process():
        store.server.close()


def test_processes_and_those_forked_from_them_lose_no_change(open_store):
    """The parent's store is open when the children are forked from it, and they use it too."""
    store = open_store("one")
    _count(lambda _: store, 2)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(lambda _: store, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    _count(open_store, 25)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert store.read().text == str(2 + 5 * 25)


@pytest.mark.parametrize("kind", ["postgres"])
def test_a_forked_process_has_a_connection_of_its_own(kind, open_store):
    store = open_store("one")
    store.read()
    of_parent = store.server._open.info.backend_pid

    def child():
        store.read()
        os._exit(3 if store.server._open.info.backend_pid == of_parent else 7)

    worker = multiprocessing.get_context("fork").Process(target=child)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 7
    assert store.read().text == ""
    assert store.server._open.info.backend_pid == of_parent


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_connection_is_opened_again(kind, open_store):
    store = open_store("one")
    assert store.swap(store.read(), "kept")
    CUT[kind]()
    assert store.read().text == "kept"


@pytest.mark.parametrize("kind", SERVERS)
def test_without_its_server_no_call_is_made_and_the_next_server_is_used(kind, open_store):
    store, server = open_store("one"), SERVERS[kind]()
    limiter = Limiter(store, Rules((Window(1000, 60),)))
    permit = limiter.acquire()
    server.stop()
    try:
        with pytest.raises(LimiterError, match="the limiter cannot use connection 'limits'") as caught:
            limiter.acquire()
        permit.done()  # the call is over, and a store that fails makes no error of it
    finally:
        server.start()
    assert server.settings["password"] not in str(caught.value) if kind == "redis" else True
    limiter.acquire().done()


def test_a_wrong_password_is_told_without_it():
    server = redis_server.server()
    with pytest.raises(LimiterError, match="'limits': AuthenticationError") as caught:
        RedisServer({**server.settings, "password": "wrong-secret"}, "limits").store("one").read()
    assert "wrong-secret" not in str(caught.value)


def test_a_role_that_may_not_create_the_table_gets_its_definition(tmp_path):
    with STORES["postgres"](tmp_path) as open_store:
        admin = postgres_server.server().admin(open_store.connection.schema)
        admin.execute(f"ALTER DATABASE {open_store.connection.schema} OWNER TO postgres")
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        admin.execute(f"REVOKE CREATE ON SCHEMA public FROM {postgres_server.LOGIN}")
        store = open_store("one")
        with pytest.raises(ConfigError, match=f"may not create the limiter's table; have it made: CREATE TABLE .* {TABLE}"):
            store.read()
        admin.close()


def test_whatever_keeps_the_connection_from_being_opened_is_the_limiters_error(caplog):
    def connect():
        raise RuntimeError("a token service's secret words")

    with pytest.raises(LimiterError, match="'limits': RuntimeError") as caught:
        PostgresServer(connect, "limits").store("one").read()
    assert "secret words" not in str(caught.value)


@pytest.mark.parametrize("kind", ["postgres"])
def test_a_connection_that_cannot_be_set_up_is_not_used(kind, open_store):
    server = open_store("one").server
    connect = server._connect

    class Broken:
        def __setattr__(self, name, value):
            raise RuntimeError(name)

    server._connect = Broken
    with contextlib.suppress(RuntimeError):
        server.store("one").read()
    server._connect = connect
    assert server.store("one").read().text == ""


@pytest.mark.parametrize("kind", ["postgres"])
def test_threads_and_accounts_share_one_connection(kind, open_store):
    server = open_store("one").server
    threads = [threading.Thread(target=_count, args=(server.store, 20)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert server.store("one").read().text == "60"
    server.store("other").read()
    with postgres_server.server().admin() as admin:
        opened = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [postgres_server.LOGIN]).fetchone()
    assert opened == (1,)


# the file's clock


class Host:
    """A host whose clocks the test moves."""

    def __init__(self, folder):
        self.up, self.wall, self.boot = 500.0, 1_800_000_000.0, "first"
        self.store = FileStore(folder / "a.json", lambda: self.up, lambda: self.wall, lambda: self.boot)

    def passes(self, seconds):
        self.up += seconds
        self.wall += seconds

    def restarts(self, seconds, wall=None):
        self.boot, self.up = f"{self.boot} again", 5.0
        self.wall = self.wall + seconds if wall is None else wall


def test_setting_the_wall_clock_changes_nothing(tmp_path):
    host = Host(tmp_path)
    assert host.store.swap(host.store.read(), "x")
    before = host.store.read().now
    host.passes(10)
    host.wall += 3600
    assert host.store.read().now == before + 10
    host.wall -= 7200
    assert host.store.read().now == before + 10
    assert host.store.read().utc == host.wall


@pytest.mark.parametrize(("wall", "passed"), [(None, 120), (1_700_000_000.0, 0)])
def test_a_restart_of_the_host_takes_as_long_as_the_wall_clock_shows_and_no_negative_time(tmp_path, wall, passed):
    host = Host(tmp_path)
    assert host.store.swap(host.store.read(), "x")
    before = host.store.read().now
    host.restarts(120, wall)
    assert host.store.read().now == pytest.approx(before + passed, rel=0, abs=0.001)
    assert host.store.swap(host.store.read(), "y")
    host.passes(10)
    assert host.store.read().now == pytest.approx(before + passed + 10, rel=0, abs=0.001)


def test_a_file_cut_by_a_crash_is_started_afresh(tmp_path):
    store = FileStore(tmp_path / "account.json")
    limiter = Limiter(store, Rules((Window(5, 60),)))
    (tmp_path / "account.json").write_text('{"last": 1')
    limiter.acquire()
    assert CallState.parse(store.read().text).last > 0


def test_the_files_of_version_0_4_are_taken_over(tmp_path):
    host, now = Host(tmp_path), 1_800_000_000.0
    (tmp_path / "a.json").write_text(json.dumps({"last": now - 1, "log": [now - 86_399, now - 50, now - 1]}))
    (tmp_path / "a.blocked").write_text(json.dumps({"until": now + 30}))
    limiter = Limiter(host.store, Rules((Window(3, 86_400),)), sleep=host.passes, clock=lambda: host.up)
    assert limiter.paused() == 30
    with pytest.raises(QuotaExhausted):
        limiter.acquire()
    host.passes(2)
    limiter.acquire().done()  # the first call is a day old
    assert host.wall == now + 30
    (tmp_path / "a.blocked").write_text(json.dumps({"until": now + 1000}))
    assert limiter.paused() == 0


@pytest.mark.parametrize("text", ['{"last": null, "log": []}', '{"last": 1, "log": 5}', "[]"])
def test_damaged_files_of_version_0_4_are_started_afresh(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    store = FileStore(tmp_path / "a.json")
    seen = store.read()
    assert seen.text == ""
    assert store.swap(seen, "x")


def test_a_full_disk_makes_no_error_of_a_call_that_was_made(tmp_path, caplog, monkeypatch):
    store = FileStore(tmp_path / "a.json")
    limiter = Limiter(store, Rules((Window(5, 60),)))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with limiter.acquire():
        monkeypatch.setattr("pathlib.Path.write_text", full)
    assert "so it counts until its lease of 30 s is over: the limiter cannot use" in caplog.text
    with pytest.raises(LimiterError, match="No space left on device"):
        limiter.acquire()


def test_a_process_that_dies_with_the_lock_in_hand_holds_nobody_up(tmp_path):
    store = FileStore(tmp_path / "account.json")

    def dies():
        store.clock = lambda: os._exit(9)
        store.swap(Reading("", 0, 0), "half")

    worker = multiprocessing.get_context("fork").Process(target=dies)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    assert store.swap(store.read(), "whole")
