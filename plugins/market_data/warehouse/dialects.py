"""The engines' dialects of SQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from market_data.warehouse.schema import (
    Type,
)


@dataclass(frozen=True)
class Dialect:
    """What differs between engines.

    :param types: the engine's word for each type; ``{}`` is a string's length.
    :param table_exists: a query with one bind, the table's name in lower case, that counts 1 or 0.
    :param mark: the engine's mark for the n-th bind, from 1.
    :param stage: the words before and after a staging table's definition.
    :param stage_is_migrated: the staging table is made once, by a migration, and not by each session.
    :param replaces_views: a view can be replaced by one with other columns, which keeps the rights that were granted on it; elsewhere it
        is dropped and made anew.
    :param double: the engine's word for binary floating point numbers of 64 bits, in views.
    :param widen: the statement that makes a column longer; empty where the engine takes strings of any length.
    :param lock: the statement that keeps other writers from a table until the transaction ends, while all may read it; empty where one
        writes at a time anyway. Without it, a writer would decide by what stood before another committed, and an older version of a bar
        could end up over a newer one.
    """

    types: dict[Type, str]
    table_exists: str
    mark: Callable[[int], str]
    stage: tuple[str, str]
    stage_is_migrated: bool = False
    replaces_views: bool = False
    double: str = "DOUBLE PRECISION"
    widen: str = ""
    lock: str = ""


_INFORMATION_SCHEMA = (
    "SELECT COUNT(*) AS tables FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?"
)
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
    table_exists=_INFORMATION_SCHEMA,
    mark=lambda _: "?",
    stage=("CREATE TEMPORARY TABLE", ""),
)
POSTGRES = Dialect(
    types={
        Type.STRING: "VARCHAR({})",
        Type.TIMESTAMP: "TIMESTAMP(6)",
        Type.DATE: "DATE",
        Type.DECIMAL: "NUMERIC(20,8)",
        Type.AMOUNT: "NUMERIC(28,6)",
        Type.INTEGER: "BIGINT",
        Type.SMALL: "INTEGER",
    },
    table_exists=_INFORMATION_SCHEMA,
    mark=lambda _: "%s",
    stage=("CREATE TEMPORARY TABLE", " ON COMMIT DROP"),  # nothing is left in a pooler's connection
    widen="ALTER TABLE {table} ALTER COLUMN {column} TYPE {type}",
    lock="LOCK TABLE {table} IN EXCLUSIVE MODE",
)
ORACLE = Dialect(
    types={
        Type.STRING: "VARCHAR2({} CHAR)",
        Type.TIMESTAMP: "TIMESTAMP(6)",
        Type.DATE: "DATE",
        Type.DECIMAL: "NUMBER(20,8)",
        Type.AMOUNT: "NUMBER(28,6)",
        Type.INTEGER: "NUMBER(19)",
        Type.SMALL: "NUMBER(10)",
    },
    table_exists=(  # not of user_tables: the login may be another than the owner
        "SELECT COUNT(*) AS tables FROM all_tables WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') AND table_name = UPPER(?)"
    ),
    mark=lambda n: f":{n}",
    stage=("CREATE GLOBAL TEMPORARY TABLE", " ON COMMIT DELETE ROWS"),
    stage_is_migrated=True,
    replaces_views=True,
    double="BINARY_DOUBLE",  # DOUBLE PRECISION is a decimal NUMBER there, and its logarithms are slow
    widen="ALTER TABLE {table} MODIFY ({column} {type})",
    lock="LOCK TABLE {table} IN EXCLUSIVE MODE WAIT 600",
)
DIALECTS = {"duckdb": DUCKDB, "postgres": POSTGRES, "oracle": ORACLE}


def bound(sql: str, dialect: Dialect) -> str:
    """``sql`` with each ``?`` outside of quotes and comments replaced by the engine's mark."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if match[0] != "?":
            return match[0]
        count += 1
        return dialect.mark(count)

    return re.sub(r"--[^\n]*|/\*.*?\*/|'[^']*'|\"[^\"]*\"|\?", replace, sql, flags=re.DOTALL)
