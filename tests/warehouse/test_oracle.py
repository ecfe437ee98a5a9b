"""What is Oracle's own: settings, binds, faults on the way, migrations that commit, errors. On the double, by the real hook and driver."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import pickle
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import oracledb
import pyarrow as pa
import pytest
from airflow.providers.oracle.hooks.oracle import OracleHook
from airflow.sdk import Connection

from market_data.airflow.warehouse_connections import OracleConnector, from_airflow, open_with_hooks
from market_data.core.errors import ConfigError, WarehouseError
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.warehouse import WarehouseConnection, dialects, migrations, recent_bars_sql, upsert_sql
from market_data.warehouse.base import Loaded, Warehouse
from market_data.warehouse.oracle import engine, errors, settings
from market_data.warehouse.oracle.dialect import ORACLE
from market_data.warehouse.schema import MARKET_SESSIONS, PRICES, SYMBOL_CALENDARS, TABLES, Column
from tests.services.oracle_double import OracleDouble, Statement, make_wallet
from tests.services.oracle_server import PASSWORD, USER, connection_to, empty_double, until_closed
from tests.warehouse.oracle_sql import problems
from tests.warehouse.rows import OF_A_LOAD, SEEN, bar, bars, item, later, naive, table

pytestmark = pytest.mark.slow

NAMES = [str(migration) for migration in migrations.migrations(ORACLE)]
ORACLE_SQL = migrations.MIGRATIONS.parent / "oracle"
GUIDE = (migrations.MIGRATIONS.parents[2] / "docs" / "reference" / "oracle.md").read_text("utf-8")


@pytest.fixture
def double() -> Iterator[OracleDouble]:
    with empty_double() as made:
        yield made


@pytest.fixture
def warehouse(double: OracleDouble) -> Warehouse:
    """A migrated warehouse without rows."""
    made = open_with_hooks(connection_to(double))
    made.migrate()
    return made


@contextmanager
def session(double: OracleDouble) -> Iterator[oracledb.Cursor]:
    """Somebody else's session."""
    with closing(oracledb.connect(user=USER, password=PASSWORD, dsn=double.dsn)) as connection:
        yield connection.cursor()


def statements_of(double: OracleDouble, work: Callable[[], Any]) -> list[Statement]:
    """What the server was asked during ``work``."""
    before = len(double.seen.statements)
    work()
    return double.seen.statements[before:]


def closes(warehouse: Warehouse, layer: str = "silver") -> list[float]:
    found = warehouse.query(f"SELECT close_px FROM {layer}_prices ORDER BY symbol, bar_time, ingest_ts")
    return [float(close) for close in found["close_px"].to_pylist()]


def count(warehouse: Warehouse, name: str) -> int:
    return int(warehouse.query(f"SELECT COUNT(*) AS n FROM {name}")["n"][0].as_py())


# --- settings -------------------------------------------------------------------------------------------------------------------

AT_HOST = WarehouseConnection("oracle", "db", 1521, login="lake", password="hunter2", extra={"service_name": "FREEPDB1"})
DESCRIPTOR = "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCPS)(HOST=db)(PORT=1522))(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))"
AT_DSN = WarehouseConnection("oracle", login="lake", password="hunter2", extra={"dsn": DESCRIPTOR})


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (replace(AT_HOST, login=""), "login is empty"),
        (replace(AT_HOST, password=""), "password is empty"),
        (replace(AT_HOST, host=""), "neither host nor extra.dsn"),
        (
            replace(AT_HOST, host="db:1521/FREEPDB1?retry_count=2"),
            "host is not a name or address; put a connect string into extra.dsn",
        ),
        (replace(AT_HOST, extra={}), "extra.service_name or extra.sid is missing"),
        (
            replace(AT_HOST, extra={}, schema="FREEPDB1"),
            "extra.service_name is missing; schema 'FREEPDB1' is the owner of the tables",
        ),
        (replace(AT_HOST, extra={"service_name": "a", "sid": "b"}), "extra.service_name and extra.sid are both given"),
        (replace(AT_HOST, extra={"service_name": 7}), "extra.service_name must be text"),
        (replace(AT_HOST, schema="my schema"), "schema is 'my schema'; the owner of the tables"),
        (replace(AT_DSN, host="db"), "host beside extra.dsn"),
        (replace(AT_DSN, extra={"dsn": "db/x", "service_name": "x"}), "extra.service_name beside extra.dsn"),
        (
            replace(AT_DSN, extra={"dsn": "lake/hunter2@db/x"}),
            "extra.dsn holds a @; put user and password into login and password",
        ),
        (replace(AT_HOST, extra={"service_name": "x", "wallet_location": "/w"}), "extra.wallet_location would be ignored"),
        (replace(AT_DSN, extra={"dsn": "db:1521/x", "wallet_location": "/w"}), "extra.wallet_location would be ignored"),
        (replace(AT_DSN, extra={"dsn": DESCRIPTOR, "wallet_location": "/nonesuch"}), "/nonesuch/ewallet.pem cannot be read"),
    ],
)
def test_a_wrong_setting_is_named_before_connecting(connection: WarehouseConnection, words: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^warehouse connection: {re.escape(words)}|; .*{re.escape(words)}|: .*{re.escape(words)}"
    ) as caught:
        open_with_hooks(connection)
    assert "hunter2" not in str(caught.value)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        open_with_hooks(WarehouseConnection("oracle", schema="a b", extra={"wallet_location": "/nonesuch"}))
    for words in ("login is", "password is", "neither host", "schema is", "would be ignored", "cannot be read"):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", [0, "soon", None, True])
