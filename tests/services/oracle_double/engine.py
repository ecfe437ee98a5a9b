"""One session's statements.

Rows of a global temporary table (ON COMMIT DELETE ROWS) need no transaction of DuckDB's: there are none when a transaction begins and
none after it, however it ends. They are deleted then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from tests.services.oracle_double import ddl
from tests.services.oracle_double.catalog import TableDefinition
from tests.services.oracle_double.database import Database
from tests.services.oracle_double.describe import ResultColumn, describe
from tests.services.oracle_double.errors import OraError, from_duckdb, not_done
from tests.services.oracle_double.locks import ROWS, Owner
from tests.services.oracle_double.rows import Row, change
from tests.services.oracle_double.tokens import tokens, words
from tests.services.oracle_double.transaction import Transaction
from tests.services.oracle_double.translate import translate, written_table

QUERIES = {"SELECT", "WITH", "("}
CHANGES = {"INSERT", "UPDATE", "DELETE", "MERGE"}
SETTING = re.compile(r"(\w+)\s*=\s*('[^']*'|\"[^\"]*\"|\w+)")


@dataclass
class Result:
    """What a statement gave.

    :param columns: of a query; None for another statement.
    :param counts: rows changed for each row of binds.
    """

    columns: list[ResultColumn] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class Engine:
    """A session.

    :param user: in capitals.
    :param poll: called while a lock is waited for; raises to give up.
    """

    def __init__(self, database: Database, user: str, poll: Callable[[], None]) -> None:
        self._database = database
        self._cursor = database.cursor()
        self._user = self._schema = user
        self._cursor.execute("SET VARIABLE session_user = ?", [user])
        self.use_schema(user)
        self._transaction = Transaction(database, self._cursor)
        self._owner = Owner(poll)
        self._ddl_wait = 0.0
        self._made: dict[str, TableDefinition] = {}
        self._filled: set[str] = set()

    @property
    def in_transaction(self) -> bool:
        return self._transaction.is_open or bool(self._filled) or bool(self._database.locks.held(self._owner))

    def run(self, sql: str, rows: list[Row]) -> Result:
        """Run a statement, once for each row of binds.

        :raises OraError: it failed; what it did is undone, the transaction is as it was.
        """
        found = [token.upper for token in tokens(sql)[:2]]
        kind = found[0]
        if kind in QUERIES:
            return self._query(sql, rows[0])
        if kind in CHANGES:
            return self._change(sql, rows)
        if found == ["COMMIT"]:
            self.commit()
        elif found == ["ROLLBACK"]:
            self.rollback()
        elif kind == "LOCK":
            self._lock(sql)
        elif kind == "SET":
            self._set(sql)
        elif found == ["ALTER", "SESSION"]:
            self._alter_session(sql)
        elif kind in ddl.KINDS:
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
        self._schema = schema
        self._cursor.execute("SET VARIABLE current_schema = ?", [schema])

    @property
    def _sees_tables(self) -> bool:
        return self._schema == self._database.owner

    def commit(self) -> None:
        """End the transaction, keeping what it did."""
        try:
            self._transaction.commit()
        finally:
            self._end()

    def rollback(self) -> None:
        """End the transaction, undoing what it did."""
        self._transaction.rollback()
        self._end()

    def close(self) -> None:
        """As when a session ends or dies."""
        self.rollback()
        self._cursor.close()

    def _end(self) -> None:
        for name in self._filled:
            self._cursor.execute(f"DELETE FROM {name}")
        self._filled.clear()
        self._database.locks.release(self._owner)

    # --- queries and changes ------------------------------------------------------------------------------------------------------

    def _query(self, sql: str, binds: Row) -> Result:
        text = self._ready(sql)
        try:
            self._cursor.execute(text, binds)
            columns, rows = self._cursor.description, self._cursor.fetchall()
            return Result(describe(self._database, self._cursor, text, columns), rows)
        except duckdb.Error as error:
            self._transaction.recover()
            raise from_duckdb(error, owner=self._database.owner) from error

    def _change(self, sql: str, rows: list[Row]) -> Result:
        if self._transaction.read_only:
            raise OraError(1456, "may not perform insert/delete/update operation inside a READ ONLY transaction")
        target = self._database.definitions.get(written_table(sql) or "")
        held = self._database.locks.held(self._owner)
        try:
            if target:
                self._database.locks.take(self._owner, target.name, "ROW EXCLUSIVE")
                if not target.on_commit:
                    self._database.locks.take(self._owner, target.name, ROWS)
            return Result(counts=self._do(sql, rows, target))
        except BaseException:
            self._database.locks.keep(self._owner, held)
            raise

    def _do(self, sql: str, rows: list[Row], target: TableDefinition | None) -> list[int]:
        """A change as one: all rows of binds, or none."""
        text = self._ready(sql)

        def work() -> list[int]:
            return change(self._cursor, sql, text, rows, target)

        private = target is not None and target.on_commit == "DELETE"
        try:
            if private and not self._transaction.is_open:
                counts = self._transaction.apart(work)
            else:
                counts = self._transaction.change(target.name if target else "", work)
        except duckdb.Error as error:
            raise from_duckdb(error, target, self._database.owner) from error
        if private and target:
            self._filled.add(target.name)
        return counts

    def _ready(self, sql: str) -> str:
        """``sql`` for DuckDB, after all is there that it needs: the newest commits, and this session's own global temporary tables."""
        names = {word.lower() for word in words(sql)}
        if not self._sees_tables and names & {*self._database.definitions, *self._database.views}:
            raise OraError(942, "table or view does not exist")
        for name, definition in self._database.temporary().items():
            if name in names and self._made.get(name) != definition:
                self._make(definition)
        self._transaction.refresh(names)
        return translate(sql, self._database.owner)

    def _make(self, definition: TableDefinition) -> None:
        def work() -> list[int]:
            self._cursor.execute(f"DROP TABLE IF EXISTS temp.{definition.name}")
            self._cursor.execute(definition.duckdb())
            return []

        self._transaction.apart(work)
        self._made[definition.name] = definition

    # --- other statements ---------------------------------------------------------------------------------------------------------

    def _lock(self, sql: str) -> None:
        table, mode, wait = _parse_lock(sql)
        if not self._sees_tables or table not in self._database.definitions:
            raise OraError(942, "table or view does not exist")
        self._database.locks.take(self._owner, table, mode, wait)

    def _set(self, sql: str) -> None:
        if [token.upper for token in tokens(sql)[1:]] != ["TRANSACTION", "READ", "ONLY"]:
            raise not_done(sql)
        if self.in_transaction:
            raise OraError(1453, "SET TRANSACTION must be first statement of transaction")
        self._transaction.start_reading()

    def _alter_session(self, sql: str) -> None:
        for name, value in SETTING.findall(sql.upper()):
            if name == "DDL_LOCK_TIMEOUT":
                self._ddl_wait = float(value)
            elif name == "CURRENT_SCHEMA":
                self.use_schema(value.strip('"'))
            elif name != "TIME_ZONE" and not name.startswith("NLS_"):
                raise not_done(f"ALTER SESSION SET {name}")

    def _define(self, sql: str) -> None:
        self.commit()
        if self._user != self._database.owner:
            raise OraError(1031, "insufficient privileges")
        table = ddl.name_of(sql)
        try:
            if table in self._database.definitions and ddl.is_exclusive(sql):
                self._database.locks.take(self._owner, table, "EXCLUSIVE", self._ddl_wait)
            ddl.run(self._database, sql, self._database.owner)
        except OraError as error:
            if error.number == 30006:
                raise OraError(54, "resource busy and acquire with NOWAIT specified or timeout expired") from error
            raise
        finally:
            self._database.locks.release(self._owner)
        self._database.committed({table or ddl.name_of(sql, "VIEW")})


def _parse_lock(sql: str) -> tuple[str, str, float | None]:
    """Table in lower case, mode, seconds to wait (None: for ever)."""
    found = [token.upper for token in tokens(sql)]
    begin, end = found.index("IN"), found.index("MODE")
    rest = found[end + 1 :]
    wait = 0.0 if rest == ["NOWAIT"] else float(rest[1]) if rest[:1] == ["WAIT"] else None
    return found[begin - 1].strip('"').lower(), " ".join(found[begin + 1 : end]), wait
