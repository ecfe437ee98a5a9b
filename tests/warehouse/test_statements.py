"""The SQL text: portable, and unchanged where it was released."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from market_data.core.errors import ConfigError
from market_data.datasets.registry import DATASETS, dataset
from market_data.warehouse import dialects, migrations, recent_bars_sql, upsert_sql
from market_data.warehouse.duckdb import DUCKDB
from market_data.warehouse.oracle.dialect import ORACLE
from market_data.warehouse.postgres.dialect import POSTGRES
from market_data.warehouse.registry import ENGINES, engine
from market_data.warehouse.schema import (
    ACTION_COVERAGE,
    MARKET_SESSIONS,
    PRICES,
    QUALITY_LOG,
    SYMBOL_CALENDARS,
    SYMBOL_NAMES,
    TABLES,
    Reference,
    Table,
    table,
)
from tests.warehouse.rows import OF_A_LOAD

DIALECTS = {name: engine(name).dialect for name in ENGINES}
CREATED = [
    (name, str(m), m.statement(d))
    for name, d in DIALECTS.items()
    for m in (migrations.CREATE_SCHEMA_VERSION, *migrations.migrations(d))
]
REFERENCES = (MARKET_SESSIONS, SYMBOL_CALENDARS, ACTION_COVERAGE, SYMBOL_NAMES, QUALITY_LOG)
USED = [
    migrations.SELECT_VERSIONS,
    migrations.INSERT_VERSION,
    upsert_sql.SELECT_AUDIT,
    upsert_sql.INSERT_AUDIT,
    *(make(columns) for columns in TABLES.values() for make in OF_A_LOAD),
    *(make(columns) for columns in REFERENCES for make in (upsert_sql.read_reference, upsert_sql.merge_reference)),
    upsert_sql.DAILY_SYMBOLS,
    upsert_sql.FOLLOWED,
    recent_bars_sql.first_of_previous(PRICES.silver, 20),
    recent_bars_sql.previous_bars(PRICES.silver),
    recent_bars_sql.last_before(PRICES.silver),
    recent_bars_sql.folded_bars(PRICES.silver),
    *(path.read_text("utf-8") for path in sorted((migrations.MIGRATIONS.parent / "queries").glob("*.sql"))),
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
    "a column added": r"(?i)\badd\s+(column\b|\()",
}


@pytest.mark.parametrize("rule", FOREIGN)
def test_statements_are_portable(rule: str) -> None:
    shared = [*USED, *(s for _, name, s in CREATED if "stage" not in name)]
    plain = [re.sub(r"(?m)--.*$", "", statement) for statement in shared]
    assert [statement for statement in plain if re.search(FOREIGN[rule], statement)] == []


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
        ("a column added", "ALTER TABLE t ADD COLUMN a INTEGER"),
        ("a column added", "ALTER TABLE t ADD (a INTEGER)"),
    ],
)
def test_the_rules_see_what_they_are_for(rule: str, statement: str) -> None:
    assert re.search(FOREIGN[rule], statement)


def test_marks_are_put_in_order_and_not_into_text() -> None:
    statement = "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = ? AND b = ?"
    assert dialects.bound(statement, DUCKDB) == statement
    assert dialects.bound(statement, ORACLE) == "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = :1 AND b = :2"
    assert dialects.bound(statement, POSTGRES) == "SELECT '?', \"a?\", 'it''s ?' FROM t WHERE a = %s AND b = %s"
    remarks = "SELECT a -- don't?\nFROM t /* it's\n? */ WHERE a = ? -- it's"
    assert dialects.bound(remarks, ORACLE) == remarks.replace("= ?", "= :1")


# reserved in Oracle 23ai (V$RESERVED_WORDS), PostgreSQL 15 or DuckDB 2, so far as a column might be called so
RESERVED = re.findall(
    r"\w+",
    """
