"""The limits of accounts in a table of a PostgreSQL server: for the processes of many hosts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from market_data.core.errors import ConfigError
from market_data.http.limiter import LimiterError, Reading

if TYPE_CHECKING:
    import psycopg

TABLE = "market_data_limits"
DEFINITION = f"CREATE TABLE IF NOT EXISTS {TABLE} (account VARCHAR(250) PRIMARY KEY, state TEXT NOT NULL)"
READ = f"SELECT (SELECT state FROM {TABLE} WHERE account = %s), extract(epoch FROM clock_timestamp())::float8"  # noqa: S608 - constant
FIRST = f"INSERT INTO {TABLE} (account, state) VALUES (%s, %s) ON CONFLICT DO NOTHING"  # noqa: S608 - constant
NEXT = f"UPDATE {TABLE} SET state = %s WHERE account = %s AND state = %s"  # noqa: S608 - constant


class PostgresServer:
    """One connection to the server, for the threads of a process and the stores of all their accounts.

    Each statement is a transaction of its own and waits for nothing but the write of another one. A connection that is lost is opened
    again; one that was opened before a fork is left to the parent.

    :param connect: opens a connection. It belongs to this server from then on.
    :param name: of the connection, for messages.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], name: str) -> None:
        self._connect, self._name = connect, name
        self._open: psycopg.Connection[Any] | None = None
        self._process, self._lock = os.getpid(), Lock()

    def store(self, account: str) -> PostgresStore:
        """Return the store of an account."""
        return PostgresStore(self, account)

    def close(self) -> None:
        """Close the connection. The next statement opens another one."""
        with self._own_lock():
            self._drop()

    def run(self, statement: str, values: Sequence[str]) -> tuple[int, list[Any]]:
        """Return the number of rows and the rows.

        Try once more where the connection of before is lost or the table is missing.

        :raises LimiterError: if the server cannot be used.
        :raises ConfigError: if the connection's settings are wrong, or a privilege is missing.
        """
        with self._own_lock():
            return self._run(statement, values)

    def _run(self, statement: str, values: Sequence[str]) -> tuple[int, list[Any]]:
        import psycopg
        from psycopg import errors

        for last in (False, True):
            try:
                cursor = self._connection().execute(statement.encode(), values)
                return cursor.rowcount, cursor.fetchall() if cursor.description else []
            except errors.SerializationFailure:
                return 0, []  # another process wrote; the server's default isolation is stricter than needed
            except errors.UndefinedTable as error:
                if last:
                    raise self._failed(error) from None
                self._create()
            except psycopg.Error as error:
                self._drop()
                if last or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                    raise self._failed(error) from None
        raise AssertionError("unreachable")

    def _connection(self) -> psycopg.Connection[Any]:
        import psycopg

        if self._open is None:
            try:
                opened = self._connect()
            except (psycopg.Error, ConfigError):
                raise
            except Exception as error:  # noqa: BLE001 - hooks and ways to get a token have errors of their own, some with secrets in them
                raise LimiterError(f"the limiter cannot use connection {self._name!r}: {type(error).__name__}") from None
            opened.autocommit = True
            opened.prepare_threshold = None  # a pooler's next server connection would not know what was prepared on this one
            self._open = opened
        return self._open

    def _create(self) -> None:
        from psycopg import errors

        try:
            self._connection().execute(DEFINITION.encode())
        except (errors.UniqueViolation, errors.DuplicateTable):
            pass  # another process made it at the same moment
        except errors.InsufficientPrivilege:
            raise ConfigError(
                f"connection {self._name!r}: the role may not create the limiter's table; have it made: {DEFINITION}"
            ) from None

    def _failed(self, error: Exception) -> LimiterError | ConfigError:
        from psycopg import ProgrammingError

        said = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if isinstance(error, ProgrammingError):
            return ConfigError(f"connection {self._name!r} cannot be used for limits: {said}")
        return LimiterError(f"the limiter cannot use connection {self._name!r}: {said}")

    def _own_lock(self) -> Lock:
        if self._process != os.getpid():  # the parent's connection stays open, and its lock may be held
            self._open, self._process, self._lock = None, os.getpid(), Lock()
        return self._lock

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


@dataclass(frozen=True)
class PostgresStore:
    """One row of an account. The time is the server's, so the hosts' clocks do not matter."""

    server: PostgresServer
    account: str

    def read(self) -> Reading:
        """Return text and time."""
        _, rows = self.server.run(READ, [self.account])
        text, now = rows[0]
        return Reading(text or "", now, now)

    def swap(self, seen: Reading, text: str) -> bool:
        """Replace the text if it is still that of ``seen``."""
        if not seen.text:
            return self.server.run(FIRST, [self.account, text])[0] == 1
        return self.server.run(NEXT, [text, self.account, seen.text])[0] == 1
