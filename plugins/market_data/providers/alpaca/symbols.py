"""Alpaca's symbols: stocks with their suffix after a dot.

``BRK.B``, ``BAC.PRK`` (preferred), ``AAC.WS`` (warrants), ``AAC.U`` (units).
"""

from __future__ import annotations

from market_data.core.spelling import CANONICAL, SpellingError, spelled

UNLISTED = ("CL", "CV", "CVCL", "EC", "PP", "TEST")
"""States that the vendor does not list."""


def to_vendor(symbol: str) -> str:
    """Return the vendor's name of a symbol.

    :raises SpellingError: if it has none.
    """
    name = spelled(symbol, CANONICAL, "Alpaca", UNLISTED)
    if name is None:
        raise SpellingError("is not a symbol of a US stock; Alpaca serves stocks and ETFs, e.g. AAPL, BRK.B, BAC.PRK, AAC.WS")
    return name


def from_vendor(name: str) -> str:
    """Return the canonical symbol of a vendor's name: the vendor's spelling is the canonical one."""
    return name
