"""PostgreSQL 15 or later, by psycopg 3 through Airflow's own hook.

Each transaction has a connection of its own, and everything a session needs is set inside the transaction, so that a pooler in between
may give each transaction another server connection. Rows travel by COPY both ways: as CSV from Arrow, a slice at a time, and back into
Arrow a block at a time, so that neither side ever holds them as Python objects.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.pq import Conninfo
from pyarrow import csv

from market_data.core.errors import ConfigError, WarehouseError
from market_data.warehouse import WarehouseConnection, dialects, migrations
from market_data.warehouse.base import Warehouse, number
from market_data.warehouse.schema import Table

OLDEST = 15  # the first with MERGE
LOCK_TIMEOUT, STATEMENT_TIMEOUT = 300.0, 3600.0
SLICE_ROWS, BLOCK_BYTES = 20_000, 8_000_000
ANALYZE_ROWS = 10_000
"""A stage from here on is analysed: without, the planner takes it for a small table."""
MIGRATION_LOCK = 0x6D61726B6574  # "market": processes that migrate one database wait for each other

OURS = {"chunk_rows", "lock_timeout", "statement_timeout"}
# A server that is gone without a word is noticed after two minutes, whether we wait for it or send. Numbers only: of the texts among the
# extras Airflow's connection makes secrets, and every log would show them as ***.
DRIVER = {
    "connect_timeout": 30,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 120_000,
}
# what texts from and to the server depend on, whatever it or the database prefers
TEXT_FORM = {"client_encoding": "UTF8", "TimeZone": "UTC", "DateStyle": "ISO, YMD", "extra_float_digits": "1"}

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


class PostgresWarehouse(Warehouse):
    """A database of a PostgreSQL server.

    :param connection: as Airflow's of type ``postgres``: ``schema`` is the database. ``extra``: ``lock_timeout``, seconds to wait for
        other writers, 300; ``statement_timeout``, seconds for one statement, 3600; what Airflow's hook knows (``iam``, ...); every other
        goes to the driver (``sslmode``, ``options``, ...).
    :raises ConfigError: if one of these is missing or wrong.
    """

    dialect = dialects.POSTGRES
    attempts = 4

    def __init__(self, connection: WarehouseConnection) -> None:
        super().__init__(connection)
        _check(connection)
        self._given = connection
        self._settings = {
            "application_name": str(connection.extra.get("application_name", "airflow-market-data")),
            **TEXT_FORM,
            "lock_timeout": _milliseconds(connection, "lock_timeout", LOCK_TIMEOUT),
            "statement_timeout": _milliseconds(connection, "statement_timeout", STATEMENT_TIMEOUT),
            # a worker that fell silent in the middle of a load holds up the others no longer than this
            "idle_in_transaction_session_timeout": _milliseconds(connection, "lock_timeout", LOCK_TIMEOUT),
        }
        self._open: psycopg.Connection[Any] | None = None
        self._migrating = False

    def migrate(self) -> list[str]:
        """As on every engine. Tried as often as a load; processes that migrate at once do it one after another."""
        self._migrating = True
        try:
            return self._tries()(super().migrate)
        finally:
            self._migrating = False

    @contextmanager
    def _session(self, *, write: bool) -> Iterator[None]:
        self._open = _connect(self._given)
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
        text = dialects.bound(statement.replace("%", "%%"), self.dialect)
        return psycopg.ClientCursor(self._connection).mogrify(text.encode(), list(params)).encode()

    def _execute(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        with _errors(kind):
            return max(0, self._connection.execute(self._text(statement, params)).rowcount)

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        with _errors(kind):
            text, cursor = self._text(statement, params), self._connection.cursor()
            # binary: for there is no second statement in one of that protocol
            columns = cursor.execute(b"SELECT * FROM (\n%b\n) q LIMIT 0" % text, binary=True).description or []
            with cursor.copy(b"COPY (\n%b\n) TO STDOUT (FORMAT csv)" % text) as rows:
                found = _to_arrow(rows, [_type(column) for column in columns])
        return pa.table(found, names=[column.name.lower() for column in columns])

    def _stage(self, target: Table, wire: pa.Table) -> None:
        self._execute(f"create {target.stage}", migrations.create_stage(target, self.dialect))
        copy = f"COPY {target.stage} ({', '.join(wire.column_names)}) FROM STDIN (FORMAT csv)"
        with _errors(f"stage into {target.stage}"), self._connection.cursor().copy(copy.encode()) as rows:
            for start in range(0, wire.num_rows, SLICE_ROWS):
                rows.write(_to_csv(wire.slice(start, SLICE_ROWS)))
        if wire.num_rows >= ANALYZE_ROWS:
            self._execute(f"analyze {target.stage}", f"ANALYZE {target.stage}")

    def _begin(self) -> None:
        """The session's first statement began the transaction."""
        if self._migrating:
            self._execute("wait for other migrations", "SELECT pg_advisory_xact_lock(?)", [MIGRATION_LOCK])

    def _commit(self) -> None:
        with _errors("commit"):
            self._connection.commit()

    def _rollback(self) -> None:
        with _errors("rollback"):
            self._connection.rollback()


# --- connection -----------------------------------------------------------------------------------------------------------------


