"""The statements of Financial Modeling Prep: which periods to request, and their conversion to rows.

The vendor has one row per statement: a JSON dictionary, or a line of a bulk file as text, with the same fields. The dataset has one row
per item. The items are all numeric fields, except the names, dates and ids in ``NO_ITEMS``. An item without a number has no row. Any
other field that is not a number is an error, so that no number gets lost.

**Which periods can have been filed in a span.** A fiscal year is called after the calendar year in which it ends, or after the one before
where it ends by the middle of the year (companies that end in January or March differ). A statement is filed within a year after
its period's end; later ones are not looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import ParamError
from market_data.core.intervals import Interval
from market_data.datasets.fundamentals import FUNDAMENTALS, PERIODS
from market_data.providers.fmp.parse import drift

NAMES = {"income": "income-statement", "balance_sheet": "balance-sheet-statement", "cash_flow": "cash-flow-statement"}
KINDS = ("annual", "quarter")
NEEDED = ("date", "symbol", "filingDate", "fiscalYear", "period")
NO_ITEMS = frozenset({*NEEDED, "reportedCurrency", "cik", "acceptedDate", "link", "finalLink"})
LATE = timedelta(days=365)
"""How long after its period's end a statement is looked for."""
APART = {"annual": timedelta(days=350), "quarter": timedelta(days=80)}
"""Between the ends of two periods, at least: the one before the oldest that is shown ended so much earlier."""
DAY = timedelta(days=1)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Filing:
    """One statement of one period.

    :param filed: the date of the filing, or None where the vendor has none.
    :param accepted: its moment, UTC.
    :param items: the vendor's names of its numbers -> the numbers.
    """

    symbol: str
    statement: str
    period: str
    fiscal_year: int
    period_end: date
    filed: date | None
    accepted: datetime | None
    currency: str | None
    items: Mapping[str, float]


def filing(row: Mapping[str, Any], symbol: str, statement: str, where: Mapping[str, str]) -> Filing:
    """Return a statement out of the vendor's row.

    :raises SchemaDrift: if a field is missing or not of its form; names it.
    """

    def read(name: str, form: Callable[[Any], T]) -> T:
        try:
            return form(row[name])
        except KeyError:
            raise drift(where, f"a statement has no field {name}") from None
        except (TypeError, ValueError):
            raise drift(where, f"a statement's {name} is not of the known form") from None

    items = {name: read(name, _number) for name in row if name not in NO_ITEMS}
    return Filing(
        symbol,
        statement,
        read("period", str),
        read("fiscalYear", int),
        read("date", date.fromisoformat),
        read("filingDate", lambda text: date.fromisoformat(text[:10]) if text else None),
        read("acceptedDate", _moment) if row.get("acceptedDate") else None,
        row.get("reportedCurrency") or None,
        {name: number for name, number in items.items() if number is not None},
    )


def _moment(text: str) -> datetime:
    """EDGAR's clock is New York's."""
    return datetime.fromisoformat(text).replace(tzinfo=calendar.NEW_YORK).astimezone(UTC)


def _number(value: Any) -> float | None:
    """:raises ValueError, TypeError: if it is something else."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def enough(kind: str, since: date, today: date) -> int:
    """Return how many of the latest statements surely include all filed since ``since``."""
    years = max(0, today.year - (since - LATE).year) + 2
    return years if kind == "annual" else 4 * years


def filing_dates(request: Request) -> Interval:
    """Return the dates of filings whose session (the first on or after) is one of the request's span."""
    try:
        start = calendar.previous_session(request.start) + DAY
    except ParamError:  # the calendar begins here
        start = request.start
    return Interval(start, calendar.previous_session(request.last + DAY) + DAY)


def periods_filed(dates: Interval) -> list[tuple[int, str]]:
    """Fiscal year and period of all statements that can have been filed in ``dates``, ascending by year."""
    return [
        (year, period)
        for year in range(dates.start.year - 3, dates.end.year + 3)
        for period in PERIODS
        if _ends_between(year, period)[0] < dates.end and dates.start <= _ends_between(year, period)[1] + LATE
    ]


def _ends_between(year: int, period: str) -> tuple[date, date]:
    """Return the first and the last date on which a period of that name can end.

    The quarters end 9, 6, 3 and 0 months before the fiscal year does.
    """
    quarters = 0 if period == "FY" else 4 - int(period[1])
    return _earlier(year, 1, quarters), _earlier(year + 1, 7, quarters) - DAY


def _earlier(year: int, month: int, quarters: int) -> date:
    """Return the first of a month, so many quarters earlier."""
    months = year * 12 + month - 1 - 3 * quarters
    return date(months // 12, months % 12 + 1, 1)


def gaps(files: Mapping[str, Sequence[Filing]], request: Request) -> list[tuple[str, str]]:
    """Return symbol and statement for each symbol that one statement's file lacks and another file has.

    Only filings in the requested span count.
    """
    dates = filing_dates(request)
    there = {statement: {filing.symbol for filing in found} for statement, found in files.items()}
    concerned = {filing.symbol for found in files.values() for filing in found if filing.filed and filing.filed in dates}
    return [(symbol, statement) for symbol in sorted(concerned) for statement in files if symbol not in there[statement]]


def current(filings: Iterable[Filing], request: Request) -> tuple[list[Filing], list[str]]:
    """Return the filings whose session is requested, the last one of each period, and notes on the others.

    A period that was filed again is known by its last figures: the dataset has one row for each item of a period. Filings of the same
    day are all kept; the gate decides.
    """
    dates, warnings = filing_dates(request), []
    periods: dict[tuple[str, str, str, date], list[Filing]] = defaultdict(list)
    undated: dict[str, int] = defaultdict(int)
    for one in filings:
        if one.filed is None:
            undated[one.symbol] += 1
        elif one.filed in dates:
            periods[one.symbol, one.statement, one.period, one.period_end].append(one)
    kept = []
    for (symbol, statement, period, _), some in periods.items():
        days = sorted({one.filed for one in some if one.filed})
        kept += [one for one in some if one.filed == days[-1]]
        if len(days) > 1:
            warnings.append(
                f"{symbol} filed {statement} of {period} {some[0].fiscal_year} on {', '.join(map(str, days))}: the last counts"
            )
    warnings += [f"{count} statements of {symbol} have no filing date and are left aside" for symbol, count in undated.items()]
    return kept, warnings


def table(filings: Sequence[Filing]) -> pa.Table:
    """Return a row for each item."""
    sessions = {one.filed: calendar.next_session(one.filed - DAY) for one in filings if one.filed}
    rows = [(one, item, value) for one in filings for item, value in one.items.items()]
    values = {
        "symbol": [one.symbol for one, _, _ in rows],
        "session": [sessions[one.filed] for one, _, _ in rows if one.filed],
        "statement": [one.statement for one, _, _ in rows],
        "period": [one.period for one, _, _ in rows],
        "fiscal_year": [one.fiscal_year for one, _, _ in rows],
        "period_end": [one.period_end for one, _, _ in rows],
        "filing_date": [one.filed for one, _, _ in rows],
        "accepted_at": [one.accepted for one, _, _ in rows],
        "currency": [one.currency for one, _, _ in rows],
        "item": [item for _, item, _ in rows],
        "value": [value for _, _, value in rows],
    }
    schema = FUNDAMENTALS.received
    return pa.table([pa.array(values[name], schema.field(name).type) for name in schema.names], schema=schema)
