"""The bars of a contract: those of the sample API for stocks, generated ones for indices and futures.

A future is its index with a carry that shrinks to nothing until it expires, on the contract's own ticks. Its trading day begins at
18:00 New York of the calendar day before and lasts 23 hours; on most holidays of the stock exchange it ends early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np

from market_data.core import calendar
from market_data.core.instruments import calendar_of
from market_data.datasets import generated
from sandbox.ib_gateway.contracts import ROOTS, Listing
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market

LEVELS = {"SPX": 4800.0, "NDX": 16_900.0, "RUT": 2010.0, "DJI": 37_700.0, "VIX": 13.2}
"""About where the indices closed on ``LEVELS_ON``."""
LEVELS_ON = date(2024, 1, 2)
CARRY = 0.04
"""A year, of the price."""
EARLIEST, LATEST = time(4), time(20)
MINUTE = timedelta(minutes=1)
QUIET = 15
"""Minutes between two trades of a stock outside regular hours."""


class GatewayBar(NamedTuple):
    """A bar.

    :param opens: start of the bar, UTC; for a daily bar, start of its session.
    :param volume, wap, count: -1 or 0 if unknown.
    """

    session: date
    opens: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    wap: float
    count: int


class Prices:
    """Bars of everything in the catalogue; no session is there before its end.

    :param market: those of stocks, and the present moment.
    """

    def __init__(self, market: Market) -> None:
        self._market, self._seed = market, market.seed

    def sessions(self, listing: Listing, start: date, end: date) -> list[date]:
        """Return the completed trading days of a contract from ``start`` (inclusive) to ``end`` (exclusive)."""
        start, end = max(start, calendar.FIRST), min(end, calendar.LAST)
        if start >= end:
            return []
        days = sessions_of(listing).sessions(start, end)
        now = self._market.now()
        return [day for day in days if closes(listing, day) <= now and day <= (listing.expiry or day)]

    def daily(self, listing: Listing, sessions: Sequence[date]) -> list[GatewayBar]:
        """Return the daily bars of ``sessions``; a session without prices has none."""
        if not sessions:
            return []
        if listing.sec_type == "STK":
            return [_daily(bar) for bar in self._stock(listing, sessions)]
        if listing.is_future:
            return [self._future(listing, day) for day in sessions]
        return [self._index(listing.symbol, day) for day in sessions]

    def minutes(self, listing: Listing, sessions: Sequence[date], size: int, *, regular: bool) -> list[GatewayBar]:
        """Return bars of ``size`` minutes, ascending.

        :param regular: for a stock, only 09:30 to the close; for a future, always the whole trading day.
        """
        if listing.is_future:
            return [bar for day in self.daily(listing, sessions) for bar in self._around_the_clock(listing, day, size)]
        if listing.sec_type == "IND":
            return self._inside(listing, self.daily(listing, sessions), size)
        days = self._stock(listing, sessions)
        bars = _bars(days, self._market.minutes(days, size)) if days else []
        if not regular:
            bars = sorted([*bars, *(bar for day in days for bar in _outside(_daily(day)))], key=lambda bar: bar.opens)
        return bars

    def _stock(self, listing: Listing, sessions: Sequence[date]) -> list[DailyBar]:
        """The daily bars that are whole."""
        wanted = set(sessions)
        bars = self._market.range(listing.ticker, min(wanted), max(wanted) + timedelta(days=1)) if wanted else []
        return [bar for bar in bars if bar.session in wanted and None not in bar[2:7]]

    def _inside(self, listing: Listing, days: Sequence[GatewayBar], size: int) -> list[GatewayBar]:
        """Those of an index, which has no volume."""
        if not days:
            return []
        keys = np.full(len(days), generated.key(self._seed, listing.symbol), np.uint64)
        prices = np.array([day[2:6] for day in days]).T
        found = generated.minutes(generated.Cells(keys, [day.session for day in days], *prices, np.full(len(days), 1e7)))
        bars = _bars(days, generated.fold(found, size) if size > 1 else found)
        return [bar._replace(volume=-1.0, wap=-1.0, count=-1) for bar in bars]

    def _index(self, symbol: str, day: date) -> GatewayBar:
        prices = self._level(symbol, day)
        return GatewayBar(day, calendar.at(day, time(9, 30)), *(round(price, 2) for price in prices[:4]), 0.0, 0.0, 0)

    def _future(self, listing: Listing, day: date) -> GatewayBar:
        root, expiry = ROOTS[listing.symbol], listing.expiry or day
        carry = 1 + CARRY * (expiry - day).days / 365
        *prices, volume = self._level(root.underlying, day)
        open_, high, low, close = (round(round(price * carry / root.tick) * root.tick, 2) for price in prices)
        # Nine of ten contracts are traded in the one that leads; the others share the rest.
        traded = math.ceil(volume * (0.9 if (expiry - day).days < 95 else 0.05))
        return GatewayBar(
            day, opens(listing, day), open_, high, low, close, traded, round((open_ + high + low + close) / 4, 4), traded // 3 + 1
        )

    def _around_the_clock(self, listing: Listing, day: GatewayBar, size: int) -> list[GatewayBar]:
        """The bars of a future's trading day; they fold to its daily bar."""
        tick, n = ROOTS[listing.symbol].tick, int((closes(listing, day.session) - day.opens) / MINUTE)
        share = np.linspace(0, 1, n + 1)
        swing = np.sin(share * 4 * np.pi)  # up to the high and down to the low, twice
        middle = day.open + (day.close - day.open) * share
        path = middle + np.where(swing > 0, (day.high - middle) * swing, (middle - day.low) * swing)
        points = np.round(np.round(path / tick) * tick, 2)
        points[0], points[-1] = day.open, day.close
        points[1 + int(np.argmax(path[1:-1]))], points[1 + int(np.argmin(path[1:-1]))] = day.high, day.low
        traded = np.diff(np.floor(day.volume * share))
        found = []
        for begin in range(0, n, size):
            prices, volume = points[begin : begin + size + 1].tolist(), float(traded[begin : begin + size].sum())
            ends = (prices[0], max(prices), min(prices), prices[-1])
            wap, count = round(sum(prices) / len(prices), 4), int(volume) // 3 + 1
            found.append(GatewayBar(day.session, day.opens + begin * MINUTE, *ends, volume, wap, count))
        return found

    def _level(self, symbol: str, day: date) -> tuple[float, ...]:
        """Open, high, low and close of an index, and a volume."""
        columns = generated.columns(_row(self._seed, symbol), np.array([day.toordinal()], np.int64))
        open_, high, low, close, volume, _ = (column.item() for column in columns)
        scale = self._scales[symbol]
        return open_ * scale, high * scale, low * scale, close * scale, volume

    @cached_property
    def _scales(self) -> dict[str, float]:
        day = np.array([LEVELS_ON.toordinal()], np.int64)
        return {symbol: level / generated.columns(_row(self._seed, symbol), day)[3].item() for symbol, level in LEVELS.items()}


