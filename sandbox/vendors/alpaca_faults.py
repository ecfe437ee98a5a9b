"""Faults in Alpaca's responses: valid JSON with wrong content, and a 429 with its own reset time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sandbox.vendors.messages import VendorResponse

Row = dict[str, Any]
_numbers = count(1)


def page_loop(response: VendorResponse, *, days_back: int = 0) -> VendorResponse:
    """Point the token at its own page; ``days_back``: at an earlier row of the same symbol."""
    own = response.request.query.get("page_token")
    token = own if own and not days_back else _before_first(response, timedelta(days=days_back, seconds=1))
    return _with(response, next_page_token=token)


def no_rows(response: VendorResponse) -> VendorResponse:
    """Send no bars and a new token that leads to the same page."""
    return _with(response, bars={}, next_page_token=_before_first(response, timedelta(milliseconds=next(_numbers))))


def other_symbol(response: VendorResponse, *, symbol: str = "ZVZZT") -> VendorResponse:
    """Put the last symbol's rows under another symbol."""
    bars = _bars(response)
    return _with(response, bars={(symbol if name == [*bars][-1] else name): rows for name, rows in bars.items()})


def out_of_range(response: VendorResponse, *, days: int = 4000) -> VendorResponse:
    """Move the last row ``days`` into the future."""
    last = _rows(response)[-1][1]
    moment = f"{datetime.fromisoformat(last['t']) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    return _each(response, lambda row: [{**row, "t": moment} if row is last else row])


def other_hour(response: VendorResponse) -> VendorResponse:
    """Stamp each row with noon UTC of its date."""
    return _each(response, lambda row: [{**row, "t": f"{row['t'][:10]}T12:00:00Z"}])


def duplicated(response: VendorResponse, *, conflicting: bool = False) -> VendorResponse:
    """Send every row twice; ``conflicting``: the second time with another volume."""
    return _each(response, lambda row: [row, {**row, "v": row["v"] + 1} if conflicting else row])


def no_bars(response: VendorResponse, *, null: bool = False) -> VendorResponse:
    """Leave ``bars`` out, or send it as null."""
    rest = {name: value for name, value in response.body.items() if name != "bars"}
    return replace(response, body={"bars": None, **rest} if null else rest)


def no_token(response: VendorResponse) -> VendorResponse:
    """Leave ``next_page_token`` out."""
    return replace(response, body={"bars": _bars(response)})


def drifted(response: VendorResponse) -> VendorResponse:
    """Closing prices as text."""
    return _each(response, lambda row: [{**row, "c": str(row["c"])}])


def throttled(response: VendorResponse, *, retry_after: float | str | None = None, reset: float | None = None) -> VendorResponse:
    """Refuse with status 429.

    :param retry_after: the header's value; the vendor is not known to send one.
    :param reset: seconds from now, sent as ``X-RateLimit-Reset``.
    """
    refusal = response.request.vendor.throttled(response.request, retry_after)
    return replace(refusal, headers={**refusal.headers, **_used_up(reset)})


def used_up(response: VendorResponse, *, reset: float = 1.0) -> VendorResponse:
    """Send the normal response with no calls left for ``reset`` seconds."""
    return replace(response, headers={**response.headers, **_used_up(reset)})


KINDS: Mapping[str, Callable[..., VendorResponse]] = {
    function.__name__: function
    for function in (
        *(page_loop, no_rows, other_symbol, out_of_range, other_hour, duplicated, no_bars, no_token, drifted, throttled, used_up),
    )
}


def _used_up(reset: float | None) -> dict[str, str]:
    if reset is None:
        return {}
    return {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(math.ceil(time.time() + reset))}


def _bars(response: VendorResponse) -> dict[str, list[Row]]:
    return response.body.get("bars") or {}


def _rows(response: VendorResponse) -> list[tuple[str, Row]]:
    return [(symbol, row) for symbol, rows in _bars(response).items() for row in rows]


def _before_first(response: VendorResponse, by: timedelta) -> str:
    """A token whose page begins at the first row here, or earlier."""
    symbol, row = _rows(response)[0]
    return response.request.vendor.token(response.request, symbol, datetime.fromisoformat(row["t"]) - by)  # type: ignore[attr-defined]


def _each(response: VendorResponse, change: Callable[[Row], list[Row]]) -> VendorResponse:
    """Return the response with each row replaced by the rows that ``change`` makes of it."""
    return _with(
        response, bars={symbol: [made for row in rows for made in change(row)] for symbol, rows in _bars(response).items()}
    )


def _with(response: VendorResponse, **fields: Any) -> VendorResponse:
    return replace(response, body={**response.body, **fields})
