"""Market data of the vendors: edited prices, data inside sessions, splits, dividends, statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

import numpy as np

from market_data.core import calendar
from market_data.datasets import generated
from market_data.datasets.generated import Cells, GeneratedDividend, GeneratedSplit, Minutes, Statement, Statistics, Trades
from sandbox.market.bars import DailyBar, Prices
from sandbox.market.edits import Edits

SYMBOL_CHANGES = (
    (date(2018, 2, 27), "PCLN", "BKNG"),
    (date(2022, 6, 9), "FB", "META"),
)
"""Changes that took place, as the companies announced them."""


class Market:
    """Market data of the vendors: daily bars with their edits, and everything generated from them.

    Minutes, trades and statistics follow from the daily bar: an altered bar has other minutes, a hidden one has none. They are
    generated for every source. A bar with a blank or without volume has none of them.

    :param seed: seed of all generated data.
    :param now: the present moment, with a time zone; later data is not available yet.
    """

    def __init__(self, prices: Prices, edits: Edits, seed: int, now: Callable[[], datetime]) -> None:
        self.prices, self.edits, self.seed, self.now = prices, edits, seed, now

    @property
    def symbols(self) -> Sequence[str]:
        """Those known, in no particular order."""
        return self.prices.symbols

    def range(self, symbol: str, start: date, end: date) -> list[DailyBar]:
        """Return the daily bars of ``symbol`` from ``start`` (inclusive) to ``end`` (exclusive), ascending.

        An unknown symbol has none.
        """
        return self.edits.apply(self.prices.range(symbol, start, end))

    def session(self, day: date) -> list[DailyBar]:
        """Return the daily bars of all symbols of one session, in no particular order."""
        return self.edits.apply(self.prices.session(day))

    def minutes(self, bars: Sequence[DailyBar], size: int = 1) -> Minutes:
        """Return bars of ``size`` minutes; ``cell`` is the index in ``bars``."""
        places, cells = self._cells(bars)
        found = generated.fold(generated.minutes(cells), size) if size > 1 else generated.minutes(cells)
        return found._replace(cell=places[found.cell])

    def trades(self, bars: Sequence[DailyBar]) -> Trades:
        """Return trades with the quotes before them; ``cell`` is the index in ``bars``."""
        places, cells = self._cells(bars)
        found = generated.trades(cells)
        return found._replace(cell=places[found.cell])

    def statistics(self, bars: Sequence[DailyBar]) -> Statistics:
        """Return statistics of the sessions; ``cell`` is the index in ``bars``."""
        places, cells = self._cells(bars)
        found = generated.statistics(cells)
        return found._replace(cell=places[found.cell])

    def splits(self, start: date, end: date, symbols: Collection[str] | None = None) -> list[GeneratedSplit]:
        """Return the splits from ``start`` (inclusive) to ``end`` (exclusive), at most 30 days ahead.

        :param symbols: None for all.
        """
        start, end = max(start, calendar.FIRST), min(end, self._today + timedelta(days=31))
        return generated.splits(self._keys(symbols), start, end) if start < end else []

    def dividends(self, start: date, end: date, symbols: Collection[str] | None = None) -> list[GeneratedDividend]:
        """Return the declared dividends with an ex-date from ``start`` (inclusive) to ``end`` (exclusive).

        Dividends are declared 30 days ahead.

        :param symbols: None for all.
        """
        start, end = max(start, calendar.FIRST), min(end, self._today + timedelta(days=31))
        found = generated.dividends(self._keys(symbols), start, end) if start < end else []
        return [dividend for dividend in found if dividend.declaration_date <= self._today]

    def symbol_changes(self, symbols: Collection[str] | None = None) -> list[tuple[date, str, str]]:
        """Return the changes of symbols: date, old and new symbol; ascending.

        :param symbols: only changes from or to one of these; None for all.
        """
        return [change for change in SYMBOL_CHANGES if symbols is None or {change[1], change[2]} & set(symbols)]

    def statements(self, symbol: str, start: date, end: date) -> list[Statement]:
        """Return statements of ``symbol`` filed from ``start`` (inclusive) to ``end`` (exclusive), ascending.

        None is filed later than today.
        """
        start, end = max(start, calendar.FIRST), min(end, self._today + timedelta(days=1))
        keys = self._keys([symbol])
        found = generated.statements(symbol, keys[symbol], start, end) if keys and start < end else []
        return [statement for statement in found if statement.accepted <= self.now()]

    def source(self, bars: Iterable[DailyBar]) -> str:
        """Return the names of the sources of ``bars``, for ``VendorResponse.source``."""
        return "+".join(sorted({bar.source for bar in bars}, reverse=True)) or self.prices.default_source

    @property
    def _today(self) -> date:
        return self.now().astimezone(calendar.NEW_YORK).date()

    def _keys(self, symbols: Collection[str] | None) -> dict[str, int]:
        known = sorted(self.symbols if symbols is None else set(symbols).intersection(self.symbols))
        return {symbol: generated.key(self.seed, symbol) for symbol in known}

    def _cells(self, bars: Sequence[DailyBar]) -> tuple[np.ndarray, Cells]:
        """The bars that have something inside: their places, and themselves."""
        places = [place for place, bar in enumerate(bars) if _whole(bar)]
        kept = [bars[place] for place in places]
        keys = {bar.symbol: generated.key(self.seed, bar.symbol) for bar in kept}
        values = np.array([bar[2:7] for bar in kept], np.float64).reshape(-1, 5).T
        sessions = [bar.session for bar in kept]
        return np.array(places, np.int64), Cells(np.array([keys[bar.symbol] for bar in kept], np.uint64), sessions, *values)


def _whole(bar: DailyBar) -> bool:
    return (
        all(value is not None and math.isfinite(value) for value in bar[2:7])
        and bar.volume > 0
        and calendar.is_session(bar.session)
    )
