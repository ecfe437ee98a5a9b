"""Oracle Database 19c to 26ai, through Airflow's ``OracleHook`` and python-oracledb.

The hook makes the connection and nothing else: its ``insert_rows`` and ``bulk_insert_rows`` commit in between. A load stages its Arrow
table by ``executemany``, a call for each array of rows, into a global temporary table. Its rows are the session's own and go at the
commit.

Oracle commits at every DDL statement. So a migration locks ``schema_version`` and writes its rows there by one connection, and runs its
statements by another. Processes migrate one after another, and an interrupted migration is repeated whole. Statements whose effect is
there already then count as done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from market_data.core.errors import ConfigError, WarehouseError
from market_data.warehouse.base import Warehouse
from market_data.warehouse.connection import Connector, WarehouseConnection, number, required
from market_data.warehouse.dialects import bound
from market_data.warehouse.migrations import CREATE_SCHEMA_VERSION
from market_data.warehouse.oracle.dialect import ORACLE
from market_data.warehouse.oracle.errors import OracleError, errors
from market_data.warehouse.oracle.settings import for_driver, problems
from market_data.warehouse.schema import Reference, Table

if TYPE_CHECKING:
    import oracledb

CALL_TIMEOUT = 600.0
ARRAY_BYTES = 4_000_000
"""Size of one call's array, about 14,000 bars: the server holds no more at once, and ``call_timeout`` is for each call."""
THICK_ROWS = 5_000
"""Rows of one call in thick mode, where every text takes its longest form, 16,000 bytes, at once."""
MOST_MILLISECONDS = 2**31 - 1

# Moments are UTC: without it, Oracle would compare them with its clock by the worker's zone. A changed table may be in use by a load.
SESSION = "ALTER SESSION SET TIME_ZONE = '+00:00' DDL_LOCK_TIMEOUT = 300"
READ_ONLY = "SET TRANSACTION READ ONLY"
DONE = {
    r"ALTER TABLE \w+ ADD CONSTRAINT": "ORA-02264",
    r"ALTER TABLE \w+ DROP CONSTRAINT": "ORA-02443",
    r"ALTER TABLE \w+ ADD": "ORA-01430",
    r"CREATE (GLOBAL TEMPORARY )?TABLE": "ORA-00955",
}
"""Oracle's error for a statement that was run before. Other statements can be repeated."""


