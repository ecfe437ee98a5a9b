"""Oracle Database 19c to 26ai, through Airflow's ``OracleHook`` and python-oracledb.

The hook makes the connection and nothing else: its ``insert_rows`` and ``bulk_insert_rows`` commit in between. A load stages its Arrow
table by one ``executemany`` into a global temporary table, whose rows are the session's own and go at the commit.

Oracle commits at every DDL statement. So a migration holds a lock on ``schema_version`` by one connection, to which its rows there
belong too, and runs its statements by another: processes migrate one after another, and one that was cut is repeated whole. What
is there already, or gone already, is then taken as done.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from airflow.providers.oracle.hooks.oracle import OracleHook
from airflow.sdk import Connection

from market_data.core.errors import ConfigError, WarehouseError
from market_data.warehouse import WarehouseConnection, dialects, migrations
from market_data.warehouse.base import Warehouse, number
from market_data.warehouse.schema import Table

if TYPE_CHECKING:
    import oracledb

CALL_TIMEOUT = 600.0
THICK_ROWS = 5_000
MOST_MILLISECONDS = 2**31 - 1
OURS = ("chunk_rows", "call_timeout")
"""Settings in ``extra`` that are not the hook's."""

# Moments are UTC: without it, Oracle would compare them with its clock by the worker's zone. A changed table may be in use by a load.
SESSION = "ALTER SESSION SET TIME_ZONE = '+00:00' DDL_LOCK_TIMEOUT = 300"
READ_ONLY = "SET TRANSACTION READ ONLY"
GONE = "ORA-00942"
DONE = {r"ALTER TABLE \w+ ADD": "ORA-01430", r"CREATE (GLOBAL TEMPORARY )?TABLE": "ORA-00955"}
"""What Oracle says of a statement that was run before; others can be repeated."""


