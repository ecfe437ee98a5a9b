"""Polygon's symbols: stocks as the CQS has them, other instruments with a prefix.

``BRK.B``, ``BACpK`` (preferred), ``AAC.WS`` (warrants). Sources: tickers of ``/v3/reference/tickers`` and of the flat files (``TDW.WS.A``,
``AANw``), which agree with the column "CQS Symbol" of Nasdaq's ``otherlisted.txt``.
"""

from __future__ import annotations

from market_data.core.instruments import Kind, kind_of
from market_data.core.spelling import CANONICAL, CQS, SpellingError, spelled

PREFIXES = ("I:", "X:", "C:", "O:")
WRITE = {
    Kind.INDEX: "I: and its name, e.g. I:SPX",
    Kind.CRYPTO: "X: and the pair, e.g. X:BTCUSD",
    Kind.OPTION: "O: and the OCC's symbol without spaces, e.g. O:AAPL240119C00150000",
}


def to_vendor(symbol: str) -> str:
    """Return the vendor's name of a symbol.

    :raises SpellingError: if it has none.
    """
    if symbol.startswith(PREFIXES):
        return symbol
    kind = kind_of(symbol)
    if name := spelled(symbol, CQS, "Polygon"):
        return name
    if kind in WRITE:
        raise SpellingError(f"is not a symbol of Polygon: write {WRITE[kind]}")
    listed = "stocks, ETFs, and symbols with the prefix I:, X:, C: or O:"
    what = "a future" if kind is Kind.FUTURE else "not a symbol of a US stock"
    raise SpellingError(f"is {what}; Polygon serves {listed}")


def from_vendor(name: str) -> str:
    """Return the canonical symbol of a vendor's name."""
    issue = CQS.read(name)
    return (issue and CANONICAL.write(issue)) or name
