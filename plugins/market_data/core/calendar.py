"""The sessions of the New York Stock Exchange (XNYS), by rule.

Every Airflow component imports this module, so it does not use pandas.

A session is the exchange date of a trading day, 2000-01-01 to 2040-12-31. A session opens at 09:30 and closes at 16:00 New York
time, on early closes at 13:00. Ranges are half-open: the start is inside, the end is not.

The rules are those of NYSE Rule 7.2 (holidays) and of https://www.nyse.com/markets/hours-calendars (early closes). Extraordinary
closings are listed below, each with its reason. The tests compare all of it with ``exchange_calendars``. The exchange announces its
holidays about three years ahead: later years follow from the current rules.

**To add a closing that no rule foresees** (a day of mourning, a storm), set it in the environment of every Airflow component; no new
version is needed: ``MARKET_DATA_EXTRA_CLOSURES=2027-03-01,2027-03-02``. If it cannot be read, every function here raises
:class:`~market_data.core.errors.ConfigError`; a date outside the years above raises :class:`~market_data.core.errors.ParamError`.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from market_data.core import settings
from market_data.core.errors import ConfigError, ParamError
from market_data.core.intervals import IntervalSet

EXCHANGE = "XNYS"
NEW_YORK = ZoneInfo("America/New_York")
CLOSE = time(16)
EARLY_CLOSE = time(13)
FIRST = date(2000, 1, 1)
LAST = date(2040, 12, 31)
EXTRA_CLOSURES = "MARKET_DATA_EXTRA_CLOSURES"

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = range(7)
DAY = timedelta(days=1)

_ATTACKS, _SANDY = "attacks on the World Trade Center", "hurricane Sandy"
CLOSURES = {
    date(2001, 9, 11): _ATTACKS,
    date(2001, 9, 12): _ATTACKS,
    date(2001, 9, 13): _ATTACKS,
    date(2001, 9, 14): _ATTACKS,
    date(2004, 6, 11): "day of mourning for Ronald Reagan",
    date(2007, 1, 2): "day of mourning for Gerald Ford",
    date(2012, 10, 29): _SANDY,
    date(2012, 10, 30): _SANDY,
    date(2018, 12, 5): "day of mourning for George H. W. Bush",
    date(2025, 1, 9): "day of mourning for Jimmy Carter",
}
EARLY_CLOSES = frozenset(
    {
        date(2002, 7, 5),  # until 2012, when 4 July was a Thursday, the short day was the Friday after
        date(2003, 12, 26),  # the Friday after Christmas, decided for that year only
    }
)
FULL_DAYS = frozenset({date(2002, 7, 3)})  # the other half of 2002-07-05


def sessions(start: date, end: date) -> tuple[date, ...]:
    """Return the sessions from ``start`` (inclusive) to ``end`` (exclusive), ascending.

    Empty if ``end`` is not after ``start``.
    """
    if _checked(start) >= _checked(end, exclusive=True):
        return ()
    closures = extra_closures()
    last = end - DAY
    years = [_year(year, closures) for year in range(start.year, last.year + 1)]
    years[-1] = years[-1][: bisect_left(years[-1], end)]
    years[0] = years[0][bisect_left(years[0], start) :]
    return tuple(day for year in years for day in year)


def sessions_count(start: date, end: date) -> int:
    """Return the number of sessions from ``start`` (inclusive) to ``end`` (exclusive)."""
    return len(sessions(start, end))


def is_session(day: date) -> bool:
    """Return True if the exchange trades on ``day``."""
    year = _year(_checked(day).year, extra_closures())
    place = bisect_left(year, day)
    return place < len(year) and year[place] == day


def next_session(day: date) -> date:
    """Return the first session strictly after ``day``, which need not be a session."""
    day = _checked(day) + DAY
    while not is_session(day):
        day += DAY
    return day


def previous_session(day: date) -> date:
    """Return the last session strictly before ``day``, which need not be a session."""
    day = _checked(day, exclusive=True) - DAY
    while not is_session(day):
        day -= DAY
    return day


def why_closed(day: date) -> str | None:
    """Return the reason why the exchange does not trade on ``day``, or None if it does."""
    if is_session(day):
        return None
    if day.weekday() in (SATURDAY, SUNDAY):
        return f"{day:%A}"
    return (CLOSURES | _holidays(day.year)).get(day, f"closed by {EXTRA_CLOSURES}")


def is_early_close(day: date) -> bool:
    """Return True if ``day`` is a session that closes at 13:00 New York time."""
    return is_session(day) and day not in FULL_DAYS and (day in EARLY_CLOSES or day in _early_closes_by_rule(day.year))


def session_close(day: date) -> datetime:
    """Return the moment the session of ``day`` closes, UTC.

    :raises ParamError: if ``day`` is not a session.
    """
    if not is_session(day):
        raise ParamError([f"{day} is not a session of {EXCHANGE}; the next one is {next_session(day)}"])
    return at(day, EARLY_CLOSE if is_early_close(day) else CLOSE)


def at(day: date, clock: time) -> datetime:
    """Return the moment at which clocks in New York show ``clock`` on ``day``, UTC."""
    return datetime.combine(day, clock, tzinfo=NEW_YORK).astimezone(UTC)


def last_completed_session(now: datetime, run_at: time | None = None) -> date:
    """Return the last session that is over at ``now``.

    :param now: a moment, with its time zone.
    :param run_at: New York time of the session's own date from which it counts as over; None: from its close.
    :raises ValueError: if ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, without a time zone; an aware datetime is needed")
    day = now.astimezone(NEW_YORK).date()
    if is_session(day) and (session_close(day) if run_at is None else at(day, run_at)) <= now:
        return day
    return previous_session(day)


