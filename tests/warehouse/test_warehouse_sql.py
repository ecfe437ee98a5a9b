"""The SQL text: portable, and unchanged where it was released."""

from __future__ import annotations

import re

import pytest

from market_data.datasets import DATASETS, dataset
from market_data.errors import ConfigError
from market_data.warehouse import sql
from market_data.warehouse.schema import PRICES, table

CREATED = [
    (name, str(m), m.statement(d)) for name, d in sql.DIALECTS.items() for m in (sql.CREATE_SCHEMA_VERSION, *sql.migrations(d))
]
USED = [
    sql.SELECT_VERSIONS,
    sql.INSERT_VERSION,
    sql.SELECT_AUDIT,
    sql.INSERT_AUDIT,
    sql.count_stage(PRICES),
    sql.insert_versions(PRICES),
    sql.merge(PRICES),
    sql.first_of_previous(PRICES.silver, 20),
    sql.previous_bars(PRICES.silver),
]

# what at least one of Oracle 12c, PostgreSQL 15 and DuckDB 2 refuses
FOREIGN = {
    "trailing semicolon": r";",
    "AS before a table alias": r"(?i)\b(from|join|into|using)\s+(\w+|\([^()]*\))\s+as\b",
    "LIMIT": r"(?i)\blimit\b",
    "named window": r"(?i)\bwindow\b|\bover\s+\w",
    "QUALIFY": r"(?i)\bqualify\b",
    "ON CONFLICT": r"(?i)\bon\s+conflict\b",
    "cast by colons": r"::",
    "named or numbered bind": r"[:$]\w|%s",
    "IF NOT EXISTS": r"(?i)\bif\s+not\s+exists\b",
    "IS DISTINCT FROM": r"(?i)\bdistinct\s+from\b",
    "conditional branch": r"(?i)\bmatched\s+and\b",
    "qualified SET": r"(?i)\bset\s+\w+\.|, \w+\.\w+ = ",
    "ON without parentheses": r"(?i)\bon\s+[^(\s]",
    "the server's clock": r"(?i)\bnow\(|current_timestamp|systimestamp",
    "boolean literal": r"(?i)\b(true|false)\b",
    "empty string": r"''",
}


@pytest.mark.parametrize("rule", FOREIGN)
def test_statements_are_portable(rule: str) -> None:
    shared = [*USED, *(s for _, name, s in CREATED if "stage" not in name)]
    assert [statement for statement in shared if re.search(FOREIGN[rule], statement)] == []


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("AS before a table alias", "SELECT a FROM t AS x"),
        ("AS before a table alias", "MERGE INTO t USING (SELECT a FROM b) AS s"),
        ("named window", "SELECT sum(a) OVER w FROM t"),
        ("named or numbered bind", "SELECT a FROM t WHERE b = :b"),
        ("qualified SET", "UPDATE t SET t.a = 1"),
        ("qualified SET", "UPDATE t SET a = s.a, t.b = s.b"),
        ("ON without parentheses", "SELECT a FROM t JOIN u ON t.a = u.a"),
    ],
)
def test_the_rules_see_what_they_are_for(rule: str, statement: str) -> None:
    assert re.search(FOREIGN[rule], statement)


def test_marks_are_put_in_order_and_not_into_text() -> None:
    statement = "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = ? AND b = ?"
    assert sql.bound(statement, sql.DUCKDB) == statement
    assert sql.bound(statement, sql.ORACLE) == "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = :1 AND b = :2"
    assert sql.bound(statement, sql.POSTGRES) == "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = %s AND b = %s"


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_tables_hold_what_their_datasets_hold(name: str) -> None:
    found = dataset(name)
    columns = table(found.table)
    assert {c.source for c in columns.key} == {*found.key, "provider"}
    assert tuple(c.source for c in columns.values) == found.values
    assert {c.source for c in columns.columns if c.source} <= set(found.schema.names)
    for column in columns.columns:
        if column.source:
            assert column.nullable <= found.schema.field(column.source).nullable


def test_an_unknown_table_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'nonesuch'; known tables: prices"):
        table("nonesuch")


def test_versions_count_up() -> None:
    versions = [m.version for m in sql.migrations(sql.ORACLE)]
    assert versions == list(range(1, len(versions) + 1))


COLUMNS = {
    "duckdb": ("VARCHAR({})", "TIMESTAMP", "DECIMAL(20,8)", "BIGINT"),
    "postgres": ("VARCHAR({})", "TIMESTAMP(6)", "NUMERIC(20,8)", "BIGINT"),
    "oracle": ("VARCHAR2({} CHAR)", "TIMESTAMP(6)", "NUMBER(20,8)", "NUMBER(19)"),
}
PRICE_COLUMNS = """symbol {s32} NOT NULL,
  timeframe {s8} NOT NULL,
  provider {s32} NOT NULL,
  bar_time {ts} NOT NULL,
  open_px {px} NOT NULL,
  high_px {px} NOT NULL,
  low_px {px} NOT NULL,
  close_px {px} NOT NULL,
  adj_close_px {px},
  volume {px},
  vwap {px},
  trade_count {n},
  row_hash {s64} NOT NULL,
  load_id {s64} NOT NULL,
  ingest_ts {ts} NOT NULL,
  loaded_at {ts} NOT NULL"""
CHECK = "high_px >= low_px AND low_px > 0 AND volume >= 0"
RELEASED = {
    "0000_schema_version": """CREATE TABLE schema_version (
  version {n} NOT NULL,
  name {s64} NOT NULL,
  applied_at {ts} NOT NULL,
  CONSTRAINT schema_version_pk PRIMARY KEY (version)
)""",
    "0001_load_audit": """CREATE TABLE load_audit (
  load_id {s64} NOT NULL,
  table_name {s64} NOT NULL,
  rows_in {n} NOT NULL,
  rows_changed {n} NOT NULL,
  loaded_at {ts} NOT NULL,
  CONSTRAINT load_audit_pk PRIMARY KEY (load_id)
)""",
    "0002_bronze_prices": f"""CREATE TABLE bronze_prices (
  {PRICE_COLUMNS},
  CONSTRAINT bronze_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time, ingest_ts, row_hash),
  CONSTRAINT bronze_prices_ck CHECK ({CHECK})
)""",
    "0003_silver_prices": f"""CREATE TABLE silver_prices (
  {PRICE_COLUMNS},
  CONSTRAINT silver_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time),
  CONSTRAINT silver_prices_ck CHECK ({CHECK})
)""",
    "0004_stage_prices": f"""CREATE GLOBAL TEMPORARY TABLE stage_prices (
  {PRICE_COLUMNS}
) ON COMMIT DELETE ROWS""",
}


@pytest.mark.parametrize(("engine", "name", "statement"), [c for c in CREATED if c[1] in RELEASED], ids=lambda value: value[:24])
def test_released_migrations_stay_as_they_are(engine: str, name: str, statement: str) -> None:
    """A database made by an earlier version has these tables: change them by a new migration, never here."""
    string, ts, px, n = COLUMNS[engine]
    words = {f"s{length}": string.format(length) for length in (8, 32, 64)}
    assert statement == RELEASED[name].format(**words, ts=ts, px=px, n=n)
