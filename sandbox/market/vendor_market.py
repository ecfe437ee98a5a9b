"""The market under a vendor's names: the same data, every symbol in the vendor's spelling."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import NamedTuple, TypeVar

from market_data.core.spelling import Scheme, issues
from market_data.datasets.generated import GeneratedDividend, GeneratedSplit, Minutes, Statement, Statistics, Trades
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market

R = TypeVar("R", bound=NamedTuple)


def vendor_name(symbol: str, scheme: Scheme) -> str:
    """Return a stock's symbol in a vendor's spelling; symbols of other forms as they are."""
    found = issues(symbol)
    return (scheme.write(found[0]) if len(found) == 1 else None) or symbol


class VendorMarket(Market):
    """A market whose symbols are spelled as a vendor does.

    :param market: the market with symbols in any spelling; minutes, trades and the like are made under its names.
    """

    def __init__(self, market: Market, scheme: Scheme) -> None:
        super().__init__(market.prices, market.edits, market.seed, market.now)
        self._market = market
        self._symbols = {vendor_name(symbol, scheme): symbol for symbol in market.symbols}
        self._names = {symbol: name for name, symbol in self._symbols.items()}

    @property
    def symbols(self) -> Sequence[str]:
        return list(self._symbols)

    def range(self, symbol: str, start: date, end: date) -> list[DailyBar]:
        return self._named(self._market.range(self._symbols[symbol], start, end)) if symbol in self._symbols else []

    def session(self, day: date) -> list[DailyBar]:
        return self._named(self._market.session(day))

    def minutes(self, bars: Sequence[DailyBar], size: int = 1) -> Minutes:
        return self._market.minutes(self._own(bars), size)

    def trades(self, bars: Sequence[DailyBar]) -> Trades:
        return self._market.trades(self._own(bars))

    def statistics(self, bars: Sequence[DailyBar]) -> Statistics:
        return self._market.statistics(self._own(bars))

    def splits(self, start: date, end: date, symbols: Collection[str] | None = None) -> list[GeneratedSplit]:
        return self._named(self._market.splits(start, end, self._wanted(symbols)))

    def dividends(self, start: date, end: date, symbols: Collection[str] | None = None) -> list[GeneratedDividend]:
        return self._named(self._market.dividends(start, end, self._wanted(symbols)))

    def symbol_changes(self, symbols: Collection[str] | None = None) -> list[tuple[date, str, str]]:
        return self._market.symbol_changes(symbols)

    def statements(self, symbol: str, start: date, end: date) -> list[Statement]:
        return self._named(self._market.statements(self._symbols[symbol], start, end)) if symbol in self._symbols else []

    def _wanted(self, names: Collection[str] | None) -> list[str] | None:
        return None if names is None else [self._symbols[name] for name in names if name in self._symbols]

    def _named(self, rows: Iterable[R]) -> list[R]:
        return [row._replace(symbol=self._names.get(row.symbol, row.symbol)) for row in rows]  # type: ignore[attr-defined]

    def _own(self, bars: Sequence[DailyBar]) -> list[DailyBar]:
        return [bar._replace(symbol=self._symbols.get(bar.symbol, bar.symbol)) for bar in bars]
