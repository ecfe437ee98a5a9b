"""Describe mock: its datasets, endpoints and options."""

from __future__ import annotations

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import REGULAR, ConnectionForm, ProviderSpec

SPEC = ProviderSpec(
    "mock",
    "market_data.providers.mock.hook:MockHook",
    {
        "ohlcv-1d": (Endpoint("market", Shape.MARKET), Endpoint("symbol", Shape.SYMBOL)),
        "ohlcv-5m": (Endpoint("symbol", Shape.SYMBOL, rows_per_session=REGULAR // 5),),
        "ohlcv-1m": (Endpoint("symbol", Shape.SYMBOL, rows_per_session=REGULAR),),
        **dict.fromkeys(("trades", "tbbo"), (Endpoint("symbol", Shape.SYMBOL, rows_per_session=1000),)),
        **dict.fromkeys(("statistics", "fundamentals", "corporate-actions", "symbol-changes"), (Endpoint("symbol", Shape.SYMBOL),)),
    },
    label="Mock (generated bars)",
    form=ConnectionForm(plans=("free",), key_label="", extra={"seed": ("Seed", "integer")}),
)
