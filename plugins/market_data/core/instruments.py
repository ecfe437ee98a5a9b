"""Kinds of instruments, and the kind that a symbol's spelling tells.

The kind decides which prices are possible and which calendar holds the sessions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache

from market_data.core.calendar import ALWAYS, CFE, CMES, WEEKDAYS, XNYS, Calendar


class Kind(StrEnum):
    """A kind of instrument."""

    STOCK = "stock"
    """Shares, funds, warrants, rights and units: whatever a stock exchange lists."""
    INDEX = "index"
    FUTURE = "future"
    """A future, its spreads included."""
    OPTION = "option"
    CURRENCY = "currency"
    CRYPTO = "crypto"

    @property
    def signed_prices(self) -> bool:
        """True if prices may be zero or negative.

        Futures and their spreads trade so (crude oil did on 2020-04-20); an index may be an interest rate.
        """
        return self in (Kind.FUTURE, Kind.INDEX)

    @property
    def calendar(self) -> Calendar:
        """The calendar of its sessions; `calendar_of` knows the symbols that have another one."""
        return {Kind.FUTURE: CMES, Kind.CURRENCY: WEEKDAYS, Kind.CRYPTO: ALWAYS}.get(self, XNYS)


# A spelling is that of a stock unless one of these matches. Sources: Databento's symbology (ES.c.0, ES.FUT, ESZ6, CLM0-CLN0), Polygon's
# prefixes (O: X: C: I:), the OCC's 21 characters, CME's month codes, ours of Interactive Brokers (ESZ2026).
_MONTH = r"[A-Z0-9]{1,4}[FGHJKMNQUVXZ](?:20\d\d|\d{1,2})"
_SPELLINGS = (
    (Kind.INDEX, re.compile(r"\^.+|I:.+|.+:IND")),
    (Kind.OPTION, re.compile(r"O:.+|[A-Z0-9]+\.OPT|[A-Z0-9 ]{6}\d{6}[CP]\d{8}")),
    (Kind.CRYPTO, re.compile(r"X:.+|[A-Z0-9]+/(?:USD|USDC|USDT|BTC)")),
    (Kind.CURRENCY, re.compile(r"C:.+")),
    (Kind.FUTURE, re.compile(rf"[A-Za-z0-9]+\.[cnvCNV]\.\d+|[A-Z0-9]+\.FUT|{_MONTH}(?:-{_MONTH})*")),
)


def kind_of(symbol: str) -> Kind:
    """Return the kind of instrument that the spelling of ``symbol`` tells.

    Without a sign of another kind it is a stock. A provider whose spellings mean something else says so itself.
    """
    return next((kind for kind, spelling in _SPELLINGS if spelling.fullmatch(symbol)), Kind.STOCK)


_CBOE = re.compile(
    r"(?:\^|I:)?(?:VIX(?:1D|9D|3M|6M|1Y)?|VVIX)(?::IND)?|VXM?(?:\.[cnvCNV]\.\d+|\.FUT|[FGHJKMNQUVXZ](?:20\d\d|\d{1,2}))"
)
"""The VIX, its relatives and its futures: Cboe calculates and trades them."""


@lru_cache(maxsize=65_536)
def calendar_of(symbol: str, kind: Kind | None = None) -> Calendar:
    """Return the calendar of a symbol's sessions.

    :param kind: its kind, where a provider's spelling means something else than `kind_of` tells.
    """
    return CFE if _CBOE.fullmatch(symbol) else (kind or kind_of(symbol)).calendar


CalendarOf = Callable[[str], Calendar]
"""Returns the calendar of a symbol."""


def by_calendar(symbols: Iterable[str], find: CalendarOf = calendar_of) -> dict[Calendar, list[str]]:
    """Return calendar -> its symbols, both in the order of ``symbols``.

    :param find: returns a symbol's calendar, see `RunContext.calendar_of`.
    """
    found: dict[Calendar, list[str]] = {}
    for symbol in symbols:
        found.setdefault(find(symbol), []).append(symbol)
    return found
