"""Read Alpaca's pages of bars: from a response to columns, checked to match the request. No I/O.

Sources: the vendor's OpenAPI (``/v2/stocks/bars``) and https://docs.alpaca.markets/docs/historical-stock-data-1. Recorded responses
also show:

* Bars are ordered by symbol, then by time. The limit is for all symbols together, so a symbol can span pages.
* A page can be shorter than its limit, so only ``next_page_token`` marks the end.
* A daily bar is stamped midnight New York.
* A symbol without bars, known or not, is absent. One malformed symbol turns the whole response into a 400.
"""

from __future__ import annotations

import re
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.base import UTC_MICROS
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.bar_columns import number_columns, numbers, trade_counts
from market_data.providers.responses import NewYorkDays, decode
from market_data.providers.unexpected import (
    NOTHING,
    OnceMore,
    Problems,
    Unexpected,
    checked,
    read_rows,
    separated,
)

LONGEST_RESET = 60.0
"""Seconds. The vendor's window is a minute, whatever its clock or ours says."""

_MALFORMED = re.compile(r"invalid symbol: (.+)")

MOMENT, MOMENT_SIGNS = 20, [4, 7, 10, 13, 16, 19]
"""Characters of a moment in seconds, and the places of those that are not digits."""

R = TypeVar("R")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class BarValues(msgspec.Struct, gc=False):
    """A bar as the vendor writes it, apart from its moment."""

    o: float | None = None
    h: float | None = None
    l: float | None = None  # noqa: E741 - the vendor's name
    c: float | None = None
    v: float | None = None
    n: int | float | None = None
    vw: float | None = None


class AlpacaBar(BarValues, gc=False, kw_only=True):
    """A bar with its moment."""

    t: Moment


class TextBar(BarValues, gc=False, kw_only=True):
    """A bar with the text of its moment: to read all moments of a page at once takes a tenth of the time."""

    t: str


class BarsPage(msgspec.Struct, Generic[R], gc=False):
    """One response. ``next_page_token`` is null on the last page.

    Its rows are `TextBar` or `AlpacaBar`, or `msgspec.Raw` where some may be of another form.

    A page without the key is not known to be the last. ``bars`` may be null on the last page if it has none.
    """

    bars: dict[str, list[R]] | msgspec.UnsetType | None = msgspec.UNSET
    next_page_token: str | msgspec.UnsetType | None = msgspec.UNSET
    message: str = ""


@dataclass(frozen=True, slots=True)
class BarsTable:
    """A page turned into columns.

    :param spans: symbol -> its first and last moment in this page, microseconds UTC.
    :param token: of the next page, or None after the last one.
    :param received: rows that came.
    :param unexpected: what else it holds.
    """

    table: pa.Table
    spans: Mapping[str, tuple[int, int]]
    token: str | None
    request_id: str
    source: str | None
    received: int
    unexpected: Unexpected = NOTHING


