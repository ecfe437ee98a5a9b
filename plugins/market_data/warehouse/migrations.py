"""The warehouse's tables and views, version by version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from market_data.core.paths import sql_folder
from market_data.warehouse.action_ids import delete_repeated, delete_repeated_versions, identify
from market_data.warehouse.dialects import Dialect
from market_data.warehouse.schema import (
    ACTION_COVERAGE,
    CONFIRMED_TS,
    CORPORATE_ACTIONS,
    DAG_ID,
    FUNDAMENTALS,
    LOAD_AUDIT,
    MARKET_SESSIONS,
    PRICES,
    PROVIDER,
    QUALITY_LOG,
    RUN_ID,
    SCHEMA_VERSION,
    SYMBOL_CALENDARS,
    SYMBOL_CHANGES,
    SYMBOL_NAMES,
    TRADES,
    WITHDRAWN,
    Column,
    Reference,
    Table,
    Type,
)
from market_data.warehouse.upsert_sql import names

MIGRATIONS = sql_folder() / "migrations"
REMADE = 4
"""Statements that make a table again, where an engine cannot change it."""


# --- tables ---------------------------------------------------------------------------------------------------------------------


def create_table(name: str, columns: Iterable[Column], key: Iterable[Column], dialect: Dialect, check: str = "") -> str:
    """Return the statement that creates a table with a primary key, or without one where ``key`` is empty."""
    of_key = names(key)
    lines = [
        *_definitions(columns, dialect),
        *([f"CONSTRAINT {name}_pk PRIMARY KEY ({of_key})"] if of_key else []),
        *([f"CONSTRAINT {name}_ck CHECK ({check})"] if check else []),
    ]
    return f"CREATE TABLE {name} (\n  " + ",\n  ".join(lines) + "\n)"


def create_stage(table: Table | Reference, dialect: Dialect) -> str:
    """Return the statement that creates the staging table: no key, no check. The merge finds invalid rows."""
    before, after = dialect.stage
    return f"{before} {table.stage} (\n  " + ",\n  ".join(_definitions(table.columns, dialect)) + f"\n){after}"


def _definitions(columns: Iterable[Column], dialect: Dialect) -> list[str]:
    return [f"{c.name} {dialect.types[c.type].format(c.length)}{'' if c.nullable else ' NOT NULL'}" for c in columns]


@dataclass(frozen=True)
class Migration:
    """One statement, applied once.

    Oracle commits at each statement, so a crash leaves at most one of them unrecorded.

    A migration that was released never changes. A new column is a new entry in ``schema`` *and* a new migration that adds it; the
    tables made by the old ones are pinned by a test.

    :param applies: tells if an engine has it; the numbers of the others stay unused.
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
        text = _typed(text, dialect)
        return text.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1) if dialect.replaces_views else text

    return statement


def _typed(text: str, dialect: Dialect) -> str:
    """Return ``text`` with the engine's names of types."""
    text = text.replace("DOUBLE PRECISION", dialect.double).replace("AS BIGINT)", f"AS {dialect.types[Type.INTEGER]})")
    return text.replace("AS VARCHAR(64))", f"AS {dialect.types[Type.STRING].format(64)})")


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


def _changed(version: int, name: str, text: str) -> Migration:
    return Migration(version, name, lambda d: _typed(text, d))


_ACTIONS_AT_FIRST = replace(CORPORATE_ACTIONS, values=tuple(c for c in CORPORATE_ACTIONS.values if c != WITHDRAWN))


def _reference(first: int, table: Reference) -> tuple[Migration, ...]:
    return (
        Migration(first, table.name, lambda d: create_table(table.name, table.columns, table.key, d)),
        Migration(first + 1, table.stage, lambda d: create_stage(table, d), lambda d: d.stage_is_migrated),
    )


def _rechecked(first: int, table: str, columns: Sequence[Column], key: Sequence[Column], check: str) -> tuple[Migration, ...]:
    """Return the migrations that give ``table`` another check; its rows are known to satisfy it.

    They take as many versions as the engine with the most steps needs, which makes the table again.
    """

    def has(number: int) -> Callable[[Dialect], bool]:
        return lambda dialect: number < len(dialect.recheck)

    return tuple(
        Migration(first + n, f"{table}_check_{n + 1}", _step(n, table, columns, key, check), has(n)) for n in range(REMADE)
    )


