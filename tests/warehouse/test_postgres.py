"""PostgreSQL's own: faults of a real server and of the way to it, settings, COPY, several writers."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core.errors import ConfigError, WarehouseError
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.ticks import TRADES
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.arrow_rows import schema, to_wire
from market_data.warehouse.base import CHUNK_ROWS, Loaded
from market_data.warehouse.postgres import engine, errors, settings
from market_data.warehouse.postgres.engine import PostgresWarehouse
from market_data.warehouse.schema import PRICES
from tests.services import postgres_server
from tests.services.postgres_proxy import proxy
from tests.warehouse.rows import FIRST, bar, bars, later, naive, table, trade

pytestmark = pytest.mark.slow

PASSWORD = postgres_server.PASSWORD


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a migrated database, to be copied."""
    with postgres_server.empty_database(tmp_path_factory.mktemp("migrated")) as made:
        opened_at(made).migrate()
        yield made.schema


@pytest.fixture
def connection(request: pytest.FixtureRequest, tmp_path: Path, migrated: str) -> Iterator[WarehouseConnection]:
    """A database on PostgreSQL, whatever the engines of the other files are; empty, but for a test that takes ``warehouse``."""
    template = migrated if "warehouse" in request.fixturenames else "template0"
    with postgres_server.empty_database(tmp_path, template) as made:
        yield made


@pytest.fixture
def warehouse(connection: WarehouseConnection) -> Iterator[PostgresWarehouse]:
    """A migrated warehouse without rows."""
    with opened_at(connection) as opened:
        yield opened


@pytest.fixture
def admin(connection: WarehouseConnection) -> Iterator[psycopg.Connection[Any]]:
    """A superuser in the test's database, each statement its own transaction."""
    with closing(postgres_server.server().admin(connection.schema)) as opened:
        yield opened


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load is tried once, so that its error is seen."""
    monkeypatch.setattr(PostgresWarehouse, "attempts", 1)


def opened_at(connection: WarehouseConnection) -> PostgresWarehouse:
    made = open_with_hooks(connection)
    assert isinstance(made, PostgresWarehouse)
    return made


def with_extra(connection: WarehouseConnection, **extra: Any) -> PostgresWarehouse:
    return opened_at(replace(connection, extra=extra))


def closes(warehouse: PostgresWarehouse) -> list[float]:
    return [float(v) for v in warehouse.query("SELECT close_px FROM silver_prices ORDER BY bar_time")["close_px"].to_pylist()]


def audits(warehouse: PostgresWarehouse, load_id: str) -> list[int]:
    found = warehouse.query("SELECT rows_changed FROM load_audit WHERE load_id = ?", [load_id])
    return found["rows_changed"].to_pylist()


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def blocked(admin: psycopg.Connection[Any], running: Future[Any]) -> list[int]:
    """Return the backends of this database that wait for a lock, as soon as there are any.

    Fail at once if ``running``, which should wait, ends instead; while it runs, a starved machine may take its time. Polling is slow on
    purpose: each poll takes the interpreter and a core away from ``running``.
    """
    statement = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def found() -> list[int]:
        over = running.done()
        if not (pids := [pid for (pid,) in admin.execute(statement)]) and over:
            pytest.fail(f"ended without waiting for a lock: {running.exception() or running.result()!r}")
        return pids

    try:
        return wait_for(found, 240)
    except AssertionError:
        pytest.fail(f"no backend waits for a lock:\n{state_of(admin)}")


def state_of(admin: psycopg.Connection[Any]) -> str:
    """Return what the backends of this database and the threads of this process do: why nobody waits."""
    backends = admin.execute(
        "SELECT pid, state, wait_event_type, wait_event, query,"
        " array(SELECT l.mode || ' ' || l.granted || ' ' || l.locktype FROM pg_locks l WHERE l.pid = a.pid)"
        " FROM pg_stat_activity a WHERE datname = current_database()"
    ).fetchall()
    stacks = ("".join(traceback.format_stack(frame)) for frame in sys._current_frames().values())
    return "\n".join([*map(str, backends), *stacks])


def await_step(reached: threading.Event, running: Future[Any]) -> None:
    """Return when ``running`` has reached its step; if it ends before, fail at once with its error."""
    wait_for(lambda: reached.is_set() or running.done(), 240)
    if not reached.is_set():
        pytest.fail(f"ended before the step: {running.exception() or running.result()!r}")


@contextmanager
def let_go(event: threading.Event) -> Iterator[None]:
    """Let the thread that waits for ``event`` go on at the end, whatever failed: the pool waits for its threads."""
    try:
        yield
    finally:
        event.set()


def test_where_nobody_waits_backends_and_threads_are_described(admin: psycopg.Connection[Any]) -> None:
    done: Future[str] = Future()
    done.set_exception(ValueError("the load failed"))
    with pytest.raises(pytest.fail.Exception, match="ended without waiting for a lock: ValueError.*the load failed"):
        blocked(admin, done)
    with pytest.raises(pytest.fail.Exception, match="ended before the step: ValueError.*the load failed"):
        await_step(threading.Event(), done)
    told = state_of(admin)
    assert "AccessShareLock true relation" in told
    assert "in test_where_nobody_waits_backends_and_threads_are_described" in told


# --- faults ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def before_step(number: int, fault: Callable[[PostgresWarehouse], None]) -> Iterator[list[str]]:
    """Calls ``fault`` before the engine's n-th statement, once; gives the statements there are."""
    steps: list[str] = []

    def wrap(step: Any, name: str) -> Any:
        def wrapped(self: PostgresWarehouse, *args: Any) -> Any:
            steps.append(args[0] if args and isinstance(args[0], str) else name)
            if len(steps) - 1 == number:
                fault(self)
            return step(self, *args)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_execute", "_fetch", "_stage", "_commit"):
            patch.setattr(PostgresWarehouse, name, wrap(getattr(PostgresWarehouse, name), name))
        yield steps


