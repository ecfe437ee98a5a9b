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
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.errors import SchemaDrift, ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.responses import NewYorkDays, decode

LONGEST_RESET = 60.0
"""Seconds. The vendor's window is a minute, whatever its clock or ours says."""

_MALFORMED = re.compile(r"invalid symbol: (.+)")

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class AlpacaBar(msgspec.Struct, gc=False):
    """A bar as the vendor writes it."""

    t: Moment
    o: float | None = None
    h: float | None = None
    l: float | None = None  # noqa: E741 - the vendor's name
    c: float | None = None
    v: float | None = None
    n: int | None = None
    vw: float | None = None


class BarsPage(msgspec.Struct, gc=False):
    """One response. ``next_page_token`` is null on the last page.

    A page without the key is not known to be the last. ``bars`` may be null on the last page if it has none.
    """

    bars: dict[str, list[AlpacaBar]] | msgspec.UnsetType | None = msgspec.UNSET
    next_page_token: str | msgspec.UnsetType | None = msgspec.UNSET
    message: str = ""


@dataclass(frozen=True, slots=True)
class BarsTable:
    """A page turned into columns.

    :param spans: symbol -> its first and last moment in this page, microseconds UTC.
    :param token: of the next page, or None after the last one.
    """

    table: pa.Table
    spans: Mapping[str, tuple[int, int]]
    token: str | None
    request_id: str
    source: str | None


def read_page(response: Response, where: Mapping[str, str], plain: Callable[[str], str]) -> BarsPage:
    """Return a page that has bars and says whether another page follows.

    :param where: ``provider``, ``request`` and ``request_id``, for messages.
    :param plain: `Transport.plain`.
    :raises RetriableError: if the response is not such a page.
    """
    page = decode(response, BarsPage, where, plain)
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

    def read(self, response: Response, plain: Callable[[str], str]) -> BarsTable:
        """Return a page as columns, checked to match the request.

        :param plain: `Transport.plain`.
        :raises ServerError: for unexpected symbols or dates.
        :raises SchemaDrift: for daily bars with another stamp.
        """
        request = self.request
        where = {"provider": self.provider, "request": str(request), "request_id": request_id(response)}
        page = read_page(response, where, plain)
        found = {symbol: bars for symbol, bars in (page.bars if isinstance(page.bars, dict) else {}).items() if bars}
        if unexpected := set(found).difference(self.symbols):
            raise ServerError(plain(f"rows of {', '.join(sorted(unexpected)[:3])} came"), **where)
        bars = [bar for some in found.values() for bar in some]
        moments = pa.array([bar.t for bar in bars], pa.timestamp("us", tz="UTC"))
        stamps = moments.cast(pa.int64()).to_numpy()
        sessions, outside = self.days.of(stamps)
        if outside.any():
            said = ", ".join(f"{bar.t:%Y-%m-%d %H:%M}" for bar in np.array(bars, dtype=object)[outside][:3])
            raise ServerError(f"rows of {said} UTC came", **where)
        daily = request.dataset == "ohlcv-1d"
        if daily and not self.days.at_midnight(stamps).all():
            raise SchemaDrift(
                f"{self.provider}: {request}: daily bars are not stamped midnight New York. "
                "To do: see the provider's changelog; the hook has to learn the new form"
            )
        table = _table(request.dataset, found, bars, sessions.astype("datetime64[us]") if daily else stamps, sessions)
        cuts = np.cumsum([0, *(len(some) for some in found.values())])
        parts = (stamps[begin:end] for begin, end in pairwise(cuts))
        spans = {symbol: (int(part.min()), int(part.max())) for symbol, part in zip(found, parts, strict=True)}
        token = page.next_page_token if isinstance(page.next_page_token, str) else None
        return BarsTable(table, spans, token, where["request_id"], response.headers.get("X-Sample-Source"))


def _table(
    dataset: str, found: Mapping[str, list[AlpacaBar]], bars: list[AlpacaBar], moments: np.ndarray, sessions: np.ndarray
) -> pa.Table:
    """Return a page's bars as columns of ``dataset.received``."""
    schema = find_dataset(dataset).received
    columns = {
        "symbol": pa.array([symbol for symbol, some in found.items() for _ in some], pa.string()),
        "bar_time": pa.array(moments.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
        "session": pa.array(sessions, pa.date32()),
        "adj_close": pa.nulls(len(bars), pa.float64()),
    }
    fields = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}
    for column, field in fields.items():
        columns[column] = pa.array([getattr(bar, field) for bar in bars], schema.field(column).type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


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
