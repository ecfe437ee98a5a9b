"""Changes with binds, on DuckDB."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from tests.services.oracle_double.catalog import TableDefinition
from tests.services.oracle_double.errors import OraError
from tests.services.oracle_double.translate import PLAIN_INSERT

Row = list[Any]
MANY_ROWS = 20


def change(cursor: duckdb.DuckDBPyConnection, sql: str, text: str, rows: list[Row], target: TableDefinition | None) -> list[int]:
    """Run a change for each row of binds; many rows of a plain INSERT at once.

    :param sql, text: the statement as it came, and as DuckDB takes it.
    :returns: rows changed by each.
    :raises duckdb.Error, OraError: it failed, perhaps in the middle.
    """
    plain = PLAIN_INSERT.fullmatch(sql)
    if plain and target and len(rows) >= MANY_ROWS:
        _insert(cursor, plain[2], rows, target)
        return [1] * len(rows)
    return [int(cursor.execute(text, row).fetchall()[0][0]) for row in rows]


def _insert(cursor: duckdb.DuckDBPyConnection, names: str | None, rows: list[Row], target: TableDefinition) -> None:
    known = [column.name for column in target.columns]
    columns = [name.strip(' "\n').lower() for name in names.split(",")] if names else known
    if len(columns) != len(rows[0]):
        raise OraError(913, "too many values") if len(rows[0]) > len(columns) else OraError(947, "not enough values")
    if unknown := [name for name in columns if name not in known]:
        raise OraError(904, f'"{unknown[0].upper()}": invalid identifier')
    values = pa.table({name: _array(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)})
    cursor.register("bound_rows", values)
    cursor.execute(f"INSERT INTO {target.name} ({', '.join(columns)}) SELECT * FROM bound_rows")
    cursor.unregister("bound_rows")  # after an error, the rollback does it


def _array(values: tuple[Any, ...]) -> pa.Array:
    """Values of a bind. Numbers go as text, which DuckDB reads exactly whatever the column: no Arrow type has room for all."""
    if any(not isinstance(value, str | bytes) and hasattr(value, "as_tuple") for value in values):
        return pa.array([None if value is None else f"{value:f}" for value in values], pa.string())
    return pa.array(values)
