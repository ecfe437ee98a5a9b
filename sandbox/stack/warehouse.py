"""The warehouse from the command line: ``make query SQL='select ...'`` and ``make migrate``.

It is the one that ``AIRFLOW_CONN_WAREHOUSE_DEFAULT`` names, or else the local stack's DuckDB file.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from market_data.airflow.warehouse_connections import from_airflow, open_with_hooks
from market_data.core.errors import MarketDataError
from market_data.warehouse import WarehouseConnection
from sandbox.stack.environment import LocalError, Paths

CONN_ID = "warehouse_default"
VARIABLE = f"AIRFLOW_CONN_{CONN_ID.upper()}"
PATIENCE = 30  # seconds; a load holds the file while it writes

EXAMPLE = (
    "select symbol, provider, timeframe, bar_time, close_px, volume from silver_prices"
    " order by bar_time desc, symbol, provider fetch first 10 rows only"
)


def connection_of(paths: Paths, environ: Mapping[str, str]) -> WarehouseConnection:
    """Where the warehouse is."""
    if not environ.get(VARIABLE):
        return WarehouseConnection("duckdb", extra={"path": str(paths.warehouse), "lock_timeout": PATIENCE})
    from market_data.airflow.connections import read_connection  # slow to import

    return from_airflow(read_connection(CONN_ID))


def place(connection: WarehouseConnection) -> str:
    """Which one it is, in words without secrets."""
    if connection.conn_type == "duckdb":
        return f"duckdb, {connection.extra['path']}"
    where = "/".join(str(part) for part in (connection.host, connection.schema) if part)
    return f"{connection.conn_type}{f', {where}' if where else ''}, as {connection.login}"


def migrate(paths: Paths, environ: Mapping[str, str], console: Console) -> None:
    """Make the tables and views that are missing; a task of each run does it too, so this is for those who want to see it done.

    :raises LocalError: if the engine fails; what was done so far is kept, or undone, so that it can be repeated.
    """
    try:
        connection = connection_of(paths, environ)
        with open_with_hooks(connection) as warehouse:
            applied = warehouse.migrate()
    except MarketDataError as error:
        raise LocalError(str(error)) from None
    console.print("\n".join(applied) or "The warehouse has all tables and views of this version.", highlight=False)
    console.print(f"The warehouse: {place(connection)}.", highlight=False, soft_wrap=True)


def query(paths: Paths, environ: Mapping[str, str], console: Console) -> None:
    """Print the rows that ``SQL`` gives, as a table. Nothing can be changed.

    :raises LocalError: if there is no warehouse yet, or the engine refuses the question.
    """
    if not environ.get(VARIABLE) and not paths.warehouse.exists():
        raise LocalError(f"there is no warehouse at {paths.warehouse} yet; `make run` makes one")
    try:
        with open_with_hooks(connection_of(paths, environ)) as warehouse:
            found = warehouse.query(environ.get("SQL") or EXAMPLE)
    except MarketDataError as error:
        raise LocalError(str(error)) from None
    table = Table(*found.column_names)
    for row in zip(*(column.to_pylist() for column in found.columns), strict=True):
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
