"""FMP's symbols: a dash before the suffix of a US stock, a dot before a foreign exchange.

``BRK-B``, ``BAC-PK`` (preferred), ``AACT-WT`` (warrants), ``AACT-UN`` (units). ``VOD.L`` is London, ``7203.T`` Tokyo: a suffix of foreign
exchanges stays. Two of these are single letters, as share classes are: L and F stay with London and Frankfurt, as no US stock has such
a class; write ``X-L`` for one.
"""

from __future__ import annotations

import re

from market_data.core.instruments import Kind, kind_of
from market_data.core.spelling import CANONICAL, DASHED, SpellingError, spelled

EXCHANGES = re.compile(r"[A-Z][A-Z0-9]*\.[LF]")
_FOREIGN = re.compile(r"[A-Z0-9]+(?:-[A-Z])?\.[A-Z]{1,4}|\d[A-Z0-9]*")


def to_vendor(symbol: str) -> str:
    """Return the vendor's name of a symbol.

    :raises SpellingError: if it has none.
    """
    if EXCHANGES.fullmatch(symbol):
        return symbol
    if name := spelled(symbol, DASHED, "FMP"):
        return name
    kind = kind_of(symbol)
    if (kind is Kind.INDEX and symbol.startswith("^")) or (kind is Kind.STOCK and _FOREIGN.fullmatch(symbol)):
        return symbol
    if kind in (Kind.CRYPTO, Kind.CURRENCY):
        raise SpellingError(f"is not a symbol of FMP: write {re.sub('^[XC]:|[^A-Z0-9]', '', symbol)}")
    if kind is Kind.INDEX:
        raise SpellingError("is not a symbol of FMP: an index is ^ and its name, e.g. ^GSPC")
    what = f"is {'an option' if kind is Kind.OPTION else 'a future'}" if kind is not Kind.STOCK else "is not a symbol of a stock"
    raise SpellingError(f"{what}; FMP serves stocks, ETFs and indices, e.g. AAPL, BRK.B, VOD.L, ^GSPC")


def from_vendor(name: str) -> str:
    """Return the canonical symbol of a vendor's name."""
    issue = DASHED.read(name)
    canonical = (issue and CANONICAL.write(issue)) or name
    return name if EXCHANGES.fullmatch(canonical) else canonical
