"""Sample flat files in Polygon's (Massive's) S3 layout: one object per session with all symbols.

The rows equal those of the sample API for the same market, prices as traded. Any S3 server can hold the files.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import date
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from market_data.core.spelling import CQS
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.market.vendor_market import VendorMarket
from sandbox.vendors.polygon_parameters import midnight

BUCKET = "flatfiles"
FOLDERS = {"day": "us_stocks_sip/day_aggs_v1", "minute": "us_stocks_sip/minute_aggs_v1"}
NAMES = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
AS_IT_IS = csv.WriteOptions(quoting_style="none", quoting_header="none")


def write(
    client: Any, market: Market, sessions: Iterable[date], kinds: Sequence[str] = ("day", "minute"), bucket: str = BUCKET
) -> list[str]:
    """Write the files of ``sessions``; the keys of the objects.

    :param client: boto3's for S3. The bucket is there.
    :param kinds: ``day``, ``minute``.
    """
    keys, market = [], VendorMarket(market, CQS)
    for session in sessions:
        bars = sorted(market.session(session))
        for kind in kinds:
            source = market.source(bars) if kind == "day" else "generated"
            body = packed(day_rows(bars) if kind == "day" else minute_rows(market, bars))
            client.put_object(Bucket=bucket, Key=key(kind, session), Body=body, Metadata={"sample-source": source})
            keys.append(key(kind, session))
    return keys


def key(kind: str, session: date) -> str:
    """Return the object key of a session's file."""
    return f"{FOLDERS[kind]}/{session:%Y/%m/%Y-%m-%d}.csv.gz"


def packed(rows: pa.Table) -> bytes:
    """Return the rows as a compressed CSV file."""
    lines = BytesIO()
    csv.write_csv(rows, lines, AS_IT_IS)
    return gzip.compress(lines.getvalue(), 1, mtime=0)


def day_rows(bars: Sequence[DailyBar]) -> pa.Table:
    """Return the rows of a day file, stamped 00:00 New York."""
    columns = [[getattr(bar, name) for bar in bars] for name in ("symbol", "volume", "open", "close", "high", "low")]
    stamps = [midnight(bar.session) * 1_000_000 for bar in bars]
    return _rows(*columns, stamps, [bar.trades for bar in bars])


def minute_rows(market: Market, bars: Sequence[DailyBar]) -> pa.Table:
    """Return the rows of a minute file, stamped with each bar's open."""
    found = market.minutes(bars)
    symbols = np.array([bar.symbol for bar in bars], dtype=object)[found.cell]
    return _rows(symbols, found.volume, found.open, found.close, found.high, found.low, found.time, found.trades)


def _rows(*columns: Sequence[Any] | NDArray[Any]) -> pa.Table:
    kinds = [pa.string(), *[pa.float64()] * 5, pa.int64(), pa.int64()]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=NAMES)
