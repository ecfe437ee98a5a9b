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

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.bar_columns import floats, number_columns, numbers, trade_counts
from market_data.providers.responses import NewYorkDays
from market_data.providers.unexpected import NOTHING, OnceMore, Problems, Unexpected, checked, read_rows, separated

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
    :param unexpected: what else it holds.
    """

    table: pa.Table
    received: int
    declared: int | None
    request_id: str
    next_url: str | None = None
    source: str | None = None
    unexpected: Unexpected = NOTHING


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


class GroupedBar(PolygonBar, gc=False):
    """A bar of a market-wide response, with its ticker."""

    T: str | None = None


class BarPage(PolygonPage[R], Generic[R], gc=False):
    """One response of an aggregates endpoint.

    Its rows are `PolygonBar`, or `msgspec.Raw` where some may be of another form.
    """

    ticker: str | None = None
    adjusted: bool | None = None
    results_count: int | None = msgspec.field(name="resultsCount", default=None)


@dataclass(frozen=True, slots=True)
class BarQuery:
    """The request that pages of bars respond to, with the adjustment that was requested."""

    provider: str
    request: Request
    adjusted: bool

    @property
    def kind(self) -> type[PolygonBar]:
        """The form of the response's bars."""
        return GroupedBar if self.request.endpoint == "grouped" else PolygonBar

    @property
    def form(self) -> type[BarPage[Any]]:
        """The form of a page."""
        return BarPage[GroupedBar] if self.kind is GroupedBar else BarPage[PolygonBar]

    def read(self, page: BarPage[Any], response: Response, plain: Callable[[str], str], once_more: OnceMore) -> PageTable:
        """Return a page as columns, checked to be complete and to match the request.

        :param plain: `Transport.plain`.
        :param once_more: of this page, for all its tries.
        :raises TruncatedResponse: if it has fewer bars than it declares.
        :raises ServerError: if it belongs to another request.
        :raises SchemaDrift: if most of its bars cannot be read.
        """
        request, declared = self.request, page.results_count
        where = {"provider": self.provider, "request": str(request), "request_id": page.request_id}
        rows = page.results or []
        if declared is None or len(rows) < declared:
            raise TruncatedResponse(f"{len(rows)} results came, {declared} are declared", **where)
        if wrong := _wrong(request, page, self.adjusted):
            raise ServerError(plain(wrong), **where)
        bars, problems = read_rows(rows, self.kind, where)
        table = self._table(bars, problems)
        if table["symbol"].null_count:
            if table["symbol"].null_count == len(bars):
                raise ServerError("a grouped response has bars without a ticker", **where)
            for place in pc.indices_nonzero(pc.is_null(table["symbol"])).to_pylist():
                problems.setdefault(place, ["T is missing"])
        kept, unexpected = separated(table, checked(problems, len(bars), where), request, where, market=self.kind is GroupedBar)
        once_more.check(unexpected, where)
        source = response.headers.get("X-Sample-Source")
        return PageTable(kept, len(bars), declared, page.request_id, page.next_url, source, unexpected)

    def _table(self, bars: list[PolygonBar], problems: Problems) -> pa.Table:
        """Return all bars as columns, as `separated` takes them.

        :param problems: the places of counts of trades that cannot be read are added.
        """
        request, values, moments = self.request, numbers(bars), floats([bar.t for bar in bars])
        undated = np.isnan(moments)
        stamps = np.where(undated, 0, moments).astype(np.int64) * 1000
        sessions, outside = NewYorkDays(request.start, request.last).of(stamps)
        opened = stamps.astype("datetime64[us]")
        if request.dataset == "ohlcv-1d":
            opened = np.where(outside, opened, sessions.astype("datetime64[us]"))
        schema = find_dataset(request.dataset).received
        if self.kind is GroupedBar:
            symbols = pa.array([bar.T for bar in bars if isinstance(bar, GroupedBar)], pa.string())
        else:
            symbols = pa.repeat(request.symbols[0], len(bars))
        columns: dict[str, Any] = {
            "symbol": symbols,
            "bar_time": pa.array(opened, pa.timestamp("us"), mask=undated).cast(pa.timestamp("us", tz="UTC")),
            "session": pa.array(sessions, pa.date32(), mask=outside | undated),
            "adj_close": pa.nulls(len(bars), pa.float64()),
            "trade_count": trade_counts(bars, values["n"], problems),
            **number_columns(values),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _wrong(request: Request, page: BarPage[Any], adjusted: bool) -> str:
    """Return why a page cannot be the response to ``request``, or nothing."""
    rows, declared, market = page.results or [], page.results_count, request.endpoint == "grouped"
    found = {
        f"{len(rows)} results came, {declared} are declared": len(rows) != declared,
        f"adjusted is {page.adjusted}, {adjusted} was requested": page.adjusted not in (None, adjusted),
        f"the response is about {page.ticker!r}": not market and page.ticker not in (None, request.symbols[0]),
        "a grouped response names a next page": market and page.next_url is not None,
    }
    return "; ".join(text for text, is_so in found.items() if is_so)
