"""The engines that the contract runs on. A further engine is one more line in ``CONNECTIONS``: an empty database for the time of a test.

The first tier has the contract on DuckDB, and of each server what ``test_every_engine.py`` and its own file hold; the second all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import oracle_server
import postgres_server
import pytest

from market_data.warehouse import WarehouseConnection, open_warehouse
from market_data.warehouse.base import Warehouse


@contextmanager
def _duckdb(folder: Path) -> Iterator[WarehouseConnection]:
    yield WarehouseConnection("duckdb", extra={"path": str(folder / "warehouse.duckdb"), "lock_timeout": 120})


CONNECTIONS: dict[str, Callable[[Path], AbstractContextManager[WarehouseConnection]]] = {
    "duckdb": _duckdb,
    "postgres": postgres_server.empty_database,
    "oracle": oracle_server.empty_database,
}


@pytest.fixture(params=[name if name == "duckdb" else pytest.param(name, marks=pytest.mark.slow) for name in CONNECTIONS])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WarehouseConnection]:
    """An empty database."""
    with CONNECTIONS[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def warehouse(connection: WarehouseConnection) -> Iterator[Warehouse]:
    """A migrated warehouse without rows."""
    with open_warehouse(connection) as opened:
        opened.migrate()
        yield opened
