"""Describe ib: its datasets, endpoints and options."""

from __future__ import annotations

from market_data.core.capabilities import Endpoint, Shape
from market_data.core.instruments import Kind, kind_of
from market_data.providers.spec import ConnectionForm, ProviderSpec, one_of

INDICES = {"NDX": "NASDAQ", "RUT": "RUSSELL", "SPX": "CBOE", "VIX": "CBOE"}
"""Indices -> exchange, as the vendor spells it."""

SPEC = ProviderSpec(
    "ib",
    "market_data.providers.ib.hook:InteractiveBrokersHook",
    {  # a month a request within the day; of a future's trading day, 23 hours
        "ohlcv-1d": (Endpoint("historical", Shape.SYMBOL, page_rows=5040),),
        "ohlcv-5m": (Endpoint("historical", Shape.SYMBOL, page_rows=21 * 276, rows_per_session=276),),
        "ohlcv-1m": (Endpoint("historical", Shape.SYMBOL, page_rows=21 * 1380, rows_per_session=1380),),
    },
    {
        "what_to_show": one_of(
            "trades, or quotes, which have no volume.",
            *("trades", "midpoint", "bid", "ask"),
            refused={
                "adjusted_last": "it takes no end date, so past spans cannot be requested",
                "bid_ask": "it is not a bar of prices",
            },
        ),
        "hours": one_of("regular, or extended: stocks from 04:00 to 20:00. Futures come whole.", "regular", "extended"),
    },
    kind_of=lambda symbol, _: Kind.INDEX if symbol in INDICES else kind_of(symbol),
    label="Interactive Brokers",
    form=ConnectionForm(
        plans=("standard",),
        host="127.0.0.1",
        key_label="",
        port="4002",
        extra={
            "client_id": ("Client ID", "integer"),
            "identical_seconds": ("Seconds between identical requests", "number"),
            "stock_volumes": ("Volumes of US stocks: auto, shares or lots", "string"),
        },
    ),
)