access add all alter and any array as asc audit between both by case cast char check cluster column comment compress connect
constraint create cross current date decimal default delete desc distinct do drop else end exclusive except exists false fetch
file float for foreign from grant group having identified immediate in increment index initial inner insert integer intersect
interval into is join lateral leading left level like limit lock long maxextents minus mode modify natural noaudit nocompress
not nowait null number of offline offset on online option or order outer pctfree primary prior public qualify raw references
rename resource returning revoke right row rowid rownum rows select session set share size smallint some start successful
symmetric synonym sysdate table then to trailing trigger true uid union unique update user using validate values varchar
varchar2 view when whenever where window with
""",
)


@pytest.mark.parametrize("columns", [*TABLES.values(), *REFERENCES], ids=lambda columns: columns.name)
def test_names_are_free_and_short_enough_everywhere(columns: Table | Reference) -> None:
    names = {column.name for column in columns.columns}
    assert not names & set(RESERVED)
    assert len(names) == len(columns.columns)
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)
    assert max(len(name) for name in (*names, columns.stage, f"bronze_{columns.name}_pk")) <= 30  # Oracle before 12.2


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_tables_hold_what_their_datasets_hold(name: str) -> None:
    found = dataset(name)
    if found.table is None:
        assert name in {"tbbo", "statistics"}
        return
    columns = table(found.table)
    assert {c.source for c in columns.key} == {*found.key, "provider"}
    assert tuple(c.source for c in columns.values) == found.values
    assert {c.source for c in columns.columns if c.source} <= set(found.schema.names)
    for column in columns.columns:
        if column.source:
            assert column.nullable <= found.schema.field(column.source).nullable


@pytest.mark.parametrize("name", ["nonesuch", None])
def test_an_unknown_table_is_named_with_the_known_ones(name: str | None) -> None:
    with pytest.raises(
        ConfigError, match=f"{name!r}; known tables: corporate_actions, fundamentals, prices, symbol_changes, trades"
    ):
        table(name)


VIEW_FILES = sorted(migrations.MIGRATIONS.glob("*.sql"))


@pytest.mark.parametrize("path", VIEW_FILES, ids=lambda path: path.stem)
def test_names_in_views_are_free_and_short_enough_everywhere(path: Path) -> None:
    text = re.sub(r"(?m)--.*$", "", path.read_text("utf-8"))
    names = set(re.findall(r"\b(?:AS|VIEW) ([a-z]\w*)", text)) | set(re.findall(r"\) ([a-z]\w*)(?=[\s)]|$)", text))
    assert len(names) > 5
    assert not names & set(RESERVED)
    assert max(len(name) for name in names) <= 30


def test_versions_count_up() -> None:
    of_engines = [[m.version for m in migrations.migrations(dialect)] for dialect in DIALECTS.values()]
    assert all(versions == sorted(versions) for versions in of_engines)
    versions = sorted(set().union(*of_engines))
    assert versions == list(range(1, len(versions) + 1))


COLUMNS = {
    "duckdb": ("VARCHAR({})", "TIMESTAMP", "DATE", "DECIMAL(20,8)", "DECIMAL(28,6)", "BIGINT", "INTEGER"),
    "postgres": ("VARCHAR({})", "TIMESTAMP(6)", "DATE", "NUMERIC(20,8)", "NUMERIC(28,6)", "BIGINT", "INTEGER"),
    "oracle": ("VARCHAR2({} CHAR)", "TIMESTAMP(6)", "DATE", "NUMBER(20,8)", "NUMBER(28,6)", "NUMBER(19)", "NUMBER(10)"),
}
LENGTHS = (1, 8, 16, 32, 64, 128, 250, 500, 1000)
RELEASED_TABLES = {
    "prices": (
        2,
        "symbol {s32} NOT NULL, timeframe {s8} NOT NULL, provider {s32} NOT NULL, bar_time {ts} NOT NULL, open_px {px} NOT NULL, "
        "high_px {px} NOT NULL, low_px {px} NOT NULL, close_px {px} NOT NULL, adj_close_px {px}, volume {px}, vwap {px}, "
        "trade_count {n}",
        "symbol, timeframe, provider, bar_time",
        "high_px >= low_px AND low_px > 0 AND volume >= 0",
    ),
    "trades": (
        11,
        "symbol {s32} NOT NULL, provider {s64} NOT NULL, ts_event {ts} NOT NULL, sequence_no {n} NOT NULL, ordinal {i} NOT NULL, "
        "trade_px {px} NOT NULL, trade_size {px} NOT NULL, side {s1}, venue {s32}, conditions {s128}",
        "symbol, provider, ts_event, sequence_no, ordinal",
        "trade_size >= 0 AND ordinal >= 0",
    ),
    "fundamentals": (
        14,
        "symbol {s32} NOT NULL, provider {s64} NOT NULL, statement {s16} NOT NULL, fiscal_period {s8} NOT NULL, "
        "period_end {d} NOT NULL, item {s128} NOT NULL, fiscal_year {i} NOT NULL, filing_date {d} NOT NULL, accepted_at {ts}, "
        "currency {s16}, amount {am}",
        "symbol, provider, statement, fiscal_period, period_end, item",
        "statement IN ('income', 'balance_sheet', 'cash_flow') AND fiscal_period IN ('FY', 'Q1', 'Q2', 'Q3', 'Q4')",
    ),
    "corporate_actions": (
        17,
        "symbol {s32} NOT NULL, provider {s64} NOT NULL, action_type {s16} NOT NULL, ex_date {d} NOT NULL, "
        "action_id {s128} NOT NULL, split_from {px}, split_to {px}, cash_amount {px}, currency {s16}, declaration_date {d}, "
        "record_date {d}, pay_date {d}, action_kind {s32}, frequency {i}",
        "symbol, provider, action_type, ex_date, action_id",
        "(action_type = 'split' AND split_from IS NOT NULL AND split_to IS NOT NULL AND split_from > 0 AND split_to > 0)"
        " OR (action_type = 'dividend' AND cash_amount IS NOT NULL AND cash_amount >= 0)",
    ),
    "symbol_changes": (
        59,
        "symbol {s32} NOT NULL, provider {s64} NOT NULL, effective_date {d} NOT NULL, old_symbol {s32} NOT NULL, "
        "new_symbol {s32} NOT NULL, issuer {s128}, withdrawn {i}",
        "symbol, provider, effective_date, old_symbol, new_symbol",
        "old_symbol <> new_symbol",
    ),
}
VERSION = "row_hash {s64} NOT NULL, load_id {s64} NOT NULL, ingest_ts {ts} NOT NULL, loaded_at {ts} NOT NULL"
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
    "0033_market_sessions": """CREATE TABLE market_sessions (
  calendar {s16} NOT NULL,
  session_date {d} NOT NULL,
  session_no {n},
  CONSTRAINT market_sessions_pk PRIMARY KEY (calendar, session_date)
)""",
    "0034_stage_market_sessions": """CREATE GLOBAL TEMPORARY TABLE stage_market_sessions (
  calendar {s16} NOT NULL,
  session_date {d} NOT NULL,
  session_no {n}
) ON COMMIT DELETE ROWS""",
    "0035_symbol_calendars": """CREATE TABLE symbol_calendars (
  symbol {s32} NOT NULL,
  provider {s64} NOT NULL,
  calendar {s16} NOT NULL,
  CONSTRAINT symbol_calendars_pk PRIMARY KEY (symbol, provider)
)""",
    "0054_action_coverage": """CREATE TABLE action_coverage (
  symbol {s32} NOT NULL,
  provider {s64} NOT NULL,
  known_from {d} NOT NULL,
  known_to {d} NOT NULL,
  CONSTRAINT action_coverage_pk PRIMARY KEY (symbol, provider)
)""",
    "0055_stage_action_coverage": """CREATE GLOBAL TEMPORARY TABLE stage_action_coverage (
  symbol {s32} NOT NULL,
  provider {s64} NOT NULL,
  known_from {d} NOT NULL,
  known_to {d} NOT NULL
) ON COMMIT DELETE ROWS""",
    "0063_symbol_names": """CREATE TABLE symbol_names (
  symbol {s32} NOT NULL,
  name_from {d} NOT NULL,
  name_to {d} NOT NULL,
  company {s32} NOT NULL,
  CONSTRAINT symbol_names_pk PRIMARY KEY (symbol, name_from)
)""",
    "0064_stage_symbol_names": """CREATE GLOBAL TEMPORARY TABLE stage_symbol_names (
  symbol {s32} NOT NULL,
  name_from {d} NOT NULL,
  name_to {d} NOT NULL,
  company {s32} NOT NULL
) ON COMMIT DELETE ROWS""",
    "0066_quality_log": """CREATE TABLE quality_log (
  entry_id {s64} NOT NULL,
  logged_at {ts} NOT NULL,
  event {s16} NOT NULL,
  dataset {s32} NOT NULL,
  provider {s64} NOT NULL,
  symbol {s64},
  first_session {d} NOT NULL,
  last_session {d} NOT NULL,
  cells {n} NOT NULL,
  decided_by {s500},
  run_id {s250},
  reason {s1000} NOT NULL,
  CONSTRAINT quality_log_pk PRIMARY KEY (entry_id)
)""",
    "0067_stage_quality_log": """CREATE GLOBAL TEMPORARY TABLE stage_quality_log (
  entry_id {s64} NOT NULL,
  logged_at {ts} NOT NULL,
  event {s16} NOT NULL,
  dataset {s32} NOT NULL,
  provider {s64} NOT NULL,
  symbol {s64},
  first_session {d} NOT NULL,
  last_session {d} NOT NULL,
  cells {n} NOT NULL,
  decided_by {s500},
  run_id {s250},
  reason {s1000} NOT NULL
) ON COMMIT DELETE ROWS""",
    "0036_stage_symbol_calendars": """CREATE GLOBAL TEMPORARY TABLE stage_symbol_calendars (
  symbol {s32} NOT NULL,
  provider {s64} NOT NULL,
  calendar {s16} NOT NULL
) ON COMMIT DELETE ROWS""",
}
for each, (first, own, key, check) in RELEASED_TABLES.items():
    lines = f"{own}, {VERSION}".replace(", ", ",\n  ")
    for number, layer, layer_key in ((first, "bronze", f"{key}, ingest_ts, row_hash"), (first + 1, "silver", key)):
        RELEASED[f"{number:04d}_{layer}_{each}"] = (
            f"CREATE TABLE {layer}_{each} (\n  {lines},\n  CONSTRAINT {layer}_{each}_pk PRIMARY KEY ({layer_key}),\n"
            f"  CONSTRAINT {layer}_{each}_ck CHECK ({check})\n)"
        )
    RELEASED[f"{first + 2:04d}_stage_{each}"] = f"CREATE GLOBAL TEMPORARY TABLE stage_{each} (\n  {lines}\n) ON COMMIT DELETE ROWS"
WIDENED = {
    "postgres": "ALTER TABLE {} ALTER COLUMN provider TYPE VARCHAR(64)",
    "oracle": "ALTER TABLE {} MODIFY (provider VARCHAR2(64 CHAR))",
}
VIEWS = {
    "0005_gold_price_features": "493a392bcd4c623a86f730ccb49b5509628bc13b24f0231eb9b219b2327e8fa7",
    "0020_gold_adjusted_prices": "8e2b41a4c034ade7e1cba0cfa222d52230c6ddfb999c1e968b8a7c624a697e7d",
    "0021_gold_fundamentals": "2921adeb68aa1ae3a8260974371eb72918d66edc2d6ef672bf0e44d3c9a881ad",
    "0026_gold_adjusted_prices": "d4274f19deb437f283a9ce7aea1f36e259cf73f1e878fb4f940a355c5c29f6df",
    "0027_gold_price_features": "e6a1fb824aae8b2794a7396569ad08bb995fba87a3c5cc8a56b997c61f66d35b",
    "0028_gold_restatements": "0a6107ff7a95ac825db76b8e7d7a48e9849b27ffad6e17dbf01f21957810740e",
    "0038_gold_price_features": "cf1a3a7624a98f48f09ec74d67b7d9fa6bd52b6b38c81d6c44b04ed04f1cec68",
    "0056_gold_corporate_actions": "e776c53a6901849091c4537f8375e0019a8d8e517924b06df6ae163add5b2927",
    "0057_gold_adjusted_prices": "02594b5fd51eb4938f104febd9feb381ff91d58c3fbf9523c001b60d8b2d3f84",
    "0058_gold_action_differences": "56f1fde1d127495ccf497502a6a2e850890a5fdd6be9a28b8a686bc7c375d5d2",
    "0065_gold_company_prices": "8dbd4fac88d4a73c84c031996350fc63998210bb60c5881fa5eff12408460c16",
    "0068_gold_quality_log": "c90608e83f51d931a673614001fa51acb6977108dc7cb4820ec7897bfee3a666",
}
"""SHA-256 of each view's text."""
ACTION_IDS = {
    "0050_bronze_actions_once": "dadc9e787c4b5e7041b1468fdcb5cab92b8e16822bb2dfc8f1905f85e52eddc2",
    "0051_bronze_action_ids": "4e6af0a8a891297d2aaf25216fceb251ece36dd5042f78b5451b7d99fe0b6358",
    "0052_silver_actions_once": "1221e92d0db3d47efca8304fe49d29283317b29ce8771a291be2270b3ebeff8c",
    "0053_silver_action_ids": "de9edc3ad125faf7405cdc1677b71cc1c6c08f48adb2ad0a71972a0accf5c0d3",
}
"""The same of the statements that make the ids of actions, in DuckDB's words."""


