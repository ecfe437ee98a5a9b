"""Polygon's (Massive's) dialect: aggregates by ticker or by session, and reference data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from market_data.core.calendar import FIRST
from market_data.core.spelling import CQS
from market_data.datasets import generated
from market_data.datasets.generated import Minutes
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.vendors import polygon_faults
from sandbox.vendors.base import BadParameterError, Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.polygon_parameters import (
    DAY,
    Row,
    as_cursor,
    as_date,
    choice,
    closing,
    cursor_of,
    date_span,
    filtered,
    flag,
    limit_of,
    midnight,
    moment_of,
    ticker_of,
)
from sandbox.vendors.quota import RollingQuota

DEFAULT_LIMIT, MAX_LIMIT = 5000, 50_000
MAX_REFERENCES, MAX_ACTIONS = 1000, 5000
DISTRIBUTIONS = {"CD": "recurring", "SC": "special"}
"""The words of the successor endpoint for the types of the deprecated one."""
MINUTE = 60_000  # in milliseconds
BATCH = 64  # sessions whose minutes are made at once

UNKNOWN_KEY = "Unknown API Key"
NO_KEY = "API Key was not provided"
# Both refuse data outside the plan; the second also refuses a session that is not available yet, and a future date.
NOT_ENTITLED = "You are not entitled to this data. Please upgrade your plan at https://polygon.io/pricing"
NO_TIMEFRAME = "Your plan doesn't include this data timeframe. Please upgrade your plan at https://polygon.io/pricing"
TOO_MANY = "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. https://polygon.io/pricing"

Found = Mapping[str, str]


class Polygon(Vendor):
    """Polygon.

    :param cursor_keeps_adjusted: whether ``adjusted=false`` survives in the cursor of ``next_url``. Not known of the vendor.
        Without it, the next page is adjusted unless the client says ``adjusted=false`` again.
    """

    name = "polygon"
    spelling = CQS
    routes: ClassVar = {
        "/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{start}/{end}": "range",
        "/v2/aggs/grouped/locale/us/market/stocks/{date}": "grouped",
        "/v3/reference/tickers": "tickers",
        "/vX/reference/tickers/{ticker}/events": "events",
        "/v3/reference/splits": "splits",
        "/v3/reference/dividends": "dividends",
        "/stocks/v1/splits": "splits",
        "/stocks/v1/dividends": "dividends",
    }
    words: ClassVar = {401: UNKNOWN_KEY, 403: NOT_ENTITLED, 404: "Data not found.", 429: TOO_MANY}
    no_key = NO_KEY
    key_parameter = "apiKey"
    faults = polygon_faults.KINDS

    def __init__(self, market: Market, quota: RollingQuota, *, cursor_keeps_adjusted: bool = False) -> None:
        super().__init__(market, quota)
        self.cursor_keeps_adjusted = cursor_keeps_adjusted

    @classmethod
    def connection(cls, url: str, api_key: str) -> dict[str, Any]:
        return {**super().connection(url, api_key), "conn_host": url}  # it is served at the root

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        """Put the message under ``message`` for 403 and 404, otherwise under ``error``."""
        word, field = {403: ("NOT_AUTHORIZED", "message"), 404: ("NOT_FOUND", "message")}.get(status, ("ERROR", "error"))
        return VendorResponse(request, status, {"status": word, field: message})

    def subject(self, request: VendorRequest, found: Found) -> tuple[str | None, str | None]:
        return found.get("ticker") or request.query.get("ticker"), found.get("date")

    def encode(self, response: VendorResponse) -> bytes:
        text = json.dumps({**response.body, "request_id": response.request_id}, separators=(",", ":"))
        return _LARGE_VOLUME.sub(lambda found: f'"v":{_exponent(found[1])}', _ZERO_FRACTION.sub("", text)).encode()

    # aggregates

    def range(self, request: VendorRequest, found: Found) -> VendorResponse:
        """Return minute or daily bars of one symbol, both ends inclusive."""
        query = {**cursor_of(request), **request.query}
        adjusted = flag(query, "adjusted", default=True)
        descending = choice(query, "sort", ("asc", "desc")) == "desc"
        limit = limit_of(query, DEFAULT_LIMIT, MAX_LIMIT)
        if as_date(found["end"], "to") < as_date(found["start"], "from"):
            raise BadParameterError("The parameter 'to' cannot be a time that occurs before 'from'")
        if (found["multiplier"], found["timespan"]) == ("1", "day"):
            rows, count, reached, source = self._days(found, limit, adjusted=adjusted, descending=descending)
        elif found["timespan"] == "minute" and found["multiplier"].isdecimal() and 1 <= int(found["multiplier"]) <= 60:
            rows, count, reached, source = self._minutes(found, limit, adjusted=adjusted, descending=descending)
        else:
            unsupported = f"range/{found['multiplier']}/{found['timespan']}"
            raise BadParameterError(f"this server has range/1/day and range/1..60/minute only, not {unsupported}")
        body = {"ticker": found["ticker"], **_summary(rows, count, adjusted)}
        if reached is not None:
            body["next_url"] = self._next_range(request, found, reached, limit, adjusted=adjusted, descending=descending)
        return VendorResponse(request, 200, body, source=source)

    def _days(self, found: Found, limit: int, *, adjusted: bool, descending: bool) -> tuple[list[Row], int, int | None, str]:
        """Return a page: rows, base bar count, start of the next page (None: last page), source."""
        bars = self.market.range(found["ticker"], as_date(found["start"], "from"), as_date(found["end"], "to") + DAY)
        page = (bars[::-1] if descending else bars)[:limit]
        rows = [_row(bar, adjusted, midnight(bar.session)) for bar in page]
        reached = midnight(page[-1].session + (-DAY if descending else DAY)) if len(page) < len(bars) else None
        return rows, len(rows), reached, self.market.source(page)

    def _minutes(self, found: Found, limit: int, *, adjusted: bool, descending: bool) -> tuple[list[Row], int, int | None, str]:
        """As `_days`. ``limit`` counts minutes, not bars; a bar that it would cut begins the next page."""
        bars = self.market.range(found["ticker"], as_date(found["start"], "from"), as_date(found["end"], "to") + DAY)
        size, span = int(found["multiplier"]), (moment_of(found["start"], "from"), moment_of(found["end"], "to", inclusive=True))
        base = self._some_minutes(bars, span, limit + size, descending=descending)
        bucket, end, reached = base.time // (size * MINUTE * 1_000_000), len(base.time), None
        if end > limit:
            cut = np.flatnonzero(bucket == bucket[limit])
            end = int(cut[0] or cut[-1] + 1)  # a limit below one bar still gives one
        if end < len(bucket):
            reached = (int(bucket[end]) + descending) * size * MINUTE - descending
        page = Minutes(*(column[:end] for column in base))
        folded = _reversed(generated.fold(_reversed(page), size)) if descending else generated.fold(page, size)
        ratio = np.array([bar.ratio if adjusted else 1.0 for bar in bars])
        return _minute_rows(folded, ratio), end, reached, "generated" if end else self.market.source([])

    def _some_minutes(self, bars: Sequence[DailyBar], span: tuple[int, int], enough: int, *, descending: bool) -> Minutes:
        """Return the minutes of ``bars`` in ``span`` (milliseconds, inclusive), batch by batch.

        Stops once there are more than ``enough`` rows.
        """
        parts, count = [self.market.minutes([])], 0
        begins = range(0, len(bars), BATCH)
        for begin in reversed(begins) if descending else begins:
            part = self.market.minutes(bars[begin : begin + BATCH])
            part = part._replace(cell=part.cell + begin)
            stamps = part.time // 1_000_000
            kept = Minutes(*(column[(stamps >= span[0]) & (stamps <= span[1])] for column in part))
            parts.append(_reversed(kept) if descending else kept)
            count += len(kept.time)
            if count > enough:
                break
        return Minutes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def grouped(self, request: VendorRequest, found: Found) -> VendorResponse:
        """Return bars of all symbols of one session."""
        adjusted = flag(request.query, "adjusted", default=True)
        bars = self.market.session(as_date(found["date"], "date"))
        rows = [{"T": bar.symbol, **_row(bar, adjusted, closing(bar.session))} for bar in bars]
        return VendorResponse(request, 200, _summary(rows, len(rows), adjusted), source=self.market.source(bars))

    def _next_range(
        self, request: VendorRequest, found: Found, reached: int, limit: int, *, adjusted: bool, descending: bool
    ) -> str:
        """Return the URL of the next page, without the key: the same path with a new bound, and a cursor."""
        start, end = (found["start"], reached) if descending else (reached, found["end"])
        kept = {"adjusted": "false"} if self.cursor_keeps_adjusted and not adjusted else {}
        cursor = as_cursor({**kept, "limit": limit, "sort": "desc" if descending else "asc"})
        kind = f"{found['multiplier']}/{found['timespan']}"
        return f"{request.base}/v2/aggs/ticker/{quote(found['ticker'])}/range/{kind}/{start}/{end}?cursor={cursor}"

    # reference data

    def tickers(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return a page of symbols."""
        fixed = {
            "market": "stocks",
            "locale": "us",
            "primary_exchange": "XNYS",
            "type": "CS",
            "active": True,
            "currency_name": "usd",
        }
        rows = [{"ticker": symbol, "name": f"{symbol} Inc.", **fixed} for symbol in self.market.symbols]
        return self._references(request, rows, "ticker", order="asc", limit=100)

    def events(self, request: VendorRequest, found: Found) -> VendorResponse:
        """Return the tickers that a company has had, newest first; a company that had one only has one event."""
        symbol = found["ticker"]
        taken = [(day, new) for day, _, new in self.market.symbol_changes([symbol])]
        first = [(FIRST, old) for _, old, _ in self.market.symbol_changes([symbol])][:1]
        if not taken and symbol not in self.market.symbols:
            return self.error(request, 404, "No events found for given ID")
        events = [
            {"type": "ticker_change", "date": day.isoformat(), "ticker_change": {"ticker": name}}
            for day, name in sorted(first + taken, reverse=True) or [(FIRST, symbol)]
        ]
        body = {"results": {"name": f"{symbol} Inc.", "events": events}, "status": "OK"}
        return VendorResponse(request, 200, body, source="generated")

    def splits(self, request: VendorRequest, _found: Found) -> VendorResponse:
        query = {**cursor_of(request), **request.query}
        rows = [
            {
                "execution_date": split.ex_date.isoformat(),
                "id": split.action_id,
                "split_from": split.split_from,
                "split_to": split.split_to,
                "ticker": split.symbol,
            }
            for split in self.market.splits(*date_span(query, "execution_date"), ticker_of(query))
        ]
        if _is_successor(request):
            rows = [{**row, "adjustment_type": "forward_split", "historical_adjustment_factor": 1.0} for row in rows]
        return self._references(request, rows, "execution_date", order="desc", limit=10)

    def dividends(self, request: VendorRequest, _found: Found) -> VendorResponse:
        query = {**cursor_of(request), **request.query}
        rows = [
            {
                "cash_amount": dividend.amount,
                "currency": "USD",
                "declaration_date": dividend.declaration_date.isoformat(),
                "dividend_type": dividend.kind,
                "ex_dividend_date": dividend.ex_date.isoformat(),
                "frequency": dividend.frequency,
                "id": dividend.action_id,
                "pay_date": dividend.pay_date.isoformat(),
                "record_date": dividend.record_date.isoformat(),
                "ticker": dividend.symbol,
            }
            for dividend in self.market.dividends(*date_span(query, "ex_dividend_date"), ticker_of(query))
        ]
        if _is_successor(request):
            for row in rows:
                kind = row.pop("dividend_type")
                row["distribution_type"] = DISTRIBUTIONS.get(kind, "irregular") if kind else "unknown"
                row["split_adjusted_cash_amount"] = row["cash_amount"]
        return self._references(request, rows, "ex_dividend_date", order="desc", limit=10)

    def _references(self, request: VendorRequest, rows: Iterable[Row], sort: str, *, order: str, limit: int) -> VendorResponse:
        """Return a page of ``rows``, filtered and sorted as requested; the cursor holds all parameters."""
        query = {**cursor_of(request), **request.query}
        query.pop("cursor", None)
        limit = limit_of(query, limit, MAX_ACTIONS if _is_successor(request) else MAX_REFERENCES)
        offset = query.pop("offset", "0")
        if not offset.isdecimal():
            raise BadParameterError("Could not parse the parameter 'cursor'")
        sort = query.get("sort", sort)
        if _is_successor(request):  # one parameter: the column and the direction
            sort, _, direction = sort.partition(".")
            order = direction or order
        descending = choice({"order": query.get("order", order)}, "order", ("asc", "desc")) == "desc"
        for name, value in query.items():
            rows = filtered(list(rows), name, value)
        found = sorted(rows, key=lambda row: (row.get(sort, ""), row["ticker"], row.get("id") or ""), reverse=descending)
        begin, end = int(offset), int(offset) + limit
        body: Row = {"results": found[begin:end], "status": "OK"}
        if len(found) > end:
            body["next_url"] = f"{request.base}{request.path}?cursor={as_cursor({**query, 'offset': end})}"
        return VendorResponse(request, 200, body, source="generated")


