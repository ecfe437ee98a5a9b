"""Open the store of an account's limits: files of the host, or a server that all hosts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from market_data.core import settings
from market_data.core.errors import ConfigError
from market_data.core.messages import shown, suggestion

if TYPE_CHECKING:
    from market_data.http.limiter import Store
    from market_data.http.postgres_store import PostgresServer
    from market_data.http.redis_store import RedisServer

SETTING = "MARKET_DATA_LIMITER_CONN_ID"
EXTRA = "limiter_conn_id"
REDIS_EXTRA = ("db", "ssl", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
"""Fields of a Redis connection's extra, those of Airflow's own Redis hook."""
REDIS_PORT = 6379
CONNECTING, WAITING = 5, 10
"""Seconds until connected, and for a response."""


def limiter_conn_id(extra: Mapping[str, Any]) -> Any:
    """Return the connection that a provider's limits are kept in; empty: in files of each host.

    :param extra: the provider connection's.
    """
    return extra.get(EXTRA) or settings.value(SETTING)


class LimitServer(Protocol):
    """A server that keeps the limits of accounts."""

    def store(self, account: str) -> Store:
        """Return the store of an account's limits."""

    def close(self) -> None:
        """Close what is open; the next use opens it again."""


def limit_store(conn_id: str, extra: Mapping[str, Any], read: Callable[[str], Any]) -> LimitStores | None:
    """Return what opens the stores of limits; None for files of this host.

    :param conn_id: the provider's connection, with its ``extra``.
    :param read: reads an Airflow connection by its id; raises ConfigError.
    """
    chosen = limiter_conn_id(extra)
    return LimitStores(conn_id, chosen, read) if chosen else None


@dataclass
class LimitStores:
    """The stores of limits on one server.

    The Airflow connection is read at the first use, and all accounts share one client.
    """

    conn_id: str
    chosen: Any
    read: Callable[[str], Any]
    _server: LimitServer | None = None

    def __call__(self, account: str) -> Store:
        """Return the store of an account.

        :raises ConfigError: if the connection of the limits is missing or wrong.
        """
        if self._server is None:
            self._server = self._opened()
        return self._server.store(account)

    def close(self) -> None:
        """Close the client."""
        if self._server is not None:
            self._server.close()

    def _opened(self) -> LimitServer:
        chosen = self.chosen
        if not isinstance(chosen, str):
            wanted = "the name of an Airflow connection of type postgres or redis is needed"
            raise ConfigError(f"connection {self.conn_id!r}: extra.{EXTRA} is {shown(chosen)}; {wanted}")
        connection = self.read(chosen)
        make = SERVERS.get(connection.conn_type or "")
        if make is None:
            allowed = f"allowed for limits: {', '.join(SERVERS)}"
            raise ConfigError(f"connection {chosen!r}: conn_type is {shown(connection.conn_type)}; {allowed}")
        return make(connection)


def _postgres(connection: Any) -> PostgresServer:
    from market_data.airflow.warehouse_connections import PostgresConnector, from_airflow
    from market_data.http.postgres_store import PostgresServer
    from market_data.warehouse.postgres.settings import OURS, check

    connector, found = PostgresConnector(), from_airflow(connection)
    check(found, connector.extras, f"connection {connection.conn_id!r}")
    # A server that fell silent is noticed: no call is made meanwhile.
    usual = {"application_name": "airflow-market-data", "connect_timeout": CONNECTING, "tcp_user_timeout": WAITING * 1000}
    extra = {name: value for name, value in found.extra.items() if name not in OURS}
    return PostgresServer(partial(connector, replace(found, extra={**usual, **extra})), connection.conn_id)


def _redis(connection: Any) -> RedisServer:
    from market_data.http.redis_store import RedisServer

    name, extra = f"connection {connection.conn_id!r}", connection.extra_dejson
    if find_spec("redis") is None:
        raise ConfigError(
            f"{name}: conn_type is 'redis', but the package redis is not installed: pip install 'airflow-market-data[redis]'"
        )
    host = connection.host or "localhost"
    if "://" in host or "@" in host:  # a URL may hold a password, so it is not shown
        raise ConfigError(f"{name}: host is a URL; the server's name is needed, and its password in the field password")
    for key in extra:
        if key not in REDIS_EXTRA:
            raise ConfigError(
                f"{name}: extra has the unknown key {shown(key)}{suggestion(key, REDIS_EXTRA)}; known keys: {', '.join(REDIS_EXTRA)}"
            )
    database = str(extra.get("db") or connection.schema or "0")
    if not database.isdecimal():
        raise ConfigError(f"{name}: the database is {shown(database)}; a whole number from 0 on is needed (extra.db or schema)")
    fields = {
        **{key: value for key, value in extra.items() if key != "db"},
        "host": host,
        "port": connection.port or REDIS_PORT,
        "db": int(database),
        "username": connection.login or None,
        "password": connection.password or None,
        "socket_connect_timeout": CONNECTING,
        "socket_timeout": WAITING,
        "client_name": "airflow-market-data",
    }
    return RedisServer(fields, connection.conn_id)


SERVERS: Mapping[str, Callable[[Any], LimitServer]] = {"postgres": _postgres, "redis": _redis}
"""conn_type -> the server."""
