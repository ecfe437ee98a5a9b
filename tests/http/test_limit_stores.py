"""What every store of limits promises, each on the real thing: a file, a PostgreSQL server, a Redis server."""

import multiprocessing
import os

import pytest

from market_data.core.capabilities import Window
from market_data.core.errors import ConfigError
from market_data.http.call_state import CallState, Rules
from market_data.http.file_store import FileStore
from market_data.http.limiter import Limiter, LimiterError, Reading
from market_data.http.postgres_store import TABLE, PostgresStore
from market_data.http.redis_store import RedisStore
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


def _count(open_store, times):
    store = open_store("one")
    for _ in range(times):
        while not store.swap(seen := store.read(), str(int(seen.text or "0") + 1)):
            pass
    if isinstance(store, PostgresStore):
        store._close()


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
    of_parent = store._open.info.backend_pid

    def child():
        store.read()
        os._exit(3 if store._open.info.backend_pid == of_parent else 7)

    worker = multiprocessing.get_context("fork").Process(target=child)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 7
    assert store.read().text == ""
    assert store._open.info.backend_pid == of_parent


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
        RedisStore({**server.settings, "password": "wrong-secret"}, "one", "limits").read()
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


def test_a_file_of_before_is_started_afresh(tmp_path):
    store = FileStore(tmp_path / "account.json")
    (tmp_path / "account.json").write_text('{"last": 1.5, "log": []}')
    seen = store.read()
    assert seen.text == ""
    assert store.swap(seen, "x")


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
