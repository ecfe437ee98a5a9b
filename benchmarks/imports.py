"""Measure what each task imports of ours on top of Airflow's task runner: CPU seconds, memory.

``python -m benchmarks.imports`` starts a process for each step, which imports Airflow's task runner first. It prints a line of JSON each.
``dag processor`` parses ``dags/ingest.py`` with all feeds; a task's process makes its own DAG only, then imports what its step needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
DAG = "polygon_ohlcv_1d"
STEPS = {
    "dag processor": "",
    "plan": "from market_data.pipeline import plan_run; import market_data.providers.polygon.hook, market_data.lake.ledger",
    "fetch": "from market_data.pipeline import fetch_batch; import market_data.providers.polygon.hook, market_data.lake.writer",
    "check": "from market_data.quality.great_expectations import library; import market_data.quality.checkpoint, duckdb; library()",
    "load": "from market_data.pipeline import load_run; import market_data.warehouse, duckdb",
    "publish": "from market_data.pipeline import publish_run; import market_data.lake.ledger",
    "verdict": "",
}
CHILD = """
import json, os, sys, time
import airflow.sdk.execution_time.task_runner
step, dag, code = sys.argv[1:]
if step != "dag processor":
    os.environ |= {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": dag, "_AIRFLOW_PARSING_CONTEXT_TASK_ID": step}
def memory():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
def figures(before, began):
    modules = len(set(sys.modules) - before[0])
    return {"cpu_seconds": round(time.process_time() - began, 2), "modules": modules, "mb": round(memory() - before[1])}
before, began = (set(sys.modules), memory()), time.process_time()
sys.path.insert(0, "dags")
import ingest
parsed = figures(before, began)
exec(code)
print(json.dumps({"step": step, "parse_cpu_seconds": parsed["cpu_seconds"], **figures(before, began)}))
"""


def measure(step: str) -> dict[str, object]:
    """Return the figures of one of ``STEPS``."""
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": home}
        command = [sys.executable, "-c", CHILD, step, DAG, STEPS[step]]
        done = subprocess.run(command, env=environ, cwd=PROJECT, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or STEPS:
        print(json.dumps(measure(name)))
