"""Polygon's (Massive's) dialect: the two daily endpoints, paging, and the bodies of errors."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from include.local.sample_api.answer import Answer, Request
from include.local.sample_api.bars import Bar, Prices
from include.local.sample_api.edits import Edits
from market_data.calendar import NEW_YORK

DEFAULT_LIMIT, MAX_LIMIT = 5000, 50_000
DAY = timedelta(days=1)
FAR = date.max - DAY  # the day after it can still be computed

UNKNOWN_KEY = "Unknown API Key"
NO_KEY = "API Key was not provided"
# Both are said of data that the plan never has; the second also of a session that it does not have yet, and of a future date.
NOT_ENTITLED = "You are not entitled to this data. Please upgrade your plan at https://polygon.io/pricing"
NO_TIMEFRAME = "Your plan doesn't include this data timeframe. Please upgrade your plan at https://polygon.io/pricing"
TOO_MANY = "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. https://polygon.io/pricing"


class BadParameterError(Exception):
    """A parameter that the vendor answers 400 to."""


def error(request: Request, status: int, message: str, *, word: str = "ERROR", field: str = "error") -> Answer:
    """An error answer in the vendor's shape: ``word`` in ``status``, the message under ``field`` (``error`` or ``message``)."""
    return Answer(request, status, {"status": word, field: message})


def throttled(request: Request, retry_after: float | str | None = None) -> Answer:
    """429; the vendor is not known to send ``Retry-After`` (seconds, or a date in words)."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return replace(error(request, 429, TOO_MANY), headers=headers)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the endpoints answer from.

    :param cursor_keeps_adjusted: whether ``adjusted=false`` survives in the cursor of ``next_url``. Not known of the vendor.
        Without it, the next page is adjusted unless the client says ``adjusted=false`` again.
    """

    prices: Prices
    edits: Edits
    cursor_keeps_adjusted: bool = False

    def answer(self, endpoint: str, request: Request, found: Mapping[str, str]) -> Answer:
        """The answer of the endpoint that `route` found."""
        try:
            return ENDPOINTS[endpoint].answer(self, request, found)
        except BadParameterError as bad:
            return error(request, 400, str(bad))

    def range(self, request: Request, found: Mapping[str, str]) -> Answer:
        """Bars of one symbol, both dates inclusive."""
        if (found["multiplier"], found["timespan"]) != ("1", "day"):
            raise BadParameterError(f"this server has range/1/day only, not range/{found['multiplier']}/{found['timespan']}")
        query = {**_cursor(request), **request.query}
        adjusted = _flag(query, "adjusted", default=True)
        descending = _choice(query, "sort", ("asc", "desc")) == "desc"
        limit = _limit(query)
        start, last = as_date(found["start"], "from"), as_date(found["end"], "to")
        if last < start:
            raise BadParameterError("The parameter 'to' cannot be a time that occurs before 'from'")

        bars = self.edits.apply(self.prices.range(found["ticker"], start, last + DAY))
        page = (bars[::-1] if descending else bars)[:limit]
        rows = [_row(bar, adjusted, midnight(bar.session)) for bar in page]
        body = {"ticker": found["ticker"], **_summary(rows, adjusted)}
        if len(page) < len(bars):
            body["next_url"] = self._next_url(request, found, page[-1].session, limit, adjusted=adjusted, descending=descending)
        return Answer(request, 200, body, source=self._source(page))

    def grouped(self, request: Request, found: Mapping[str, str]) -> Answer:
        """Bars of all symbols of one session."""
        adjusted = _flag(request.query, "adjusted", default=True)
        bars = self.edits.apply(self.prices.session(as_date(found["date"], "date")))
        rows = [{"T": bar.symbol, **_row(bar, adjusted, closing(bar.session))} for bar in bars]
        return Answer(request, 200, _summary(rows, adjusted), source=self._source(bars))

    def _next_url(
        self, request: Request, found: Mapping[str, str], reached: date, limit: int, *, adjusted: bool, descending: bool
    ) -> str:
        """The same path, its ``from`` (``to``, descending) put behind what was reached, and a cursor; without the key."""
        start, end = found["start"], found["end"]
        if descending:
            end = str(midnight(reached - DAY))
        else:
            start = str(midnight(reached + DAY))
        kept = {"adjusted": "false"} if self.cursor_keeps_adjusted and not adjusted else {}
        query = urlencode({**kept, "limit": limit, "sort": "desc" if descending else "asc"})
        cursor = base64.urlsafe_b64encode(query.encode()).decode().rstrip("=")
        return f"{request.base}/v2/aggs/ticker/{quote(found['ticker'])}/range/1/day/{start}/{end}?cursor={cursor}"

    def _source(self, bars: Sequence[Bar]) -> str:
        return "+".join(sorted({bar.source for bar in bars}, reverse=True)) or self.prices.default_source


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint: the pattern of its path, and the method that answers."""

    pattern: re.Pattern[str]
    answer: Callable[[Dialect, Request, Mapping[str, str]], Answer]


ENDPOINTS = {
    "range": Route(
        re.compile(
            r"/v2/aggs/ticker/(?P<ticker>[^/]+)/range/(?P<multiplier>[^/]+)/(?P<timespan>[^/]+)/(?P<start>[^/]+)/(?P<end>[^/]+)"
        ),
        Dialect.range,
    ),
    "grouped": Route(re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/(?P<date>[^/]+)"), Dialect.grouped),
}


def route(path: str) -> tuple[str, dict[str, str]] | None:
    """The endpoint's name and the parts of ``path``, or None where there is no such endpoint."""
    for name, endpoint in ENDPOINTS.items():
        if found := endpoint.pattern.fullmatch(path):
            return name, found.groupdict()
    return None