class OracleWarehouse(Warehouse):
    """Tables of an Oracle schema.

    :param connection: ``login``, ``password``; ``host``, ``port`` (1521) and ``service_name`` or ``sid`` in ``extra``, or all of that as
        ``dsn`` in ``extra``; ``schema``: the tables' owner, if that is not the login. ``extra`` besides: ``call_timeout``, seconds that one
        call to the server may take, 600; what ``OracleHook`` knows, e.g. ``wallet_location``.
    :raises ConfigError: names every setting that is missing or wrong.
    """

    dialect = dialects.ORACLE
    attempts = 4

    def __init__(self, connection: WarehouseConnection) -> None:
        super().__init__(connection)
        self.call_timeout = number(connection, "call_timeout", CALL_TIMEOUT, 1)
        if problems := list(_problems(connection)):
            raise ConfigError(f"warehouse connection: {'; '.join(problems)}")
        self.schema = connection.schema.upper()
        self._settings = connection
        self._open: oracledb.Connection | None = None
        self._definer: oracledb.Connection | None = None
        self._definers = ExitStack()

    def migrate(self) -> list[str]:
        """As on every engine. Tried as often as a load; processes that migrate at once do it one after another."""
        return self._tries()(self._migrate)

    def _migrate(self) -> list[str]:
        with self._session(write=True), ExitStack() as self._definers:
            self._definer = None
            if not self._scalar("look for schema_version", self.dialect.table_exists, ["schema_version"]):
                self._define("create schema_version", migrations.CREATE_SCHEMA_VERSION.statement(self.dialect))
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

        with _errors("connect"):
            connection = _Hook(self._settings).get_conn()
        try:
            with _errors("set up the session"), connection.cursor() as cursor:
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
        return self._run(kind, dialects.bound(statement, self.dialect), params)

    def _run(self, kind: str, statement: str, params: Sequence[Any] = ()) -> int:
        with _errors(kind), self._connection.cursor() as cursor:
            cursor.execute(statement, self._binds(params))
            return max(cursor.rowcount, 0)

    def _fetch(self, kind: str, statement: str, params: Sequence[Any] = ()) -> pa.Table:
        with _errors(kind):
            frame = self._connection.fetch_df_all(dialects.bound(statement, self.dialect), self._binds(params), fetch_decimals=True)
            found = pa.table(frame)
        return pa.table([_plain(column) for column in found.columns], names=[name.lower() for name in found.column_names])

    def _scalar(self, kind: str, statement: str, params: Sequence[Any] = ()) -> Any:
        value = super()._scalar(kind, statement, params)
        return int(value) if isinstance(value, float) else value  # a count, which has no precision and so comes as a float

    def _binds(self, params: Sequence[Any]) -> list[Any]:
        """``params`` with moments as TIMESTAMP in UTC: the driver would bind a DATE, without microseconds, and drop the zone."""
        import oracledb

        binds = list(params)
        with self._connection.cursor() as cursor:
            for n, value in enumerate(binds):
                if isinstance(value, datetime):
                    binds[n] = cursor.var(oracledb.DB_TYPE_TIMESTAMP)
                    binds[n].setvalue(0, value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
        return binds

    def _stage(self, target: Table, wire: pa.Table) -> None:
        marks = ", ".join(self.dialect.mark(n) for n in range(1, wire.num_columns + 1))
        insert = f"INSERT INTO {target.stage} ({', '.join(wire.column_names)}) VALUES ({marks})"  # noqa: S608  our own names
        with _errors(f"stage into {target.stage}"), self._connection.cursor() as cursor:
            # A call for each chunk: one chunk, one call. In thick mode every text takes its longest form, 16,000 bytes, at once.
            at_once = {"batch_size": THICK_ROWS} if self._is_thick else {}
            cursor.executemany(insert, wire.combine_chunks(), **at_once)

    def _begin(self) -> None:
        """The first statement begins it."""

    def _commit(self) -> None:
        with _errors("commit"):
            self._connection.commit()

    def _rollback(self) -> None:
        with _errors("rollback"):
            self._connection.rollback()


class _Hook(OracleHook):
    """Airflow's hook for one connection that is known already: no look-up by its id, so it works outside of tasks too."""

    def __init__(self, settings: WarehouseConnection) -> None:
        super().__init__(log_sql=False)
        self._settings = settings

    def get_connection(self, conn_id: str) -> Connection:
        """The warehouse's, without ``schema``: the hook would also take it for the name of a service."""
        extra = {name: value for name, value in self._settings.extra.items() if name not in OURS}
        return Connection(
            conn_id=conn_id,
            conn_type="oracle",
            host=self._settings.host or None,
            port=self._settings.port,
            login=self._settings.login,
            password=self._settings.password,
            extra=json.dumps(extra),
        )


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


# --- settings -------------------------------------------------------------------------------------------------------------------

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_$#]{0,127}")
HOST = re.compile(r"[^\s/?@()=]+")
ALIAS = re.compile(r"[\w.-]+")


def _problems(connection: WarehouseConnection) -> Iterator[str]:
    """What is wrong with the settings, in words without secrets."""
    extra = connection.extra
    texts = ("dsn", "service_name", "sid", "wallet_location", "wallet_password")
    if wrong := [name for name in texts if not isinstance(extra.get(name, ""), str)]:
        yield f"extra.{', extra.'.join(wrong)} must be text"
        return
    yield from (f"{name} is empty" for name in ("login", "password") if not getattr(connection, name))
    yield from _where(connection)
    if connection.schema and not IDENTIFIER.fullmatch(connection.schema):
        yield f"schema is {connection.schema!r}; the owner of the tables is needed: letters, digits, _ $ #; or nothing"
    if extra.get("wallet_location"):
        yield from _wallet(extra)


def _where(connection: WarehouseConnection) -> Iterator[str]:
    dsn, names = connection.extra.get("dsn"), [n for n in ("service_name", "sid") if connection.extra.get(n)]
    if dsn:
        if "@" in dsn:
            yield "extra.dsn holds a @; user and password belong into login and password"
        if beside := [*(["host"] if connection.host else []), *(f"extra.{name}" for name in names)]:
            yield f"{', '.join(beside)} beside extra.dsn; only one of them can say where the database is"
    elif not connection.host:
        yield "neither host nor extra.dsn says where the database is"
    elif not HOST.fullmatch(connection.host):
        yield "host is no name or address; a connect string belongs into extra.dsn"
    elif len(names) == 2:
        yield "extra.service_name and extra.sid are both given; one is needed"
    elif not names and connection.schema:
        yield (
            f"extra.service_name is missing; schema {connection.schema!r} is the owner of the tables here. "
            "If it is the service's name, move it to extra.service_name"
        )
    elif not names:
        yield "extra.service_name or extra.sid is missing; host and port alone name no database"


def _wallet(extra: Mapping[str, Any]) -> Iterator[str]:
    dsn, pem = extra.get("dsn", ""), Path(extra["wallet_location"]) / "ewallet.pem"
    if "tcps" not in dsn.lower() and not ALIAS.fullmatch(dsn):
        yield "extra.wallet_location would be ignored; it needs an extra.dsn of PROTOCOL=TCPS"
    if str(extra.get("thick_mode")).lower() == "true":
        return  # the client library reads the wallet's other file
    try:
        if "PRIVATE KEY" in pem.read_text():
            # the driver goes on without the key if it cannot read it; without a password it would ask the terminal for one
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pem, password=extra.get("wallet_password") or "")
    except ssl.SSLError:
        yield f"extra.wallet_password does not open the key in {pem}"
    except (OSError, UnicodeDecodeError):
        yield f"extra.wallet_location: {pem} cannot be read; the driver needs it, and takes no cwallet.sso"


