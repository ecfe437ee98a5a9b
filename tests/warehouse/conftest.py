"""The engines that the contract runs on. A further engine is one more line in ``CONNECTIONS``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from market_data.warehouse import WarehouseConnection, open_warehouse
from market_data.warehouse.base import Warehouse


def _duckdb(folder: Path) -> WarehouseConnection:
    return WarehouseConnection("duckdb", extra={"path": str(folder / "warehouse.duckdb"), "lock_timeout": 120})


CONNECTIONS = {"duckdb": _duckdb}


@pytest.fixture(params=CONNECTIONS)
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> WarehouseConnection:
    """An empty database."""
    return CONNECTIONS[request.param](tmp_path)


@pytest.fixture
def warehouse(connection: WarehouseConnection) -> Iterator[Warehouse]:
    """A migrated warehouse without rows."""
    with open_warehouse(connection) as opened:
        opened.migrate()
        yield opened