def test_the_call_timeout_must_be_seconds(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"extra\.call_timeout is .*; a number from 1 on"):
        open_with_hooks(replace(AT_HOST, extra={"service_name": "x", "call_timeout": value}))


def test_what_is_right_is_taken() -> None:
    for extra in ({"service_name": "x"}, {"sid": "x"}, {"service_name": "x", "call_timeout": 10**9}):
        open_with_hooks(replace(AT_HOST, extra=extra))
    for extra in ({"dsn": "alias"}, {"dsn": "tcps://db:1522/x"}, {"dsn": DESCRIPTOR, "wallet_location": "/w", "thick_mode": True}):
        open_with_hooks(replace(AT_DSN, extra=extra, schema="OWNER$1"))


def test_the_hook_gets_its_own_settings_and_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    given = replace(AT_HOST, schema="OWNER", extra={"service_name": "x", "chunk_rows": 5, "call_timeout": 9, "expire_time": 2})
    seen: list[Any] = []
    monkeypatch.setattr(OracleHook, "get_conn", lambda self: seen.append(self.get_connection("any")))
    OracleConnector()(settings.for_driver(given))
    (made,) = seen
    assert json.loads(made.extra) == {"service_name": "x", "expire_time": 2}
    assert (made.host, made.port, made.login, made.password, made.schema) == ("db", 1521, "lake", "hunter2", None)


