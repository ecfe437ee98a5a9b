"""Read Interactive Brokers' bars: from the client library's objects to columns. No I/O."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from ib_async import BarData
from ib_async.util import parseIBDatetime

from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.core.messages import shown, some
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.ib.contracts import Instrument, Step
from market_data.providers.unexpected import SHOWN, Unexpected


class UnreadableBar(NamedTuple):
    """A bar that cannot be read.

    :param bar: numbers that cannot be read are not numbers, a count is -1.
    :param date: the bar's date or moment, None if that cannot be read.
    """

    bar: BarData
    date: date | datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One response.

    :param bars: as they came, those that can be read.
    :param begins: the date from which the response says it is whole, or None where it does not say.
    :param bytes: of its message.
    :param odd: bars that cannot be read.
    :param aside: the dates of bars that were not requested, one for each bar.
    """

    bars: Sequence[BarData]
    begins: date | None
    bytes: int
    id: str
    odd: Sequence[UnreadableBar] = ()
    aside: Sequence[date] = ()


FIELDS = ("open", "high", "low", "close", "volume", "average")
PER_BAR = 8
MOST = 2**63


def readable_bars(cells: Sequence[str]) -> tuple[Sequence[str], Sequence[UnreadableBar]]:
    """Return the fields of the bars that can be read, and the other bars.

    :param cells: ``PER_BAR`` for each bar: date, prices, volume, average, and the number of trades.
    """
    try:
        for place in range(1, 7):
            list(map(float, cells[place::PER_BAR]))
        fits = all(-MOST <= int(count) < MOST for count in cells[7::PER_BAR])
        if fits and all(_is_dated(_moment(text)) for text in cells[::PER_BAR]):
            return cells, ()
    except NOT_READ:
        pass
    kept: list[str] = []
    odd: list[UnreadableBar] = []
    for start in range(0, len(cells), PER_BAR):
        row = cells[start : start + PER_BAR]
        found = _odd_bar(row)
        if found is None:
            kept += row
        else:
            odd.append(found)
    return kept, odd


def _odd_bar(row: Sequence[str]) -> UnreadableBar | None:
    """Return a bar with what is wrong with it; None if nothing is."""
    problems = []
    moment: date | datetime | None = None
    try:
        moment = _moment(row[0])
    except NOT_READ:
        problems.append(f"date is {shown(row[0])}")
    if moment is not None and not _is_dated(moment):
        problems.append(f"date is {shown(row[0])}, without a time zone")
        moment = None
    values: dict[str, Any] = {}
    for name, text in zip(FIELDS, row[1:], strict=False):
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = math.nan
            problems.append(f"{name} is {shown(text)}, not a number")
    try:
        count = int(row[7])
    except ValueError:
        count = MOST
    if not -MOST <= count < MOST:
        problems.append(f"barCount is {shown(row[7])}, not a whole number below 2^63")
        count = -1
    bar = BarData(**values, barCount=count)
    return UnreadableBar(bar, moment, "; ".join(problems)) if problems else None


def _moment(text: str) -> date | datetime:
    """:raises ValueError, OverflowError, OSError, LookupError: if it is not a date or a moment."""
    found: date | datetime = parseIBDatetime(text)
    return found


NOT_READ = (ValueError, OverflowError, OSError, LookupError)


def _is_dated(moment: date | datetime) -> bool:
    return not isinstance(moment, datetime) or moment.tzinfo is not None


def separated_page(page: HistoryPage, instrument: Instrument, step: Step, *, daily: bool) -> HistoryPage:
    """Return a response without bars that cannot be of the request; these are left aside.

    Some bars may lie before its dates: durations are counted generously. A bar with a moment in place of a date, or the other way round,
    cannot be read.
    """
    dates = step.dates
    earliest = dates.start - (dates.end - dates.start) - timedelta(days=10)
    wrong = "date is {}, not a date" if daily else "date is {}, not a moment"
    odd = [UnreadableBar(bar, bar.date, wrong.format(bar.date)) for bar in page.bars if isinstance(bar.date, datetime) is daily]
    odd += page.odd
    bars = [bar for bar in page.bars if isinstance(bar.date, datetime) is not daily]
    sessions = [_session(instrument, bar.date) for bar in bars]
    aside = [day for day in sessions if not earliest <= day < dates.end]
    aside += [day for one in odd if one.date is not None and not earliest <= (day := _session(instrument, one.date)) < dates.end]
    kept = [bar for day, bar in zip(sessions, bars, strict=True) if earliest <= day < dates.end]
    odd = [one for one in odd if one.date is None or earliest <= _session(instrument, one.date) < dates.end]
    return replace(page, bars=kept, odd=odd, aside=aside)