def read_page(
    response: Response, where: Mapping[str, str], plain: Callable[[str], str], form: type[BarValues] = AlpacaBar
) -> BarsPage[Any]:
    """Return a page that has bars and says whether another page follows.

    :param where: ``provider``, ``request`` and ``request_id``, for messages.
    :param plain: `Transport.plain`.
    :param form: of its rows.
    :raises RetriableError: if the response is not such a page.
    """
    page: BarsPage[Any] = decode(response, BarsPage[form], where, plain, BarsPage[msgspec.Raw])  # type: ignore[valid-type]
    if not isinstance(page.bars, dict) and page.message:
        raise ServerError(plain(f"HTTP {response.status} with an error: {page.message}"), **where)
    if page.bars is msgspec.UNSET or (page.bars is None and page.next_page_token):
        raise TruncatedResponse("the response has no bars, not even an empty set of them", **where)
    if page.next_page_token is msgspec.UNSET:
        raise TruncatedResponse("the response does not say whether a page follows", **where)
    return page


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """The request that a chain of pages responds to.

    :param symbols: those of the request that were sent.
    :param days: the dates of the request.
    """

    provider: str
    request: Request
    symbols: Sequence[str]
    days: NewYorkDays

    def read(self, response: Response, plain: Callable[[str], str], once_more: OnceMore) -> BarsTable:
        """Return a page as columns, checked to match the request.

        :param plain: `Transport.plain`.
        :param once_more: of this page, for all its tries.
        :raises ServerError: if most rows are of other symbols or dates.
        :raises SchemaDrift: if most rows cannot be read; daily bars are to be stamped midnight New York.
        """
        where = {"provider": self.provider, "request": str(self.request), "request_id": request_id(response)}
        page = read_page(response, where, plain, TextBar)
        bars: list[Any]
        bars, problems = read_rows(_rows(page), AlpacaBar, where)
        moments = utc_moments([bar.t for bar in bars]) if bars and isinstance(bars[0], TextBar) else None
        if moments is None:
            page = read_page(response, where, plain)
            bars, problems = read_rows(_rows(page), AlpacaBar, where)
            moments = pa.array([bar.t for bar in bars], UTC_MICROS)
        table = self._table(_symbols(page), moments, bars, problems)
        kept, unexpected = separated(table, checked(problems, len(bars), where), self.request, where)
        once_more.check(unexpected, where)
        token = page.next_page_token if isinstance(page.next_page_token, str) else None
        source = response.headers.get("X-Sample-Source")
        return BarsTable(kept, _spans(table, self.request), token, where["request_id"], source, len(bars), unexpected)

    def _table(self, symbols: pa.Array, moments: pa.Array, bars: Sequence[Any], problems: Problems) -> pa.Table:
        """Return all bars as columns, as `separated` takes them; add what is wrong with some to ``problems``."""
        daily, schema = self.request.dataset == "ohlcv-1d", find_dataset(self.request.dataset).received
        values = numbers(bars)
        undated = moments.is_null().to_numpy(zero_copy_only=False)
        stamps = moments.cast(pa.int64()).fill_null(0).to_numpy()
        sessions, outside = self.days.of(stamps)
        if daily:
            for place in np.flatnonzero(~(self.days.at_midnight(stamps) | outside | undated)).tolist():
                text = f"t is {moments[place].as_py():%Y-%m-%dT%H:%M:%SZ}, not midnight New York"
                problems.setdefault(place, []).append(text)
        opened = np.where(outside, stamps, sessions.astype("datetime64[us]").astype(np.int64)) if daily else stamps
        columns = {
            "symbol": symbols,
            "bar_time": pa.array(opened.astype("datetime64[us]"), pa.timestamp("us"), mask=undated).cast(UTC_MICROS),
            "session": pa.array(sessions, pa.date32(), mask=outside | undated),
            "adj_close": pa.nulls(len(bars), pa.float64()),
            "trade_count": trade_counts(bars, values["n"], problems),
            **number_columns(values),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _rows(page: BarsPage[Any]) -> list[Any]:
    """Return all rows of a page."""
    return [*chain.from_iterable(page.bars.values())] if isinstance(page.bars, dict) else []


def _symbols(page: BarsPage[Any]) -> pa.Array:
    """Return the symbol of each row of a page."""
    found = page.bars if isinstance(page.bars, dict) else {}
    counts = [len(rows) for rows in found.values()]
    return pa.array([*found], pa.string()).take(pa.array(np.repeat(np.arange(len(counts)), counts)))


def utc_moments(texts: Sequence[str]) -> pa.Array | None:
    """Return moments of the form ``2012-03-01T14:30:00Z``; None if one is of another form, or no moment."""
    joined = "".join(texts).encode()
    if set(map(len, texts)) != {MOMENT} or len(joined) != MOMENT * len(texts):
        return None
    signs = np.frombuffer(joined, np.uint8).reshape(-1, MOMENT)
    digits = np.delete(signs, MOMENT_SIGNS, axis=1) - ord("0")
    if not (signs[:, MOMENT_SIGNS] == np.frombuffer(b"--T::Z", np.uint8)).all() or (digits > 9).any():
        return None
    ends = pa.py_buffer(np.arange(0, len(joined) + 1, MOMENT, dtype=np.int32))
    try:
        found = pa.StringArray.from_buffers(len(texts), ends, pa.py_buffer(joined)).cast(UTC_MICROS)
    except pa.ArrowInvalid:
        return None
    return found if digits[:, :4].any(axis=1).all() else None  # there is no year 0


def _spans(table: pa.Table, request: Request) -> dict[str, tuple[int, int]]:
    """Return requested symbol -> its first and last moment in a page, in the page's order."""
    if not len(table):
        return {}
    places = pc.fill_null(pc.index_in(table["symbol"], pa.array(request.symbols, pa.string())), -1).to_numpy()
    places = np.where(table["session"].is_valid().to_numpy(), places, -1)
    moments = table["bar_time"].cast(pa.int64()).fill_null(0).to_numpy()
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))  # of runs: a page has the rows of a symbol together
    ends = np.minimum.reduceat(moments, starts), np.maximum.reduceat(moments, starts)
    spans: dict[str, tuple[int, int]] = {}
    for place, first, last in zip(places[starts].tolist(), *(found.tolist() for found in ends), strict=True):
        if place >= 0:
            symbol = request.symbols[place]
            known = spans.get(symbol, (first, last))
            spans[symbol] = min(known[0], first), max(known[1], last)
    return spans


def malformed(said: str, symbols: Sequence[str]) -> str | None:
    """Return the one of ``symbols`` that the vendor calls malformed, or None.

    Symbols may contain spaces, and more text may follow them.
    """
    found = _MALFORMED.search(said)
    named = [symbol for symbol in symbols if found and f"{found[1]} ".startswith(f"{' '.join(symbol.split())} ")]
    return max(named, key=len, default=None)


def until_reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until ``X-RateLimit-Reset`` (epoch seconds); None if it is absent or past."""
    try:
        seconds = float(headers.get("X-RateLimit-Reset", "")) - clock.time()
    except ValueError:
        return None
    return min(seconds, LONGEST_RESET) if seconds > 0 else None


def request_id(response: Response) -> str:
    return response.headers.get("X-Request-ID", "")
