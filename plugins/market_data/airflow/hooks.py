"""Hook classes of the connection types in ``provider_info``. The *Test* button makes one cheap call.

Each provider has a class, created when Airflow imports it by name: ``market_data.airflow.hooks.PolygonConnection``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.sdk import BaseHook

from market_data.airflow.connections import provider_config, warehouse
from market_data.airflow.provider_info import PREFIX, class_name
from market_data.core.errors import MarketDataError
from market_data.providers.registry import provider, providers


class ProviderConnection(BaseHook):
    """A provider's connection as Airflow's UI sees it.

    :param conn_id: the Airflow connection.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str]
    conn_type: ClassVar[str]
    hook_name: ClassVar[str]
    provider: ClassVar[str]

    def __init__(self, conn_id: str | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id or self.default_conn_name

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection with one cheap call; return success and a message for the user."""
        try:
            config = provider_config(self.conn_id)
        except MarketDataError as error:
            return False, str(error)
        try:
            ok, message = provider(self.provider)(config, connections=provider_config).test_connection()
        except MarketDataError as error:
            ok, message = False, str(error)
        # Airflow tests a copy under an id of its own, which tells the user nothing.
        return ok, message.replace(f"connection {self.conn_id!r}", "this connection")


class DuckDBConnection(BaseHook):
    """The connection of a DuckDB warehouse as Airflow's UI sees it.

    :param conn_id: the Airflow connection.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "warehouse_default"
    conn_type: ClassVar[str] = "duckdb"
    hook_name: ClassVar[str] = "DuckDB"

    def __init__(self, conn_id: str | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id or self.default_conn_name

    def test_connection(self) -> tuple[bool, str]:
        """Open the file and read its schema version; return success and a message for the user."""
        try:
            with warehouse(self.conn_id) as opened:
                found = opened.query("SELECT count(*) AS n FROM schema_version")
        except MarketDataError as error:
            return False, str(error)
        return True, f"the warehouse opens; {found['n'][0].as_py()} migrations are applied"


def __getattr__(name: str) -> Any:
    for spec in providers().values():
        if name == class_name(spec.name):
            fields = {
                "conn_type": f"{PREFIX}{spec.name}",
                "default_conn_name": f"{spec.name}_default",
                "hook_name": spec.label or spec.name,
                "provider": spec.name,
                "__doc__": f"The connection of {spec.label or spec.name}.",
                "__module__": __name__,
            }
            found = globals()[name] = type(name, (ProviderConnection,), fields)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
