"""The driver's errors as ``WarehouseError``: which may pass, and which words are free of rows and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pyarrow as pa

from market_data.core.errors import WarehouseError

AGAIN = ("08", "40001", "40P01", "53", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "23505")
"""SQLSTATEs, or classes of them, after which the same load may work. 23505, a key that is there already, is among them for another
attempt of the same load that committed meanwhile: the next one finds its audit row."""
TELLING = ("0A", "25", "3F", "42")
"""Classes whose text speaks of SQL and names, never of rows."""
HINTS = {
    "2BP01": "A view of somebody else reads it: drop that view, migrate, and make it again",
    "42P01": "Has the warehouse been migrated, and may the role use its schema (USAGE)?",
    "3F000": "Does the search_path name a schema that exists, and may the role use it (USAGE)?",
    "55P03": "Another session held the table for longer than extra.lock_timeout",
    "57014": "It took longer than extra.statement_timeout, or somebody cancelled it",
}
# A failed connect has no SQLSTATE. What the driver itself says is English; what the server says is in the server's language: when it has
# been given a password, only what is known to pass makes us give it again.
REFUSED = re.compile(
    r"authentication|no password supplied|pg_hba|does not exist|not permitted|does not support SSL|certificate|invalid \w+ value"
)
BUSY = re.compile(
    r"too many|slots are reserved|starting up|shutting down|recovery|not (yet )?accepting|terminat|closed the connection|timeout"
    r"|SSL SYSCALL|reset by peer|could not (receive|send)|no more connections|cannot connect|read-only|standby"
)


@contextmanager
def errors(kind: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translate(kind, error) from None  # its text can hold values of the rows
    except pa.ArrowInvalid:
        raise WarehouseError(f"postgres: {kind} failed: a value that Arrow cannot hold", retriable=False) from None


def _translate(kind: str, error: psycopg.Error) -> WarehouseError:
    """``error`` in our words: its code, names, and the server's text only where that speaks of SQL and not of rows."""
    code, said, words = error.sqlstate, error.diag, type(error).__name__
    if code is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        words += ": the connection is lost" if lost else f": {str(error).splitlines()[0]}"
        return WarehouseError(f"postgres: {kind} failed: {words}", retriable=lost)
    if name := said.constraint_name or said.column_name:
        words += f" of {said.table_name}: {name}"
    elif code.startswith(TELLING) and not said.context:  # with a context it may be what a trigger says
        words += f": {said.message_primary}"
    hint = f". {HINTS[code]}" if code in HINTS else ""
    return WarehouseError(f"postgres: {kind} failed: {code} {words}{hint}", retriable=code.startswith(AGAIN))


def may_connect_later(error: psycopg.Error, text: str) -> bool:
    if not isinstance(error, psycopg.OperationalError) or REFUSED.search(text):
        return False
    return not (error.pgconn and error.pgconn.used_password) or bool(BUSY.search(text))
