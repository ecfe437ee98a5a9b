"""Measure the peak memory of a fetch task that writes 400,000 minute bars to a local lake.

``python -m benchmarks.fetch_memory [alpaca|polygon]`` starts the sample API in this process and one batch in a child process that
has the imports of an Airflow task. It prints one line of JSON: rows, seconds, and the peak memory in MB before and after the batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SYMBOLS, FIRST, LAST = 41, date(2012, 3, 1), date(2012, 4, 5)  # 41 x 25 sessions x 390 minutes

CHILD = """
import json, sys, time
import airflow.sdk.execution_time.task_runner
from datetime import UTC, date, datetime
from dataclasses import replace
from market_data import pipeline
from market_data.airflow import dag, tasks  # as in a task of Airflow
from market_data.core import calendar
from market_data.config.feeds import load_feeds
from market_data.providers.registry import provider
from market_data.providers.base import ProviderConfig
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.config.run_params import RunParams
from market_data.pipeline.run_sessions import Wanted
from market_data.core.run import RunInfo
from market_data.core.batch import Batch
from market_data.config.universes import members

def peak():
    # VmHWM, not ru_maxrss: the latter is inherited from the parent that forked this process.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)

name, url, folder, symbols, first, last, grain, planned = json.loads(sys.argv[1])
feed = next(feed for feed in load_feeds() if feed.dag_id == f"{name}_ohlcv_1m")
config = ProviderConfig(f"{name}_default", url, "sample", "key", {"plan": "sample", "calls_per_minute_per_slot": 60000, "limits": []})
hook = provider(name)(config=config)
# The sample API has the regular minutes only: planned as so many, a batch holds as many rows as it may.
endpoints = tuple(replace(endpoint, rows_per_session=390) for endpoint in hook._endpoints(feed.dataset))
hook._endpoints = lambda dataset: endpoints
now = datetime.now(UTC)
run = RunInfo(feed.dag_id, "r", "manual", 0, now)
params = replace(RunParams("sp500_etf"), batch_size=1000, endpoint="bars" if name == "alpaca" else "range", file_grain=grain)
context = pipeline.RunContext(feed, params, run, Lake.open(f"file://{folder}"), Layout(), name)
sessions = calendar.sessions(date.fromisoformat(first), date.fromisoformat(last))
if planned is None:  # a process of its own, as in Airflow
    found = pipeline.plan_run(context, hook, Wanted(sessions), members("sp500_etf")[:symbols], now)
    print(json.dumps(max(found.plan.batches, key=lambda batch: batch.rows).to_json()))
    raise SystemExit
batch = Batch.from_json(planned)
hook.connect()
before, began = peak(), time.monotonic()
with hook:
    receipt = pipeline.fetch_batch(context, hook, batch, lambda: datetime.now(UTC))
seconds = round(time.monotonic() - began, 1)
figures = {"rows": receipt.rows_landed, "files": receipt.files_written, "calls": receipt.calls, "seconds": seconds}
print(json.dumps({"provider": name, "grain": grain, **figures, "before_mb": before, "peak_mb": peak()}))
"""


def measure(name: str, grain: str = "day") -> dict[str, object]:
    """Run one batch of the provider ``name`` and return its rows, calls, seconds and memory."""
    from sandbox.http import SampleApi

    with SampleApi(api_key="key") as api, tempfile.TemporaryDirectory() as folder:
        url = api.url if name == "polygon" else f"{api.url}/{name}"
        env = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": f"{folder}/airflow"}
        found: dict[str, object] | None = None
        for _ in ("plan", "fetch"):
            arguments = json.dumps([name, url, f"{folder}/lake", SYMBOLS, str(FIRST), str(LAST), grain, found])
            command = [sys.executable, "-c", CHILD, arguments]
            done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
    return found or {}


if __name__ == "__main__":
    for provider_name in sys.argv[1:] or ["alpaca", "polygon"]:
        for file_grain in ("day", "year"):
            print(json.dumps(measure(provider_name, file_grain)))