def _check(connection: WarehouseConnection) -> None:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    for field, what in {"host": "the server's name", "schema": "the name of a database", "login": "a role"}.items():
        value = getattr(connection, field)
        if not value or "://" in value or (field == "host" and "@" in value):  # a URL may hold a password, so it is not shown
            raise ConfigError(f"warehouse connection: {field} is {'a URL' if value else 'empty'}; {what} is needed")
    port = connection.port
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        raise ConfigError(f"warehouse connection: port is {port!r}; a number from 1 to 65535, or none for 5432, is needed")
    of_driver = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"host", "port", "dbname", "user", "password"}
    known = OURS | PostgresHook.ignored_extra_options | of_driver
    if unknown := sorted(set(connection.extra) - known):
        raise ConfigError(
            f"warehouse connection: extra has {', '.join(unknown)}; allowed: {', '.join(sorted(OURS))}, what Airflow's PostgresHook"
            " knows, and libpq's parameter key words that are no field of the connection"
        )


def _milliseconds(connection: WarehouseConnection, name: str, default: float) -> str:
    """A time-out of ``extra`` as the server takes it; 0, which would mean none, is not allowed."""
    return str(min(round(number(connection, name, default, 0.001) * 1000), 2**31 - 1))


def _connect(given: WarehouseConnection) -> psycopg.Connection[Any]:
    """A new connection by Airflow's hook, which knows IAM tokens and the like."""
    from airflow.providers.common.compat.sdk import Connection
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    for_driver = {name: value for name, value in given.extra.items() if name not in OURS | {"cursor"}}
    connection = Connection(
        conn_id="warehouse",
        conn_type="postgres",
        host=given.host,
        port=given.port,
        schema=given.schema,
        login=given.login,
        password=given.password or None,
        extra=json.dumps(DRIVER | for_driver),
    )
    try:
        opened: psycopg.Connection[Any] = PostgresHook(connection=connection).get_conn()
    except psycopg.Error as error:
        text = str(error).splitlines()[0]
        raise WarehouseError(f"postgres: connect failed: {text}", retriable=_may_connect_later(error, text)) from None
    opened.prepare_threshold = None  # a pooler's next server connection would not know what was prepared on this one
    return opened


def _may_connect_later(error: psycopg.Error, text: str) -> bool:
    if not isinstance(error, psycopg.OperationalError) or REFUSED.search(text):
        return False
    return not (error.pgconn and error.pgconn.used_password) or bool(BUSY.search(text))


# --- rows -----------------------------------------------------------------------------------------------------------------------

TYPES = {
    psycopg.adapters.types.get_oid(name): kind
    for name, kind in {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }.items()
}
NUMERIC = psycopg.adapters.types.get_oid("numeric")
COMPUTED = pa.large_string()
"""Stands for a NUMERIC without declared digits until its values are known."""
VALUES = {
    "null_values": [""],
    "strings_can_be_null": True,
    "quoted_strings_can_be_null": False,
    "true_values": ["t"],
    "false_values": ["f"],
}
PARSE = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def _type(column: psycopg.Column) -> pa.DataType:
    """The Arrow type of a column; of what Arrow has no word for, and of computed numbers at first, text."""
    if column.type_code == NUMERIC:
        precision, scale = column.precision or 0, column.scale or 0
        return pa.decimal128(precision, scale) if 0 < precision <= 38 and 0 <= scale <= precision else COMPUTED
    return TYPES.get(column.type_code, pa.string())


def _number(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers of a NUMERIC without declared digits: decimals while all have 8 places at most, as the sum or the largest of our own
    columns, doubles once one has more, as every mean and quotient of theirs."""
    if pc.any(pc.match_substring_regex(values, r"\.\d{9}")).as_py():
        return values.cast(pa.float64())
    try:
        return values.cast(pa.decimal128(38, 8))
    except pa.ArrowInvalid:  # too large, or NaN
        return values.cast(pa.float64())


def _to_csv(rows: pa.Table) -> memoryview:
    """Rows as CSV: every text in quotes, a null as nothing, which is how COPY tells them apart."""
    sink = pa.BufferOutputStream()
    csv.write_csv(rows, sink, csv.WriteOptions(include_header=False))
    return memoryview(sink.getvalue())


def _to_arrow(rows: Iterable[Any], types: list[pa.DataType]) -> list[pa.ChunkedArray]:
    """The columns of CSV that comes a row at a time, as the server sends it."""
    schema = pa.schema([pa.field(str(n), kind) for n, kind in enumerate(types)])
    table = pa.concat_tables([schema.empty_table(), *(_parse(block, schema) for block in _blocks(rows))])
    return [_number(column) if column.type == COMPUTED else column for column in table.columns]


def _blocks(rows: Iterable[Any]) -> Iterator[memoryview]:
    block = io.BytesIO()
    for row in rows:
        block.write(row)
        if block.tell() >= BLOCK_BYTES:
            yield block.getbuffer()
            block = io.BytesIO()
    if block.tell():
        yield block.getbuffer()


def _parse(block: memoryview, schema: pa.Schema) -> pa.Table:
    read = csv.ReadOptions(column_names=schema.names, block_size=len(block) + 1)
    convert = csv.ConvertOptions(column_types=schema, **VALUES)
    return csv.read_csv(pa.py_buffer(block), read_options=read, parse_options=PARSE, convert_options=convert)


# --- errors ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _errors(kind: str) -> Iterator[None]:
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
