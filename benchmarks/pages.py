"""Measure what the pages do with the ledger of 523 symbols x 10 years (1.3 million cells).

Usage: ``python -m benchmarks.pages [runs|folded|backfill]``. ``runs``: an object per session, as 2,500 scheduled runs leave them.
``folded``: the same after folding. ``backfill``: one object of one run. Each in a process of its own, as after a start of the server.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from market_data.config.feeds import Feed
from market_data.config.universes import members
from market_data.core import calendar
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import ledger
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.pipeline.selection import Selection
from market_data.providers.base import ProviderConfig, ProviderHook
from market_data.providers.polygon.hook import PolygonHook

PLACE = ("ohlcv-1d", "polygon")
SYMBOLS = members("sp500_etf")
SESSIONS = calendar.sessions(date(2014, 1, 2), date(2024, 6, 1))[-2500:]
NOW = datetime.combine(SESSIONS[-1] + timedelta(days=1), time(12), UTC)
SPAN = {"start_date": SESSIONS[0].isoformat(), "end_date": SESSIONS[-1].isoformat(), "force": True}
FEED = Feed("polygon", "ohlcv-1d", "sp500_etf", "20:30", SESSIONS[0])


def make(folder: Path, kind: str) -> None:
    """Write the ledger."""
    lake = Lake.open(f"file://{folder}")
    parts = [SESSIONS] if kind == "backfill" else [(session,) for session in SESSIONS]
    for number, days in enumerate(parts):
        write(lake, number, days, datetime.combine(days[-1] + timedelta(days=1), time(1), UTC))
    if kind == "folded":
        fold_ledger(lake, *PLACE, NOW + timedelta(days=30))


def write(lake: Lake, number: int, days: tuple[date, ...], at: datetime) -> None:
    """Record all symbols as loaded on ``days``."""
    columns = [
        pa.array(np.repeat(SYMBOLS, len(days))),
        pa.array(np.tile(np.array(days, dtype="datetime64[D]"), len(SYMBOLS))),
        *(pa.repeat(text, len(SYMBOLS) * len(days)) for text in (str(State.HAVE), "")),
    ]
    run = RunInfo("polygon_ohlcv_1d", f"scheduled__{number}", "scheduled", 0, at)
    ledger.write_cells(lake, *PLACE, run, "b000", pa.table(columns, schema=CELLS), recorded_at=at, compared=True)


def resident_mb() -> int:
    """Return the memory of this process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def measure(folder: str) -> None:
    """Print seconds and memory."""
    from market_data.views.cell import cell_of
    from market_data.views.coverage import current_grid
    from market_data.views.feeds import feed_of
    from market_data.views.gaps import gaps_of
    from market_data.views.ledgers import Ledgers, records_of
    from market_data.views.places import Place
    from market_data.views.plan import plan_of

    lake, ledgers, found = Lake.open(f"file://{folder}"), Ledgers(guard=0), dict[str, Any]()

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = perf_counter()
        done = work()
        found[name] = round(perf_counter() - began, 3)
        return done

    def polygon(options: Mapping[str, Any]) -> ProviderHook:
        return PolygonHook(ProviderConfig("polygon_default", "", password="k", extra={"plan": "advanced"}), options=options)

    before = resident_mb()
    records = timed("first load", lambda: ledgers.get(lake, *PLACE))
    found |= {"records": len(records), "ledger mb": records.nbytes // 2**20, "process mb more": resident_mb() - before}
    timed("refresh without a change", lambda: ledgers.get(lake, *PLACE))
    write(lake, 9999, SESSIONS[-1:], NOW)
    timed("refresh with one new object", lambda: ledgers.get(lake, *PLACE))
    place = Place(lake, FEED, Selection(OHLCV_1D, "polygon", Layout()), ("polygon",))
    records_of(lake, *PLACE)  # what the start of the server reads ahead
    grid = timed("cells of the page", lambda: current_grid(place, NOW))
    timed("a card of Feeds", lambda: feed_of(place, [FEED.dag_id], NOW))
    text = timed("as JSON", lambda: json.dumps(grid.to_json()))
    found |= {"json kb": len(text) // 1024, "gzip kb": len(gzip.compress(text.encode(), 6)) // 1024}
    timed("a cell", lambda: cell_of(place, current_grid(place, NOW), SYMBOLS[7], SESSIONS[-9], NOW))
    timed("the next cell", lambda: cell_of(place, current_grid(place, NOW), SYMBOLS[9], SESSIONS[-7], NOW))
    timed("a plan of all cells", lambda: plan_of(FEED, SPAN, lake, polygon, NOW).to_json())
    timed("gaps", lambda: gaps_of(place, current_grid(place, NOW), NOW).to_json())
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2])
    else:
        for kind in sys.argv[1:] or ("backfill", "folded", "runs"):
            with tempfile.TemporaryDirectory() as name:
                make(Path(name), kind)
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.pages", "measure", name], check=True, capture_output=True, text=True
                )
                print(json.dumps({"kind": kind, **json.loads(done.stdout)}), flush=True)
