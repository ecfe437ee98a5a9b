"""Recorded prices where a package carries them, generated ones for everything else."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from market_data.core import calendar
from sandbox.market.bars import DailyBar
from sandbox.market.generated import Generator

RECORDED = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
UNIVERSES = Path(__file__).resolve().parents[2] / "include" / "universes"

# The exchanges' test symbols: in every grouped response but in no universe, so a client must filter for its own symbols.
EXTRA_SYMBOLS = (
    *("ATEST", "ATEST.A", "ATEST.B", "ATEST.C", "CBO", "CBX", "MTEST", "NTEST", "NTEST.A", "NTEST.B", "NTEST.C", "PTEST"),
    *("ZBZX", "ZEXIT", "ZIEXT", "ZTEST", "ZTST", "ZVZZT", "ZWZZT", "ZXZZT"),
)


def universe_symbols(folder: Path = UNIVERSES) -> set[str]:
    """Return every share and index in the column ``symbol`` of the CSV files in ``folder``."""
    symbols = set()
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            symbols |= {row["symbol"] for row in csv.DictReader(file) if not row["symbol"].endswith(".c.0")}  # no futures
    return symbols


def scattered(symbol: str) -> bytes:
    """Return a sort key that scatters symbols in an arbitrary but fixed order."""
    return hashlib.sha256(symbol.encode()).digest()


class SamplePrices:
    """Recorded prices where there are any, generated ones for everything else.

    A recorded symbol has no bar before its first recorded one; after its last, generated ones continue its level. A session is
    there from its 16:00 New York on.

    :param symbols: known symbols, besides the five recorded ones and the exchanges' test symbols.
    :param now: the present moment, with a time zone.
    """

    default_source = "generated"

    def __init__(self, seed: int, symbols: Iterable[str], now: Callable[[], datetime]) -> None:
        known = {*symbols, *RECORDED, *EXTRA_SYMBOLS}
        self.symbols = sorted(known, key=scattered)  # vendors give no order
        self._known = known
        self._seed = seed
        self._now = now

    def range(self, symbol: str, start: date, end: date) -> list[DailyBar]:
        """Return the bars of ``symbol`` from ``start`` (inclusive) to ``end`` (exclusive), ascending."""
        if symbol not in self._known:
            return []
        days = self._days(start, end)
        recorded = self._recorded.get(symbol, {})
        later = [day for day in days if day > self._recorded_until.get(symbol, date.min)]
        return [recorded[day] for day in days if day in recorded] + self._generator.bars([symbol], later)

    def session(self, day: date) -> list[DailyBar]:
        """Return the bars of all symbols of one session."""
        if not self._days(day, day + timedelta(days=1)):
            return []
        recorded = [bars[day] for bars in self._recorded.values() if day in bars]
        others = [symbol for symbol in self.symbols if day > self._recorded_until.get(symbol, date.min)]
        return self._generator.bars(others, [day]) + recorded

    def _days(self, start: date, end: date) -> tuple[date, ...]:
        now = self._now().astimezone(calendar.NEW_YORK)
        today = now.date()
        unfinished = today if now.time() < calendar.XNYS.closes else today + timedelta(days=1)
        start, end = max(start, calendar.FIRST), min(end, unfinished)
        return calendar.sessions(start, end) if start < end else ()

    @cached_property
    def _recorded(self) -> Mapping[str, Mapping[date, DailyBar]]:
        from bokeh_sampledata import stocks

        return {symbol: {bar.session: bar for bar in _recorded_bars(symbol, getattr(stocks, symbol))} for symbol in RECORDED}

    @cached_property
    def _recorded_until(self) -> Mapping[str, date]:
        return {symbol: max(bars) for symbol, bars in self._recorded.items()}

    @cached_property
    def _generator(self) -> Generator:
        anchors = {symbol: self._recorded[symbol][last] for symbol, last in self._recorded_until.items()}
        return Generator(self._seed, self.symbols, anchors)


def _recorded_bars(symbol: str, columns: Mapping[str, list[float]]) -> Iterable[DailyBar]:
    names = ("date", "open", "high", "low", "close", "volume", "adj_close")
    for day, open_, high, low, close, volume, adj_close in zip(*(columns[name] for name in names), strict=True):
        session = date.fromisoformat(str(day))
        yield DailyBar(symbol, session, open_, high, low, close, volume, "recorded", ratio=adj_close / close)


def utc_now() -> datetime:
    return datetime.now(UTC)
