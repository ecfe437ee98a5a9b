"""The double of an Oracle Database itself, by the real driver and Airflow's hook. Its README says what it is for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import oracledb
import pyarrow as pa
import pytest
from airflow.providers.oracle.hooks.oracle import OracleHook
from airflow.sdk import Connection

from market_data.warehouse import dialects, migrations
from market_data.warehouse.oracle.dialect import ORACLE
from market_data.warehouse.schema import TABLES
from tests.services.oracle_double import OracleDouble, make_wallet
from tests.services.oracle_double.lint import problems
from tests.warehouse.rows import OF_A_LOAD

pytestmark = pytest.mark.slow

QUERIES = migrations.MIGRATIONS.parent / "queries"

TABLE = (
    "CREATE TABLE t (k NUMBER(10), v VARCHAR2(20 CHAR) NOT NULL, CONSTRAINT t_pk PRIMARY KEY (k), CONSTRAINT t_ck CHECK (k >= 0))"
)
STAGE = "CREATE GLOBAL TEMPORARY TABLE s (k NUMBER(10), v VARCHAR2(20 CHAR)) ON COMMIT DELETE ROWS"
MERGE = (
    "MERGE INTO t USING (SELECT s.k, s.v FROM s) s ON (t.k = s.k)\n"
    " WHEN MATCHED THEN UPDATE SET v = s.v\n"
    " WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)"
)
INSERT = "INSERT INTO t (k, v) VALUES (:1, :2)"


class Client:
    """A connection with short ways to use it."""

    def __init__(self, connection: oracledb.Connection) -> None:
        self.connection = connection

    def run(self, sql: str, *binds: Any) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, list(binds))
            return cursor.rowcount

    def rows(self, sql: str, *binds: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            return list(cursor.execute(sql, list(binds), fetch_decimals=True))

    def one(self, sql: str, *binds: Any) -> Any:
        ((value,),) = self.rows(sql, *binds)
        return value

    def many(self, sql: str, rows: Any, **options: Any) -> oracledb.Cursor:
        cursor = self.connection.cursor()
        cursor.executemany(sql, rows, **options)
        return cursor

    def frame(self, sql: str, *binds: Any) -> pa.Table:
        return pa.table(self.connection.fetch_df_all(sql, list(binds), fetch_decimals=True))

    def fails(self, number: int, sql: str, *binds: Any) -> str:
        """The text of the error, which has to be that one."""
        with pytest.raises(oracledb.Error) as caught:
            self.run(sql, *binds)
        assert caught.value.args[0].code == number, caught.value
        return str(caught.value)


Clients = Callable[[], Client]


@pytest.fixture
def double() -> Iterator[OracleDouble]:
    with OracleDouble() as started:
        yield started


@pytest.fixture
def client(double: OracleDouble) -> Iterator[Clients]:
    """Makes connections, and closes them."""
    made: list[oracledb.Connection] = []

    def connect() -> Client:
        made.append(oracledb.connect(user=double.user, password=double.password, dsn=double.dsn))
        return Client(made[-1])

    yield connect
    for connection in made:
        if connection.is_healthy():
            connection.close()


@pytest.fixture
def one(client: Clients) -> Client:
    """A session in which table ``t`` and stage ``s`` have been made."""
    made = client()
    made.run(TABLE)
    made.run(STAGE)
    return made


@contextmanager
def meanwhile(work: Callable[..., Any], *arguments: Any) -> Iterator[Future[Any]]:
    """``work`` in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work, *arguments)


def moment(text: str) -> datetime:
    """Without a time zone, as the tables hold it."""
    return datetime.fromisoformat(text)


# --- values ---------------------------------------------------------------------------------------------------------------------

VALUES = (
    "CREATE TABLE w (n NUMBER(10), d NUMBER(28,8), i NUMBER(28), ts TIMESTAMP(6), d0 DATE, t VARCHAR2(400 CHAR), f BINARY_DOUBLE)"
)


def random_rows(count: int, seed: int = 5) -> list[tuple[Any, ...]]:
    rng = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.1 else value

    def number(digits: int, places: int) -> Decimal:
        return rng.choice([1, -1]) * Decimal(rng.randrange(10 ** rng.randint(1, digits))).scaleb(-rng.randint(0, places))

    def some_moment() -> datetime:
        return datetime.fromisoformat("0001-01-01") + timedelta(
            days=rng.randrange(3_000_000), seconds=rng.randrange(86400), microseconds=rng.randrange(10**6)
        )

    def text() -> str:
        return "".join(rng.choice("aZ0 '\"\n:1?é株📈") for _ in range(rng.randint(1, 300)))

    return [
        (
            n,
            *map(
                maybe,
                (
                    number(28, 8) / 10**8,
                    number(28, 0),
                    some_moment(),
                    some_moment().replace(microsecond=0),
                    text(),
                    rng.gauss(0, 1e9),
                ),
            ),
        )
        for n in range(count)
    ]


WIDE = pa.schema(
    [
        ("n", pa.int64()),
        ("d", pa.decimal128(28, 8)),
        ("i", pa.decimal128(28, 0)),
        ("ts", pa.timestamp("us")),
        ("d0", pa.timestamp("s")),
        ("t", pa.string()),
        ("f", pa.float64()),
    ]
)


