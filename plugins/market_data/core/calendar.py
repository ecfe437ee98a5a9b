"""The sessions of exchanges: XNYS (stocks), CMES (CME equity index futures), CFE (VIX), 24/5 and 24/7.

Every Airflow component imports this module, so it does not use pandas.

A session is the exchange date of a trading day, 2000-01-01 to 2040-12-31. Ranges are half-open: the start is inside, the end is not. The
functions of this module are those of ``XNYS``; `core/instruments.py` tells which calendar a symbol has.

The files in ``calendars/`` list the weekdays that are not regular sessions: ``tools/make_calendars.py`` writes them, from
``exchange_calendars`` and from what the exchanges published. ``docs/reference/calendars.md`` lists the differences with their sources.
Exchanges announce their holidays about three years ahead: later years follow from the current rules.

**To add a closing that no file foresees** (a day of mourning, a storm), set it in the environment of every Airflow component; no new
version is needed: ``MARKET_DATA_EXTRA_CLOSURES=2027-03-01,CMES:2027-03-02``. A date without a name is one of XNYS. If it cannot be read,
every function here raises :class:`~market_data.core.errors.ConfigError`; a date outside the years above raises
:class:`~market_data.core.errors.ParamError`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

from market_data.core import settings
from market_data.core.errors import ConfigError, ParamError
from market_data.core.intervals import IntervalSet

EXCHANGE = "XNYS"
NEW_YORK = ZoneInfo("America/New_York")
FIRST = date(2000, 1, 1)
LAST = date(2040, 12, 31)
EXTRA_CLOSURES = "MARKET_DATA_EXTRA_CLOSURES"
FOLDER = Path(__file__).with_name("calendars")

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = range(7)
DAY = timedelta(days=1)
MIDNIGHT = time()


class Calendar:
    """The sessions of an exchange.

    :param name: the exchange's code, as in ``exchange_calendars``.
    :param title: what trades there, for people.
    :param opens: when a session opens, on its own date or, with ``evening``, on the date before.
    :param closes: when a regular session closes, on its own date; midnight: at the end of the date.
    :param trading_ends: when the last trades of a session are made, after its close; None: at the close.
    :param last_weekday: a session may be on a weekday up to this one.
    :param zone: time zone of the times above.
    """

    def __init__(
        self,
        name: str,
        title: str,
        opens: time,
        closes: time,
        *,
        evening: bool = False,
        trading_ends: time | None = None,
        last_weekday: int = FRIDAY,
        zone: tzinfo = NEW_YORK,
    ) -> None:
        self.name, self.title, self.opens, self.closes = name, title, opens, closes
        self.evening, self.trading_ends, self.last_weekday, self.zone = evening, trading_ends, last_weekday, zone

    def __repr__(self) -> str:
        return self.name

    @property
    def over_by(self) -> time:
        """New York time at which every session is over on its own date, in summer and winter."""
        return self.closes if self.zone is NEW_YORK else time(20)

    # -- dates -----------------------------------------------------------------------------------------------------------------

    def sessions(self, start: date, end: date) -> tuple[date, ...]:
        """Return the sessions from ``start`` (inclusive) to ``end`` (exclusive), ascending.

        Empty if ``end`` is not after ``start``.
        """
        if self._checked(start) >= self._checked(end, exclusive=True):
            return ()
        closures = extra_closures(self.name)
        last = end - DAY
        years = [_year(self, year, closures) for year in range(start.year, last.year + 1)]
        years[-1] = years[-1][: bisect_left(years[-1], end)]
        years[0] = years[0][bisect_left(years[0], start) :]
        return tuple(chain.from_iterable(years))

    def sessions_in(self, intervals: IntervalSet) -> tuple[date, ...]:
        """Return the sessions inside ``intervals``, ascending."""
        return _sessions_in(self, tuple(intervals), extra_closures(self.name))

    def among(self, days: Collection[date]) -> tuple[date, ...]:
        """Return those of ``days`` that are sessions, in their order."""
        found = set(self.sessions(min(days), max(days) + DAY)) if days else set()
        return tuple(day for day in days if day in found)

    def sessions_count(self, start: date, end: date) -> int:
        """Return the number of sessions from ``start`` (inclusive) to ``end`` (exclusive)."""
        return len(self.sessions(start, end))

    def is_session(self, day: date) -> bool:
        """Return True if the exchange trades on ``day``."""
        year = _year(self, self._checked(day).year, extra_closures(self.name))
        place = bisect_left(year, day)
        return place < len(year) and year[place] == day

    def next_session(self, day: date) -> date:
        """Return the first session strictly after ``day``, which need not be a session."""
        day = self._checked(day) + DAY
        while not self.is_session(day):
            day += DAY
        return day

    def previous_session(self, day: date) -> date:
        """Return the last session strictly before ``day``, which need not be a session."""
        day = self._checked(day, exclusive=True) - DAY
        while not self.is_session(day):
            day -= DAY
        return day

    def first_session(self, day: date) -> date:
        """Return the first session on or after ``day``."""
        return day if self.is_session(day) else self.next_session(day)

    def recent_sessions(self, last: date, count: int) -> tuple[date, ...]:
        """Return the ``count`` sessions that end with ``last``, ascending; fewer where the calendar begins."""
        start = max(FIRST, last - timedelta(days=count * 3 // 2 + 14))
        return self.sessions(start, last + DAY)[-count:]

    def why_closed(self, day: date) -> str | None:
        """Return the reason why the exchange does not trade on ``day``, or None if it does."""
        if self.is_session(day):
            return None
        if day.weekday() > self.last_weekday:
            return f"{day:%A}"
        return _special(self.name)[day][1] if day in _special(self.name) else f"closed by {EXTRA_CLOSURES}"

    # -- moments ---------------------------------------------------------------------------------------------------------------

    def is_early_close(self, day: date) -> bool:
        """Return True if ``day`` is a session that closes early."""
        return self.is_session(day) and day in _special(self.name)

    def hours(self, day: date) -> float:
        """Return how many hours the session of ``day`` is open."""
        return (self.session_close(day) - self.session_open(day)) / timedelta(hours=1)

    def session_open(self, day: date) -> datetime:
        """Return the moment the session of ``day`` opens, UTC.

        :raises ParamError: if ``day`` is not a session.
        """
        return at(self._session(day) - (DAY if self.evening else timedelta()), self.opens, self.zone)

    def session_close(self, day: date) -> datetime:
        """Return the moment the session of ``day`` closes, UTC.

        :raises ParamError: if ``day`` is not a session.
        """
        early, _ = _special(self.name).get(self._session(day), (None, ""))
        closes = early or self.closes
        return at(day if closes > MIDNIGHT else day + DAY, closes, self.zone)

    def trading_end(self, day: date) -> datetime:
        """Return the moment after which the session of ``day`` has no more trades, UTC.

        Stocks trade in the evening too.

        :raises ParamError: if ``day`` is not a session.
        """
        return self.session_close(day) if self.trading_ends is None else at(self._session(day), self.trading_ends, self.zone)

    def session_of(self, moment: datetime) -> date:
        """Return the session to which a trade at ``moment`` belongs.

        It is the first session on or after the trading date; a date begins at midnight or, with ``evening``, when a session opens.
        """
        local = moment.astimezone(self.zone)
        day = local.date()
        return self.first_session(day + DAY if self.evening and local.time() >= self.opens else day)

    def last_completed_session(self, now: datetime, run_at: time | None = None) -> date:
        """Return the last session that is over at ``now``.

        :param now: a moment, with its time zone.
        :param run_at: New York time of the session's own date from which it counts as over; None: from its close.
        :raises ValueError: if ``now`` has no time zone.
        """
        if now.tzinfo is None:
            raise ValueError(f"now is {now}, without a time zone; an aware datetime is needed")
        day = now.astimezone(self.zone if run_at is None else NEW_YORK).date()
        if self.is_session(day) and (self.session_close(day) if run_at is None else at(day, run_at)) <= now:
            return day
        return self.previous_session(day)

    # -- checks ----------------------------------------------------------------------------------------------------------------

    def _session(self, day: date) -> date:
        if not self.is_session(day):
            raise ParamError([f"{day} is not a session of {self.name}; the next one is {self.next_session(day)}"])
        return day

    def _checked(self, day: date, *, exclusive: bool = False) -> date:
        """Return ``day`` if the calendar covers it; ``exclusive`` allows the day after the last one as well."""
        if isinstance(day, datetime):
            raise TypeError(f"{day!r} is a datetime; a session is a date")
        if not FIRST <= day <= (LAST + DAY if exclusive else LAST):
            raise ParamError([f"{day} is outside the {self.name} calendar, which holds {FIRST} to {LAST}"])
        return day


XNYS = Calendar(EXCHANGE, "New York Stock Exchange", time(9, 30), time(16), trading_ends=time(20))
CMES = Calendar("CMES", "CME Globex, equity index futures", time(18), time(17), evening=True)
CFE = Calendar("CFE", "Cboe, the VIX and its futures", time(9, 30), time(16, 15))
WEEKDAYS = Calendar("24/5", "currencies", time(17), time(17), evening=True)
ALWAYS = Calendar("24/7", "crypto", MIDNIGHT, MIDNIGHT, last_weekday=SUNDAY, zone=UTC)
CALENDARS: Mapping[str, Calendar] = {one.name: one for one in (XNYS, CMES, CFE, WEEKDAYS, ALWAYS)}


def calendar(name: str) -> Calendar:
    """Return the calendar with that name.

    :raises ConfigError: if it is unknown; names those there are.
    """
    if name not in CALENDARS:
        raise ConfigError(f"calendar is {name!r}; allowed: {', '.join(CALENDARS)}")
    return CALENDARS[name]


def sessions_of_any(calendars: Iterable[Calendar], start: date, end: date) -> tuple[date, ...]:
    """Return the sessions that any calendar has from ``start`` (inclusive) to ``end`` (exclusive)."""
    several = [one.sessions(start, end) for one in calendars]
    return several[0] if len(several) == 1 else tuple(sorted({session for found in several for session in found}))


# The functions of XNYS.
sessions = XNYS.sessions
sessions_in = XNYS.sessions_in
sessions_count = XNYS.sessions_count
is_session = XNYS.is_session
next_session = XNYS.next_session
previous_session = XNYS.previous_session
why_closed = XNYS.why_closed
is_early_close = XNYS.is_early_close
session_close = XNYS.session_close
last_completed_session = XNYS.last_completed_session


def at(day: date, clock: time, zone: tzinfo = NEW_YORK) -> datetime:
    """Return the moment at which clocks in ``zone`` show ``clock`` on ``day``, UTC."""
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)


def extra_closures(name: str = EXCHANGE) -> frozenset[date]:
    """Return the closings of a calendar that ``MARKET_DATA_EXTRA_CLOSURES`` adds to its file.

    :raises ConfigError: if it is not a list of ISO dates, separated by commas, each on a weekday of the years covered here, each with
        the name of its calendar before it, or without one for XNYS.
    """
    return _parse_closures(settings.value(EXTRA_CLOSURES)).get(name, frozenset())


@lru_cache(maxsize=8)
def _parse_closures(text: str) -> Mapping[str, frozenset[date]]:
    days: dict[str, set[date]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, written = part.rpartition(":")
        if name and name not in CALENDARS:
            raise ConfigError(f"{EXTRA_CLOSURES} holds {part!r}; the calendars are {', '.join(CALENDARS)}, e.g. CMES:2027-03-01")
        try:
            day = date.fromisoformat(written)
        except ValueError:
            raise ConfigError(
                f"{EXTRA_CLOSURES} holds {part!r}; ISO dates separated by commas are needed, e.g. 2027-03-01"
            ) from None
        last_weekday = CALENDARS[name or EXCHANGE].last_weekday
        if not FIRST <= day <= LAST or day.weekday() > last_weekday:
            raise ConfigError(f"{EXTRA_CLOSURES} holds {part}, a {day:%A}; weekdays from {FIRST} to {LAST} are allowed")
        days.setdefault(name or EXCHANGE, set()).add(day)
    return {name: frozenset(found) for name, found in days.items()}


@lru_cache(maxsize=512)
def _year(calendar: Calendar, year: int, closures: frozenset[date]) -> tuple[date, ...]:
    closed = closures | {day for day, (close, _) in _special(calendar.name).items() if close is None}
    days = (date.fromordinal(n) for n in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()))
    return tuple(day for day in days if day.weekday() <= calendar.last_weekday and day not in closed)


@lru_cache(maxsize=64)
def _sessions_in(calendar: Calendar, intervals: IntervalSet, closures: frozenset[date]) -> tuple[date, ...]:  # noqa: ARG001  a key
    return tuple(session for interval in intervals for session in calendar.sessions(interval.start, interval.end))


@lru_cache(maxsize=8)
def _special(name: str) -> Mapping[date, tuple[time | None, str]]:
    """Return weekday -> (early close, or None where closed; reason) of all that are not regular sessions."""
    if "/" in name:  # every day, or every weekday
        return {}
    lines = (line.split(",", 2) for line in (FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines())
    return {date.fromisoformat(day): (time.fromisoformat(close) if close else None, why) for day, close, why in lines}
