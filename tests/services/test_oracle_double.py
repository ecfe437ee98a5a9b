"""Behaviour of the Oracle double that the warehouse's contract relies on and cannot show by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import oracledb
import pyarrow as pa
import pytest

from tests.services.oracle_double import OracleDouble

pytestmark = pytest.mark.slow

TABLE = (
    "CREATE TABLE t (k NUMBER(10), v VARCHAR2(20 CHAR) NOT NULL, CONSTRAINT t_pk PRIMARY KEY (k), CONSTRAINT t_ck CHECK (k >= 0))"
)
STAGE = "CREATE GLOBAL TEMPORARY TABLE s (k NUMBER(10), v VARCHAR2(20 CHAR)) ON COMMIT DELETE ROWS"
INSERT = "INSERT INTO t (k, v) VALUES (:1, :2)"
MERGE = (
    "MERGE INTO t USING (SELECT s.k, s.v FROM s) s ON (t.k = s.k)\n"
    " WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)"
)
LOCK = "LOCK TABLE t IN EXCLUSIVE MODE"


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

    def many(self, sql: str, rows: Any) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, rows)

    def fails(self, number: int, sql: str, *binds: Any) -> str:
        """Return the text of the error, which has to be that one."""
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
    """Make connections, and close them."""
    made: list[oracledb.Connection] = []

    def connect() -> Client:
        made.append(oracledb.connect(user=double.user, password=double.password, dsn=double.dsn))
        return Client(made[-1])

    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def one(client: Clients) -> Client:
    """A session in which table ``t`` and stage ``s`` have been made."""
    made = client()
    made.run(TABLE)
    made.run(STAGE)
    return made


# --- values ---------------------------------------------------------------------------------------------------------------------

EDGES = {
    "NUMBER(28,8)": [
        Decimal(text) for text in ("0", "1", "-1", "99999999999999999999.99999999", "-0.00000001", "100", "-12345.678")
    ],
    "NUMBER": [Decimal("1E-100"), Decimal("123456789012345678901234567890.123"), Decimal(-7) / 8],
    "TIMESTAMP(6)": [datetime.fromisoformat(text) for text in ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999")],
    "DATE": [datetime.fromisoformat("1969-12-31 23:59:59")],
    "BINARY_DOUBLE": [0.1, -0.1, 1e300, -5e-324],
    "VARCHAR2(4000 CHAR)": ["'\"\n:1?%s", "株📈", "x" * 4000],
}


@pytest.mark.parametrize("kind", EDGES)
def test_values_return_unchanged(one: Client, kind: str) -> None:
    one.run(f"CREATE TABLE w (n NUMBER(10), c {kind})")
    rows = list(enumerate([*EDGES[kind], None]))
    with one.connection.cursor() as cursor:
        types = {"TIMESTAMP(6)": oracledb.DB_TYPE_TIMESTAMP, "BINARY_DOUBLE": oracledb.DB_TYPE_BINARY_DOUBLE}
        cursor.setinputsizes(None, types.get(kind))
        cursor.executemany("INSERT INTO w (n, c) VALUES (:1, :2)", rows)
    assert one.rows("SELECT n, c FROM w ORDER BY n") == rows


def test_columns_have_oracles_types(one: Client) -> None:
    """A column's precision is known, an expression's is not, and then the driver makes a float of it."""
    one.run("CREATE TABLE p (px NUMBER(20,8), n NUMBER(10), d DATE, ts TIMESTAMP(6), v VARCHAR2(9))")
    one.run("CREATE VIEW pv AS SELECT q.px, q.px AS same, q.px * 2 AS twice, MAX(q.px) OVER () AS top FROM (SELECT p.* FROM p) q")
    exact, number, whole, day = pa.decimal128(20, 8), pa.float64(), pa.decimal128(10, 0), pa.timestamp("s")
    for sql, types in {
        "SELECT px, n, d, ts, v FROM p": [exact, whole, day, pa.timestamp("us"), pa.large_string()],
        "SELECT px + 0 AS a, MAX(px) AS b, COUNT(*) AS c, n / 2 AS d FROM p GROUP BY px, n": [number] * 4,
        "SELECT CAST(MAX(px) AS NUMBER(20,8)) AS a, 1 AS b FROM p": [exact, number],
        "SELECT * FROM pv": [exact, exact, number, number],
        "WITH c AS (SELECT px AS a, px * 2 AS b FROM p) SELECT c.a, c.b, p.n FROM c JOIN p ON (p.px = c.a)": [exact, number, whole],
        "SELECT px FROM p UNION ALL SELECT px FROM p": [number],
        "SELECT CASE WHEN px > 0 THEN px ELSE px END AS a, GREATEST(px, px) AS b FROM p": [number] * 2,
        "SELECT CAST(ts AS DATE) AS a, MAX(d) OVER () AS b FROM p": [day] * 2,
    }.items():
        assert pa.table(one.connection.fetch_df_all(sql, fetch_decimals=True)).schema.types == types, sql
    assert one.rows("SELECT 1 / 2 AS half, 1 / 3 AS third FROM dual") == [(Decimal("0.5"), Decimal("0." + 20 * "3"))]


def test_an_empty_string_is_null(one: Client) -> None:
    assert one.rows("SELECT '', :1 FROM dual", "") == [(None, None)]
    one.fails(1400, "INSERT INTO t (k, v) VALUES (1, '')")


def test_long_bind_is_refused_outside_a_plain_insert(double: OracleDouble, one: Client) -> None:
    """pandas' strings come as LONG, the trap for which ``to_wire`` has plain strings."""
    rows = pa.table({"k": pa.array([1], pa.int64()), "v": pa.array(["x"], pa.large_string())})
    one.many(INSERT, rows)
    assert double.seen.statements[-1].types[1] == "LONG"
    merge = "MERGE INTO t USING (SELECT :1 AS k, :2 AS v FROM dual) s ON (t.k = s.k) WHEN MATCHED THEN UPDATE SET v = s.v"
    for statement in (merge, "INSERT INTO t (k, v) SELECT :1, :2 FROM dual"):
        with pytest.raises(oracledb.DatabaseError, match="ORA-01461"):
            one.many(statement, rows)


