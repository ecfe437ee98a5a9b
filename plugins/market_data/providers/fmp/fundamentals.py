"""The statements of Financial Modeling Prep: which periods to request, and their conversion to rows.

The vendor has one row per statement: a JSON dictionary, or a line of a bulk file as text, with the same fields. The dataset has one row
per item. The items are all numeric fields, except the names, dates and ids in ``NO_ITEMS``. An item without a number has no row. Any
other field that is not a number cannot be read: its row is quarantined, so that no number gets lost.

**Which periods can have been filed in a span.** A fiscal year is called after the calendar year in which it ends, or after the one before
where it ends by the middle of the year (companies that end in January or March differ). A statement is filed within a year after
its period's end; later ones are not looked for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import ParamError
from market_data.core.intervals import Interval
from market_data.core.messages import shown, some
from market_data.datasets.fundamentals import FUNDAMENTALS, PERIODS
from market_data.providers.fmp.parse import NUMBER
from market_data.providers.responses import drift
from market_data.providers.unexpected import NOTHING, SHOWN, UNREADABLE, Unexpected, checked, raw_text, shown_name

NAMES = {"income": "income-statement", "balance_sheet": "balance-sheet-statement", "cash_flow": "cash-flow-statement"}
KINDS = ("annual", "quarter")
PERIODS_OF = {"annual": ("FY",), "quarter": tuple(period for period in PERIODS if period != "FY")}
NEEDED = ("date", "symbol", "filingDate", "fiscalYear", "period")
NO_ITEMS = frozenset({*NEEDED, "reportedCurrency", "cik", "acceptedDate", "link", "finalLink"})
LATE = timedelta(days=365)
"""How long after its period's end a statement is looked for."""
APART = {"annual": timedelta(days=350), "quarter": timedelta(days=80)}
"""Between the ends of two periods, at least: the one before the oldest that is shown ended so much earlier."""
DAY = timedelta(days=1)
LONGEST_TEXT = 64
"""Characters of a field of text."""
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Filing:
    """One statement of one period. Fields that cannot be read are None, see ``problems``.

    :param filed: the date of the filing, or None where the vendor has none.
    :param accepted: its moment, UTC.
    :param items: the vendor's names of its numbers -> the numbers.
    :param odd: items that are not numbers -> why.
    :param problems: what is wrong with the fields that all items share: none of them can be taken.
    """

    symbol: str | None
    statement: str
    period: str | None
    fiscal_year: int | None
    period_end: date | None
    filed: date | None
    accepted: datetime | None
    currency: str | None
    items: Mapping[str, float]
    odd: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of its items: each is a row of the dataset."""
        return len(self.items) + len(self.odd)

    @property
    def is_undated(self) -> bool:
        """True if its filing date cannot be read."""
        return any(text.startswith(("filingDate ", "the ")) for text in self.problems)


class Unreadable(str):
    """The text of a field that is not JSON of any kind: of a number out of range, say."""

    __slots__ = ()


def read_statement(row: Any) -> dict[str, Any]:
    """Return the fields of a row, `Unreadable` if they cannot be read.

    A row that is not an object is one such field without a name.

    :param row: a dictionary, or `msgspec.Raw`.
    """
    if not isinstance(row, msgspec.Raw):
        return dict(row)
    try:
        fields = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return {"": Unreadable(raw_text(row))}
    found: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            found[name] = msgspec.json.decode(value)
        except UNREADABLE:
            found[name] = Unreadable(raw_text(value))
    return found


def filing(row: Mapping[str, Any], symbol: str | None, statement: str, problems: Sequence[str] = ()) -> Filing:
    """Return a statement out of the vendor's row.

    :param symbol: whose it is; None if that cannot be read.
    :param problems: what is known to be wrong with the row.
    """
    wrong: list[str] = [*problems]
    if isinstance(row.get(""), Unreadable):
        wrong.append(f"the row is {row['']}, not an object")
    torn = bool(wrong)

    def read(name: str, form: Callable[[Any], T], *, needed: bool = True) -> T | None:
        value = row.get(name)
        if name not in row or value is None:
            wrong.extend([f"{name} is {'null' if name in row else 'missing'}"] if needed and not torn else [])
            return None
        try:
            return form(value) if needed or value != "" else None
        except (TypeError, ValueError, OverflowError):
            wrong.append(f"{name} is not of the known form: {shown(value)}")
            return None

    if not torn:
        read("symbol", _text)
        if "filingDate" not in row:
            wrong.append("filingDate is missing")
    fields = (
        read("period", _text),
        read("fiscalYear", _year),
        read("date", _date),
        read("filingDate", lambda text: date.fromisoformat(_text(text)[:10]), needed=False),
        read("acceptedDate", _moment, needed=False),
        read("reportedCurrency", _text, needed=False),
    )
    return Filing(symbol, statement, *fields, *_items(row), tuple(wrong))


def _items(row: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the numbers of a statement, and what is wrong with those that are not numbers."""
    items: dict[str, float] = {}
    odd: dict[str, str] = {}
    for name, value in row.items():
        if name in NO_ITEMS or not name:
            continue
        try:
            number = _number(value)
        except (TypeError, ValueError, OverflowError):
            odd[name] = f"{name} is not of the known form: {shown(value)}"
        else:
            items |= {} if number is None else {name: number}
    return items, odd


def check_read(filings: Sequence[Filing], where: Mapping[str, str]) -> None:
    """Check that most statements of a response can be read.

    :raises SchemaDrift: if they cannot.
    """
    checked(
        {place: [*one.problems, *one.odd.values()] for place, one in enumerate(filings) if one.problems or one.odd},
        len(filings),
        where,
    )


