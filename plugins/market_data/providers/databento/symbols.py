"""Databento's raw symbols of US stocks.

Most datasets have Nasdaq's convention, those of NYSE's exchanges and of MEMX that of the CMS. Symbols of other markets are sent as they
are. Source: https://databento.com/docs/conventions/symbology, and the section "Symbol convention" of each dataset's page: ``BRK.B`` and
``AAC+`` for ``EQUS.MINI``, ``EQUS.SUMMARY``, ``IEXG.TOPS``, ``EDGA.PITCH`` and ``EPRL.DOM``; ``BRK B`` and ``AAC WS`` for ``XNYS.PILLAR``
and ``MEMX.MEMOIR``.
"""

from __future__ import annotations

from market_data.core.instruments import Kind, kind_of
from market_data.core.spelling import CANONICAL, CMS, NASDAQ, Scheme, SpellingError, spelled

OTHER_MARKETS = ("GLBX.", "OPRA.", "IFEU.", "IFUS.", "IFLL.", "IFXF.", "NDEX.", "XEUR.", "XEEE.", "XCBF.", "DBIX.")
"""Datasets of futures, options and indices."""
WITH_CMS = ("XNYS.", "XASE.", "ARCX.", "XCHI.", "XCIS.", "MEMX.")

NO_STOCKS = {Kind.INDEX: "an index", Kind.CRYPTO: "a crypto pair", Kind.CURRENCY: "a currency pair", Kind.OPTION: "an option"}
"""Kinds that no dataset of stocks has -> in words. A symbol that looks like a future may be a stock there."""


def scheme_of(dataset: str) -> Scheme | None:
    """Return how a dataset spells stocks, or None if it has none."""
    if dataset.startswith(OTHER_MARKETS):
        return None
    return CMS if dataset.startswith(WITH_CMS) else NASDAQ


def to_vendor(symbol: str, dataset: str) -> str:
    """Return the raw symbol in one of the vendor's datasets.

    :raises SpellingError: if it has none there.
    """
    scheme = scheme_of(dataset)
    if scheme is None:
        return symbol
    if name := spelled(symbol, scheme, f"Databento ({dataset})"):
        return name
    if (kind := kind_of(symbol)) in NO_STOCKS:
        raise SpellingError(f"is {NO_STOCKS[kind]}; {dataset} has stocks, e.g. AAPL, BRK.B, BAC.PRK, AAC.WS")
    return symbol


def from_vendor(name: str, dataset: str) -> str:
    """Return the canonical symbol of a raw symbol in one of the vendor's datasets."""
    scheme = scheme_of(dataset)
    issue = scheme.read(name) if scheme else None
    return (issue and CANONICAL.write(issue)) or name
