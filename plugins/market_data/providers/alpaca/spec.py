"""Describe alpaca: its datasets, endpoints and options."""

from __future__ import annotations

from dataclasses import replace

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import BARS, MINUTES, ConnectionForm, ProviderSpec, one_of

ALPACA_BARS = Endpoint("bars", Shape.MULTI, page_rows=10_000, max_symbols=1000)  # they stand in the URL
# Pages have 1,000 actions, and a symbol has about one in sixty sessions.
ALPACA_ACTIONS = Endpoint("corporate-actions", Shape.MULTI, page_rows=60_000, max_symbols=1000, max_days=366)

SPEC = ProviderSpec(
    "alpaca",
    "market_data.providers.alpaca.hook:AlpacaHook",
    {
        "ohlcv-1d": (ALPACA_BARS,),
        "ohlcv-5m": (replace(ALPACA_BARS, rows_per_session=MINUTES // 5),),
        "ohlcv-1m": (replace(ALPACA_BARS, rows_per_session=MINUTES),),
        "corporate-actions": (ALPACA_ACTIONS,),
        "symbol-changes": (ALPACA_ACTIONS,),
    },
    {
        "feed": replace(
            one_of(
                "default: what the account has; the others by name.",
                *("default", "sip", "iex", "otc"),
                refused=dict.fromkeys(("delayed_sip", "overnight"), "it serves the latest quotes and trades only, no history"),
            ),
            datasets=BARS,
        ),
        "adjustment": replace(
            one_of("raw: as traded; the others are the vendor's adjustments.", "raw", "split", "dividend", "spin-off", "all"),
            datasets=BARS,
        ),
    },
    label="Alpaca Market Data",
    form=ConnectionForm(plans=("basic", "plus"), host="https://data.alpaca.markets", login_label="Key ID", key_label="Secret key"),
)