class OracleWarehouse(Warehouse):
    """Tables of an Oracle schema.

    :param connection: ``login``, ``password``; ``host``, ``port`` (1521) and ``service_name`` or ``sid`` in ``extra``, or all of that as
        ``dsn`` in ``extra``; ``schema``: the tables' owner, if that is not the login. ``extra`` besides: ``call_timeout``, seconds that one
        call to the server may take, 600; what ``OracleHook`` knows, e.g. ``wallet_location``.
    :raises ConfigError: names every setting that is missing or wrong.
    """

    dialect = ORACLE
    attempts = 4

    def __init__(self, connection: WarehouseConnection, connect: Connector | None = None) -> None:
        super().__init__(connection, connect)
        self._connector = required(connect, connection)
        self.call_timeout = number(connection, "call_timeout", CALL_TIMEOUT, 1)
        if found := list(problems(connection)):
            raise ConfigError(f"warehouse connection: {'; '.join(found)}")
        self.schema = connection.schema.upper()
        self._settings = connection
        self._open: oracledb.Connection | None = None
        self._definer: oracledb.Connection | None = None
        self._definers = ExitStack()

    def migrate(self) -> list[str]:
        """Bring tables and views to this version. Retried like a load; processes migrate in turn."""
        return self._tries()(self._migrate)

    def _migrate(self) -> list[str]:
        with self._session(write=True), ExitStack() as self._definers:
            self._definer = None
            if not self._scalar("look for schema_version", self.dialect.table_exists, ["schema_version"]):
                self._define("create schema_version", CREATE_SCHEMA_VERSION.statement(self.dialect))
            self._execute("lock schema_version", self.dialect.lock.format(table="schema_version"))
            return super().migrate()

    def _define(self, kind: str, statement: str) -> None:
        self._definer = self._definer or self._definers.enter_context(self._connected())
        holds_lock, self._open = self._open, self._definer
        try:
            self._execute(kind, statement)
        except OracleError as error:
            if error.code != next((code for words, code in DONE.items() if re.match(words, statement)), None):
                raise
        finally:
            self._open = holds_lock

    @contextmanager
    def _session(self, *, write: bool) -> Iterator[None]:
        if self._open:  # in a migration: the connection that holds the lock
            yield
            return
        with self._connected() as connection:
            self._open = connection
            try:
                if not write:
                    self._run("begin to read", READ_ONLY)
                yield
            finally:
                self._open = None

    @contextmanager
    def _connected(self) -> Iterator[oracledb.Connection]:
        """A connection that is closed in the end, whatever happens."""
        import oracledb

        with errors("connect"):
            connection = self._connector(for_driver(self._settings))
        try:
            with errors("set up the session"), connection.cursor() as cursor:
                connection.call_timeout = min(int(self.call_timeout * 1000), MOST_MILLISECONDS)
                if self.schema:
                    connection.current_schema = self.schema
                cursor.execute(SESSION)
            yield connection
        finally:
            with suppress(oracledb.Error, OSError):  # of a session that is dead, the server has rolled back and gone
                connection.close()

    @property
    def _connection(self) -> oracledb.Connection:
        if self._open is None:
            raise WarehouseError("statement outside of a session", retriable=False)
        return self._open

    @property
    def _is_thick(self) -> bool:
        return not self._connection.thin

    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        return self._run(kind, bound(statement, self.dialect), params)

    def _run(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        with errors(kind), self._connection.cursor() as cursor:
            cursor.execute(statement, self._binds(params))
            return max(cursor.rowcount, 0)

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        with errors(kind):
            frame = self._connection.fetch_df_all(bound(statement, self.dialect), self._binds(params), fetch_decimals=True)
            found = pa.table(frame)
        return pa.table([_plain(column) for column in found.columns], names=[name.lower() for name in found.column_names])

    def _scalar(self, kind: str, statement: str, params: Sequence[Any] = ()) -> Any:
        value = super()._scalar(kind, statement, params)
        return int(value) if isinstance(value, float) else value  # a count, which has no precision and so comes as a float

    def _binds(self, params: Sequence[Any]) -> list[Any]:
        """Return ``params`` with moments as TIMESTAMP in UTC.

        The driver would bind a DATE, without microseconds, and drop the zone.
        """
        import oracledb

        binds = list(params)
        with self._connection.cursor() as cursor:
            for n, value in enumerate(binds):
                if isinstance(value, datetime):
                    binds[n] = cursor.var(oracledb.DB_TYPE_TIMESTAMP)
                    binds[n].setvalue(0, value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
        return binds

    def _stage(self, target: Table | Reference, wire: pa.Table) -> None:
        marks = ", ".join(self.dialect.mark(n) for n in range(1, wire.num_columns + 1))
        insert = f"INSERT INTO {target.stage} ({', '.join(wire.column_names)}) VALUES ({marks})"  # noqa: S608  our own names
        with errors(f"stage into {target.stage}"), self._connection.cursor() as cursor:
            most = THICK_ROWS if self._is_thick else max(1, ARRAY_BYTES * wire.num_rows // max(1, wire.nbytes))
            cursor.executemany(insert, wire.combine_chunks(), batch_size=most)

    def _begin(self) -> None:
        """The first statement begins it."""

    def _commit(self) -> None:
        with errors("commit"):
            self._connection.commit()

    def _rollback(self) -> None:
        with errors("rollback"):
            self._connection.rollback()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in the types of the other engines, where no value changes by it."""
    kind = column.type
    if pa.types.is_large_string(kind):
        kind = pa.string()
    elif pa.types.is_decimal(kind) and kind.scale == 0:
        kind = pa.int64()
    elif kind == pa.timestamp("s"):  # a DATE, perhaps with a time of day, which a cast would drop
        kind = pa.date32() if column.cast(pa.date32()).cast(kind).equals(column) else pa.timestamp("us")
    elif pa.types.is_timestamp(kind):
        kind = pa.timestamp("us")
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:  # such as a NUMBER beyond 64 bits
        return column
