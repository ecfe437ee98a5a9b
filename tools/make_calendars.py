"""Write the session files of the exchanges in ``core/calendars``: ``make calendars``.

A file has one line for each weekday that is not a regular session: ``date,close,reason``. Without a close the exchange is closed; with
one (New York time) the session ends early. Sessions and closes come from ``exchange_calendars``. ``calendar_corrections.csv`` has the
dates for which an exchange published something else, with the source. The rules below have the hours of recurring days.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "plugins/market_data/core/calendars"
CORRECTIONS = Path(__file__).with_name("calendar_corrections.csv")
FIRST, LAST = date(2000, 1, 1), date(2040, 12, 31)
NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)
REGULAR = {"XNYS": time(16), "CMES": time(18), "CFE": time(16, 15)}
"""Calendar -> its regular close in ``exchange_calendars``, New York time: CMES counts the maintenance hour from 17:00 on as open."""
FUNERALS = {
    "2004-06-11": "Ronald Reagan",
    "2007-01-02": "Gerald Ford",
    "2018-12-05": "George H. W. Bush",
    "2025-01-09": "Jimmy Carter",
}
ATTACKS, SANDY = (date(2001, 9, 11), date(2001, 9, 14)), (date(2012, 10, 29), date(2012, 10, 30))
HALTED_EARLIER_UNTIL = date(2014, 5, 1)
"""CME halted its equity index products on holidays at 10:30 Chicago time, since Memorial Day 2014 at 12:00."""

Lines = dict[date, tuple[time | None, str]]
"""Date -> early close or None, reason."""


def main() -> int:
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    for name in REGULAR:
        lines = lines_of(name)
        text = "".join(
            f"{day},{close:%H:%M},{why}\n" if close else f"{day},,{why}\n" for day, (close, why) in sorted(lines.items())
        )
        (FOLDER / f"{name}.csv").write_text(text)
    return 0


def lines_of(name: str) -> Lines:
    """Return the days of a calendar that are not regular sessions."""
    lines = of_library(name)
    if name != "XNYS":
        lines |= of_rules(name, of_library("XNYS"), lines)
    return lines | {day: (close, why) for day, close, why, _ in corrections(name)}


def of_library(name: str) -> Lines:
    """Return the closed weekdays and early closes that ``exchange_calendars`` has."""
    import exchange_calendars

    found = exchange_calendars.get_calendar(name, start=str(FIRST), end=str(LAST))
    closes = {day.date(): close.tz_convert(NEW_YORK).time() for day, close in found.closes.items()}
    weekdays = [day for n in range((LAST - FIRST).days + 1) if (day := FIRST + n * DAY).weekday() < 5]
    closed: Lines = {day: (None, why_closed(day)) for day in weekdays if day not in closes}
    early: Lines = {day: (close, why_early(day)) for day, close in closes.items() if close < REGULAR[name]}
    return closed | early


def of_rules(name: str, stocks: Lines, lines: Lines) -> Lines:
    """Return the early closes of recurring days as CME and Cboe publish them.

    :param stocks: the days of the stock exchange.
    :param lines: the days of the calendar itself: what is closed there stays closed.
    """
    closed = {day for day, (close, _) in lines.items() if close is None}
    rules: Lines = {}
    for day, (close, why) in stocks.items():
        if day in closed:
            continue
        if close is not None:
            rules[day] = (time(13, 15), why)  # 12:15 Chicago time: the days on which the stock exchange closes early
        elif name == "CMES":
            rules[day] = (time(11, 30) if day < HALTED_EARLIER_UNTIL else time(13), why)
    return rules


def corrections(name: str) -> Iterator[tuple[date, time | None, str, str]]:
    """Yield date, close, reason and source of the corrections of a calendar."""
    with CORRECTIONS.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["calendar"] == name:
                close = time.fromisoformat(row["close"]) if row["close"] else None
                yield date.fromisoformat(row["date"]), close, row["reason"], row["source"]


def why_closed(day: date) -> str:
    if (who := FUNERALS.get(day.isoformat())) is not None:
        return f"day of mourning for {who}"
    if ATTACKS[0] <= day <= ATTACKS[1]:
        return "attacks on the World Trade Center"
    if SANDY[0] <= day <= SANDY[1]:
        return "hurricane Sandy"
    return holidays(day.year)[day]


def why_early(day: date) -> str:
    if day.month == 7:
        return "day before or after Independence Day" if day.day != 4 else "Independence Day"
    if day.month == 11 and day - DAY == nth(day.year, 11, 3, 4):
        return "day after Thanksgiving"
    if day.month == 12:
        return "Christmas Eve" if day.day == 24 else "day after Christmas"
    return holidays(day.year)[day]


def holidays(year: int) -> Mapping[date, str]:
    """Return the US holidays as exchanges observe them: Sunday's on Monday, Saturday's on Friday."""
    fixed = {date(year, 7, 4): "Independence Day", date(year, 12, 25): "Christmas Day", date(year, 1, 1): "New Year's Day"}
    if year >= 2022:
        fixed[date(year, 6, 19)] = "Juneteenth"
    moved = {5: -DAY, 6: DAY}
    return {
        **{day + moved.get(day.weekday(), timedelta()): why for day, why in fixed.items()},
        nth(year, 1, 0, 3): "Martin Luther King Jr. Day",
        nth(year, 2, 0, 3): "Washington's Birthday",
        good_friday(year): "Good Friday",
        nth(year, 6, 0, 1) - 7 * DAY: "Memorial Day",
        nth(year, 9, 0, 1): "Labor Day",
        nth(year, 11, 3, 4): "Thanksgiving Day",
    }


def good_friday(year: int) -> date:
    from dateutil.easter import easter

    return easter(year) - 2 * DAY


def nth(year: int, month: int, weekday: int, n: int) -> date:
    """Return the ``n``-th ``weekday`` (Monday is 0) of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


if __name__ == "__main__":
    sys.exit(main())
