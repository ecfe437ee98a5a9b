"""All SQL of the warehouse, as text, the same for every engine.

Only what Oracle 19c+, PostgreSQL 15+ and DuckDB 2 all take: rows without a change are filtered inside a MERGE's USING, no ``AS``
before a table alias, parentheses around ON, windows spelled out, no trailing semicolon, binds only as ``?`` (which an engine turns
into its own mark). What differs, a ``Dialect`` holds: words for types, and how to see whether a table exists.
"""

# ruff: noqa: S608  only names from ``schema`` and whole numbers enter the text; values are bound

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from market_data.warehouse.schema import (
    CONFIRMED_TS,
    CORPORATE_ACTIONS,
    DAG_ID,
    FUNDAMENTALS,
    INGEST_TS,
    LOAD_AUDIT,
    LOAD_ID,
    LOADED_AT,
    PRICES,
    PROVIDER,
    RUN_ID,
    SCHEMA_VERSION,
    TRADES,
    Column,
    Table,
    Type,
)

MIGRATIONS = Path(__file__).resolve().parents[3] / "include" / "sql" / "migrations"


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


# --- tables ---------------------------------------------------------------------------------------------------------------------


def create_table(name: str, columns: Iterable[Column], key: Iterable[Column], dialect: Dialect, check: str = "") -> str:
    """A table with a primary key."""
    lines = [
        *_definitions(columns, dialect),
        f"CONSTRAINT {name}_pk PRIMARY KEY ({_names(key)})",
        *([f"CONSTRAINT {name}_ck CHECK ({check})"] if check else []),
    ]
    return f"CREATE TABLE {name} (\n  " + ",\n  ".join(lines) + "\n)"


def create_stage(table: Table, dialect: Dialect) -> str:
    """The staging table: no key and no check, since what is wrong with the rows shows when they are merged."""
    before, after = dialect.stage
    return f"{before} {table.stage} (\n  " + ",\n  ".join(_definitions(table.columns, dialect)) + f"\n){after}"


def _definitions(columns: Iterable[Column], dialect: Dialect) -> list[str]:
    return [f"{c.name} {dialect.types[c.type].format(c.length)}{'' if c.nullable else ' NOT NULL'}" for c in columns]


@dataclass(frozen=True)
class Migration:
    """One statement, applied once. One only, because Oracle commits at each: a crash leaves at most one of them unrecorded.

    A migration that was released never changes. A new column is a new entry in ``schema`` *and* a new migration that adds it; the
    tables made by the old ones are pinned by a test.

    :param applies: whether an engine has it; the numbers of those that it lacks stay free.
    """

    version: int
    name: str
    statement: Callable[[Dialect], str]
    applies: Callable[[Dialect], bool] = lambda _: True

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


def _file(name: str) -> Callable[[Dialect], str]:
    def statement(dialect: Dialect) -> str:
        lines = (MIGRATIONS / f"{name}.sql").read_text("utf-8").strip().splitlines()
        text = "\n".join(line for line in lines if not line.startswith("--"))
        text = text.replace("DOUBLE PRECISION", dialect.double).replace("AS BIGINT)", f"AS {dialect.types[Type.INTEGER]})")
        return text.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1) if dialect.replaces_views else text

    return statement


CREATE_SCHEMA_VERSION = Migration(
    0, "schema_version", lambda d: create_table("schema_version", SCHEMA_VERSION, SCHEMA_VERSION[:1], d)
)


def _tables(first: int, table: Table) -> tuple[Migration, ...]:
    return (
        Migration(first, table.bronze, lambda d: create_table(table.bronze, table.columns, table.version_key, d, table.check)),
        Migration(first + 1, table.silver, lambda d: create_table(table.silver, table.columns, table.key, d, table.check)),
        Migration(first + 2, table.stage, lambda d: create_stage(table, d), lambda d: d.stage_is_migrated),
    )


def _widened(version: int, table: str, column: Column, applies: Callable[[Dialect], bool] = lambda d: bool(d.widen)) -> Migration:
    def statement(dialect: Dialect) -> str:
        return dialect.widen.format(table=table, column=column.name, type=dialect.types[column.type].format(column.length))

    return Migration(version, f"{table}_{column.name}", statement, applies)


def _added(version: int, table: str, column: Column) -> Migration:
    return Migration(version, f"{table}_{column.name}", lambda d: f"ALTER TABLE {table} ADD {''.join(_definitions([column], d))}")


