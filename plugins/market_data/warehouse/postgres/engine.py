"""PostgreSQL 15 or later, by psycopg 3 through Airflow's own hook.

Each transaction has a connection of its own, and everything a session needs is set inside the transaction, so that a pooler in between
may give each transaction another server connection. Rows travel by COPY both ways: as CSV from Arrow, a slice at a time, and back into
Arrow a block at a time, so that neither side ever holds them as Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa

from market_data.core.errors import WarehouseError
from market_data.warehouse.base import Warehouse
from market_data.warehouse.connection import Connector, WarehouseConnection, required
from market_data.warehouse.dialects import bound
from market_data.warehouse.migrations import create_stage
from market_data.warehouse.postgres.dialect import POSTGRES
from market_data.warehouse.postgres.errors import errors, may_connect_later
from market_data.warehouse.postgres.rows import arrow_type, to_arrow, to_csv
from market_data.warehouse.postgres.settings import LOCK_TIMEOUT, STATEMENT_TIMEOUT, check, for_driver, milliseconds
from market_data.warehouse.schema import Reference, Table

OLDEST = 15  # the first with MERGE
SLICE_ROWS = 20_000
ANALYZE_ROWS = 10_000
"""A stage from here on is analysed: without, the planner takes it for a small table."""
MIGRATION_LOCK = 0x6D61726B6574  # "market": processes that migrate one database wait for each other

# what texts from and to the server depend on, whatever it or the database prefers
TEXT_FORM = {"client_encoding": "UTF8", "TimeZone": "UTC", "DateStyle": "ISO, YMD", "extra_float_digits": "1"}


class PostgresWarehouse(Warehouse):
    """A database of a PostgreSQL server.

    :param connection: as Airflow's of type ``postgres``: ``schema`` is the database. ``extra``: ``lock_timeout``, seconds to wait for
        other writers, 300; ``statement_timeout``, seconds for one statement, 3600; what Airflow's hook knows (``iam``, ...); every other
        goes to the driver (``sslmode``, ``options``, ...).
    :raises ConfigError: if one of these is missing or wrong.
    """

    dialect = POSTGRES
    attempts = 4

    def __init__(self, connection: WarehouseConnection, connect: Connector | None = None) -> None:
        super().__init__(connection, connect)
        self._connector = required(connect, connection)
        check(connection, self._connector.extras)
        self._given = connection
        self._settings = {
            "application_name": str(connection.extra.get("application_name", "airflow-market-data")),
            **TEXT_FORM,
            "lock_timeout": milliseconds(connection, "lock_timeout", LOCK_TIMEOUT),
            "statement_timeout": milliseconds(connection, "statement_timeout", STATEMENT_TIMEOUT),
            # a worker that fell silent in the middle of a load holds up the others no longer than this
            "idle_in_transaction_session_timeout": milliseconds(connection, "lock_timeout", LOCK_TIMEOUT),
        }
        self._open: psycopg.Connection[Any] | None = None
        self._migrating = False

    def migrate(self) -> list[str]:
        """Bring tables and views to this version. Retried like a load; processes migrate in turn."""
        self._migrating = True
        try:
            return self._tries()(super().migrate)
        finally:
            self._migrating = False

    @contextmanager
    def _session(self, *, write: bool) -> Iterator[None]:
        self._open = _connect(self._connector, self._given)
        try:
            if (version := self._open.info.server_version // 10_000) < OLDEST:
                raise WarehouseError(f"postgres: the server is version {version}; {OLDEST} or later is needed", retriable=False)
            if write and self._open.info.parameter_status("in_hot_standby") == "on":  # while another server takes over, as a rule
                raise WarehouseError("postgres: the server is a standby, which takes no writes", retriable=True)
            self._open.read_only = not write
            # writers see, once they hold the lock, what others committed before; a reader sees one moment in all its statements
            level = psycopg.IsolationLevel
            self._open.isolation_level = level.READ_COMMITTED if write else level.REPEATABLE_READ
            each = ", ".join(["set_config(?, ?, true)"] * len(self._settings))
            self._execute("set up the session", f"SELECT {each}", [word for pair in self._settings.items() for word in pair])
            yield
        finally:
            self._open.close()
            self._open = None

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        if self._open is None:
            raise WarehouseError("statement outside of a session", retriable=False)
        return self._open

    def _text(self, statement: str, params: Sequence[Any]) -> bytes:
        """The statement with its parameters in it, quoted by the driver, because COPY takes none."""
        text = bound(statement.replace("%", "%%"), self.dialect)
        return psycopg.ClientCursor(self._connection).mogrify(text.encode(), list(params)).encode()

    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        with errors(kind):
            return max(0, self._connection.execute(self._text(statement, params)).rowcount)

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        with errors(kind):
            text, cursor = self._text(statement, params), self._connection.cursor()
            # binary: for there is no second statement in one of that protocol
            columns = cursor.execute(b"SELECT * FROM (\n%b\n) q LIMIT 0" % text, binary=True).description or []
            with cursor.copy(b"COPY (\n%b\n) TO STDOUT (FORMAT csv)" % text) as rows:
                found = to_arrow(rows, [arrow_type(column) for column in columns])
        return pa.table(found, names=[column.name.lower() for column in columns])

    def _stage(self, target: Table | Reference, wire: pa.Table) -> None:
        self._execute(f"create {target.stage}", create_stage(target, self.dialect))
        copy = f"COPY {target.stage} ({', '.join(wire.column_names)}) FROM STDIN (FORMAT csv)"
        with errors(f"stage into {target.stage}"), self._connection.cursor().copy(copy.encode()) as rows:
            for start in range(0, wire.num_rows, SLICE_ROWS):
                rows.write(to_csv(wire.slice(start, SLICE_ROWS)))
        if wire.num_rows >= ANALYZE_ROWS:
            self._execute(f"analyze {target.stage}", f"ANALYZE {target.stage}")

    def _begin(self) -> None:
        """The session's first statement began the transaction."""
        if self._migrating:
            self._execute("wait for other migrations", "SELECT pg_advisory_xact_lock(?)", [MIGRATION_LOCK])

    def _commit(self) -> None:
        with errors("commit"):
            self._connection.commit()

    def _rollback(self) -> None:
        with errors("rollback"):
            self._connection.rollback()


def _connect(connect: Connector, given: WarehouseConnection) -> psycopg.Connection[Any]:
    try:
        opened: psycopg.Connection[Any] = connect(for_driver(given))
    except psycopg.Error as error:
        text = str(error).splitlines()[0]
        raise WarehouseError(f"postgres: connect failed: {text}", retriable=may_connect_later(error, text)) from None
    opened.prepare_threshold = None  # a pooler's next server connection would not know what was prepared on this one
    return opened