@pytest.mark.parametrize("block", re.findall(r"^```json\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
def test_the_connections_of_the_guide_are_right(block: str, tmp_path: Path) -> None:
    fields = json.loads(block)
    if "wallet_location" in fields["extra"]:
        wallet = make_wallet(tmp_path / "wallet", "...")
        fields["extra"]["wallet_location"] = str(wallet.location)
    given = from_airflow(Connection(conn_id="warehouse_default", **fields | {"extra": json.dumps(fields["extra"])}))
    assert isinstance(open_with_hooks(given), engine.OracleWarehouse)
    dsn = given.extra.get("dsn", "")
    if "(" in dsn:
        oracledb.ConnectParams().parse_connect_string(dsn)


def test_the_guide_names_what_is_there() -> None:
    assert len(re.findall(r"^```json$", GUIDE, re.MULTILINE)) == 8
    for path in re.findall(r"\]\((\.\./[^)#]+)\)", GUIDE):
        assert (migrations.MIGRATIONS.parents[2] / "docs" / "reference" / path).exists(), path
    for name in ("chunk_rows", "call_timeout"):
        assert f"| `{name}` |" in GUIDE


# --- connections ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_used(double: OracleDouble) -> None:
    with open_with_hooks(connection_to(double)) as warehouse:
        assert double.seen.connects == []
        with pytest.raises(WarehouseError, match="migrated"):
            warehouse.query("SELECT close_px FROM silver_prices")
    assert len(double.seen.connects) == 1


@pytest.mark.parametrize(
    "dsn",
    [
        "{host}:{port}/FREEPDB1?retry_count=2&transport_connect_timeout=5",
        "(DESCRIPTION=(RETRY_COUNT=2)(ADDRESS=(PROTOCOL=TCP)(HOST={host})(PORT={port}))(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))",
    ],
)
def test_a_dsn_says_where(double: OracleDouble, dsn: str) -> None:
    warehouse = open_with_hooks(connection_to(double, dsn=dsn.format(host=double.host, port=double.port)))
    assert warehouse.migrate() == NAMES


def test_a_session_is_set_up(double: OracleDouble, warehouse: Warehouse) -> None:
    asked = statements_of(double, lambda: warehouse.query("SELECT 1 AS one FROM dual"))
    assert [s.sql for s in asked] == [
        "ALTER SESSION SET TIME_ZONE = '+00:00' DDL_LOCK_TIMEOUT = 300",
        "SET TRANSACTION READ ONLY",
        "SELECT 1 AS one FROM dual",
    ]
    assert double.seen.schemas == []


def test_a_schema_is_the_owner_of_the_tables(double: OracleDouble) -> None:
    for given in (connection_to(double), connection_to(double, dsn=double.dsn)):
        double.seen.schemas.clear()
        open_with_hooks(replace(given, schema=USER)).query("SELECT 1 AS one FROM dual")
        assert set(double.seen.schemas) == {USER.upper()}
    assert len(double.seen.connects) == 2


def test_a_login_that_owns_nothing_loads_what_the_owner_has_migrated() -> None:
    with empty_double(guests={"loader": "w0rd"}) as double:
        owner = open_with_hooks(connection_to(double))
        loader = open_with_hooks(replace(connection_to(double), login="loader", password="w0rd", schema=USER))
        with pytest.raises(
            WarehouseError, match="create schema_version failed: ORA-01031 the login lacks a privilege for it"
        ) as caught:
            loader.migrate()
        assert not caught.value.retriable
        assert owner.migrate() == NAMES
        assert loader.migrate() == []
        assert loader.load(OHLCV_1D, bars("AAPL", 2), "one") == Loaded(2, 2)
        assert loader.load(OHLCV_1D, bars("AAPL", 3), "two") == Loaded(3, 1)
        assert owner.query("SELECT * FROM gold_price_features").equals(loader.query("SELECT * FROM gold_price_features"))
        assert count(owner, "silver_prices") == 3


def test_the_copy_of_a_duckdb_file_is_the_same(double: OracleDouble, warehouse: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(file)})) as old:
        old.migrate()
        old.load(OHLCV_1D, table(*(bar(day=SEEN.replace(day=n), adj_close=None) for n in (1, 2, 3))), "one")
        old.load(OHLCV_1D, table(bar(close=1 / 3, ingest_ts=later(1))), "two")
        old.load(FUNDAMENTALS, table(item(), dataset=FUNDAMENTALS), "three")
        (text,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
        code = text.replace("/data/warehouse.duckdb", str(file))
        code = code.replace('user="market", password="...", dsn="db:1521/FREEPDB1"', "**place")
        place = {"user": USER, "password": PASSWORD, "dsn": double.dsn}
        exec(compile(code, "oracle.md", "exec"), {"place": place})
        for name in ("bronze_prices", "silver_prices", "silver_fundamentals", "load_audit"):
            statement = f"SELECT * FROM {name} ORDER BY load_id, loaded_at" + ("" if name == "load_audit" else ", row_hash")
            assert warehouse.query(statement).to_pylist() == old.query(statement).to_pylist() != [], name


def test_a_reader_changes_nothing(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="ORA-01456 this transaction only reads") as caught, warehouse._session(write=False):
        warehouse._execute("delete", "DELETE FROM silver_prices")
    assert not caught.value.retriable


def test_a_statement_needs_a_session(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="outside of a session"):
        warehouse._execute("delete", "DELETE FROM silver_prices")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_happens_the_connection_is_closed(double: OracleDouble, warehouse: Warehouse, error: type[BaseException]) -> None:
    def fail() -> None:
        with warehouse._transaction():
            warehouse._execute("delete", "DELETE FROM silver_prices")
            raise error

    with pytest.raises(error):
        fail()
    assert until_closed(double) == 0


def test_the_hook_of_airflow_tests_the_connection(double: OracleDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    given = connection_to(double)
    fields = {"conn_type": "oracle", "host": given.host, "port": given.port, "login": USER, "password": PASSWORD}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(fields | {"extra": dict(given.extra)}))
    assert OracleHook("warehouse_default").test_connection() == (True, "Connection successfully tested")


# --- values on the wire ---------------------------------------------------------------------------------------------------------


def test_a_load_is_staged_by_one_call_and_nothing_as_long(double: OracleDouble, warehouse: Warehouse) -> None:
    rows = bars("AAPL", 300, trade_count=None)
    asked = statements_of(double, lambda: warehouse.load(OHLCV_1D, rows, "one"))
    (staged,) = [s for s in asked if s.sql.startswith("INSERT INTO stage_prices")]
    assert staged.rows == 300
    assert set(staged.types) == {"VARCHAR", "TIMESTAMP", "NUMBER"}
    assert staged.sql.endswith("VALUES (:1, :2, :3, :4, :5, :6, :7, :8, :9, :10, :11, :12, :13, :14, :15, :16)")
    for other in asked:
        assert not {"LONG", "DATE"} & set(other.types), other.sql


def test_nothing_is_staged_without_a_call(double: OracleDouble, warehouse: Warehouse) -> None:
    asked = statements_of(double, lambda: warehouse.load(OHLCV_1D, bars("AAPL", 0), "one"))
    assert not [s for s in asked if s.sql.startswith("INSERT INTO stage_prices")]


@pytest.mark.parametrize("moment", [naive(SEEN), SEEN, SEEN.astimezone(timezone(timedelta(hours=9)))])
def test_moments_that_are_asked_for_keep_their_microseconds_and_instant(warehouse: Warehouse, moment: datetime) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 3), "one")
    asked = "SELECT COUNT(*) AS n FROM silver_prices WHERE ingest_ts = ?"
    assert warehouse.query(asked, [moment])["n"].to_pylist() == [3]
    assert warehouse.query(asked, [moment + timedelta(microseconds=1)])["n"].to_pylist() == [0]


def test_results_have_the_types_of_the_other_engines(warehouse: Warehouse) -> None:
    asked = "SELECT symbol, period_end, fiscal_year, accepted_at, amount FROM silver_fundamentals"
    wanted = [pa.string(), pa.date32(), pa.int64(), pa.timestamp("us"), pa.decimal128(28, 6)]
    assert warehouse.query(asked).schema.types == wanted
    warehouse.load(FUNDAMENTALS, table(item(value=0.000001), dataset=FUNDAMENTALS), "one")
    found = warehouse.query(asked)
    assert found.schema.types == wanted
    assert found["amount"].to_pylist() == [Decimal("0.000001")]


