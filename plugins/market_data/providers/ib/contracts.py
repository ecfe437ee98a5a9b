"""Map symbols to Interactive Brokers' contracts, and spans of dates to requests for bars."""

from __future__ import annotations

import calendar as months
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as clock
from typing import NamedTuple

from ib_async import Contract, Future, Index, Stock

from market_data.core.calendar import CMES, FRIDAY, NEW_YORK, Calendar, at
from market_data.core.errors import BadRequest
from market_data.core.instruments import calendar_of
from market_data.core.intervals import DAY, Interval
from market_data.core.spelling import STOCK, SpellingError
from market_data.providers.ib.spec import INDICES
from market_data.providers.ib.symbols import to_vendor

LONGEST_DAILY = timedelta(days=20 * 365)
"""The longest step of daily bars. A step of minute bars is a month."""

FUTURES = {"ES": "CME", "MES": "CME", "NQ": "CME", "MNQ": "CME", "RTY": "CME", "M2K": "CME", "YM": "CBOT", "MYM": "CBOT"}
"""Roots of the quarterly equity index futures -> exchange, as the vendor spells it."""
FRONT = ".c.0"
"""After a root: the contract that leads, as other vendors write it too. ``ES`` alone may also be a stock, Eversource Energy."""
INDEX = ":IND"
"""After a name: the index."""
MONTHS = {"H": 3, "M": 6, "U": 9, "Z": 12}
_DATED = re.compile(r"([A-Z0-9]{1,3})([FGHJKMNQUVXZ])(20\d\d)")


class ContractSpan(NamedTuple):
    """A contract, and the dates for which it is requested."""

    contract: Contract
    dates: Interval


@dataclass(frozen=True, slots=True)
class Instrument:
    """The instrument of a symbol.

    :param kind: ``STK``, ``IND`` or ``FUT``.
    :param month: of a dated future, ``202612``; empty for the front.
    :param primary: exchange on which a stock is listed; empty: the only one in the US.
    """

    kind: str
    name: str
    exchange: str
    month: str = ""
    primary: str = ""

    @classmethod
    def of(cls, symbol: str, primary: str = "") -> Instrument:
        """Parse a symbol.

        :param primary: the primary exchange that is known of it: it is a stock then, also if it is the root of a future.
        :raises BadRequest: for a future with an unknown root, or with a month that is not quarterly; for a root alone, which may be a
            stock, too; and for what is not a stock, index or future. The message says what to write.
        """
        if (index := symbol.removesuffix(INDEX)) in INDICES:
            return cls("IND", index, INDICES[index])
        if symbol in FUTURES and not primary:
            raise BadRequest(f"{symbol} is also a future: write {symbol}{FRONT} or {symbol}{STOCK}")
        if symbol.endswith(FRONT):
            root = symbol.removesuffix(FRONT)
            if root not in FUTURES:
                raise BadRequest(
                    f"{symbol} is not a future that is served; known are {', '.join(FUTURES)} with {FRONT}, e.g. ES{FRONT}"
                )
            return cls("FUT", root, FUTURES[root])
        if found := _DATED.fullmatch(symbol):
            root, code, year = found.groups()
            if root not in FUTURES or code not in MONTHS:
                known = f"{', '.join(FUTURES)} with {', '.join(MONTHS)} and the year"
                raise BadRequest(f"{symbol} is not a future that is served; known are {known}, e.g. ESZ2026")
            return cls("FUT", root, FUTURES[root], f"{year}{MONTHS[code]:02}")
        try:
            return cls("STK", to_vendor(symbol), "SMART", primary=primary)
        except SpellingError as error:
            raise BadRequest(f"{symbol} {error}") from None

    @property
    def calendar(self) -> Calendar:
        """The calendar of its sessions."""
        return CMES if self.kind == "FUT" else calendar_of(self.name)

    def parts(self, dates: Interval) -> Iterator[ContractSpan]:
        """Yield the contracts to request, the latest first; together they cover ``dates`` without overlaps."""
        if self.kind == "STK":
            yield ContractSpan(Stock(self.name, self.exchange, "USD"), dates)
        elif self.kind == "IND":
            yield ContractSpan(Index(self.name, self.exchange, "USD"), dates)
        elif self.month:
            yield ContractSpan(self._future(self.month), dates)
        else:
            end = dates.end
            while end > dates.start:
                month, since = lead(end - DAY)
                yield ContractSpan(self._future(month), Interval(max(since, dates.start), end))
                end = max(since, dates.start)

    def _future(self, month: str) -> Contract:
        return Future(self.name, month, self.exchange, currency="USD", includeExpired=True)

    def end(self, dates: Interval) -> datetime:
        """Return the end of the request: after all of the last session, before any of the next one."""
        if self.kind == "FUT":
            return at(dates.last, self.calendar.opens)
        return at(dates.end, clock())

    def session(self, opened: datetime) -> date:
        """Return the session of an intraday bar: its New York date; for a future, from 18:00 on the next."""
        return self.calendar.session_of(opened) if self.kind == "FUT" else opened.astimezone(NEW_YORK).date()

    def whole_from(self, start: date, begins: date | None) -> date:
        """Return the date from which on sessions are whole in bars within the day.

        :param start: the first requested date.
        :param begins: the date from which the response is whole, or None if it does not say; for a future, from its evening on.
        """
        if self.kind != "FUT":
            return start
        first = self.calendar.first_session(start)
        return first + DAY if first - DAY < (begins or date.min) else start


def lead(day: date) -> tuple[str, date]:
    """Return the contract month (``202612``) of the quarterly that leads on ``day``, and its first day.

    A contract leads from the Monday before the third Friday of the quarter's last month, on which the one before it expires: the roll
    date of the CME's equity index futures.
    """
    quarter = day.year * 4 + (day.month - 1) // 3
    if day >= _roll(quarter):
        quarter += 1
    year, place = divmod(quarter, 4)
    return f"{year}{3 * place + 3:02}", _roll(quarter - 1)


def _roll(quarter: int) -> date:
    year, place = divmod(quarter, 4)
    first = date(year, 3 * place + 3, 1)
    third_friday = first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)
    return third_friday - timedelta(days=4)


class Step(NamedTuple):
    """The dates and the duration of one request.

    :param dates: those it is for; the response may begin earlier.
    :param duration: in the vendor's words, counted back from the end of ``dates``.
    """

    dates: Interval
    duration: str


def last_step(dates: Interval, *, daily: bool) -> Step:
    """Return the latest part of ``dates`` that fits into one request.

    The vendor counts ``D`` in trading days and ``W``, ``M``, ``Y`` by the calendar; more than 365 days must be requested in years.
    """
    month_before = _month_before(dates.end)
    start = max(dates.start, dates.end - LONGEST_DAILY if daily else month_before)
    days = (dates.end - start).days
    if days <= 7:
        duration = f"{days} D"
    elif not daily and days > 28:
        duration = "1 M"
    elif days <= 364:
        duration = f"{math.ceil(days / 7)} W"
    else:
        duration = f"{math.ceil(days / 365)} Y"
    return Step(Interval(start, dates.end), duration)


def step_count(dates: Interval, *, daily: bool) -> int:
    """Return the number of requests for ``dates`` of one contract."""
    count = 0
    while dates.start < dates.end:
        dates = Interval(dates.start, last_step(dates, daily=daily).dates.start)
        count += 1
    return count


def _month_before(day: date) -> date:
    year, month = divmod(day.year * 12 + day.month - 2, 12)
    return date(year, month + 1, min(day.day, months.monthrange(year, month + 1)[1]))
