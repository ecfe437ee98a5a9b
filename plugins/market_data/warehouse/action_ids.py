"""The ids of corporate actions in SQL.

They are the text that ``datasets/corporate_actions.py`` makes. They bring the rows of earlier versions up, whose ids were the vendors':
one action could be there under several.
"""

# ruff: noqa: S608  only names of our own tables enter the text

from __future__ import annotations

from market_data.warehouse.schema import INGEST_TS, ROW_HASH, Table
from market_data.warehouse.upsert_sql import LAST_SEEN, equal

_RATIO = "CAST(FLOOR(ROUND({a}.{high} / NULLIF({a}.{low}, 0) * 10000, 6) + 0.5) AS BIGINT)"


def action_id(alias: str) -> str:
    """Return the expression of an action's id.

    Rows without a usable ratio or amount keep the id they have.
    """
    up = _RATIO.format(a=alias, high="split_to", low="split_from")
    down = _RATIO.format(a=alias, high="split_from", low="split_to")
    cash = f"CAST(FLOOR(ROUND({alias}.cash_amount * 1000000, 3) + 0.5) AS BIGINT)"
    kind = f"CASE WHEN {alias}.action_kind IN ('SC', 'LT', 'ST') THEN {alias}.action_kind ELSE 'CD' END"
    split = f"{alias}.action_type = 'split' AND {alias}.split_from > 0 AND {alias}.split_to > 0"
    return (
        f"CASE WHEN {split} AND {alias}.split_to >= {alias}.split_from AND {alias}.split_to / NULLIF({alias}.split_from, 0) < 1000000000"
        f" THEN CAST({up} AS VARCHAR(64)) || ':' || '10000'"
        f" WHEN {split} AND {alias}.split_from / NULLIF({alias}.split_to, 0) < 1000000000"
        f" THEN '10000:' || CAST({down} AS VARCHAR(64))"
        f" WHEN {alias}.action_type = 'dividend' AND {alias}.cash_amount >= 0"
        f" THEN CAST({cash} AS VARCHAR(64)) || ' ' || UPPER(COALESCE({alias}.currency, 'USD')) || ' ' || {kind}"
        f" ELSE {alias}.action_id END"
    )


def _same(left: str, right: str, table: Table) -> str:
    others = [column for column in table.key if column.name != "action_id"]
    return f"{equal(left, right, others)} AND {action_id(left)} = {action_id(right)}"


def delete_repeated_versions(table: Table) -> str:
    """Delete bronze rows that are one version of one action under several ids, all but one."""
    same = f"{_same('o', 't', table)} AND {equal('o', 't', (INGEST_TS, ROW_HASH))} AND o.action_id < t.action_id"
    return f"DELETE FROM {table.bronze} t WHERE EXISTS (SELECT 1 FROM {table.bronze} o WHERE {same})"


def delete_repeated(table: Table) -> str:
    """Delete silver rows that are one action under several ids, all but the one seen last."""
    first, last = LAST_SEEN.replace("p.", "o."), LAST_SEEN.replace("p.", "t.")
    later = f"({first} > {last} OR ({first} = {last} AND o.action_id < t.action_id))"
    return f"DELETE FROM {table.silver} t WHERE EXISTS (SELECT 1 FROM {table.silver} o WHERE {_same('o', 't', table)} AND {later})"


def identify(name: str) -> str:
    """Replace the ids in a table."""
    return f"UPDATE {name} t SET action_id = {action_id('t')} WHERE t.action_id <> {action_id('t')}"


__all__ = ["action_id", "delete_repeated", "delete_repeated_versions", "identify"]
