"""Bars: open, high, low, close and volume of a symbol over a timeframe.

Prices are in the currency of the listing, raw as the vendor gave them. ``bar_time`` is the bar's open, UTC; a daily bar has
00:00 UTC of its session's date whatever moment the vendor stamps (Polygon range: midnight New York; grouped: 16:00 New York).
An intraday bar's session is the New York date of its open. For futures, it is the trading day, which begins at 18:00 the evening
before; their trades on a holiday of the stock exchange belong to the next session.
``volume`` is in shares (futures: contracts), may be fractional and may be null; so may ``vwap``, ``trade_count`` and ``adj_close``.
Prices of futures, their spreads and rates may be zero or negative, as crude oil's were on 2020-04-20; those of shares may not.
A ``vwap`` of 0 and a negative ``trade_count`` are a vendor's way to say that there is none: they become null.
An interval without a trade has no bar.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.run import GRAINS
from market_data.datasets.base import UTC_MICROS, Dataset, Files, Mask, Placeholder, Received, Rule, required, stored
from market_data.datasets.rules import (
    SMALLEST,
    finite,
    in_trading_day,
    not_above,
    not_below,
    not_negative,
    of_every_row,
    positive_price,
    storable,
)

PRICES = ("open", "high", "low", "close")

RECEIVED = pa.schema(
    [
        required("symbol", pa.string()),
        required("bar_time", UTC_MICROS),
        required("session", pa.date32()),
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
VALUES = ("open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count")


OHLCV = (
    *(finite(field, required=True) for field in PRICES),
    *(finite(field) for field in ("adj_close", "volume", "vwap")),
    *(storable(field) for field in (*PRICES, "adj_close", "volume", "vwap")),
    *(positive_price(field) for field in PRICES),
    not_below("high", "low"),
    not_above("open", "high"),
    not_below("open", "low"),
    not_above("close", "high"),
    not_below("close", "low"),
    not_negative("volume"),
)


def _no_vwap(received: Received) -> Mask:
    vwap = received["vwap"]
    not_positive = pc.and_(pc.is_finite(vwap), pc.less(vwap, SMALLEST))
    return pc.or_(pc.equal(vwap, 0), pc.and_(received.unsigned, not_positive))


NONE = (
    Placeholder("vwap", _no_vwap, "0; below 0 where prices cannot be", lambda r: r.within("vwap", SMALLEST)),
    Placeholder("trade_count", lambda r: pc.less(r["trade_count"], 0), "below 0", lambda r: r.within("trade_count", 0)),
)


def _off_midnight(received: Received) -> Mask:
    return pc.not_equal(received["bar_time"], received["session"].cast(pa.timestamp("us")).cast(received["bar_time"].type))


AT_MIDNIGHT = Rule(
    "bar_time_of_session",
    "bar_time is 00:00 UTC of the session",
    _off_midnight,
    "bar_time {bar_time} not 00:00 UTC of session {session}",
)


def on_grid(minutes: int) -> Rule:
    """Require that a bar begins at a multiple of its timeframe.

    New York is whole hours from UTC all year.
    """
    step = minutes * 60_000_000

    def broken(received: Received) -> Mask:
        moment = received["bar_time"].cast(pa.int64())
        return pc.not_equal(pc.multiply(pc.divide(moment, step), step), moment)

    def kept(received: Received) -> bool:
        moments = received["bar_time"]
        return not moments.null_count and not (moments.to_numpy().view(np.int64) % step).any()

    grid = "minute" if minutes == 1 else f"{minutes} minutes"
    reason = f"bar_time {{bar_time}} not a whole {grid}"
    return Rule("bar_time_on_grid", f"bar_time is a whole {grid}", broken, reason, kept=kept)


def bars(timeframe: str, folder: str, minutes: int | None = None, year_grain: Literal["month", "year"] = "month") -> Dataset:
    """Return the dataset of bars of one timeframe.

    All share the warehouse's tables, whose key includes the timeframe.

    :param minutes: length of an intraday bar; None: daily bars.
    """
    when = (on_grid(minutes), in_trading_day("bar_time")) if minutes else (AT_MIDNIGHT,)
    return Dataset(
        name=f"ohlcv-{timeframe}",
        timeframe=timeframe,
        folder=folder,
        received=RECEIVED,
        schema=stored(RECEIVED, timeframe),
        key=("symbol", "timeframe", "bar_time"),
        values=VALUES,
        table="prices",
        placeholders=NONE,
        rules=of_every_row(RECEIVED, *when, *OHLCV),
        files=Files(year_grain, grains=GRAINS),
    )


OHLCV_1D = bars("1d", "prices", year_grain="year")
OHLCV_5M = bars("5m", "bars_5min", 5)
OHLCV_1M = bars("1m", "equities_1min", 1)
