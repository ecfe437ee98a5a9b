"""Interactive Brokers' symbols of stocks: the suffix of the CMS after a space.

``BRK B``, ``BAC PRK`` (preferred), ``AACT WS`` (warrants).
"""

from __future__ import annotations

from market_data.core.instruments import Kind, kind_of
from market_data.core.spelling import CANONICAL, CMS, SpellingError, spelled

UNLISTED = ("EC", "PP", "TEST")
"""States that the vendor does not list."""


def to_vendor(symbol: str) -> str:
    """Return the vendor's name of a stock.

    :raises SpellingError: if it has none.
    """
    name = spelled(symbol, CMS, "Interactive Brokers", UNLISTED)
    if name is None and kind_of(symbol) is Kind.INDEX:
        raise SpellingError("is not an index that is served; known are NDX, RUT, SPX and VIX, e.g. SPX or SPX:IND")
    if name is None:
        listed = "AAPL, BRK.B, BAC.PRK, AACT.WS"
        raise SpellingError(f"is not a symbol of a US stock ({listed}), of an index (SPX) or of a future (ES.c.0, ESZ2026)")
    return name


def from_vendor(name: str) -> str:
    """Return the canonical symbol of a vendor's name of a stock."""
    issue = CMS.read(name)
    return (issue and CANONICAL.write(issue)) or name
