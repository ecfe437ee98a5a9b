"""An Oracle Database for the tests: the double, or a real server where ORACLE_TEST_DSN, ORACLE_TEST_USER and ORACLE_TEST_PASSWORD say so.

On a real server, all objects of that user that are called as ours are dropped before each test: give it a user of its own. What orders
faults runs on the double only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import oracledb

from market_data.warehouse import WarehouseConnection
from tests.services.oracle_double import OracleDouble

USER, PASSWORD = "lake", "p@ss/w:rd %s'=?&#"
"""Awkward, so that what puts it into a URL fails."""
LIVE = [os.environ.get(f"ORACLE_TEST_{name}", "") for name in ("DSN", "USER", "PASSWORD")]
OURS = "REGEXP_LIKE({}, '^((BRONZE|SILVER|STAGE|GOLD)_.*|LOAD_AUDIT|SCHEMA_VERSION|MARKET_SESSIONS|SYMBOL_CALENDARS)$')"


@contextmanager
def empty_database(folder: Path) -> Iterator[WarehouseConnection]:
    """A database without any of our tables. At its end nobody may be connected any more.

    :param folder: the test's own; not needed here.
    """
    if all(LIVE):
        dsn, user, password = LIVE
        with oracledb.connect(dsn=dsn, user=user, password=password) as connection:
            _drop(connection)
        yield WarehouseConnection("oracle", login=user, password=password, extra={"dsn": dsn})
    else:
        with empty_double() as double:
            yield connection_to(double)


@contextmanager
def empty_double(**options: Any) -> Iterator[OracleDouble]:
    """A double. At its end nobody may be connected any more."""
    with OracleDouble(user=USER, password=PASSWORD, **options) as double:
        yield double
        assert until_closed(double) == 0, "connections are left open"


def connection_to(double: OracleDouble, **extra: Any) -> WarehouseConnection:
    """The connection to ``double``, by host and service; with a ``dsn``, by that."""
    if "dsn" in extra:
        return WarehouseConnection("oracle", login=USER, password=PASSWORD, extra=extra)
    where = {"service_name": double.service_name}
    return WarehouseConnection("oracle", double.host, double.port, login=USER, password=PASSWORD, extra=where | extra)


def session_of(double: OracleDouble) -> oracledb.Connection:
    """Open another session on ``double``, beside those of a warehouse."""
    return oracledb.connect(
        host=double.host, port=double.port, service_name=double.service_name, user=USER, password=PASSWORD
    )  # fmt: skip


def until_closed(double: OracleDouble) -> int:
    """How many sessions are open; a closed connection takes the server a moment to notice."""
    deadline = time.monotonic() + 10
    while double.sessions and time.monotonic() < deadline:
        time.sleep(0.005)
    return double.sessions


def _drop(connection: oracledb.Connection) -> None:
    with connection.cursor() as cursor:
        for kind in ("view", "table"):
            found = cursor.execute(f"SELECT {kind}_name FROM user_{kind}s WHERE {OURS.format(f'{kind}_name')}").fetchall()
            for (name,) in found:
                cursor.execute(f'DROP {kind} "{name}"' + " PURGE" * (kind == "table"))
