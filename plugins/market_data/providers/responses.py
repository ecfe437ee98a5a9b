"""Helpers for hooks: read JSON, wait after a 429, leave out recent sessions, map moments to dates."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Quota
from market_data.core.dates import microseconds
from market_data.core.errors import EntitlementError, NotYetAvailable, SchemaDrift, ServerError, TruncatedResponse
from market_data.core.intervals import Interval, intersection
from market_data.http.call_state import LONG_WINDOW
from market_data.http.client import Response, retry_after

T = TypeVar("T")
DAY = timedelta(days=1)

LARGEST_JSON = 64 * 1024 * 1024
"""Bytes of a JSON response. The largest regular one has about 10 MB."""
MOST_VALUES = 5_000_000
"""Values of a JSON response, about 100 bytes of memory each. The largest regular one has about 500,000."""
LARGEST_ERROR = 64 * 1024
"""Bytes of a refusal that are read."""
LONGEST_FIELD = 4096
_NO_NUMBER = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|-?\b(?:NaN|Infinity)\b', re.DOTALL)
"""A text, or a word that some servers write for a number and that JSON does not have."""
_FIELD = re.compile(rb'"([A-Za-z_][A-Za-z0-9_ ]{0,40})"\s*:')


def decode(
    response: Response, kind: type[T], where: Mapping[str, str], plain: Callable[[str], str], by_row: type[Any] | None = None
) -> T:
    """Return the JSON body of a response. A byte order mark before it is left out.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :param by_row: the form with `msgspec.Raw` in place of each row. It is returned where single rows may be of another form, for
        `unexpected.read_rows`.
    :raises SchemaDrift: if it is JSON of another form; names the field.
    :raises TruncatedResponse: if it is JSON that ends early or is damaged.
    :raises ServerError: if it is not JSON, or too large.
    """
    body = response.body.removeprefix(BOM_UTF8)
    if problem := too_large(body):
        raise ServerError(f"the response is too large: {problem}", **where)
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        regular: T = msgspec.json.decode(body, type=kind)
        return regular
    if b"NaN" in body or b"Infinity" in body:
        body = _NO_NUMBER.sub(_quoted, body)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        if by_row is not None:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                rows: T = msgspec.json.decode(body, type=by_row)
                return rows
        found = f"{_not_utf8(body)} is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise drift(where, plain(found)) from None
    except RecursionError:
        raise drift(where, "its values are nested too deeply") from None
    except msgspec.DecodeError:
        size = len(response.body)
        if body.lstrip().startswith((b"{", b"[")):
            raise TruncatedResponse(f"the JSON ends early or is damaged; {size} bytes came", **where) from None
        named = plain(response.headers.get("Content-Type", "an unnamed type"))
        raise ServerError(f"the response is not JSON but {size} bytes of {named}", **where) from None


def _quoted(found: re.Match[bytes]) -> bytes:
    """Return a text as it is, and NaN or Infinity as a text, which no field of a number accepts."""
    return found[0] if found[0].startswith(b'"') else b'"%b"' % found[0]


def drift(where: Mapping[str, str], found: str, what: str = "the response") -> SchemaDrift:
    """Return the error of a response of another form.

    :param found: the field and what it holds.
    """
    return SchemaDrift(
        f"{where['provider']}: {where['request']}: {what} is not of the known form: {found}. "
        "To do: see the provider's changelog; the hook has to learn the new form"
    )


def error_body(response: Response, kind: type[T]) -> T | None:
    """Return the JSON body of a refusal, or None where it is not JSON of that form.

    Use it wherever a response with an error is read: a refusal is typed by its status, whatever its body holds.
    """
    if len(response.body) > LARGEST_ERROR:
        return None
    try:
        return msgspec.json.decode(response.body.removeprefix(BOM_UTF8), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: text that is not UTF-8
        return None


def error_text(response: Response) -> str:
    """Return the first ``LARGEST_ERROR`` bytes of a body as text."""
    return response.body[:LARGEST_ERROR].decode(errors="replace")


def too_large(body: bytes) -> str:
    """Return the limit that a JSON body exceeds, or nothing.

    Values count too: ``[{},{},...]`` takes 25 times its size in memory.
    """
    if len(body) > LARGEST_JSON:
        return f"more than {LARGEST_JSON:,} bytes of JSON"
    if len(body) <= MOST_VALUES:  # every value takes a byte
        return ""
    values = sum(body.count(sign) for sign in (b",", b"[", b"{"))
    return f"more than {MOST_VALUES:,} values" if values > MOST_VALUES else ""


def _not_utf8(body: bytes) -> str:
    """Return the name of the field that holds the first byte which is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        names: list[bytes] = _FIELD.findall(body[max(0, error.start - LONGEST_FIELD) : error.start])
        return f"field {names[-1].decode()}" if names else f"byte {error.start + 1}"
    return "the body"


def pause(headers: Mapping[str, str], quota: Quota) -> float | None:
    """Return seconds to wait after a 429: as it says, else the length of the narrowest window, else None."""
    short = [window.seconds for window in quota.limits if window.seconds < LONG_WINDOW]
    return retry_after(headers) or min(short, default=None)


def without_recent(request: Request, error: EntitlementError, recent: date, until: datetime) -> Request:
    """Return the request without the sessions from ``recent`` on.

    Use it for a request refused as a whole, perhaps only because the provider does not have its last sessions yet.

    :param error: the refusal.
    :param until: the moment from which all of ``request`` can be had, UTC.
    :raises EntitlementError: ``error``, if nothing requested is recent.
    :raises NotYetAvailable: if all of it is.
    """
    if request.last < recent:
        raise error
    older = intersection(request.intervals, (Interval(date.min, recent),))
    if older:
        return replace(request, intervals=older)
    where = {"provider": error.provider, "request": error.request, "request_id": error.request_id}
    raise NotYetAvailable(error.said, until=until, **where) from None


class NewYorkDays:
    """The dates from ``first`` to ``last`` (both inclusive), each from midnight to midnight in New York."""

    def __init__(self, first: date, last: date) -> None:
        days = [first + n * DAY for n in range((last - first).days + 2)]
        self._dates = np.array(days, dtype="datetime64[D]")
        self._midnights = np.array([microseconds(calendar.at(day, time())) for day in days], dtype=np.int64)

    def of(self, moments: NDArray[np.int64]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
        """Return the date of each moment (microseconds UTC), and True where it is outside these dates.

        Outside, the date is only near.
        """
        place = np.searchsorted(self._midnights, moments, side="right") - 1
        outside = (place < 0) | (place >= len(self._dates) - 1)
        return self._dates[place.clip(0, len(self._dates) - 2)], outside

    def at_midnight(self, moments: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return True for each moment that is midnight in New York, of one of these dates."""
        return np.isin(moments, self._midnights)
