"""Polygon's bars: one symbol's over a span of dates (range), and every ticker's of one session (grouped).

Sources: the vendor's OpenAPI (``/v2/aggs/...``), https://massive.com/docs/rest/stocks/aggregates and, on pages,
https://massive.com/blog/aggs-api-updates: ``limit`` counts the stored base bars (minutes, or days) that a page is made of, and a bar in
whose middle they end is left out and begins the next page. So pages never overlap, and one that names a next one is never empty.

What recorded answers show: a daily bar of range is stamped midnight New York, one of grouped 16:00 New York, so daily bars are
identified by the New York date of the stamp; a minute bar has its opening moment. An empty answer has no ``results`` key at all.
Minutes before and after regular hours come as the vendor has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Answer
from market_data.providers.polygon.client import Page, Part, Rest
from market_data.providers.responses import NewYorkDays

PAGE_ROWS = 50_000
"""Most base bars a page of the range endpoint is made of, and what is asked for."""

SPANS: Final = {"ohlcv-1d": "1/day", "ohlcv-5m": "5/minute", "ohlcv-1m": "1/minute"}


class Bar(msgspec.Struct, gc=False):
    """A bar as the vendor writes it. Open to close may be null in recorded data; the gate judges that."""

    t: Annotated[int, msgspec.Meta(ge=0, lt=10**14)]  # milliseconds
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
    """Every ticker's bar of one session, those asked for kept: one call, no paging. With those traded over the counter, as the other
    endpoints have them: a symbol that only one of them knew would look as if it had no bars."""
    path = f"/v2/aggs/grouped/locale/us/market/stocks/{request.start}"
    yield _part(rest, path, {"adjusted": _word(adjusted), "include_otc": "true"}, request, adjusted)


def ranged(rest: Rest, request: Request, *, adjusted: bool) -> Iterator[Part]:
    """One symbol's bars of a span of dates, page by page.

    :raises ServerError: if the pages do not lead on. That is not asked again: the next page's address is the last one's word, and the
        same one would come back.
    """
    ticker, span = quote(request.symbols[0], safe=""), SPANS[request.dataset]
    path = f"/v2/aggs/ticker/{ticker}/range/{span}/{request.start}/{request.last}"
    params: dict[str, str | int] = {"adjusted": _word(adjusted), "sort": "asc", "limit": PAGE_ROWS}
    latest = None
    while True:
        part = _part(rest, path, params, request, adjusted)
        first, last = pc.min_max(part.table["bar_time"]).as_py().values()
        if first is not None and latest is not None and first <= latest:
            raise ServerError("a page goes back in time: the paging loops", **rest.where(str(request), part.request_id))
        if part.next_url and last is None:
            text = "a page brings nothing and names a next one: the paging loops"
            raise ServerError(text, **rest.where(str(request), part.request_id))
        yield part
        if not part.next_url:
            return
        latest = last
        # The cursor need not carry ``adjusted``; it is sent again and every page is checked for it.
        path, params = part.next_url, {"adjusted": _word(adjusted)}


def _part(rest: Rest, path: str, params: Mapping[str, str | int], request: Request, adjusted: bool) -> Part:
    """A page that is all there and is what was asked for; one that is not is asked again.

    It becomes columns at once, and its objects are let go: a request may have many pages of minutes.
    """

    def read(page: BarPage, answer: Answer) -> Part:
        bars, declared = page.results or [], page.results_count
        where = rest.where(str(request), page.request_id)
        if declared is None or len(bars) < declared:
            raise TruncatedResponse(f"{len(bars)} results came, {declared} are declared", **where)
        stamps = np.array([bar.t for bar in bars], np.int64) * 1000
        sessions, outside = NewYorkDays(request.start, request.last).of(stamps)
        if wrong := _wrong(request, page, stamps[outside], adjusted):
            raise ServerError(rest.transport.plain(wrong), **where)
        table = _table(request, bars, stamps, sessions)
        return Part(table, len(bars), declared, page.request_id, page.next_url, answer.headers.get("X-Sample-Source"))

    return rest.get(path, params, str(request), BarPage, read)


def _wrong(request: Request, page: BarPage, strange: NDArray[np.int64], adjusted: bool) -> str:
    """Why a page cannot be the answer to ``request``, or nothing.

    :param strange: moments outside the request, in microseconds.
    """
    bars, declared, market = page.results or [], page.results_count, request.endpoint == "grouped"
    dates = strange[:3].astype("datetime64[us]").astype("datetime64[D]")
    found = {
        f"{len(bars)} results came, {declared} are declared": len(bars) != declared,
        f"adjusted is {page.adjusted}, {adjusted} was asked": page.adjusted not in (None, adjusted),
        f"the answer is about {page.ticker!r}": not market and page.ticker not in (None, request.symbols[0]),
        "a grouped answer has a bar without a ticker": market and any(bar.T is None for bar in bars),
        "a grouped answer names a next page": market and page.next_url is not None,
        f"rows of {', '.join(map(str, dates))} came": len(dates) > 0,
    }
    return "; ".join(text for text, is_so in found.items() if is_so)


def _table(request: Request, bars: list[Bar], stamps: NDArray[np.int64], sessions: NDArray[np.datetime64]) -> pa.Table:
    """The bars of the asked symbols as columns.

    :param stamps: microseconds UTC.
    """
    market, daily = request.endpoint == "grouped", request.dataset == "ohlcv-1d"
    schema = find_dataset(request.dataset).received
    symbols = [bar.T for bar in bars] if market else [request.symbols[0]] * len(bars)
    opened = (sessions if daily else stamps).astype("datetime64[us]")
    columns: dict[str, Any] = {
        "symbol": pa.array(symbols, pa.string()),
        "bar_time": pa.array(opened, pa.timestamp("us", tz="UTC")),
        "session": pa.array(sessions, pa.date32()),
        "adj_close": pa.nulls(len(bars), pa.float64()),
    }
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}
    for column, field in names.items():
        values = pa.array([getattr(bar, field) for bar in bars], pa.float64())
        columns[column] = values.cast(schema.field(column).type)
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    return table.filter(pc.is_in(table["symbol"], value_set=pa.array(request.symbols, pa.string()))) if market else table


def _word(value: bool) -> str:
    return "true" if value else "false"
