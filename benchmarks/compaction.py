"""Measure compaction: a year of day files, and a ledger of many objects, each read before and after.

``python -m benchmarks.compaction [SYMBOLS] [LEDGER_OBJECTS]``: 505 symbols are 126,000 day files, in a folder or in MARKET_DATA_LAKE.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.measurement import Timer
from market_data.core import calendar
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import read_coverage, write_cells
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.maintenance.compaction import compact
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.pipeline.selection import Selection

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LAYOUT, SOURCE = Layout(), "polygon"


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Run ``work``, print its seconds and the peak memory so far, and return its result."""
    timer = Timer()
    found = work()
    print(json.dumps({"case": name, **timer.figures()}), flush=True)
    return found


def bars(symbols: list[str], session: date) -> pa.Table:
    """Return one bar per symbol."""
    size = len(symbols)
    close = 50 + np.random.default_rng(session.toordinal()).random(size)
    at = datetime(session.year, session.month, session.day, tzinfo=UTC)
    constant = {"timeframe": "1d", "bar_time": at, "session": session, "provider": SOURCE, "ingest_ts": at + timedelta(days=1)}
    constant |= {"volume": 1000.0, "trade_count": 7, "adj_close": None, "vwap": None}
    columns = {name: pa.array([value] * size, OHLCV_1D.schema.field(name).type) for name, value in constant.items()}
    columns |= {"symbol": pa.array(symbols), **{name: pa.array(close) for name in ("open", "high", "low", "close")}}
    return pa.table([columns[name] for name in OHLCV_1D.schema.names], schema=OHLCV_1D.schema)


def measure_files(lake: Lake, count: int) -> None:
    """Fill a year of day files, read, compact, read."""
    symbols = [f"S{n:03d}" for n in range(count)]
    sessions = calendar.sessions(date(2025, 1, 1), date(2026, 1, 1))

    def fill() -> None:
        for session in sessions:
            land(lake, LAYOUT, OHLCV_1D, SOURCE, bars(symbols, session), "day", refetch=False)

    def read() -> pa.Table:
        return read_rows(lake, LAYOUT, OHLCV_1D, SOURCE, symbols, date(2025, 1, 1), date(2026, 1, 1))

    timed(f"write {count * len(sessions):,} day files", fill)
    before = timed("read them", read)
    done = timed("compact", lambda: compact(lake, Selection(OHLCV_1D, SOURCE, LAYOUT), NOW))
    print(*done.sentences(), file=sys.stderr)
    after = timed(f"read {len(lake.list('raw')):,} files", read)
    assert after.equals(before)
    timed("compact again", lambda: compact(lake, Selection(OHLCV_1D, SOURCE, LAYOUT), NOW))


def measure_ledger(lake: Lake, objects: int) -> None:
    """Record 523 symbols x 10 years in ``objects`` ledger objects, read, fold, read."""
    symbols = [f"S{n:03d}" for n in range(523)]
    sessions = calendar.sessions(date(2016, 1, 1), date(2026, 1, 1))
    cells = np.arange(len(symbols) * len(sessions))

    def fill() -> None:
        for number, part in enumerate(np.array_split(cells, objects)):
            columns = [
                pa.array(symbols).take(pa.array(part % len(symbols))),
                pa.array(sessions, pa.date32()).take(pa.array(part // len(symbols))),
                pa.array(["have"] * len(part)),
                pa.array([""] * len(part)),
            ]
            at = datetime(sessions[part[0] // 523].year, sessions[part[0] // 523].month, 28, tzinfo=UTC)
            run = RunInfo("polygon_ohlcv_1d", f"scheduled__{number}", "scheduled", 0, at)
            write_cells(lake, "ohlcv-1d", SOURCE, run, "b1", pa.table(columns, schema=CELLS), recorded_at=at, compared=True)

    timed(f"write {len(cells):,} records in {objects:,} objects", fill)
    before = timed("read the coverage", lambda: read_coverage(lake, "ohlcv-1d", SOURCE))
    done = timed("fold", lambda: fold_ledger(lake, "ohlcv-1d", SOURCE, NOW))
    print(*done.sentences(), file=sys.stderr)
    after = timed(f"read {len(lake.list('manifest')):,} objects", lambda: read_coverage(lake, "ohlcv-1d", SOURCE))
    assert len(after) == len(before)


def main() -> None:
    """Measure in a folder that is deleted at the end, or in MARKET_DATA_LAKE, which should be empty."""
    given = [int(word) for word in sys.argv[1:]]
    count, objects = (*given, *(505, 5000)[len(given) :])
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(os.environ.get("MARKET_DATA_LAKE") or f"file://{folder}/lake")
        measure_files(lake, count)
        measure_ledger(lake, objects)


if __name__ == "__main__":
    main()
