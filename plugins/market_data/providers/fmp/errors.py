"""Turn FMP's refusals into typed errors.

A refusal is any body that is neither a JSON array nor a CSV file, whatever its status: ``{"Error Message": "..."}`` comes with 200 too,
and 402 is plain text. See https://site.financialmodelingprep.com/developer/docs/stable; the words are those of recorded responses.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
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
    Throttled,
)
from market_data.core.messages import shown
from market_data.http.call_state import LONG_WINDOW
from market_data.http.client import LONGEST_WORDS, Response, retry_after
from market_data.providers.responses import error_body, error_text, pause

DAY = timedelta(days=1)
BULK_PAUSE = 30.0
"""Seconds to wait after a bulk file that came too soon after another; how long the vendor wants is not known."""

_DATA = re.compile(rb'\s*(\[|"?(symbol|date)"?,)')
_GATE = re.compile(r"(premium query parameter|(special|restricted|exclusive|legacy) endpoint)", re.IGNORECASE)
_PART = re.compile("values? (set )?for '(period|limit)'")


class NotInPlan(EntitlementError):
    """The plan does not include this symbol; others it does."""


class PartNotInPlan(EntitlementError):
    """The plan does not include a period of this symbol's statements, or so many of them; others it does."""


class RefusalBody(msgspec.Struct):
    """The body of a refusal; each field is text, as far as is known."""

    error_message: Any = msgspec.field(name="Error Message", default=None)
    message: Any = None
    error: Any = None


def words(response: Response) -> str | None:
    """Return the message that a response has instead of data, or None if it begins like data."""
    if _DATA.match(response.body.removeprefix(BOM_UTF8)):
        return None
    found = error_body(response, RefusalBody)
    if found is None:
        return error_text(response).strip()
    said = next(filter(None, (found.error_message, found.message, found.error)), "")
    return said if isinstance(said, str) else shown(said, LONGEST_WORDS)


def classify(
    response: Response, where: Mapping[str, str], plain: Callable[[str], str], conn_id: str, quota: Quota, now: datetime
) -> ProviderError | None:
    """Return the typed error of a response without data, or None.

    Status and message count alike, as any message may come with status 200.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :param conn_id: the connection whose password the key is.
    :param quota: the account's.
    """
    said, status = words(response), response.status
    if status < 400 and said is None:
        return None
    spoken = said or ""
    text = plain(spoken) or f"nothing but HTTP status {status}"
    error: ProviderError
    if status == 429 or "limit reach" in spoken.lower():
        error = _used_up(response, spoken.lower(), text, quota, now)
    elif status == 401 or "invalid api key" in spoken.lower():
        error = AuthError(f"{text} (the key is the password of connection {conn_id!r})")
    elif "value set for 'symbol'" in spoken:
        error = NotInPlan(text)
    elif _PART.search(spoken):
        error = PartNotInPlan(text)
    elif status in (402, 403) or _GATE.search(spoken):
        error = EntitlementError(text)
    elif status < 400:
        error = ServerError(f"the response is neither a list nor a file but HTTP {status} with: {text}")
    elif status >= 500:
        error = ServerError(text)
    else:
        error = BadRequest(f"{text} (HTTP {status})")
    return error.at(provider=where["provider"], request=where["request"])


def _used_up(response: Response, spoken: str, text: str, quota: Quota, now: datetime) -> ProviderError:
    """Return the error for a used-up quota.

    ``Limit Reach`` is the day's quota on a plan that has one, else the minute's. Bulk files have a throttle of their own.
    """
    if "bandwidth" in spoken:
        return QuotaExhausted(f"{text}; it counts the bytes of the last 30 days")
    if "bulk endpoint" in spoken:
        return Throttled(text, retry_after=retry_after(response.headers) or BULK_PAUSE)
    if "limit reach" in spoken and any(window.seconds >= LONG_WINDOW for window in quota.limits):
        resets = _renewed(now)
        return QuotaExhausted(f"{text}; the day's quota is renewed at {resets:%Y-%m-%d %H:%M} UTC", resets_at=resets)
    return Throttled(text, retry_after=pause(response.headers, quota))


def _renewed(now: datetime) -> datetime:
    """Return the moment at which the day's quota is renewed. Not documented; users report midnight UTC."""
    return datetime.combine(now.astimezone(UTC).date() + DAY, time(), UTC)
