"""The settings of a PostgreSQL connection, checked before anybody connects."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from psycopg.pq import Conninfo

from market_data.core.errors import ConfigError
from market_data.warehouse.connection import WarehouseConnection, number

LOCK_TIMEOUT, STATEMENT_TIMEOUT = 300.0, 3600.0

OURS = {"chunk_rows", "lock_timeout", "statement_timeout"}
# A server that is gone without a word is noticed after two minutes, whether we wait for it or send. Numbers only: of the texts among the
# extras Airflow's connection makes secrets, and every log would show them as ***.
DRIVER = {
    "connect_timeout": 30,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 120_000,
}


def check(connection: WarehouseConnection, extras: Set[str], name: str = "warehouse connection") -> None:
    """Check the connection's fields and the keys of its ``extra``.

    :param extras: keys that the connector reads.
    :param name: of the connection, for messages.
    :raises ConfigError: a field is wrong, or nobody reads a key of ``extra``.
    """
    for field, what in {"host": "the server's name", "schema": "the name of a database", "login": "a role"}.items():
        value = getattr(connection, field)
        if not value or "://" in value or (field == "host" and "@" in value):  # a URL may hold a password, so it is not shown
            raise ConfigError(f"{name}: {field} is {'a URL' if value else 'empty'}; {what} is needed")
    port = connection.port
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        raise ConfigError(f"{name}: port is {port!r}; a number from 1 to 65535, or none for 5432, is needed")
    of_driver = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"host", "port", "dbname", "user", "password"}
    known = OURS | extras | of_driver
    if unknown := sorted(set(connection.extra) - known):
        raise ConfigError(
            f"{name}: extra has {', '.join(unknown)}; allowed: {', '.join(sorted(OURS))}, what Airflow's PostgresHook"
            " reads, and libpq's parameter key words that are no field of the connection"
        )


def for_driver(connection: WarehouseConnection) -> WarehouseConnection:
    """Return the connection with the driver's defaults, without settings that only this engine reads."""
    extra = {name: value for name, value in connection.extra.items() if name not in OURS}
    return replace(connection, extra=DRIVER | extra)


def milliseconds(connection: WarehouseConnection, name: str, default: float) -> str:
    """Return a time-out of ``extra``, given in seconds, in milliseconds as text. 0 (none) is not allowed."""
    return str(min(round(number(connection, name, default, 0.001) * 1000), 2**31 - 1))