@pytest.mark.parametrize(("engine", "name", "statement"), [c for c in CREATED if c[1] in RELEASED], ids=lambda value: value[:24])
def test_released_migrations_stay_as_they_are(engine: str, name: str, statement: str) -> None:
    """A database made by an earlier version has these tables: change them by a new migration, never here."""
    string, ts, d, px, am, n, i = COLUMNS[engine]
    words = {f"s{length}": string.format(length) for length in LENGTHS}
    assert statement == RELEASED[name].format(**words, ts=ts, d=d, px=px, am=am, n=n, i=i)


def _pin_actions(engine: str, made: dict[str, str]) -> None:
    """Check the migrations of corporate actions, and take them out of ``made``."""
    string, moment, *_, small = COLUMNS[engine]
    for number, layer in [(47, "bronze"), (48, "silver"), *([(49, "stage")] if engine == "oracle" else [])]:
        name = f"{number:04d}_{layer}_corporate_actions_withdrawn"
        assert made.pop(name) == f"ALTER TABLE {layer}_corporate_actions ADD withdrawn {small}"
    texts = {name: made.pop(name) for name in ACTION_IDS}
    for theirs, ours in (("AS NUMBER(19))", "AS BIGINT)"), (f"AS {string.format(64)})", "AS VARCHAR(64))")):
        texts = {name: text.replace(theirs, ours) for name, text in texts.items()}
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()} == ACTION_IDS
    assert made.pop("0062_silver_symbol_changes_confirmed_ts") == f"ALTER TABLE silver_symbol_changes ADD confirmed_ts {moment}"


