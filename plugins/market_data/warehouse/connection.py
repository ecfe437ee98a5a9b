"""The place of a warehouse, and how an engine gets the driver's connection to it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from market_data.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WarehouseConnection:
    """The fields of an Airflow connection that names a warehouse.

    :param conn_type: the engine.
    :param schema: as Airflow has it: the tables' owner for ``oracle``, the database for ``postgres``.
    :param extra: the engine's own settings, e.g. ``path`` for ``duckdb``. May hold secrets, so ``repr`` leaves it out.
    """

    conn_type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Connector(Protocol):
    """Open the driver's connection to a server.

    The engine hands in settings that it has checked and raises ``WarehouseError`` for the driver's errors.
    """

    @property
    def extras(self) -> Set[str]:
        """Keys of ``extra`` that the connector reads and the driver does not know."""

    def __call__(self, connection: WarehouseConnection) -> Any:
        """Return a new connection of the engine's driver."""


def number(connection: WarehouseConnection, name: str, default: float, least: float) -> float:
    """Return a number from a connection's ``extra``, or ``default`` where it is not set.

    :raises ConfigError: it is not a number, or below ``least``.
    """
    value = connection.extra.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ConfigError(f"warehouse connection: extra.{name} is {value!r}; a number from {least:g} on is needed")
    return float(value)


def required(connect: Connector | None, connection: WarehouseConnection) -> Connector:
    """Return ``connect``.

    :raises ConfigError: it is missing.
    """
    if connect is None:
        raise ConfigError(
            f"warehouse connection: {connection.conn_type} needs a connector; pass one of market_data.airflow.warehouse_connections"
        )
    return connect
