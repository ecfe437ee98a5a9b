"""Measure how long ``publish`` takes for 523 symbols x 2,500 sessions (1.3 million cells).

Usage: ``python -m benchmarks.publish [year|day|session]``. The benchmark writes the receipts that a backfill would write: one request per
symbol (``year``) or one per session (``day``, ``session``). Arrow takes its memory from the system, as in a task.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # before Arrow is loaded, see `market_data.airflow.tasks`

import pyarrow as pa

from benchmarks.measurement import Timer
from market_data import pipeline
from market_data.config.feeds import load_feeds
from market_data.config.run_params import RunParams
from market_data.core import calendar
from market_data.core.batch import Batch, Block, Request
from market_data.core.capabilities import Shape
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence, Receipt, State
from market_data.core.run import GRAINS, Grain, RunInfo
from market_data.lake import receipts
from market_data.lake.layout import Layout
from market_data.lake.receipts import OBJECTS, CellRun, RequestReceipt
from market_data.lake.store import Lake
from market_data.pipeline.load import judged

SYMBOLS = [f"S{n:03d}" for n in range(523)]
SESSIONS = calendar.sessions(date(2010, 1, 4), date(2019, 12, 10))[:2500]
EVIDENCE = Evidence(1, 0, 1, 1, 1, None, last_page_seen=True)


def measure(grain: Grain) -> dict[str, object]:
    """Return cells and seconds of one publish."""
    feed = next(feed for feed in load_feeds() if feed.dag_id == "polygon_ohlcv_1d")
    now = datetime.now(UTC)
    span = (closed(SESSIONS[0], SESSIONS[-1]),)
    with tempfile.TemporaryDirectory() as folder:
        run = RunInfo(feed.dag_id, "r", "manual", 0, now)
        params = replace(RunParams("sp500_etf"), file_grain=grain)
        context = pipeline.RunContext(feed, params, run, Lake.open(f"file://{folder}"), Layout(), "polygon")
        if grain == "year":
            blocks = [Block(tuple(SYMBOLS[n : n + 25]), span) for n in range(0, len(SYMBOLS), 25)]
            shape = Shape.SYMBOL
        else:
            parts = [SESSIONS[n : n + 25] for n in range(0, len(SESSIONS), 25)]
            blocks = [Block(tuple(SYMBOLS), (closed(part[0], part[-1]),)) for part in parts]
            shape = Shape.MARKET
        batches, done = [], []
        for number, block in enumerate(blocks):
            cells = len(block.symbols) * len(calendar.sessions_in(block.intervals))
            batch = Batch(f"b{number:03d}-x", feed.dataset, "range", shape, (block,), cells, 1, cells, of=len(blocks))
            prefix = receipts.prefix(feed.dataset, "polygon", run, batch)
            for request in batch.requests(SESSIONS):
                runs = (CellRun(request.symbols, State.HAVE, "", request.intervals, with_rows=True),)
                counts = {"rows_quarantined": 0, "ingest_us": 1}
                receipt = RequestReceipt(request, EVIDENCE, counts, runs, staged=f"staging/{request.id}", renewed=request.intervals)
                objects = _objects(context, request, grain)
                receipts.write(context.lake, prefix, receipt, objects)
            batches.append(batch)
            done.append(Receipt(batch.id, prefix, cells={"have": cells}))
        checked = {"prefixes": [r.prefix for r in done], "passed": [], "refused": [], "warned": [], "leftovers": []}
        loaded = {"of": judged(checked), "rows": 1, "changed": 1, "leftover_errors": {}}
        timer = Timer()
        published = pipeline.publish_run(context, pipeline.RunResult(batches, done, {}, checked, loaded, {}), now)
        figures = timer.figures()
        size = sum(size for _, size in context.lake.list("receipts"))
        return {
            "grain": grain,
            "cells": sum(b.cells for b in batches),
            **figures,
            "red": published["red"],
            "receipt_bytes": size,
        }


def _objects(context: pipeline.RunContext, request: Request, grain: Grain) -> pa.Table:
    """Return the objects that hold the rows of a request."""
    days = sorted({date(session.year, 1, 1) for session in SESSIONS}) if grain == "year" else [request.start]
    names = [(symbol, day) for symbol in request.symbols for day in days]
    if grain == "session":
        keys = [context.layout.session_key(context.dataset, "polygon", day) for _, day in names]
    else:
        keys = [context.layout.object_key(context.dataset, "polygon", symbol, day, grain) for symbol, day in names]
    rows = [252 if grain == "year" else 1] * len(names)
    hashes = [f"{hash(key) & 0xFFFFFFFFFFFFFFFF:016x}" for key in keys]
    return pa.table([keys, [symbol for symbol, _ in names], rows, rows, hashes], schema=OBJECTS)


if __name__ == "__main__":
    for one in GRAINS:
        if one in (sys.argv[1:] or GRAINS):
            print(json.dumps(measure(one)), flush=True)