def last_date(request: Request) -> date | None:
    """The last date that a call asks for, or None where it is not of these endpoints."""
    _, found = route(request.path) or ("", {})
    try:
        return as_date(found.get("end") or found["date"], "to")
    except (KeyError, BadParameterError):
        return None


@lru_cache(maxsize=65_536)
def midnight(session: date) -> int:
    """Milliseconds of 00:00 New York: what the range endpoint stamps a session with."""
    return int(datetime.combine(session, time(), NEW_YORK).timestamp()) * 1000


@lru_cache(maxsize=65_536)
def closing(session: date) -> int:
    """Milliseconds of 16:00 New York: what the grouped endpoint stamps a session with, half days too."""
    return int(datetime.combine(session, time(16), NEW_YORK).timestamp()) * 1000


def _row(bar: Bar, adjusted: bool, stamp: int) -> dict[str, Any]:
    shown = bar.adjusted if adjusted else bar
    vwap = {} if shown.vwap is None else {"vw": shown.vwap}
    trades = {} if shown.trades is None else {"n": shown.trades}
    return {"v": shown.volume, **vwap, "o": shown.open, "c": shown.close, "h": shown.high, "l": shown.low, "t": stamp, **trades}


def _summary(rows: list[dict[str, Any]], adjusted: bool) -> dict[str, Any]:
    results = {"results": rows} if rows else {}
    counts = {"queryCount": len(rows), "resultsCount": len(rows)}
    return {**counts, "adjusted": adjusted, **results, "status": "OK", "count": len(rows)}


def as_date(text: str, name: str) -> date:
    """The date in ``YYYY-MM-DD`` or the New York date of Unix milliseconds."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return min(date.fromisoformat(text), FAR)
        return min(datetime.fromtimestamp(int(text) / 1000, UTC).astimezone(NEW_YORK).date(), FAR)
    except (ValueError, OverflowError, OSError):
        raise BadParameterError(f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps") from None


def _cursor(request: Request) -> dict[str, str]:
    text = request.query.get("cursor", "")
    try:
        return dict(
            parse_qsl(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode(), strict_parsing=bool(text))
        )
    except (binascii.Error, ValueError):
        raise BadParameterError("Could not parse the parameter 'cursor'") from None


def _flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    return {"true": True, "false": False, "": default}[_choice(query, name, ("", "true", "false"))]


def _choice(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = query.get(name, allowed[0]).lower()
    if value not in allowed:
        raise BadParameterError(f"Could not parse the parameter '{name}'. Use one of: {', '.join(filter(None, allowed))}")
    return value


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise BadParameterError(f"The parameter 'limit' must be a number from 1 to {MAX_LIMIT}")
    return int(text)