def test_what_does_not_fit_stays_as_it_is(warehouse: Warehouse) -> None:
    at_night = datetime(2024, 1, 2, 23, 59, 59, tzinfo=UTC)
    with warehouse._session(write=True):
        warehouse._execute("create", "CREATE TABLE other (at_night DATE, large NUMBER(19))")
        warehouse._execute("insert", "INSERT INTO other VALUES (?, ?)", [naive(at_night), 2**63])
        found = warehouse._fetch("read", "SELECT at_night, large FROM other").to_pylist()
    assert found == [{"at_night": naive(at_night), "large": Decimal(2**63)}]


def test_dates_can_be_asked_for(warehouse: Warehouse) -> None:
    warehouse.load(FUNDAMENTALS, table(item(), dataset=FUNDAMENTALS), "one")
    asked = "SELECT COUNT(*) AS n FROM silver_fundamentals WHERE period_end = ?"
    assert [warehouse.query(asked, [day])["n"][0].as_py() for day in (date(2023, 12, 30), date(2023, 12, 31))] == [1, 0]


# --- faults on the way ----------------------------------------------------------------------------------------------------------


def exactly(statement: str) -> str:
    return statement if statement.startswith("<") else f"^{re.escape(statement)}$"


@pytest.mark.parametrize("action", ["drop", "drop_after"])
def test_a_load_cut_anywhere_is_loaded_once(double: OracleDouble, warehouse: Warehouse, action: str) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "new")
    changed = bars("AAPL", 5, adj_close=0.5, ingest_ts=later(0.5))
    steps = [s.sql for s in statements_of(double, lambda: warehouse.load(OHLCV_1D, changed, "dry"))]
    assert len(steps) == 10
    for number, step in enumerate([*(["<connect>"] if action == "drop" else []), *steps, "<commit>"]):
        fault = getattr(double.faults, action)(exactly(step))
        rows = bars("AAPL", 5, adj_close=1.0 + number, ingest_ts=later(1 + number))
        lost = (step, action) == ("<commit>", "drop_after")
        assert warehouse.load(OHLCV_1D, rows, f"load {number}") == Loaded(5, 5, already=lost), step
        assert fault.struck == 1
        assert count(warehouse, "bronze_prices") == 5 * (number + 3)
        assert count(warehouse, "load_audit") == number + 3
        found = warehouse.query("SELECT adj_close_px FROM silver_prices")["adj_close_px"].to_pylist()
        assert found == [1 + number] * 5
    assert until_closed(double) == 0


def test_a_load_gives_up_in_the_end(double: OracleDouble, warehouse: Warehouse) -> None:
    fault = double.faults.drop("^INSERT INTO silver_prices", times=None)
    with pytest.raises(
        WarehouseError, match=r"^oracle: insert into silver_prices failed: DPY-4011 the connection was cut$"
    ) as caught:
        warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    assert caught.value.retriable
    assert fault.struck == 4
    double.faults.clear()
    assert [count(warehouse, f"{layer}_prices") for layer in ("silver", "bronze")] == [0, 0]


@pytest.mark.parametrize("number", [12514, 12516, 12520, 12541])
def test_a_listener_that_refuses_twice(double: OracleDouble, warehouse: Warehouse, number: int) -> None:
    fault = double.faults.refuse(number, times=2)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5)
    assert fault.struck == 2


def test_a_server_that_is_away_may_come_back(double: OracleDouble, warehouse: Warehouse) -> None:
    double.stop()
    with pytest.raises(WarehouseError, match=r"connect failed: DPY-6005 ConnectionRefusedError: Connection refused$") as caught:
        warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    assert caught.value.retriable
    double.start()
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5)


def test_a_name_that_is_not_found_may_be_later() -> None:
    with pytest.raises(WarehouseError, match="^oracle: connect failed: gaierror: ") as caught:
        open_with_hooks(replace(AT_HOST, host="nonesuch.invalid")).query("SELECT 1 FROM dual")
    assert caught.value.retriable


@pytest.mark.parametrize("number", [1, 54, 60, 1033, 1555, 1652, 3113, 4031, 4068, 8177, 12801, 14450, 16000, 30006])
def test_what_may_work_later_is_repeated(double: OracleDouble, warehouse: Warehouse, number: int) -> None:
    fault = double.faults.ora("^INSERT INTO silver_prices", number, times=2)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5)
    assert fault.struck == 2


@pytest.mark.parametrize("number", [904, 942, 1031, 1400, 1438, 1461, 1653, 1722, 2290, 12899, 30926, 38104])
def test_what_will_not_work_is_tried_once(double: OracleDouble, warehouse: Warehouse, number: int) -> None:
    fault = double.faults.ora("^INSERT INTO silver_prices", number, times=None)
    with pytest.raises(WarehouseError, match=f"^oracle: insert into silver_prices failed: ORA-{number:05d}") as caught:
        warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    assert not caught.value.retriable
    assert fault.struck == 1
    assert count(warehouse, "bronze_prices") == 0


@pytest.mark.parametrize("number", [18, 20, 2391])
def test_a_session_that_is_not_free_may_be_later(double: OracleDouble, warehouse: Warehouse, number: int) -> None:
    fault = double.faults.ora("<connect>", number, times=2)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5)
    assert fault.struck == 2