def extra_closures() -> frozenset[date]:
    """Return the closings that ``MARKET_DATA_EXTRA_CLOSURES`` adds to the rules.

    :raises ConfigError: if it is not a list of ISO dates, separated by commas, each on a weekday of the years covered here.
    """
    return _parse_closures(settings.value(EXTRA_CLOSURES))


@lru_cache(maxsize=8)
def _parse_closures(text: str) -> frozenset[date]:
    days = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            day = date.fromisoformat(part)
        except ValueError:
            raise ConfigError(
                f"{EXTRA_CLOSURES} holds {part!r}; ISO dates separated by commas are needed, e.g. 2027-03-01"
            ) from None
        if not FIRST <= day <= LAST or day.weekday() in (SATURDAY, SUNDAY):
            raise ConfigError(f"{EXTRA_CLOSURES} holds {part}, a {day:%A}; weekdays from {FIRST} to {LAST} are allowed")
        days.add(day)
    return frozenset(days)


def _checked(day: date, *, exclusive: bool = False) -> date:
    """Return ``day`` if the calendar covers it; ``exclusive`` allows the day after the last one as well."""
    if isinstance(day, datetime):
        raise TypeError(f"{day!r} is a datetime; a session is a date")
    if not FIRST <= day <= (LAST + DAY if exclusive else LAST):
        raise ParamError([f"{day} is outside the {EXCHANGE} calendar, which holds {FIRST} to {LAST}"])
    return day


@lru_cache(maxsize=256)
def _year(year: int, closures: frozenset[date]) -> tuple[date, ...]:
    closed = _holidays(year).keys() | CLOSURES.keys() | closures
    days = (date.fromordinal(n) for n in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()))
    return tuple(day for day in days if day.weekday() <= FRIDAY and day not in closed)


def _holidays(year: int) -> dict[date, str]:
    """Return the holidays by rule. A fixed date on a Sunday moves to Monday, on a Saturday to Friday."""
    holidays = {
        _nth(year, 1, MONDAY, 3): "Martin Luther King Jr. Day",
        _nth(year, 2, MONDAY, 3): "Washington's Birthday",
        _easter(year) - 2 * DAY: "Good Friday",
        _nth(year, 6, MONDAY, 1) - 7 * DAY: "Memorial Day",  # the last Monday of May
        _observed(date(year, 7, 4)): "Independence Day",
        _nth(year, 9, MONDAY, 1): "Labor Day",
        _thanksgiving(year): "Thanksgiving Day",
        _observed(date(year, 12, 25)): "Christmas Day",
    }
    if year >= 2022:
        holidays[_observed(date(year, 6, 19))] = "Juneteenth"
    new_year = date(year, 1, 1)
    if new_year.weekday() != SATURDAY:  # that Friday ends the accounting year, so the exchange opens
        holidays[_observed(new_year)] = "New Year's Day"
    return holidays


@lru_cache(maxsize=64)
def _early_closes_by_rule(year: int) -> frozenset[date]:
    """Return the early closes: before 4 July, after Thanksgiving, before Christmas, if these are sessions."""
    return frozenset({date(year, 7, 3), _thanksgiving(year) + DAY, date(year, 12, 24)})


def _observed(day: date) -> date:
    return day + {SATURDAY: -DAY, SUNDAY: DAY}.get(day.weekday(), timedelta())


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _thanksgiving(year: int) -> date:
    return _nth(year, 11, THURSDAY, 4)


def _easter(year: int) -> date:
    """Return Easter Sunday of the Gregorian calendar.

    Source: the anonymous algorithm in Meeus, Astronomical Algorithms, chapter 8.
    """
    a = year % 19
    b, c = divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    j, k = divmod(c, 4)
    m = (a + 11 * h) // 319
    r = (2 * e + 2 * j - k - h + m + 32) % 7
    month = (h - m + r + 90) // 25
    return date(year, month, (h - m + r + month + 19) % 32)


def sessions_in(intervals: IntervalSet) -> tuple[date, ...]:
    """Return the exchange's sessions inside ``intervals``, ascending."""
    return tuple(session for interval in intervals for session in sessions(interval.start, interval.end))
