"""The contracts that the gateway knows: US stocks, quarterly equity index futures, indices."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from market_data.core import calendar
from market_data.core.spelling import CMS
from sandbox.ib_gateway.requests import Contract
from sandbox.market.vendor_market import vendor_name

QUARTERS = {3: "H", 6: "M", 9: "U", 12: "Z"}
AHEAD = timedelta(days=460)
"""Five quarterlies are listed at a time."""
KEPT = timedelta(days=730)
"""Expired contracts remain available for two years."""


@dataclass(frozen=True, slots=True)
class Root:
    """A future.

    :param exchange: as the vendor spells it; what was GLOBEX is CME.
    :param underlying: the index.
    """

    exchange: str
    multiplier: str
    tick: float
    underlying: str
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A contract with all its details."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    name: str
    tick: float = 0.01
    primary: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: str = ""
    expiry: date | None = None
    zone: str = "US/Eastern"
    listed: str = ""

    @property
    def ticker(self) -> str:
        """The symbol as the sample prices have it."""
        return self.listed or self.symbol

    @property
    def is_future(self) -> bool:
        return self.sec_type in ("FUT", "CONTFUT")


ROOTS = {
    "ES": Root("CME", "50", 0.25, "SPX", "E-mini S&P 500"),
    "MES": Root("CME", "5", 0.25, "SPX", "Micro E-Mini S&P 500 Stock Price Index"),
    "NQ": Root("CME", "20", 0.25, "NDX", "E-mini NASDAQ 100"),
    "MNQ": Root("CME", "2", 0.25, "NDX", "Micro E-Mini Nasdaq-100 Index"),
    "RTY": Root("CME", "50", 0.1, "RUT", "E-Mini Russell 2000 Index"),
    "M2K": Root("CME", "5", 0.1, "RUT", "Micro E-Mini Russell 2000 Index"),
    "YM": Root("CBOT", "5", 1.0, "DJI", "Mini DJIA"),
    "MYM": Root("CBOT", "0.5", 1.0, "DJI", "Micro E-Mini Dow Jones Industrial Average Index"),
}

INDICES = {
    "VIX": Listing(13455763, "VIX", "IND", "CBOE", "CBOE Volatility Index", local_symbol="VIX"),
    "SPX": Listing(416904, "SPX", "IND", "CBOE", "S&P 500 Stock Index", local_symbol="SPX"),
    "NDX": Listing(416843, "NDX", "IND", "NASDAQ", "NASDAQ 100 Stock Index", local_symbol="NDX"),
    "RUT": Listing(416888, "RUT", "IND", "RUSSELL", "Russell 2000 Stock Index", local_symbol="RUT"),
}


class Catalogue:
    """All contracts as of a date.

    :param stocks: their symbols, as the sample prices have them, in any spelling.
    """

    def __init__(self, stocks: Iterable[str]) -> None:
        self._stocks = {listing.symbol: listing for listing in map(_stock, stocks)}
        self.abroad: dict[str, str] = {}
        """Symbols of stocks that are also listed abroad in US dollars -> the primary exchange there."""

    def find(self, wanted: Contract, today: date) -> list[Listing]:
        """Return all contracts that match a description, by expiry; expired futures only on request."""
        return [listing for listing in self._candidates(wanted, today) if _fits(listing, wanted)]

    def _candidates(self, wanted: Contract, today: date) -> Iterator[Listing]:
        by_id = wanted.con_id not in ("", "0")
        kind, symbol = wanted.sec_type, wanted.symbol
        if kind in ("FUT", "") or by_id:
            begin = today - KEPT if wanted.expired else today
            for name in ROOTS if by_id else {symbol} & ROOTS.keys():
                yield from quarterlies(name, begin, today + AHEAD)
        if kind == "CONTFUT" and symbol in ROOTS:
            yield continuous(symbol, today)
        if kind in ("IND", "") or by_id:
            yield from INDICES.values()
        if kind in ("STK", "") or by_id:
            known = self._stocks
            names = known.keys() if by_id else {symbol} & known.keys()
            yield from (known[name] for name in names)
            yield from (_abroad(known[name], exchange) for name, exchange in self.abroad.items() if name in names)


def quarterlies(root: str, begin: date, end: date) -> list[Listing]:
    """Return the quarterly futures that expire from ``begin`` (inclusive) to ``end`` (exclusive)."""
    months = [(year, month) for year in range(begin.year, end.year + 1) for month in QUARTERS]
    return [quarterly(root, year, month) for year, month in months if begin <= expiry(year, month) < end]


def quarterly(root: str, year: int, month: int) -> Listing:
    facts, code = ROOTS[root], QUARTERS[month]
    last = expiry(year, month)
    return Listing(
        con_id=_con_id(f"{root} {last}"),
        symbol=root,
        sec_type="FUT",
        exchange=facts.exchange,
        name=facts.name,
        tick=facts.tick,
        local_symbol=f"{root}{code}{year % 10}",
        trading_class=root,
        multiplier=facts.multiplier,
        expiry=last,
        zone="US/Central",
    )


def continuous(root: str, today: date) -> Listing:
    """Return the continuous future, with the details of the lead contract on ``today``."""
    lead = next(listing for listing in quarterlies(root, today, today + AHEAD) if listing.expiry and today < roll(listing.expiry))
    values = {name: getattr(lead, name) for name in Listing.__dataclass_fields__}
    return Listing(**{**values, "sec_type": "CONTFUT"})


def roll(last: date) -> date:
    """Return the roll date: the Monday of the expiry week, from which the next contract leads."""
    return last - timedelta(days=last.weekday())


def expiry(year: int, month: int) -> date:
    """Return the third Friday, or the session before it if that is a holiday."""
    first = date(year, month, 1)
    friday = first + timedelta(days=(calendar.FRIDAY - first.weekday()) % 7 + 14)
    return friday if calendar.is_session(friday) else calendar.previous_session(friday)


def _stock(listed: str) -> Listing:
    symbol = vendor_name(listed, CMS)
    return Listing(
        *(_con_id(f"STK {symbol}"), symbol, "STK", "SMART", f"{symbol} INC"),
        primary="NYSE",
        local_symbol=symbol,
        trading_class=symbol,
        listed=listed,
    )


def _abroad(stock: Listing, exchange: str) -> Listing:
    return replace(stock, con_id=_con_id(f"{exchange} {stock.symbol}"), primary=exchange)


def _con_id(name: str) -> int:
    return 100_000_000 + zlib.crc32(name.encode()) % 500_000_000


def _fits(listing: Listing, wanted: Contract) -> bool:
    expires = f"{listing.expiry:%Y%m%d}" if listing.expiry else ""
    exchanges = ("", "SMART", listing.exchange, listing.primary) if listing.sec_type == "STK" else ("", listing.exchange)
    return (
        wanted.con_id in ("", "0", str(listing.con_id))
        and wanted.symbol in ("", listing.symbol)
        and wanted.sec_type in ("", listing.sec_type)
        and wanted.exchange in exchanges
        and wanted.primary in ("", listing.primary)
        and wanted.currency in ("", "USD")
        and expires.startswith(wanted.expiry)
        and wanted.local_symbol in ("", listing.local_symbol)
        and wanted.trading_class in ("", listing.trading_class)
        and wanted.multiplier in ("", listing.multiplier)
    )


def details(listing: Listing, version: int) -> list[object]:
    """Return the fields of a contract's details behind the request's number."""
    expires = f"{listing.expiry:%Y%m%d} 08:30 US/Central" if listing.expiry else ""
    month = f"{listing.expiry:%Y%m}" if listing.expiry else ""
    kind = "COMMON" if listing.sec_type == "STK" else ""
    return [
        *(listing.symbol, listing.sec_type, expires, 0, "", listing.exchange, "USD", listing.local_symbol),
        *(listing.trading_class or listing.symbol, listing.trading_class, listing.con_id, listing.tick),
        *(("1",) if version < 164 else ()),
        *(listing.multiplier, "LMT,MKT", listing.exchange, 1, 0, listing.name, listing.primary, month),
        *("", "", "", listing.zone, "", "", "", 0, 0),
        *(1, "", "", "26", f"{listing.expiry:%Y%m%d}" if listing.expiry else "", kind),
        *((1, 1, 1) if version >= 164 else (1,) if version == 163 else ()),
    ]
