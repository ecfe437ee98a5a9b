"""Alpaca's dialect: bars of many symbols, sorted by symbol and time, paged with a serial token."""

from __future__ import annotations

import base64
import binascii
import math
import re
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

from market_data.core.calendar import FIRST, NEW_YORK
from market_data.core.spelling import CANONICAL
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.vendors import alpaca_actions, alpaca_faults
from sandbox.vendors.base import BadParameterError, Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.quota import RollingQuota

DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000
DAY = timedelta(days=1)
BATCH = 32  # sessions whose minutes are made at once
IEX_SHARE = 0.035  # of the consolidated volume

NO_KEY = "access key verification failed"
UNKNOWN_KEY = "unauthorized."
FORBIDDEN = "forbidden."
NOT_RECENT = "subscription does not permit querying recent SIP data"

SYMBOL = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,3}){0,3}")
TIMEFRAMES = {"1Day": 0, "1D": 0, "1Min": 1, "1T": 1, "5Min": 5, "5T": 5}  # in minutes, 0 is a session
CONSOLIDATED, OTHERS = ("sip",), ("otc", "boats")
FEEDS = (*CONSOLIDATED, "iex", *OTHERS)
ADJUSTMENTS = ("raw", "split", "dividend", "spin-off", "all")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """Parsed parameters of a bars request.

    :param symbols: each once, ascending.
    :param size: minutes of a bar, 0 for a session.
    :param start, end: both inclusive, UTC.
    """

    symbols: Sequence[str]
    size: int
    start: datetime
    end: datetime
    limit: int
    feed: str
    adjusted: bool