def unexpected_bars(page: HistoryPage, request: Request, instrument: Instrument, dates: Interval, unit: int = 1) -> Unexpected:
    """Return what a response holds beside the bars of sessions in ``dates`` that can be read."""
    symbol, sessions = request.symbols[0], set(instrument.calendar.sessions(dates.start, dates.end))
    days = [None if one.date is None else _session(instrument, one.date) for one in page.odd]
    placed = [(day, one) for day, one in zip(days, page.odd, strict=True) if day is None or day in sessions]
    named = tuple(dict.fromkeys(f"{day}" for day in sorted(page.aside)))
    unproved = {symbol: "a row came whose date cannot be read"} if None in days else {}
    if named:
        unproved = {symbol: f"rows of {some(named, SHOWN)} came"}
    if not placed:
        return Unexpected(len(page.aside), named, None, unproved)
    moments = [(day, one.date if isinstance(one.date, datetime) else _midnight(day)) for day, one in placed]
    bars = [(day, moment, one.bar) for (day, moment), (_, one) in zip(moments, placed, strict=True)]
    columns = _columns(request, instrument, bars, unit)
    rows = pa.table({**columns, "reasons": pa.array([one.reason for _, one in placed], pa.string())})
    return Unexpected(len(page.aside), named, rows, unproved)


def _session(instrument: Instrument, moment: date | datetime) -> date:
    return instrument.session(moment) if isinstance(moment, datetime) else moment


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def table(request: Request, instrument: Instrument, bars: Sequence[BarData], dates: Interval, unit: int = 1) -> pa.Table:
    """Return the bars of sessions in ``dates`` as columns.

    :param unit: shares or contracts that a volume of 1 means.
    """
    sessions = set(instrument.calendar.sessions(dates.start, dates.end))
    kept = [(day, bar) for day, bar in ((_session(instrument, bar.date), bar) for bar in bars) if day in sessions]
    rows = [(day, bar.date if isinstance(bar.date, datetime) else _midnight(day), bar) for day, bar in kept]
    return pa.table(list(_columns(request, instrument, rows, unit).values()), schema=find_dataset(request.dataset).received)


def _columns(
    request: Request, instrument: Instrument, rows: Sequence[tuple[date | None, datetime | None, BarData]], unit: int
) -> dict[str, pa.Array]:
    """Return the columns of the dataset; ``rows``: session, opening moment and bar."""
    counted = instrument.kind != "IND"
    columns: dict[str, Any] = {
        "symbol": [request.symbols[0]] * len(rows),
        "session": [day for day, _, _ in rows],
        "bar_time": [opened for _, opened, _ in rows],
        "adj_close": [None] * len(rows),
        **{name: [_number(getattr(bar, name)) for _, _, bar in rows] for name in ("open", "high", "low", "close")},
        "volume": [_times(unit, _amount(bar.volume)) if counted else None for _, _, bar in rows],
        "vwap": [_amount(bar.average) or None if counted else None for _, _, bar in rows],
        "trade_count": [bar.barCount if counted and bar.barCount >= 0 else None for _, _, bar in rows],
    }
    return {field.name: pa.array(columns[field.name], field.type) for field in find_dataset(request.dataset).received}


def _times(unit: int, amount: float | None) -> float | None:
    return None if amount is None else unit * amount


def _number(value: float) -> float | None:
    """Return None for a missing value: not a number, or the largest one, which is the protocol's null."""
    return float(value) if math.isfinite(value) and abs(value) < sys.float_info.max else None


def _amount(value: float) -> float | None:
    """Return the same, and -1 where there can be none."""
    number = _number(value)
    return None if number is None or number < 0 else number
