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

from market_data.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    ProviderError,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.transport import Answer, Transport, retry_after

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
    """What is kept of one answer: the asked rows as columns, and what proves the answer whole.

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

    def get(
        self, path: str, params: Mapping[str, str | int], what: str, form: type[P], read: Callable[[P, Answer], T]
    ) -> T:
        """Ask for a page and make of it what ``read`` does; asked again while either fails with an error that may pass.

        :param what: the request in words, for messages.
        :param form: the page's.
        """
        return self.transport.get(path, params, what, lambda answer: read(self._decode(answer, what, form), answer))

    def where(self, what: str, page: Page[Any]) -> dict[str, str]:
        """What an error about ``page`` says of its place."""
        return {"provider": self.transport.provider, "request": what, "request_id": page.request_id}

    def _decode(self, answer: Answer, what: str, form: type[P]) -> P:
        plain, provider = self.transport.plain, self.transport.provider
        where = {"provider": provider, "request": what}
        try:
            page = msgspec.json.decode(answer.body, type=form)
        except msgspec.ValidationError as error:
            raise SchemaDrift(
                f"{provider}: {what}: the answer is not of the known form: {error}. "
                "To do: see the provider's changelog; the hook has to learn the new form"
            ) from None
        except msgspec.DecodeError:
            size = len(answer.body)
            if answer.body.lstrip().startswith(b"{"):
                raise TruncatedResponse(f"the JSON ends early or is damaged; {size} bytes came", **where) from None
            kind = plain(answer.headers.get("Content-Type", "an unnamed type"))
            raise ServerError(f"the answer is no JSON but {size} bytes of {kind}", **where) from None
        if page.status not in ("OK", "DELAYED"):
            text = plain(f"status {page.status!r} with HTTP {answer.status}: {page.error or page.message or 'no message'}")
            raise ServerError(text, request_id=page.request_id, **where)
        return page


def classify(
    answer: Answer, what: str, *, provider: str, conn_id: str, pause: float | None, plain: Callable[[str], str]
) -> ProviderError | None:
    """The typed error of an answer that is no success, or None.

    :param conn_id: the connection whose password the key is.
    :param pause: seconds that a 429 without Retry-After asks for.
    :param plain: makes the provider's words fit for a message.
    """
    if answer.status < 400:
        return None
    try:
        page = msgspec.json.decode(answer.body, type=Page[msgspec.Raw])
    except msgspec.MsgspecError:
        page = Page()
    text = plain(page.error or page.message) or f"HTTP status {answer.status}"
    where = {"provider": provider, "request": what, "request_id": page.request_id}
    if answer.status == 429:
        return Throttled(text, retry_after=retry_after(answer.headers) or pause, **where)
    if answer.status == 401:
        return AuthError(f"{text} (the key is the password of connection {conn_id!r})", **where)
    if answer.status == 403:
        return EntitlementError(text, **where)
    if answer.status >= 500:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {answer.status})", **where)