def test_a_network_that_is_not_there_may_be_later() -> None:
    for number, again in [(errno.EHOSTUNREACH, True), (errno.ENETUNREACH, True), (errno.EACCES, False)]:
        assert errors.network(OSError(number, "no route"))[2] is again


def test_in_thick_mode_rows_go_a_few_at_a_time(double: OracleDouble, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the driver reserves 16,000 bytes for each text, and takes no more than two gigabytes at once."""
    monkeypatch.setattr(engine.OracleWarehouse, "_is_thick", True)
    monkeypatch.setattr(engine, "THICK_ROWS", 2)
    asked = statements_of(double, lambda: warehouse.load(OHLCV_1D, bars("AAPL", 5), "one"))
    assert len([s for s in asked if s.sql.startswith("INSERT INTO stage_prices")]) == 3
    assert closes(warehouse) == [100.0, 101.0, 102.0, 103.0, 104.0]


def test_arrays_of_rows_are_as_large_as_they_may_be(
    double: OracleDouble, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ARRAY_BYTES", 2_500)
    asked = statements_of(double, lambda: warehouse.load(OHLCV_1D, bars("AAPL", 25), "one"))
    arrays = [s.rows for s in asked if s.sql.startswith("INSERT INTO stage_prices")]
    assert arrays == [10, 10, 5]
    assert len(closes(warehouse)) == 25


def test_a_wrong_password_is_asked_once(double: OracleDouble, warehouse: Warehouse) -> None:
    before = len(double.seen.connects)
    for work in (
        lambda w: w.load(OHLCV_1D, bars("AAPL", 5), "one"),
        lambda w: w.migrate(),
        lambda w: w.query("SELECT 1 FROM dual"),
    ):
        with pytest.raises(WarehouseError, match="^oracle: connect failed: ORA-01017 login or password is wrong$") as caught:
            work(open_with_hooks(replace(connection_to(double), password="hunter2")))
        assert not caught.value.retriable
    assert len(double.seen.connects) == before + 3
    assert double.seen.failed_logins == [USER.upper()] * 3


@pytest.mark.parametrize("step", ["^INSERT INTO silver_prices", "<commit>"])
def test_a_server_that_does_not_answer_is_left_and_asked_again(double: OracleDouble, warehouse: Warehouse, step: str) -> None:
    fault = double.faults.hang(step)
    hurried = open_with_hooks(connection_to(double, call_timeout=1))
    assert hurried.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5)
    assert fault.struck == 1
    double.faults.hang("FROM silver_prices")
    with pytest.raises(WarehouseError, match=r"DPY-4024 the call took longer than extra\.call_timeout$") as caught:
        hurried.query("SELECT close_px FROM silver_prices")
    assert caught.value.retriable


# --- several at once ------------------------------------------------------------------------------------------------------------


def at_once(double: OracleDouble, locked: str, works: list[Callable[[], Any]]) -> list[Any]:
    """Results of ``works``, which all stood before a lock on ``locked`` together before one of them got on."""
    with ThreadPoolExecutor(len(works)) as pool, session(double) as other:
        other.execute(f"LOCK TABLE {locked} IN EXCLUSIVE MODE")
        running = [pool.submit(work) for work in works]
        double.until_waiting(len(works))
        other.connection.rollback()
        return [work.result(60) for work in running]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_the_newest_of_four_writers_stands(double: OracleDouble, warehouse: Warehouse, order: list[int]) -> None:
    def load(version: int) -> Loaded:
        rows = bars("AAPL", 5, adj_close=1.0 + version, ingest_ts=later(version))
        return open_with_hooks(connection_to(double)).load(OHLCV_1D, rows, f"version {version}")

    done = at_once(double, "silver_prices", [lambda version=version: load(version) for version in order])
    assert [loaded.rows_in for loaded in done] == [5] * 4
    assert set(warehouse.query("SELECT adj_close_px FROM silver_prices")["adj_close_px"].to_pylist()) == {4}
    assert count(warehouse, "bronze_prices") == 20


def test_one_load_by_two_at_once_is_one_load(double: OracleDouble, warehouse: Warehouse) -> None:
    work = lambda: open_with_hooks(connection_to(double)).load(OHLCV_1D, bars("AAPL", 5), "one")  # noqa: E731
    done = at_once(double, "silver_prices", [work, work])
    assert sorted(done, key=lambda loaded: loaded.already) == [Loaded(5, 5), Loaded(5, 5, already=True)]
    assert [count(warehouse, name) for name in ("silver_prices", "bronze_prices", "load_audit")] == [5, 5, 1]


# --- migrations -----------------------------------------------------------------------------------------------------------------


def whole(warehouse: Warehouse) -> None:
    """Everything is there, and works."""
    found = warehouse.query("SELECT version, name FROM schema_version ORDER BY version").to_pylist()
    assert [f"{row['version']:04d}_{row['name']}" for row in found] == NAMES
    for view in re.findall(r"gold_\w+", " ".join(NAMES)):
        assert count(warehouse, view) == 0
    assert warehouse.load(OHLCV_1D, bars("AAPL", 2, provider="x" * 64), "one") == Loaded(2, 2)
    assert warehouse.migrate() == []


def first_migration() -> list[tuple[str, int]]:
    """Each statement of it, and its end, with how many times it was run before; of the rows of ``schema_version`` the first only, as
    the others are between the same statements."""
    with empty_double() as double:
        asked = [s.sql for s in statements_of(double, open_with_hooks(connection_to(double)).migrate)]
    steps = [(step, asked[:n].count(step)) for n, step in enumerate(asked)]
    return [(step, before) for step, before in steps if not (before and step.startswith("INSERT"))] + [("<commit>", 0)]


def cut_migrations(double: OracleDouble, action: str, steps: list[tuple[str, int]]) -> None:
    """Migrate, cut at each of ``steps`` in turn, and migrate again."""
    warehouse = open_with_hooks(connection_to(double))
    for step, before in steps:
        double.reset()
        fault = getattr(double.faults, action)(exactly(step), after=before)
        with pytest.raises(WarehouseError, match="DPY-4011") as caught:
            warehouse.migrate()
        assert caught.value.retriable
        assert fault.struck == 1
        again = warehouse.migrate()
        assert again == ([] if (step, action) == ("<commit>", "drop_after") else NAMES), step
        whole(warehouse)


@pytest.mark.parametrize("action", ["drop", "drop_after"])
def test_a_cut_migration_is_made_whole(double: OracleDouble, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.OracleWarehouse, "attempts", 1)
    made = [migration.statement(ORACLE) for migration in migrations.migrations(ORACLE)]
    steps = [next(s for s in made if s.startswith(words)) for words in ("CREATE OR REPLACE VIEW", "ALTER TABLE load_audit ADD")]
    cut_migrations(double, action, [(step, 0) for step in [*steps, "<commit>"]])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_migration_cut_anywhere_is_made_whole(double: OracleDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut before each statement: to the database that is the same as after the one before it."""
    monkeypatch.setattr(engine.OracleWarehouse, "attempts", 1)
    steps = first_migration()
    assert len(steps) > len(NAMES) + 5
    cut_migrations(double, "drop", steps)


def test_a_migration_is_tried_again_by_itself(double: OracleDouble) -> None:
    warehouse = open_with_hooks(connection_to(double))
    faults = [double.faults.drop("^CREATE TABLE silver_prices"), double.faults.ora("^ALTER TABLE silver_prices", 54, times=2)]
    assert warehouse.migrate() == NAMES
    assert [fault.struck for fault in faults] == [1, 2]
    whole(warehouse)


def test_a_table_in_use_is_changed_later(double: OracleDouble, warehouse: Warehouse) -> None:
    """A load holds the table that a migration of an older warehouse would change."""
    with session(double) as other:
        other.execute("DELETE FROM schema_version WHERE version > 21")
        other.connection.commit()
    assert at_once(double, "load_audit", [warehouse.migrate]) == [[name for name in NAMES if int(name[:4]) > 21]]
    whole(warehouse)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("^CREATE TABLE silver_prices", 1031),
        ("^CREATE TABLE silver_prices", 942),
        ("^CREATE OR REPLACE VIEW", 942),
        ("^CREATE OR REPLACE VIEW", 955),
        ("^ALTER TABLE load_audit ADD", 955),
        ("^ALTER TABLE silver_prices MODIFY", 1430),
        ("^ALTER TABLE silver_prices MODIFY", 942),
        ("^INSERT INTO schema_version", 1400),
    ],
)
def test_nothing_else_is_taken_for_done(double: OracleDouble, statement: str, number: int) -> None:
    double.faults.ora(statement, number)
    with pytest.raises(WarehouseError, match=f"ORA-{number:05d}") as caught:
        open_with_hooks(connection_to(double)).migrate()
    assert not caught.value.retriable


