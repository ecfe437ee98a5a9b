"""Measure reading a ledger of 1.3 million cells: in many objects, and folded by maintenance.

``python -m benchmarks.ledger [OBJECTS]`` (default 5,000) reads each in a process of its own, as ``plan`` and ``publish`` do once. It prints
a line of JSON each: objects, cells, CPU seconds, seconds, peak memory in MB before and after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measurement import peak_mb
from market_data.core import calendar
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import read_coverage, write_cells
from market_data.lake.store import Lake
from market_data.maintenance.ledger_folding import fold_ledger

PROJECT = Path(__file__).resolve().parents[1]
SYMBOLS = [f"S{number:03d}" for number in range(523)]
PLACE = ("ohlcv-1d", "polygon")
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def measure(objects: int = 5_000) -> list[dict[str, object]]:
    """Return the figures of a ledger of ``objects`` objects, and of the same ledger folded."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(f"file://{folder}")
        fill(lake, objects)
        loose = _read(folder)
        fold_ledger(lake, *PLACE, NOW)
        return [loose, _read(folder)]


def fill(lake: Lake, objects: int) -> None:
    """Record every cell as ``have``, session after session, in ``objects`` objects."""
    sessions = calendar.sessions(date(2016, 1, 1), date(2026, 1, 1))
    for number, part in enumerate(np.array_split(np.arange(len(SYMBOLS) * len(sessions)), objects)):
        columns = [
            pa.array(SYMBOLS).take(pa.array(part % len(SYMBOLS))),
            pa.array(sessions, pa.date32()).take(pa.array(part // len(SYMBOLS))),
            pa.repeat("have", len(part)),
            pa.repeat("", len(part)),
        ]
        day = sessions[part[0] // len(SYMBOLS)]
        run = RunInfo("polygon_ohlcv_1d", f"scheduled__{number}", "scheduled", 0, datetime(day.year, day.month, 28, tzinfo=UTC))
        write_cells(lake, *PLACE, run, "b1", pa.table(columns, schema=CELLS), recorded_at=run.started, compared=True)


def read(folder: str) -> dict[str, object]:
    """Read the ledger of the lake in ``folder``."""
    lake, before = Lake.open(f"file://{folder}"), peak_mb()
    began, cpu = time.monotonic(), time.process_time()
    coverage = read_coverage(lake, *PLACE)
    return {
        "objects": len(lake.list("manifest")),
        "cells": len(coverage),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "seconds": round(time.monotonic() - began, 2),
        "peak_mb": peak_mb(),
        "before_mb": before,
    }


def _read(folder: str) -> dict[str, object]:
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    command = [sys.executable, "-m", "benchmarks.ledger", "--child", folder]
    done = subprocess.run(command, env=environ, cwd=PROJECT, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(read(sys.argv[2])))
    else:
        for figures in measure(*map(int, sys.argv[1:2])):
            print(json.dumps(figures))
