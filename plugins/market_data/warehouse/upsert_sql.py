"""All SQL of the warehouse, as text, the same for every engine.

Only syntax that every engine takes. Rows without a change are filtered inside a MERGE's USING. No ``AS`` before a table alias,
parentheses around ON, windows spelled out, no trailing semicolon. Binds are ``?``, which an engine turns into its own mark. A ``Dialect``
holds the differences: names of types, and how to see if a table exists.
"""

# ruff: noqa: S608  only names from ``schema`` and whole numbers enter the text; values are bound

from __future__ import annotations

from collections.abc import Iterable

from market_data.warehouse.schema import (
    CONFIRMED_TS,
    INGEST_TS,
    LOAD_ID,
    LOADED_AT,
    ROW_HASH,
    SYMBOL,
    Column,
    Reference,
    Table,
)

# --- a load ---------------------------------------------------------------------------------------------------------------------

SELECT_AUDIT = "SELECT rows_in, rows_changed FROM load_audit WHERE load_id = ?"
INSERT_AUDIT = (
    "INSERT INTO load_audit (load_id, table_name, rows_in, rows_changed, loaded_at, dag_id, run_id) VALUES (?, ?, ?, ?, ?, ?, ?)"
)

DAILY_SYMBOLS = "SELECT DISTINCT symbol, provider FROM silver_prices WHERE timeframe = '1d'"
FOLLOWED = "SELECT DISTINCT calendar FROM symbol_calendars"

LAST_SEEN = "COALESCE(p.confirmed_ts, p.ingest_ts)"
OVERTAKES = "p.row_hash <> s.row_hash AND p.ingest_ts <= s.ingest_ts AND s.ingest_ts < p.confirmed_ts"


def count_stage(table: Table) -> str:
    """Count the staged rows, and find their first and last symbol and moment. The result has one row."""
    ends = ", ".join(
        f"MIN({column.name}) AS first_{name}, MAX({column.name}) AS last_{name}"
        for name, column in (("symbol", SYMBOL), ("moment", table.moment))
    )
    return f"SELECT COUNT(*) AS staged, {ends} FROM {table.stage}"


SPAN = ("first_symbol", "last_symbol", "first_moment", "last_moment")
"""Columns of `count_stage` that the statements of a load bind for each stored table that they read.

So an engine reads no other rows of a large table, and holds none of them in memory for a join.
"""


def compare(table: Table) -> str:
    """Count what there is to do with the staged rows. The result has one row. Binds ``SPAN``.

    ``compared``: the staged rows; more, if silver has one of their keys more than once.
    ``known``: rows with a current bar. ``versions``: rows that differ from it or are older. ``newer``: rows that replace or confirm it.
    ``confirmed``: those of them that confirm it. ``overtaking``: rows that were seen between the bar and its confirmation.
    """
    return (
        f"SELECT COUNT(*) AS compared,\n"
        f"       COUNT(p.{SYMBOL.name}) AS known,\n"
        f"       COUNT(CASE WHEN {_version(table)} THEN 1 END) AS versions,\n"
        f"       COUNT(CASE WHEN {_newer(table)} THEN 1 END) AS newer,\n"
        f"       COUNT(CASE WHEN p.row_hash = s.row_hash AND {LAST_SEEN} < s.ingest_ts THEN 1 END) AS confirmed,\n"
        f"       COUNT(CASE WHEN {OVERTAKES} THEN 1 END) AS overtaking\n"
        f"  FROM {table.stage} s\n"
        f"  LEFT JOIN {table.silver} p ON ({equal('p', 's', table.key)} AND {within('p', table)})"
    )


def insert_versions(table: Table) -> str:
    """Insert new versions into bronze: staged rows that differ from the current bar or are older.

    Runs before the merge. Binds ``SPAN`` twice.
    """
    return (
        f"INSERT INTO {table.bronze} ({names(table.columns)})\n"
        f"SELECT {names(table.columns, 's.')}\n"
        f"  FROM {table.stage} s\n"
        f"  LEFT JOIN {table.silver} p ON ({equal('p', 's', table.key)} AND {within('p', table)})\n"
        f"  LEFT JOIN {table.bronze} b ON ({equal('b', 's', table.version_key)} AND {within('b', table)})\n"
        f" WHERE ({_version(table)}) AND b.row_hash IS NULL"
    )


