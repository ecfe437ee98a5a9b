"""Describe polygon: its datasets, endpoints and options."""

from __future__ import annotations

from dataclasses import replace

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import BARS, MINUTES, REGULAR, ConnectionForm, ProviderSpec, one_of

GROUPED = Endpoint("grouped", Shape.MARKET)
# One S3 object a session, there about eleven in the morning (New York) of the next day.
FLAT_FILE = Endpoint("flatfile", Shape.MARKET, available_after=40 * 3600)
ADJUSTMENT = one_of("raw: as traded; split: the vendor's split adjustment, which later splits change.", "raw", "split")

SPEC = ProviderSpec(
    "polygon",
    "market_data.providers.polygon.hook:PolygonHook",
    {
        "ohlcv-1d": (GROUPED, Endpoint("range", Shape.SYMBOL), FLAT_FILE),
        "ohlcv-5m": (Endpoint("range", Shape.SYMBOL, rows_per_session=MINUTES),),  # pages count base bars: minutes
        "ohlcv-1m": (replace(FLAT_FILE, rows_per_session=REGULAR), Endpoint("range", Shape.SYMBOL, rows_per_session=MINUTES)),
        "corporate-actions": (Endpoint("reference", Shape.MULTI, page_rows=5000, chains=2, market_rows=125, max_days=92),),
        "symbol-changes": (Endpoint("events", Shape.SYMBOL, page_rows=1_000_000),),
    },
    {"adjustment": replace(ADJUSTMENT, datasets=BARS)},
    label="Polygon / Massive",
    form=ConnectionForm(
        plans=("basic", "starter", "developer", "advanced"),
        host="https://api.massive.com",
        extra={
            "flat_files_conn_id": ("Connection of the flat files (S3)", "string"),
            "flat_files_bucket": ("Bucket of the flat files", "string"),
        },
    ),
)
