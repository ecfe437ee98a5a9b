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
from market_data.hooks.base import Fetched, Plan, ProviderHook
from market_data.interval import Interval, intersection
from market_data.pacing import LONG_WINDOW
from market_data.transport import Answer, Transport, retry_after
from market_data.types import Evidence, Quota, Request, Window

PAGE_ROWS = 50_000
"""Most base bars a page of the range endpoint holds, and what is asked for."""


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
            key = self.config.password
            headers = {"Authorization": f"Bearer {key}"}
            self._transport = Transport(
                self.provider, self.base_url, headers, self.pacer(), self._classify, (key,), counters=self.counters
            )

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _probe(self) -> str:
        # A week that every plan has by now.
        end = self.now().date() - timedelta(days=7)
        path = f"/v2/aggs/ticker/AAPL/range/1/day/{end - timedelta(days=7)}/{end}"
        page = self._page(path, {"limit": 10}, "a week of AAPL")
        return f"{self.base_url} answered with status {page.status}"

    def _connection_problems(self) -> list[str]:
        problems = super()._connection_problems()
        if not self.config.password:
            problems.append(f"connection {self.config.conn_id!r}: password is empty; the API key is needed there")
        return problems

    def fetch(self, request: Request) -> Fetched:
        self.connect()
        before = replace(self.counters)
        pending_from, reason = None, ""
        try:
            pages = self._pages(request)
        except EntitlementError as error:
            request, pending_from = self._without_young(request, error)
            reason = error.said
            pages = self._pages(request)
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
        table = self._table(request, [bar for page, _ in pages for bar in page.results or ()])
        return Fetched(table, evidence, pending_from, reason)

    def _without_young(self, request: Request, error: EntitlementError) -> tuple[Request, date]:
        """What to make of a 403: it also comes for a session that the plan does not have yet, in the same words as for one that it
        never has, and it is the answer to the whole request. So the request without its young sessions, and the first date of these.

        :raises EntitlementError: if nothing asked is young.
        :raises NotYetAvailable: if all of it is.
        """
        young = self.now().date() - timedelta(days=1)
        if request.last < young:
            raise error
        older = intersection(request.intervals, (Interval(date.min, young),))
        if older:
            return replace(request, intervals=older), young
        until = datetime.combine(request.last + timedelta(days=2), time(), UTC)
        where = {"provider": error.provider, "request": error.request, "request_id": error.request_id}
        raise NotYetAvailable(error.said, until=until, **where) from None

    # -- the two endpoints -------------------------------------------------------------------------------------------------------

    def _pages(self, request: Request) -> list[tuple[Page, str | None]]:
        """The pages that make up the answer, in order, each with the server's word on where its values come from."""
        return list(self._grouped(request) if request.endpoint == "grouped" else self._range(request))

    def _grouped(self, request: Request) -> Iterator[tuple[Page, str | None]]:
        """Every ticker's bar of one session: one call, no paging."""
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{request.start}"
        yield self._checked(path, {"adjusted": self._adjusted, "include_otc": "false"}, request)

    def _range(self, request: Request) -> Iterator[tuple[Page, str | None]]:
        """One symbol's bars of a span of dates, page by page."""
        path = f"/v2/aggs/ticker/{quote(request.symbols[0], safe='')}/range/1/day/{request.start}/{request.last}"
        params: dict[str, str | int] = {"adjusted": self._adjusted, "sort": "asc", "limit": PAGE_ROWS}
        latest = -1
        while True:
            page, source = self._checked(path, params, request)
            stamps = [bar.t for bar in page.results or ()]
            # These are not asked again: the next page's address is the last one's word, and the same one would come back.
            if stamps and min(stamps) <= latest:
                raise ServerError("a page goes back in time: the paging loops", **self._where(request, page))
            if page.next_url and not stamps:
                raise ServerError("a page brings nothing and names a next one: the paging loops", **self._where(request, page))
            yield page, source
            if not page.next_url:
                return
            latest = max(stamps)
            # The cursor need not carry ``adjusted``; it is sent again and every page is checked for it.
            path, params = page.next_url, {"adjusted": self._adjusted}

    # -- checks of one page ------------------------------------------------------------------------------------------------------

    @property
    def _adjusted(self) -> str:
        return "true" if self.option("adjustment") == "split" else "false"

    def _where(self, request: Request, page: Page) -> dict[str, str]:
        return {"provider": self.provider, "request": str(request), "request_id": page.request_id}

    def _checked(self, path: str, params: Mapping[str, str | int], request: Request) -> tuple[Page, str | None]:
        """A page that is all there and is what was asked for; one that is not is asked again."""

        def parse(answer: Answer) -> tuple[Page, str | None]:
            page = self._decode(answer, str(request))
            rows, declared = len(page.results or ()), page.results_count
            if declared is None or rows < declared:
                raise TruncatedResponse(f"{rows} results came, {declared} are declared", **self._where(request, page))
            if wrong := _wrong(request, page, self._adjusted == "true"):
                raise ServerError(self._plain(wrong), **self._where(request, page))
            return page, answer.headers.get("X-Sample-Source")

        return _given(self._transport).get(path, params, str(request), parse)

    def _page(self, path: str, params: Mapping[str, str | int], what: str) -> Page:
        return _given(self._transport).get(path, params, what, lambda answer: self._decode(answer, what))

    def _plain(self, text: str) -> str:
        return _given(self._transport).plain(text)

    def _decode(self, answer: Answer, what: str) -> Page:
        where = {"provider": self.provider, "request": what}
        try:
            page = msgspec.json.decode(answer.body, type=Page)
        except msgspec.ValidationError as error:
            raise SchemaDrift(
                f"{self.provider}: {what}: the answer is not of the known form: {error}. "
                "To do: see the provider's changelog; the hook has to learn the new form"
            ) from None
        except msgspec.DecodeError:
            size = len(answer.body)
            if answer.body.lstrip().startswith(b"{"):
                raise TruncatedResponse(f"the JSON ends early or is damaged; {size} bytes came", **where) from None
            kind = self._plain(answer.headers.get("Content-Type", "an unnamed type"))
            raise ServerError(f"the answer is no JSON but {size} bytes of {kind}", **where) from None
        if page.status not in ("OK", "DELAYED"):
            text = self._plain(f"status {page.status!r} with HTTP {answer.status}: {page.error or page.message or 'no message'}")
            raise ServerError(text, request_id=page.request_id, **where)
        return page

    def _classify(self, answer: Answer, what: str) -> ProviderError | None:
        """The typed error of an answer that is no success. The text sits in ``error`` or ``message``."""
        if answer.status < 400:
            return None
        try:
            page = msgspec.json.decode(answer.body, type=Page)
        except msgspec.MsgspecError:
            page = Page()
        text = self._plain(page.error or page.message) or f"HTTP status {answer.status}"
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


def _wrong(request: Request, page: Page, adjusted: bool) -> str:
    """Why a page cannot be the answer to ``request``, or nothing."""
    bars, declared, grouped = page.results or [], page.results_count, request.endpoint == "grouped"
    days = _sessions([bar.t for bar in bars])
    strange = days[(days < np.datetime64(request.start)) | (days > np.datetime64(request.last))]
    found = {
        f"{len(bars)} results came, {declared} are declared": len(bars) != declared,
        f"adjusted is {page.adjusted}, {adjusted} was asked": page.adjusted not in (None, adjusted),
        f"the answer is about {page.ticker!r}": not grouped and page.ticker not in (None, request.symbols[0]),
        "a grouped answer has a bar without a ticker": grouped and any(bar.T is None for bar in bars),
        "a grouped answer names a next page": grouped and page.next_url is not None,
        f"rows of {', '.join(map(str, strange[:3]))} came": len(strange),
    }
    return "; ".join(text for text, is_so in found.items() if is_so)


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
