"""Turn Databento's refusals into typed errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from market_data.core.capabilities import Quota
from market_data.core.errors import (
    AuthError,
    BadRequest,
    EntitlementError,
    ProviderError,
    QuotaExhausted,
    ServerError,
    TerminalError,
    Throttled,
)
from market_data.http.client import Response, Transport
from market_data.providers.responses import error_body, error_text, pause

LICENCE = timedelta(hours=24)
"""More recent records need a live licence; used if the refusal does not name a moment."""

_UNTIL = re.compile(r"(?:after|before|up to) '?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)")


class Later(EntitlementError):
    """A question that ends too late.

    :param until: where it may end, UTC.
    """

    def __init__(self, message: str, *, until: datetime, **where: str) -> None:
        super().__init__(message, **where)
        self.until = until


class Unresolved(BadRequest):
    """None of the symbols resolves to an instrument in the requested time."""


class TooManyRows(BadRequest):
    """A request of more rows than memory is meant for; known before it costs money."""

    to_do = "request fewer symbols, or fewer days (chunk_days); a symbol's single day with more rows cannot be fetched"


class WrongResponse(TerminalError):
    """A sound stream that does not match the request.

    Another download would be charged and return the same.
    """

    to_do = "give the vendor's support these words and numbers; clear the failed tasks when it is mended, for every try is charged"


class RefusalDetail(msgspec.Struct):
    """The vendor's details of a refusal."""

    case: str = ""
    message: str = ""
    payload: dict[str, Any] | None = None


class Refusal(msgspec.Struct):
    """The body of a refusal."""

    detail: RefusalDetail | str = ""


def classify(response: Response, what: str, transport: Transport, conn_id: str, quota: Quota, now: datetime) -> ProviderError:
    """Return the typed error of a response with a status of 400 or more.

    :param what: the request in words, for messages.
    :param conn_id: the connection that holds the key.
    """
    detail = _detail(response)
    text = transport.plain(detail.message or error_text(response)) or f"HTTP status {response.status}"
    where = {"provider": transport.provider, "request": what, "request_id": response.headers.get("request-id", "")}
    if response.status == 401 or detail.case == "auth_account_locked":
        return AuthError(f"{text} (the key is the password of connection {conn_id!r})", **where)
    if response.status == 402:
        return QuotaExhausted(f"{text} (the account has no money left)", resets_at=None, **where)
    if response.status == 429:
        return Throttled(text, retry_after=pause(response.headers, quota), **where)
    if response.status in (403, 422):
        return _unavailable(response.status, detail, text, now, where)
    if response.status >= 500 or response.status == 408:
        return ServerError(text, **where)
    return BadRequest(f"{text} (HTTP {response.status})", **where)


def _unavailable(status: int, detail: RefusalDetail, text: str, now: datetime, where: dict[str, str]) -> ProviderError:
    """Return the error of a 403 or 422; which one depends on the case."""
    if "after_available_end" in detail.case or detail.case.startswith(("license_not_found", "dataset_unavailable_range")):
        until = _until(detail) or (now - LICENCE if detail.case.startswith("license") else None)
        return EntitlementError(text, **where) if until is None else Later(text, until=until, **where)
    if detail.case == "data_start_before_available_start":
        return EntitlementError(text, **where)
    if detail.case == "symbology_invalid_request" and "could be resolved" in text:
        return Unresolved(text, **where)
    return EntitlementError(text, **where) if status == 403 else BadRequest(f"{text} (HTTP {status})", **where)


def _detail(response: Response) -> RefusalDetail:
    found = (error_body(response, Refusal) or Refusal()).detail
    return RefusalDetail(message=found) if isinstance(found, str) else found


def _until(detail: RefusalDetail) -> datetime | None:
    """Return the end of what is available, UTC, from the payload or from the vendor's words."""
    named = (detail.payload or {}).get("available_end")
    found = _UNTIL.search(f"up to {named}" if isinstance(named, str) else detail.message)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:  # a month 13, say
        return None


def where_of(error: ProviderError) -> dict[str, str]:
    return {"provider": error.provider, "request": error.request, "request_id": error.request_id}


def plain_refusal(error: Later) -> EntitlementError:
    return EntitlementError(error.said, **where_of(error))
