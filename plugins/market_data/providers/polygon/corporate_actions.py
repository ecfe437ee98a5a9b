"""Polygon's reference data: splits, dividends, tickers.

Sources: https://massive.com/docs/rest/stocks/corporate-actions (``/v3/reference/splits``, ``/v3/reference/dividends``) and
``/v3/reference/tickers``. A page has ``results`` even where it is empty, and does not say how many there are: the response is
complete when its last page names no next one. Chains of pages that come back to an earlier one have been reported
(https://github.com/polygon-io/issues/issues/289).

On 2026-02-18 the vendor called both deprecated, in favour of ``/stocks/v1/splits`` and ``/stocks/v1/dividends``
(https://massive.com/blog/new-splits-and-dividends-endpoints; same address of the documents). These name the type of a dividend
``distribution_type``, sort by ``execution_date.asc`` instead of two parameters, and have up to 5,000 rows per page.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.datasets.registry import dataset as find_dataset
from market_data.http.client import Response
from market_data.providers.polygon.client import Rest
from market_data.providers.polygon.parse import PageTable, PolygonPage
from market_data.providers.responses import DAY

PAGE_ROWS = 1000
"""The page size to request, and the most that a page holds."""

ACTIONS_A_SESSION = 250
"""About how many splits and dividends the whole market has in a session, those of funds included."""

Row = dict[str, Any]


class Split(msgspec.Struct, gc=False):
    """``split_from`` shares become ``split_to``."""

    ticker: str
    execution_date: date
    split_from: float | None = None
    split_to: float | None = None
    id: str | None = None


class Dividend(msgspec.Struct, gc=False):
    """Cash for a share."""

    ticker: str
    ex_dividend_date: date
    cash_amount: float | None = None
    currency: str | None = None
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    dividend_type: str | None = None
    frequency: int | None = None
    id: str | None = None


class Ticker(msgspec.Struct, gc=False):
    """A listing."""

    ticker: str
    name: str | None = None
    type: str | None = None
    active: bool | None = None
    primary_exchange: str | None = None
    cik: str | None = None
    delisted_utc: datetime | None = None


TICKERS = pa.schema(
    [
        pa.field("ticker", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("type", pa.string()),
        pa.field("active", pa.bool_()),
        pa.field("primary_exchange", pa.string()),
        pa.field("cik", pa.string()),
        pa.field("delisted", pa.date32()),
    ]
)

R = TypeVar("R", Split, Dividend, Ticker)


def actions(rest: Rest, request: Request) -> Iterator[PageTable]:
    """Yield the splits and dividends of the requested symbols, page by page.

    A few symbols are requested one by one; otherwise the whole market is fetched and filtered. The way with fewer calls is taken.

    :raises ServerError: if the pages do not lead on, or a response is not of what was requested.
    """
    sessions = calendar.sessions(request.start, request.last + DAY)
    pages = len(sessions) * ACTIONS_A_SESSION / PAGE_ROWS
    chosen: Sequence[str | None] = request.symbols if len(request.symbols) <= 1 + pages / 2 else [None]
    for symbol in chosen:
        yield from _chain(rest, request, "/v3/reference/splits", PolygonPage[Split], "execution_date", _of_split, symbol)
        yield from _chain(rest, request, "/v3/reference/dividends", PolygonPage[Dividend], "ex_dividend_date", _of_dividend, symbol)


def tickers(rest: Rest, day: date, *, active: bool) -> pa.Table:
    """Return the tickers listed (``active``) or delisted by ``day``.

    Columns ``TICKERS``, ascending by ticker.

    :raises ServerError: if the pages do not lead on.
    """
    what = f"tickers {day}"
    params = {"market": "stocks", "date": f"{day}", "active": str(active).lower(), "sort": "ticker", "order": "asc"}
    parts = [TICKERS.empty_table()]
    for page, _ in _pages(rest, "/v3/reference/tickers", params, what, PolygonPage[Ticker], lambda row: row.ticker):
        found = [
            {**msgspec.structs.asdict(row), "delisted": row.delisted_utc and row.delisted_utc.date()} for row in page.results or ()
        ]
        parts.append(pa.Table.from_pylist(found, schema=TICKERS))
    return pa.concat_tables(parts).sort_by("ticker")


def _chain(
    rest: Rest, request: Request, path: str, form: type[PolygonPage[R]], field: str, of: Callable[[R], Row], symbol: str | None
) -> Iterator[PageTable]:
    """Yield the pages of one kind of action, of ``symbol`` or of all."""
    first = _from(request.start)
    params = {f"{field}.gte": f"{first}", f"{field}.lte": f"{request.last}", "sort": field, "order": "asc"}
    params |= {} if symbol is None else {"ticker": symbol}
    sessions = calendar.sessions(request.start, request.last + DAY)
    schema, wanted = find_dataset(request.dataset).received, set(request.symbols)
    ids = Ids()
    for page, response in _pages(rest, path, params, str(request), form, lambda row: of(row)["action_id"] or repr(row)):
        rows = [of(row) for row in page.results or ()]
        strange = {f"{row['ex_date']}" for row in rows if not first <= row["ex_date"] <= request.last}
        strange |= {row["symbol"] for row in rows if symbol not in (None, row["symbol"])}
        if strange:
            text = rest.transport.plain(f"rows of {', '.join(sorted(strange)[:3])} came")
            raise ServerError(text, **rest.where(str(request), page.request_id))
        kept = [
            {**row, "action_id": ids.of(row), "session": sessions[place]}
            for row in rows
            # An action of a weekend belongs to the next session, which may not be requested.
            if row["symbol"] in wanted and (place := bisect_left(sessions, row["ex_date"])) < len(sessions)
        ]
        table = pa.Table.from_pylist(kept, schema=schema)
        yield PageTable(table, len(rows), None, page.request_id, page.next_url, response.headers.get("X-Sample-Source"))


def _pages(
    rest: Rest, path: str, params: Mapping[str, str], what: str, form: type[PolygonPage[R]], key: Callable[[R], str]
) -> Iterator[tuple[PolygonPage[R], Response]]:
    """Yield the pages of one request, in order. A repeated row means that the pages form a circle."""

    def read(page: PolygonPage[R], response: Response) -> tuple[PolygonPage[R], Response]:
        if page.results is None:
            raise TruncatedResponse("the response has no results, not even an empty list", **rest.where(what, page.request_id))
        return page, response

    asked: Mapping[str, str | int] = {**params, "limit": PAGE_ROWS}
    seen: set[str] = set()
    while True:
        page, response = rest.get(path, asked, what, form, read)
        keys = {key(row) for row in page.results or ()}
        if keys & seen:
            raise ServerError("a page repeats what came before: the paging loops", **rest.where(what, page.request_id))
        if page.next_url and not keys:
            raise ServerError("a page brings nothing and names a next one: the paging loops", **rest.where(what, page.request_id))
        yield page, response
        if not page.next_url:
            return
        seen |= keys
        path, asked = page.next_url, {}  # the cursor holds the whole question


def _from(day: date) -> date:
    """Return the first date whose actions belong to the first session on or after ``day``.

    Actions of a weekend belong to the session after it.
    """
    while day > calendar.FIRST and not calendar.is_session(day - DAY):
        day -= DAY
    return day


def _of_split(split: Split) -> Row:
    return {
        "symbol": split.ticker,
        "action": "split",
        "ex_date": split.execution_date,
        "action_id": split.id,
        "split_from": split.split_from,
        "split_to": split.split_to,
    }


def _of_dividend(dividend: Dividend) -> Row:
    return {
        "symbol": dividend.ticker,
        "action": "dividend",
        "ex_date": dividend.ex_dividend_date,
        "action_id": dividend.id,
        "amount": dividend.cash_amount,
        "currency": dividend.currency,
        "declaration_date": dividend.declaration_date,
        "record_date": dividend.record_date,
        "pay_date": dividend.pay_date,
        "kind": dividend.dividend_type,
        "frequency": dividend.frequency,
    }


class Ids:
    """The ids of the actions of a chain: the vendor's own.

    Older records have none, and get one made of what is never filled in later (a date of payment is): symbol, action, ex-date and kind.
    Records that differ and agree in these are numbered as they come.
    """

    def __init__(self) -> None:
        self._alike: defaultdict[str, dict[tuple[Any, ...], int]] = defaultdict(dict)

    def of(self, row: Row) -> str:
        if row["action_id"]:
            return str(row["action_id"])
        words = "/".join(str(row.get(name)) for name in ("symbol", "action", "ex_date", "kind"))
        alike = self._alike[words]
        number = alike.setdefault(tuple(row.values()), len(alike))
        return hashlib.sha256(f"{words}/{number}".encode()).hexdigest()
