"""An empty database of each engine, for the time of a test. A further engine is one more line in ``CONNECTIONS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from market_data.warehouse import WarehouseConnection
from tests.services import oracle_server, postgres_server


@contextmanager
def _duckdb(folder: Path) -> Iterator[WarehouseConnection]:
    yield WarehouseConnection("duckdb", extra={"path": str(folder / "warehouse.duckdb"), "lock_timeout": 120})


CONNECTIONS: dict[str, Callable[[Path], AbstractContextManager[WarehouseConnection]]] = {
    "duckdb": _duckdb,
    "postgres": postgres_server.empty_database,
    "oracle": oracle_server.empty_database,
}
