"""Keys that are in a table more than once, where no primary key forbids it; no load writes them so."""

# ruff: noqa: S608  only names from ``schema`` enter the text; values are bound

from __future__ import annotations

from typing import TYPE_CHECKING

from market_data.warehouse.schema import CONFIRMED_TS, Column, Table
from market_data.warehouse.upsert_sql import equal, names, within

if TYPE_CHECKING:
    import pyarrow as pa


def repeated_keys(table: Table) -> str:
    """Return the staged keys that silver has more than once. Binds ``SPAN``."""
    key = names(table.key, "p.")
    return (
        f"SELECT {key}\n"
        f"  FROM {table.stage} s\n"
        f"  JOIN {table.silver} p ON ({equal('p', 's', table.key)} AND {within('p', table)})\n"
        f" GROUP BY {key}\n"
        f"HAVING COUNT(*) > 1\n"
        f" ORDER BY {key}"
    )


def what_to_do(table: Table, repeated: pa.Table) -> str:
    """Return the message of a load that found ``repeated`` keys, whose rows differ."""
    first = repeated.slice(0, 1).to_pylist()[0]
    key = ", ".join(f"{name} {value}" for name, value in first.items())
    keys = f"{len(repeated)} key{'s' * (len(repeated) > 1)}"
    return (
        f"{table.silver} has {keys} with more than one row, the first: {key}. No load writes that, and this one was rolled back."
        f" Leave one row of each, such as the one whose row_hash is in {table.bronze}, then load again"
    )


def delete_copies(table: Table) -> str:
    """Delete all but one of the current bars with the key of a staged row.

    No load writes a key twice: something else did. Binds ``SPAN`` twice. Runs before a merge, in the same transaction.
    """
    return _delete_copies(table, table.silver, table.key)


def delete_equal_rows(table: Table) -> str:
    """Delete all but one of a staged key's current bars that are equal in all columns.

    As `delete_copies`.
    """
    return _delete_copies(table, table.silver, (*table.columns, CONFIRMED_TS))


def delete_equal_versions(table: Table) -> str:
    """Delete all but one of a staged key's versions that are equal in all columns.

    As `delete_copies`.
    """
    return _delete_copies(table, table.bronze, table.columns)


def _delete_copies(table: Table, name: str, alike: tuple[Column, ...]) -> str:
    return (
        f"DELETE FROM {name} t WHERE {within('t', table)} AND t.rowid IN (\n"
        f"  SELECT p.rowid FROM {table.stage} s JOIN {name} p ON ({equal('p', 's', table.key)} AND {within('p', table)})\n"
        f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {names(alike, 'p.')} ORDER BY p.rowid) > 1)"
    )
