"""The commands behind the Makefile: ``python -m sandbox.stack up|down|run|query|migrate``. Parameters come in environment variables."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from market_data.config.feeds import load_feeds
from sandbox.stack.api import Airflow
from sandbox.stack.environment import LocalError, Paths, lake_is_in_memory, lake_of
from sandbox.stack.follow import Watch, follow, start, wait_for_dag
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import STOP_SIGNALS, held_signals
from sandbox.stack.progress import Snapshot, symbols
from sandbox.stack.report import read
from sandbox.stack.summary import Places, places, reasons, summary
from sandbox.stack.warehouse import EXAMPLE, VARIABLE, migrate, query

MAIN_DAG = "polygon_ohlcv_1d"
RECORDED = {"AAPL", "FB", "GOOG", "IBM", "MSFT"}  # the sample API has real prices of these, to 2013-03-01
# Sessions for which the sample servers have recorded prices of some symbols; of what comes in masses, few.
SAMPLE_DATES = {
    "ohlcv-1d": ("2013-01-02", "2013-01-15"),
    **dict.fromkeys(("ohlcv-5m", "ohlcv-1m"), ("2013-01-02", "2013-01-03")),
    **dict.fromkeys(("trades", "tbbo", "statistics"), ("2013-01-02", "2013-01-02")),
    "fundamentals": ("2013-01-15", "2013-02-28"),  # when most companies file the year's statements
    "corporate-actions": ("2012-07-02", "2013-01-15"),
}
EXAMPLE_CONF = {"start_date": "2013-01-02", "end_date": "2013-01-15"}


def main(command: str, environ: Mapping[str, str], console: Console) -> int:
    """Run one command; its exit code."""
    paths = Paths.of(Path(__file__).resolve().parents[2], environ)
    stack = Stack(paths, environ, lambda words: console.print(words, soft_wrap=True, highlight=False))
    if command == "down":
        stack.down()
        console.print("Nothing of the local stack is running.")
    elif command == "up":
        stack.up()
        console.print(places(_places(stack, None)))
        console.print("\n`make run` makes a run, `make down` ends everything.")
    elif command == "run":
        return run(stack, environ, console)
    elif command == "query":
        query(paths, environ, console)
    elif command == "migrate":
        migrate(paths, environ, console)
    else:
        raise LocalError(f"there is no command {command!r}; there are: up, down, run, query, migrate")
    return 0


def run(stack: Stack, environ: Mapping[str, str], console: Console) -> int:
    """Bring everything up, make one run and tell of it: 0 when it is green, 1 when it is red. An interrupt ends everything."""
    dag_id, conf = environ.get("DAG") or MAIN_DAG, parse_conf(environ.get("CONF", ""))
    stack.up()
    watch = None
    try:
        airflow = stack.airflow
        dag = wait_for_dag(airflow, dag_id)
        conf = default_conf(dag_id, airflow, environ) if conf is None else conf
        console.print(f"Run of {dag_id} with {json.dumps(conf)}", soft_wrap=True, highlight=False)
        watch = Watch(airflow, dag_id, start(airflow, dag, conf))
        return conclude(stack, watch, follow(watch, console), console)
    except KeyboardInterrupt:
        with held_signals():
            _give_up(watch)
            stack.down()
        raise


def conclude(stack: Stack, watch: Watch, snapshot: Snapshot, console: Console) -> int:
    """Say what became of the run; its exit code."""
    key = watch.report_key()
    report = _report(key, stack, console) if key else {}
    console.print()
    console.print(summary(snapshot, watch.estimate(), report, watch.receipts.values(), RECORDED & symbols(watch.plan or [])))
    if snapshot.state != "success":
        console.print(reasons(report, watch.reasons(), snapshot.failed_tasks))
    where = _places(stack, key)
    console.print(places(where))
    if where.warehouse and snapshot.rows:
        console.print(f'\nA query to try: make query SQL="{EXAMPLE}"', soft_wrap=True, highlight=False)
    console.print("\n`make run` again fetches only what is missing, `make down` ends everything.")
    return 0 if snapshot.state == "success" else 1


def parse_conf(text: str) -> dict[str, Any] | None:
    """The run params that the user gave; None where there are none.

    :raises LocalError: if ``text`` is no JSON object.
    """
    if not text:
        return None
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise LocalError(f"CONF is {text!r}, which is no JSON: {error}") from None
    if not isinstance(conf, dict):
        raise LocalError(f"CONF is {text!r}; a JSON object is needed, e.g. CONF='{json.dumps(EXAMPLE_CONF)}'")
    return conf


def default_conf(dag_id: str, airflow: Airflow, environ: Mapping[str, str]) -> dict[str, Any]:
    """Sessions of the recorded prices where a sample server is asked; else none, which means the last completed session."""
    feed = next((feed for feed in load_feeds() if feed.dag_id == dag_id), None)
    if feed is None or environ.get(f"AIRFLOW_CONN_{feed.conn_id.upper()}"):
        return {}
    # Futures that have expired are known for two years only.
    if feed.provider == "ib" or airflow.connection_extra(feed.conn_id).get("plan") != "sample":
        return {}
    first, last = SAMPLE_DATES[feed.dataset]
    return {"start_date": first, "end_date": last}


def _report(key: str, stack: Stack, console: Console) -> dict[str, Any]:
    try:
        return read(key, stack.environ, stack.paths, stack.ports)
    except LocalError as error:  # the run is what it is, whether its report can be shown or not
        console.print(str(error), style="yellow", markup=False)
        return {}


def _places(stack: Stack, report: str | None) -> Places:
    ours = not stack.environ.get(VARIABLE)
    return Places(
        ui=stack.ports.airflow_url,
        password=stack.airflow.password,
        lake=lake_of(stack.environ),
        lake_server=stack.ports.s3_url if lake_is_in_memory(stack.environ) else None,
        report=report,
        warehouse=str(stack.paths.warehouse) if ours else None,
        logs=str(stack.paths.logs),
    )


def _give_up(watch: Watch | None) -> None:
    """End our run, so that the next start does not take it up again."""
    if watch is None:
        return
    try:
        watch.airflow.fail_run(watch.dag_id, watch.run_id)
    except LocalError:
        return  # Airflow is gone or busy; it is ended next anyway


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    raise KeyboardInterrupt


def _entry() -> int:
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        return main(sys.argv[1] if len(sys.argv) > 1 else "", os.environ, console)
    except LocalError as error:
        Console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True, highlight=False, markup=False)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; nothing of the local stack is running.")
        return 130


if __name__ == "__main__":
    sys.exit(_entry())
