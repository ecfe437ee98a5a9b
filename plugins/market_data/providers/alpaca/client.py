"""Fetch Alpaca's bars: one chain of pages for many symbols, and the typed error of every refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec

from market_data.core.capabilities import Quota
from market_data.core.errors import AuthError, BadRequest, EntitlementError, ProviderError, ServerError, Throttled
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response, Transport, retry_after
from market_data.providers.alpaca.parse import BarsPage, BarsQuery, BarsTable, malformed, read_page, request_id, until_reset
from market_data.providers.responses import error_body, pause
from market_data.providers.spool import Spool
from market_data.providers.unexpected import OnceMore

BARS = "/v2/stocks/bars"

MOST_REFUSED = 100
"""Malformed symbols of one request that are set aside. Each costs a call."""
MOST_EMPTY = 10
"""Pages without a bar, one after another, that a further one may follow."""

IN_MEMORY = 200_000
"""Rows of a response that stay in memory: some 15 MB. The regular minutes of a request fit: requests are planned for days of 16 hours."""

_UNPAID = re.compile(r"subscription|permit", re.IGNORECASE)

Params = Mapping[str, str | int]


class AlpacaRefusal(msgspec.Struct):
    """The body of a refusal."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class BarsResponse:
    """All pages of a response.

    :param rows: their rows.
    :param pages: what else they hold; their tables are empty.
    :param refused: symbol -> why the vendor rejected it.
    """

    rows: Spool
    pages: Sequence[BarsTable] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BarsClient:
    """The endpoint of bars behind a transport."""

    transport: Transport

    def probe(self, params: Params, what: str) -> None:
        """Fetch one page and read it."""

        def parse(response: Response) -> BarsPage[Any]:
            where = {"provider": self.transport.provider, "request": what, "request_id": request_id(response)}
            return read_page(response, where, self.transport.plain)

        self.transport.get(BARS, params, what, parse)

    def without_malformed(self, query: BarsQuery, params: Params) -> BarsResponse:
        """Return all pages. Symbols that the vendor calls malformed are left out of the request."""
        refused: dict[str, str] = {}
        while symbols := [symbol for symbol in query.symbols if symbol not in refused]:
            try:
                found = self.chain(BarsQuery(query.provider, query.request, symbols, query.days), params)
                return replace(found, refused=refused)
            except BadRequest as error:
                named = malformed(error.said, symbols)
                if named is None or len(refused) == MOST_REFUSED:
                    raise
                refused[named] = error.said
        return BarsResponse(_spool(query), refused=refused)

    def chain(self, query: BarsQuery, params: Params) -> BarsResponse:
        """Return the pages of one response, in order.

        A page has to continue where the one before ended: with the same symbol, later, or with symbols that have not come yet.
        None of these errors is retried: the token is the page's own, and the same page would come back.

        :raises ServerError: if the pages do not lead on.
        """
        what = str(query.request)
        params = {**params, "symbols": ",".join(query.symbols)}
        rows, pages = _spool(query), []
        latest: Mapping[str, tuple[int, int]] = {}
        seen: set[str] = set()
        tokens: set[str] = set()
        empty = 0
        while True:
            read = partial(query.read, plain=self.transport.plain, once_more=OnceMore())
            part = self.transport.get(BARS, params, what, read)
            where = {"provider": self.transport.provider, "request": what, "request_id": part.request_id}
            if _repeats(part, seen, latest):
                raise ServerError("a page repeats what came before: the paging loops", **where)
            rows.add(part.table)
            pages.append(replace(part, table=rows.schema.empty_table()))
            if part.token is None:
                return BarsResponse(rows, pages)
            empty = 0 if part.spans else empty + 1
            if part.token in tokens or empty > MOST_EMPTY:
                raise ServerError("a page brings nothing new and names a next one: the paging loops", **where)
            tokens.add(part.token)
            seen.update(part.spans)
            latest = part.spans or latest
            params = {**params, "page_token": part.token}


def _spool(query: BarsQuery) -> Spool:
    return Spool(find_dataset(query.request.dataset).received, IN_MEMORY)


def _repeats(part: BarsTable, seen: set[str], latest: Mapping[str, tuple[int, int]]) -> bool:
    """Return True where a page goes back in symbols or in time."""
    again = seen.intersection(part.spans)
    return len(again) > 1 or any(symbol not in latest or part.spans[symbol][0] <= latest[symbol][1] for symbol in again)


def classify(response: Response, what: str, transport: Transport, conn_id: str, quota: Quota) -> ProviderError | None:
    """Return the typed error of a response that is not a success, else None.

    Whatever the response is, every slot obeys what it says about the quota.

    :param what: the request in words, for messages.
    :param conn_id: the connection that holds the key.
    """
    rest = until_reset(response.headers)
    if rest and response.headers.get("X-RateLimit-Remaining", "").strip() == "0":
        transport.pacer.penalise(rest)
    if response.status < 400:
        return None
    found = error_body(response, AlpacaRefusal)
    text = transport.plain(found.message if found else "") or f"HTTP status {response.status}"
    where = {"provider": transport.provider, "request": what, "request_id": request_id(response)}
    if response.status == 429:
        return Throttled(text, retry_after=retry_after(response.headers) or rest or pause(response.headers, quota), **where)
    if response.status == 403 and _UNPAID.search(text):
        return EntitlementError(text, **where)
    if response.status in (401, 403):
        # Which of the two comes for a bad key has changed over the years.
        return AuthError(f"{text} (login and password of connection {conn_id!r} are the key)", **where)
    if response.status >= 500:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {response.status})", **where)
