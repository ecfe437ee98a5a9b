"""Measure the task ``check``: 10 sessions, and 10 years, of 523 symbols, by Great Expectations.

``python -m benchmarks.check [small] [large] [minutes]`` writes receipts and staging objects as a backfill does. A process with the imports
of an Airflow task judges them. It prints a line of JSON each: rows, refused partitions, CPU seconds, seconds, and the peak memory in MB
before and after. The import of Great Expectations counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from benchmarks.measurement import PROJECT, peak_mb

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.core.batch import Batch
    from market_data.core.outcome import Receipt
    from market_data.core.run import Grain
    from market_data.pipeline.run_context import RunContext

SYMBOLS = [f"S{number:03d}" for number in range(523)]
NOW = datetime(2026, 11, 2, 22, tzinfo=UTC)


@dataclass(frozen=True)
class Size:
    """A run to judge.

    :param feed: id of its DAG.
    :param grain: ``year``: a request per 25 symbols. ``day``: a request per session.
    :param rows: of a symbol and session.
    """

    feed: str
    sessions: int
    grain: Grain
    symbols: int = 523
    rows: int = 1


SIZES = {
    "small": Size("polygon_ohlcv_1d", 10, "day"),
    "large": Size("polygon_ohlcv_1d", 2_500, "year"),
    "minutes": Size("polygon_ohlcv_1m", 20, "day", symbols=170, rows=390),
}


def measure(name: str = "small") -> dict[str, object]:
    """Return the figures of one size; each runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": folder}
        command = [sys.executable, "-m", "benchmarks.check", "--child"]
        subprocess.run([*command, "fill", name, folder], env=environ, cwd=PROJECT, check=True)
        done = subprocess.run(
            [*command, "check", name, folder], env=environ, cwd=PROJECT, check=True, capture_output=True, text=True
        )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return {"size": name, **found}


def check(size: Size, folder: str) -> dict[str, object]:
    """Judge what ``fill`` wrote."""
    import airflow.sdk.execution_time.task_runner  # noqa: F401  as in a task of Airflow

    from market_data.airflow import dag  # noqa: F401
    from market_data.airflow.warehouse_connections import open_with_hooks
    from market_data.pipeline.check import check_run
    from market_data.warehouse import WarehouseConnection

    before, began, cpu = peak_mb(), time.monotonic(), time.process_time()
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": f"{folder}/warehouse.duckdb"})) as warehouse:
        checked = check_run(_context(size, folder), *_work(size, folder), warehouse)
    return {
        "rows": checked["statistics"]["rows"],
        "refused": len(checked["refused"]),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "seconds": round(time.monotonic() - began, 2),
        "peak_mb": peak_mb(),
        "before_mb": before,
    }


def fill(size: Size, folder: str) -> None:
    """Write the staging objects and receipts of every request."""
    from market_data.core import calendar
    from market_data.core.outcome import Evidence, State
    from market_data.lake import receipts, staging
    from market_data.lake.receipts import OBJECTS, CellRun, RequestReceipt

    context = _context(size, folder)
    for batch, receipt in zip(*_work(size, folder), strict=True):
        for request in batch.requests(_sessions(size)):
            runs = (CellRun(request.symbols, State.HAVE, "", request.intervals, with_rows=True),)
            rows = len(request.symbols) * len(request.sessions) * size.rows
            counts = {"rows_quarantined": 0, "ingest_us": 1}
            found = RequestReceipt(request, Evidence(1, 0, 1, rows, rows, None, last_page_seen=True), counts, runs)
            info = staging.StagedInfo(context.run, batch.id, size.grain, found)
            with staging.Rows() as staged:
                staged.add(_rows(size, context, request.symbols, calendar.sessions_in(request.intervals)))
                key = staging.write(context.lake, context.feed.dataset, context.source, batch.spec_hash, info, staged)
            receipts.write(context.lake, receipt.prefix, found.with_staged(key), OBJECTS.empty_table())


