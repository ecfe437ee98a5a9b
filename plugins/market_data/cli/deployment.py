"""The deployment as the command uses it: its connections, its pools, the lake and the warehouse."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from market_data.alerts.sent import Send
    from market_data.config.alerts import Alerts, Notifier
    from market_data.core.run import RunInfo
    from market_data.lake.store import Lake
    from market_data.providers.base import ProviderHook
    from market_data.warehouse.base import Warehouse

Item = Mapping[str, Any]
"""A connection or pool of ``airflow_settings.yaml``."""


def port_of(item: Item) -> int | None:
    """Return the port of a connection's entry, 0 included; None without one."""
    port = item.get("conn_port")
    return None if port in (None, "") else int(port)


class Registry(Protocol):
    """Connections and pools of an Airflow, by name."""

    def connections(self) -> Collection[str]:
        """Return the ids of the connections that exist."""

    def pools(self) -> Collection[str]:
        """Return the names of the pools that exist."""

    def add_connection(self, item: Item) -> None:
        """Create a connection from its entry in ``airflow_settings.yaml``."""

    def add_pool(self, item: Item) -> None:
        """Create a pool from its entry in ``airflow_settings.yaml``."""


class Deployment(Protocol):
    """The command's access to a deployment. ``ConfigError`` if a setting is missing or wrong."""

    def registry(self) -> Registry:
        """Return the connections and pools of the Airflow of this machine."""

    def lake(self) -> Lake:
        """Return the lake of ``MARKET_DATA_LAKE``."""

    def open_s3(self, address: str) -> bytes:
        """Return the object at an ``s3://`` address, for a tickers file."""

    def warehouse(self) -> Warehouse:
        """Return the warehouse of the connection ``warehouse_default``."""

    def hook(self, provider: str, conn_id: str, options: Mapping[str, Any]) -> ProviderHook:
        """Return the hook of a provider with its connection. No call is made."""

    def is_running(self, run: RunInfo) -> bool | None:
        """Return True if a run is active, False if it has ended or was deleted, None if that is not known."""

    def hosts(self, pool: str, longest: float) -> Collection[str]:
        """Return the hosts that ran tasks of a pool and share a window of its account.

        :param longest: seconds of the account's longest window.
        """

    def check_notifier(self, notifier: Notifier) -> None:
        """Raise ``ConfigError`` if a notifier's package is missing or its arguments are wrong.

        Nothing is sent.
        """

    def notifiers(self, alerts: Alerts) -> tuple[Mapping[str, Send], str]:
        """Return the functions that send messages, by name; and the address of Airflow, or nothing."""
