"""The warehouse: rows of the lake in tables of DuckDB, PostgreSQL or Oracle.

Importing this package loads no engine and no driver; ``open_warehouse`` does.
"""

from market_data.warehouse.connection import Connector, WarehouseConnection
from market_data.warehouse.registry import ENGINES, open_warehouse

__all__ = ["ENGINES", "Connector", "WarehouseConnection", "open_warehouse"]