def _context(size: Size, folder: str) -> RunContext:
    from market_data import pipeline
    from market_data.config.feeds import load_feeds
    from market_data.config.run_params import RunParams
    from market_data.core.run import RunInfo
    from market_data.lake.layout import Layout
    from market_data.lake.store import Lake

    feed = next(feed for feed in load_feeds() if feed.dag_id == size.feed)
    run, params = RunInfo(feed.dag_id, "r", "manual", 0, NOW), replace(RunParams("sp500_etf"), file_grain=size.grain)
    return pipeline.RunContext(feed, params, run, Lake.open(f"file://{folder}/lake"), Layout(), "polygon")


def _sessions(size: Size) -> list[date]:
    from market_data.core import calendar

    return list(calendar.sessions(date(2010, 1, 4), date(2020, 1, 1))[: size.sessions])


def _work(size: Size, folder: str) -> tuple[list[Batch], list[Receipt]]:
    """Return the batches of the run and their receipts."""
    from market_data.core.batch import Batch, Block
    from market_data.core.capabilities import Shape
    from market_data.core.intervals import closed
    from market_data.core.outcome import Receipt
    from market_data.lake import receipts

    context, sessions, symbols = _context(size, folder), _sessions(size), SYMBOLS[: size.symbols]
    if size.grain == "year":
        span = (closed(sessions[0], sessions[-1]),)
        shape, blocks = Shape.SYMBOL, [Block(tuple(symbols[n : n + 25]), span) for n in range(0, len(symbols), 25)]
    else:
        shape, blocks = Shape.MARKET, [Block(tuple(symbols), (closed(day, day),)) for day in sessions]
    batches = [
        Batch(f"b{number:03d}-x", context.feed.dataset, "range", shape, (block,), 1, 1, 1, of=len(blocks))
        for number, block in enumerate(blocks)
    ]
    prefixes = [receipts.prefix(context.feed.dataset, context.source, context.run, batch) for batch in batches]
    return batches, [Receipt(batch.id, prefix) for batch, prefix in zip(batches, prefixes, strict=True)]


def _rows(size: Size, context: RunContext, symbols: tuple[str, ...], sessions: tuple[date, ...]) -> pa.Table:
    """Return bars of symbols x sessions, sorted by key."""
    import numpy as np
    import pyarrow as pa

    cells, each = len(symbols) * len(sessions), size.rows
    days = np.tile(np.repeat(np.array(sessions, "datetime64[D]"), each), len(symbols))
    opening = np.timedelta64(870 if each > 1 else 0, "m")  # 14:30 UTC
    moments = days.astype("datetime64[us]") + opening + np.tile(np.arange(each) * np.timedelta64(60_000_000, "us"), cells)
    random = np.random.default_rng(len(symbols) + sessions[0].toordinal())
    close = np.round(50 + random.random(cells * each), 4)
    values = {
        "symbol": np.repeat(np.array(symbols), len(sessions) * each),
        "timeframe": pa.repeat(context.dataset.timeframe, cells * each),
        "bar_time": moments,
        "session": days,
        **dict.fromkeys(("open", "close", "vwap"), close),
        "high": close + 0.25,
        "low": close - 0.25,
        "volume": np.full(cells * each, 1000.0),
        "trade_count": np.full(cells * each, 7),
        "provider": pa.repeat("polygon", cells * each),
        "ingest_ts": np.full(cells * each, np.datetime64("2026-11-02T22:00:00", "us")),
    }
    schema = context.dataset.schema
    columns = [pa.array(values[f.name]).cast(f.type) if f.name in values else pa.nulls(cells * each, f.type) for f in schema]
    return pa.table(columns, schema=schema)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, step, chosen, place = sys.argv
        if step == "check":
            print(json.dumps(check(SIZES[chosen], place)))
        else:
            fill(SIZES[chosen], place)
    else:
        for chosen in sys.argv[1:] or ["small", "large", "minutes"]:
            print(json.dumps(measure(chosen)))
