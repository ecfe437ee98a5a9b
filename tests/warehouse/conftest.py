"""The engines that the contract runs on.

The first tier has the contract on DuckDB, and of each server what ``test_every_engine.py`` and its own file hold; the second all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.base import Warehouse
from tests.quick_runs import _kept_warehouses  # noqa: F401 - a fixture
from tests.warehouse.engines import CONNECTIONS


@pytest.fixture(params=[name if name == "duckdb" else pytest.param(name, marks=pytest.mark.slow) for name in CONNECTIONS])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WarehouseConnection]:
    """An empty database."""
    with CONNECTIONS[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def warehouse(connection: WarehouseConnection) -> Iterator[Warehouse]:
    """A migrated warehouse without rows."""
    with open_with_hooks(connection) as opened:
        opened.migrate()
        yield opened
