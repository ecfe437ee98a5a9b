"""The warehouse: the lake's bars in tables. ``open_warehouse`` gives the engine that a connection names.

Light: engines, and pyarrow with them, are imported when one is opened. Adding an engine: a file here, a line below, its name in the
tests' list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market_data.warehouse.base import Warehouse

ENGINES = {
    "duckdb": "market_data.warehouse.duckdb:DuckDBWarehouse",
    "postgres": "market_data.warehouse.postgres:PostgresWarehouse",
    "oracle": "market_data.warehouse.oracle:OracleWarehouse",
}


@dataclass(frozen=True, slots=True)
class WarehouseConnection:
    """Where a warehouse is: the fields of an Airflow connection.

    :param conn_type: the engine.
    :param schema: as Airflow has it: the tables' owner of ``oracle``, the database of ``postgres``.
    :param extra: the engine's own settings, e.g. ``path`` for ``duckdb``. May hold secrets, so it is not shown.
    """

    conn_type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def from_airflow(connection: Any) -> WarehouseConnection:
    """An Airflow ``Connection`` as a ``WarehouseConnection``."""
    return WarehouseConnection(
        conn_type=connection.conn_type or "",
        host=connection.host or "",
        port=connection.port,
        schema=connection.schema or "",
        login=connection.login or "",
        password=connection.password or "",
        extra=connection.extra_dejson,
    )


def open_warehouse(connection: WarehouseConnection) -> Warehouse:
    """The warehouse that ``connection`` names. The database itself is opened when first used.

    :raises ConfigError: if this version has no such engine, or a setting of it is wrong.
    """
    from market_data.core.errors import ConfigError

    if connection.conn_type not in ENGINES:
        raise ConfigError(
            f"warehouse connection: conn_type is {connection.conn_type!r}; engines in this version: {', '.join(sorted(ENGINES))}"
        )
    module, name = ENGINES[connection.conn_type].split(":")
    engine: type[Any] = getattr(import_module(module), name)
    opened: Warehouse = engine(connection)
    return opened


__all__ = ["ENGINES", "WarehouseConnection", "from_airflow", "open_warehouse"]
