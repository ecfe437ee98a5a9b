"""Bars: open, high, low, close and volume of a symbol over a timeframe.

Prices are in the currency of the listing, raw as the vendor gave them. ``bar_time`` is the bar's open, UTC; a daily bar has
00:00 UTC of its session's date whatever moment the vendor stamps (Polygon range: midnight New York; grouped: 16:00 New York).
``volume`` is in shares, may be fractional and may be absent; so may ``vwap``, ``trade_count`` and ``adj_close``.
"""

from __future__ import annotations

import pyarrow as pa

from market_data.datasets.base import Dataset

UTC_MICROS = pa.timestamp("us", tz="UTC")

RECEIVED = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("bar_time", UTC_MICROS, nullable=False),
        pa.field("session", pa.date32(), nullable=False),
        pa.field("open", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("close", pa.float64()),
        pa.field("adj_close", pa.float64()),
        pa.field("volume", pa.float64()),
        pa.field("vwap", pa.float64()),
        pa.field("trade_count", pa.int64()),
    ]
)

SCHEMA = pa.schema(
    [
        RECEIVED.field("symbol"),
        pa.field("timeframe", pa.string(), nullable=False),
        RECEIVED.field("bar_time"),
        RECEIVED.field("session"),
        *(RECEIVED.field(name) for name in ("open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count")),
        pa.field("provider", pa.string(), nullable=False),
        pa.field("ingest_ts", UTC_MICROS, nullable=False),
    ]
)

OHLCV_1D = Dataset(
    name="ohlcv-1d",
    timeframe="1d",
    folder="prices",
    received=RECEIVED,
    schema=SCHEMA,
    key=("symbol", "timeframe", "bar_time"),
    values=("open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count"),
    table="prices",
)