# --- transactions ---------------------------------------------------------------------------------------------------------------


def test_error_undoes_only_its_statement(one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "first")
    one.many("INSERT INTO s VALUES (:1, :2)", [(7, "staged")])
    for number, statement, words in [
        (1, "INSERT INTO t (k, v) SELECT k, v FROM s UNION ALL SELECT 1, 'again' FROM dual", "(MARKET.T_PK) violated [Key (k)=(1)"),
        (1400, "INSERT INTO t (k) VALUES (2)", '("MARKET"."T"."V")'),
        (2290, "INSERT INTO t (k, v) VALUES (-1, 'x')", "(MARKET.T_CK)"),
        (12899, "UPDATE t SET v = 'a text of more than twenty letters'", "20"),
        (1438, "INSERT INTO t (k, v) VALUES (12345678901, 'x')", ""),
        (942, "INSERT INTO nonesuch (k) VALUES (1)", ""),
        (947, "INSERT INTO t (k, v) VALUES (2)", ""),
        (913, "INSERT INTO t (k) VALUES (2, 'x')", ""),
        (904, "UPDATE t SET nonesuch = 1", '"NONESUCH": invalid identifier'),
        (904, "SELECT x.k FROM t", '"X": invalid identifier'),
        (1722, "INSERT INTO t (k, v) VALUES ('no number', 'x')", ""),
        (1476, "SELECT 1 / 0 FROM dual", ""),
        (900, "SELECT FROM WHERE", ""),
    ]:
        assert words in one.fails(number, statement)
    assert one.run(MERGE) == 1
    one.connection.commit()
    assert client().rows("SELECT k, v FROM t ORDER BY k") == [(1, "first"), (7, "staged")]


def test_merge_of_duplicate_rows_fails(one: Client) -> None:
    one.run(INSERT, 1, "x")
    one.many("INSERT INTO s VALUES (:1, :2)", [(1, "a"), (1, "b")])
    one.fails(30926, MERGE)


def test_temporary_rows_belong_to_one_session_until_commit(one: Client, client: Clients) -> None:
    other, count = client(), "SELECT COUNT(*) FROM s"
    one.many("INSERT INTO s VALUES (:1, :2)", [(n, "x") for n in range(50)])
    assert [one.rows(count), other.rows(count)] == [[(50,)], [(0,)]]
    one.connection.commit()
    assert one.rows(count) == [(0,)]
    one.run("INSERT INTO s VALUES (1, 'x')")
    one.connection.rollback()
    assert one.rows(count) == [(0,)]
    one.run("ALTER TABLE s MODIFY (v VARCHAR2(30 CHAR))")
    one.run("INSERT INTO s VALUES (1, :1)", "x" * 30)


def test_ddl_commits(one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "x")
    one.fails(955, "CREATE TABLE t (k NUMBER(10))")
    one.connection.rollback()
    assert client().rows("SELECT COUNT(*) FROM t") == [(1,)]


def test_read_only_transaction_keeps_its_snapshot(one: Client, client: Clients) -> None:
    other = client()
    other.run("SET TRANSACTION READ ONLY")
    one.run(INSERT, 1, "x")
    one.connection.commit()
    assert other.rows("SELECT COUNT(*) FROM t") == [(0,)]
    other.fails(1456, INSERT, 2, "x")
    other.connection.commit()
    other.run(INSERT, 2, "x")
    other.fails(1453, "SET TRANSACTION READ ONLY")


# --- locks ----------------------------------------------------------------------------------------------------------------------


def test_lock_waits_as_long_as_it_may(double: OracleDouble, one: Client, client: Clients) -> None:
    other = client()
    one.run(LOCK)
    other.fails(54, f"{LOCK} NOWAIT")
    other.fails(30006, f"{LOCK} WAIT 1")
    other.fails(54, "ALTER TABLE t MODIFY (v VARCHAR2(30 CHAR))")
    other.connection.call_timeout = 1000
    with pytest.raises(oracledb.DatabaseError, match="DPY-4024"):  # the double gives the wait up
        other.run(f"{LOCK} WAIT 600")
    other.connection.call_timeout = 0
    other.run("ALTER SESSION SET DDL_LOCK_TIMEOUT = 600")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.run, "ALTER TABLE t MODIFY (v VARCHAR2(30 CHAR))")
        try:
            double.until_waiting()
        finally:
            one.connection.commit()
        waiting.result(30)


# --- what the double lacks or refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["SAVEPOINT one", "ALTER SESSION SET ISOLATION_LEVEL = SERIALIZABLE", "SELECT SYSDATE FROM dual"])
def test_unsupported_sql_is_an_error(one: Client, sql: str) -> None:
    assert "of the double" in one.fails(3001, sql)


def test_unknown_message_is_raised_at_exit() -> None:
    with pytest.raises(NotImplementedError, match="function 128"):
        load_directly()


def load_directly() -> None:
    with OracleDouble() as double:
        connection = oracledb.connect(user=double.user, password=double.password, dsn=double.dsn)
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            connection.direct_path_load(schema_name=double.user, table_name="t", column_names=["k"], data=[(1,)])