# --- errors ---------------------------------------------------------------------------------------------------------------------

# Besides the ones that the driver itself calls recoverable. ORA-00001: a load's keys are proved to be unique, so another process
# has just loaded the same. ORA-16000: for a moment, after a switchover.
# fmt: off
RETRIABLE_ORA = frozenset({
    1, 18, 20, 54, 60, 376, 1012, 1033, 1034, 1089, 1090, 1092, 1115, 1555, 1652, 2049, 2391, 2396, 2399, 3113, 3114, 3135, 4020, 4021,
    4031, 4068, 8177, 12153, 12170, 12514, 12516, 12518, 12519, 12520, 12526, 12527, 12528, 12537, 12541, 12543, 12547, 12560, 12570,
    12571, 12606, 12609, 12757, 12801, 12805, 14411, 14450, 16000, 25408, 30006, 30036,
})
# fmt: on
RETRIABLE_DPY = frozenset({"DPY-1001", "DPY-4005", "DPY-4011", "DPY-4024", "DPY-4033", "DPY-6000", "DPY-6001", "DPY-6005"})
# A wallet or a setting that is wrong comes as one of these too
FINAL = re.compile(r"DPY-2018|DPY-4027|DPY-600[236]|CERTIFICATE|_ALERT_|WRONG_VERSION_NUMBER|ORA-01017")
CODE = re.compile(r"\b(?:ORA-\d{5}|DP[YI]-\d{4})\b")
NAME = re.compile(r'\(("?[\w$#]+"?(?:\."?[\w$#]+"?)+)\)')
CONSTRAINTS = {"ORA-00001", "ORA-01400", "ORA-02290"}
WORDS = {
    "ORA-00001": "a row with this key is there already",
    "ORA-00018": "the database has no session free",
    "ORA-00020": "the database has no process free",
    "ORA-00054": "the table is in use",
    "ORA-00060": "deadlock",
    "ORA-01017": "login or password is wrong",
    "ORA-01031": "the login lacks a privilege for it",
    "ORA-01400": "a value is missing",
    "ORA-01435": "the schema of the connection is no user of the database",
    "ORA-01438": "a number is too large",
    "ORA-01456": "this transaction only reads",
    "ORA-01536": "the owner's quota of the tablespace is used up",
    "ORA-01652": "the temporary tablespace is full",
    "ORA-01653": "the tablespace is full",
    "ORA-01722": "a text is no number",
    "ORA-01950": "the owner has no quota on the tablespace",
    "ORA-02290": "a check of the table refuses a value",
    "ORA-02391": "the login has as many sessions as its profile allows",
    "ORA-12899": "a text is too long",
    "ORA-16000": "the database is open for reading only",
    "ORA-28000": "the account is locked",
    "ORA-12520": "no process of the kind asked for; is DRCP started?",
    "ORA-28001": "the password has expired",
    "ORA-30006": "the lock was not to be had in time",
    "DPY-4011": "the connection was cut",
    "DPY-4024": "the call took longer than extra.call_timeout",
    "DPY-4000": "extra.dsn is an alias that tnsnames.ora lacks",
    "DPY-4017": "extra.dsn is no connect descriptor",
    "DPY-4018": "extra.dsn is no connect string",
    "DPY-4027": "extra.dsn is an alias, which needs TNS_ADMIN in the worker's environment",
    "DPY-6000": "the listener refused",
    "DPY-6001": "the listener knows no such service, or not yet",
    "DPY-6003": "the listener knows no such SID",
    "DPY-6006": "the server's certificate is for another host",
}


