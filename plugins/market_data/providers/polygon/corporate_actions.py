"""Polygon's splits, dividends, tickers and changes of tickers.

Sources: https://massive.com/docs/rest/stocks/corporate-actions/splits and ``.../dividends`` (``/stocks/v1/splits``,
``/stocks/v1/dividends``), ``/v3/reference/tickers`` and ``/vX/reference/tickers/{id}/events``. A page has ``results`` even where it is
empty, and does not say how many there are: the response is complete when its last page names no next one. Chains of pages that come back
to an earlier one have been reported (https://github.com/polygon-io/issues/issues/289).

On 2026-02-18 the vendor deprecated ``/v3/reference/splits`` and ``/v3/reference/dividends`` in favour of these two
(https://massive.com/blog/new-splits-and-dividends-endpoints). A server that does not have them yet is called at the old addresses. The
successors name the type of a dividend ``distribution_type``, in words, sort by ``execution_date.asc`` and have up to 5,000 rows per page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Generic, TypeVar, cast

import msgspec
import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import BadRequest, ServerError, TruncatedResponse
from market_data.http.client import Response
from market_data.providers.corporate_actions import (
    Count,
    Name,
    Row,
    dividend_row,
    first_date,
    requested_rows,
    split_row,
    with_reasons,
)
from market_data.providers.polygon.client import Rest
from market_data.providers.polygon.parse import PageTable, PolygonPage
from market_data.providers.responses import DAY
from market_data.providers.unexpected import OnceMore, Problems, read_rows

log = logging.getLogger(__name__)

PAGE_ROWS = 5000
"""The page size to request, and the most that a page holds."""
OLD_PAGE_ROWS = 1000
"""The same at the deprecated addresses, and of tickers."""

ACTIONS_A_SESSION = 250
"""About how many splits and dividends the whole market has in a session, those of funds included."""

KINDS = {"recurring": "CD", "special": "SC", "unknown": None}
"""The successor's words for the types of the deprecated endpoint; the others have no counterpart there."""


class Split(msgspec.Struct, gc=False):
    """``split_from`` shares become ``split_to``."""

    ticker: Name
    execution_date: date
    split_from: float | None = None
    split_to: float | None = None
    id: str | None = None


class Dividend(msgspec.Struct, gc=False):
    """Cash for a share."""

    ticker: Name
    ex_dividend_date: date
    cash_amount: float | None = None
    currency: str | None = None
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    dividend_type: str | None = None
    distribution_type: str | None = None
    frequency: Count | None = None
    id: str | None = None


class Ticker(msgspec.Struct, gc=False):
    """A listing."""

    ticker: Name
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
T = TypeVar("T")


def actions(rest: Rest, request: Request) -> Iterator[PageTable]:
    """Yield the splits and dividends of the requested symbols, page by page.

    A few symbols are requested one by one; otherwise the whole market is fetched and filtered. The way with fewer calls is taken.

    :raises ServerError: if the pages do not lead on, or a response is not of what was requested.
    """
    sessions = calendar.sessions(request.start, request.last + DAY)
    pages = len(sessions) * ACTIONS_A_SESSION / PAGE_ROWS
    chosen: Sequence[str | None] = request.symbols if len(request.symbols) <= 1 + pages / 2 else [None]
    for symbol in chosen:
        yield from _chain(rest, request, "splits", Split, "execution_date", _of_split, symbol)
        yield from _chain(rest, request, "dividends", Dividend, "ex_dividend_date", _of_dividend, symbol)


def tickers(rest: Rest, day: date, *, active: bool) -> pa.Table:
    """Return the tickers listed (``active``) or delisted by ``day``.

    Columns ``TICKERS``, ascending by ticker. Fields that cannot be read are null, and a row without a ticker is left out; the log
    names them.

    :raises ServerError: if the pages do not lead on.
    :raises SchemaDrift: if most rows of a page cannot be read.
    """
    what = f"tickers {day}"
    params = {"market": "stocks", "date": f"{day}", "active": str(active).lower(), "sort": "ticker", "order": "asc"}
    params["limit"] = f"{min(PAGE_ROWS, OLD_PAGE_ROWS)}"
    parts = [TICKERS.empty_table()]
    for page in _pages(rest, "/v3/reference/tickers", params, what, Ticker, lambda page, _: page):
        for place, problems in page.problems.items():
            log.warning("polygon: %s: %s: %s", what, page.rows[place].ticker or "a row without a ticker", "; ".join(problems))
        found = [
            {**msgspec.structs.asdict(row), "delisted": row.delisted_utc and row.delisted_utc.date()}
            for row in page.rows
            if row.ticker is not None
        ]
        parts.append(pa.Table.from_pylist(found, schema=TICKERS))
    return pa.concat_tables(parts).sort_by("ticker")