def insert_first_versions(table: Table) -> str:
    """Insert the staged rows that bronze lacks, when none of them has a current bar. Binds ``SPAN``."""
    return (
        f"INSERT INTO {table.bronze} ({names(table.columns)})\n"
        f"SELECT {names(table.columns, 's.')}\n"
        f"  FROM {table.stage} s\n"
        f"  LEFT JOIN {table.bronze} b ON ({equal('b', 's', table.version_key)} AND {within('b', table)})\n"
        f" WHERE b.row_hash IS NULL"
    )


def insert_new(table: Table) -> str:
    """Insert the staged rows into silver when none of them has a current bar."""
    return f"INSERT INTO {table.silver} ({names(table.columns)})\nSELECT {names(table.columns)} FROM {table.stage}"


def insert_confirmed(table: Table) -> str:
    """Insert into bronze, as confirmed, each bar with an overtaken confirmation.

    Runs after ``insert_versions``. Binds ``SPAN``.
    """
    of_stage = {LOAD_ID.name: "s.load_id", LOADED_AT.name: "s.loaded_at", INGEST_TS.name: "p.confirmed_ts"}
    values = ", ".join(of_stage.get(column.name, f"p.{column.name}") for column in table.columns)
    at_confirmation = equal("b", "p", [column for column in table.version_key if column != INGEST_TS])
    return (
        f"INSERT INTO {table.bronze} ({names(table.columns)})\n"
        f"SELECT {values}\n"
        f"  FROM {table.stage} s\n"
        f"  JOIN {table.silver} p ON ({equal('p', 's', table.key)} AND {within('p', table)})\n"
        f"  LEFT JOIN {table.bronze} b ON ({at_confirmation} AND b.ingest_ts = p.confirmed_ts)\n"
        f" WHERE {OVERTAKES} AND b.row_hash IS NULL"
    )


def begin_again(table: Table) -> str:
    """Date silver's bars with an overtaken confirmation from then on.

    Runs after ``insert_confirmed``. Binds ``SPAN``.
    """
    return (
        f"UPDATE {table.silver} p SET ingest_ts = p.confirmed_ts, confirmed_ts = NULL\n"
        f" WHERE p.confirmed_ts IS NOT NULL AND {within('p', table)}\n"
        f"   AND EXISTS (SELECT 1 FROM {table.stage} s WHERE {equal('p', 's', table.key)} AND {OVERTAKES})"
    )


def merge(table: Table) -> str:
    """Upsert staged rows into silver: replace bars whose values differ, else set ``confirmed_ts``.

    Its row count is that of both. Binds ``SPAN`` twice.
    """
    columns = (*table.columns, CONFIRMED_TS)
    key = {column.name for column in table.key}
    changeable = [column.name for column in columns if column.name not in key]
    return (
        f"MERGE INTO {table.silver} t\n"
        f"USING ({_newest(table)}) s\n"
        f"   ON ({equal('t', 's', table.key)} AND {within('t', table)})\n"
        f" WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in changeable)}\n"
        f" WHEN NOT MATCHED THEN INSERT ({names(columns)})\n"
        f"      VALUES ({names(columns, 's.')})"
    )


def insert_newest(table: Table) -> str:
    """Insert into silver the rows that `merge` would leave.

    `delete_replaced` removes those that they replace. For tables without a primary key. Its row count is that of `merge`. Binds ``SPAN``.
    """
    return f"INSERT INTO {table.silver} ({names((*table.columns, CONFIRMED_TS))})\n{_newest(table)}"


def delete_replaced(table: Table) -> str:
    """Delete the bars that a staged row of their key replaces or confirms.

    Those that `insert_newest` has put there are not older than the staged rows, and stay. Binds ``SPAN``.
    Runs after `insert_newest`, in the same transaction.
    """
    return (
        f"DELETE FROM {table.silver} p\n"
        f" WHERE {within('p', table)}\n"
        f"   AND EXISTS (SELECT 1 FROM {table.stage} s WHERE {equal('p', 's', table.key)} AND ({_newer(table)}))"
    )