class OracleError(WarehouseError):
    """What Oracle or its driver said.

    :param code: e.g. ``ORA-00942``, ``DPY-4011``; of several the first.
    """

    def __init__(self, message: str, *, retriable: bool, code: str) -> None:
        super().__init__(message, retriable=retriable)
        self.code = code


@contextmanager
def _errors(kind: str) -> Iterator[None]:
    import oracledb

    try:
        yield
    except (oracledb.Error, OSError) as error:
        code, text, retriable = _driver(error) if isinstance(error, oracledb.Error) else _network(error)
        raise OracleError(
            f"oracle: {kind} failed: {text}", retriable=retriable, code=code
        ) from None  # its text can hold rows or a DSN


def _network(error: OSError) -> tuple[str, str, bool]:
    """Code, words, retriable of what the driver lets through, as it does when a host's name is not found."""
    gone = isinstance(error, socket.gaierror | ConnectionError | TimeoutError) or error.errno in (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    )
    again = gone and not isinstance(error, ssl.SSLError)
    return type(error).__name__, _said(error), again


def _said(error: OSError) -> str:
    why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return f"{type(error).__name__}: {why}"


def _driver(error: oracledb.Error) -> tuple[str, str, bool]:
    """Code, words, retriable. Oracle's own words only where they speak of SQL: others show rows, the driver's show the DSN."""
    said = error.args[0]
    message = said.message or ""
    codes = list(dict.fromkeys(CODE.findall(f"{said.full_code} {message}"))) or [type(error).__name__]
    words = [*codes, *(WORDS[code] for code in codes if code in WORDS)]
    if codes[0].startswith("ORA-009"):  # the parser's; as our SQL has the names
        line = message.splitlines()[0].removeprefix(f"{codes[0]}: ")
        words.append(re.sub(r'"[^"]*"', lambda name: name[0].lower(), line))
    if codes[0] in CONSTRAINTS and (constraint := NAME.search(message.splitlines()[0])):
        words.append(constraint[0])
    if isinstance(error.__cause__, OSError):
        words.append(_said(error.__cause__))
    if codes[0] == GONE:
        words.append("Has the warehouse been migrated?")
    return codes[0], " ".join(words), _may_work_later(said, f"{message} {error.__cause__}")


def _may_work_later(said: Any, text: str) -> bool:
    if said.isrecoverable or said.is_session_dead or said.code in RETRIABLE_ORA:
        return not FINAL.search(text)
    return said.full_code in RETRIABLE_DPY and not FINAL.search(text)
