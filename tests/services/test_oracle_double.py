"""Behaviour of the Oracle double that the warehouse's contract relies on and cannot show by itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
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
def test_values_return_unchanged(client: Clients, arrow: bool) -> None:
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
    assert [exact(row) for row in found] == [exact(row) for row in rows]


def test_long_messages_span_packets(double: OracleDouble, one: Client) -> None:
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


def test_columns_have_oracles_types(client: Clients) -> None:
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


# --- the driver -----------------------------------------------------------------------------------------------------------------


def test_long_bind_is_refused_outside_a_plain_insert(double: OracleDouble, one: Client) -> None:
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


# --- login ----------------------------------------------------------------------------------------------------------------------


def test_guest_changes_rows_but_owns_nothing() -> None:
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


# --- faults ---------------------------------------------------------------------------------------------------------------------


def test_defect_of_the_double_is_raised_at_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.services.oracle_double.session.Session._record", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_one_statement()


def run_one_statement() -> None:
    with OracleDouble() as double:
        session = Client(oracledb.connect(user=double.user, password=double.password, dsn=double.dsn))
        with pytest.raises(oracledb.Error):
            session.rows("SELECT 1 FROM dual")


# --- transactions ---------------------------------------------------------------------------------------------------------------


def test_uncommitted_rows_are_invisible_to_others(one: Client, client: Clients) -> None:
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


def test_read_only_transaction_keeps_its_snapshot(one: Client, client: Clients) -> None:
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


def test_replay_that_counts_other_rows_is_an_error(one: Client, client: Clients) -> None:
    """Changes are done again where others have committed: this one reads what another session changes meanwhile."""
    one.run("CREATE TABLE u (k NUMBER(10), v VARCHAR2(20 CHAR))")
    other = client()
    one.run("INSERT INTO t (k, v) SELECT k, v FROM u")
    other.run("INSERT INTO u VALUES (1, 'x')")
    other.connection.commit()
    assert "of the double" in one.fails(3001, "SELECT COUNT(*) FROM u")
    assert one.one("SELECT COUNT(*) FROM t") == 0


def test_error_undoes_only_its_statement(one: Client, client: Clients) -> None:
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


def test_errors_name_constraint_column_and_value(one: Client) -> None:
    one.run(INSERT, 7, "x")
    assert "(MARKET.T_PK)" in (text := one.fails(1, INSERT, 7, "x"))
    assert "7" in text  # values too, as in 23ai: a leak of them is to be seen
    assert '("MARKET"."T"."V")' in one.fails(1400, "INSERT INTO t (k) VALUES (2)")
    assert "(MARKET.T_CK)" in one.fails(2290, INSERT, -1, "x")
    assert '"MARKET"."T"."V" (maximum: 20)' in one.fails(12899, INSERT, 1, "x" * 21)
    assert '"NONESUCH": invalid identifier' in one.fails(904, "SELECT nonesuch FROM t")
    assert '"X": invalid identifier' in one.fails(904, "SELECT x.k FROM t")


def test_merge_of_duplicate_rows_fails(one: Client) -> None:
    one.run(INSERT, 1, "x")
    one.many("INSERT INTO s VALUES (:1, :2)", [(1, "a"), (1, "b")])
    one.fails(30926, MERGE)
    one.run("DELETE FROM s")
    one.many("INSERT INTO s VALUES (:1, :2)", [(2, "a"), (2, "b")])
    one.fails(1, MERGE)
    assert one.rows("SELECT k, v FROM t") == [(1, "x")]


def test_temporary_rows_belong_to_one_session_until_commit(one: Client, client: Clients) -> None:
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


def test_ddl_commits(one: Client, client: Clients) -> None:
    one.run(INSERT, 1, "x")
    one.run("CREATE TABLE u (k NUMBER(10))")
    one.connection.rollback()
    assert client().one("SELECT COUNT(*) FROM t") == 1
    one.run(INSERT, 2, "x")
    one.fails(955, "CREATE TABLE t (k NUMBER(10))")
    one.connection.rollback()
    assert client().one("SELECT COUNT(*) FROM t") == 2


# --- locks ----------------------------------------------------------------------------------------------------------------------

LOCK = "LOCK TABLE t IN EXCLUSIVE MODE"


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_lock_is_held_until_the_transaction_ends(double: OracleDouble, one: Client, client: Clients, end: str) -> None:
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


def test_ddl_needs_the_table_exclusively(double: OracleDouble, one: Client, client: Clients) -> None:
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
