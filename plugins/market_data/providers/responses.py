"""Helpers for hooks: read JSON, wait after a 429, leave out recent sessions, map moments to dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.capabilities import Quota
from market_data.core.errors import EntitlementError, NotYetAvailable, SchemaDrift, ServerError, TruncatedResponse
from market_data.core.intervals import Interval, intersection
from market_data.http.client import Response, retry_after
from market_data.http.rate_limit import LONG_WINDOW

T = TypeVar("T")
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def decode(response: Response, kind: type[T], where: Mapping[str, str], plain: Callable[[str], str]) -> T:
    """Return the JSON body of a response.

    :param where: ``provider`` and ``request``, for messages.
    :param plain: `Transport.plain`.
    :raises SchemaDrift: if it is JSON of another form.
    :raises TruncatedResponse: if it is JSON that ends early or is damaged.
    :raises ServerError: if it is not JSON.
    """
    try:
        return msgspec.json.decode(response.body, type=kind)
    except msgspec.ValidationError as error:
        raise SchemaDrift(
            f"{where['provider']}: {where['request']}: the response is not of the known form: {error}. "
            "To do: see the provider's changelog; the hook has to learn the new form"
        ) from None
    except msgspec.DecodeError:
        size = len(response.body)
        if response.body.lstrip().startswith((b"{", b"[")):
            raise TruncatedResponse(f"the JSON ends early or is damaged; {size} bytes came", **where) from None
        named = plain(response.headers.get("Content-Type", "an unnamed type"))
        raise ServerError(f"the response is not JSON but {size} bytes of {named}", **where) from None


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
        self._midnights = np.array([(calendar.at(day, time()) - EPOCH) // MICROSECOND for day in days], dtype=np.int64)

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