_PRICES_AT_FIRST = replace(PRICES, key=tuple(replace(c, length=32) if c == PROVIDER else c for c in PRICES.key))
_ALL = (
    Migration(1, "load_audit", lambda d: create_table("load_audit", LOAD_AUDIT, LOAD_AUDIT[:1], d)),
    *_tables(2, _PRICES_AT_FIRST),
    Migration(5, "gold_price_features", _file("0005_gold_price_features")),
    # PostgreSQL changes no column that a view reads, so the view goes and comes back
    Migration(6, "drop_gold_price_features", lambda _: "DROP VIEW gold_price_features", lambda d: d == POSTGRES),
    _widened(7, PRICES.bronze, PROVIDER),
    _widened(8, PRICES.silver, PROVIDER),
    _widened(9, PRICES.stage, PROVIDER, lambda d: d.stage_is_migrated),
    Migration(10, "gold_price_features", _file("0005_gold_price_features"), lambda d: d == POSTGRES),
    *_tables(11, TRADES),
    *_tables(14, FUNDAMENTALS),
    *_tables(17, CORPORATE_ACTIONS),
    Migration(20, "gold_adjusted_prices", _file("0020_gold_adjusted_prices")),
    Migration(21, "gold_fundamentals", _file("0021_gold_fundamentals")),
    _added(22, "load_audit", DAG_ID),
    _added(23, "load_audit", RUN_ID),
    Migration(24, "drop_gold_price_features", lambda _: "DROP VIEW gold_price_features", lambda d: not d.replaces_views),
    Migration(25, "drop_gold_adjusted_prices", lambda _: "DROP VIEW gold_adjusted_prices", lambda d: not d.replaces_views),
    Migration(26, "gold_adjusted_prices", _file("0026_gold_adjusted_prices")),
    Migration(27, "gold_price_features", _file("0027_gold_price_features")),
    Migration(28, "gold_restatements", _file("0028_gold_restatements")),
    *(_added(29 + n, table.silver, CONFIRMED_TS) for n, table in enumerate((PRICES, TRADES, FUNDAMENTALS, CORPORATE_ACTIONS))),
)


def migrations(dialect: Dialect) -> list[Migration]:
    """The migrations of an engine, in order."""
    return [migration for migration in _ALL if migration.applies(dialect)]


SELECT_VERSIONS = "SELECT version FROM schema_version"
INSERT_VERSION = "INSERT INTO schema_version (version, name, applied_at) VALUES (?, ?, ?)"

# --- a load ---------------------------------------------------------------------------------------------------------------------