def test_tables_that_a_dba_has_made_are_taken(double: OracleDouble) -> None:
    with session(double) as dba:
        made = migrations.create_table("silver_prices", PRICES.columns, PRICES.key, ORACLE)
        dba.execute(made)
    warehouse = open_with_hooks(connection_to(double))
    assert warehouse.migrate() == NAMES
    whole(warehouse)


def test_who_migrates_at_once_does_it_one_after_another(double: OracleDouble) -> None:
    with session(double) as other:
        other.execute(migrations.CREATE_SCHEMA_VERSION.statement(ORACLE))
    works = [open_with_hooks(connection_to(double)).migrate for _ in range(3)]
    done: list[list[str]] = []
    asked = statements_of(double, lambda: done.extend(at_once(double, "schema_version", works)))
    assert sorted(done) == [[], [], NAMES]
    # who comes late defines nothing: it would drop a view that stands, and might end before it makes it anew
    defining = [name for name in NAMES if not name.endswith(("_actions_once", "_action_ids"))]  # these change rows
    assert len([s for s in asked if s.sql.startswith(("CREATE", "DROP", "ALTER TABLE"))]) == len(defining)
    whole(open_with_hooks(connection_to(double)))


def migrate(connection: WarehouseConnection) -> list[str]:
    with open_with_hooks(connection) as warehouse:
        return warehouse.migrate()


def test_processes_migrate_at_once(double: OracleDouble) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.map(migrate, [connection_to(double)] * 2)
    assert sorted(done) == [[], NAMES]
    whole(open_with_hooks(connection_to(double)))


