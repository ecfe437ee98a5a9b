"""The DuckDB database behind the double, which all sessions share."""

from __future__ import annotations

import itertools
import threading
from functools import cache

import duckdb

from tests.services.oracle_double.catalog import TableDefinition
from tests.services.oracle_double.errors import OraError, from_duckdb
from tests.services.oracle_double.locks import Locks
from tests.services.oracle_double.tokens import tokens

SYSTEM = "oracle_sys"
_SYSTEM_OBJECTS = f"""
CREATE TABLE IF NOT EXISTS {SYSTEM}.dual AS SELECT 'X' AS dummy;
CREATE TABLE IF NOT EXISTS {SYSTEM}.definitions (name VARCHAR PRIMARY KEY, temporary VARCHAR NOT NULL);
CREATE OR REPLACE VIEW {SYSTEM}.all_tables AS
  SELECT '%OWNER%' AS owner, upper(name) AS table_name, temporary
    FROM {SYSTEM}.definitions;
CREATE OR REPLACE VIEW {SYSTEM}.user_tables AS
  SELECT table_name, temporary FROM {SYSTEM}.all_tables WHERE owner = getvariable('session_user');
CREATE OR REPLACE VIEW {SYSTEM}.user_views AS
  SELECT upper(view_name) AS view_name, sql AS text
    FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal;
CREATE OR REPLACE MACRO {SYSTEM}.nvl(a, b) AS coalesce(a, b);
CREATE OR REPLACE MACRO {SYSTEM}.sys_context(namespace, parameter) AS
  CASE upper(namespace) || '.' || upper(parameter) WHEN 'USERENV.SESSION_USER' THEN getvariable('session_user')
  WHEN 'USERENV.CURRENT_SCHEMA' THEN getvariable('current_schema') ELSE error('not of the double: SYS_CONTEXT') END;
"""
_NUMBERS = itertools.count(1)


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    """One DuckDB for the process: to attach a database to it takes a millisecond, to start another a hundred."""
    instance = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    instance.execute("SET GLOBAL default_null_order = 'nulls_last_on_asc_first_on_desc'")  # as Oracle sorts
    return instance


class Database:
    """Tables, views and their definitions, empty at first.

    :param owner: who owns what there is, in capitals.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.name = f"double{next(_NUMBERS)}"
        self.locks = Locks()
        self.commits = 0
        """How many have been done."""
        self.definitions: dict[str, TableDefinition] = {}
        self.views: dict[str, str] = {}
        """The query of each view, for DuckDB."""
        self._changed: dict[str, int] = {}
        self._ddl = threading.RLock()
        _instance().cursor().execute(f"ATTACH ':memory:' AS {self.name}")
        _instance().cursor().execute(f"CREATE SCHEMA {self.name}.{SYSTEM}")
        with self.cursor() as cursor:
            cursor.execute(_SYSTEM_OBJECTS.replace("%OWNER%", owner.replace("'", "''")))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own, with its own transaction and temporary tables."""
        cursor = _instance().cursor()
        cursor.execute(f"USE {self.name}")
        cursor.execute(f"SET search_path = '{self.name}.main,{self.name}.{SYSTEM}'")
        return cursor

    def temporary(self) -> dict[str, TableDefinition]:
        """The global temporary tables."""
        return {name: definition for name, definition in self.definitions.items() if definition.on_commit}

    def create(self, definition: TableDefinition) -> None:
        """A new table.

        :raises OraError: 955, there is one of that name; others, DuckDB does not take it.
        """
        with self._ddl, self.cursor() as cursor:
            if definition.name in self.definitions or definition.name in self.views:
                raise OraError(955, "name is already used by an existing object")
            self._change(cursor, definition, [definition.duckdb()] if not definition.on_commit else [])

    def alter(self, definition: TableDefinition, old: TableDefinition) -> None:
        """Make a table anew as ``definition`` has it, with the rows that it has."""
        shared = ", ".join(column.name for column in old.columns)
        rebuild = [
            f"CREATE TEMPORARY TABLE old_rows AS SELECT {shared} FROM {old.name}",
            f"DROP TABLE {old.name}",
            definition.duckdb(),
            f"INSERT INTO {old.name} ({shared}) SELECT {shared} FROM old_rows",
            "DROP TABLE old_rows",
        ]
        with self._ddl, self.cursor() as cursor:
            self._change(cursor, definition, [] if definition.on_commit else rebuild)

    def drop(self, definition: TableDefinition) -> None:
        """Remove a table."""
        with self._ddl, self.cursor() as cursor:
            statements = [f"DELETE FROM {SYSTEM}.definitions WHERE name = '{definition.name}'"]
            _together(cursor, statements if definition.on_commit else [*statements, f"DROP TABLE {definition.name}"], definition)
            del self.definitions[definition.name]

    def define(self, statement: str) -> None:
        """Run DDL that needs no definition kept, such as CREATE INDEX."""
        with self._ddl, self.cursor() as cursor:
            _together(cursor, [statement], None)

    def create_view(self, statement: str) -> None:
        """A new view, or another for one that may be replaced.

        :raises OraError: 955, there is a table or view of that name; others, DuckDB does not take it.
        """
        made = _view(statement)
        with self._ddl, self.cursor() as cursor:
            if any(name in self.definitions for name in made):
                raise OraError(955, "name is already used by an existing object")
            _together(cursor, [statement], None)
            self.views |= made

    def drop_view(self, name: str) -> None:
        """Remove a view.

        :raises OraError: 942, there is none of that name.
        """
        with self._ddl, self.cursor() as cursor:
            if name not in self.views:
                raise OraError(942, "table or view does not exist")
            _together(cursor, [f"DROP VIEW {name}"], None)
            del self.views[name]

    def committed(self, names: set[str]) -> None:
        """Others' snapshots of these tables and views are old from now on."""
        with self._ddl:
            self.commits += 1
            self._changed |= dict.fromkeys(names, self.commits)

    def changed_since(self, names: set[str], commits: int) -> bool:
        """Whether a statement that has these words sees something that was committed after so many commits."""
        if not names.isdisjoint(self.views):
            return self.commits > commits
        return any(self._changed.get(name, 0) > commits for name in names)

    def close(self) -> None:
        """Forget it. Sessions are to be over."""
        _instance().cursor().execute(f"DETACH {self.name}")

    def _change(self, cursor: duckdb.DuckDBPyConnection, definition: TableDefinition, statements: list[str]) -> None:
        keep = f"INSERT OR REPLACE INTO {SYSTEM}.definitions VALUES ('{definition.name}', '{'Y' if definition.on_commit else 'N'}')"
        _together(cursor, [*statements, keep], definition)
        self.definitions[definition.name] = definition


def _together(cursor: duckdb.DuckDBPyConnection, statements: list[str], definition: TableDefinition | None) -> None:
    cursor.execute("BEGIN TRANSACTION")
    try:
        for statement in statements:
            cursor.execute(statement)
        cursor.execute("COMMIT")
    except duckdb.Error as error:
        cursor.execute("ROLLBACK")
        raise from_duckdb(error, definition) from error


def _view(statement: str) -> dict[str, str]:
    """Name and query of a CREATE VIEW."""
    found = tokens(statement)
    name = next(n for n, token in enumerate(found) if token.upper == "VIEW") + 1
    while found[name + 1].text == ".":
        name += 2
    begin = next(token for token in found[name:] if token.upper == "AS").end
    return {found[name].text.strip('"').lower(): statement[begin:].strip().rstrip(";")}