SELECT_AUDIT = "SELECT rows_in, rows_changed FROM load_audit WHERE load_id = ?"
INSERT_AUDIT = (
    "INSERT INTO load_audit (load_id, table_name, rows_in, rows_changed, loaded_at, dag_id, run_id) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


LAST_SEEN = "COALESCE(p.confirmed_ts, p.ingest_ts)"
OVERTAKES = "p.row_hash <> s.row_hash AND p.ingest_ts <= s.ingest_ts AND s.ingest_ts < p.confirmed_ts"


def count_stage(table: Table) -> str:
    """How many rows are staged."""
    return f"SELECT COUNT(*) AS staged FROM {table.stage}"


def compare(table: Table) -> str:
    """One row: how many staged rows confirm what stands, and how many overtake a confirmation (were seen between the bar and it)."""
    return (
        f"SELECT COUNT(CASE WHEN p.row_hash = s.row_hash AND {LAST_SEEN} < s.ingest_ts THEN 1 END) AS confirmed,\n"
        f"       COUNT(CASE WHEN {OVERTAKES} THEN 1 END) AS overtaking\n"
        f"  FROM {table.stage} s\n"
        f"  JOIN {table.silver} p ON ({_equal('p', 's', table.key)})"
    )


def insert_versions(table: Table) -> str:
    """From stage into bronze: what differs from what stands, or is older than it, and was not seen before. Runs before the merge."""
    first = table.key[0].name
    return (
        f"INSERT INTO {table.bronze} ({_names(table.columns)})\n"
        f"SELECT {_names(table.columns, 's.')}\n"
        f"  FROM {table.stage} s\n"
        f"  LEFT JOIN {table.silver} p ON ({_equal('p', 's', table.key)})\n"
        f"  LEFT JOIN {table.bronze} b ON ({_equal('b', 's', table.version_key)})\n"
        f" WHERE (p.{first} IS NULL OR p.row_hash <> s.row_hash OR s.ingest_ts < p.ingest_ts) AND b.row_hash IS NULL"
    )


def insert_confirmed(table: Table) -> str:
    """Into bronze: of each bar with an overtaken confirmation, the bar as confirmed. Runs after ``insert_versions``."""
    of_stage = {LOAD_ID.name: "s.load_id", LOADED_AT.name: "s.loaded_at", INGEST_TS.name: "p.confirmed_ts"}
    values = ", ".join(of_stage.get(column.name, f"p.{column.name}") for column in table.columns)
    at_confirmation = _equal("b", "p", [column for column in table.version_key if column != INGEST_TS])
    return (
        f"INSERT INTO {table.bronze} ({_names(table.columns)})\n"
        f"SELECT {values}\n"
        f"  FROM {table.stage} s\n"
        f"  JOIN {table.silver} p ON ({_equal('p', 's', table.key)})\n"
        f"  LEFT JOIN {table.bronze} b ON ({at_confirmation} AND b.ingest_ts = p.confirmed_ts)\n"
        f" WHERE {OVERTAKES} AND b.row_hash IS NULL"
    )


def begin_again(table: Table) -> str:
    """In silver: a bar with an overtaken confirmation stands from that on. Runs after ``insert_confirmed``."""
    return (
        f"UPDATE {table.silver} p SET ingest_ts = p.confirmed_ts, confirmed_ts = NULL\n"
        f" WHERE p.confirmed_ts IS NOT NULL\n"
        f"   AND EXISTS (SELECT 1 FROM {table.stage} s WHERE {_equal('p', 's', table.key)} AND {OVERTAKES})"
    )


def merge(table: Table) -> str:
    """From stage into silver: what differs from what stands and is not older, and when what stands was confirmed. Its row count is that
    of both."""
    kept = {column.name for column in (LOAD_ID, INGEST_TS, LOADED_AT)}
    rows = ", ".join(
        f"CASE WHEN p.row_hash = s.row_hash THEN p.{c.name} ELSE s.{c.name} END AS {c.name}" if c.name in kept else f"s.{c.name}"
        for c in table.columns
    )
    columns = (*table.columns, CONFIRMED_TS)
    key = {column.name for column in table.key}
    changeable = [column.name for column in columns if column.name not in key]
    return (
        f"MERGE INTO {table.silver} t\n"
        f"USING (SELECT {rows},\n"
        f"              CASE WHEN p.row_hash = s.row_hash THEN s.ingest_ts END AS confirmed_ts\n"
        f"         FROM {table.stage} s\n"
        f"         LEFT JOIN {table.silver} p ON ({_equal('p', 's', table.key)})\n"
        f"        WHERE p.{table.key[0].name} IS NULL OR {_newer(table)}) s\n"
        f"   ON ({_equal('t', 's', table.key)})\n"
        f" WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in changeable)}\n"
        f" WHEN NOT MATCHED THEN INSERT ({_names(columns)})\n"
        f"      VALUES ({_names(columns, 's.')})"
    )


def _newer(table: Table) -> str:
    """Whether a staged row takes the place of what stands, or confirms it."""
    seen = f"{LAST_SEEN} < s.ingest_ts OR ({LAST_SEEN} = s.ingest_ts AND p.row_hash <> s.row_hash)"
    if not table.published:
        return seen
    name = table.published.name
    return f"s.{name} > p.{name} OR (s.{name} = p.{name} AND ({seen}))"


# --- reading --------------------------------------------------------------------------------------------------------------------

NEW_YORK_HOURS = 5
"""What is taken off ``bar_time`` to have its date in New York. In winter that is New York's clock; in summer it is an hour behind it,
which changes the date of nothing between 01:00 and midnight, and shares trade from 04:00 to 20:00."""


def first_of_previous(silver: str, sessions: int) -> str:
    """The earliest bar_time of the last ``sessions`` distinct ones before a moment; binds: timeframe, provider, moment."""
    return (
        "SELECT MIN(d.bar_time) AS first_bar_time\n"
        f"  FROM (SELECT DISTINCT bar_time FROM {silver}\n"
        "         WHERE timeframe = ? AND provider = ? AND bar_time < ?\n"
        f"         ORDER BY bar_time DESC FETCH FIRST {sessions:d} ROWS ONLY) d"
    )


def last_before(silver: str) -> str:
    """The latest bar_time before a moment; binds: timeframe, provider, moment."""
    return f"SELECT MAX(bar_time) AS last_bar_time FROM {silver} WHERE timeframe = ? AND provider = ? AND bar_time < ?"


def folded_bars(silver: str) -> str:
    """Of each symbol and New York date the last bar, with the date's volume and how many bars it has; bars between two moments, the
    second exclusive.

    Binds: timeframe, provider, the moments, timeframe, provider. The date is taken in its parts, because engines differ in how to
    cut a moment to its date.
    """
    parts = ", ".join(f"EXTRACT({part} FROM bar_time - INTERVAL '{NEW_YORK_HOURS}' HOUR)" for part in ("YEAR", "MONTH", "DAY"))
    return (
        "SELECT p.symbol, p.bar_time, p.close_px, d.volume, d.bars\n"
        "  FROM (SELECT symbol, MAX(bar_time) AS last_bar_time, SUM(volume) AS volume, COUNT(*) AS bars\n"
        f"          FROM {silver}\n"
        "         WHERE timeframe = ? AND provider = ? AND bar_time >= ? AND bar_time < ?\n"
        f"         GROUP BY symbol, {parts}) d\n"
        f"  JOIN {silver} p ON (p.symbol = d.symbol AND p.bar_time = d.last_bar_time)\n"
        " WHERE p.timeframe = ? AND p.provider = ?\n"
        " ORDER BY p.symbol, p.bar_time"
    )


def previous_bars(silver: str) -> str:
    """Bars between two moments, the second exclusive; binds: timeframe, provider, the moments."""
    return (
        "SELECT symbol, bar_time, close_px, volume, 1 AS bars\n"
        f"  FROM {silver}\n"
        " WHERE timeframe = ? AND provider = ? AND bar_time >= ? AND bar_time < ?\n"
        " ORDER BY symbol, bar_time"
    )


def _names(columns: Iterable[Column], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{column.name}" for column in columns)


def _equal(left: str, right: str, columns: Iterable[Column]) -> str:
    return " AND ".join(f"{left}.{column.name} = {right}.{column.name}" for column in columns)
