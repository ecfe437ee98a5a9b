"""FMP's splits and dividends of one symbol: two lists that hold all of its history.

Source: https://site.financialmodelingprep.com/developer/docs/stable (``/stable/splits``, ``/stable/dividends``). ``denominator`` shares
became ``numerator``. ``dividend`` is as declared, ``adjDividend`` adjusted for later splits; dates that are not known are empty texts;
there is no currency and no id. The vendor declares no counts: a JSON array that parses is complete, unless it has as many rows as were
requested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, TypeVar, cast

import msgspec
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.errors import TruncatedResponse
from market_data.core.messages import shown
from market_data.http.client import Response
from market_data.providers.corporate_actions import Name, Row, dividend_row, requested_rows, split_row, with_reasons
from market_data.providers.fmp.client import FmpClient, RequestLog
from market_data.providers.fmp.parse import vendors_name
from market_data.providers.responses import decode
from market_data.providers.unexpected import OnceMore, Unexpected, checked, read_rows

MOST = 1000
"""Rows to request of each list; a symbol that pays weekly reaches it after nineteen years."""
FREQUENCIES = {
    "annual": 1,
    "semi-annual": 2,
    "quarterly": 4,
    "bi-monthly": 6,
    "monthly": 12,
    "weekly": 52,
    "special": 0,
    "irregular": 0,
}


class FmpSplit(msgspec.Struct, gc=False):
    """A split."""

    symbol: Name
    date: date
    numerator: float | None = None
    denominator: float | None = None


class FmpDividend(msgspec.Struct, gc=False, rename="camel"):
    """A dividend."""

    symbol: Name
    date: date
    dividend: float | None = None
    record_date: str | None = None
    payment_date: str | None = None
    declaration_date: str | None = None
    frequency: str | None = None


A = TypeVar("A", FmpSplit, FmpDividend)


def actions(client: FmpClient, request: Request, log: RequestLog) -> pa.Table:
    """Return the splits and dividends of the requested symbol and dates."""
    return pa.concat_tables(
        [
            _list(client, "splits", FmpSplit, _split, request, log),
            _list(client, "dividends", FmpDividend, _dividend, request, log),
        ]
    )


def _list(
    client: FmpClient, name: str, form: type[A], of: Callable[[A, str | None], Row], request: Request, log: RequestLog
) -> pa.Table:
    """Return the rows of a list; what else it holds is kept in ``log``."""
    (symbol,) = request.symbols
    wanted, once_more = vendors_name(symbol), OnceMore()

    def parse(response: Response) -> tuple[int, pa.Table, Unexpected]:
        found: list[Any] = decode(response, cast(Any, list)[form], log.where, client.transport.plain, list[msgspec.Raw])
        read, problems = read_rows(found, cast(Any, form), log.where)
        rows: list[Row] = []
        for place, row in enumerate(read):
            made = of(row, symbol if row.symbol == wanted else row.symbol)
            rows.append(_with_days(made, problems.get(place, [])))
        checked({place: [row["reasons"]] for place, row in enumerate(rows) if "reasons" in row}, len(rows), log.where)
        table, unexpected = requested_rows(rows, request, log.where, symbols=(symbol,))
        once_more.check(unexpected, log.where)
        if len(rows) >= MOST:
            raise TruncatedResponse(f"{len(rows)} {name} came, the most that a response holds", **log.where)
        return len(rows), table, unexpected

    received, table, unexpected = client.get(f"/stable/{name}", {"symbol": wanted, "limit": MOST}, log, parse)
    log.received += received
    log.unexpected.append(unexpected)
    return table


def _split(row: FmpSplit, symbol: str | None) -> Row:
    return split_row(symbol, row.date, row.denominator, row.numerator)


def _dividend(row: FmpDividend, symbol: str | None) -> Row:
    frequency = FREQUENCIES.get((row.frequency or "").lower())
    return dividend_row(
        symbol, row.date, row.dividend, None, kind="SC" if frequency == 0 else "CD", frequency=frequency,
        declaration_date=row.declaration_date, record_date=row.record_date, pay_date=row.payment_date,
    )  # fmt: skip


DATES = {"declaration_date": "declarationDate", "record_date": "recordDate", "pay_date": "paymentDate"}


def _with_days(row: Row, problems: Sequence[str]) -> Row:
    """Return a row with its further dates, an empty text as null, and with reasons if it is odd."""
    days: Row = {}
    wrong = [*problems]
    for column, name in DATES.items():
        text = row.get(column)
        try:
            days[column] = date.fromisoformat(text) if text else None
        except ValueError:
            days[column] = None
            wrong.append(f"{name} is {shown(text)}; a date or an empty text is expected")
    return with_reasons({**row, **days}, wrong)