@pytest.mark.parametrize("engine", DIALECTS)
def test_every_migration_is_pinned(engine: str) -> None:
    made = {name: statement for of, name, statement in CREATED if of == engine}
    create = "CREATE OR REPLACE VIEW gold" if engine == "oracle" else "CREATE VIEW gold"  # there rights on a view go with it
    assert all(made[name].startswith((create, "CREATE OR REPLACE VIEW gold_adjusted_prices AS")) for name in VIEWS)
    plain = {name: made.pop(name) for name in VIEWS}
    for oracles, ours in (("CREATE OR REPLACE", "CREATE"), ("BINARY_DOUBLE", "DOUBLE PRECISION"), ("AS NUMBER(19))", "AS BIGINT)")):
        plain = {name: text.replace(oracles, ours) for name, text in plain.items()}
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in plain.items()} == VIEWS
    if engine == "postgres":
        assert made.pop("0010_gold_price_features") == plain["0005_gold_price_features"]
        assert made.pop("0006_drop_gold_price_features") == "DROP VIEW gold_price_features"
    if engine in WIDENED:
        for number, layer in [(7, "bronze"), (8, "silver"), *([(9, "stage")] if engine == "oracle" else [])]:
            assert made.pop(f"{number:04d}_{layer}_prices_provider") == WIDENED[engine].format(f"{layer}_prices")
    if engine != "oracle":
        assert made.pop("0024_drop_gold_price_features") == "DROP VIEW gold_price_features"
        assert made.pop("0025_drop_gold_adjusted_prices") == "DROP VIEW gold_adjusted_prices"
    for name, column in (("0022_load_audit_dag_id", "dag_id"), ("0023_load_audit_run_id", "run_id")):
        assert made.pop(name) == f"ALTER TABLE load_audit ADD {column} {COLUMNS[engine][0].format(250)}"
    _pin_actions(engine, made)
    for number, name in enumerate(["prices", "trades", "fundamentals", "corporate_actions"], 29):
        assert (
            made.pop(f"{number:04d}_silver_{name}_confirmed_ts")
            == f"ALTER TABLE silver_{name} ADD confirmed_ts {COLUMNS[engine][1]}"
        )
    if engine != "oracle":
        assert made.pop("0037_drop_gold_price_features") == "DROP VIEW gold_price_features"
    checks = {name for name in made if "_prices_check_" in name or "_key_" in name}
    assert set(made) - checks == {name for name in RELEASED if "_stage_" not in name or engine == "oracle"}


