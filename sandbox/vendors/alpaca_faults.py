"""Faults in Alpaca's responses: valid JSON with wrong content, and a 429 with its own reset time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sandbox.http.messages import Answer

Row = dict[str, Any]
_numbers = count(1)


def page_loop(answer: Answer, *, days_back: int = 0) -> Answer:
    """Point the token at its own page; ``days_back``: at an earlier row of the same symbol."""
    own = answer.request.query.get("page_token")
    token = own if own and not days_back else _before_first(answer, timedelta(days=days_back, seconds=1))
    return _with(answer, next_page_token=token)


def no_rows(answer: Answer) -> Answer:
    """Send no bars and a new token that leads to the same page."""
    return _with(answer, bars={}, next_page_token=_before_first(answer, timedelta(milliseconds=next(_numbers))))


def other_symbol(answer: Answer, *, symbol: str = "ZVZZT") -> Answer:
    """Put the last symbol's rows under another symbol."""
    bars = _bars(answer)
    return _with(answer, bars={(symbol if name == [*bars][-1] else name): rows for name, rows in bars.items()})


def out_of_range(answer: Answer, *, days: int = 4000) -> Answer:
    """Move the last row ``days`` into the future."""
    last = _rows(answer)[-1][1]
    moment = f"{datetime.fromisoformat(last['t']) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    return _each(answer, lambda row: [{**row, "t": moment} if row is last else row])


def other_hour(answer: Answer) -> Answer:
    """Stamp each row with noon UTC of its date."""
    return _each(answer, lambda row: [{**row, "t": f"{row['t'][:10]}T12:00:00Z"}])


def duplicated(answer: Answer, *, conflicting: bool = False) -> Answer:
    """Send every row twice; ``conflicting``: the second time with another volume."""
    return _each(answer, lambda row: [row, {**row, "v": row["v"] + 1} if conflicting else row])


def no_bars(answer: Answer, *, null: bool = False) -> Answer:
    """Leave ``bars`` out, or send it as null."""
    rest = {name: value for name, value in answer.body.items() if name != "bars"}
    return replace(answer, body={"bars": None, **rest} if null else rest)


def no_token(answer: Answer) -> Answer:
    """Leave ``next_page_token`` out."""
    return replace(answer, body={"bars": _bars(answer)})


def drifted(answer: Answer) -> Answer:
    """Closing prices as text."""
    return _each(answer, lambda row: [{**row, "c": str(row["c"])}])


def throttled(answer: Answer, *, retry_after: float | str | None = None, reset: float | None = None) -> Answer:
    """Refuse with status 429.

    :param retry_after: the header's value; the vendor is not known to send one.
    :param reset: seconds from now, sent as ``X-RateLimit-Reset``.
    """
    refusal = answer.request.vendor.throttled(answer.request, retry_after)
    return replace(refusal, headers={**refusal.headers, **_used_up(reset)})


def used_up(answer: Answer, *, reset: float = 1.0) -> Answer:
    """Send the normal response with no calls left for ``reset`` seconds."""
    return replace(answer, headers={**answer.headers, **_used_up(reset)})


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        *(page_loop, no_rows, other_symbol, out_of_range, other_hour, duplicated, no_bars, no_token, drifted, throttled, used_up),
    )
}


def _used_up(reset: float | None) -> dict[str, str]:
    if reset is None:
        return {}
    return {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(math.ceil(time.time() + reset))}


def _bars(answer: Answer) -> dict[str, list[Row]]:
    return answer.body.get("bars") or {}


def _rows(answer: Answer) -> list[tuple[str, Row]]:
    return [(symbol, row) for symbol, rows in _bars(answer).items() for row in rows]


def _before_first(answer: Answer, by: timedelta) -> str:
    """A token whose page begins at the first row here, or earlier."""
    symbol, row = _rows(answer)[0]
    return answer.request.vendor.token(answer.request, symbol, datetime.fromisoformat(row["t"]) - by)  # type: ignore[attr-defined]


def _each(answer: Answer, change: Callable[[Row], list[Row]]) -> Answer:
    """Return the response with each row replaced by the rows that ``change`` makes of it."""
    return _with(answer, bars={symbol: [made for row in rows for made in change(row)] for symbol, rows in _bars(answer).items()})


def _with(answer: Answer, **fields: Any) -> Answer:
    return replace(answer, body={**answer.body, **fields})