def check_file(rows: pa.Table, where: Mapping[str, str]) -> None:
    """Check that most lines of a bulk file have nothing but numbers for items.

    :param rows: all lines as text, those of symbols that were not requested too.
    :raises SchemaDrift: if they have not.
    """
    odd, example = pa.array([False] * len(rows), pa.bool_()), ""
    for name in rows.column_names:
        if name in NO_ITEMS:
            continue
        wrong = pc.fill_null(pc.invert(pc.match_substring_regex(rows[name], NUMBER)), False)
        if pc.any(wrong).as_py():
            example = example or f"{name} is {shown(rows.filter(wrong)[name][0].as_py())}"
            odd = pc.or_(odd, wrong)
    if len(rows) > 1 and 2 * (count := pc.sum(odd).as_py() or 0) > len(rows):
        raise drift(where, f"{example}, and {count:,} of {len(rows):,} rows are like that")


def left_aside(symbol: str, others: Sequence[str], strange: Sequence[Filing]) -> Unexpected:
    """Return what a response holds beside the requested statements.

    :param symbol: the one that was requested, if only one was. ``others``: the symbols of rows of others.
    :param strange: the statements of other periods.
    """
    named = dict.fromkeys([*map(shown_name, others), *(f"{one.period} {one.fiscal_year}" for one in strange)])
    if not named:
        return NOTHING
    said = f"rows of {some(named, SHOWN)} came"
    lost = {one.symbol for one in strange if one.symbol} | ({symbol} if symbol else set())
    return Unexpected(len(others) + sum(one.rows for one in strange), tuple(named), None, dict.fromkeys(sorted(lost), said))


def odd_items(filings: Iterable[Filing], request: Request) -> Unexpected:
    """Return the items of the requested dates that cannot be read, as rows with reasons.

    All items of a statement are of them if a field that they share cannot be read.

    :param filings: those of the request, and any that cannot be read.
    """
    dates, schema = filing_dates(request), FUNDAMENTALS.received
    rows: list[dict[str, Any]] = []
    unproved: dict[str, str] = {}
    for one in filings:
        if one.filed is None:
            if not one.is_undated:
                continue
            unproved |= {one.symbol: "a row came whose date cannot be read"} if one.symbol else {}
        elif one.filed not in dates:
            continue
        values: dict[str | None, float | None] = dict.fromkeys(one.odd)
        values.update(one.items if one.problems else {})
        rows += [
            {
                "symbol": one.symbol, "session": one.filed and calendar.next_session(one.filed - DAY), "statement": one.statement,
                "period": one.period, "fiscal_year": one.fiscal_year, "period_end": one.period_end, "filing_date": one.filed,
                "accepted_at": one.accepted, "currency": one.currency, "item": item, "value": value,
                "reasons": "; ".join([*one.problems, *([one.odd[item]] if item and item in one.odd else [])]),
            }
            for item, value in (values or ({None: None} if one.problems else {})).items()
        ]  # fmt: skip
    if not rows:
        return NOTHING
    columns = [pa.field(column.name, column.type) for column in schema]
    return Unexpected(
        odd=pa.Table.from_pylist(rows, schema=pa.schema([*columns, pa.field("reasons", pa.string())])), unproved=unproved
    )


def _moment(value: Any) -> datetime:
    """EDGAR's clock is New York's.

    :raises ValueError, TypeError: if it is not a moment without a time zone.
    """
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is not None:
        raise ValueError(value)
    return moment.replace(tzinfo=calendar.NEW_YORK).astimezone(UTC)


def _date(value: Any) -> date:
    """:raises ValueError, TypeError: if it is not a date."""
    return date.fromisoformat(_text(value))


def _number(value: Any) -> float | None:
    """:raises ValueError, TypeError, OverflowError: if it is something else."""
    if value is None or value == "":
        return None
    if isinstance(value, bool | Unreadable) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    """:raises TypeError: if it is something else, or longer than any regular one."""
    if not isinstance(value, str) or isinstance(value, Unreadable) or len(value) > LONGEST_TEXT:
        raise TypeError
    return value


def _year(value: Any) -> int:
    """:raises ValueError, TypeError: if it is not a year."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not 1900 <= int(value) <= 2200:
        raise TypeError
    return int(value)


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
    concerned = {one.symbol for found in files.values() for one in found if one.symbol and one.filed and one.filed in dates}
    return [(symbol, statement) for symbol in sorted(concerned) for statement in files if symbol not in there[statement]]


def current(filings: Iterable[Filing], request: Request) -> tuple[list[Filing], list[str]]:
    """Return the readable filings of requested sessions, the last one of each period, and notes.

    A period that was filed again is known by its last figures: the dataset has one row for each item of a period. Filings of the same
    day are all kept; the gate decides.
    """
    dates, warnings = filing_dates(request), []
    periods: dict[tuple[str, str, str, date], list[Filing]] = defaultdict(list)
    undated: dict[str, int] = defaultdict(int)
    for one in filings:
        if one.problems or one.symbol is None or one.period is None or one.period_end is None:
            continue
        if one.filed is None:
            undated[one.symbol] += 1
        elif one.filed in dates:
            periods[one.symbol, one.statement, one.period, one.period_end].append(one)
    kept = []
    for (symbol, statement, period, _), versions in periods.items():
        days = sorted({one.filed for one in versions if one.filed})
        kept += [one for one in versions if one.filed == days[-1]]
        if len(days) > 1:
            warnings.append(
                f"{symbol} filed {statement} of {period} {versions[0].fiscal_year} on {', '.join(map(str, days))}: the last counts"
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