def test_duckdb_makes_the_tables_of_rows_again_without_keys() -> None:
    """The index of a key made 250 of 345 bytes of a row, and a night of 6,000 symbols held 435 MB of it in memory."""
    made = {name: statement for _, name, statement in CREATED if "_key_" in name}
    number = 69
    for each, (_, own, _, check) in RELEASED_TABLES.items():
        for layer in ("bronze", "silver"):
            name = f"{layer}_{each}"
            steps = [made.pop(f"{number + n:04d}_{name}_key_{n + 1}") for n in range(4)]
            assert "PRIMARY KEY" not in steps[0]
            names = re.findall(r"^  (?!CONSTRAINT)(\w+)", steps[0], re.MULTILINE)
            columns = [*re.findall(r"(?:^|, )(\w+) \{", f"{own}, {VERSION}"), *["confirmed_ts"] * (layer == "silver")]
            assert sorted(names) == sorted({*columns, *["withdrawn"] * (each == "corporate_actions")})
            assert steps[0].startswith(f"CREATE TABLE {name}_new (\n  symbol VARCHAR(32) NOT NULL,\n")
            assert steps[0].endswith(f"CONSTRAINT {name}_new_ck CHECK ({check.replace(' AND low_px > 0', '')})\n)")
            listed = ", ".join(names)
            assert steps[1] == f"INSERT INTO {name}_new ({listed}) SELECT {listed} FROM {name}"
            assert steps[2:] == [f"DROP TABLE {name}", f"ALTER TABLE {name}_new RENAME TO {name}"]
            number += 4
    assert made == {}


