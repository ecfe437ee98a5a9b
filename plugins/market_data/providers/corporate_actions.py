"""Turn the splits, dividends and symbol changes of a response into rows, for every provider alike."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import ServerError
from market_data.core.messages import some
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.responses import DAY
from market_data.providers.unexpected import SHOWN, Unexpected, shown_name

Row = dict[str, Any]
"""The columns of an action without ``session``; absent and unreadable ones are null or absent. ``reasons``: see `with_reasons`."""

Name = Annotated[str, msgspec.Meta(min_length=1)]
"""A symbol in a response. An empty one is not known to be another symbol's."""
Count = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


def first_date(day: date) -> date:
    """Return the first date whose actions belong to the first session on or after ``day``.

    Actions of a weekend belong to the session after it.
    """
    while day > calendar.FIRST and not calendar.is_session(day - DAY):
        day -= DAY
    return day


def with_reasons(row: Row, problems: Sequence[str]) -> Row:
    """Return a row with what is wrong with it, if anything is."""
    return {**row, "reasons": "; ".join(problems)} if problems else row


def requested_rows(
    rows: Iterable[Row],
    request: Request,
    where: Mapping[str, str],
    *,
    field: str = "ex_date",
    symbols: Collection[str] | None,
    dates: tuple[date, date] = (date.min, date.max),
) -> tuple[pa.Table, Unexpected]:
    """Return the rows of requested symbols and sessions, and what else a page holds.

    They are in the dataset's received columns. A row without a readable symbol is that of the request, if only one
    symbol was requested of the server.

    :param field: the column of the date that a row belongs to.
    :param symbols: those of which rows may come; None: the whole market's.
    :param dates: the dates of which rows may come, both inclusive.
    :raises ServerError: if more than half of the rows are of other symbols or dates.
    """
    rows = list(rows)
    session_of, wanted = _sessions_of(request), set(request.symbols)
    only = next(iter(symbols)) if symbols and len(symbols) == 1 else None
    kept: list[Row] = []
    odd: list[Row] = []
    aside: dict[str, None] = {}
    lost: dict[str, str] = {}
    strays = 0
    for row in rows:
        symbol, day = row["symbol"] if row["symbol"] is not None else only, row[field]
        unexpected = "" if symbol is None or symbols is None or symbol in symbols else shown_name(symbol)
        if unexpected or (day is not None and not dates[0] <= day <= dates[1]):
            strays += 1
            aside[unexpected or f"{day}"] = None
            if unexpected or symbol is None or symbol in wanted:
                lost |= dict.fromkeys(request.symbols if unexpected or symbol is None else [symbol], "")
            continue
        if symbol is not None and symbol not in wanted:
            continue
        session = session_of(day)
        if session is not None or day is None:
            (odd if "reasons" in row else kept).append({**row, "symbol": symbol, "session": session})
    said = f"rows of {some(aside, SHOWN)} came"
    if 2 * strays > len(rows):
        raise ServerError(said, **where)
    unproved = {**dict.fromkeys(lost, said), **_doubts(odd, request)}
    found = find_dataset(request.dataset)
    schema = pa.schema([pa.field(column.name, column.type) for column in found.received])  # the gate judges what is null
    table = pa.table(found.identified(pa.Table.from_pylist(kept, schema=schema)).columns, schema=found.received)
    rejected = pa.Table.from_pylist(odd, schema=schema.append(pa.field("reasons", pa.string()))) if odd else None
    return table, Unexpected(strays, tuple(aside), rejected, unproved)


def _sessions_of(request: Request) -> Callable[[date | None], date | None]:
    """Return a function from the date of an action to its session; None if that is not requested."""
    sessions, first = calendar.sessions(request.start, request.last + DAY), first_date(request.start)

    def session_of(day: date | None) -> date | None:
        if day is None or day < first:
            return None
        place = bisect_left(sessions, day)  # an action of a weekend belongs to the next session, which may not be requested
        return sessions[place] if place < len(sessions) else None

    return session_of


def _doubts(odd: Iterable[Row], request: Request) -> dict[str, str]:
    """Return symbol -> why its sessions without actions are not known to have none."""
    found: dict[str, str] = {}
    for row in odd:
        if row["symbol"] is None:
            found |= dict.fromkeys(request.symbols, "a row came whose symbol cannot be read")
        elif row["session"] is None:
            found[row["symbol"]] = "a row came whose date cannot be read"
    return found


def split_row(symbol: str | None, ex_date: date | None, before: float | None, after: float | None) -> Row:
    """Return the row of a split: ``before`` shares became ``after``."""
    return {"symbol": symbol, "action": "split", "ex_date": ex_date, "split_from": before, "split_to": after}


def dividend_row(symbol: str | None, ex_date: date | None, amount: float | None, currency: str | None, **more: Any) -> Row:
    """Return the row of a dividend; ``more``: its other columns."""
    row = {"symbol": symbol, "action": "dividend", "ex_date": ex_date, "amount": amount, "currency": currency}
    return {**row, **more}
