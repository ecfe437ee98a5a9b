"""This project: the batches of a run, as its task ``fetch`` runs them.

Reach, evidence, gate, lake files, staging and receipts are all there. The process has the imports of a task of Airflow, in their order:
Arrow takes its memory pool from what the module of the tasks says, so that has to come before Arrow. Modules that the task imports where
it needs them are loaded before the work, as those of the other stacks are: imports are not timed.

The option is JSON: the file grain, and the batches to fetch. With ``plan`` as second argument it prints the batches of the run instead.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow.sdk.execution_time.task_runner  # noqa: F401  what a task's process has loaded
from airflow.sdk.log import configure_logging, reset_logging

from benchmarks.stacks.harness import KEY, Job, run
from market_data import pipeline
from market_data.airflow import dag, tasks  # noqa: F401
from market_data.config.feeds import load_feeds
from market_data.config.run_params import RunParams
from market_data.core import calendar
from market_data.core.batch import Batch
from market_data.core.garbage import spare_what_is_loaded
from market_data.core.intervals import closed
from market_data.core.run import RunInfo
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig, ProviderHook
from market_data.providers.registry import provider

LATE = (
    *(f"lake.{name}" for name in ("begun", "clock", "failures", "quarantine", "receipts", "staging", "writer")),
    *("pipeline.fetch", "quality.gate"),
)
"""Modules that the task imports where it needs them; they are below ``market_data``."""
ENDPOINTS = {"alpaca": "bars", "polygon": "range", "databento": "range"}
RUN = RunInfo("benchmark", "r", "manual", 0, datetime(2026, 11, 30, tzinfo=UTC))


def prepare(job: Job, grain: Any) -> tuple[pipeline.RunContext, ProviderHook]:
    """Return the run and the hook. The account has no limits: the server is the bench's own."""
    name = job.url.rsplit("/", 1)[-1]
    (feed,) = (feed for feed in load_feeds() if feed.dag_id == f"{name}_ohlcv_1m")
    extra = {"plan": "sample", "calls_per_minute_per_slot": 600_000, "limits": []}
    key = f"db-{KEY}" if name == "databento" else KEY
    hook = provider(name)(config=ProviderConfig(f"{name}_default", job.url, "sample", key, extra))
    # The server has the regular minutes only: planned as so many, a batch holds as many rows as it may.
    endpoints = tuple(replace(endpoint, rows_per_session=390) for endpoint in hook._endpoints(feed.dataset))  # noqa: SLF001
    hook._endpoints = lambda dataset: endpoints  # type: ignore[method-assign]  # noqa: ARG005, SLF001
    params = replace(RunParams("sp500_etf"), batch_size=1000, endpoint=ENDPOINTS[name], file_grain=grain)
    return pipeline.RunContext(feed, params, RUN, Lake.open(f"file://{job.folder}"), Layout(), name), hook


def plan(job: Job) -> list[dict[str, Any]]:
    """Return the batches that fetch the whole span of all symbols."""
    context, hook = prepare(job, "year")
    sessions = calendar.sessions_in((closed(date.fromisoformat(job.first), date.fromisoformat(job.last)),))
    found = pipeline.plan_run(context, hook, Wanted(sessions), tuple(job.symbols), datetime.now(UTC))
    return [batch.to_json() for batch in found.plan.batches]


def log_as_a_task(job: Job) -> None:
    """Write log lines as a task's process sends them to its supervisor, which writes them to a file."""
    reset_logging()
    log = Path(job.folder).with_name("task.log").open("wb", buffering=0)
    configure_logging(json_output=True, output=log, sending_to_supervisor=True)


def load_modules(job: Job) -> None:
    """Import what the work needs."""
    provider(job.url.rsplit("/", 1)[-1])
    for name in LATE:
        import_module(f"market_data.{name}")


def work(job: Job) -> None:
    """Fetch all batches, one after another."""
    grain, batches = json.loads(job.option)
    context, hook = prepare(job, grain)
    with hook:
        spare_what_is_loaded()  # as the task does
        for batch in batches:
            receipt = pipeline.fetch_batch(context, hook, Batch.from_json(batch), lambda: datetime.now(UTC))
            assert not receipt.failed, receipt.failed


if __name__ == "__main__":
    if sys.argv[2:] == ["plan"]:
        print(json.dumps({"batches": plan(Job(**json.loads(sys.argv[1])))}))
    else:
        given = Job(**json.loads(sys.argv[1]))
        log_as_a_task(given)
        load_modules(given)
        run(work)