# --- wallets --------------------------------------------------------------------------------------------------------------------

WALLET = "wallet/pass word"


def handshakes(double: OracleDouble) -> int:
    """How many failed; the server notices a moment later."""
    deadline = time.monotonic() + 10
    while not double.seen.failed_handshakes and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(double.seen.failed_handshakes)


def with_wallet(double: OracleDouble, folder: Path, password: str = WALLET) -> Warehouse:
    return open_with_hooks(connection_to(double, dsn=double.dsn, wallet_location=str(folder), wallet_password=password))


def test_a_wallet_opens_the_way(tmp_path: Path) -> None:
    wallet = make_wallet(tmp_path / "wallet", WALLET)
    with empty_double(tls=wallet) as double:
        assert with_wallet(double, wallet.location).migrate() == NAMES


def test_a_wrong_wallet_is_named_and_tried_once(tmp_path: Path) -> None:
    wallet, other = make_wallet(tmp_path / "wallet", WALLET), make_wallet(tmp_path / "other", WALLET)
    with empty_double(tls=wallet) as double:
        for password in ("hunter2", ""):
            with pytest.raises(ConfigError, match=r"extra\.wallet_password does not open the key in .*/ewallet\.pem$"):
                with_wallet(double, wallet.location, password)
        with pytest.raises(WarehouseError, match="DPY-6005 SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED$") as caught:
            with_wallet(double, other.location).migrate()
        assert not caught.value.retriable
        assert handshakes(double) == 1


def test_a_client_certificate_that_the_server_does_not_trust(tmp_path: Path) -> None:
    wallet, other = make_wallet(tmp_path / "wallet", WALLET), make_wallet(tmp_path / "other", WALLET)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    authority = (wallet.location / "server" / "authority.pem").read_text()
    (mixed / "ewallet.pem").write_text((other.location / "ewallet.pem").read_text() + authority)
    with empty_double(tls=wallet) as double:
        with pytest.raises(WarehouseError, match="connect failed: DPY-6005 SSLError: .*ALERT") as caught:
            with_wallet(double, mixed).migrate()
        assert not caught.value.retriable
        assert handshakes(double) == 1


# --- what is said ---------------------------------------------------------------------------------------------------------------


def test_errors_pickle() -> None:
    error = errors.OracleError("oracle: query failed: ORA-00060 deadlock", retriable=True, code="ORA-00060")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.retriable, again.code) == (str(error), True, "ORA-00060")


def test_names_are_said_and_values_are_not(double: OracleDouble, warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match=r'^oracle: query failed: ORA-00904 "nonesuch": invalid identifier$'):
        warehouse.query("SELECT nonesuch FROM silver_prices")
    with pytest.raises(WarehouseError, match=r"ORA-02290 a check of the table refuses a value \(LAKE\.BRONZE_PRICES_CK\)$"):
        warehouse.load(OHLCV_1D, table(bar("SECRETIVE", low=1e6)), "one")
    double.faults.ora(
        "^INSERT INTO silver_prices",
        1,
        text="unique constraint (LAKE.SILVER_PRICES_PK) violated (SYMBOL:SECRETIVE) exists",
        times=None,
    )
    with pytest.raises(WarehouseError, match=r"ORA-00001 a row with this key is there already \(LAKE\.SILVER_PRICES_PK\)$"):
        warehouse.load(OHLCV_1D, table(bar("SECRETIVE")), "two")
    double.faults.ora("^SELECT", 1722, text="unable to convert string value containing 'SECRETIVE' to a number", times=None)
    with pytest.raises(WarehouseError, match=r"^oracle: query failed: ORA-01722 a text is not a number$") as caught:
        warehouse.query("SELECT 1 AS one FROM dual")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_secrets_are_never_said(double: OracleDouble, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    secret = "hunter2"
    for dsn in ("(DESCRIPTION=(hunter2)", "a/b/c/hunter2:x", "hunter2_alias", double.dsn):
        for password in (PASSWORD, secret):
            warehouse = open_with_hooks(replace(connection_to(double, dsn=dsn), password=password))
            said.append(repr(warehouse) + repr(warehouse.__dict__))
            try:
                warehouse.migrate()
                warehouse.load(OHLCV_1D, bars("AAPL", 3), "one")
                double.faults.drop("^SELECT", times=None)
                warehouse.query("SELECT 1 AS one FROM dual")
            except WarehouseError as error:
                said.append(repr(error))
    double.faults.clear()
    out = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, out.out, out.err])
    assert len(said) == 16
    assert PASSWORD not in everything
    assert secret not in everything


# --- SQL ------------------------------------------------------------------------------------------------------------------------