class Alpaca(Vendor):
    """Alpaca.

    An adjusted price of any kind is scaled to the adjusted close. No symbol is traded over the counter. A key is valid when its
    secret is.

    :param page_rows: rows that a page holds at most, whatever the limit: pages may be shorter.
    :param embargo: seconds for which consolidated bars are refused; 900 on the vendor's free plan.
    :param bare: what it says of a malformed symbol is without ``code=400``; both forms are seen.
    """

    name = "alpaca"
    spelling = CANONICAL
    routes: ClassVar = {"/v2/stocks/bars": "bars", "/v1/corporate-actions": "actions"}
    words: ClassVar = {401: UNKNOWN_KEY, 403: FORBIDDEN, 404: "endpoint not found.", 429: "too many requests."}
    no_key = NO_KEY
    faults = alpaca_faults.KINDS

    def __init__(
        self, market: Market, quota: RollingQuota, *, page_rows: int = MAX_LIMIT, embargo: float = 0.0, bare: bool = False
    ) -> None:
        super().__init__(market, quota)
        self.page_rows, self.embargo, self.bare = page_rows, timedelta(seconds=embargo), bare

    @classmethod
    def connection(cls, url: str, api_key: str) -> dict[str, Any]:
        return {**super().connection(url, api_key), "conn_login": "sample"}

    def key(self, request: VendorRequest) -> str | None:
        return request.headers.get("apca-api-secret-key") if request.headers.get("apca-api-key-id") else None

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        return VendorResponse(request, status, {"message": message})

    def headers(self, response: VendorResponse) -> dict[str, str]:
        standing = self.quota.standing()
        if standing is None:
            return super().headers(response)
        known = {"Limit": standing.limit, "Remaining": standing.remaining, "Reset": math.ceil(clock.time() + standing.reset)}
        return super().headers(response) | {f"X-RateLimit-{name}": str(value) for name, value in known.items()}

    def subject(self, request: VendorRequest, _found: Mapping[str, str]) -> tuple[str | None, str | None]:
        symbols = request.query.get("symbols", "").split(",")
        return (symbols[0] or None) if len(symbols) == 1 else None, None

    def bars(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        """Return a page of bars; ``limit`` counts the rows of all symbols together."""
        query = self._query(request.query)
        count = min(query.limit, self.page_rows)
        found = list(islice(self._rows(query, _after(request.query.get("page_token", ""), query)), count + 1))
        page = found[:count]
        bars: dict[str, list[Row]] = {}
        for bar, row in page:
            bars.setdefault(bar.symbol, []).append(row)
        token = self.token(request, page[-1][0].symbol, datetime.fromisoformat(page[-1][1]["t"])) if found[count:] else None
        source = "generated" if query.size and page else self.market.source(bar for bar, _ in page)
        return VendorResponse(request, 200, {"bars": bars, "next_page_token": token}, source=source)

    def actions(self, request: VendorRequest, _found: Mapping[str, str]) -> VendorResponse:
        """Return a page of corporate actions.

        ``start`` and ``end`` select by the date of processing, both inclusive.
        """
        return VendorResponse(request, 200, alpaca_actions.page(self.market, request.query), source="generated")

    def token(self, request: VendorRequest, symbol: str, moment: datetime) -> str:
        """Return the token of the page that begins after this row of ``symbol``."""
        letter = "M" if TIMEFRAMES[request.query["timeframe"]] else "D"
        return base64.b64encode(f"{symbol}|{letter}|{moment:%Y-%m-%dT%H:%M:%S.%f}000Z".encode()).decode()

    def _query(self, query: Mapping[str, str]) -> BarsQuery:
        symbols = self._symbols(query)
        if query.get("timeframe") not in TIMEFRAMES:
            raise BadParameterError(f"invalid timeframe: {query.get('timeframe')}; this server has {', '.join(TIMEFRAMES)}")
        if (feed := query.get("feed", "sip")) not in FEEDS:
            raise BadParameterError(f"invalid feed: {feed}")
        adjustments = query.get("adjustment", "raw").split(",")
        if any(kind not in ADJUSTMENTS for kind in adjustments):
            raise BadParameterError(f"invalid adjustment: {query['adjustment']}")
        if query.get("sort", "asc") != "asc":
            raise BadParameterError("this server has sort=asc only")
        limit = query.get("limit", str(DEFAULT_LIMIT))
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
            raise BadParameterError(f"invalid limit: {limit}; 1 to {MAX_LIMIT} are allowed")
        now = self.market.now()
        allowed = now - self.embargo if feed in CONSOLIDATED else now
        start = _moment(query, "start", datetime.combine(now.astimezone(NEW_YORK), time(), NEW_YORK))
        end = _moment(query, "end", allowed)
        if self.embargo and end > allowed:
            raise BadParameterError(NOT_RECENT, 403)
        if end < start:
            raise BadParameterError("end should not be before start")
        return BarsQuery(symbols, TIMEFRAMES[query["timeframe"]], start, end, int(limit), feed, adjustments != ["raw"])

    def _symbols(self, query: Mapping[str, str]) -> list[str]:
        symbols = sorted(set(filter(None, query.get("symbols", "").split(","))))
        if not symbols:
            raise BadParameterError("symbols is required")
        for symbol in symbols:
            if not SYMBOL.fullmatch(symbol):
                raise BadParameterError(f"{'' if self.bare else 'code=400, message='}invalid symbol: {symbol}")
        return symbols

    def _rows(self, query: BarsQuery, after: tuple[str, datetime] | None) -> Iterator[tuple[DailyBar, Row]]:
        """The rows behind ``after``, each with its daily bar, made as they are needed."""
        for symbol in () if query.feed in OTHERS else query.symbols:
            if after and symbol < after[0]:
                continue
            begin = after[1] + timedelta(microseconds=1) if after and symbol == after[0] else query.start
            bars = self.market.range(symbol, max(_day(begin), FIRST), _day(query.end) + DAY)
            if query.adjusted:
                bars = [bar.adjusted for bar in bars]
            for bar, values in self._minutes(bars, query.size) if query.size else ((bar, _daily(bar)) for bar in bars):
                if begin <= values[0] <= query.end:
                    yield bar, _row(*values, query.feed)

    def _minutes(self, bars: Sequence[DailyBar], size: int) -> Iterator[tuple[DailyBar, tuple[Any, ...]]]:
        for place in range(0, len(bars), BATCH):
            found = self.market.minutes(bars[place : place + BATCH], size)
            moments = (moment.replace(tzinfo=UTC) for moment in (found.time // 1000).astype("datetime64[us]").tolist())
            columns = (found.open, found.high, found.low, found.close, found.volume, found.trades, found.vwap)
            for cell, *values in zip(found.cell.tolist(), moments, *(column.tolist() for column in columns), strict=True):
                yield bars[place + cell], tuple(values)


VENDOR = Alpaca


def _daily(bar: DailyBar) -> tuple[Any, ...]:
    return midnight(bar.session), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.vwap


def _row(
    moment: datetime,
    open_: float | None,
    high: float | None,
    low: float | None,
    close: float | None,
    volume: float | None,
    trades: int | None,
    vwap: float | None,
    feed: str,
) -> Row:
    """Return a bar in the vendor's format, null for unknown values.

    IEX has the same prices and a small part of the volume.
    """
    if feed == "iex":
        volume, trades = _part(volume), _part(trades)
    return {"c": close, "h": high, "l": low, "n": trades, "o": open_, "t": _text(moment), "v": volume, "vw": vwap}


def _part(amount: float | None) -> int | None:
    return None if amount is None else math.ceil(amount * IEX_SHARE)


@lru_cache(maxsize=65_536)
def midnight(session: date) -> datetime:
    """Return 00:00 New York in UTC, the time stamp of a daily bar."""
    return datetime.combine(session, time(), NEW_YORK).astimezone(UTC)


def last_date(request: VendorRequest) -> date:
    """Return the last New York date of the requested range."""
    return _day(_moment(request.query, "end", datetime.max.replace(tzinfo=UTC) - DAY))


def _after(token: str, query: BarsQuery) -> tuple[str, datetime] | None:
    """Symbol and moment of the row that a token's page begins behind."""
    if not token:
        return None
    try:
        symbol, _, stamp = base64.b64decode(token, validate=True).decode().split("|")
        moment = datetime.fromisoformat(f"{stamp[:-4]}Z")
    except (binascii.Error, ValueError):
        raise BadParameterError("invalid page token") from None
    if symbol not in query.symbols:
        raise BadParameterError("invalid page token")
    return symbol, moment


def _moment(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    """A moment, or a date: its midnight in New York."""
    text = query.get(name)
    if text is None:
        return default
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return midnight(date.fromisoformat(text))
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadParameterError(f"invalid {name}: {text}") from None
    if moment.tzinfo is None:
        raise BadParameterError(f"invalid {name}: {text}")
    return moment.astimezone(UTC)


def _day(moment: datetime) -> date:
    return moment.astimezone(NEW_YORK).date()


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
