"""Polygon.io, now Massive: daily bars by symbol (range) and by session (grouped).

Sources: the vendor's OpenAPI (``/v2/aggs/...``) and https://massive.com/docs/rest/stocks/aggregates. What the documents do not say and
recorded answers show: a daily bar of the range endpoint is stamped midnight New York, one of the grouped endpoint 16:00 New York, so
bars are identified by the New York date of the stamp; an empty answer has no ``results`` key at all; a 429 has no Retry-After.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa

from market_data.datasets import dataset as find_dataset
from market_data.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    NotYetAvailable,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.hooks.base import Fetched, Plan, ProviderHook, unknown_dataset
from market_data.pacing import LONG_WINDOW
from market_data.transport import Answer, Transport, retry_after
from market_data.types import Capabilities, Endpoint, Evidence, Quota, Request, Shape, Window

PAGE_ROWS = 50_000
"""Most base bars a page of the range endpoint holds, and what is asked for."""

DAILY = (Endpoint("grouped", Shape.MARKET), Endpoint("range", Shape.SYMBOL, page_rows=PAGE_ROWS))


class Bar(msgspec.Struct, gc=False):
    """A bar as the vendor writes it. Open to close may be null in recorded data; the gate judges that."""

    t: int
    o: float | None = None
    h: float | None = None
    l: float | None = None  # noqa: E741 - the vendor's name
    c: float | None = None
    v: float | None = None
    vw: float | None = None
    n: int | float | None = None
    T: str | None = None


class Page(msgspec.Struct, gc=False):
    """One answer of an aggregates endpoint."""

    status: str = ""
    request_id: str = ""
    ticker: str | None = None
    adjusted: bool | None = None
    results_count: int | None = msgspec.field(name="resultsCount", default=None)
    results: list[Bar] | None = None
    next_url: str | None = None
    error: str = ""
    message: str = ""


class PolygonHook(ProviderHook):
    """Daily bars of US stocks and ETFs.

    Option ``adjustment``: ``raw`` (as traded) or ``split`` (the vendor's split adjustment, changing with every later split).
    """

    provider = "polygon"
    hook_name = "Polygon / Massive"
    default_base_url = "https://api.massive.com"
    default_plan = "basic"
    # https://massive.com/pricing: Basic 5 calls a minute, 2 years; the paid plans have no call limit and 5, 10 and 20 years.
    # 600 calls a minute and slot is our own courtesy there. ``sample`` is the local sample API: small windows, so that its
    # runs show pacing and several batches.
    plans: ClassVar[Mapping[str, Plan]] = {
        "basic": Plan(Quota(5, (Window(5, 60),)), history_years=2, available_after=24 * 3600),
        "starter": Plan(Quota(600), history_years=5, available_after=22 * 3600),
        "developer": Plan(Quota(600), history_years=10, available_after=22 * 3600),
        "advanced": Plan(Quota(600), history_years=20, available_after=22 * 3600),
        "sample": Plan(Quota(600, (Window(1, 0.01),))),
    }
    _transport: Transport | None = None

    def connect(self) -> None:
        if self._transport is None:
            headers = {"Authorization": f"Bearer {self.config.password}"}
            self._transport = Transport(self.provider, self.base_url, headers, self.pacer(), self._classify, counters=self.counters)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _probe(self) -> str:
        # A week that every plan has by now.
        end = date.today() - timedelta(days=7)  # noqa: DTZ011 - a day's difference between zones does not matter
        path = f"/v2/aggs/ticker/AAPL/range/1/day/{end - timedelta(days=7)}/{end}"
        page = self._page(path, {"limit": 10}, "a week of AAPL")
        return f"{self.base_url} answered with status {page.status}"

    def _connection_problems(self) -> list[str]:
        problems = super()._connection_problems()
        if not self.config.password:
            problems.append(f"connection {self.config.conn_id!r}: password is empty; the API key is needed there")
        return problems

    def capabilities(self, dataset: str) -> Capabilities:
        served = {"ohlcv-1d": DAILY}
        if dataset not in served:
            raise unknown_dataset(self.provider, dataset, served)
        return Capabilities(served[dataset], self.quota, self._history_start(), self.plan.available_after)

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        try:
            pages = list(self._grouped(request) if request.endpoint == "grouped" else self._range(request))
        except EntitlementError as error:
            raise self._too_early(request, error) from None
        evidence = Evidence(
            calls=self.counters.calls - before.calls,
            retries=self.counters.retries - before.retries,
            pages=len(pages),
            bytes=self.counters.bytes - before.bytes,
            rows_received=sum(len(page.results or ()) for page, _ in pages),
            rows_declared=sum(page.results_count or 0 for page, _ in pages),
            last_page_seen=not pages[-1][0].next_url,
            request_ids=tuple(page.request_id for page, _ in pages),
            source=next((source for _, source in pages if source), None),
        )
        return Fetched(self._table(request, [bar for page, _ in pages for bar in page.results or ()]), evidence)

    # -- the two endpoints -------------------------------------------------------------------------------------------------------

    def _grouped(self, request: Request) -> Iterator[tuple[Page, str | None]]:
        """Every ticker's bar of one session: one call, no paging."""
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{request.start}"
        page, source = self._checked(path, {"adjusted": self._adjusted, "include_otc": "false"}, request)
        if page.next_url:
            raise ServerError("a grouped answer names a next page; it never should", **self._where(request, page))
        if any(bar.T is None for bar in page.results or ()):
            raise ServerError("a grouped answer has a bar without a ticker", **self._where(request, page))
        self._inside(request, page)
        yield page, source

    def _range(self, request: Request) -> Iterator[tuple[Page, str | None]]:
        """One symbol's bars of a span of dates, page by page."""
        symbol = request.symbols[0]
        path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{request.start}/{request.last}"
        params: dict[str, str | int] = {"adjusted": self._adjusted, "sort": "asc", "limit": PAGE_ROWS}
        seen: set[str] = set()
        latest = -1
        while True:
            page, source = self._checked(path, params, request)
            if page.ticker is not None and page.ticker != symbol:
                raise ServerError(f"the answer is about {page.ticker!r}", **self._where(request, page))
            self._inside(request, page)
            newest = page.results[-1].t if page.results else latest
            if page.results and page.results[0].t <= latest:
                raise ServerError("a page goes back in time: the paging loops", **self._where(request, page))
            if page.next_url and newest <= latest:
                raise ServerError("a page brings nothing new and names a next one: the paging loops", **self._where(request, page))
            latest = newest
            yield page, source
            if not page.next_url:
                return
            if page.next_url in seen:
                raise ServerError("a page names a page already seen: the paging loops", **self._where(request, page))
            seen.add(page.next_url)
            # The cursor need not carry ``adjusted``; it is sent again and every page is checked for it.
            path, params = page.next_url, {"adjusted": self._adjusted}

    def _too_early(self, request: Request, error: EntitlementError) -> EntitlementError | NotYetAvailable:
        """A 403 also comes for a session that the plan does not have yet, with the same words as for one that it never has."""
        now = datetime.now(UTC)
        if request.last < now.date() - timedelta(days=1):
            return error
        until = datetime.combine(request.last + timedelta(days=2), time(), UTC)
        return NotYetAvailable(error.said, until=until, provider=error.provider, request=error.request, request_id=error.request_id)

    # -- checks of one page ------------------------------------------------------------------------------------------------------

    @property
    def _adjusted(self) -> str:
        return "true" if self.option("adjustment") == "split" else "false"

    def _where(self, request: Request, page: Page) -> dict[str, str]:
        return {"provider": self.provider, "request": str(request), "request_id": page.request_id}

    def _checked(self, path: str, params: Mapping[str, str | int], request: Request) -> tuple[Page, str | None]:
        """A page that is all there and is of the adjustment asked for."""

        def parse(answer: Answer) -> tuple[Page, str | None]:
            page = self._decode(answer, str(request))
            where = self._where(request, page)
            rows = len(page.results or ())
            if page.results_count is None or page.results_count != rows:
                raise TruncatedResponse(f"{rows} results came, {page.results_count} are declared", **where)
            if page.adjusted is not None and page.adjusted != (self._adjusted == "true"):
                raise ServerError(f"adjusted is {page.adjusted}, {self._adjusted} was asked", **where)
            return page, answer.headers.get("X-Sample-Source")

        return _given(self._transport).get(path, params, str(request), parse)

    def _page(self, path: str, params: Mapping[str, str | int], what: str) -> Page:
        return _given(self._transport).get(path, params, what, lambda answer: self._decode(answer, what))

    def _decode(self, answer: Answer, what: str) -> Page:
        where = {"provider": self.provider, "request": what}
        try:
            page = msgspec.json.decode(answer.body, type=Page)
        except msgspec.ValidationError as error:
            raise SchemaDrift(f"{self.provider}: {what}: the answer is not of the known form: {error}") from None
        except msgspec.DecodeError:
            kind = answer.headers.get("Content-Type", "an unnamed type")
            if "json" in kind and answer.body:
                raise TruncatedResponse(f"the JSON ends early, after {len(answer.body)} bytes", **where) from None
            raise ServerError(f"the answer is no JSON but {len(answer.body)} bytes of {kind}", **where) from None
        if page.status not in ("OK", "DELAYED"):
            text = page.error or page.message or "no message"
            raise ServerError(f"status {page.status!r} with HTTP {answer.status}: {text}", request_id=page.request_id, **where)
        return page

    def _inside(self, request: Request, page: Page) -> None:
        """Every row inside the asked dates."""
        if page.results:
            days = _sessions([bar.t for bar in page.results])
            first, last = np.datetime64(request.start), np.datetime64(request.last)
            if days.min() < first or days.max() > last:
                span = f"{days.min()}..{days.max()}"
                raise ServerError(f"rows of {span} came", **self._where(request, page))

    def _classify(self, answer: Answer, what: str) -> ProviderError | None:
        """The typed error of an answer that is no success. The text sits in ``error`` or ``message``."""
        if answer.status < 400:
            return None
        try:
            page = msgspec.json.decode(answer.body, type=Page)
        except msgspec.MsgspecError:
            page = Page()
        text = page.error or page.message or f"HTTP status {answer.status}"
        where = {"provider": self.provider, "request": what, "request_id": page.request_id}
        if answer.status == 429:
            # No Retry-After was ever recorded: then the narrowest window tells how long a call may have to wait.
            short = [w.seconds for w in self.quota.limits if w.seconds < LONG_WINDOW]
            pause = retry_after(answer.headers) or min(short, default=None)
            return Throttled(text, retry_after=pause, **where)
        if answer.status == 401:
            return AuthError(f"{text} (the key is the password of connection {self.config.conn_id!r})", **where)
        if answer.status == 403:
            return EntitlementError(text, **where)
        if answer.status >= 500:
            return ServerError(text, **where)
        return BadRequest(f"{text} (HTTP {answer.status})", **where)

    # -- columns -----------------------------------------------------------------------------------------------------------------

    def _table(self, request: Request, bars: list[Bar]) -> pa.Table:
        """The bars of the asked symbols as columns."""
        if request.endpoint == "grouped":
            wanted = set(request.symbols)
            bars = [bar for bar in bars if bar.T in wanted]
            symbols = pa.array([bar.T for bar in bars], pa.string())
        else:
            symbols = pa.array([request.symbols[0]] * len(bars), pa.string())
        days = _sessions([bar.t for bar in bars])
        schema = find_dataset(request.dataset).received
        columns: dict[str, Any] = {
            "symbol": symbols,
            "bar_time": pa.array(days.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
            "session": pa.array(days, pa.date32()),
            "adj_close": pa.nulls(len(bars), pa.float64()),
        }
        names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}
        for column, field in names.items():
            kind = schema.field(column).type
            values = pa.array([getattr(bar, field) for bar in bars], pa.float64())
            columns[column] = values.cast(kind)
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _sessions(stamps: list[int]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """The sessions of daily stamps in ms since the epoch, whether they are midnight's or the close's.

    Midnight New York is 04:00 or 05:00 UTC and the close 20:00 or 21:00 UTC, in summer and in winter: the UTC date is the session's.
    """
    return np.array(stamps, dtype="datetime64[ms]").astype("datetime64[D]")


_T = TypeVar("_T")


def _given(value: _T | None) -> _T:
    if value is None:
        raise RuntimeError("connect() comes first")
    return value
