"""DuckDB: one file on this machine's disk, one process at a time.

DuckDB lets no other process open a file that one has open for writing, not even to read, and says so by an error. So each call
holds a lock on ``<path>.lock`` from before it opens the file until after it has closed it, and others wait their turn for it.
Processes on several machines cannot share the file: there the warehouse belongs on a server.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from market_data.core.errors import ConfigError, WarehouseError
from market_data.core.messages import shown
from market_data.warehouse.base import Warehouse
from market_data.warehouse.connection import Connector, WarehouseConnection, number
from market_data.warehouse.dialects import INFORMATION_SCHEMA, Dialect
from market_data.warehouse.schema import Reference, Table, Type

if TYPE_CHECKING:
    import duckdb

DUCKDB = Dialect(
    types={
        Type.STRING: "VARCHAR({})",
        Type.TIMESTAMP: "TIMESTAMP",
        Type.DATE: "DATE",
        Type.DECIMAL: "DECIMAL(20,8)",
        Type.AMOUNT: "DECIMAL(28,6)",
        Type.INTEGER: "BIGINT",
        Type.SMALL: "INTEGER",
    },
    table_exists=INFORMATION_SCHEMA,
    mark=lambda _: "?",
    recheck=(
        "{create}",
        "INSERT INTO {table}_new ({columns}) SELECT {columns} FROM {table}",
        "DROP TABLE {table}",
        "ALTER TABLE {table}_new RENAME TO {table}",
    ),
    keys_in_memory=True,
    updates_in_memory=True,
)

LOCK_TIMEOUT = 300.0
POLL_SECONDS = 0.05
ROW_GROUP = 122_880
"""Rows that DuckDB stores together: a load of as many writes whole groups, and none again."""
ROWS_OF_ONE_THREAD = 20_000
"""A load of more rows runs in one thread: others would compress columns at the same time, each with buffers of its own.
A load of fewer rows mostly reads the stored rows between them, and threads share that."""
# no downloads, and no Python variable of the caller's taken for a table
CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "python_enable_replacements": "false"}


class DuckDBWarehouse(Warehouse):
    """A DuckDB file.

    :param connection: ``extra``: ``path``, absolute (its folder is made); ``lock_timeout``, seconds to wait for the file, 300;
        ``chunk_rows``, 122,880: one row group.
    :raises ConfigError: if one of these is missing or wrong.
    """

    dialect = DUCKDB
    usual_chunk_rows = ROW_GROUP

    def __init__(self, connection: WarehouseConnection, connect: Connector | None = None) -> None:
        super().__init__(connection, connect)
        self.path = _path(connection)
        self.lock_timeout = number(connection, "lock_timeout", LOCK_TIMEOUT, 0)
        self._open: duckdb.DuckDBPyConnection | None = None

    def exists(self) -> bool:
        """Return True if the file is there. DuckDB itself, 60 MB, is not loaded for that."""
        with _locked(self.path, self.lock_timeout):
            return self.path.exists()

    @contextmanager
    def _session(self, *, write: bool) -> Iterator[None]:
        import duckdb

        with _locked(self.path, self.lock_timeout):
            if not write and not self.path.exists():
                raise WarehouseError(f"{self.path}: there is no warehouse yet; migrate it first", retriable=False)
            with _errors("open"):
                self._open = duckdb.connect(self.path, read_only=not write, config={**CONFIG})
            try:
                yield
            finally:
                self._open.close()
                self._open = None

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._open is None:
            raise WarehouseError("statement outside of a session", retriable=False)
        return self._open

    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        with _errors(kind):
            row = self._connection.execute(statement, list(params)).fetchone()
        return int(row[0]) if row else 0

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        with _errors(kind):
            relation = self._connection.sql(statement, params=list(params))
            if relation is None:
                raise WarehouseError(f"duckdb: {kind} failed: the statement gives no rows; a SELECT is needed", retriable=False)
            return relation.to_arrow_table()

    def _stage(self, target: Table | Reference, wire: pa.Table) -> None:
        """Let statements read ``wire`` itself as the staging table, without a copy."""
        with _errors(f"stage into {target.stage}"):
            self._connection.register(target.stage, wire)
            if wire.num_rows > ROWS_OF_ONE_THREAD:
                self._connection.execute("SET threads = 1")  # until the session ends

    def _begin(self) -> None:
        self._execute("begin", "BEGIN TRANSACTION")

    def _commit(self) -> None:
        self._execute("commit", "COMMIT")

    def _rollback(self) -> None:
        self._execute("rollback", "ROLLBACK")


def _path(connection: WarehouseConnection) -> Path:
    value = connection.extra.get("path")
    if not isinstance(value, str) or not Path(value).is_absolute():
        # A URL may hold a password, so it is not shown.
        what = "a URL" if isinstance(value, str) and any(sign in value for sign in ("@", "?", "://")) else value and shown(value)
        raise ConfigError(f"warehouse connection: extra.path is {what}; an absolute path of a DuckDB file is needed")
    return Path(value)


@contextmanager
def _locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock file of ``path``; wait for it ``timeout`` seconds at most."""
    deadline = time.monotonic() + timeout
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock").open("a")
    except OSError as error:
        raise ConfigError(f"warehouse connection: extra.path {path} cannot be used: {error.strerror}") from error
    with file:
        while not _try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                raise WarehouseError(f"{path} was in use by another process for {timeout:g} seconds", retriable=True)
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile shares the open file: closing alone would leave it locked


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _errors(kind: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise _translate(kind, error) from None  # its text can hold values of the rows


def _translate(kind: str, error: duckdb.Error) -> WarehouseError:
    """Return ``error`` with DuckDB's text only where that speaks of files or of SQL, not of rows."""
    import duckdb

    telling = isinstance(error, duckdb.IOException | duckdb.CatalogException | duckdb.BinderException | duckdb.ParserException)
    text = str(error).splitlines()[0] if telling else type(error).__name__
    if isinstance(error, duckdb.CatalogException):
        text += " Has the warehouse been migrated?"
    again = isinstance(error, duckdb.OperationalError | duckdb.InterruptException) and "not a valid DuckDB" not in text
    return WarehouseError(f"duckdb: {kind} failed: {text}", retriable=again)
