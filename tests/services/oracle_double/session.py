"""One client's session: its messages in, answers out, on a thread of its own."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.services.oracle_double import codec, faults, messages
from tests.services.oracle_double.engine import ResultColumn
from tests.services.oracle_double.engine import Engine, Result
from tests.services.oracle_double.errors import Break, DropConnection, OraError
from tests.services.oracle_double.faults import Fault, drop_after, suffer
from tests.services.oracle_double.handshake import Answer, Handshake
from tests.services.oracle_double.packets import Link, Reader
from tests.services.oracle_double.sql import words

if TYPE_CHECKING:
    from tests.services.oracle_double.server import OracleDouble


@dataclass
class Cursor:
    """A statement that the client has open."""

    sql: str
    binds: list[messages.BindType] = field(default_factory=list)
    query: bool = False
    columns: list[ResultColumn] = field(default_factory=list)
    pending: list[tuple[Any, ...]] = field(default_factory=list)
    sent: int = 0


class Session:
    """From CONNECT to the end, in ``run``."""

    def __init__(self, double: OracleDouble, number: int, link: Link) -> None:
        self._double = double
        self._number = number
        self.link = link
        self._reader = Reader(link)
        self._cursors: dict[int, Cursor] = {}
        self._opened = 0
        self._handshake = Handshake(double, number, link, self._reader, self._welcome)
        self._engine: Engine | None = None
        self._failed: OraError | None = None
        """Of a message that came along with the next call, which is to fail of it."""
        self._functions: dict[int, Callable[[], Answer]] = {
            4: lambda: self._execute_again(fetch=False),
            5: self._fetch,
            9: self._roll_back,  # at log-off
            14: self._commit,
            15: self._roll_back,
            78: lambda: self._execute_again(fetch=True),
            94: self._execute,
            115: lambda: self._handshake.authenticate(second=True),
            118: lambda: self._handshake.authenticate(second=False),
            147: self._ping,
        }

    def run(self) -> None:
        """Serve until the client goes, or is cut."""
        decimal.setcontext(decimal.Context(prec=80))  # of this thread; the usual 28 digits would round NUMBERs
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
            self.link.close()

    def _welcome(self, user: str) -> None:
        self._engine = Engine(self._double.database, user, lambda: self.link.interrupted(0))

    # --- messages -----------------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            answer = self._read()
            try:
                failed, self._failed = self._failed, None
                if failed:
                    raise failed
                message = answer()
            except OraError as error:
                message = self._end(error=error)
            self.link.send_message(message)
        except Break:
            self.link.reset()
            self._reader.forget()
            self.link.send_message(self._end(error=OraError(1013, "User requested cancel of current operation.")))

    def _read(self) -> Answer:
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
        """What came along with a call."""
        code = self._reader.byte()
        self._reader.byte()
        if code == 105:
            self._reader.byte()
            for _ in range(self._reader.number()):
                self._cursors.pop(self._reader.number(), None)
        elif code == 152:
            self._reader.byte()
            self._set_schema(self._reader.sized().decode())
        elif code == 135:
            self._attributes()
        elif code == 176:
            self._reader.number()
        else:
            raise NotImplementedError(f"piggyback {code}: the double knows none such")

    def _set_schema(self, schema: str) -> None:
        self._double.seen.schemas.append(schema)
        if self._engine is None:
            raise DropConnection("a schema before the login")
        try:
            self._engine.use_schema(schema.upper())
        except OraError as error:
            self._failed = error

    def _attributes(self) -> None:
        self._reader.skip("bbn")
        sizes = []
        for _ in range(3):
            self._reader.byte()
            sizes.append(self._reader.number())
        for _ in range(2):
            self._reader.skip("bnbnb")
            sizes.append(self._reader.number())
        for _ in filter(None, sizes):
            self._reader.bytes_()

    def _end(self, **values: Any) -> bytes:
        return bytes(messages.end(in_transaction=self._in_transaction, **values))

    @property
    def _in_transaction(self) -> bool:
        return self._engine is not None and self._engine.in_transaction

    def _status(self) -> bytes:
        return bytes(messages.status(in_transaction=self._in_transaction))

    # --- calls --------------------------------------------------------------------------------------------------------------------

    def _execute(self) -> Answer:
        call = messages.read_execute(self._reader)
        if call.sql is not None:
            if not call.cursor:
                self._opened += 1
            call.cursor = call.cursor or self._opened
            self._cursors[call.cursor] = Cursor(call.sql)
        cursor = self._cursors.get(call.cursor)
        if cursor:
            cursor.query = call.query
            cursor.binds = call.binds or cursor.binds
        prefetch = call.prefetch if call.options & messages.FETCH else 0
        commit, run = bool(call.options & messages.COMMIT), bool(call.options & messages.EXECUTE)
        rows = call.values * max(call.executions, 1) if not cursor or not cursor.binds else call.values
        return lambda: self._run(call.cursor, rows, prefetch, commit=commit, run=run)

    def _execute_again(self, *, fetch: bool) -> Answer:
        number, iterations = self._reader.number(), self._reader.number()
        self._reader.number()
        commit = bool(self._reader.number() & 1)
        cursor = self._cursors.get(number)
        count = 1 if cursor and cursor.query else max(iterations, 1)
        rows = messages.read_values(self._reader, cursor.binds, count) if cursor and cursor.binds else [[]]
        return lambda: self._run(number, rows, iterations if fetch else 0, commit=commit)

    def _run(
        self,
        number: int,
        rows: list[list[bytes | None]],
        prefetch: int,
        *,
        commit: bool = False,
        run: bool = True,
    ) -> bytes:
        cursor = self._cursor(number)
        values = [[codec.decode(bind.kind, value) for bind, value in zip(cursor.binds, row, strict=True)] for row in rows]
        self._record(cursor, len(values))
        fault = self._suffer(cursor.sql)
        self._check(cursor)
        if self._engine is None:
            raise OraError(1012, "not logged on")
        result = self._engine.run(cursor.sql, values) if run else Result()
        if commit:
            self._commit_now()
        drop_after(fault)
        if result.columns is not None:
            cursor.columns, cursor.pending, cursor.sent = result.columns, result.rows, 0
            return bytes(messages.description(cursor.columns) + self._rows(number, cursor, prefetch))
        return self._end(cursor=number, rows=result.count)

    def _rows(self, number: int, cursor: Cursor, count: int) -> bytes:
        rows, cursor.pending = cursor.pending[:count], cursor.pending[count:]
        cursor.sent += len(rows)
        error = OraError(messages.NO_DATA, "no data found") if count and not cursor.pending else None
        return bytes(messages.rows(cursor.columns, rows) + self._end(cursor=number, rows=cursor.sent, error=error))

    def _fetch(self) -> Answer:
        number, count = self._reader.number(), self._reader.number()

        def answer() -> bytes:
            return self._rows(number, self._cursor(number), count)

        return answer

    def _commit(self) -> Answer:
        def answer() -> bytes:
            self._commit_now()
            return self._status()

        return answer

    def _commit_now(self) -> None:
        fault = self._suffer(faults.COMMIT)
        if self._engine:
            self._engine.commit()
        drop_after(fault)

    def _roll_back(self) -> Answer:
        def answer() -> bytes:
            if self._engine:
                self._engine.rollback()
            return self._status()

        return answer

    def _ping(self) -> Answer:
        return self._status

    # --- what tests order and see -------------------------------------------------------------------------------------------------

    def _suffer(self, what: str) -> Fault | None:
        return suffer(self._double.faults.strike(what), self.link)

    def _record(self, cursor: Cursor, rows: int) -> None:
        types = tuple(codec.NAMES.get(bind.kind, str(bind.kind)) for bind in cursor.binds)
        self._double.seen.statements.append(faults.Statement(cursor.sql, types, rows))

    def _check(self, cursor: Cursor) -> None:
        """Refuse a LONG bind elsewhere than in a plain INSERT."""
        plain = words(cursor.sql)[0] == "insert" and "select" not in words(cursor.sql)
        if not plain and any(bind.kind in messages.LONGS for bind in cursor.binds):
            raise OraError(1461, "can bind a LONG value only for insert into a LONG column")

    def _cursor(self, number: int) -> Cursor:
        if number not in self._cursors:
            raise OraError(1001, "invalid cursor")
        return self._cursors[number]
