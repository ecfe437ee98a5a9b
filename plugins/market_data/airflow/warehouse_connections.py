"""Connectors of the warehouse servers through Airflow's hooks: IAM tokens, wallets, thick mode.

Add a server: a class with ``extras`` and ``__call__`` (see ``market_data.warehouse.Connector``) and a line in ``CONNECTORS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any

from market_data.warehouse.base import Warehouse
from market_data.warehouse.connection import Connector, WarehouseConnection
from market_data.warehouse.registry import open_warehouse


def from_airflow(connection: Any) -> WarehouseConnection:
    """Return an Airflow ``Connection`` as a ``WarehouseConnection``."""
    return WarehouseConnection(
        conn_type=connection.conn_type or "",
        host=connection.host or "",
        port=connection.port,
        schema=connection.schema or "",
        login=connection.login or "",
        password=connection.password or "",
        extra=connection.extra_dejson,
    )


def open_with_hooks(connection: WarehouseConnection) -> Warehouse:
    """Return the warehouse that ``connection`` names, connected to by Airflow's hook where it is a server.

    :raises ConfigError: as ``open_warehouse``.
    """
    make = CONNECTORS.get(connection.conn_type)
    return open_warehouse(connection, make() if make else None)


class PostgresConnector:
    """Connect by ``PostgresHook``."""

    @property
    def extras(self) -> Set[str]:
        """Return the hook's own extras, e.g. ``iam``."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        return frozenset(PostgresHook.ignored_extra_options)

    def __call__(self, connection: WarehouseConnection) -> Any:
        """Return a psycopg connection. ``extra.cursor`` is left out: the engine needs plain rows."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        extra = {name: value for name, value in connection.extra.items() if name != "cursor"}
        return PostgresHook(connection=_to_airflow(connection, extra)).get_conn()


class OracleConnector:
    """Connect by ``OracleHook``."""

    extras: Set[str] = frozenset()

    def __call__(self, connection: WarehouseConnection) -> Any:
        """Return an oracledb connection."""
        from airflow.providers.oracle.hooks.oracle import OracleHook

        hook = OracleHook(log_sql=False)
        # the connection is known already: without a look-up by its id the hook works outside of tasks too
        hook.get_connection = lambda _: _to_airflow(connection, connection.extra)
        return hook.get_conn()


CONNECTORS: dict[str, Callable[[], Connector]] = {"postgres": PostgresConnector, "oracle": OracleConnector}


def _to_airflow(connection: WarehouseConnection, extra: Any) -> Any:
    from airflow.providers.common.compat.sdk import Connection

    return Connection(
        conn_id="warehouse",
        conn_type=connection.conn_type,
        host=connection.host or None,
        port=connection.port,
        schema=connection.schema or None,
        login=connection.login,
        password=connection.password or None,
        extra=json.dumps(dict(extra)),
    )
