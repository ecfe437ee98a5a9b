"""Describe fmp: its datasets, endpoints and options."""

from __future__ import annotations

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import ConnectionForm, Option, ProviderSpec

SPEC = ProviderSpec(
    "fmp",
    "market_data.providers.fmp.hook:FMPHook",
    {
        "ohlcv-1d": (Endpoint("bulk", Shape.MARKET), Endpoint("history", Shape.SYMBOL, page_rows=4999)),
        # three statements, yearly and quarterly; in bulk a file for each of them and of the 17 periods that can be filed in a year
        "fundamentals": (
            Endpoint("statements", Shape.SYMBOL, page_rows=1_000_000, chains=6),
            Endpoint("bulk", Shape.MULTI, page_rows=1_000_000_000, chains=51, market_rows=1, weight=10, max_days=366),
        ),
        "corporate-actions": (Endpoint("actions", Shape.SYMBOL, page_rows=1_000_000, chains=2),),
    },
    {
        "adj_close": Option(
            "auto",
            {"type": "string", "enum": ["auto", "yes", "no"]},
            "Adjusted closes of the endpoint history, with one more call per symbol. auto: for plans without bulk files.",
            variant=False,
            datasets=("ohlcv-1d",),
        )
    },
    label="Financial Modeling Prep",
    form=ConnectionForm(plans=("basic", "starter", "premium", "ultimate"), host="https://financialmodelingprep.com"),
)