VENDOR = Polygon


def _is_successor(request: VendorRequest) -> bool:
    return request.path.endswith(("/stocks/v1/splits", "/stocks/v1/dividends"))


def last_date(request: VendorRequest) -> date | None:
    """Return the last date of an aggregates request, or None for other calls."""
    found = request.found
    try:
        return as_date(found.get("end") or found["date"], "to")
    except (KeyError, BadParameterError):
        return None


def _reversed(minutes: Minutes) -> Minutes:
    return Minutes(*(column[::-1] for column in minutes))


def _minute_rows(bars: Minutes, ratio: NDArray[np.float64]) -> list[Row]:
    """Return minute rows in the vendor's format; ``ratio`` holds the price factor of each cell."""
    factor = ratio[bars.cell]
    prices = [np.round(column * factor, 4).tolist() for column in (bars.vwap, bars.open, bars.close, bars.high, bars.low)]
    columns = (bars.volume.tolist(), *prices, (bars.time // 1_000_000).tolist(), bars.trades.tolist())
    return [dict(zip(("v", "vw", "o", "c", "h", "l", "t", "n"), row, strict=True)) for row in zip(*columns, strict=True)]


def _row(bar: DailyBar, adjusted: bool, stamp: int) -> Row:
    shown = bar.adjusted if adjusted else bar
    vwap = {} if shown.vwap is None else {"vw": shown.vwap}
    trades = {} if shown.trades is None else {"n": shown.trades}
    return {"v": shown.volume, **vwap, "o": shown.open, "c": shown.close, "h": shown.high, "l": shown.low, "t": stamp, **trades}


def _summary(rows: list[Row], count: int, adjusted: bool) -> Row:
    """``count``: of base bars that the rows were made of."""
    results = {"results": rows} if rows else {}
    counts = {"queryCount": count, "resultsCount": len(rows)}
    return {**counts, "adjusted": adjusted, **results, "status": "OK", "count": len(rows)}


# The vendor writes 75 for 75.0, and volumes from a million on with an exponent.
_ZERO_FRACTION = re.compile(r"(?<=\d)\.0(?=[,}])")
_LARGE_VOLUME = re.compile(r'"v":(\d{7,}(?:\.\d+)?)(?=[,}])')


def _exponent(number: str) -> str:
    """``112117471`` -> ``1.12117471e+08``."""
    whole, _, fraction = number.partition(".")
    digits = (whole + fraction).rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{mantissa}e+{len(whole) - 1:02d}"
