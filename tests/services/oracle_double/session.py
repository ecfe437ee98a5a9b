"""One client's session: its messages in, responses out, on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.services.oracle_double import codec, faults, messages
from tests.services.oracle_double.engine import Engine, ResultColumn
from tests.services.oracle_double.errors import Break, DropConnection, OraError
from tests.services.oracle_double.handshake import Handshake, Respond
from tests.services.oracle_double.packets import Link, Reader
from tests.services.oracle_double.sql import words

if TYPE_CHECKING:
    from tests.services.oracle_double.server import OracleDouble


@dataclass
class Cursor:
    """A statement that the client has open."""

    sql: str
    binds: list[messages.BindType] = field(default_factory=list)
    columns: list[ResultColumn] = field(default_factory=list)
    pending: list[tuple[Any, ...]] = field(default_factory=list)
    sent: int = 0


class Session:
    """From CONNECT to the end, in ``run``."""

    def __init__(self, double: OracleDouble, number: int, link: Link) -> None:
        self._double = double
        self._link = link
        self._reader = Reader(link)
        self._cursors: dict[int, Cursor] = {}
        self._opened = 0
        self._handshake = Handshake(double, number, link, self._reader, self._welcome)
        self._engine: Engine | None = None
        self._failed: OraError | None = None
        """Of a message that came along with the next call, which is to fail of it."""
        self._functions: dict[int, Callable[[], Respond]] = {
            4: lambda: self._execute_again(fetch=False),
            5: self._fetch,
            9: lambda: self._roll_back,  # at log-off
            14: lambda: self._commit,
            15: lambda: self._roll_back,
            78: lambda: self._execute_again(fetch=True),
            94: self._execute,
            115: lambda: self._handshake.authenticate(second=True),
            118: lambda: self._handshake.authenticate(second=False),
        }

    def run(self) -> None:
        """Serve until the client goes, or is cut."""
        try:
            self._handshake.connect()
            while True:
                self._reader.forget()
                self._serve()
        except (DropConnection, OSError):  # cut, by either side
            return
        finally:
            if self._engine:
                self._engine.close()
            self._link.close()

    def _welcome(self, user: str) -> None:
        self._engine = Engine(self._double.database, user, lambda: self._link.interrupted(0))

    @property
    def _open(self) -> Engine:
        if self._engine is None:
            raise DropConnection("a call before the login")
        return self._engine

    # --- messages -----------------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            respond = self._read()
            try:
                failed, self._failed = self._failed, None
                if failed:
                    raise failed
                message = respond()
            except OraError as error:
                message = self._end(error=error)
            self._link.send_message(message)
        except Break:
            self._link.reset()
            self._reader.forget()
            self._link.send_message(self._end(error=OraError(1013, "User requested cancel of current operation.")))

    def _read(self) -> Respond:
        while (kind := self._reader.byte()) == messages.PIGGYBACK:
            self._piggyback()
        if kind == messages.PROTOCOL:
            return self._handshake.protocol()
        if kind == messages.DATA_TYPES:
            return self._handshake.data_types()
        code = self._reader.byte() if kind == messages.FUNCTION else -kind
        self._reader.byte()
        if code not in self._functions:
            raise NotImplementedError(f"message {kind}, function {code}: the double knows none such")
        return self._functions[code]()

    def _piggyback(self) -> None:
        """Read what came along with a call."""
        code = self._reader.byte()
        self._reader.skip("bb")
        if code == 105:
            for _ in range(self._reader.number()):
                self._cursors.pop(self._reader.number(), None)
        elif code == 152:
            schema = self._reader.sized().decode()
            self._double.seen.schemas.append(schema)
            try:
                self._open.use_schema(schema.upper())
            except OraError as error:
                self._failed = error
        else:
            raise NotImplementedError(f"piggyback {code}: the double knows none such")

    def _end(self, **values: Any) -> bytes:
        return bytes(messages.end(in_transaction=self._engine is not None and self._engine.in_transaction, **values))

    def _status(self) -> bytes:
        return bytes(messages.status(in_transaction=self._open.in_transaction))

    # --- calls --------------------------------------------------------------------------------------------------------------------

    def _execute(self) -> Respond:
        call = messages.read_execute(self._reader)
        number = call.cursor
        if call.sql is not None:
            self._opened += not number
            number = number or self._opened
            self._cursors[number] = Cursor(call.sql)
        cursor = self._cursors[number]
        cursor.binds = call.binds or cursor.binds
        prefetch = call.prefetch if call.options & messages.FETCH else 0
        return lambda: self._run(number, call.values, prefetch)

    def _execute_again(self, *, fetch: bool) -> Respond:
        number, count = self._reader.number(), self._reader.number()
        self._reader.skip("nn")
        binds = self._cursors[number].binds
        rows = messages.read_values(self._reader, binds, 1 if fetch else count) if binds else [[]]
        return lambda: self._run(number, rows, count if fetch else 0)

    def _run(self, number: int, rows: list[list[bytes | None]], prefetch: int) -> bytes:
        cursor = self._cursors[number]
        values = [[codec.decode(bind.kind, value) for bind, value in zip(cursor.binds, row, strict=True)] for row in rows]
        types = tuple(codec.NAMES.get(bind.kind, str(bind.kind)) for bind in cursor.binds)
        self._double.seen.statements.append(faults.Statement(cursor.sql, types, len(values)))
        fault = faults.suffer(self._double.faults.strike(cursor.sql), self._link)
        named = words(cursor.sql)
        if "LONG" in types and (named[0] != "insert" or "select" in named):
            raise OraError(1461, "can bind a LONG value only for insert into a LONG column")
        result = self._open.run(cursor.sql, values)
        faults.drop_after(fault)
        if result.columns is None:
            return self._end(cursor=number, rows=result.count)
        cursor.columns, cursor.pending, cursor.sent = result.columns, result.rows, 0
        return bytes(messages.description(cursor.columns) + self._rows(number, prefetch))

    def _rows(self, number: int, count: int) -> bytes:
        cursor = self._cursors[number]
        rows, cursor.pending = cursor.pending[:count], cursor.pending[count:]
        cursor.sent += len(rows)
        error = OraError(messages.NO_DATA, "no data found") if count and not cursor.pending else None
        return bytes(messages.rows(cursor.columns, rows) + self._end(cursor=number, rows=cursor.sent, error=error))

    def _fetch(self) -> Respond:
        number, count = self._reader.number(), self._reader.number()
        return lambda: self._rows(number, count)

    def _commit(self) -> bytes:
        fault = faults.suffer(self._double.faults.strike(faults.COMMIT), self._link)
        self._open.commit()
        faults.drop_after(fault)
        return self._status()

    def _roll_back(self) -> bytes:
        self._open.rollback()
        return self._status()
