"""Open the store of an account's limits: files of the host, or a server that all hosts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from market_data.core import settings
from market_data.core.errors import ConfigError
from market_data.core.messages import shown, suggestion

if TYPE_CHECKING:
    from market_data.http.limiter import Store

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


def limit_store(conn_id: str, extra: Mapping[str, Any], read: Callable[[str], Any]) -> Callable[[str], Store] | None:
    """Return a function that opens the store of an account's limits; None for files of this host.

    No connection is read before it is called.

    :param conn_id: the provider's connection, with its ``extra``.
    :param read: reads an Airflow connection by its id; raises ConfigError.
    """
    chosen = limiter_conn_id(extra)
    if not chosen:
        return None

    def opened(account: str) -> Store:
        if not isinstance(chosen, str):
            wanted = "the name of an Airflow connection of type postgres or redis is needed"
            raise ConfigError(f"connection {conn_id!r}: extra.{EXTRA} is {shown(chosen)}; {wanted}")
        connection = read(chosen)
        make = STORES.get(connection.conn_type or "")
        if make is None:
            allowed = f"allowed for limits: {', '.join(STORES)}"
            raise ConfigError(f"connection {chosen!r}: conn_type is {shown(connection.conn_type)}; {allowed}")
        return make(connection, account)

    return opened


def _postgres(connection: Any, account: str) -> Store:
    from market_data.airflow.warehouse_connections import PostgresConnector, from_airflow
    from market_data.http.postgres_store import PostgresStore

    found = from_airflow(connection)
    # A server that fell silent is noticed: no call is made meanwhile.
    usual = {"application_name": "airflow-market-data", "connect_timeout": CONNECTING, "tcp_user_timeout": WAITING * 1000}
    found = replace(found, extra={**usual, **found.extra})
    return PostgresStore(partial(PostgresConnector(), found), account, connection.conn_id)


def _redis(connection: Any, account: str) -> Store:
    from market_data.http.redis_store import RedisStore

    name, extra = f"connection {connection.conn_id!r}", connection.extra_dejson
    if find_spec("redis") is None:
        raise ConfigError(
            f"{name}: conn_type is 'redis', but the package redis is not installed: pip install 'airflow-market-data[redis]'"
        )
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
        "host": connection.host or "localhost",
        "port": connection.port or REDIS_PORT,
        "db": int(database),
        "username": connection.login or None,
        "password": connection.password or None,
        "socket_connect_timeout": CONNECTING,
        "socket_timeout": WAITING,
        "client_name": "airflow-market-data",
    }
    return RedisStore(fields, account, connection.conn_id)


STORES: Mapping[str, Callable[[Any, str], Store]] = {"postgres": _postgres, "redis": _redis}
"""conn_type -> the store."""
