"""One session's statements, on PostgreSQL.

PostgreSQL has Oracle's manners by itself: read committed, table locks and their modes, waits and deadlocks, rows of a temporary table
that go at the commit. What it lacks is here: a transaction begins with the first change, an error undoes its statement only, DDL commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from tests.services.oracle_double import codec
from tests.services.oracle_double import sql as oracle_sql
from tests.services.oracle_double.database import Database
from tests.services.oracle_double.errors import OraError, from_postgres, not_done

Row = list[Any]
T = TypeVar("T")
LOCK = re.compile(r"LOCK TABLE (?:\w+\.)?(\w+) IN ([A-Z ]+) MODE(?: (NOWAIT)| WAIT (\d+))?\s*", re.IGNORECASE)
SETTING = re.compile(r"(\w+)\s*=\s*('[^']*'|\"[^\"]*\"|\w+)")
POLL_SECONDS = 0.02
SHORTEST_WAIT = 0.1
"""Seconds for which DDL waits that is not to wait: readers, too, hold a table for a moment in PostgreSQL."""
UNKNOWN = (0, -127)
"""Precision and scale of a NUMBER that has none."""


@dataclass(frozen=True)
class ResultColumn:
    """A column of a result.

    :param kind: Oracle's type.
    :param precision, scale: of a NUMBER.
    """

    name: str
    kind: int
    precision: int = 0
    scale: int = 0
    size: int = 22


@dataclass
class Result:
    """What a statement gave.

    :param columns: of a query; None for another statement.
    :param count: rows changed.
    """

    columns: list[ResultColumn] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 0


class Engine:
    """A session.

    :param user: in capitals.
    :param poll: called while a statement runs; raises to give it up.
    """

    def __init__(self, database: Database, user: str, poll: Callable[[], None]) -> None:
        self._database = database
        self._user = user
        self._poll = poll
        self._connection = database.connect(user)
        self._worker = ThreadPoolExecutor(1)
        self._ddl_wait = 0.0
        self._made: dict[str, int] = {}
        self.use_schema(user)

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != TransactionStatus.IDLE

    def run(self, sql: str, rows: list[Row]) -> Result:
        """Run a statement, once for each row of binds.

        :raises OraError: it failed; what it did is undone, the transaction is as it was.
        """
        kind, *more = oracle_sql.words(sql) or [""]
        if kind in {"select", "with"}:
            return self._query(sql, rows[0])
        if kind in {"insert", "update", "delete", "merge"}:
            return self._change(sql, rows)
        if [kind, *more] == ["commit"]:
            self.commit()
        elif [kind, *more] == ["rollback"]:
            self.rollback()
        elif found := LOCK.fullmatch(sql):
            self._lock(*found.groups())
        elif [kind, *more] == ["set", "transaction", "read", "only"]:
            self._only_read()
        elif [kind, *more[:1]] == ["alter", "session"]:
            self._alter_session(sql)
        elif kind in {"create", "alter", "drop"}:
            self._define(sql)
        else:
            raise not_done(kind)
        return Result()

    def use_schema(self, schema: str) -> None:
        """Look for names without an owner in another schema.

        :param schema: in capitals.
        :raises OraError: 1435, no such user.
        """
        if schema not in {self._user, self._database.owner}:
            raise OraError(1435, "user does not exist")
        path = f"{self._database.home}, oracle" if schema == self._database.owner else "oracle"
        for name, value in {"search_path": path, "oracle.current_schema": schema}.items():
            self._connection.execute("SELECT set_config($1, $2, false)", [name, value])

    def commit(self) -> None:
        """End the transaction, keeping what it did."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """End the transaction, undoing what it did."""
        self._connection.execute("ROLLBACK")
        self._made.clear()

    def close(self) -> None:
        """As when a session ends or dies."""
        self._worker.shutdown()
        self._connection.close()

    def _query(self, sql: str, binds: Row) -> Result:
        statement = self._ready(sql)

        def work() -> Result:
            cursor = self._connection.execute(statement, binds)
            return Result([_column(column) for column in cursor.description or ()], [tuple(map(_plain, row)) for row in cursor])

        return self._as_one(work)

    def _change(self, sql: str, rows: list[Row]) -> Result:
        statement = self._ready(sql)

        def work() -> Result:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement, rows)
                return Result(count=cursor.rowcount)

        return self._as_one(work, begin=True)

    def _ready(self, sql: str) -> str:
        """Translate ``sql``, after the session's own part of the global temporary tables is there that it names."""
        names = set(oracle_sql.words(sql))
        for name, number in self._database.stages.items():
            if name in names and self._made.get(name) != number:
                self._connection.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
                like = f"(LIKE {self._database.home}.{name} INCLUDING ALL) ON COMMIT DELETE ROWS"
                self._connection.execute(f"CREATE TEMPORARY TABLE {name} {like}")
                self._made[name] = number
        return oracle_sql.translate(sql, self._database.owner)

    def _as_one(self, work: Callable[[], T], *, begin: bool = False) -> T:
        """Do all of ``work``, or nothing; in the transaction that is open, or in a new one.

        :raises OraError: it failed.
        """
        begun = begin and not self.in_transaction
        if begun:
            self._connection.execute("BEGIN")
        saved = self.in_transaction
        if saved:
            self._connection.execute("SAVEPOINT statement")
        try:
            done = self._watched(work)
            if saved:
                self._connection.execute("RELEASE SAVEPOINT statement")
        except BaseException as error:
            if saved:
                self._connection.execute("ROLLBACK" if begun else "ROLLBACK TO SAVEPOINT statement")
            if isinstance(error, psycopg.Error):
                raise from_postgres(error, self._database.owner) from error
            raise
        return done

    def _watched(self, work: Callable[[], T]) -> T:
        """Do ``work`` while the client is watched, who may break it off or go."""
        running = self._worker.submit(work)
        while not wait([running], POLL_SECONDS).done:
            try:
                self._poll()
            except BaseException:
                self._connection.cancel_safe()
                wait([running])
                raise
        return running.result()

    # --- other statements ---------------------------------------------------------------------------------------------------------

    def _lock(self, table: str, mode: str, nowait: str | None, seconds: str | None) -> None:
        statement = f"LOCK TABLE {table.lower()} IN {mode} MODE {nowait or ''}"
        try:
            self._as_one(lambda: self._waiting(float(seconds or 0), statement), begin=True)
        except OraError as error:
            if error.number == 54 and seconds:
                raise OraError(30006, "resource busy; acquire with WAIT timeout expired") from error
            raise

    def _waiting(self, seconds: float, statement: str) -> None:
        self._connection.execute(f"SET lock_timeout = {int(seconds * 1000)}")
        self._connection.execute(statement)
        self._connection.execute("SET lock_timeout = 0")

    def _only_read(self) -> None:
        if self.in_transaction:
            raise OraError(1453, "SET TRANSACTION must be first statement of transaction")
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._connection.execute("SELECT 1")  # the snapshot is of now

    def _alter_session(self, sql: str) -> None:
        for name, value in SETTING.findall(sql.upper()):
            if name == "DDL_LOCK_TIMEOUT":
                self._ddl_wait = float(value)
            elif name != "TIME_ZONE":
                raise not_done(f"ALTER SESSION SET {name}")

    def _define(self, sql: str) -> None:
        self.commit()
        if self._user != self._database.owner:
            raise OraError(1031, "insufficient privileges")
        self._connection.execute(f"SET lock_timeout = {int(max(self._ddl_wait, SHORTEST_WAIT) * 1000)}")
        try:
            self._as_one(lambda: self._database.define(self._connection, sql))
        finally:
            self._connection.execute("SET lock_timeout = 0")


def _column(column: psycopg.Column) -> ResultColumn:
    name, kind = column.name.upper(), column.type_display.partition("(")[0]
    if kind == "numeric":
        known = column.precision is not None
        return ResultColumn(name, codec.NUMBER, *((column.precision, column.scale) if known else UNKNOWN))
    if kind in {"int2", "int4", "int8"}:
        return ResultColumn(name, codec.NUMBER, *UNKNOWN)
    if kind == "float8":
        return ResultColumn(name, codec.BINARY_DOUBLE, size=8)
    if kind == "timestamptz":
        return ResultColumn(name, codec.DATE, size=7)
    if kind == "timestamp":
        return ResultColumn(name, codec.TIMESTAMP, scale=6, size=11)
    if kind in {"text", "varchar"}:
        return ResultColumn(name, codec.VARCHAR, size=4000)
    raise not_done(f"results of type {kind}")


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value