def test_a_backend_may_be_killed_before_any_statement(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    def kill(self: PostgresWarehouse) -> None:
        assert admin.execute("SELECT pg_terminate_backend(%s, 10000)", [self._connection.info.backend_pid]).fetchone() == (True,)

    with before_step(-1, kill) as steps:
        warehouse.load(OHLCV_1D, bars("AAPL", 5), "new")
    assert steps[-5:] == ["insert into bronze_prices", "insert into silver_prices", "read calendars", "insert audit row", "_commit"]
    with before_step(-1, kill) as steps:
        warehouse.load(OHLCV_1D, bars("AAPL", 5, adj_close=0.5, ingest_ts=later(0.5)), "dry")
    wanted = ["set up the session", "read audit row", "_stage", "create stage_prices", "count staged rows", "lock silver_prices"]
    wanted += ["compare", "insert into bronze_prices", "merge into silver_prices", "read calendars"]
    wanted += ["insert audit row", "_commit"]
    assert steps == wanted
    for number in range(len(wanted)):
        rows = bars("AAPL", 5, adj_close=float(1 + number), ingest_ts=later(1 + number))
        with before_step(number, kill) as steps:
            assert warehouse.load(OHLCV_1D, rows, f"load {number}") == Loaded(5, 5), wanted[number]
        assert steps[-len(wanted) :] == wanted  # all of it again
        assert len(steps) > len(wanted)
        assert audits(warehouse, f"load {number}") == [5]


@pytest.mark.usefixtures("once")
def test_what_a_killed_backend_says_may_work_later(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    """Killed in the middle of a statement: it waits for a lock then."""
    with closing(postgres_server.server().admin(admin.info.dbname)) as other, ThreadPoolExecutor() as pool:
        other.autocommit = False
        other.execute("LOCK TABLE silver_prices")
        load = pool.submit(warehouse.load, OHLCV_1D, bars("AAPL", 1), "one")
        (pid,) = blocked(admin, load)
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        error = load.exception()
    assert isinstance(error, WarehouseError)
    assert (str(error), error.retriable) == ("postgres: lock silver_prices failed: 57P01 AdminShutdown", True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("word", [b"FROM load_audit", b"COPY stage_prices", b"MERGE INTO", b"COMMIT\0"], ids=bytes.decode)
def test_a_connection_may_be_cut(connection: WarehouseConnection, word: bytes, when: Any) -> None:
    """After COMMIT: the acknowledgement is lost, and the load is not done twice."""
    with proxy(connection.port or 0) as way, opened_at(replace(connection, port=way.port)) as warehouse:
        warehouse.migrate()
        warehouse.load(OHLCV_1D, bars("AAPL", 3, adj_close=0.5), "before")
        way.connections = 0
        way.cut_at(word, when)
        assert warehouse.load(OHLCV_1D, bars("AAPL", 3, ingest_ts=later(1)), "one") == Loaded(
            3, 3, already=(word, when) == (b"COMMIT\0", "after")
        )
        assert (way.cuts, way.connections) == (1, 2)
        assert audits(warehouse, "one") == [3]
        assert closes(warehouse) == [100.0, 101.0, 102.0]


def test_an_attempt_that_still_commits_is_found(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    """The connection was lost, its transaction is still there when the next attempt looks for the audit row, and commits then."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(_: PostgresWarehouse) -> None:
        if threading.current_thread() is not threading.main_thread() and not reached.is_set():
            reached.set()
            assert go_on.wait(240)

    with before_step(9, hold), ThreadPoolExecutor() as pool, let_go(go_on):
        first = pool.submit(warehouse.load, OHLCV_1D, bars("AAPL", 3), "one")
        await_step(reached, first)
        with opened_at(warehouse._given) as other:
            second = pool.submit(other.load, OHLCV_1D, bars("AAPL", 3), "one")
            blocked(admin, second)
            go_on.set()
            assert (first.result(), second.result()) == (Loaded(3, 3), Loaded(3, 3, already=True))
    assert audits(warehouse, "one") == [3]


def test_a_server_may_restart_and_be_away_for_a_while(warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    server, connect, tries = postgres_server.server(), engine._connect, []

    def counted(*given: Any) -> Any:
        tries.append(len(tries))
        if len(tries) == 3:
            server.start()
        return connect(*given)

    monkeypatch.setattr(engine, "_connect", counted)
    with before_step(8, lambda _: server.stop()) as steps:
        assert warehouse.load(OHLCV_1D, bars("AAPL", 3), "one") == Loaded(3, 3)
    assert (steps[8], len(tries)) == ("insert into silver_prices", 3)
    assert audits(warehouse, "one") == [3]


def test_the_wait_for_a_lock_ends(connection: WarehouseConnection, admin: psycopg.Connection[Any]) -> None:
    """The lock is given up when the load has waited in vain once, and is at its second attempt."""
    with with_extra(connection, lock_timeout=0.05) as warehouse:
        warehouse.migrate()
        admin.autocommit = False
        admin.execute("LOCK TABLE silver_prices IN SHARE MODE")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PostgresWarehouse, "attempts", 1)
            with pytest.raises(
                WarehouseError, match=r"lock silver_prices failed: 55P03 LockNotAvailable.*extra\.lock_timeout"
            ) as caught:
                warehouse.load(OHLCV_1D, bars("AAPL", 1), "one")
        assert caught.value.retriable
        with before_step(6, lambda _: admin.rollback()) as steps:
            assert warehouse.load(OHLCV_1D, bars("AAPL", 1), "one") == Loaded(1, 1)
        assert steps[5:7] == ["lock silver_prices", "set up the session"]


def test_a_statement_takes_no_longer_than_it_may(connection: WarehouseConnection) -> None:
    with with_extra(connection, statement_timeout=0.1) as warehouse:
        with pytest.raises(WarehouseError, match=r"query failed: 57014 QueryCanceled.*extra\.statement_timeout") as caught:
            warehouse.query("SELECT pg_sleep(600)")
        assert caught.value.retriable


def test_a_load_in_a_deadlock_is_repeated(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    """The load waits last: PostgreSQL looks for a deadlock once, ``deadlock_timeout`` after a wait began."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(_: PostgresWarehouse) -> None:
        reached.set()
        assert go_on.wait(240)

    with closing(postgres_server.server().admin(admin.info.dbname)) as other, ThreadPoolExecutor() as pool, let_go(go_on):
        other.autocommit = False
        other.execute("SET deadlock_timeout = '10min'")
        other.execute("LOCK TABLE bronze_prices")
        with before_step(7, hold) as steps:
            load = pool.submit(warehouse.load, OHLCV_1D, bars("AAPL", 2), "one")
            await_step(reached, load)
            assert steps[7] == "insert into bronze_prices"
            lock = pool.submit(other.execute, "LOCK TABLE silver_prices")
            blocked(admin, lock)
            go_on.set()
            lock.result()  # has the lock once the load has given up
            other.commit()
            assert load.result() == Loaded(2, 2)
        assert steps.count("set up the session") == 2


CODES = ["08006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P03", "57P05", "25P04", "23505"]
LASTING = ["22003", "22P02", "23502", "23514", "42501", "42P01", "0A000", "25006", "P0001", "XX000", "58030"]


def fail_once(admin: psycopg.Connection[Any], code: str) -> None:
    """The next load fails with ``code`` where its audit row is written; the one after it does not."""
    admin.execute("DROP SEQUENCE IF EXISTS attempts")
    admin.execute("CREATE SEQUENCE attempts")
    admin.execute(f"GRANT ALL ON attempts TO {postgres_server.LOGIN}")
    admin.execute(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('attempts') = 1 THEN"
        f" RAISE EXCEPTION 'row SECRETIVE, 777.125' USING ERRCODE = '{code}', DETAIL = 'SECRETIVE', HINT = 'SECRETIVE';"
        " END IF; RETURN NEW; END $$"
    )
    admin.execute("CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON load_audit FOR EACH ROW EXECUTE FUNCTION fail()")


def attempts(admin: psycopg.Connection[Any]) -> int:
    return admin.execute("SELECT last_value FROM attempts").fetchall()[0][0]


def test_what_passes_is_tried_again(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    for code in CODES:
        fail_once(admin, code)
        assert warehouse.load(OHLCV_1D, bars(code, 2), f"load {code}") == Loaded(2, 2)
        assert attempts(admin) == 2, code


def test_what_lasts_is_not(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    for code in LASTING:
        fail_once(admin, code)
        with pytest.raises(WarehouseError, match=f"postgres: insert audit row failed: {code} ") as caught:
            warehouse.load(OHLCV_1D, bars(code, 2), f"load {code}")
        assert not caught.value.retriable
        assert "SECRETIVE" not in "".join(traceback.format_exception(caught.value))
        assert attempts(admin) == 1
        assert warehouse.load(OHLCV_1D, bars(code, 2), f"load {code}") == Loaded(2, 2)


# --- connecting -----------------------------------------------------------------------------------------------------------------

NO_CONNECTION: dict[str, tuple[dict[str, Any], str, bool]] = {
    "password": ({"password": "wrong secret"}, "password authentication failed", False),
    "no password": ({"password": ""}, "no password supplied", False),
    "role": ({"login": "nobody_here"}, "authentication failed", False),
    "database": ({"schema": "nonesuch"}, 'database "nonesuch" does not exist', False),
    "TLS": ({"extra": {"sslmode": "require"}}, "does not support SSL", False),
    "setting": ({"extra": {"sslmode": "maybe"}}, "invalid sslmode value", False),
    "number": ({"extra": {"connect_timeout": "soon"}}, "connect_timeout", False),
    "server's setting": ({"extra": {"options": "-c nonesuch.1=x"}}, "nonesuch", False),
    "standby": ({"extra": {"target_session_attrs": "standby"}}, "not in hot standby", True),
    "name": ({"host": "nonesuch.invalid"}, "failed to resolve host", True),
}


@pytest.mark.parametrize("case", NO_CONNECTION)
def test_a_connection_that_cannot_be_had(connection: WarehouseConnection, case: str, caplog: pytest.LogCaptureFixture) -> None:
    fields, words, retriable = NO_CONNECTION[case]
    caplog.set_level(logging.DEBUG)
    with proxy(connection.port or 0) as way, opened_at(replace(connection, port=way.port, **fields)) as warehouse:
        with pytest.raises(WarehouseError, match=words) as caught:
            warehouse.query("SELECT 1 AS one")
        assert caught.value.retriable is retriable
        assert way.connections <= 1  # a wrong password is not given twice
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PostgresWarehouse, "attempts", 2)
            with pytest.raises(WarehouseError):
                warehouse.load(OHLCV_1D, bars("AAPL", 1), "one")
        if way.connections:
            assert way.connections == (3 if retriable else 2)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(warehouse) + repr(vars(warehouse))
    assert PASSWORD not in told
    assert "wrong secret" not in told


def test_a_port_where_nobody_listens(connection: WarehouseConnection) -> None:
    with proxy(0) as gone:
        port = gone.port
    with opened_at(replace(connection, port=port)) as warehouse, pytest.raises(WarehouseError, match="refused") as caught:
        warehouse.migrate()
    assert caught.value.retriable


def test_a_database_that_is_full_of_others_may_be_free_later(
    connection: WarehouseConnection, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(f"ALTER DATABASE {connection.schema} CONNECTION LIMIT 0")
    with opened_at(connection) as warehouse, pytest.raises(WarehouseError, match="too many connections") as caught:
        warehouse.migrate()
    assert caught.value.retriable


def test_a_standby_may_be_the_primary_in_a_moment(connection: WarehouseConnection) -> None:
    """As behind one address while another server takes over."""
    server = postgres_server.Server()
    try:
        with opened_at(replace(connection, port=server.port, login="postgres", password=server.password, schema="postgres")) as one:
            one.migrate()
            server.stop()
            (server.data / "standby.signal").touch()
            server.start()
            for work in (one.migrate, lambda: one.load(OHLCV_1D, bars("AAPL", 1), "one")):
                with pytest.raises(WarehouseError, match="the server is a standby") as caught:
                    work()
                assert caught.value.retriable
            assert one.query("SELECT COUNT(*) AS n FROM silver_prices")["n"].to_pylist() == [0]
            level = "-c default_transaction_isolation=repeatable\\ read"  # a standby refuses the odd default of the test server
            place = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "password": server.password, "options": level}
            with closing(psycopg.connect(**place)) as admin:  # type: ignore[arg-type]
                admin.execute("SELECT pg_promote()")
            assert one.load(OHLCV_1D, bars("AAPL", 1), "one") == Loaded(1, 1)
    finally:
        server.stop(keep=False)


def test_a_dependent_view_is_reported(connection: WarehouseConnection, admin: psycopg.Connection[Any]) -> None:
    with opened_at(connection) as warehouse:
        warehouse.migrate()
        admin.execute("DELETE FROM schema_version WHERE version IN (24, 25, 26, 27)")
        admin.execute("CREATE VIEW mine AS SELECT * FROM gold_price_features")
        with pytest.raises(WarehouseError, match="2BP01.*drop that view, migrate, and make it again") as caught:
            warehouse.migrate()
        assert not caught.value.retriable
        admin.execute("DROP VIEW mine")
        assert len(warehouse.migrate()) == 4


def test_a_server_that_refuses_in_another_language_is_not_asked_again(connection: WarehouseConnection) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(host="127.0.0.1", port=connection.port, user=connection.login, password="x", dbname=connection.schema)
    text = 'connection failed: ВАЖНО: пользователь "x" не прошёл проверку подлинности (по паролю)'
    assert not errors.may_connect_later(caught.value, text)
    assert errors.may_connect_later(psycopg.OperationalError(text), text)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no host": ({"host": ""}, "host is empty; the server's name is needed"),
    "no database": ({"schema": ""}, "schema is empty; the name of a database is needed"),
    "no login": ({"login": ""}, "login is empty; a role is needed"),
    "URL": ({"host": "postgresql://u:hidden@db/w"}, "host is a URL"),
    "half a URL": ({"host": "u:hidden@db"}, "host is a URL"),
    "URL as database": ({"schema": "postgresql://u:hidden@db/w"}, "schema is a URL"),
    "port 0": ({"port": 0}, "port is 0; a number from 1 to 65535"),
    "port too large": ({"port": 65536}, "port is 65536"),
    "port in words": ({"port": "5432"}, "port is '5432'"),
    "port True": ({"port": True}, "port is True"),
    "unknown extra": ({"extra": {"sslmod": "hidden"}}, "extra has sslmod; allowed: chunk_rows, lock_timeout, statement_timeout"),
    "field as extra": ({"extra": {"password": "hidden"}}, "extra has password"),
    "autocommit": ({"extra": {"autocommit": True}}, "extra has autocommit"),
    "lock_timeout": ({"extra": {"lock_timeout": 0}}, r"extra\.lock_timeout is 0; a number from 0.001 on is needed"),
    "statement_timeout": ({"extra": {"statement_timeout": "1h"}}, r"extra\.statement_timeout is '1h'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_named_before_connecting(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(psycopg.Connection, "connect", lambda *_, **__: pytest.fail("connected"))
    fields, words = WRONG[case]
    right = WarehouseConnection("postgres", "db", None, "warehouse", "me", "hidden", {"sslmode": "require", "iam": True})
    open_with_hooks(right)
    with pytest.raises(ConfigError, match=f"warehouse connection: {words}") as caught:
        open_with_hooks(replace(right, **fields))
    assert "hidden" not in str(caught.value)


def test_extras_reach_the_driver(connection: WarehouseConnection, admin: psycopg.Connection[Any]) -> None:
    admin.execute(f"CREATE SCHEMA apart AUTHORIZATION {postgres_server.LOGIN}")
    extra = {"options": "-c search_path=apart", "application_name": "mine", "chunk_rows": 10, "cursor": "realdictcursor"}
    with with_extra(connection, **extra) as warehouse:
        warehouse.migrate()
        warehouse.load(OHLCV_1D, bars("AAPL", 2), "one")
        assert warehouse.query("SELECT current_setting('application_name') AS name")["name"].to_pylist() == ["mine"]
    assert admin.execute("SELECT COUNT(*) FROM apart.silver_prices").fetchone() == (2,)


def test_a_session_depends_on_no_default(warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test server's defaults are odd; ``SETTINGS`` in ``postgres_server`` has them."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    names = ["TimeZone", "DateStyle", "client_encoding", "transaction_isolation", "transaction_read_only", "lock_timeout"]
    names += ["statement_timeout", "application_name"]
    statement = "SELECT " + ", ".join(f"current_setting('{name}') AS a{n}" for n, name in enumerate(names))
    common = ["UTC", "ISO, YMD", "UTF8"]
    reading = list(warehouse.query(statement).to_pylist()[0].values())
    assert reading == [*common, "repeatable read", "on", "5min", "1h", "airflow-market-data"]
    with warehouse._transaction():
        writing = list(warehouse._fetch("look", statement).to_pylist()[0].values())
        assert warehouse._scalar("look", "SELECT ? AS text", ["株"]) == "株"
    assert writing == [*common, "read committed", "off", "5min", "1h", "airflow-market-data"]


def test_a_server_that_is_too_old_is_refused(warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", 140_022)
    with pytest.raises(WarehouseError, match="the server is version 14; 15 or later is needed") as caught:
        warehouse.query("SELECT 1 AS one")
    assert not caught.value.retriable


def test_every_connection_is_closed(warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, made = engine._connect, []
    monkeypatch.setattr(engine, "_connect", lambda *given: made.append(connect(*given)) or made[-1])
    warehouse.load(OHLCV_1D, bars("AAPL", 2), "one")
    with pytest.raises(WarehouseError, match="CheckViolation"):
        warehouse.load(OHLCV_1D, table(bar(low=1e6)), "two")
    with pytest.raises(WarehouseError, match="nonesuch"):
        warehouse.query("SELECT nonesuch")
    for wrong in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(wrong)), warehouse._transaction():
            raise wrong
    assert len(made) == 5
    assert all(each.closed for each in made)
    with pytest.raises(WarehouseError, match="outside of a session"):
        warehouse._execute("look", "SELECT 1")


def test_neither_errors_nor_logs_tell_of_rows(warehouse: PostgresWarehouse, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret, told = "SECRETIVE", []
    for number, row in enumerate([bar(secret, low=1e6), bar(f"{secret}\0"), bar(secret, volume=-777.125)]):
        with pytest.raises(WarehouseError) as caught:
            warehouse.load(OHLCV_1D, table(row), f"load {number}")
        told.append(caught.value)
    statements = ["SELECT CAST(? AS INTEGER) AS n", "SELECT CAST(? AS DATE) AS n", "SELECT CAST(? || '' AS NUMERIC(4,1)) AS n"]
    for statement in statements:
        with pytest.raises(WarehouseError) as caught:
            warehouse.query(statement, [secret])
        told.append(caught.value)
    assert [error.retriable for error in told] == [False] * 6
    assert str(told[0]) == "postgres: insert into bronze_prices failed: 23514 CheckViolation of bronze_prices: bronze_prices_ck"
    everything = caplog.text + "".join("".join(traceback.format_exception(error)) for error in told)
    assert secret not in everything
    assert PASSWORD not in everything
    assert "777.125" not in everything


# --- several writers ------------------------------------------------------------------------------------------------------------


def test_a_writer_sees_what_the_one_before_it_committed(warehouse: PostgresWarehouse, admin: psycopg.Connection[Any]) -> None:
    """The newer version is merged but not committed when the older one comes; that one waits, and then stays out of silver."""
    warehouse.load(OHLCV_1D, table(bar(close=100.0)), "first")
    merged, go_on = threading.Event(), threading.Event()

    def hold(_: PostgresWarehouse) -> None:
        merged.set()
        assert go_on.wait(240)

    with before_step(9, hold), ThreadPoolExecutor() as pool, let_go(go_on):
        newer = pool.submit(warehouse.load, OHLCV_1D, table(bar(close=102.0, ingest_ts=later(2))), "newer")
        await_step(merged, newer)
        with opened_at(warehouse._given) as other:
            older = pool.submit(other.load, OHLCV_1D, table(bar(close=101.0, ingest_ts=later(1))), "older")
            blocked(admin, older)
            go_on.set()
            assert (newer.result(), older.result()) == (Loaded(1, 1), Loaded(1, 0))
    assert closes(warehouse) == [102.0]
    bronze = warehouse.query("SELECT close_px FROM bronze_prices ORDER BY ingest_ts")["close_px"].to_pylist()
    assert bronze == [100, 101, 102]


def test_four_writers_in_any_order(warehouse: PostgresWarehouse) -> None:
    orders = list(itertools.permutations(range(4)))
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        """Of each bar another version; the bar's number says which writer has its newest."""
        versions = [bar(f"P{n:02d}", close=100.0 + order[writer], ingest_ts=later(order[writer])) for n, order in enumerate(orders)]
        with opened_at(warehouse._given) as own:
            start.wait(240)
            for number in range(3):
                own.load(OHLCV_1D, table(*versions), f"writer {writer} load {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert closes(warehouse) == [103.0] * len(orders)
    assert warehouse.query("SELECT COUNT(*) AS n FROM load_audit")["n"].to_pylist() == [12]


def test_two_that_migrate_at_once_both_end_right(connection: WarehouseConnection, admin: psycopg.Connection[Any]) -> None:
    """The first has made a table, unseen by the second, when that one begins."""
    made, go_on = threading.Event(), threading.Event()
    first, second = opened_at(connection), opened_at(connection)
    define = first._define

    def hold(kind: str, statement: str) -> None:
        define(kind, statement)
        made.set()
        assert go_on.wait(240)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool, let_go(go_on):
        patch.setattr(first, "_define", hold)
        one = pool.submit(first.migrate)
        await_step(made, one)
        two = pool.submit(second.migrate)
        blocked(admin, two)
        go_on.set()
        assert "0003_silver_prices" in one.result()
        assert two.result() == []


# --- rows -----------------------------------------------------------------------------------------------------------------------

AWKWARD = [
    "NULL",
    "null",
    r"\N",
    r"\.",
    "a\n\\.\nb",
    "\\.\n",
    "\n",
    "\r\n",
    "\r",
    "\t",
    ",",
    '"',
    '""',
    "'",
    "''",
    '","',
    "a,b",
    " a ",
    " ",
]
AWKWARD += [
    "\\",
    "\\\\",
    "\\n",
    '\\"',
    "%",
    "%s",
    "%%",
    "?",
    "$1",
    ":1",
    "{}",
    "nan",
    "Ω株📈",
    "e\u0301",
    "\u00a0",
    "\ufeff",
    "\x01",
    "x" * 128,
]


def test_awkward_texts_come_back_as_they_were(warehouse: PostgresWarehouse) -> None:
    rows = [trade(ordinal=n, conditions=text) for n, text in enumerate(AWKWARD)] + [trade(ordinal=999, conditions=None)]
    warehouse.load(TRADES, table(*rows, dataset=TRADES), "one")
    found = warehouse.query("SELECT conditions FROM silver_trades ORDER BY ordinal")
    assert found["conditions"].to_pylist() == [*AWKWARD, None]
    for number, text in enumerate(AWKWARD):
        asked = warehouse.query("SELECT ordinal, '%' AS a, ? AS b FROM silver_trades WHERE conditions = ?", [text, text])
        assert asked.to_pylist() == [{"ordinal": number, "a": "%", "b": text}]


def test_moments_and_dates_before_1970(warehouse: PostgresWarehouse) -> None:
    moments = [datetime(1962, 1, 2, 23, 59, 59, 999999, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), FIRST]
    warehouse.load(TRADES, table(*(trade(ts_event=moment) for moment in moments), dataset=TRADES), "one")
    assert warehouse.query("SELECT ts_event FROM silver_trades ORDER BY 1")["ts_event"].to_pylist() == [naive(m) for m in moments]


COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    "CAST(2 AS SMALLINT)": (pa.int16(), 2),
    "CAST(-7 AS INTEGER)": (pa.int32(), -7),
    "CAST(9223372036854775807 AS BIGINT)": (pa.int64(), 2**63 - 1),
    "CAST(0.1 AS DOUBLE PRECISION) + CAST(0.2 AS DOUBLE PRECISION)": (pa.float64(), 0.1 + 0.2),
    "CAST('Infinity' AS DOUBLE PRECISION)": (pa.float64(), float("inf")),
    "CAST('-Infinity' AS DOUBLE PRECISION)": (pa.float64(), float("-inf")),
    "CAST(1.5 AS REAL)": (pa.float32(), 1.5),
    "CAST(123456789012.12345678 AS NUMERIC(20,8))": (pa.decimal128(20, 8), Decimal("123456789012.12345678")),
    "CAST(-0.5 AS NUMERIC(38,37))": (pa.decimal128(38, 37), Decimal("-0.5")),
    "CAST(1.5 AS NUMERIC(60,2))": (pa.decimal128(38, 8), Decimal("1.5")),
    "CAST(1.5 AS NUMERIC) + CAST(0.00000001 AS NUMERIC(20,8))": (pa.decimal128(38, 8), Decimal("1.50000001")),
    "CAST(10 AS NUMERIC(20,8)) / 4": (pa.float64(), 2.5),
    "CAST(1 AS NUMERIC) / 3": (pa.float64(), 1 / 3),
    "CAST(1e40 AS NUMERIC)": (pa.float64(), 1e40),
    "DATE '1969-12-31'": (pa.date32(), date(1969, 12, 31)),
    "TIMESTAMP '1969-12-31 23:59:59.999999'": (pa.timestamp("us"), naive(datetime(1969, 12, 31, 23, 59, 59, 999999, UTC))),
    "TIMESTAMP WITH TIME ZONE '2024-07-01 12:00:00+09'": (pa.timestamp("us", "UTC"), datetime(2024, 7, 1, 3, tzinfo=UTC)),
    "TRUE": (pa.bool_(), True),
    "1 = 2": (pa.bool_(), False),
    "'x'": (pa.string(), "x"),
    "''": (pa.string(), ""),
    "CAST('ab' AS CHAR(3))": (pa.string(), "ab "),
    "CAST('{1,2}' AS INTEGER[])": (pa.string(), "{1,2}"),
    "INTERVAL '1' DAY": (pa.string(), "1 day"),
}


def test_every_type_comes_as_its_own(warehouse: PostgresWarehouse) -> None:
    for column, (kind, value) in COLUMNS.items():
        found = warehouse.query(f'SELECT {column} AS "Value"')
        assert (found.schema.types, found.to_pylist()) == ([kind], [{"value": value}]), column
    names = [f"CASE WHEN n = 1 THEN {column} END AS c{number}" for number, column in enumerate(COLUMNS)]
    both = warehouse.query(f"SELECT {', '.join(names)} FROM (VALUES (1), (2)) v (n) ORDER BY n")
    for column, (_, value) in zip(both.columns, COLUMNS.values(), strict=True):
        assert column.to_pylist()[1] is None
        assert column.to_pylist()[0] == value
    none = warehouse.query(f"SELECT {', '.join(names)} FROM (VALUES (1), (2)) v (n) WHERE n > 2")
    assert (none.num_rows, none.num_columns) == (0, len(COLUMNS))


def test_results_of_odd_shapes(warehouse: PostgresWarehouse) -> None:
    assert warehouse.query("SELECT v.n FROM (VALUES (1), (NULL), (3)) v (n)")["n"].to_pylist() == [1, None, 3]
    assert warehouse.query("SELECT v.n FROM (VALUES (NULL), (''), ('x')) v (n)")["n"].to_pylist() == [None, "", "x"]
    assert warehouse.query("SELECT 1 AS a, 2 AS a -- that is all").column_names == ["a", "a"]
    assert warehouse.query("SELECT 'b%' AS a WHERE 'abc' LIKE '%b%'")["a"].to_pylist() == ["b%"]
    assert warehouse.query("SELECT ? AS a WHERE 'abc' LIKE '%b%'", ["%s"])["a"].to_pylist() == ["%s"]
    assert warehouse.query("(SELECT ? AS a)", [None])["a"].to_pylist() == [None]
    for unfit in ("TIMESTAMP 'infinity'", "DATE '4713-01-01 BC'", "CAST('NaN' AS NUMERIC(4,1))"):
        with pytest.raises(WarehouseError, match="a value that Arrow cannot hold"):
            warehouse.query(f"SELECT {unfit} AS a")
    with pytest.raises(WarehouseError, match="2 placeholders but 1 parameters") as caught:
        warehouse.query("SELECT ? AS a, ? AS b", [1])
    assert not caught.value.retriable


WRITES = [
    "WITH gone AS (DELETE FROM silver_prices RETURNING *) SELECT * FROM gone",
    "SELECT 1 AS one; DELETE FROM silver_prices",
    "SELECT 1 AS one) q; COMMIT; DELETE FROM silver_prices; SELECT * FROM (SELECT 1",
    "SELECT 1 AS one) TO STDOUT; COMMIT; DELETE FROM silver_prices; COPY (SELECT 1",
    "SELECT * INTO other FROM silver_prices",
    "SELECT symbol FROM silver_prices FOR UPDATE",
    "SELECT lo_create(0) AS one",
]


def test_no_query_writes(warehouse: PostgresWarehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 2), "one")
    for statement in WRITES:
        with pytest.raises(WarehouseError) as caught:
            warehouse.query(statement)
        assert not caught.value.retriable
        assert closes(warehouse) == [100.0, 101.0]


def high_water(work: Callable[[], Any]) -> tuple[Any, int]:
    """What ``work`` gives, and the bytes by which this process's memory grew at most while it ran."""

    def status(name: str) -> int:
        return next(
            int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
        )

    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    before = status("VmRSS")
    done = work()
    return done, status("VmHWM") - before


def staged_and_fetched(connection: WarehouseConnection, count: int) -> tuple[int, int, int]:
    """Return the growth of memory while ``count`` rows are staged, while they are fetched, and the size of the fetched rows."""
    dates = pa.array([naive(FIRST + timedelta(days=n)) for n in range(1000)], pa.timestamp("us"))
    one = to_wire(PRICES, table(bar()), load_id="one", loaded_at=FIRST)
    columns = {name: pa.concat_arrays([column.chunk(0)] * 1000) for name, column in zip(one.column_names, one.columns, strict=True)}
    thousand = pa.table({**columns, "bar_time": dates}, schema=schema(PRICES.columns))
    wire = pa.concat_tables([thousand] * (count // 1000)).combine_chunks()
    with opened_at(connection) as warehouse, warehouse._transaction():
        _, staging = high_water(lambda: warehouse._stage(PRICES, wire))
        found, fetching = high_water(lambda: warehouse._fetch("fetch", "SELECT * FROM stage_prices"))
    assert found.cast(wire.schema).equals(wire)
    return staging, fetching, found.nbytes


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_many_rows_take_little_memory(
    warehouse: PostgresWarehouse, connection: WarehouseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own, with the allocator that tasks have: what others left in memory changes how much it grows.

    Fetched rows take less than 1.7 times their size; parsed in the system's memory, 2.4 to 2.6 times.
    """
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    readings = []
    for _ in range(2):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            readings.append(pool.submit(staged_and_fetched, connection, 300_000).result())
    stagings, fetchings, sizes = zip(*readings, strict=True)
    assert min(stagings) < 40_000_000
    assert min(fetchings) < 1.7 * max(sizes)


# --- the guide ------------------------------------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "reference" / "postgres.md").read_text()


def shown(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_extras_that_the_guide_shows_are_known() -> None:
    found: dict[str, Any] = {}
    for text in shown("json"):
        opened_at(WarehouseConnection("postgres", "db", 5432, "warehouse", "me", "", json.loads(text)))
        found |= json.loads(text)
    assert {name: found[name] for name in settings.OURS} == {
        "chunk_rows": CHUNK_ROWS,
        "lock_timeout": settings.LOCK_TIMEOUT,
        "statement_timeout": settings.STATEMENT_TIMEOUT,
    }
    assert f"a connect may take {settings.DRIVER['connect_timeout']} seconds" in GUIDE


@pytest.mark.parametrize("schema", ["public", "market_data"])
def test_the_privileges_that_the_guide_grants_are_enough(
    connection: WarehouseConnection, admin: psycopg.Connection[Any], schema: str
) -> None:
    """Given by an administrator who is no superuser, as on a managed server."""
    lines = [line for text in shown("sql") for line in text.strip().splitlines()]
    make_role, join, make_database, *grants, make_schema, usage = lines
    suffix = connection.schema.removeprefix("test_")
    names = {role: f"{role}_{suffix}" for role in ("market_data", "analyst", "loader", "boss")}
    extra = {"options": "-c search_path=market_data"} if schema == "market_data" else {}
    owner, reader, loader = (
        replace(connection, login=names[role], password="change me", schema=f"warehouse_{suffix}", extra=extra)
        for role in ("market_data", "analyst", "loader")
    )
    for role in ("boss", "analyst", "loader"):
        admin.execute(make_role.replace("market_data", names[role]).encode())
    admin.execute(f"ALTER ROLE {names['boss']} CREATEDB CREATEROLE".encode())
    boss = replace(connection, login=names["boss"], password="change me")
    place = {"host": boss.host, "port": boss.port, "user": boss.login, "password": boss.password, "dbname": boss.schema}
    with closing(psycopg.connect(**place, autocommit=True)) as there:  # type: ignore[arg-type]
        for line in (make_role, join):
            there.execute(line.replace("market_data", owner.login).encode())
        there.execute(
            make_database.replace("market_data", owner.login).replace("DATABASE warehouse", f"DATABASE {owner.schema}").encode()
        )
    with closing(postgres_server.server().admin(owner.schema)) as there:
        there.execute(f"SET ROLE {owner.login}".encode())
        for grant in [*([make_schema, usage] if extra else []), *grants]:
            text = grant.replace("AUTHORIZATION market_data", f"AUTHORIZATION {owner.login}")
            text = (
                text.replace("analyst", reader.login).replace("loader", loader.login).replace("SCHEMA public", f"SCHEMA {schema}")
            )
            there.execute(text.encode())
        with opened_at(owner) as warehouse:
            warehouse.migrate()
        with opened_at(loader) as warehouse:
            assert warehouse.migrate() == []
            assert warehouse.load(OHLCV_1D, bars("AAPL", 3), "one") == Loaded(3, 3)
        with opened_at(reader) as warehouse:
            assert warehouse.query("SELECT close_px FROM gold_price_features").num_rows == 3
            with pytest.raises(
                WarehouseError, match="42501 InsufficientPrivilege: permission denied for table silver_prices"
            ) as caught:
                warehouse.load(OHLCV_1D, bars("AAPL", 3), "two")
            assert not caught.value.retriable
        there.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM public, {reader.login}".encode())
        with opened_at(reader) as warehouse, pytest.raises(WarehouseError, match=r"42P01.*may the role use its schema"):
            warehouse.query("SELECT close_px FROM gold_price_features")
    admin.execute(f"DROP DATABASE {owner.schema} WITH (FORCE)".encode())
    for name in names.values():
        admin.execute(f"DROP OWNED BY {name}".encode())
        admin.execute(f"DROP ROLE {name}".encode())


def test_the_copy_of_a_duckdb_file_is_the_same(warehouse: PostgresWarehouse, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(file)})) as old:
        old.migrate()
        old.load(OHLCV_1D, table(*(bar(day=FIRST + timedelta(days=n), adj_close=None) for n in range(3))), "one")
        old.load(OHLCV_1D, table(bar(close=1 / 3, ingest_ts=later(1))), "two")
        texts = [text for text in AWKWARD if text != "\x01"]
        old.load(TRADES, table(*(trade(ordinal=n, conditions=t) for n, t in enumerate(texts)), dataset=TRADES), "three")
        given = warehouse._given
        place = psycopg.conninfo.make_conninfo(
            host=given.host, port=given.port, dbname=given.schema, user=given.login, password=PASSWORD
        )
        (text,) = shown("python")
        code = text.replace("/data/warehouse.duckdb", str(file))
        code = code.replace('"host=db dbname=warehouse user=market_data"', "place")
        exec(compile(code, "postgres.md", "exec"), {"place": place})
        for name in ("bronze_prices", "silver_prices", "silver_trades", "load_audit"):
            statement = f"SELECT * FROM {name} ORDER BY load_id, loaded_at" + ("" if name == "load_audit" else ", row_hash")
            assert warehouse.query(statement).to_pylist() == old.query(statement).to_pylist(), name


# --- the test's own server ------------------------------------------------------------------------------------------------------


def test_the_server_ends_with_the_process_that_started_it() -> None:
    project = Path(__file__).parents[2]
    script = (
        "import time, tests.services.postgres_server as p; s = p.server(); print(s.port, s.folder, flush=True); time.sleep(600)"
    )
    path = os.pathsep.join([str(project), str(project / "plugins")])
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as run:
        assert run.stdout is not None
        port, folder = run.stdout.readline().split()
        assert Path(folder).is_dir()
        run.send_signal(signal.SIGKILL)
    wait_for(lambda: not Path(folder).exists(), 240)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", password="x")
