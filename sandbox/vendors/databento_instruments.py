"""Instruments of Databento's datasets: resolve a symbol of any symbology to instruments by date.

Futures are quarterly contracts (H, M, U, Z) that trade from nine months before to the third Friday of their month. A continuous symbol
resolves to the contract that expires next (rank 0), the one after it (rank 1) ...; rules ``n`` and ``v`` roll eight days earlier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from market_data.core import calendar
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market

DAY = timedelta(days=1)
ROOTS = ("ES", "M2K", "MES", "MNQ", "NQ", "RTY")
MONTHS = {3: "H", 6: "M", 9: "U", 12: "Z"}
LIFE = timedelta(days=275)
EARLIER = timedelta(days=8)

FORMS = {
    "raw_symbol": r"[A-Z0-9][A-Z0-9 ./+=#^*%@~-]{0,21}",
    "instrument_id": r"\d{1,10}",
    "continuous": r"[A-Z0-9]+\.[cnv]\.\d{1,2}",
    "parent": r"[A-Z0-9]+\.(FUT|OPT|SPOT)",
}


class Piece(NamedTuple):
    """A symbol's instrument from ``start`` (inclusive) to ``end`` (exclusive), UTC dates.

    ``name`` is the market's symbol for it.
    """

    start: date
    end: date
    name: str


@lru_cache(maxsize=65_536)
def number(name: str) -> int:
    """Return the instrument id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % (2**31 - 1) + 1


class Stocks:
    """Instruments of a dataset of shares: a symbol each, from its first bar on."""

    stypes = ("raw_symbol", "instrument_id")

    def __init__(self, market: Market) -> None:
        self.market = market
        self._names = {number(symbol): symbol for symbol in market.symbols}

    def raw(self, name: str) -> str:
        return name

    def pieces(self, symbols: Iterable[str], stype: str, start: date, end: date) -> dict[str, list[Piece]]:
        """Return the instruments of each symbol from ``start`` (inclusive) to ``end`` (exclusive)."""
        days = calendar.sessions(start, end)
        listed = {bar.symbol for bar in self.market.session(days[0])} if days else set()
        return {symbol: self._piece(symbol, stype, start, end, listed) for symbol in symbols}

    def _piece(self, symbol: str, stype: str, start: date, end: date, listed: Collection[str]) -> list[Piece]:
        name = self._names.get(int(symbol), "") if stype == "instrument_id" else symbol
        if name in listed:
            return [Piece(start, end, name)]
        bars = self.market.range(name, start, end)
        return [Piece(bars[0].session, end, name)] if bars else []


class Futures:
    """Instruments of a dataset of futures. The market's names have the whole year: ESH2024 for ESH4.

    :param market: has bars of `contracts`.
    """

    stypes = ("raw_symbol", "instrument_id", "continuous", "parent")

    def __init__(self, market: Market) -> None:
        self.market = market
        self._names = {number(name): name for name in contracts()}

    def raw(self, name: str) -> str:
        return name[:-4] + name[-1]

    def pieces(self, symbols: Iterable[str], stype: str, start: date, end: date) -> dict[str, list[Piece]]:
        """Return the instruments of each symbol from ``start`` (inclusive) to ``end`` (exclusive)."""
        return {symbol: self._pieces(symbol, stype, start, end) for symbol in symbols}

    def _pieces(self, symbol: str, stype: str, start: date, end: date) -> list[Piece]:
        if stype == "continuous":
            return list(_joined(_continuous(symbol, start, end)))
        if stype == "instrument_id":
            names = [name for name in [self._names.get(int(symbol))] if name]
        elif stype == "parent":
            names = [name for name in contracts() if symbol == f"{name[:-5]}.FUT"]
        else:
            names = [name for name in contracts() if self.raw(name) == symbol]
        lives = [Piece(max(start, expiry(name) - LIFE), min(end, expiry(name) + DAY), name) for name in names]
        return [life for life in lives if life.start < life.end]


@lru_cache(maxsize=1)
def contracts() -> tuple[str, ...]:
    """Return all contracts, sorted by root and expiry."""
    years = range(calendar.FIRST.year, calendar.LAST.year)
    return tuple(f"{root}{letter}{year}" for root in ROOTS for year in years for letter in MONTHS.values())


@lru_cache(maxsize=4096)
def expiry(name: str) -> date:
    """Return the third Friday of the contract's month."""
    month = next(month for month, letter in MONTHS.items() if letter == name[-5])
    first = date(int(name[-4:]), month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def _continuous(symbol: str, start: date, end: date) -> Iterable[Piece]:
    root, rule, rank = symbol.split(".")
    chain = [name for name in contracts() if name[:-5] == root]
    for day in (start + n * DAY for n in range((end - start).days if chain else 0)):
        later = [name for name in chain if expiry(name) - (EARLIER if rule != "c" else timedelta()) >= day]
        if int(rank) < min(len(later), 3):
            yield Piece(day, day + DAY, later[int(rank)])


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Neighbours of the same instrument made one."""
    last: Piece | None = None
    for piece in pieces:
        if last is not None:
            if piece.name == last.name:
                last = last._replace(end=piece.end)
                continue
            yield last._replace(end=piece.start)
        last = piece
    if last is not None:
        yield last


def not_covered(pieces: Sequence[Piece], start: date, end: date) -> bool:
    """Return true if a session from ``start`` to ``end`` (exclusive) has no piece."""
    return any(not any(piece.start <= day < piece.end for piece in pieces) for day in calendar.sessions(start, end))


def bars_of(market: Market, names: Collection[str], start: date, end: date) -> dict[str, list[DailyBar]]:
    """Return the daily bars of each name, ascending.

    Reads by session or by symbol, whichever needs fewer reads.
    """
    days = calendar.sessions(start, end) if start < end else ()
    if 4 * len(days) >= len(names):
        return {name: market.range(name, start, end) for name in names}
    found: dict[str, list[DailyBar]] = {name: [] for name in names}
    for day in days:
        for bar in market.session(day):
            if bar.symbol in found:
                found[bar.symbol].append(bar)
    return found
