"""Alpaca's corporate actions: splits, dividends and changes of names, in one chain of pages.

Source: https://docs.alpaca.markets/reference/corporateactions-1 (``/v1/corporate-actions``). ``start`` and ``end`` select by the date of
processing, which is that of the payment for a dividend: later than the ex-date, and hardly ever earlier. So a wider span is requested
than is kept. A page has up to 1,000 actions of all types; only ``next_page_token`` says which is the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.errors import ServerError, TruncatedResponse
from market_data.http.client import Response, Transport
from market_data.providers.alpaca.parse import request_id
from market_data.providers.corporate_actions import Name, Row, dividend_row, requested_rows, split_row, with_reasons
from market_data.providers.responses import decode
from market_data.providers.unexpected import OnceMore, Unexpected, checked, read_row

PATH = "/v1/corporate-actions"
PAGE_ROWS = 1000
"""Most actions of a page, and the limit that is sent."""
BEFORE, AFTER = timedelta(days=45), timedelta(days=400)
"""How long before the ex-date (large specials, which trade with due bills) and after it an action may be processed. One that is processed
earlier or later is left out whatever was requested: else it would come with wide requests, and seem withdrawn in narrow ones."""
TYPES: Mapping[str, str] = {
    "corporate-actions": "forward_split,reverse_split,stock_dividend,cash_dividend",
    "symbol-changes": "name_change",
}


class AlpacaSplit(msgspec.Struct, gc=False):
    """``old_rate`` shares become ``new_rate``."""

    symbol: Name
    ex_date: date
    old_rate: float | None = None
    new_rate: float | None = None
    process_date: date | None = None


class StockDividend(msgspec.Struct, gc=False):
    """``rate`` shares for one."""

    symbol: Name
    ex_date: date
    rate: float | None = None
    process_date: date | None = None


class CashDividend(msgspec.Struct, gc=False):
    """``rate`` dollars for a share."""

    symbol: Name
    ex_date: date
    rate: float | None = None
    special: bool = False
    record_date: date | None = None
    payable_date: date | None = None
    process_date: date | None = None


class NameChange(msgspec.Struct, gc=False):
    """The company has another symbol from ``process_date`` on; or the same one, and another name or CUSIP."""

    old_symbol: Name
    new_symbol: Name
    process_date: date


class Actions(msgspec.Struct, gc=False):
    """The actions of a page by type; other types are ignored."""

    forward_splits: list[AlpacaSplit] = []
    reverse_splits: list[AlpacaSplit] = []
    stock_dividends: list[StockDividend] = []
    cash_dividends: list[CashDividend] = []
    name_changes: list[NameChange] = []


class ActionsByRow(msgspec.Struct, gc=False):
    """The same, where some rows may be of another form."""

    forward_splits: list[msgspec.Raw] = []
    reverse_splits: list[msgspec.Raw] = []
    stock_dividends: list[msgspec.Raw] = []
    cash_dividends: list[msgspec.Raw] = []
    name_changes: list[msgspec.Raw] = []


FORMS: Mapping[str, type[Any]] = {
    "forward_splits": AlpacaSplit,
    "reverse_splits": AlpacaSplit,
    "stock_dividends": StockDividend,
    "cash_dividends": CashDividend,
    "name_changes": NameChange,
}

A = TypeVar("A")


class ActionsPage(msgspec.Struct, Generic[A], gc=False):
    """One response. Its actions are `Actions` or `ActionsByRow`.

    ``next_page_token`` is null on the last page; a page without the key is not known to be the last.
    """

    corporate_actions: A | msgspec.UnsetType | None = msgspec.UNSET
    next_page_token: str | msgspec.UnsetType | None = msgspec.UNSET
    message: str = ""


@dataclass(frozen=True, slots=True)
class ActionsTable:
    """A page turned into columns: the requested rows, and how many came.

    ``token``: of the next page, or None. ``unexpected``: what else it holds.
    """

    table: pa.Table
    received: int
    token: str | None
    request_id: str
    source: str | None
    unexpected: Unexpected


def chain(transport: Transport, request: Request) -> list[ActionsTable]:
    """Return the pages of one response, in order.

    :raises ServerError: if the pages do not lead on; not retried.
    """
    params: dict[str, str | int] = {
        "symbols": ",".join(request.symbols),
        "types": TYPES[request.dataset],
        "start": f"{request.start - BEFORE}",
        "end": f"{request.last + AFTER}",
        "limit": PAGE_ROWS,
        "sort": "asc",
    }
    parts: list[ActionsTable] = []
    tokens: set[str] = set()
    while True:
        part = transport.get(PATH, params, str(request), partial(read, request=request, transport=transport, once_more=OnceMore()))
        parts.append(part)
        if part.token is None:
            return parts
        if part.token in tokens:
            where = {"provider": transport.provider, "request": str(request), "request_id": part.request_id}
            raise ServerError("a page names one that came before as the next: the paging loops", **where)
        tokens.add(part.token)
        params["page_token"] = part.token


def read(response: Response, request: Request, transport: Transport, once_more: OnceMore) -> ActionsTable:
    """Return a page as columns.

    :param once_more: of this page, for all its tries.
    :raises TruncatedResponse: if it lacks its actions, or does not say whether a page follows.
    :raises ServerError: if most of its rows are of other symbols or dates.
    :raises SchemaDrift: if most of its rows cannot be read.
    """
    where = {"provider": transport.provider, "request": str(request), "request_id": request_id(response)}
    page: ActionsPage[Any] = decode(response, ActionsPage[Actions], where, transport.plain, ActionsPage[ActionsByRow])
    if not isinstance(page.corporate_actions, Actions | ActionsByRow):
        if page.message:
            raise ServerError(transport.plain(f"HTTP {response.status} with an error: {page.message}"), **where)
        if page.corporate_actions is msgspec.UNSET or page.next_page_token:
            raise TruncatedResponse("the response has no corporate_actions, not even an empty set of them", **where)
    if page.next_page_token is msgspec.UNSET:
        raise TruncatedResponse("the response does not say whether a page follows", **where)
    changes = request.dataset == "symbol-changes"
    forms = {name: form for name, form in FORMS.items() if (form is NameChange) is changes}  # others were not requested
    found = _read_actions(page.corporate_actions, forms, where)
    rows = [row for action, problems in found for row in _rows(action, problems, request)]
    field, dates = "effective_date" if changes else "ex_date", (request.start - BEFORE - AFTER, request.last + AFTER + BEFORE)
    table, unexpected = requested_rows(rows, request, where, field=field, symbols=request.symbols, dates=dates)
    once_more.check(unexpected, where)
    token, source = page.next_page_token or None, response.headers.get("X-Sample-Source")
    received = sum(len(getattr(page.corporate_actions, name, ())) for name in FORMS)
    return ActionsTable(table, received, token, where["request_id"], source, unexpected)


def _read_actions(page: Any, forms: Mapping[str, type[Any]], where: Mapping[str, str]) -> list[tuple[Any, Sequence[str]]]:
    """Return all actions of a page, and what is wrong with each; unreadable fields are None.

    :raises SchemaDrift: if more than half of them cannot be read.
    """
    found: list[tuple[Any, Sequence[str]]] = []
    for name, form in forms.items():
        for row in getattr(page, name, ()):
            read_one, problems = read_row(row, form)
            found.append((read_one, problems))
    checked({place: [*problems] for place, (_, problems) in enumerate(found) if problems}, len(found), where)
    return found


def _rows(action: Any, problems: Sequence[str], request: Request) -> Iterator[Row]:
    """Yield the rows of an action.

    There are none if it was processed long before or after its date, or for a mere change of name.
    """
    if isinstance(action, NameChange):
        yield from (with_reasons(row, problems) for row in _changes(action, problems, request))
    elif action.ex_date is None or action.process_date is None or -BEFORE <= action.process_date - action.ex_date <= AFTER:
        yield with_reasons(_action(action), problems)


def _action(action: AlpacaSplit | StockDividend | CashDividend) -> Row:
    if isinstance(action, AlpacaSplit):
        return split_row(action.symbol, action.ex_date, action.old_rate, action.new_rate)
    if isinstance(action, StockDividend):
        return split_row(action.symbol, action.ex_date, 1.0, None if action.rate is None else 1 + action.rate)
    return dividend_row(
        action.symbol, action.ex_date, action.rate, "USD",
        record_date=action.record_date, pay_date=action.payable_date, kind="SC" if action.special else "CD",
    )  # fmt: skip


def _changes(change: NameChange, problems: Sequence[str], request: Request) -> Iterator[Row]:
    """Yield a row for each requested symbol of a change; for a change of others, one of theirs."""
    names = (change.old_symbol, change.new_symbol)
    if names[0] == names[1] and not problems:
        return
    row = {"effective_date": change.process_date, "old_symbol": names[0], "new_symbol": names[1]}
    # If one of the two cannot be read, and the other was not requested, the first may have been.
    own: list[str | None] = [name for name in names if name in request.symbols]
    own = own or [None if None in names else names[0]]
    yield from ({"symbol": symbol, **row} for symbol in own)
