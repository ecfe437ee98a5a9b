"""Parameters of a Polygon request: dates, moments, filters, cursors."""

from __future__ import annotations

import base64
import binascii
import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from market_data.core.calendar import FIRST, NEW_YORK
from sandbox.vendors.base import BadParameterError
from sandbox.vendors.messages import VendorRequest

DAY = timedelta(days=1)
FAR = date.max - DAY  # the day after it can still be computed

Row = dict[str, Any]


@lru_cache(maxsize=65_536)
def midnight(session: date) -> int:
    """Return 00:00 New York in milliseconds, the range endpoint's stamp for a session."""
    return int(datetime.combine(session, time(), NEW_YORK).timestamp()) * 1000


@lru_cache(maxsize=65_536)
def closing(session: date) -> int:
    """Return 16:00 New York in milliseconds, the grouped endpoint's stamp, also for half days."""
    return int(datetime.combine(session, time(16), NEW_YORK).timestamp()) * 1000


def as_date(text: str, name: str) -> date:
    """Parse ``YYYY-MM-DD``, or Unix milliseconds to their New York date."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return min(date.fromisoformat(text), FAR)
        return min(datetime.fromtimestamp(int(text) / 1000, UTC).astimezone(NEW_YORK).date(), FAR)
    except (ValueError, OverflowError, OSError):
        raise BadParameterError(f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps") from None


def moment_of(text: str, name: str, *, inclusive: bool = False) -> int:
    """Return milliseconds: those given, or of the begin of a date (``inclusive``: of its end)."""
    day = as_date(text, name)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return midnight(day + DAY) - 1 if inclusive else midnight(day)


def date_span(query: Mapping[str, str], name: str) -> tuple[date, date]:
    """Return the dates that the filters of a field leave, the end exclusive."""
    first = max((query[key] for key in (name, f"{name}.gte", f"{name}.gt") if key in query), default=None)
    last = min((query[key] for key in (name, f"{name}.lte", f"{name}.lt") if key in query), default=None)
    return (date_of(first, name) if first else FIRST), (date_of(last, name) + DAY if last else FAR)


def ticker_of(query: Mapping[str, str]) -> list[str] | None:
    """Return the requested symbol, or None if all are requested."""
    return [query["ticker"]] if "ticker" in query else None


def date_of(text: str, name: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise BadParameterError(f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD")
    return as_date(text, name)


COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
}


def filtered(rows: list[Row], parameter: str, text: str) -> list[Row]:
    """Return the rows that pass a filter such as ``pay_date.gte``; an unknown filter passes all."""
    name, _, word = parameter.partition(".")
    if not rows or name not in rows[0] or word not in COMPARE:
        return rows
    kind = type(rows[0][name])
    if name.endswith("_date"):
        date_of(text, parameter)
    try:
        wanted = text == "true" if kind is bool else kind(text)
    except ValueError:
        raise BadParameterError(f"Could not parse the parameter '{parameter}'") from None
    return [row for row in rows if COMPARE[word](row[name], wanted)]


def as_cursor(query: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")


def cursor_of(request: VendorRequest) -> dict[str, str]:
    text = request.query.get("cursor", "")
    try:
        return dict(
            parse_qsl(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode(), strict_parsing=bool(text))
        )
    except (binascii.Error, ValueError):
        raise BadParameterError("Could not parse the parameter 'cursor'") from None


def flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    return {"true": True, "false": False, "": default}[choice(query, name, ("", "true", "false"))]


def choice(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = query.get(name, allowed[0]).lower()
    if value not in allowed:
        raise BadParameterError(f"Could not parse the parameter '{name}'. Use one of: {', '.join(filter(None, allowed))}")
    return value


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise BadParameterError(f"The parameter 'limit' must be a number from 1 to {most}")
    return int(text)