def sessions_of(listing: Listing) -> calendar.Calendar:
    """Return the calendar of a contract."""
    return calendar.CMES if listing.is_future else calendar_of(listing.symbol)


def opens(listing: Listing, session: date) -> datetime:
    """Return the start of the session."""
    return sessions_of(listing).session_open(session)


def closes(listing: Listing, session: date) -> datetime:
    """Return the end of the session."""
    return sessions_of(listing).session_close(session)


def _daily(bar: DailyBar) -> GatewayBar:
    high, low, close, volume = bar[3:7]
    wap, count = bar.vwap or round((high + low + close) / 3, 4), bar.trades or int(volume) // 120 + 1
    return GatewayBar(bar.session, calendar.at(bar.session, time(9, 30)), bar.open, high, low, close, volume, wap, count)


def _bars(days: Sequence[GatewayBar | DailyBar], found: generated.Minutes) -> list[GatewayBar]:
    """Minute bars as this module has them."""
    columns = zip(*(column.tolist() for column in found), strict=True)
    return [
        GatewayBar(days[cell].session, datetime.fromtimestamp(stamp // 10**9, UTC), *values) for cell, stamp, *values in columns
    ]


def _outside(day: GatewayBar) -> list[GatewayBar]:
    """Return a stock's bars outside regular hours: small volumes at the nearest regular price."""
    close = calendar.session_close(day.session)
    spans = ((calendar.at(day.session, EARLIEST), day.opens, day.open), (close, calendar.at(day.session, LATEST), day.close))
    return [
        GatewayBar(day.session, begin + n * MINUTE, price, price, price, price, 100.0, price, 1)
        for begin, end, price in spans
        for n in range(0, int((end - begin) / MINUTE), QUIET)
    ]


def _row(seed: int, symbol: str) -> np.ndarray:
    return np.array([[generated.key(seed, symbol)]], np.uint64)