def _newest(table: Table) -> str:
    """Return the query of the staged rows that are new, or replace or confirm a bar.

    They are as silver has them afterwards.
    """
    kept = {column.name for column in (LOAD_ID, INGEST_TS, LOADED_AT)}
    rows = ", ".join(
        f"CASE WHEN p.row_hash = s.row_hash THEN p.{c.name} ELSE s.{c.name} END AS {c.name}" if c.name in kept else f"s.{c.name}"
        for c in table.columns
    )
    return (
        f"SELECT {rows},\n"
        f"              CASE WHEN p.row_hash = s.row_hash THEN s.ingest_ts END AS confirmed_ts\n"
        f"         FROM {table.stage} s\n"
        f"         LEFT JOIN {table.silver} p ON ({equal('p', 's', table.key)} AND {within('p', table)})\n"
        f"        WHERE {_newer(table)}"
    )


def mark_altered(table: Table) -> str:
    """Mark the current bars that differ from the staged rows, so that the merge replaces them.

    Binds a moment before that of any row, and ``SPAN``. Runs before a merge, in the same transaction.
    """
    differs = " OR ".join(
        f"p.{column.name} <> s.{column.name}"
        if not column.nullable
        else f"p.{column.name} <> s.{column.name} OR (p.{column.name} IS NULL AND s.{column.name} IS NOT NULL)"
        f" OR (p.{column.name} IS NOT NULL AND s.{column.name} IS NULL)"
        for column in (*table.values, ROW_HASH)
    )
    same_row = f"SELECT {{}} FROM {table.stage} s WHERE {equal('p', 's', table.key)}"
    # A row that was published earlier would never replace a later one.
    also = f", {table.published.name} = ({same_row.format(f's.{table.published.name}')})" if table.published else ""
    return (
        f"UPDATE {table.silver} p SET row_hash = 'altered', ingest_ts = ?, confirmed_ts = NULL{also}\n"
        f" WHERE {within('p', table)}\n"
        f"   AND EXISTS ({same_row.format('1')}\n"
        f"   AND ({differs}))"
    )


def remove(table: Table) -> str:
    """Delete from silver the staged rows that bronze has no version of: no load wrote them."""
    return (
        f"DELETE FROM {table.silver} p\n"
        f" WHERE EXISTS (SELECT 1 FROM {table.stage} s WHERE {equal('p', 's', table.key)})\n"
        f"   AND {never_loaded(table)}"
    )


def never_loaded(table: Table) -> str:
    """Return a condition on rows ``p`` of silver: bronze has no version of them."""
    return f"NOT EXISTS (SELECT 1 FROM {table.bronze} b WHERE {equal('b', 'p', table.key)})"


def read_reference(table: Reference) -> str:
    """Read a reference table."""
    return f"SELECT {names(table.columns)} FROM {table.name}"


def merge_reference(table: Reference) -> str:
    """Upsert the staged rows of a reference table."""
    return (
        f"MERGE INTO {table.name} t\n"
        f"USING (SELECT {names(table.columns)} FROM {table.stage}) s\n"
        f"   ON ({equal('t', 's', table.key)})\n"
        f" WHEN MATCHED THEN UPDATE SET {', '.join(f'{c.name} = s.{c.name}' for c in table.values)}\n"
        f" WHEN NOT MATCHED THEN INSERT ({names(table.columns)})\n"
        f"      VALUES ({names(table.columns, 's.')})"
    )


def _version(table: Table) -> str:
    """Return the condition for a staged row to be a version that is not the current bar."""
    return f"p.{table.key[0].name} IS NULL OR p.row_hash <> s.row_hash OR s.ingest_ts < p.ingest_ts"


def _newer(table: Table) -> str:
    """Return the condition for a staged row to be a new bar, or to replace or confirm the current one."""
    newer = f"{LAST_SEEN} < s.ingest_ts OR ({LAST_SEEN} = s.ingest_ts AND p.row_hash <> s.row_hash)"
    if table.published:
        name = table.published.name
        newer = f"s.{name} > p.{name} OR (s.{name} = p.{name} AND ({newer}))"
    return f"p.{table.key[0].name} IS NULL OR {newer}"


def within(name: str, table: Table) -> str:
    """Return the condition for a row to be within ``SPAN``, which it binds."""
    return " AND ".join(f"{name}.{column.name} >= ? AND {name}.{column.name} <= ?" for column in (SYMBOL, table.moment))


def names(columns: Iterable[Column], prefix: str = "") -> str:
    """Return the names of ``columns``, each with ``prefix``."""
    return ", ".join(f"{prefix}{column.name}" for column in columns)


def equal(left: str, right: str, columns: Iterable[Column]) -> str:
    """Return the condition for two rows to be equal in ``columns``."""
    return " AND ".join(f"{left}.{column.name} = {right}.{column.name}" for column in columns)