def shortened(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """With a decimal of 8 places."""
    return tuple(value.quantize(Decimal("1e-8")) if n == 1 and value is not None else value for n, value in enumerate(row))


def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers by value, not by how many zeros they are written with."""
    return tuple(value.normalize() if isinstance(value, Decimal) else value for value in row)


@pytest.mark.parametrize("arrow", [True, False])
def test_values_come_back_as_they_were(client: Clients, arrow: bool) -> None:
    session = client()
    session.run(VALUES)
    rows = [shortened(row) for row in random_rows(1500)]
    insert = "INSERT INTO w (n, d, i, ts, d0, t, f) VALUES (:1, :2, :3, :4, :5, :6, :7)"
    if arrow:
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), WIDE, strict=True)]
        cursor = session.many(insert, pa.table(columns, schema=WIDE))
    else:
        cursor = session.connection.cursor()
        cursor.setinputsizes(None, None, None, oracledb.DB_TYPE_TIMESTAMP, None, None, oracledb.DB_TYPE_BINARY_DOUBLE)
        cursor.executemany(insert, rows)
    assert cursor.rowcount == len(rows)
    found = session.rows("SELECT n, d, i, ts, d0, t, f FROM w ORDER BY n")
    assert [exact(row) for row in found] == [exact((*row[:6], None if row[6] is None else Decimal(repr(row[6])))) for row in rows]


def test_numbers_of_all_sizes_come_back_exactly(client: Clients) -> None:
    session = client()
    numbers = [
        Decimal(sign * digits).scaleb(scale)
        for sign in (1, -1)
        for digits in (1, 10, 99, 100, 12345, 10**27 + 1)
        for scale in (-9, -1, 0)
    ]
    for number in [*numbers, Decimal(0), Decimal("0.01"), Decimal("-0.000000001")]:
        assert session.one("SELECT CAST(:1 AS NUMBER(38,9)) FROM dual", number) == number


def test_messages_of_many_packets(double: OracleDouble, one: Client) -> None:
    one.run("CREATE TABLE long_ones (k NUMBER(10), v VARCHAR2(4000 CHAR))")
    rows = [(n, chr(97 + n % 26) * (n * 131 % 4000 + 1)) for n in range(200)]
    assert sum(len(v) for _, v in rows) > 4 * 65536
    one.many("INSERT INTO long_ones VALUES (:1, :2)", rows)
    assert one.rows("SELECT k, v FROM long_ones ORDER BY k") == rows
    comment = "/* " + "x" * 100_000 + " */"
    assert one.one(f"SELECT {comment} 1 FROM dual") == 1
    assert double.seen.statements[-1].sql.endswith("1 FROM dual")


def test_an_empty_string_is_null(one: Client) -> None:
    assert one.rows("SELECT '', :1 FROM dual", "") == [(None, None)]
    one.fails(1400, INSERT, 1, "")
    one.fails(1400, "INSERT INTO t (k, v) VALUES (1, '')")


def test_sorting_puts_null_where_oracle_does(client: Clients) -> None:
    session = client()
    session.run("CREATE TABLE n (k NUMBER(10))")
    session.many("INSERT INTO n VALUES (:1)", [(2,), (None,), (1,)])
    assert session.rows("SELECT k FROM n ORDER BY k") == [(1,), (2,), (None,)]
    assert session.rows("SELECT k FROM n ORDER BY k DESC") == [(None,), (2,), (1,)]


def test_types_of_columns(client: Clients) -> None:
    """A column's precision is known, an expression's is not, and then the driver makes a float of it."""
    session = client()
    session.run("CREATE TABLE p (px NUMBER(20,8), n NUMBER(10), d DATE, ts TIMESTAMP(6), v VARCHAR2(9))")
    session.run(
        "CREATE VIEW pv AS SELECT q.px, q.px AS same, q.px * 2 AS twice, MAX(q.px) OVER () AS top FROM (SELECT p.* FROM p) q"
    )
    session.run("INSERT INTO p VALUES (100000000000.00000001, 5, DATE '2024-02-29', TIMESTAMP '2024-02-29 10:11:12.123456', 'x')")
    exact, number, whole = pa.decimal128(20, 8), pa.float64(), pa.decimal128(10, 0)
    for sql, types in {
        "SELECT px, n, d, ts, v FROM p": [exact, whole, pa.timestamp("s"), pa.timestamp("us"), pa.large_string()],
        "SELECT p.* FROM p": [exact, whole, pa.timestamp("s"), pa.timestamp("us"), pa.large_string()],
        "SELECT px + 0 AS a, MAX(px) AS b, COUNT(*) AS c, n / 2 AS d FROM p GROUP BY px, n": [number] * 4,
        "SELECT CAST(MAX(px) AS NUMBER(20,8)) AS a, 1 AS b FROM p": [exact, number],
        "SELECT px, same, twice, top FROM pv": [exact, exact, number, number],
        "SELECT * FROM pv": [exact, exact, number, number],
        "WITH c AS (SELECT px AS a, px * 2 AS b FROM p) SELECT c.a, c.b, p.n FROM c JOIN p ON (p.px = c.a)": [exact, number, whole],
        "SELECT px FROM p UNION ALL SELECT px FROM p": [number],
        "SELECT CASE WHEN px > 0 THEN px END AS a, CAST(ts AS DATE) AS b FROM p": [number, pa.timestamp("s")],
    }.items():
        assert session.frame(sql).schema.types == types, sql
    assert session.frame("SELECT px FROM p")["PX"].to_pylist() == [Decimal("100000000000.00000001")]
    assert session.rows("SELECT d, ts FROM p") == [(moment("2024-02-29"), moment("2024-02-29 10:11:12.123456"))]


def test_what_no_number_can_be_is_an_error(one: Client) -> None:
    with pytest.raises(oracledb.DatabaseError, match="ORA-01476"):
        one.rows("SELECT 1 / 0 AS x FROM dual")
    assert one.one("SELECT COUNT(*) FROM t") == 0


# --- the driver -----------------------------------------------------------------------------------------------------------------


def test_results_come_in_as_many_pieces_as_are_asked_for(one: Client) -> None:
    one.many(INSERT, [(n, str(n)) for n in range(1000)])
    with one.connection.cursor() as cursor:
        cursor.arraysize = cursor.prefetchrows = 7
        assert [k for (k,) in cursor.execute("SELECT k FROM t ORDER BY k")] == list(range(1000))
        assert cursor.rowcount == 1000
    batches = one.connection.fetch_df_batches("SELECT k FROM t ORDER BY k", size=300)
    assert [pa.table(batch).num_rows for batch in batches] == [300, 300, 300, 100]
    assert one.frame("SELECT k FROM t WHERE k < 0").num_rows == 0


def test_statements_are_parsed_once(double: OracleDouble, one: Client) -> None:
    for n in range(3):
        one.run(INSERT, n, "x")
        assert one.one("SELECT COUNT(*) FROM t WHERE k <= :1", n) == n + 1
    mine = [statement for statement in double.seen.statements if ":1" in statement.sql]
    assert [statement.parsed for statement in mine] == [True, True] + [False] * 4
    assert mine[0].types == ("NUMBER", "VARCHAR")
    assert [statement.first for statement in mine[::2]] == [(0, "x"), (1, "x"), (2, "x")]


def test_row_counts(one: Client) -> None:
    assert one.many(INSERT, [(n, "old") for n in range(5)]).rowcount == 5
    one.many("INSERT INTO s VALUES (:1, :2)", [(n, "new") for n in range(3, 9)])
    assert one.run(MERGE) == 6
    assert one.run("UPDATE t SET v = 'x' WHERE k > 100") == 0
    changed = one.many("DELETE FROM t WHERE k < :1", [(2,), (2,), (4,)], arraydmlrowcounts=True)
    assert changed.getarraydmlrowcounts() == [2, 0, 2]
    assert changed.rowcount == 4


@pytest.mark.parametrize("rows", [5, 100])
def test_an_error_in_one_row_undoes_all_rows_unless_told(one: Client, rows: int) -> None:
    """Whether the rows go in one by one or together."""
    bad = [(n, None if n == 3 else "x") for n in range(rows)]
    with pytest.raises(oracledb.IntegrityError, match="ORA-01400"):
        one.many(INSERT, bad)
    assert one.one("SELECT COUNT(*) FROM t") == 0
    cursor = one.many(INSERT, [*bad, (0, "again")], batcherrors=True)
    assert [(error.offset, error.code) for error in cursor.getbatcherrors()] == [(3, 1400), (rows, 1)]
    assert one.one("SELECT COUNT(*) FROM t") == rows - 1
    one.connection.rollback()
    assert one.one("SELECT COUNT(*) FROM t") == 0


def test_autocommit(one: Client, client: Clients) -> None:
    one.connection.autocommit = True
    one.run(INSERT, 1, "x")
    assert client().one("SELECT COUNT(*) FROM t") == 1


def test_long_binds_are_for_plain_inserts(double: OracleDouble, one: Client) -> None:
    """pandas' strings come as LONG, the trap for which ``to_wire`` has plain strings."""
    rows = pa.table({"k": pa.array([1], pa.int64()), "v": pa.array(["x"], pa.large_string())})
    one.many(INSERT, rows)
    assert double.seen.statements[-1].types[1] == "LONG"
    merge = "MERGE INTO t USING (SELECT :1 AS k, :2 AS v FROM dual) s ON (t.k = s.k) WHEN MATCHED THEN UPDATE SET v = s.v"
    with pytest.raises(oracledb.DatabaseError, match="ORA-01461"):
        one.many(merge, rows)
    with pytest.raises(oracledb.DatabaseError, match="ORA-01461"):
        one.many("INSERT INTO t (k, v) SELECT :1, :2 FROM dual", rows)
    one.many(merge, rows.cast(pa.schema([("k", pa.int64()), ("v", pa.string())])))


@pytest.fixture
def hook(double: OracleDouble, monkeypatch: pytest.MonkeyPatch) -> OracleHook:
    extra = {"service_name": double.service_name, "module": "warehouse"}
    where = {
        "host": double.host,
        "port": double.port,
        "login": double.user,
        "password": double.password,
        "extra": json.dumps(extra),
    }
    connection = Connection(conn_id="oracle_double", conn_type="oracle", **where)
    monkeypatch.setattr(OracleHook, "get_connection", lambda *_: connection)
    return OracleHook(log_sql=False)


def test_the_hook_of_airflow(double: OracleDouble, hook: OracleHook) -> None:
    assert hook.test_connection() == (True, "Connection successfully tested")
    hook.run([TABLE, "INSERT INTO t (k, v) VALUES (1, 'x')"])
    assert hook.get_records("SELECT k, v FROM t") == [(1, "x")]
    with pytest.raises(oracledb.DatabaseError, match="ORA-00942"):
        hook.get_first("SELECT * FROM nonesuch")
    assert "warehouse" in double.seen.attributes
    assert double.seen.clients[0]["AUTH_PROGRAM_NM"]


# --- login ----------------------------------------------------------------------------------------------------------------------


def test_who_may_come_in(double: OracleDouble) -> None:
    for user, password in [(double.user, "wrong"), (double.user, ""), ("nobody", double.password)]:
        with pytest.raises(oracledb.Error, match="ORA-01017"):
            oracledb.connect(user=user, password=password, dsn=double.dsn)
    assert double.seen.failed_logins == [double.user.upper(), double.user.upper(), "NOBODY"]
    with pytest.raises(oracledb.OperationalError, match="12514"):
        oracledb.connect(user=double.user, password=double.password, dsn=double.dsn.replace("FREEPDB1", "XE"))


def test_awkward_passwords(tmp_path: Path) -> None:
    for password in ["p@ss/w:rd\"'", "ünïcödé 株", "x" * 64]:
        with (
            OracleDouble(password=password) as double,
            oracledb.connect(user=double.user, password=password, dsn=double.dsn) as connection,
        ):
            connection.ping()


def test_the_current_schema_must_be_a_user(double: OracleDouble, one: Client) -> None:
    one.connection.current_schema = double.user.upper()
    assert one.one("SELECT COUNT(*) FROM t") == 0
    one.connection.current_schema = "FREEPDB1"
    one.fails(1435, INSERT, 1, "x")
    assert double.seen.schemas[0] == double.user.upper()
    assert set(double.seen.schemas[-1:]) == {"FREEPDB1"}
    one.connection.current_schema = double.user.upper()
    assert one.one("SELECT COUNT(*) FROM t") == 0


def test_a_guest_changes_rows_of_the_schema_it_makes_its_own_and_owns_nothing() -> None:
    owned = "SELECT COUNT(*) FROM all_tables WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')"
    with OracleDouble(guests={"loader": "w0rd"}) as double:
        with oracledb.connect(user=double.user, password=double.password, dsn=double.dsn) as connection:
            connection.cursor().execute("CREATE TABLE t (id NUMBER(9) NOT NULL)")
        with oracledb.connect(user="loader", password="w0rd", dsn=double.dsn) as connection, connection.cursor() as cursor:
            for statement in ("SELECT id FROM t", "INSERT INTO t (id) VALUES (1)", "LOCK TABLE t IN EXCLUSIVE MODE NOWAIT"):
                with pytest.raises(oracledb.DatabaseError, match="ORA-00942"):
                    cursor.execute(statement)
            assert cursor.execute(owned).fetchone() == (0,)
            connection.current_schema = double.user
            assert cursor.execute(owned).fetchone() == (1,)
            assert cursor.execute("SELECT COUNT(*) FROM user_tables").fetchone() == (0,)
            cursor.execute("INSERT INTO t (id) VALUES (1)")
            with pytest.raises(oracledb.DatabaseError, match="ORA-01031"):
                cursor.execute("CREATE TABLE mine (id NUMBER(9))")
            with pytest.raises(oracledb.DatabaseError, match="ORA-01031"):
                cursor.execute("DROP TABLE t")
            assert cursor.execute("SELECT COUNT(*) FROM t").fetchone() == (1,)


@pytest.fixture(scope="module")
def wallets(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return [make_wallet(tmp_path_factory.mktemp("wallets") / name, "w4llet-s3cret") for name in ("right", "strange")]


def test_a_wallet_opens_the_door(wallets: list[Any]) -> None:
    right, strange = wallets

    def connect(location: Path | None, password: str | None) -> Any:
        where = {"wallet_location": str(location), "wallet_password": password} if location else {}
        return oracledb.connect(user=double.user, password=double.password, dsn=double.dsn, **where)

    with OracleDouble(tls=right) as double:
        with connect(right.location, right.password) as connection:
            assert Client(connection).one("SELECT 7 AS n FROM dual") == 7
        for location, password in [(right.location, "wrong"), (strange.location, strange.password), (None, None)]:
            with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
                connect(location, password)
        assert len(double.seen.clients) == 1
        assert any("CERTIFICATE" in reason for reason in double.seen.failed_handshakes)
    assert right.password not in repr(right)


# --- faults ---------------------------------------------------------------------------------------------------------------------


def dpy(error: pytest.ExceptionInfo[oracledb.Error]) -> str:
    return str(error.value.args[0].full_code)


def test_an_ordered_error(double: OracleDouble, one: Client) -> None:
    double.faults.ora("insert into t", 60, after=1, times=2)
    one.run(INSERT, 1, "x")
    assert "ordered by the test" in one.fails(60, INSERT, 2, "x")
    one.fails(60, INSERT, 2, "x")
    one.run(INSERT, 2, "x")
    assert one.one("SELECT COUNT(*) FROM t") == 2


def test_ordered_errors_at_events(double: OracleDouble, one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "x")
    double.faults.ora("<commit>", 2396)
    with pytest.raises(oracledb.DatabaseError, match="ORA-02396"):
        one.connection.commit()
    assert client().one("SELECT COUNT(*) FROM t") == 0
    double.faults.ora("<ping>", 3113)
    double.faults.drop("<rollback>")
    other = client()
    with pytest.raises(oracledb.DatabaseError, match="ORA-03113"):
        other.connection.ping()
    another = client()
    another.run("SET TRANSACTION READ ONLY")
    with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
        another.connection.rollback()


def insert_and_commit(session: Client) -> None:
    session.run(INSERT, 1, "x")
    session.connection.commit()


def test_a_cut_before_and_after(double: OracleDouble, one: Client, client: Clients) -> None:
    for match, stays in [("insert", 0), ("<commit>", 0)]:
        session = client()
        double.faults.drop(match)
        with pytest.raises(oracledb.DatabaseError) as caught:
            insert_and_commit(session)
        assert dpy(caught) == "DPY-4011"
        assert one.one("SELECT COUNT(*) FROM t") == stays
    for match, stays in [("insert", 0), ("<commit>", 1)]:
        session = client()
        double.faults.drop_after(match)
        with pytest.raises(oracledb.DatabaseError) as caught:
            insert_and_commit(session)
        assert dpy(caught) == "DPY-4011"
        assert one.one("SELECT COUNT(*) FROM t") == stays


def test_a_cut_while_rows_are_fetched(double: OracleDouble, one: Client) -> None:
    one.many(INSERT, [(n, "x") for n in range(100)])
    double.faults.drop("<fetch>", after=1)
    with one.connection.cursor() as cursor:
        cursor.arraysize = cursor.prefetchrows = 10
        cursor.execute("SELECT k FROM t")
        with pytest.raises(oracledb.DatabaseError) as caught:
            cursor.fetchall()
    assert dpy(caught) == "DPY-4011"


def test_a_hanging_server_is_left_after_the_call_timeout(double: OracleDouble, one: Client) -> None:
    one.run(INSERT, 1, "x")
    fault = double.faults.hang("select")
    one.connection.call_timeout = 100
    with pytest.raises(oracledb.DatabaseError) as caught:
        one.rows("SELECT k FROM t")
    assert dpy(caught) == "DPY-4024"
    assert fault.struck == 1
    one.connection.call_timeout = 0
    assert one.one("SELECT COUNT(*) FROM t") == 1  # the session goes on, and so does its transaction


def test_who_hangs_is_let_go_when_the_double_ends() -> None:
    with OracleDouble() as double:
        connection = oracledb.connect(user=double.user, password=double.password, dsn=double.dsn)
        fault = double.faults.hang("<ping>")
        with meanwhile(connection.ping) as ping:
            until(lambda: bool(fault.struck))
            double.stop()
            assert isinstance(ping.exception(), oracledb.Error)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_refused_connections(double: OracleDouble, client: Clients) -> None:
    for number in (12514, 12516, 12541):
        double.faults.refuse(number)
        with pytest.raises(oracledb.OperationalError, match=str(number)) as caught:
            client()
        assert dpy(caught) == "DPY-6005"
    double.faults.drop("<connect>")
    with pytest.raises(oracledb.Error):
        client()
    double.faults.ora("<connect>", 28000, times=None)
    for _ in range(2):
        with pytest.raises(oracledb.DatabaseError, match="ORA-28000"):
            client()
    double.faults.clear()
    client().one("SELECT 1 FROM dual")
    assert len(double.seen.connects) == 7


def test_a_server_that_was_restarted(double: OracleDouble, one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "kept")
    one.connection.commit()
    one.run(INSERT, 2, "lost")
    double.stop()
    with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
        one.run(INSERT, 3, "x")
    with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
        client()
    double.start()
    assert client().rows("SELECT k, v FROM t") == [(1, "kept")]


def test_a_reset_leaves_nothing(double: OracleDouble, one: Client, client: Clients) -> None:
    double.faults.refuse(12541)
    one.run(INSERT, 1, "x")
    double.reset()
    assert not double.seen.statements
    assert client().one("SELECT COUNT(*) FROM user_tables") == 0


def test_a_folder_keeps_what_was_committed(tmp_path: Path) -> None:
    def session(double: OracleDouble) -> Client:
        return Client(oracledb.connect(user=double.user, password=double.password, dsn=double.dsn))

    with OracleDouble(folder=tmp_path) as double:
        first = session(double)
        for statement in (TABLE, STAGE, "CREATE VIEW v AS SELECT k AS n FROM t"):
            first.run(statement)
        first.run(INSERT, 1, "x")
        first.connection.commit()
        first.run(INSERT, 2, "x")
    with OracleDouble(folder=tmp_path) as double:
        second = session(double)
        assert second.frame("SELECT n FROM v").to_pydict() == {"N": [Decimal(1)]}
        second.fails(12899, INSERT, 3, "x" * 21)
        assert second.one("SELECT COUNT(*) FROM s") == 0
        double.reset()
        assert session(double).one("SELECT COUNT(*) FROM user_tables") == 0


def test_a_defect_of_the_double_is_raised_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.services.oracle_double.session.Session._record", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_one_statement()


def run_one_statement() -> None:
    with OracleDouble() as double:
        session = Client(oracledb.connect(user=double.user, password=double.password, dsn=double.dsn))
        with pytest.raises(oracledb.Error):
            session.rows("SELECT 1 FROM dual")


# --- transactions ---------------------------------------------------------------------------------------------------------------


def test_nobody_sees_what_is_not_committed(one: Client, client: Clients) -> None:
    other = client()
    one.run(INSERT, 1, "x")
    assert [one.one("SELECT COUNT(*) FROM t"), other.one("SELECT COUNT(*) FROM t")] == [1, 0]
    one.connection.commit()
    assert other.one("SELECT COUNT(*) FROM t") == 1


def test_each_statement_sees_the_newest_commits(one: Client, client: Clients) -> None:
    one.run("CREATE TABLE u (k NUMBER(10) PRIMARY KEY)")
    one.run("CREATE VIEW uv AS SELECT COUNT(*) AS n FROM u")
    other = client()
    one.run(INSERT, 1, "x")  # a transaction is open from here
    for n in range(3):
        other.run("INSERT INTO u VALUES (:1)", n)
        other.connection.commit()
        assert one.one("SELECT COUNT(*) FROM u") == one.one("SELECT n FROM uv") == n + 1
        assert one.one("SELECT COUNT(*) FROM t") == 1
    one.fails(1, "INSERT INTO u VALUES (2)")
    assert one.run("UPDATE u SET k = 9 WHERE k = 2") == 1
    one.connection.commit()
    assert other.rows("SELECT k FROM u ORDER BY k") == [(0,), (1,), (9,)]


def test_a_transaction_that_only_reads(one: Client, client: Clients) -> None:
    other = client()
    other.run("SET TRANSACTION READ ONLY")
    one.run(INSERT, 1, "x")
    one.connection.commit()
    assert other.one("SELECT COUNT(*) FROM t") == 0
    other.fails(1456, INSERT, 2, "x")
    other.connection.commit()
    assert other.one("SELECT COUNT(*) FROM t") == 1
    other.run(INSERT, 2, "x")
    other.fails(1453, "SET TRANSACTION READ ONLY")


def test_a_transaction_that_stands_still(one: Client, client: Clients) -> None:
    other = client()
    one.run(INSERT, 1, "x")
    one.connection.commit()
    other.run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    one.run("UPDATE t SET v = 'y'")
    one.connection.commit()
    assert other.one("SELECT v FROM t") == "x"
    other.fails(8177, "UPDATE t SET v = 'z'")
    other.connection.rollback()
    assert other.one("SELECT v FROM t") == "y"


def test_what_cannot_be_done_again_is_said(one: Client, client: Clients) -> None:
    """Changes are done again where others have committed: this one reads what another session changes meanwhile."""
    one.run("CREATE TABLE u (k NUMBER(10), v VARCHAR2(20 CHAR))")
    other = client()
    one.run("INSERT INTO t (k, v) SELECT k, v FROM u")
    other.run("INSERT INTO u VALUES (1, 'x')")
    other.connection.commit()
    assert "of the double" in one.fails(3001, "SELECT COUNT(*) FROM u")
    assert one.one("SELECT COUNT(*) FROM t") == 0


def test_who_fails_keeps_nobody_waiting(one: Client, client: Clients) -> None:
    one.fails(1400, "INSERT INTO t (k) VALUES (1)")
    other = client()
    other.connection.call_timeout = 20_000
    other.run(INSERT, 1, "x")
    one.fails(54, f"{LOCK} NOWAIT")


def test_an_error_undoes_its_statement_alone(one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "first")
    one.many("INSERT INTO s VALUES (:1, :2)", [(7, "staged")])
    for number, statement in {
        1: "INSERT INTO t (k, v) VALUES (1, 'again')",
        1400: "INSERT INTO t (k) VALUES (2)",
        2290: "INSERT INTO t (k, v) VALUES (-1, 'x')",
        12899: "UPDATE t SET v = 'a text of more than twenty letters'",
        1438: "INSERT INTO t (k, v) VALUES (12345678901, 'x')",
        942: "INSERT INTO nonesuch (k) VALUES (1)",
        947: "INSERT INTO t (k, v) VALUES (2)",
        913: "INSERT INTO t (k) VALUES (2, 'x')",
        904: "UPDATE t SET nonesuch = 1",
        1722: "INSERT INTO t (k, v) VALUES ('no number', 'x')",
    }.items():
        one.fails(number, statement)
    assert one.run(MERGE) == 1
    one.connection.commit()
    assert client().rows("SELECT k, v FROM t ORDER BY k") == [(1, "first"), (7, "staged")]


def test_errors_name_what_they_are_about(one: Client) -> None:
    one.run(INSERT, 7, "x")
    assert "(MARKET.T_PK)" in (text := one.fails(1, INSERT, 7, "x"))
    assert "7" in text  # values too, as in 23ai: a leak of them is to be seen
    assert '("MARKET"."T"."V")' in one.fails(1400, "INSERT INTO t (k) VALUES (2)")
    assert "(MARKET.T_CK)" in one.fails(2290, INSERT, -1, "x")
    assert '"MARKET"."T"."V" (maximum: 20)' in one.fails(12899, INSERT, 1, "x" * 21)
    assert '"NONESUCH": invalid identifier' in one.fails(904, "SELECT nonesuch FROM t")
    assert '"X": invalid identifier' in one.fails(904, "SELECT x.k FROM t")


def test_a_merge_of_rows_that_occur_twice(one: Client) -> None:
    one.run(INSERT, 1, "x")
    one.many("INSERT INTO s VALUES (:1, :2)", [(1, "a"), (1, "b")])
    one.fails(30926, MERGE)
    one.run("DELETE FROM s")
    one.many("INSERT INTO s VALUES (:1, :2)", [(2, "a"), (2, "b")])
    one.fails(1, MERGE)
    assert one.rows("SELECT k, v FROM t") == [(1, "x")]


def test_merges_as_oracle_alone_writes_them(one: Client) -> None:
    one.many(INSERT, [(n, "old") for n in range(4)])
    one.many("INSERT INTO s VALUES (:1, :2)", [(n, "new") for n in range(6)])
    merge = MERGE.replace("SET v = s.v", "SET t.v = s.v WHERE s.k <> 2").replace("INTO t USING", "INTO t t USING")
    assert one.run(merge) == 5
    assert one.rows("SELECT v FROM t ORDER BY k") == [("new",), ("new",), ("old",), ("new",), ("new",), ("new",)]


def test_temporary_rows_are_the_sessions_own_until_it_commits(one: Client, client: Clients) -> None:
    other = client()
    stage = "INSERT INTO s VALUES (:1, :2)"
    count = "SELECT COUNT(*) FROM s"
    one.many(stage, [(n, "x") for n in range(50)])
    other.run(stage, 1, "y")
    assert [one.one(count), other.one(count)] == [50, 1]
    one.run(INSERT, 1, "x")
    one.run(stage, 99, "x")
    one.fails(1, INSERT, 1, "x")
    assert one.one(count) == 51
    one.connection.commit()
    assert [one.one(count), other.one(count)] == [0, 1]
    other.connection.rollback()
    assert other.one(count) == 0


def test_definitions_commit(one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "x")
    one.run("CREATE TABLE u (k NUMBER(10))")
    one.connection.rollback()
    assert client().one("SELECT COUNT(*) FROM t") == 1
    one.run(INSERT, 2, "x")
    one.fails(955, "CREATE TABLE t (k NUMBER(10))")
    one.connection.rollback()
    assert client().one("SELECT COUNT(*) FROM t") == 2


def test_definitions(one: Client) -> None:
    one.run("CREATE VIEW v AS SELECT k, v FROM t")
    one.fails(955, "CREATE VIEW v AS SELECT k FROM t")
    one.fails(955, "CREATE TABLE v (k NUMBER(10))")
    one.fails(955, "CREATE VIEW s AS SELECT k FROM t")
    one.run(INSERT, 1, "x" * 20)
    one.fails(1441, "ALTER TABLE t MODIFY (v VARCHAR2(5 CHAR))")
    one.run("ALTER TABLE t MODIFY (v VARCHAR2(30 CHAR))")
    one.run("ALTER TABLE t ADD (extra NUMBER(5,2))")
    one.run("ALTER TABLE s MODIFY (v VARCHAR2(30 CHAR))")
    one.run("INSERT INTO s (k, v) VALUES (2, :1)", "y" * 30)
    assert one.run(MERGE) == 1
    one.fails(12899, INSERT, 3, "x" * 31)
    one.fails(1, INSERT, 1, "x")
    assert one.rows("SELECT table_name FROM user_tables ORDER BY table_name") == [("S",), ("T",)]
    assert one.rows("SELECT k, extra FROM t ORDER BY k") == [(1, None), (2, None)]
    one.run("DROP VIEW v")
    one.fails(942, "DROP VIEW v")
    one.run("TRUNCATE TABLE t")
    assert one.one("SELECT COUNT(*) FROM t") == 0
    one.run("DROP TABLE t PURGE")
    one.fails(942, "DROP TABLE t")
    one.fails(942, "SELECT * FROM t")


# --- locks ----------------------------------------------------------------------------------------------------------------------

LOCK = "LOCK TABLE t IN EXCLUSIVE MODE"


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_a_lock_is_held_until_the_end(double: OracleDouble, one: Client, client: Clients, end: str) -> None:
    other = client()
    one.run(LOCK)
    one.run(INSERT, 1, "x")
    other.fails(54, f"{LOCK} NOWAIT")
    assert other.one("SELECT COUNT(*) FROM t") == 0  # who reads does not wait
    with meanwhile(other.run, f"{LOCK} WAIT 600") as waiting:
        double.until_waiting()
        assert not waiting.done()
        getattr(one.connection, end)()
        waiting.result(30)
    assert other.one("SELECT COUNT(*) FROM t") == (1 if end == "commit" else 0)


def test_a_wait_has_an_end(one: Client, client: Clients) -> None:
    one.run(LOCK)
    client().fails(30006, f"{LOCK} WAIT 1")


def test_who_writes_waits_for_a_lock_and_the_other_way_round(double: OracleDouble, one: Client, client: Clients) -> None:
    other = client()
    one.run(LOCK)
    with meanwhile(other.run, INSERT, 1, "x") as waiting:
        double.until_waiting()
        one.connection.commit()
        waiting.result(30)
    one.fails(54, f"{LOCK} NOWAIT")
    one.run("LOCK TABLE t IN ROW SHARE MODE NOWAIT")
    other.connection.commit()
    one.run(f"{LOCK} NOWAIT")
    one.fails(942, "LOCK TABLE nonesuch IN EXCLUSIVE MODE")


def test_two_that_write_the_same_key(double: OracleDouble, one: Client, client: Clients) -> None:
    other = client()
    one.run(INSERT, 1, "x")
    with meanwhile(other.fails, 1, INSERT, 1, "y") as waiting:
        double.until_waiting()
        one.connection.commit()
        waiting.result(30)


def test_two_that_wait_for_each_other(double: OracleDouble, one: Client, client: Clients) -> None:
    one.run("CREATE TABLE u (k NUMBER(10))")
    other = client()
    one.run(LOCK)
    other.run("LOCK TABLE u IN EXCLUSIVE MODE")
    with meanwhile(one.run, "LOCK TABLE u IN EXCLUSIVE MODE") as waiting:
        double.until_waiting()
        other.fails(60, LOCK)
        other.connection.rollback()
        waiting.result(30)


def test_who_waits_can_be_interrupted_and_a_dead_session_gives_up_its_locks(
    double: OracleDouble, one: Client, client: Clients
) -> None:
    other = client()
    one.run(LOCK)
    other.connection.call_timeout = 100
    with pytest.raises(oracledb.DatabaseError, match="DPY-4024"):
        other.run(LOCK)
    other.connection.call_timeout = 0
    double.faults.drop("select")
    with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
        one.rows("SELECT k FROM t")
    other.run(LOCK)


def test_definitions_need_the_table_for_themselves(double: OracleDouble, one: Client, client: Clients) -> None:
    other = client()
    one.run(INSERT, 1, "x")
    other.fails(54, "ALTER TABLE t MODIFY (v VARCHAR2(30 CHAR))")
    other.fails(54, "DROP TABLE t")
    other.run("ALTER SESSION SET DDL_LOCK_TIMEOUT = 600")
    with meanwhile(other.run, "ALTER TABLE t MODIFY (v VARCHAR2(30 CHAR))") as waiting:
        double.until_waiting()
        one.connection.commit()
        waiting.result(30)
    one.run(INSERT, 2, "x" * 30)


def test_many_threads_count_up_together(one: Client, client: Clients) -> None:
    one.run(INSERT, 0, "0")
    one.connection.commit()

    def count(session: Client) -> None:
        for _ in range(10):
            session.run(f"{LOCK} WAIT 600")
            session.run("UPDATE t SET v = :1", str(int(session.one("SELECT v FROM t")) + 1))
            session.connection.commit()

    sessions = [client() for _ in range(4)]
    threads = [threading.Thread(target=count, args=[session]) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert one.one("SELECT v FROM t") == "40"


def test_other_processes(double: OracleDouble, one: Client) -> None:
    script = (
        "import oracledb, sys\n"
        "with oracledb.connect(user=sys.argv[1], password=sys.argv[2], dsn=sys.argv[3]) as c:\n"
        "    c.cursor().execute('INSERT INTO t VALUES (:1, :2)', [int(sys.argv[4]), 'x'])\n"
        "    c.commit()\n"
    )
    command = [sys.executable, "-c", script, double.user, double.password, double.dsn]
    started = [subprocess.Popen([*command, str(n)]) for n in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert one.rows("SELECT k FROM t ORDER BY k") == [(0,), (1,)]


# --- what the double lacks or refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k FROM t FOR UPDATE",
        "SELECT k FROM t WHERE ROWNUM < 3",
        "BEGIN NULL; END;",
        "SAVEPOINT one",
        "ALTER TABLE t ADD CONSTRAINT t_uq UNIQUE (v)",
        "ALTER SESSION SET ISOLATION_LEVEL = SERIALIZABLE",
        "CREATE TABLE u AS SELECT k FROM t",
        "SELECT * FROM t JOIN s USING (k)",
    ],
)
def test_what_the_double_lacks_it_says(one: Client, sql: str) -> None:
    assert "of the double" in one.fails(3001, sql)


def test_messages_that_the_double_does_not_know_are_raised_at_its_end() -> None:
    with pytest.raises(NotImplementedError, match="function 128"):
        load_directly()


def load_directly() -> None:
    with OracleDouble() as double:
        connection = oracledb.connect(user=double.user, password=double.password, dsn=double.dsn)
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            connection.direct_path_load(schema_name=double.user, table_name="t", column_names=["k"], data=[(1,)])


def test_the_lint_is_in_front(one: Client) -> None:
    one.fails(933, "SELECT k FROM t LIMIT 1")
    one.fails(933, "SELECT k FROM t;")
    one.fails(902, "CREATE TABLE u (k TEXT)")
    one.fails(38104, MERGE.replace("SET v = s.v", "SET k = s.k"))


def test_sql_that_is_oracles_and_ours(one: Client) -> None:
    one.run("CREATE TABLE b (ts TIMESTAMP(6), d DATE, px NUMBER(20,8))")
    one.run("INSERT INTO b VALUES (:1, :2, 1.5)", moment("2024-03-10 04:30:00"), moment("2024-03-10 04:30:05"))
    sql = "SELECT EXTRACT(DAY FROM ts - INTERVAL '5' HOUR), NVL(NULL, 3), d, CAST(ts AS DATE) FROM market.b FETCH FIRST 1 ROWS ONLY"
    assert one.rows(sql) == [(9, 3, moment("2024-03-10 04:30:05"), moment("2024-03-10 04:30:00"))]
    assert one.rows("SELECT k FROM s MINUS SELECT k FROM t") == []
    assert one.one("SELECT COUNT(*) FROM b WHERE d >= DATE '2024-03-10' AND d < :1", date(2024, 3, 11)) == 1
    now = one.one("SELECT SYSTIMESTAMP FROM dual").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=5)


# --- the lint -------------------------------------------------------------------------------------------------------------------

REFUSED = {
    # signs
    "SELECT k FROM t;": 933,
    "SELECT k::INTEGER FROM t": 936,
    "SELECT k FROM t WHERE k = ?": 911,
    "SELECT k FROM t WHERE k = %s": 911,
    "SELECT k % 2 FROM t": 911,
    "SELECT `k` FROM t": 911,
    "SELECT k[1] FROM t": 911,
    "SELECT j -> 'a' FROM t": 936,
    "SELECT k FROM t WHERE v ~ 'x'": 911,
    "SELECT _k FROM t": 911,
    "SELECT 'it''s FROM t": 1756,
    "SELECT (k FROM t": 907,
    "SELECT k) FROM t": 933,
    "": 900,
    "-- nothing but a comment": 900,
    # queries
    "SELECT 1": 923,
    "SELECT k FROM t UNION ALL SELECT 1": 923,
    "SELECT k FROM t WHERE k = (SELECT 1)": 923,
    "SELECT EXTRACT(DAY FROM ts)": 923,
    "SELECT k FROM t LIMIT 5": 933,
    "SELECT k FROM t LIMIT :1": 933,
    "SELECT TOP 5 k FROM t": 923,
    "SELECT k FROM t OFFSET 5": 905,
    "SELECT k FROM t AS x": 933,
    "SELECT k FROM t JOIN u AS x ON (x.k = t.k)": 933,
    "SELECT k FROM (SELECT k FROM t) AS x": 933,
    "SELECT k FROM t, u AS x": 933,
    "SELECT k FROM t WHERE k IN (SELECT k FROM u AS x)": 933,
    "SELECT *, k FROM t": 923,
    "SELECT k, * FROM t": 923,
    "SELECT * EXCLUDE (k) FROM t": 923,
    "SELECT k, FROM t": 936,
    "SELECT DISTINCT ON (k) k FROM t": 936,
    "SELECT k FROM t WHERE v ILIKE 'x%'": 920,
    "SELECT k FROM t WHERE v SIMILAR TO 'x'": 920,
    "SELECT k FROM t WHERE v IS DISTINCT FROM 'x'": 908,
    "SELECT k FROM t WHERE v IS NOT DISTINCT FROM 'x'": 908,
    "SELECT k FROM t WHERE k BETWEEN SYMMETRIC 2 AND 1": 936,
    "SELECT k FROM t WHERE TRUE": 904,
    "SELECT k, FALSE AS flag FROM t": 904,
    "SELECT k FROM t WHERE (k > 1) IS TRUE": 904,
    "SELECT SUM(k) OVER w FROM t WINDOW w AS (PARTITION BY v)": 933,
    "SELECT SUM(k) OVER w FROM t": 905,
    "SELECT SUM(k) OVER (ORDER BY k GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t": 907,
    "SELECT k FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY k) = 1": 933,
    "SELECT COUNT(*) FILTER (WHERE k > 1) FROM t": 923,
    "SELECT k FROM t EXCEPT SELECT k FROM u": 933,
    "SELECT k FROM t INTERSECT ALL SELECT k FROM u": 928,
    "SELECT k FROM t UNION DISTINCT SELECT k FROM u": 928,
    "SELECT k, COUNT(*) FROM t GROUP BY ALL": 936,
    "WITH RECURSIVE x AS (SELECT k FROM t) SELECT k FROM x": 905,
    "WITH x AS MATERIALIZED (SELECT k FROM t) SELECT k FROM x": 906,
    "WITH x AS (SELECT k FROM t) DELETE FROM t WHERE k IN (SELECT k FROM x)": 928,
    "SELECT k FROM (VALUES (1), (2)) x": 903,
    "FROM t": 900,
    "VALUES (1)": 900,
    # names
    "SELECT date FROM t": 936,
    "SELECT t.size FROM t": 1747,
    "SELECT k AS mode FROM t": 923,
    "SELECT k size FROM t": 923,
    "SELECT k FROM session": 903,
    "SELECT k FROM t WHERE size > 1": 936,
    "SELECT k AS a_name_of_more_than_thirty_bytes FROM t": 972,
    "INSERT INTO t (k, date) VALUES (:1, :2)": 1747,
    # functions, literals and types
    "SELECT NOW() FROM dual": 904,
    "SELECT DATE_TRUNC('day', ts) FROM t": 904,
    "SELECT STRING_AGG(v, ',') FROM t": 904,
    "SELECT SUBSTRING(v, 1, 2) FROM t": 904,
    "SELECT LEFT(v, 2) FROM t": 904,
    "SELECT TRY_CAST(v AS NUMBER) FROM t": 904,
    "SELECT CONCAT(v, v, v) FROM t": 909,
    "SELECT LOG(k) FROM t": 909,
    "SELECT k FROM t WHERE ts > ts - INTERVAL '5 hours'": 30089,
    "SELECT k FROM t WHERE ts > ts - INTERVAL 5 HOUR": 30089,
    "SELECT k FROM t WHERE ts > ts - INTERVAL '100' HOUR": 1873,
    "SELECT k FROM t WHERE ts > TIMESTAMP '2024-01-02'": 1861,
    "SELECT k FROM t WHERE d > DATE '20240102'": 1861,
    "SELECT DOUBLE '1.5' FROM dual": 936,
    "SELECT TIMESTAMPTZ '2024-01-02 00:00:00+00' FROM dual": 936,
    "SELECT E'\\n' FROM dual": 936,
    "SELECT 'a' 'b' FROM dual": 923,
    "SELECT CAST(k AS TEXT) FROM t": 902,
    "SELECT CAST(k AS VARCHAR) FROM t": 906,
    "SELECT CAST(k AS BIGINT) FROM t": 902,
    "SELECT CAST(k AS DOUBLE) FROM t": 902,
    "SELECT CAST(k AS NUMBER(39)) FROM t": 1727,
    # changes
    "INSERT INTO t (k) VALUES (1), (2)": 933,
    "INSERT INTO t (k) VALUES (1) ON CONFLICT DO NOTHING": 933,
    "INSERT OR REPLACE INTO t (k) VALUES (1)": 925,
    "INSERT INTO t DEFAULT VALUES": 926,
    "INSERT INTO t AS x (k) VALUES (1)": 926,
    "INSERT INTO t (k) VALUES (1) RETURNING k": 925,
    "UPDATE t SET k = u.k FROM u": 933,
    "UPDATE t AS x SET k = 1": 971,
    "DELETE FROM t USING u WHERE t.k = u.k": 933,
    "DELETE FROM t AS x": 933,
    "MERGE INTO t AS x USING s ON (x.k = s.k) WHEN MATCHED THEN UPDATE SET v = s.v": 969,
    "MERGE INTO t USING (SELECT k, v FROM s) AS s ON (t.k = s.k) WHEN MATCHED THEN UPDATE SET v = s.v": 969,
    "MERGE INTO t USING s ON t.k = s.k WHEN MATCHED THEN UPDATE SET v = s.v": 906,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN MATCHED AND t.v <> s.v THEN UPDATE SET v = s.v": 905,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN NOT MATCHED BY SOURCE THEN DELETE": 905,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN MATCHED THEN DELETE": 905,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN NOT MATCHED THEN DO NOTHING": 905,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN MATCHED THEN UPDATE SET k = s.k, v = s.v": 38104,
    "MERGE INTO t x USING s ON (s.k = x.k) WHEN MATCHED THEN UPDATE SET x.v = s.v, x.k = s.k": 38104,
    "MERGE INTO t USING s ON (t.k = s.k) WHEN NOT MATCHED THEN INSERT (k, size) VALUES (s.k, s.v)": 1747,
    # definitions
    "CREATE TABLE IF NOT EXISTS t (k NUMBER(10))": 933,
    "DROP TABLE IF EXISTS t": 933,
    "CREATE TEMPORARY TABLE t (k NUMBER(10))": 901,
    "CREATE TEMP TABLE t (k NUMBER(10))": 901,
    "CREATE OR REPLACE TABLE t (k NUMBER(10))": 901,
    "CREATE TABLE t (k NUMBER(10), v TEXT)": 902,
    "CREATE TABLE t (k BIGINT)": 902,
    "CREATE TABLE t (k NUMBER(10), ok BOOLEAN)": 902,
    "CREATE TABLE t (v VARCHAR2)": 906,
    "CREATE TABLE t (v VARCHAR2(5000))": 910,
    "CREATE TABLE t (k NUMBER(40,8))": 1727,
    "CREATE TABLE t (ts TIMESTAMP(12))": 30088,
    "CREATE TABLE t (date DATE)": 904,
    "CREATE TABLE t (k NUMBER(10), size NUMBER(10))": 904,
    "CREATE TABLE size (k NUMBER(10))": 903,
    "CREATE TABLE t (k NUMBER(10),)": 904,
    "CREATE TABLE t (k NUMBER(10) NOT NULL DEFAULT 0)": 907,
    "CREATE TABLE t (k NUMBER(10)) ON COMMIT DROP": 905,
    "CREATE VIEW v AS SELECT k FROM t WHERE k = :1": 1027,
    "CREATE VIEW v AS SELECT k FROM t LIMIT 1": 933,
    "ALTER TABLE t ALTER COLUMN v TYPE VARCHAR2(9)": 1735,
    "ALTER TABLE t ADD COLUMN v VARCHAR2(9)": 904,
    "ALTER TABLE t MODIFY (v TEXT)": 902,
    "DROP TABLE t CASCADE": 905,
    # others
    "BEGIN TRANSACTION": 900,
    "START TRANSACTION": 900,
    "SHOW TABLES": 900,
    "SET search_path = x": 922,
    "EXPLAIN ANALYZE SELECT k FROM t": 905,
    "LOCK TABLE t": 905,
    "LOCK TABLE t IN ACCESS EXCLUSIVE MODE": 1737,
    "LOCK TABLE t IN EXCLUSIVE MODE WAIT": 933,
}


@pytest.mark.parametrize(("sql", "number"), REFUSED.items())
def test_the_lint_refuses(sql: str, number: int) -> None:
    assert f"ORA-{number:05d}" in {problem.split(":")[0] for problem in problems(sql)}


ACCEPTED = [
    "SELECT 1 FROM dual",
    "select k, v as name, 'LIMIT 5; ::' text from t x where x.k = :1 -- LIMIT 5;",
    "SELECT /*+ USE_HASH(t) */ t.*, u.k FROM t, u WHERE t.k = u.k(+) AND q'[it's]' = N'it''s'",
    "SELECT * FROM t LEFT OUTER JOIN u USING (k) NATURAL JOIN w CROSS JOIN x",
    "SELECT k FROM t AS OF TIMESTAMP SYSTIMESTAMP - INTERVAL '10' MINUTE",
    "SELECT k FROM t ORDER BY k DESC NULLS LAST OFFSET 5 ROWS FETCH NEXT 10 ROWS ONLY",
    "SELECT k FROM t FETCH FIRST 5 ROWS WITH TIES",
    "SELECT k FROM t MINUS SELECT k FROM u INTERSECT SELECT k FROM w UNION ALL (SELECT k FROM x)",
    "WITH x AS (SELECT k FROM t), y (a, b) AS (SELECT 1, 2 FROM dual) SELECT x.k, y.a FROM x JOIN y ON (y.a = x.k)",
    "WITH r (n) AS (SELECT 1 FROM dual UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r",
    "SELECT EXTRACT(YEAR FROM ts), TRIM(LEADING '0' FROM v), CAST(k AS NUMBER(20,8)) AS px, CAST(k AS DOUBLE PRECISION) FROM t",
    "SELECT COUNT(*), COUNT(DISTINCT k), k * 2 FROM t WHERE v IS NOT NULL AND v NOT LIKE 'x%' ESCAPE '!' GROUP BY k HAVING COUNT(*) > 1",
    "SELECT SUM(k) OVER (PARTITION BY v ORDER BY ts ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS total FROM t",
    "SELECT SUM(k) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW) FROM t",
    "SELECT LAST_VALUE(k) IGNORE NULLS OVER (ORDER BY k) FROM t",
    "SELECT LISTAGG(v, ',') WITHIN GROUP (ORDER BY v), MAX(k) KEEP (DENSE_RANK LAST ORDER BY ts) FROM t",
    "SELECT CASE WHEN k > 1 THEN DATE '2024-01-02' ELSE TO_DATE('2024', 'YYYY') END, NVL(v, 'x'), SUBSTR(v, 1, 2), v || 'x' FROM t",
    "SELECT INTERVAL '400' DAY(3), INTERVAL '1 02:03:04' DAY TO SECOND FROM dual",
    "SELECT TIMESTAMP '2024-01-02 03:04:05.678 +00:00', 1e5, 1.5f, .5 FROM dual",
    "SELECT LOG(10, k), POWER(k, 2), MOD(k, 2), CONCAT(v, 'x'), CEIL(k), SYSDATE, CURRENT_TIMESTAMP, USER, ROWNUM, t.ROWID FROM t",
    'SELECT "date", t."size", limit, top, offset, qualify FROM "session" t',
    "SELECT limit.k FROM t limit",
    "SELECT JSON_VALUE(v, '$.a' RETURNING NUMBER NULL ON ERROR) FROM t WHERE JSON_EXISTS(v, '$.a' FALSE ON ERROR)",
    "SELECT k FROM t WHERE k = ANY (1, 2) OR EXISTS (SELECT 1 FROM u) OR (k, v) IN (SELECT k, v FROM u)",
    "SELECT k, LEVEL FROM t START WITH k = 1 CONNECT BY PRIOR k = v",
    "SELECT * FROM (SELECT v, k FROM t) PIVOT (SUM(k) AS total FOR v IN ('a' AS a, 'b' AS b)) p",
    "SELECT k FROM t x CROSS APPLY (SELECT v FROM u WHERE u.k = x.k) y, LATERAL (SELECT 1 n FROM dual) z",
    "SELECT k FROM t WHERE k = 1 FOR UPDATE OF k NOWAIT",
    "SELECT s.nextval, CURSOR(SELECT 1 FROM dual) FROM dual",
    "INSERT INTO t (k, v) VALUES (:1, :name)",
    "INSERT INTO market.t SELECT k, v FROM s",
    "INSERT INTO t VALUES (1, DEFAULT) RETURNING k INTO :1",
    "INSERT ALL INTO t (k) VALUES (1) INTO t (k) VALUES (2) SELECT 1 FROM dual",
    "INSERT INTO t (k) WITH x AS (SELECT 1 k FROM dual) SELECT k FROM x",
    "UPDATE t x SET x.v = 'a', (k, v) = (SELECT k, v FROM u) WHERE x.k = 1",
    "DELETE t WHERE k = 1",
    "DELETE FROM t x WHERE EXISTS (SELECT 1 FROM u WHERE u.k = x.k)",
    "MERGE /*+ APPEND */ INTO market.t x USING (SELECT k, v FROM s) s ON (x.k = s.k AND s.v = x.w)"
    " WHEN MATCHED THEN UPDATE SET x.v = s.v WHERE x.v <> s.v DELETE WHERE x.v = 'x'"
    " WHEN NOT MATCHED THEN INSERT (x.k, x.v) VALUES (s.k, s.v) WHERE s.k > 0",
    "MERGE INTO t USING s ON (t.k = s.k) WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.v)",
    "CREATE TABLE t (k NUMBER(10) DEFAULT 0 NOT NULL, v VARCHAR2(4000 CHAR), x NUMBER, d DATE, f BINARY_DOUBLE, g DOUBLE PRECISION,"
    " z TIMESTAMP(6) WITH TIME ZONE, twice NUMBER GENERATED ALWAYS AS (k * 2) VIRTUAL, r RAW(16), c CLOB, w NUMBER(*,2), l LONG,"
    " CONSTRAINT t_pk PRIMARY KEY (k) USING INDEX COMPRESS 1, CHECK (k >= 0))"
    " PARTITION BY RANGE (d) INTERVAL (NUMTOYMINTERVAL(1,'YEAR')) (PARTITION p0 VALUES LESS THAN (DATE '2016-01-01'))",
    "CREATE TABLE t (k NUMBER(10)) PARTITION BY LIST (k) (PARTITION a VALUES (1), PARTITION b VALUES (2))",
    "CREATE GLOBAL TEMPORARY TABLE s (k NUMBER(10)) ON COMMIT DELETE ROWS",
    "CREATE PRIVATE TEMPORARY TABLE ora$ptt_s (k NUMBER(10)) ON COMMIT DROP DEFINITION",
    "CREATE TABLE u AS SELECT k AS n FROM t WHERE 1 = 0",
    "CREATE OR REPLACE VIEW v (a) AS SELECT k FROM t WITH READ ONLY",
    "CREATE VIEW v AS SELECT k FROM t WITH CHECK OPTION",
    "CREATE UNIQUE INDEX i ON t (k, UPPER(v)) COMPRESS 1 ONLINE",
    "ALTER TABLE t MODIFY (v VARCHAR2(64 CHAR))",
    "ALTER TABLE t MODIFY v NOT NULL",
    "ALTER TABLE t ADD (a NUMBER(10), b DATE DEFAULT SYSDATE NOT NULL)",
    "ALTER TABLE t ADD CONSTRAINT t_uq UNIQUE (v)",
    "ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE u INCLUDING INDEXES WITHOUT VALIDATION",
    "DROP TABLE t CASCADE CONSTRAINTS PURGE",
    "TRUNCATE TABLE t REUSE STORAGE",
    "LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE NOWAIT",
    "LOCK TABLE market.t IN EXCLUSIVE MODE WAIT 600",
    "SET TRANSACTION READ ONLY",
    "ALTER SESSION SET TIME_ZONE = '+00:00' DDL_LOCK_TIMEOUT = 300",
    "GRANT SELECT, INSERT ON t TO reader",
    "COMMENT ON COLUMN t.k IS 'the key; LIMIT 5'",
    "BEGIN dbms_stats.gather_table_stats(user, 'T'); END;",
    "CREATE OR REPLACE PROCEDURE p AS ok BOOLEAN := TRUE; BEGIN NULL; END;",
    "EXPLAIN PLAN FOR SELECT k FROM t",
    "COMMIT",
]


@pytest.mark.parametrize("sql", ACCEPTED)
def test_the_lint_lets_through(sql: str) -> None:
    assert problems(sql) == []


def test_the_lint_knows_how_long_names_may_be() -> None:
    sql = f"SELECT {'n' * 31} FROM t"
    assert problems(sql)
    assert problems(sql, longest_name=128) == []
    assert problems(f"SELECT {'é' * 16} FROM t")


def test_the_lint_lets_through_what_is_shipped() -> None:
    dialect = ORACLE
    shipped = [migration.statement(dialect) for migration in migrations.migrations(dialect)]
    for table in TABLES.values():
        shipped += [make(table) for make in OF_A_LOAD]
    shipped += [path.read_text("utf-8") for path in sorted(QUERIES.glob("*.sql"))]
    assert {statement: found for statement in shipped if (found := problems(dialects.bound(statement, dialect)))} == {}