def _unkeyed(first: int) -> Iterator[Migration]:
    """Yield the migrations that make the tables of rows again, without keys.

    Only for an engine that holds keys in memory.
    """
    tables = [made for of in _KEYED for made in ((of.bronze, of.columns, of), (of.silver, (*of.columns, CONFIRMED_TS), of))]
    for start, (name, columns, of) in zip(count(first, REMADE), tables, strict=False):
        for n in range(REMADE):
            # Corporate actions got their mark after the other columns.
            in_order = sorted(columns, key=lambda column: column.mark) if of == CORPORATE_ACTIONS else columns
            statement = _step(n, name, in_order, (), of.check)
            yield Migration(start + n, f"{name}_key_{n + 1}", statement, lambda dialect: dialect.keys_in_memory)


def _step(number: int, table: str, columns: Sequence[Column], key: Sequence[Column], check: str) -> Callable[[Dialect], str]:
    """Return a statement of those that make ``table`` again."""

    def statement(dialect: Dialect) -> str:
        create = create_table(f"{table}_new", columns, key, dialect, check)
        return dialect.recheck[number].format(table=table, check=check, create=create, columns=names(columns))

    return statement


_PRICES_AT_FIRST = replace(
    PRICES,
    key=tuple(replace(c, length=32) if c == PROVIDER else c for c in PRICES.key),
    check="high_px >= low_px AND low_px > 0 AND volume >= 0",
)
_KEYED = (PRICES, TRADES, FUNDAMENTALS, CORPORATE_ACTIONS, SYMBOL_CHANGES)
_ALL = (
    Migration(1, "load_audit", lambda d: create_table("load_audit", LOAD_AUDIT, LOAD_AUDIT[:1], d)),
    *_tables(2, _PRICES_AT_FIRST),
    Migration(5, "gold_price_features", _file("0005_gold_price_features")),
    Migration(6, "drop_gold_price_features", lambda _: "DROP VIEW gold_price_features", lambda d: d.view_pins_columns),
    _widened(7, PRICES.bronze, PROVIDER),
    _widened(8, PRICES.silver, PROVIDER),
    _widened(9, PRICES.stage, PROVIDER, lambda d: d.stage_is_migrated),
    Migration(10, "gold_price_features", _file("0005_gold_price_features"), lambda d: d.view_pins_columns),
    *_tables(11, TRADES),
    *_tables(14, FUNDAMENTALS),
    *_tables(17, _ACTIONS_AT_FIRST),
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
    *_reference(33, MARKET_SESSIONS),
    *_reference(35, SYMBOL_CALENDARS),
    Migration(37, "drop_gold_price_features", lambda _: "DROP VIEW gold_price_features", lambda d: not d.replaces_views),
    Migration(38, "gold_price_features", _file("0038_gold_price_features")),
    *_rechecked(39, PRICES.bronze, PRICES.columns, PRICES.version_key, PRICES.check),
    *_rechecked(43, PRICES.silver, (*PRICES.columns, CONFIRMED_TS), PRICES.key, PRICES.check),
    _added(47, CORPORATE_ACTIONS.bronze, WITHDRAWN),
    _added(48, CORPORATE_ACTIONS.silver, WITHDRAWN),
    replace(_added(49, CORPORATE_ACTIONS.stage, WITHDRAWN), applies=lambda d: d.stage_is_migrated),
    # The ids of actions were the vendors'.
    _changed(50, "bronze_actions_once", delete_repeated_versions(CORPORATE_ACTIONS)),
    _changed(51, "bronze_action_ids", identify(CORPORATE_ACTIONS.bronze)),
    _changed(52, "silver_actions_once", delete_repeated(CORPORATE_ACTIONS)),
    _changed(53, "silver_action_ids", identify(CORPORATE_ACTIONS.silver)),
    *_reference(54, ACTION_COVERAGE),
    Migration(56, "gold_corporate_actions", _file("0056_gold_corporate_actions")),
    Migration(57, "gold_adjusted_prices", _file("0057_gold_adjusted_prices")),
    Migration(58, "gold_action_differences", _file("0058_gold_action_differences")),
    *_tables(59, SYMBOL_CHANGES),
    _added(62, SYMBOL_CHANGES.silver, CONFIRMED_TS),
    *_reference(63, SYMBOL_NAMES),
    Migration(65, "gold_company_prices", _file("0065_gold_company_prices")),
    *_reference(66, QUALITY_LOG),
    Migration(68, "gold_quality_log", _file("0068_gold_quality_log")),
    *_unkeyed(69),
)


def migrations(dialect: Dialect) -> list[Migration]:
    """Return the migrations of an engine, in order."""
    return [migration for migration in _ALL if migration.applies(dialect)]


SELECT_VERSIONS = "SELECT version FROM schema_version"
INSERT_VERSION = "INSERT INTO schema_version (version, name, applied_at) VALUES (?, ?, ?)"
