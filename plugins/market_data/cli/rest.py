"""Connections and pools of an Airflow behind its REST API."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from market_data.cli.deployment import Item, port_of
from market_data.core.errors import ConfigError

PAGE = 100
SECONDS = 30


class RestRegistry:
    """An Airflow 3 behind ``/api/v2``.

    :param url: its address, with the path of a deployment where it has one, e.g. ``https://airflow.example.com``.
    :param token: sent as a bearer token. It is in no message.
    :raises ConfigError: ``url`` is not an HTTP address, or has credentials in it.
    """

    def __init__(self, url: str, token: str) -> None:
        import requests

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ConfigError("the Airflow address is wrong; http(s)://host[:port][/path] without credentials is needed")
        self.base = f"{url.rstrip('/').removesuffix('/api/v2')}/api/v2"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def connections(self) -> Collection[str]:
        """Return the ids of the connections that exist."""
        return self._names("connections", "connection_id")

    def pools(self) -> Collection[str]:
        """Return the names of the pools that exist."""
        return self._names("pools", "name")

    def add_connection(self, item: Item) -> None:
        """Create a connection from its entry in ``airflow_settings.yaml``."""
        extra = item.get("conn_extra")
        fields = {
            "connection_id": item["conn_id"],
            "conn_type": item["conn_type"],
            "host": item.get("conn_host"),
            "schema": item.get("conn_schema"),
            "login": item.get("conn_login"),
            "port": port_of(item),
            "extra": extra if isinstance(extra, str) else json.dumps(extra) if extra else None,
        }
        self._call("POST", "connections", json={name: value for name, value in fields.items() if value is not None})

    def add_pool(self, item: Item) -> None:
        """Create a pool from its entry in ``airflow_settings.yaml``."""
        fields = {
            "name": item["pool_name"],
            "slots": int(item["pool_slot"]),
            "description": item.get("pool_description") or "",
            "include_deferred": bool(item.get("pool_include_deferred")),
        }
        self._call("POST", "pools", json=fields)

    def _names(self, kind: str, key: str) -> set[str]:
        names: set[str] = set()
        while True:
            page = self._call("GET", kind, params={"limit": PAGE, "offset": len(names)})
            found = {str(entry[key]) for entry in page[kind]}
            names |= found
            if not found or len(names) >= page["total_entries"]:
                return names

    def _call(self, method: str, kind: str, **request: Any) -> Any:
        import requests

        try:
            response = self._session.request(method, f"{self.base}/{kind}", timeout=SECONDS, allow_redirects=False, **request)
        except requests.RequestException as error:
            raise ConfigError(f"{method} {self.base}/{kind} failed: {type(error).__name__}; check the address") from None
        if response.status_code in (401, 403):
            raise ConfigError(
                f"{method} {self.base}/{kind}: {response.status_code}; the token in MARKET_DATA_AIRFLOW_TOKEN may not do this"
            )
        if not 200 <= response.status_code < 300:
            raise ConfigError(f"{method} {self.base}/{kind}: {response.status_code}")
        try:
            return response.json()
        except ValueError:
            raise ConfigError(
                f"{method} {self.base}/{kind}: the response is not JSON; is this the address of an Airflow 3?"
            ) from None
