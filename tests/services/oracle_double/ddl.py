"""Statements that define: each commits what was before it and itself."""

from __future__ import annotations

from tests.services.oracle_double.catalog import ColumnDefinition, TableDefinition
from tests.services.oracle_double.database import Database
from tests.services.oracle_double.errors import OraError, not_done
from tests.services.oracle_double.tokens import Token, closing, split, tokens
from tests.services.oracle_double.translate import translate

KINDS = {"CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "GRANT", "REVOKE"}


def name_of(sql: str, what: str = "TABLE") -> str:
    """The table, or another ``what``, that a statement defines, changes or drops, in lower case; empty if it is of something else."""
    found = tokens(sql)
    at = next((n for n, token in enumerate(found) if token.upper == what), None)
    if at is None or at + 1 >= len(found):
        return ""
    name = found[at + 3] if at + 3 < len(found) and found[at + 2].text == "." else found[at + 1]
    return name.text.strip('"').lower()


def is_exclusive(sql: str) -> bool:
    """It needs the table for itself: 54 while another session's transaction uses it."""
    return tokens(sql)[0].upper in {"ALTER", "DROP", "TRUNCATE"}


def run(database: Database, sql: str, user: str) -> None:
    """Run a statement that defines.

    :raises OraError: it failed; nothing has changed.
    """
    found = tokens(sql)
    kind, what = found[0].upper, found[1].upper if len(found) > 1 else ""
    if kind in {"COMMENT", "GRANT", "REVOKE"}:
        return
    if kind == "CREATE" and _is_of(found, "VIEW"):
        database.create_view(translate(sql, user))
    elif kind == "CREATE" and _is_of(found, "INDEX"):
        database.define(translate(sql, user))
    elif kind == "CREATE":
        database.create(TableDefinition.parse(sql))
    elif kind == "DROP" and what == "VIEW":
        database.drop_view(name_of(sql, "VIEW"))
    elif kind == "DROP" and what == "INDEX":
        database.define(translate(sql, user))
    elif what != "TABLE":
        raise not_done(f"{kind} {what}")
    else:
        _table(database, kind, _existing(database, name_of(sql)), found)


def _table(database: Database, kind: str, table: TableDefinition, found: tuple[Token, ...]) -> None:
    if kind == "DROP":
        database.drop(table)
    elif kind == "TRUNCATE":
        if not table.on_commit:
            database.define(f"DELETE FROM {table.name}")
    else:
        _alter(database, table, found)


def _alter(database: Database, table: TableDefinition, found: tuple[Token, ...]) -> None:
    at = next((n for n, token in enumerate(found) if token.upper in {"MODIFY", "ADD"}), None)
    if at is None or at + 1 >= len(found) or found[at + 1].upper in {"CONSTRAINT", "PRIMARY", "CHECK", "UNIQUE", "PARTITION"}:
        raise not_done("this kind of ALTER TABLE")
    columns = [found[at + 1 :]]
    if found[at + 1].text == "(":
        columns = split(found[at + 2 : closing(found, at + 1)])
    new = table
    for column in map(ColumnDefinition.parse, columns):
        new = new.modified(column) if found[at].upper == "MODIFY" else new.added(column)
    try:
        database.alter(new, table)
    except OraError as error:
        if error.number == 12899:
            raise OraError(1441, "cannot decrease column length because some value is too big") from error
        raise


def _existing(database: Database, name: str) -> TableDefinition:
    if name not in database.definitions:
        raise OraError(942, "table or view does not exist")
    return database.definitions[name]


def _is_of(found: tuple[Token, ...], what: str) -> bool:
    """Whether the first of TABLE, VIEW, INDEX is ``what``."""
    return next((token.upper for token in found if token.upper in {"TABLE", "VIEW", "INDEX"}), "") == what
