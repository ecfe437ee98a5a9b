"""Polygon's REST API: a page of JSON at a time, and the typed error of every answer that is none.

An answer's ``status`` is ``OK``, or ``DELAYED`` on plans with delayed data; what is wrong stands in ``error`` or in ``message``. A 429
has no Retry-After in any recorded answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa

from market_data.core.capabilities import Quota
from market_data.core.errors import AuthError, BadRequest, EntitlementError, ProviderError, ServerError, Throttled
from market_data.http.client import Answer, Transport
from market_data.providers.responses import decode, pause

R = TypeVar("R")
T = TypeVar("T")


class Page(msgspec.Struct, Generic[R], gc=False):
    """One answer, whatever its endpoint."""

    status: str = ""
    request_id: str = ""
    results: list[R] | None = None
    next_url: str | None = None
    error: str = ""
    message: str = ""


P = TypeVar("P", bound=Page[Any])


@dataclass(frozen=True, slots=True)
class Part:
    """What is kept of an answer: the asked rows as columns, and what proves it whole.

    :param received: rows that came, those of other symbols too.
    :param declared: rows that the answer says it has, or None where it says nothing.
    :param source: the server's word on where its values come from; only the local sample servers say it.
    """

    table: pa.Table
    received: int
    declared: int | None
    request_id: str
    next_url: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """The API behind a transport."""

    transport: Transport

    def get(self, path: str, params: Mapping[str, str | int], what: str, form: type[P], read: Callable[[P, Answer], T]) -> T:
        """Ask for a page and make of it what ``read`` does; asked again while either fails with an error that may pass.

        :param what: the request in words, for messages.
        :param form: the page's.
        """

        def parse(answer: Answer) -> T:
            page = decode(answer, form, {"provider": self.transport.provider, "request": what}, self.transport.plain)
            if page.status not in ("OK", "DELAYED"):
                said = f"status {page.status!r} with HTTP {answer.status}: {page.error or page.message or 'no message'}"
                raise ServerError(self.transport.plain(said), **self.where(what, page.request_id))
            return read(page, answer)

        return self.transport.get(path, params, what, parse)

    def where(self, what: str, request_id: str) -> dict[str, str]:
        """What an error about an answer says of its place."""
        return {"provider": self.transport.provider, "request": what, "request_id": request_id}


def classify(
    answer: Answer, where: Mapping[str, str], plain: Callable[[str], str], conn_id: str, quota: Quota
) -> ProviderError | None:
    """The typed error of an answer that is no success, or None.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :param conn_id: the connection whose password the key is.
    """
    if answer.status < 400:
        return None
    try:
        page = msgspec.json.decode(answer.body, type=Page[msgspec.Raw])
    except msgspec.MsgspecError:
        page = Page()
    text = plain(page.error or page.message) or f"HTTP status {answer.status}"
    where = {**where, "request_id": page.request_id}
    if answer.status == 429:
        return Throttled(text, retry_after=pause(answer.headers, quota), **where)
    if answer.status == 401:
        return AuthError(f"{text} (the key is the password of connection {conn_id!r})", **where)
    if answer.status == 403:
        return EntitlementError(text, **where)
    if answer.status >= 500:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {answer.status})", **where)