@pytest.mark.parametrize("engine", DIALECTS)
def test_migrations_of_the_check_of_prices_are_pinned(engine: str) -> None:
    made = {name: statement for of, name, statement in CREATED if of == engine and "_prices_check_" in name}
    signed = "high_px >= low_px AND volume >= 0"
    for number, layer in ((39, "bronze"), (43, "silver")):
        steps = [made.pop(f"{number + n:04d}_{layer}_prices_check_{n + 1}", None) for n in range(4)]
        if engine == "duckdb":
            assert str(steps[0]).startswith(f"CREATE TABLE {layer}_prices_new (")
            assert str(steps[0]).endswith(f"CONSTRAINT {layer}_prices_new_ck CHECK ({signed})\n)")
            names = ", ".join(re.findall(r"^  (?!CONSTRAINT)(\w+)", str(steps[0]), re.MULTILINE))
            assert steps[1] == f"INSERT INTO {layer}_prices_new ({names}) SELECT {names} FROM {layer}_prices"
            assert steps[2:] == [f"DROP TABLE {layer}_prices", f"ALTER TABLE {layer}_prices_new RENAME TO {layer}_prices"]
        else:
            drop, add = f"DROP CONSTRAINT {layer}_prices_ck", f"ADD CONSTRAINT {layer}_prices_ck CHECK ({signed})"
            wanted = [f"{drop}, {add} NOT VALID"] if engine == "postgres" else [drop, f"{add} ENABLE NOVALIDATE"]
            assert [step for step in steps if step] == [f"ALTER TABLE {layer}_prices {step}" for step in wanted]
    assert made == {}
