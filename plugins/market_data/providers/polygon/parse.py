"""Read Polygon's pages of bars: from JSON to columns, checked to match the request. No I/O.

Sources: the vendor's OpenAPI (``/v2/aggs/...``), https://massive.com/docs/rest/stocks/aggregates and, on pages,
https://massive.com/blog/aggs-api-updates. ``limit`` counts the stored base bars (minutes, or days) behind a page. A bar that the limit
splits is left out and begins the next page. So pages never overlap, and one that names a next one is never empty.

Recorded responses show that a daily bar of range is stamped midnight New York, one of grouped 16:00 New York. So daily bars are
identified by the New York date of the stamp. A minute bar is stamped with its opening moment. An empty response has no ``results`` key
at all. Minutes before and after regular hours are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.responses import NewYorkDays

R = TypeVar("R")


class PolygonPage(msgspec.Struct, Generic[R], gc=False):
    """One response, whatever its endpoint."""

    status: str = ""
    request_id: str = ""
    results: list[R] | None = None
    next_url: str | None = None
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """The parsed part of a response: the requested rows as columns, and the evidence that it is complete.

    :param received: rows that came, those of other symbols too.
    :param declared: rows that the response says it has, or None where it says nothing.
    :param source: the origin of the values as the server declares it; only the local sample servers do.
    """

    table: pa.Table
    received: int
    declared: int | None
    request_id: str
    next_url: str | None = None
    source: str | None = None


class PolygonBar(msgspec.Struct, gc=False):
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


class BarPage(PolygonPage[PolygonBar], gc=False):
    """One response of an aggregates endpoint."""

    ticker: str | None = None
    adjusted: bool | None = None
    results_count: int | None = msgspec.field(name="resultsCount", default=None)


@dataclass(frozen=True, slots=True)
class BarQuery:
    """The request that pages of bars respond to, with the adjustment that was requested."""

    provider: str
    request: Request
    adjusted: bool

    def read(self, page: BarPage, response: Response, plain: Callable[[str], str]) -> PageTable:
        """Return a page as columns, checked to be complete and to match the request.

        :param plain: `Transport.plain`.
        :raises TruncatedResponse: if it has fewer bars than it declares.
        :raises ServerError: if it belongs to another request.
        """
        request = self.request
        bars, declared = page.results or [], page.results_count
        where = {"provider": self.provider, "request": str(request), "request_id": page.request_id}
        if declared is None or len(bars) < declared:
            raise TruncatedResponse(f"{len(bars)} results came, {declared} are declared", **where)
        stamps = np.array([bar.t for bar in bars], np.int64) * 1000
        sessions, outside = NewYorkDays(request.start, request.last).of(stamps)
        if wrong := _wrong(request, page, stamps[outside], self.adjusted):
            raise ServerError(plain(wrong), **where)
        table = _table(request, bars, stamps, sessions)
        source = response.headers.get("X-Sample-Source")
        return PageTable(table, len(bars), declared, page.request_id, page.next_url, source)


def _wrong(request: Request, page: BarPage, strange: NDArray[np.int64], adjusted: bool) -> str:
    """Return why a page cannot be the response to ``request``, or nothing.

    :param strange: moments outside the request, in microseconds.
    """
    bars, declared, market = page.results or [], page.results_count, request.endpoint == "grouped"
    dates = strange[:3].astype("datetime64[us]").astype("datetime64[D]")
    found = {
        f"{len(bars)} results came, {declared} are declared": len(bars) != declared,
        f"adjusted is {page.adjusted}, {adjusted} was requested": page.adjusted not in (None, adjusted),
        f"the response is about {page.ticker!r}": not market and page.ticker not in (None, request.symbols[0]),
        "a grouped response has a bar without a ticker": market and any(bar.T is None for bar in bars),
        "a grouped response names a next page": market and page.next_url is not None,
        f"rows of {', '.join(map(str, dates))} came": len(dates) > 0,
    }
    return "; ".join(text for text, is_so in found.items() if is_so)


def _table(request: Request, bars: list[PolygonBar], stamps: NDArray[np.int64], sessions: NDArray[np.datetime64]) -> pa.Table:
    """Return the bars of the requested symbols as columns.

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
