"""Polygon's bars: one symbol's over a span of dates (range), and every ticker's of one session (grouped).

Sources: the vendor's OpenAPI (``/v2/aggs/...``), https://massive.com/docs/rest/stocks/aggregates and, on pages,
https://massive.com/blog/aggs-api-updates: ``limit`` counts the stored base bars (minutes, or days) that a page is made of, and a bar that
these end within is left out and begins the next page. So a page with a next one is never empty.

What recorded answers show: a daily bar of range is stamped midnight New York, one of grouped 16:00 New York, so daily bars are
identified by the New York date of the stamp; a minute bar has its opening moment. An empty answer has no ``results`` key at all.
Minutes before and after regular hours come as the vendor has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.datasets import dataset as find_dataset
from market_data.errors import ServerError, TruncatedResponse
from market_data.hooks.polygon_rest import Page, Part, Rest
from market_data.transport import Answer
from market_data.types import Request

PAGE_ROWS = 50_000
"""Most base bars a page of the range endpoint is made of, and what is asked for."""

SPANS: Final = {"ohlcv-1d": "1/day", "ohlcv-5m": "5/minute", "ohlcv-1m": "1/minute"}


class Bar(msgspec.Struct, gc=False):
    """A bar as the vendor writes it. Open to close may be null in recorded data; the gate judges that."""

    t: Annotated[int, msgspec.Meta(ge=0, lt=10**14)]
    o: float | None = None
    h: float | None = None
    l: float | None = None  # noqa: E741 - the vendor's name
    c: float | None = None
    v: float | None = None
    vw: float | None = None
    n: int | float | None = None
    T: str | None = None


class BarPage(Page[Bar], gc=False):
    """One answer of an aggregates endpoint."""

    ticker: str | None = None
    adjusted: bool | None = None
    results_count: int | None = msgspec.field(name="resultsCount", default=None)


def grouped(rest: Rest, request: Request, *, adjusted: bool) -> Iterator[Part]:
    """Every ticker's bar of one session, those asked for kept: one call, no paging."""
    path = f"/v2/aggs/grouped/locale/us/market/stocks/{request.start}"
    yield _page(rest, path, {"adjusted": _flag(adjusted), "include_otc": "false"}, request, adjusted)


def ranged(rest: Rest, request: Request, *, adjusted: bool) -> Iterator[Part]:
    """One symbol's bars of a span of dates, page by page.

    :raises ServerError: if the pages do not lead on.
    """
    ticker, span = quote(request.symbols[0], safe=""), SPANS[request.dataset]
    path = f"/v2/aggs/ticker/{ticker}/range/{span}/{request.start}/{request.last}"
    params: dict[str, str | int] = {"adjusted": _flag(adjusted), "sort": "asc", "limit": PAGE_ROWS}
    latest = None
    while True:
        part = _page(rest, path, params, request, adjusted)
        where = {"provider": rest.transport.provider, "request": str(request), "request_id": part.request_id}
        first, last = _ends(part.table)
        # These are not asked again: the next page's address is the last one's word, and the same one would come back.
        if first is not None and latest is not None and first <= latest:
            raise ServerError("a page goes back in time: the paging loops", **where)
        if part.next_url and last is None:
            raise ServerError("a page brings nothing and names a next one: the paging loops", **where)
        yield part
        if not part.next_url:
            return
        latest = last
        # The cursor need not carry ``adjusted``; it is sent again and every page is checked for it.
        path, params = part.next_url, {"adjusted": _flag(adjusted)}


def _page(rest: Rest, path: str, params: Mapping[str, str | int], request: Request, adjusted: bool) -> Part:
    """A page that is all there and is what was asked for; one that is not is asked again."""

    def read(page: BarPage, answer: Answer) -> Part:
        bars, declared = page.results or [], page.results_count
        where = rest.where(str(request), page)
        if declared is None or len(bars) < declared:
            raise TruncatedResponse(f"{len(bars)} results came, {declared} are declared", **where)
        columns = _columns(request, bars)
        if wrong := _wrong(request, page, columns["session"], adjusted):
            raise ServerError(rest.transport.plain(wrong), **where)
        return Part(
            _table(request, columns), len(bars), declared, page.request_id, page.next_url, answer.headers.get("X-Sample-Source")
        )

    return rest.get(path, params, str(request), BarPage, read)


def _wrong(request: Request, page: BarPage, sessions: pa.Array, adjusted: bool) -> str:
    """Why a page cannot be the answer to ``request``, or nothing."""
    bars, declared, market = page.results or [], page.results_count, request.endpoint == "grouped"
    outside = pc.or_(pc.less(sessions, _day(request.start)), pc.greater(sessions, _day(request.last)))
    strange = sessions.filter(outside).to_pylist()
    found = {
        f"{len(bars)} results came, {declared} are declared": len(bars) != declared,
        f"adjusted is {page.adjusted}, {adjusted} was asked": page.adjusted not in (None, adjusted),
        f"the answer is about {page.ticker!r}": not market and page.ticker not in (None, request.symbols[0]),
        "a grouped answer has a bar without a ticker": market and any(bar.T is None for bar in bars),
        "a grouped answer names a next page": market and page.next_url is not None,
        f"rows of {', '.join(map(str, strange[:3]))} came": bool(strange),
    }
    return "; ".join(text for text, is_so in found.items() if is_so)


def _columns(request: Request, bars: list[Bar]) -> dict[str, pa.Array]:
    """The bars as columns, those of others too."""
    stamps = pa.array(np.array([bar.t for bar in bars], np.int64), pa.timestamp("ms", tz="UTC"))
    if request.dataset == "ohlcv-1d":
        # Midnight New York is 04:00 or 05:00 UTC and the close 20:00 or 21:00 UTC: the UTC date is the session's.
        sessions = stamps.cast(pa.date32())
        opened = sessions.cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    else:
        sessions = pc.local_timestamp(stamps.cast(pa.timestamp("ms", tz="America/New_York"))).cast(pa.date32())
        opened = stamps.cast(pa.timestamp("us", tz="UTC"))
    symbols = [bar.T for bar in bars] if request.endpoint == "grouped" else [request.symbols[0]] * len(bars)
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}
    return {
        "symbol": pa.array(symbols, pa.string()),
        "bar_time": opened,
        "session": sessions,
        "adj_close": pa.nulls(len(bars), pa.float64()),
        **{column: pa.array([getattr(bar, field) for bar in bars], pa.float64()) for column, field in names.items()},
    }


def _table(request: Request, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The rows of the asked symbols."""
    schema = find_dataset(request.dataset).received
    table = pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)
    if request.endpoint == "grouped":
        table = table.filter(pc.is_in(table["symbol"], value_set=pa.array(request.symbols, pa.string())))
    return table


def _ends(table: pa.Table) -> tuple[Any, Any]:
    """The first and the last stamp, or twice None."""
    found = pc.min_max(table["bar_time"])
    return found["min"].as_py(), found["max"].as_py()


def _day(day: date) -> pa.Scalar:
    return pa.scalar(day, pa.date32())


def _flag(value: bool) -> str:
    return "true" if value else "false"
