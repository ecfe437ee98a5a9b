"""The part of the lake that page Prices shows: a symbol of a source, from a first to a last session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from market_data.config.symbols import symbol_problem
from market_data.core.calendar import DAY, FIRST, LAST, MIDNIGHT, Calendar, at
from market_data.core.dates import read_date
from market_data.core.errors import ParamError
from market_data.core.messages import shown
from market_data.core.outcome import State
from market_data.providers.registry import calendar_of_source
from market_data.views.records import EPOCH_DAY, STATES

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.views.places import Place
    from market_data.views.records import Records

MOST_SESSIONS = {"1d": 8_000, "5m": 100, "1m": 20}
"""Timeframe -> sessions of one request at most: at most 28,800 bars."""

YEAR = timedelta(days=365)
RECENT = 5
"""Sessions of bars within the day that are shown by default."""


@dataclass(frozen=True)
class Chosen:
    """A symbol and its sessions from ``first`` to ``last``, both inclusive.

    :param notes: sentences on what differs from the request.
    """

    place: Place
    symbol: str
    first: date
    last: date
    notes: tuple[str, ...] = ()

    @property
    def dataset(self) -> Dataset:
        return self.place.selection.dataset

    @cached_property
    def calendar(self) -> Calendar:
        """The calendar of the symbol's sessions."""
        return calendar_of_source(self.place.source)(self.symbol)

    @property
    def sessions(self) -> tuple[date, ...]:
        """The sessions of the exchange in the range."""
        return self.calendar.sessions(self.first, self.last + DAY)

    @property
    def zone_name(self) -> str:
        """Name of the exchange's time zone; empty for daily bars, which have dates."""
        return str(self.calendar.zone) if self.dataset.is_intraday else ""

    def clock(self, moment: datetime) -> int:
        """Return what clocks at the exchange show at ``moment``, in seconds since 1970 on that clock.

        The moment of a daily bar is the date of its session, whatever the time zone.
        """
        local = moment.astimezone(self.calendar.zone if self.dataset.is_intraday else UTC)
        return int(local.replace(tzinfo=UTC).timestamp())

    def opening(self, session: date) -> int:
        """Return the time of a session's first bar, as ``clock`` does, whether that exists or not."""
        if self.dataset.is_intraday and self.calendar.is_session(session):
            return self.clock(self.calendar.session_open(session))
        return int(datetime.combine(session, MIDNIGHT, UTC).timestamp())

    def moments(self) -> tuple[datetime, datetime]:
        """Return a first (inclusive) and a last moment (exclusive), UTC, between which all bars are.

        Within the day, bars of the session before and after may be as well: an evening may belong to the next session.
        """
        if not self.dataset.is_intraday:
            return at(self.first, MIDNIGHT, UTC), at(self.last + DAY, MIDNIGHT, UTC)
        return at(self.first - DAY, MIDNIGHT, self.calendar.zone), at(self.last + DAY, MIDNIGHT, self.calendar.zone)


def choose(place: Place, symbol: str, first: str | None, last: str | None, now: datetime) -> Chosen:
    """Return what a client names.

    :param first: ISO date, inclusive. Empty: a year before ``last`` for daily bars, its last five sessions otherwise.
    :param last: ISO date, inclusive. Empty: the last session with rows.
    :raises ParamError: if the feed has no bars, the symbol cannot be one, or a date is wrong.
    """
    dataset, records = place.selection.dataset, place.records()
    if not dataset.is_bars:
        raise ParamError([f"feed is {place.feed.dag_id}; it has no bars"])
    problem = symbol_problem(symbol)
    if problem and symbol not in records.symbols:
        raise ParamError([f"symbol {shown(symbol)} {problem}"])
    calendar = calendar_of_source(place.source)(symbol)
    end = _day("to", last) or last_with_rows(records, symbol) or calendar.last_completed_session(now)
    start = _day("from", first) or (calendar.recent_sessions(end, RECENT)[0] if dataset.is_intraday else max(FIRST, end - YEAR))
    if start > end:
        raise ParamError([f"from is {start}, which is after to, {end}"])
    found, most = calendar.sessions(start, end + DAY), MOST_SESSIONS[dataset.timeframe]
    if len(found) <= most:
        return Chosen(place, symbol, start, end)
    return Chosen(place, symbol, found[-most], end, (f"the range has {len(found):,} sessions: the latest {most:,} are shown",))


def last_with_rows(records: Records, symbol: str) -> date | None:
    """Return the last session of which the ledger records rows of a symbol, held back or not."""
    (own,) = records.texts["symbol"].find([symbol]).tolist()
    numbers, days = records.cells
    none = [STATES.index(state) for state in (State.EMPTY, State.PENDING)]
    found = days[(numbers == own) & ~np.isin(records.states[records.latest], none)]
    return date.fromordinal(int(found.max()) + EPOCH_DAY) if found.size else None


def _day(name: str, text: str | None) -> date | None:
    if not text:
        return None
    try:
        day = read_date(text)
    except ValueError:
        raise ParamError([f"{name} is {shown(text)}; an ISO date is needed, e.g. 2026-11-02"]) from None
    if not FIRST <= day <= LAST:
        raise ParamError([f"{name} is {day}; {FIRST} to {LAST} are allowed"])
    return day
