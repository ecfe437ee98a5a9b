"""Bars of single sessions, and the interface of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Protocol


class DailyBar(NamedTuple):
    """One symbol's bar of one session.

    :param session: exchange date.
    :param open, high, low, close, vwap: as traded, in the listing's currency; None where the source has a blank.
    :param volume: in shares.
    :param trades: number of trades, or None where the source has none.
    :param ratio: adjusted close / close.
    :param source: ``recorded``, ``generated`` or ``file``.
    """

    symbol: str
    session: date
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None
    source: str
    ratio: float = 1.0
    vwap: float | None = None
    trades: int | None = None

    @property
    def adjusted(self) -> DailyBar:
        """The same bar with its prices scaled to the adjusted close, rounded to 4 decimals."""
        if self.ratio == 1.0:
            return self
        prices = {name: getattr(self, name) for name in ("open", "high", "low", "close", "vwap")}
        return self._replace(**{name: round(price * self.ratio, 4) for name, price in prices.items() if price is not None})


class Prices(Protocol):
    """A source of bars."""

    default_source: str  # source name of a response without bars
    symbols: Sequence[str]

    def range(self, symbol: str, start: date, end: date) -> list[DailyBar]:
        """Return the bars of ``symbol`` from ``start`` (inclusive) to ``end`` (exclusive), ascending."""
        ...

    def session(self, day: date) -> list[DailyBar]:
        """Return the bars of all symbols of one session, in no particular order."""
        ...
