"""Bars to land."""

from datetime import UTC, date, datetime, timedelta
from itertools import count

import pyarrow as pa

from market_data.airflow.connections import s3_access
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.lake.writer import land

T0 = datetime(2024, 9, 17, tzinfo=UTC)


def open_lake(url):
    """Open a lake; S3 by the Airflow connection, as tasks do."""
    return Lake.open(url, s3_access("aws_default") if url.startswith("s3:") else None)


def bars(cells, *, close=10.0, at=T0, provider="polygon", volume=100.5, **others):
    """Daily bars, one for each (symbol, date); ``others`` are values of other columns."""
    size = len(cells)
    constant = {"timeframe": "1d", "open": 9.0, "high": 11.0, "low": 8.0, "close": close, "adj_close": None, "volume": volume}
    constant |= {"vwap": None, "trade_count": 7, "provider": provider, "ingest_ts": at}
    columns = {name: [value] * size for name, value in (constant | others).items()}
    columns["symbol"] = [symbol for symbol, _ in cells]
    columns["session"] = [session for _, session in cells]
    columns["bar_time"] = [datetime(s.year, s.month, s.day, tzinfo=UTC) for _, s in cells]
    return pa.table({name: columns[name] for name in OHLCV_1D.schema.names}, schema=OHLCV_1D.schema)


def weekdays(start, size):
    """``size`` Mondays to Fridays from ``start`` on."""
    days = (start + timedelta(n) for n in count())
    return [day for day, _ in zip((d for d in days if d.weekday() < 5), range(size), strict=False)]


D0 = date(2024, 9, 16)


def add_bytes(url, first, size):
    """Adds ``size`` bytes, ``first`` and those after it, to the object ``counter``, one update each; for a process of its own."""
    lake = open_lake(url)
    for n in range(first, first + size):
        lake.update("counter", lambda body, n=n: (body or b"") + bytes([n]))


def land_singly(url, days):
    """Lands a year of ``AAPL`` session by session; for a process of its own."""
    lake = open_lake(url)
    for day in days:
        land(lake, Layout(), OHLCV_1D, "polygon", bars([("AAPL", day)]), "year", refetch=True)
