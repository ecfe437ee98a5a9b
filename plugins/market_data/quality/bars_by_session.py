"""The bars of a run by session, as arrays with one place per symbol."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.core.calendar import Calendar
from market_data.core.instruments import calendar_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SessionBars:
    """A session's bars, one place per symbol of the run; NaN if there is none, or none to compare with.

    :param bars: intraday bars that each was folded from; NaN where unknown.
    :param most_volume: place of the symbol with the largest volume; any place where no volume is known.
    """

    session: date
    rows: int
    present: Bools
    close: Floats
    volume: Floats
    bars: Floats
    most_volume: int


class BarsBySession:
    """The bars of a run, by session.

    :param table: one bar per symbol and session: ``symbol``, ``session``, ``close``, ``volume``, ``bars`` (see ``session_bars.BARS``), in
        any order.
    :param released: further ones, which a person released; None: none.
    """

    def __init__(self, table: pa.Table, released: pa.Table | None = None) -> None:
        count = len(table)
        table = pa.concat_tables([table, released.select(table.column_names)]) if released is not None else table
        symbols = pc.unique(table["symbol"]).sort()  # sums do not depend on the order of the rows then
        days = table["session"].cast(pa.int32()).to_numpy()
        self.symbols: list[str] = symbols.to_pylist()
        calendars = [calendar_of(symbol) for symbol in self.symbols]
        self._calendars = list(dict.fromkeys(calendars))
        self._calendar_codes = np.array([self._calendars.index(calendar) for calendar in calendars], dtype=np.intp)
        order = np.argsort(days, kind="stable").astype(np.int32)
        days = days[order]
        self._codes = pc.index_in(table["symbol"], symbols).to_numpy()[order]
        self._close = _numbers(table["close"], order)
        self._volume = _numbers(table["volume"], order)
        self._bars = _numbers(table["bars"], order)
        self._released = order >= count
        starts = np.concatenate([[0] * bool(len(days)), 1 + np.flatnonzero(days[1:] != days[:-1])]).astype(np.intp)
        ends = [*starts[1:], len(days)] if len(days) else []
        self._slices = {
            date.fromordinal(int(day) + date(1970, 1, 1).toordinal()): slice(int(start), int(end))
            for day, start, end in zip(days[starts], starts, ends, strict=True)
        }

    @property
    def sessions(self) -> list[date]:
        return sorted(self._slices)

    @property
    def judged(self) -> list[date]:
        """The sessions with bars that nobody released."""
        return [day for day in self.sessions if not self._released[self._slices[day]].all()]

    def released_share(self, session: date) -> float:
        """Return the share of the session's bars that a person released."""
        mask = self._released[self._slices.get(session, slice(0, 0))]
        return float(mask.mean()) if len(mask) else 0.0

    def day(self, session: date, *, judged: bool = True, released: bool = False) -> SessionBars:
        """Return the bars of ``session``; none where it has none.

        :param judged: those that nobody released. ``released``: those that a person released.
        """
        span = self._slices.get(session, slice(0, 0))
        mask = self._released[span]
        place = np.arange(span.start, span.stop)[(mask & released) | (~mask & judged)]
        codes = self._codes[place]
        present = np.zeros(len(self.symbols), dtype=bool)
        close, volume, bars = (np.full(len(self.symbols), np.nan) for _ in range(3))
        present[codes], close[codes], volume[codes], bars[codes] = True, self._close[place], self._volume[place], self._bars[place]
        close[~(np.isfinite(close) & (close > 0))] = np.nan
        volume[~(np.isfinite(volume) & (volume >= 0))] = np.nan
        most_volume = int(np.argmax(np.nan_to_num(volume, nan=-1.0))) if self.symbols else 0
        return SessionBars(session, len(codes), present, close, volume, bars, most_volume)

    def shorter(self, here: date, there: date) -> Floats:
        """Return per symbol the opening hours of ``here`` over those of ``there``; 1 unless that is less."""
        return np.array([_shorter(calendar, here, there) for calendar in self._calendars])[self._calendar_codes]

    def mask(self, symbols: Collection[str]) -> Bools:
        """Return a mask of the run's symbols that are among ``symbols``."""
        return np.array([symbol in symbols for symbol in self.symbols], dtype=bool)


def _shorter(calendar: Calendar, here: date, there: date) -> float:
    """Return the opening hours of ``here`` over those of ``there`` if ``here`` closes early; else 1."""
    if not (calendar.is_session(there) and calendar.is_early_close(here)):
        return 1.0
    return min(1.0, calendar.hours(here) / calendar.hours(there))


def _numbers(column: pa.ChunkedArray, order: NDArray[np.int32]) -> Floats:
    """Return the values in that order; a column without any takes no memory."""
    if column.null_count == len(column):
        return np.broadcast_to(np.nan, len(column))
    numbers: Floats = column.to_numpy()[order]
    return numbers
