"""Measure a year of 505 symbols in each grain: objects, bytes a row, seconds to read.

``python -m benchmarks.grains [SYMBOLS] [GRAIN ...]``: day files take minutes to write.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, date, datetime
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from market_data.core import calendar
from market_data.core.run import GRAINS, Grain
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.lake.writer import land

FIRST, END = date(2024, 1, 1), date(2025, 1, 1)


def bars(symbols: list[str], sessions: tuple[date, ...]) -> pa.Table:
    """Return daily bars of every symbol and session with random prices."""
    size, random = len(symbols) * len(sessions), np.random.default_rng(7)
    close = np.round(100 + random.normal(0, 1, size).cumsum() % 50, 2)
    columns = {
        "symbol": np.repeat(symbols, len(sessions)),
        "session": np.tile(np.array(sessions, dtype="datetime64[D]"), len(symbols)),
        "timeframe": ["1d"] * size,
        "open": close,
        "high": close + 1,
        "low": close - 1,
        "close": close + 0.5,
        "volume": random.integers(1_000, 10_000_000, size).astype(float),
        "provider": ["polygon"] * size,
        "ingest_ts": pa.repeat(pa.scalar(datetime(2025, 1, 2, tzinfo=UTC), pa.timestamp("us", "UTC")), size),
    }
    columns["bar_time"] = pa.array(columns["session"].astype("datetime64[us]")).cast(pa.timestamp("us", "UTC"))
    fields = OHLCV_1D.schema
    return pa.table(
        [pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(size, f.type) for f in fields], fields
    )


def measure(grain: Grain, count: int = 505) -> dict[str, object]:
    """Return the figures of one grain."""
    symbols = [f"S{number:04d}" for number in range(count)]
    sessions = calendar.sessions(FIRST, END)
    with TemporaryDirectory() as folder:
        lake, layout = Lake.open(f"file://{folder}/lake"), Layout()
        rows = bars(symbols, sessions)
        started = time.process_time()
        land(lake, layout, OHLCV_1D, "polygon", rows, grain, refetch=False)
        wrote = time.process_time() - started
        stored = lake.list("raw")
        wall, started = time.monotonic(), time.process_time()
        found = read_rows(lake, layout, OHLCV_1D, "polygon", symbols, FIRST, END)
        read, read_wall = time.process_time() - started, time.monotonic() - wall
        started = time.process_time()
        one = read_rows(lake, layout, OHLCV_1D, "polygon", symbols[:1], FIRST, END)
        return {
            "grain": grain,
            "objects": len(stored),
            "rows": len(found),
            "bytes_per_row": round(sum(size for _, size in stored) / len(found), 1),
            "write_cpu_s": round(wrote, 2),
            "read_cpu_s": round(read, 2),
            "read_s": round(read_wall, 2),
            "read_one_symbol_cpu_s": round(time.process_time() - started, 2),
            "one_symbol_rows": len(one),
        }


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 505
    for one_grain in GRAINS:
        if one_grain in sys.argv[2:] or len(sys.argv) <= 2:
            print(json.dumps(measure(one_grain, number)))
