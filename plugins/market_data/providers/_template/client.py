"""Fetch from the provider: a chain of pages, and the typed error of every refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from market_data.core.batch import Request
from market_data.core.capabilities import Quota
from market_data.core.errors import AuthError, BadRequest, EntitlementError, ProviderError, ServerError, Throttled
from market_data.http.client import Response, Transport
from market_data.providers._template.parse import TemplateTable, read_page
from market_data.providers.responses import error_body, pause
from market_data.providers.unexpected import OnceMore

PAGE_ROWS = 1000
"""Most rows of a page, and the limit that is sent."""


class TemplateRefusal(msgspec.Struct):
    """The body of a refusal."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class TemplateClient:
    """The API behind a transport, which paces, retries and redacts."""

    transport: Transport

    def bars(self, request: Request, options: Mapping[str, str]) -> Iterator[TemplateTable]:
        """Yield one symbol's bars, page by page.

        :raises ServerError: if the pages do not lead on. It is not retried: the same page would come back.
        """
        number: int | None = 1
        while number is not None:
            page = self._page(request, {**options, "page": number})
            if page.next_page not in (None, number + 1):
                where = {"provider": self.transport.provider, "request": str(request), "request_id": page.request_id}
                raise ServerError(f"page {number} names page {page.next_page} as the next: the paging loops", **where)
            yield page
            number = page.next_page

    def _page(self, request: Request, options: Mapping[str, str | int]) -> TemplateTable:
        params: dict[str, str | int] = {
            "symbol": request.symbols[0],
            "from": f"{request.start}",
            "to": f"{request.last}",
            "limit": PAGE_ROWS,
            **options,
        }
        provider, plain, once_more = self.transport.provider, self.transport.plain, OnceMore()

        def read(response: Response) -> TemplateTable:
            return read_page(response, request, provider, plain, once_more)

        return self.transport.get("/v1/bars", params, str(request), read)


def classify(response: Response, what: str, transport: Transport, conn_id: str, quota: Quota) -> ProviderError | None:
    """Return the typed error of a response that is not a success, else None.

    :param what: the request in words, for messages.
    :param conn_id: the connection that holds the key.
    """
    if response.status < 400:
        return None
    found = error_body(response, TemplateRefusal)
    text = transport.plain(found.error if found else "") or f"HTTP status {response.status}"
    where = {"provider": transport.provider, "request": what, "request_id": response.headers.get("X-Request-Id", "")}
    if response.status == 429:
        return Throttled(text, retry_after=pause(response.headers, quota), **where)
    if response.status == 401:
        return AuthError(f"{text} (the key is the password of connection {conn_id!r})", **where)
    if response.status == 403:
        return EntitlementError(text, **where)
    if response.status >= 500:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {response.status})", **where)
