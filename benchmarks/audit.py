"""Measure an audit of 523 symbols x 10 years (1.3 million cells) against the ledger.

Usage: ``python -m benchmarks.audit [day|year]``. ``day``: a lake of day files, a run for each session: 1.3 million keys, 2,500
ledger objects and receipts. ``year``: year files of one backfill. There is no warehouse. Lake objects are placeholders that exist in the
list alone, as a million small files would measure the disk: the objects of one symbol are read, all others only listed. Ledger and
receipts are files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa

from benchmarks.measurement import Timer, peak_mb
from market_data.config.feeds import load_feeds
from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.core.batch import Batch, Block
from market_data.core.capabilities import Shape
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence, State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import ledger, receipts
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.receipts import OBJECTS, CellRun, RequestReceipt
from market_data.lake.store import Lake, Stored
from market_data.maintenance.audit import audit
from market_data.pipeline.selection import Selection

SYMBOLS = [f"S{n:03d}" for n in range(523)]
SESSIONS = calendar.sessions(date(2010, 1, 4), date(2019, 12, 10))[:2500]
NOW = datetime.combine(SESSIONS[-1] + timedelta(days=1), time(12), UTC)
EVIDENCE = Evidence(1, 0, 1, 1, 1, None, last_page_seen=True)
DAG = "polygon_ohlcv_1d"


PLACEHOLDER = b"x" * 64


class Placeholders(Lake):
    """A lake whose objects below ``raw`` are generated.

    :ivar grain: ``day`` or ``year``.
    """

    grain = "day"

    def walk(self, prefix: str, at_a_time: int = 10_000) -> Iterator[Sequence[tuple[str, int]]]:
        """Yield key and size of generated objects, and of the others as they are."""
        if not prefix.startswith("raw"):
            yield from super().walk(prefix, at_a_time)
            return
        days = SESSIONS if self.grain == "day" else [date(year, 6, 1) for year in sorted({day.year for day in SESSIONS})]
        patterns = [Layout().object_key(OHLCV_1D, "polygon", "SYMBOL", day, self.grain) for day in days]  # type: ignore[arg-type]
        keys = (pattern.replace("SYMBOL", symbol) for symbol in SYMBOLS for pattern in patterns)
        while chunk := [(key, len(PLACEHOLDER)) for key in islice(keys, at_a_time)]:
            yield chunk

    def get(self, key: str) -> Stored | None:
        """Return an object; a generated one cannot be read as Parquet."""
        return Stored(PLACEHOLDER, "1") if key.startswith("raw/") else super().get(key)


def make(folder: Path, grain: str) -> None:
    """Write receipts and ledger."""
    lake, layout = Lake.open(f"file://{folder}"), Layout()
    spans = [(session, session) for session in SESSIONS] if grain == "day" else [(SESSIONS[0], SESSIONS[-1])]
    for number, (first, last) in enumerate(spans):
        run = RunInfo(DAG, f"run {number}", "manual", 0, datetime.combine(last, time(22), UTC))
        days = SESSIONS if grain == "year" else [first]
        years = sorted({day.year for day in days})
        objects = []
        for symbol in SYMBOLS:
            for day in [first] if grain == "day" else [date(year, 6, 1) for year in years]:
                key = layout.object_key(OHLCV_1D, "polygon", symbol, day, "day" if grain == "day" else "year")
                objects.append((key, symbol, 1, 1, "0" * 16))
        batch = Batch("b000", "ohlcv-1d", "range", Shape.MARKET, (Block(tuple(SYMBOLS), (closed(first, last),)),), 1, 1, 1, of=1)
        request = next(iter(batch.requests(SESSIONS)))
        runs = (CellRun(tuple(SYMBOLS), State.HAVE, "", (closed(first, last),), with_rows=True),)
        columns = [pa.array(column, field.type) for column, field in zip(zip(*objects, strict=True), OBJECTS, strict=True)]
        receipt = RequestReceipt(request, EVIDENCE, {"ingest_us": number}, runs)
        receipts.write(lake, receipts.prefix("ohlcv-1d", "polygon", run, batch), receipt, pa.table(columns, schema=OBJECTS))
        cells = pa.table(
            [
                pa.array(np.repeat(SYMBOLS, len(days))),
                pa.array(np.tile(np.array(days, dtype="datetime64[D]"), len(SYMBOLS))),
                pa.repeat(str(State.HAVE), len(SYMBOLS) * len(days)),
                pa.repeat("", len(SYMBOLS) * len(days)),
            ],
            schema=CELLS,
        )
        ledger.write_cells(lake, "ohlcv-1d", "polygon", run, "b000", cells, recorded_at=run.started)


def measure(folder: str, grain: str) -> None:
    """Audit the lake and print seconds and peak memory; runs in a process of its own."""
    before = peak_mb()
    feed = next(feed for feed in load_feeds() if feed.dag_id == DAG)
    universe = Universe("benchmark", tuple(map(Member, SYMBOLS)))
    lake = Placeholders.open(f"file://{folder}")
    assert isinstance(lake, Placeholders)
    lake.grain = grain
    timer = Timer()
    # A share near 0 reads one symbol: its placeholders cannot be read, and are found.
    found = audit(lake, None, feed, Selection(OHLCV_1D, "polygon", Layout()), NOW, universe, share=1e-9)
    print(
        json.dumps(
            {
                **found.counts,
                "grain": grain,
                "found": len(found.findings),
                **timer.figures(),
                "before_mb": before,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3])
    else:
        with tempfile.TemporaryDirectory() as name:
            start = monotonic()
            chosen = sys.argv[1] if len(sys.argv) > 1 else "day"
            make(Path(name), chosen)
            print(f"made in {timedelta(seconds=round(monotonic() - start))}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "benchmarks.audit", "measure", name, chosen], check=True, env=os.environ)