@dataclass(frozen=True, slots=True)
class RowsPage(Generic[R]):
    """A page of reference data.

    :param rows: their unreadable fields are None, see ``problems``.
    """

    rows: list[R]
    problems: Problems
    request_id: str
    next_url: str | None
    source: str | None


def _chain(
    rest: Rest, request: Request, name: str, form: type[R], field: str, of: Callable[[R], Row], symbol: str | None
) -> Iterator[PageTable]:
    """Yield the pages of one kind of action, of ``symbol`` or of all."""
    dates = first_date(request.start), request.last
    span: dict[str, str | int] = {f"{field}.gte": f"{dates[0]}", f"{field}.lte": f"{dates[1]}"}
    span |= {} if symbol is None else {"ticker": symbol}
    what, symbols = str(request), None if symbol is None else (symbol,)

    def read(page: RowsPage[R], once_more: OnceMore) -> PageTable:
        rows = [with_reasons(of(row), page.problems.get(place, ())) for place, row in enumerate(page.rows)]
        where = rest.where(what, page.request_id)
        table, unexpected = requested_rows(rows, request, where, symbols=symbols, dates=dates)
        once_more.check(unexpected, where)
        return PageTable(table, len(rows), None, page.request_id, page.next_url, page.source, unexpected)

    try:
        yield from _pages(rest, f"/stocks/v1/{name}", {**span, "sort": f"{field}.asc", "limit": PAGE_ROWS}, what, form, read)
    except BadRequest as error:
        if "(HTTP 404)" not in error.said:
            raise
        limit = min(PAGE_ROWS, OLD_PAGE_ROWS)
        params = {**span, "sort": field, "order": "asc", "limit": limit}
        yield from _pages(rest, f"/v3/reference/{name}", params, what, form, read)


def _pages(
    rest: Rest, path: str, params: Mapping[str, str | int], what: str, form: type[R], read: Callable[[RowsPage[R], OnceMore], T]
) -> Iterator[T]:
    """Yield the result of ``read`` for each page of one request, in order.

    A repeated row means that the pages form a circle. An id alone does not tell rows apart: a split may come under several.
    """

    def parse(page: PolygonPage[Any], response: Response, once_more: OnceMore) -> tuple[RowsPage[R], T]:
        where = rest.where(what, page.request_id)
        if page.results is None:
            raise TruncatedResponse("the response has no results, not even an empty list", **where)
        rows, problems = read_rows(page.results, form, where)
        found = RowsPage(rows, problems, page.request_id, page.next_url, response.headers.get("X-Sample-Source"))
        return found, read(found, once_more)

    asked = params
    seen: set[str] = set()
    while True:
        parsed = partial(parse, once_more=OnceMore())
        page, result = rest.get(path, asked, what, cast(Any, PolygonPage)[form], parsed, PolygonPage[msgspec.Raw])
        keys = {repr(row) for place, row in enumerate(page.rows) if place not in page.problems}
        if keys & seen:
            raise ServerError("a page repeats what came before: the paging loops", **rest.where(what, page.request_id))
        if page.next_url and not page.rows:
            raise ServerError("a page brings nothing and names a next one: the paging loops", **rest.where(what, page.request_id))
        yield result
        if not page.next_url:
            return
        seen |= keys
        path, asked = page.next_url, {}  # the cursor holds the whole question


def _of_split(split: Split) -> Row:
    return split_row(split.ticker, split.execution_date, split.split_from, split.split_to)


def _of_dividend(dividend: Dividend) -> Row:
    kind = dividend.dividend_type or dividend.distribution_type
    return dividend_row(
        dividend.ticker,
        dividend.ex_dividend_date,
        dividend.cash_amount,
        dividend.currency,
        declaration_date=dividend.declaration_date,
        record_date=dividend.record_date,
        pay_date=dividend.pay_date,
        kind=KINDS.get(kind, kind) if kind else None,
        frequency=dividend.frequency,
    )
