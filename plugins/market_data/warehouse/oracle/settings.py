"""The settings of an Oracle connection, checked before anybody connects."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from market_data.warehouse.connection import WarehouseConnection

OURS = ("chunk_rows", "call_timeout")
"""Keys of ``extra`` that only this engine reads."""
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_$#]{0,127}")
HOST = re.compile(r"[^\s/?@()=]+")
ALIAS = re.compile(r"[\w.-]+")


def problems(connection: WarehouseConnection) -> Iterator[str]:
    """Yield every problem of the settings, in words without secrets."""
    extra = connection.extra
    texts = ("dsn", "service_name", "sid", "wallet_location", "wallet_password")
    if wrong := [name for name in texts if not isinstance(extra.get(name, ""), str)]:
        yield f"extra.{', extra.'.join(wrong)} must be text"
        return
    yield from (f"{name} is empty" for name in ("login", "password") if not getattr(connection, name))
    yield from _where(connection)
    if connection.schema and not IDENTIFIER.fullmatch(connection.schema):
        yield f"schema is {connection.schema!r}; the owner of the tables is needed: letters, digits, _ $ #; or nothing"
    if extra.get("wallet_location"):
        yield from _wallet(extra)


def _where(connection: WarehouseConnection) -> Iterator[str]:
    dsn, names = connection.extra.get("dsn"), [n for n in ("service_name", "sid") if connection.extra.get(n)]
    if dsn:
        if "@" in dsn:
            yield "extra.dsn holds a @; user and password belong into login and password"
        if beside := [*(["host"] if connection.host else []), *(f"extra.{name}" for name in names)]:
            yield f"{', '.join(beside)} beside extra.dsn; only one of them can say where the database is"
    elif not connection.host:
        yield "neither host nor extra.dsn says where the database is"
    elif not HOST.fullmatch(connection.host):
        yield "host is no name or address; a connect string belongs into extra.dsn"
    elif len(names) == 2:
        yield "extra.service_name and extra.sid are both given; one is needed"
    elif not names and connection.schema:
        yield (
            f"extra.service_name is missing; schema {connection.schema!r} is the owner of the tables here. "
            "If it is the service's name, move it to extra.service_name"
        )
    elif not names:
        yield "extra.service_name or extra.sid is missing; host and port alone name no database"


def _wallet(extra: Mapping[str, Any]) -> Iterator[str]:
    dsn, pem = extra.get("dsn", ""), Path(extra["wallet_location"]) / "ewallet.pem"
    if "tcps" not in dsn.lower() and not ALIAS.fullmatch(dsn):
        yield "extra.wallet_location would be ignored; it needs an extra.dsn of PROTOCOL=TCPS"
    if str(extra.get("thick_mode")).lower() == "true":
        return  # the client library reads the wallet's other file
    try:
        if "PRIVATE KEY" in pem.read_text():
            # the driver goes on without the key if it cannot read it; without a password it would ask the terminal for one
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pem, password=extra.get("wallet_password") or "")
    except ssl.SSLError:
        yield f"extra.wallet_password does not open the key in {pem}"
    except (OSError, UnicodeDecodeError):
        yield f"extra.wallet_location: {pem} cannot be read; the driver needs it, and takes no cwallet.sso"


def for_driver(connection: WarehouseConnection) -> WarehouseConnection:
    """Return the connection without the settings that only this engine reads, ``schema`` included.

    The hook would also take ``schema`` for the name of a service.
    """
    extra = {name: value for name, value in connection.extra.items() if name not in OURS}
    return replace(connection, schema="", extra=extra)