SHIPPED = {
    "create schema_version": migrations.CREATE_SCHEMA_VERSION.statement(ORACLE),
    **{str(migration): migration.statement(ORACLE) for migration in migrations.migrations(ORACLE)},
    **{f"{name} {n}": made for name, each in TABLES.items() for n, made in enumerate(make(each) for make in OF_A_LOAD)},
    **{
        f"{name} {table.name}": make(table)
        for table in (MARKET_SESSIONS, SYMBOL_CALENDARS)
        for name, make in (("read", upsert_sql.read_reference), ("merge", upsert_sql.merge_reference))
    },
    "daily symbols": upsert_sql.DAILY_SYMBOLS,
    "followed": upsert_sql.FOLLOWED,
    "versions": migrations.SELECT_VERSIONS,
    "insert version": migrations.INSERT_VERSION,
    "audit": upsert_sql.SELECT_AUDIT,
    "insert audit": upsert_sql.INSERT_AUDIT,
    "table exists": ORACLE.table_exists,
    "lock": ORACLE.lock.format(table="silver_prices"),
    "first of previous": recent_bars_sql.first_of_previous(PRICES.silver, 20),
    "last before": recent_bars_sql.last_before(PRICES.silver),
    "folded": recent_bars_sql.folded_bars(PRICES.silver),
    "previous": recent_bars_sql.previous_bars(PRICES.silver),
    "session": engine.SESSION,
    "read only": engine.READ_ONLY,
    **{path.name: path.read_text("utf-8") for path in sorted((migrations.MIGRATIONS.parent / "queries").glob("*.sql"))},
}


def script(name: str) -> list[str]:
    """The statements of a script for DBAs."""
    text = re.sub(r"(?m)^--.*\n", "", (ORACLE_SQL / name).read_text("utf-8"))
    return [statement.strip() for statement in text.split(";") if statement.strip()]


SHIPPED |= {f"{path.name} {n}": made for path in sorted(ORACLE_SQL.glob("*.sql")) for n, made in enumerate(script(path.name))}


UNREAD = {
    "lock",
    "session",
    *(name for name in NAMES if name.endswith(("_prices_provider", "_prices_check_2"))),
    *(f"exchange.sql {n}" for n in (0, 3, 5)),
    "partitioned.sql 0",
    "partitioned.sql 1",
}
"""Statements of Oracle alone that sqlglot does not read.

Locks, sessions, ALTER TABLE MODIFY, ENABLE NOVALIDATE, partitions, compressed indexes.
"""


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in UNREAD])
def test_shipped_sql_is_oracles(name: str) -> None:
    assert problems(dialects.bound(SHIPPED[name], ORACLE)) == []


def test_sqlglot_does_not_read_the_rest() -> None:
    assert [name for name in UNREAD if not problems(dialects.bound(SHIPPED[name], ORACLE))] == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT close_px FROM silver_prices LIMIT 5",
        "SELECT close_px FROM silver_prices AS p",
        "SELECT close_px FROM silver_prices OFFSET 5",
        "SELECT close_px::int FROM silver_prices",
        "SELECT CAST(close_px AS BIGINT) AS n FROM silver_prices",
        "SELECT TRUE AS yes FROM dual",
        "SELECT 1 AS one",
        "SELECT string_agg(symbol, ',') AS all_of_them FROM silver_prices",
        "SELECT symbol FROM silver_prices QUALIFY ROW_NUMBER() OVER (ORDER BY bar_time) = 1",
        "SELECT 1 AS a_name_of_more_than_thirty_bytes FROM dual",
        "INSERT INTO t (k) VALUES (1), (2)",
        "CREATE TABLE t (k TEXT)",
        "MERGE INTO t USING (SELECT s.k FROM s) s ON (t.k = s.k) WHEN MATCHED THEN UPDATE SET k = s.k",
    ],
)
def test_other_sql_is_refused(sql: str) -> None:
    assert problems(sql)


@pytest.mark.parametrize(("number", "name", "key"), [(0, PRICES.bronze, PRICES.version_key), (1, PRICES.silver, PRICES.key)])
def test_the_partitioned_tables_have_our_columns_keys_and_checks(number: int, name: str, key: tuple[Column, ...]) -> None:
    made = script("partitioned.sql")[number].replace(" USING INDEX LOCAL COMPRESS 3", "")
    plain = migrations.create_table(name, PRICES.columns, key, ORACLE, PRICES.check)
    assert made.startswith(plain + "\nPARTITION BY RANGE (bar_time) INTERVAL")


def test_a_year_made_anew_is_the_year_that_stands(warehouse: Warehouse) -> None:
    for number, close in enumerate([100.0, 101.0, 100.0, 99.0]):
        rows = [
            bar("AAPL", close=close, ingest_ts=later(min(number, 2))),
            bar("MSFT", close=50.0 + number // 2, ingest_ts=later(-number)),
        ]
        warehouse.load(OHLCV_1D, table(*rows), f"load {number}")
    warehouse.load(OHLCV_1D, bars("IBM", 3, datetime(2025, 1, 1, tzinfo=UTC)), "of another year")
    insert, select, rest = script("exchange.sql")[1].partition("SELECT")
    assert re.findall(r"\w+", insert.partition("(")[2]) == [column.name for column in PRICES.columns]
    found = sorted(map(repr, warehouse.query(select + rest).to_pylist()))
    stands = "SELECT {} FROM silver_prices WHERE bar_time < TIMESTAMP '2025-01-01 00:00:00'"
    columns = ", ".join(column.name for column in PRICES.columns)
    assert found == sorted(map(repr, warehouse.query(stands.format(columns)).to_pylist()))
    assert len(found) == 2
