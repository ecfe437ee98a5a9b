"""Measure the CPU time and the memory of a fetch task that writes minute bars to a local lake.

``python -m benchmarks.fetch_memory [PROVIDER ...]`` starts the sample servers in this process. For each provider and file grain, a child
process with the imports of an Airflow task runs the batches of 100 symbols x 20 sessions, one after another. Prints a line of JSON each:
rows, rows per second of the child's CPU time (user and system; waiting for the server is not in it), and its peak memory in MB before and
after. FMP has daily bars only: 12 years of 250 symbols, and with day files, one for each row, a month of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measurement import inherited

PROJECT = Path(__file__).resolve().parents[1]
PROVIDERS = ("alpaca", "polygon", "databento", "fmp", "ib", "mock")
ENDPOINTS = {"alpaca": "bars", "polygon": "range", "ib": "historical", "fmp": "history", "mock": "symbol"}
MINUTES = (date(2012, 3, 1), date(2012, 3, 28))
DAYS = {"year": (date(2003, 1, 2), date(2014, 12, 31)), "day": MINUTES}

CHILD = """
import json, resource, sys
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
from market_data.core.garbage import spare_what_is_loaded
from market_data.config.universes import members

def peak():
    # VmHWM, not ru_maxrss: the latter is inherited from the parent that forked this process.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

name, dataset, url, folder, symbols, first, last, grain, endpoint, planned = json.loads(sys.argv[1])
feed = next(feed for feed in load_feeds() if feed.provider == name and feed.dataset == dataset)
extra = {"calls_per_minute_per_slot": 60000, "limits": []} | ({"plan": "sample"} if name != "mock" else {})
config = ProviderConfig(f"{name}_default", url, "sample", "db-key" if name == "databento" else "key", extra)
hook = provider(name)(config=config)
# The sample servers have the regular minutes only: planned as so many, a batch holds as many rows as it may.
regular = 390 if dataset == "ohlcv-1m" else 1
endpoints = tuple(replace(endpoint, rows_per_session=regular) for endpoint in hook._endpoints(feed.dataset))
hook._endpoints = lambda dataset: endpoints
now = datetime.now(UTC)
run = RunInfo(feed.dag_id, "r", "manual", 0, now)
params = replace(RunParams("sp500_etf"), batch_size=1000, endpoint=endpoint, file_grain=grain)
context = pipeline.RunContext(feed, params, run, Lake.open(f"file://{folder}"), Layout(), name)
sessions = calendar.sessions(date.fromisoformat(first), date.fromisoformat(last))
if planned is None:  # a process of its own, as in Airflow
    found = pipeline.plan_run(context, hook, Wanted(sessions), members("sp500_etf")[:symbols], now)
    print(json.dumps([batch.to_json() for batch in found.plan.batches]))
    raise SystemExit
hook.connect()
before, began = peak(), cpu()
with hook:
    spare_what_is_loaded()  # as the task does
    receipts = [pipeline.fetch_batch(context, hook, Batch.from_json(batch), lambda: datetime.now(UTC)) for batch in planned]
seconds = cpu() - began
names = {"rows": "rows_landed", "files": "files_written", "calls": "calls"}
figures = {short: sum(getattr(receipt, long) for receipt in receipts) for short, long in names.items()}
figures |= {"batches": len(planned), "cpu_seconds": round(seconds, 2), "rows_per_cpu_second": round(figures["rows"] / seconds)}
print(json.dumps({"provider": name, "grain": grain, **figures, "before_mb": before, "peak_mb": peak()}))
"""


@contextmanager
def serving(name: str) -> Iterator[str]:
    """Run the sample server of a provider; yield its address."""
    from sandbox.http import SampleApi
    from sandbox.ib_gateway import SampleGateway

    if name == "ib":
        with SampleGateway() as gateway:
            yield gateway.address
    else:
        with SampleApi(api_key="key") as api:
            yield {"polygon": api.url, "mock": ""}.get(name, f"{api.url}/{name}")


def measure(name: str, grain: str = "day", symbols: int | None = None) -> dict[str, Any]:
    """Run the batches of the provider ``name`` and return rows, calls, CPU seconds and memory.

    :param symbols: how many to fetch; None: 100 of minutes, 250 of days.
    """
    dataset, (first, last) = ("ohlcv-1d", DAYS[grain]) if name == "fmp" else ("ohlcv-1m", MINUTES)
    count = symbols or (250 if name == "fmp" else 100)
    with serving(name) as url, tempfile.TemporaryDirectory() as folder:
        env = {**inherited(), "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": f"{folder}/airflow"}
        found: Any = None
        for _ in ("plan", "fetch"):
            given = [name, dataset, url, f"{folder}/lake", count, str(first), str(last), grain, ENDPOINTS.get(name, "auto"), found]
            command = [sys.executable, "-c", CHILD, json.dumps(given)]
            done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
    return dict(found)


if __name__ == "__main__":
    for provider_name in sys.argv[1:] or PROVIDERS:
        for file_grain in ("year", "day"):
            print(json.dumps(measure(provider_name, file_grain)), flush=True)
