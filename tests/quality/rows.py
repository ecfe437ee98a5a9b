"""Rows for the quality tests: received ones for the gate, landed ones for the checkpoint. No file, no clock, no network."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.intervals import closed
from market_data.datasets.registry import dataset
from market_data.quality import session_bars

DATASET = dataset("ohlcv-1d")
INGESTED = datetime(2024, 3, 1, tzinfo=UTC)


def weekdays(first, count):
    """``count`` weekdays from ``first`` on: the sessions of an exchange without holidays."""
    days = (first + timedelta(days=n) for n in range(count * 2 + 7))
    return [day for day in days if day.weekday() < 5][:count]


def request(symbols, *intervals):
    return Request("ohlcv-1d", "range", tuple(symbols), tuple(closed(*interval) for interval in intervals))


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def row(symbol="AAPL", session=date(2024, 1, 3), **values):
    """A clean row as received, with ``values`` instead."""
    clean = {
        "open": 10.0,
        "high": 11.0,
        "low": 9.5,
        "close": 10.5,
        "adj_close": None,
        "volume": 1000.0,
        "vwap": 10.2,
        "trade_count": 7,
    }
    return {"symbol": symbol, "bar_time": midnight(session), "session": session, **clean, **values}


def received(rows):
    return pa.Table.from_pylist(rows, schema=pa.schema([pa.field(f.name, f.type) for f in DATASET.received]))


def names(count):
    return [f"S{n:03d}" for n in range(count)]


def landed(sessions, symbols, *, price=1.0, volume=1.0, provider="polygon"):
    """Clean landed rows: a slow walk of prices, fixed by symbol and session, times ``price``; likewise ``volume``."""
    rows = []
    for session in sessions:
        for n, symbol in enumerate(symbols):
            rng = np.random.default_rng([session.toordinal(), n])
            close = price * (20 + n) * (1 + 0.02 * rng.standard_normal())
            rows.append(
                {
                    **row(symbol, session, open=close, high=close * 1.01, low=close * 0.99, close=close, vwap=None),
                    "volume": volume * (1000.0 + n) * float(rng.uniform(0.8, 1.2)),
                    "timeframe": "1d",
                    "provider": provider,
                    "ingest_ts": INGESTED,
                }
            )
    return pa.Table.from_pylist(rows, schema=DATASET.schema)


SLIM = pa.schema([session_bars.BARS.field(name) for name in ("symbol", "session", "close", "volume", "bars")])


def slim(table):
    """What is compared of sessions."""
    return session_bars.bars(table).select(SLIM.names)


def warehoused(table):
    """What the warehouse gives of earlier sessions."""
    return table.select(["symbol", "session", "close", "volume"])


NONE_BEFORE = warehoused(landed([], []))
