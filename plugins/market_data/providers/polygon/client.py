"""Polygon's REST API: fetch one page of JSON at a time, with a typed error for every other response.

A response's ``status`` is ``OK``, or ``DELAYED`` on plans with delayed data; ``error`` or ``message`` holds the error's text. A 429
has no Retry-After in any recorded response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
import pyarrow.compute as pc

from market_data.core.capabilities import Quota
from market_data.core.errors import AuthError, BadRequest, EntitlementError, ProviderError, ServerError, Throttled
from market_data.http.client import Response, Transport
from market_data.providers.polygon.parse import BarPage, BarQuery, PageTable, PolygonPage
from market_data.providers.responses import decode, error_body, pause
from market_data.providers.unexpected import OnceMore

PAGE_ROWS = 50_000
"""Most base bars a page of the range endpoint is made of, and the limit that is sent."""

SPANS: Final = {"ohlcv-1d": "1/day", "ohlcv-5m": "5/minute", "ohlcv-1m": "1/minute"}

T = TypeVar("T")


P = TypeVar("P", bound=PolygonPage[Any])


@dataclass(frozen=True, slots=True)
class Rest:
    """The API behind a transport."""

    transport: Transport

    def get(
        self,
        path: str,
        params: Mapping[str, str | int],
        what: str,
        form: type[P],
        read: Callable[[P, Response], T],
        by_row: type[Any] | None = None,
    ) -> T:
        """Fetch a page and return the result of ``read``. Repeat both while the error is retriable.

        :param what: the request in words, for messages.
        :param form: the page's. ``by_row``: see `decode`.
        """

        def parse(response: Response) -> T:
            page = decode(response, form, {"provider": self.transport.provider, "request": what}, self.transport.plain, by_row)
            if page.status not in ("OK", "DELAYED"):
                said = f"status {page.status!r} with HTTP {response.status}: {page.error or page.message or 'no message'}"
                raise ServerError(self.transport.plain(said), **self.where(what, page.request_id))
            return read(page, response)

        return self.transport.get(path, params, what, parse)

    def where(self, what: str, request_id: str) -> dict[str, str]:
        """Return the fields by which an error names its request."""
        return {"provider": self.transport.provider, "request": what, "request_id": request_id}

    def grouped(self, query: BarQuery) -> Iterator[PageTable]:
        """Yield every ticker's bar of one session, the requested ones kept: one call, no paging.

        Bars traded over the counter are included, as at the other endpoints: otherwise a symbol that only one of them has would seem
        to have no bars.
        """
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{query.request.start}"
        yield self._bars(path, {"adjusted": _word(query.adjusted), "include_otc": "true"}, query)

    def ranged(self, query: BarQuery) -> Iterator[PageTable]:
        """Yield one symbol's bars of a span of dates, page by page.

        :raises ServerError: if the pages do not lead on. It is not retried: the next page's address is the last page's own, and the
            same one would come back.
        """
        request = query.request
        ticker, span = quote(request.symbols[0], safe=""), SPANS[request.dataset]
        path = f"/v2/aggs/ticker/{ticker}/range/{span}/{request.start}/{request.last}"
        params: dict[str, str | int] = {"adjusted": _word(query.adjusted), "sort": "asc", "limit": PAGE_ROWS}
        latest = None
        while True:
            page = self._bars(path, params, query)
            first, last = pc.min_max(page.table["bar_time"]).as_py().values()
            if first is not None and latest is not None and first <= latest:
                raise ServerError("a page goes back in time: the paging loops", **self.where(str(request), page.request_id))
            if page.next_url and last is None:
                text = "a page brings nothing and names a next one: the paging loops"
                raise ServerError(text, **self.where(str(request), page.request_id))
            yield page
            if not page.next_url:
                return
            latest = last
            # The cursor need not carry ``adjusted``; it is sent again and every page is checked for it.
            path, params = page.next_url, {"adjusted": _word(query.adjusted)}

    def _bars(self, path: str, params: Mapping[str, str | int], query: BarQuery) -> PageTable:
        """Return one page. It becomes columns at once: a request may have many pages of minutes."""
        plain, once_more = self.transport.plain, OnceMore()

        def read(page: BarPage[Any], response: Response) -> PageTable:
            return query.read(page, response, plain, once_more)

        return self.get(path, params, str(query.request), query.form, read, BarPage[msgspec.Raw])


def classify(
    response: Response, where: Mapping[str, str], plain: Callable[[str], str], conn_id: str, quota: Quota
) -> ProviderError | None:
    """Return the typed error of a response that is not a success, or None.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :param conn_id: the connection whose password the key is.
    """
    if response.status < 400:
        return None
    page = error_body(response, PolygonPage[msgspec.Raw]) or PolygonPage()
    text = plain(page.error or page.message) or f"HTTP status {response.status}"
    where = {**where, "request_id": page.request_id}
    if response.status == 429:
        return Throttled(text, retry_after=pause(response.headers, quota), **where)
    if response.status == 401:
        return AuthError(f"{text} (the key is the password of connection {conn_id!r})", **where)
    if response.status == 403:
        return EntitlementError(text, **where)
    if response.status >= 500:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {response.status})", **where)


def _word(value: bool) -> str:
    return "true" if value else "false"
