"""``market-data query`` and ``market-data migrate``."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError, WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.warehouse.base import Warehouse

LATEST = (
    "SELECT symbol, provider, timeframe, bar_time, open_px, high_px, low_px, close_px, volume FROM silver_prices"
    " ORDER BY bar_time DESC, symbol, provider FETCH FIRST 10 ROWS ONLY"
)
"""The statement of ``market-data query`` without one."""
WAIT = 30
"""Seconds to wait for a DuckDB file that a load has open."""
TABLES = (
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog')",
    "SELECT table_name AS name FROM user_tables UNION ALL SELECT view_name FROM user_views",
)
"""Lists of tables and views: the standard's, then Oracle's."""
_NAMED = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_][A-Za-z0-9_.]*)", re.IGNORECASE)
_WITH = re.compile(r"(?:\bWITH\s+|,\s*)([A-Za-z_]\w*)\s+AS\s*\(", re.IGNORECASE)


def duckdb_file(path: str) -> Warehouse:
    """Return the warehouse in a DuckDB file, without any Airflow connection."""
    from market_data.warehouse import WarehouseConnection, open_warehouse

    return open_warehouse(WarehouseConnection("duckdb", extra={"path": str(Path(path).absolute()), "lock_timeout": WAIT}))


def query(warehouse: Warehouse, statement: str | None) -> pa.Table:
    """Return the rows of one SELECT.

    :raises ConfigError: it names a table that does not exist; lists those that do.
    :raises WarehouseError: the engine refuses it.
    """
    wanted = statement or LATEST
    try:
        return warehouse.query(wanted)
    except WarehouseError:
        names = {name.lower() for name in _NAMED.findall(wanted)} - {name.lower() for name in _WITH.findall(wanted)}
        there = tables(warehouse)
        missing = sorted(name for name in names if name.rpartition(".")[2] not in there) if there is not None else []
        if not missing:
            raise
        known = ", ".join(sorted(there or ())) or "none yet; `market-data migrate` creates them"
        raise ConfigError(f"there is no table {', '.join(missing)}; tables and views: {known}") from None


def tables(warehouse: Warehouse) -> set[str] | None:
    """Return the names of the warehouse's tables and views in lower case, or None where it cannot be opened."""
    for statement in TABLES:
        with suppress(WarehouseError):
            return {str(name).lower() for name in warehouse.query(statement)["name"].to_pylist()}
    return None
