"""The engines by ``conn_type``.

Add an engine: a module, a line in ``ENGINES``, a line in ``tests/warehouse/engines.py``; for a server also a connector in the airflow room.

An engine is imported, and pyarrow and its driver with it, only when a connection names it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError
from market_data.warehouse.connection import Connector, WarehouseConnection

if TYPE_CHECKING:
    from market_data.warehouse.base import Warehouse

ENGINES = {
    "duckdb": "market_data.warehouse.duckdb:DuckDBWarehouse",
    "postgres": "market_data.warehouse.postgres.engine:PostgresWarehouse",
    "oracle": "market_data.warehouse.oracle.engine:OracleWarehouse",
}

DRIVERS = {"duckdb": "duckdb", "postgres": "psycopg", "oracle": "oracledb"}
"""Packages that the engines import, some of them with the first connection only."""


def engine(conn_type: str) -> type[Warehouse]:
    """Return the class of an engine.

    :raises ConfigError: the engine is unknown, or its driver is not installed.
    """
    if conn_type not in ENGINES:
        raise ConfigError(
            f"warehouse connection: conn_type is {conn_type!r}; engines in this version: {', '.join(sorted(ENGINES))}"
        )
    module, name = ENGINES[conn_type].split(":")
    try:
        import_module(DRIVERS[conn_type])
        found: type[Warehouse] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"warehouse {conn_type}: package {error.name} is not installed on this machine") from None
    return found


def open_warehouse(connection: WarehouseConnection, connect: Connector | None = None) -> Warehouse:
    """Return the warehouse that ``connection`` names. The database is connected to on first use.

    :param connect: opens a connection to a server; ``market_data.airflow.warehouse_connections`` has one for each. DuckDB needs none.
    :raises ConfigError: the engine is unknown, one of its settings is wrong, or a server's ``connect`` is missing.
    """
    return engine(connection.conn_type)(connection, connect)
