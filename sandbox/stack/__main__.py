"""The commands behind the Makefile: ``python -m sandbox.stack up|down|run|query|migrate``.

Parameters come in environment variables.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from market_data.datasets.registry import dataset
from sandbox.stack.api import Airflow
from sandbox.stack.command import WAREHOUSE_VARIABLE, run_command
from sandbox.stack.environment import LocalError, Paths, lake_is_local_s3, lake_of
from sandbox.stack.feed import SandboxFeed, read_feed
from sandbox.stack.follow import Watch, follow, start, wait_for_dag
from sandbox.stack.holds import Holds
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import STOP_SIGNALS, held_signals
from sandbox.stack.progress import Snapshot, symbols
from sandbox.stack.report import read
from sandbox.stack.summary import Places, places, reasons, summary

MAIN_DAG = "polygon_ohlcv_1d"
RECORDED = {"AAPL", "FB", "GOOG", "IBM", "MSFT"}  # the sample API has real prices of these, to 2013-03-01
# Sessions for which the sample servers have recorded prices of some symbols; of what comes in masses, few.
SAMPLE_DATES = {
    "ohlcv-1d": ("2013-01-02", "2013-01-15"),
    **dict.fromkeys(("ohlcv-5m", "ohlcv-1m"), ("2013-01-02", "2013-01-03")),
    **dict.fromkeys(("trades", "tbbo", "statistics"), ("2013-01-02", "2013-01-02")),
    "fundamentals": ("2013-01-15", "2013-02-28"),  # when most companies file the year's statements
    "corporate-actions": ("2012-07-02", "2013-01-15"),
    "symbol-changes": ("2022-06-01", "2022-06-30"),  # FB became META
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
    elif command in {"query", "migrate"}:
        return run_command(command, paths, environ)
    else:
        raise LocalError(f"there is no command {command!r}; there are: up, down, run, query, migrate")
    return 0


def run(stack: Stack, environ: Mapping[str, str], console: Console) -> int:
    """Start components that are not running, make one run and report it.

    Return 0 if the run succeeded, 1 if it failed.

    The DAG is left as paused as it was. An interrupt ends this run, and the stack only where this command started it.
    """
    dag_id, conf = environ.get("DAG") or MAIN_DAG, parse_conf(environ.get("CONF", ""))
    feed = read_feed(dag_id, conf or {}, stack.paths, environ)
    started_here = stack.up()
    watch, airflow = None, stack.airflow
    try:
        dag = wait_for_dag(airflow, dag_id)
        conf = default_conf(feed, airflow, environ) if conf is None else conf
        console.print(f"Run of {dag_id} with {json.dumps(conf)}", soft_wrap=True, highlight=False)
        with held_signals():  # an interrupt here would leave a run that nobody knows of
            watch = Watch(airflow, dag_id, start(airflow, stack.holds, dag, conf))
        snapshot = follow(watch, console, Notices(stack.registry.log("watchdog")))
        stack.holds.release(dag_id, airflow)
        return conclude(stack, watch, snapshot, feed, console)
    except KeyboardInterrupt:
        with held_signals():
            _give_up(watch, stack.holds, dag_id, airflow)
            _end_stack(stack, started_here, console)
        raise
    except LocalError:
        _release(stack.holds, dag_id, airflow)
        raise


class Notices:
    """The lines that a log has got since the last call."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = log.stat().st_size if log.exists() else 0

    def __call__(self) -> list[str]:
        if not self._log.exists():
            return []
        content = self._log.read_bytes()
        new, self._read = content[self._read :], len(content)
        return new.decode(errors="replace").splitlines()


def conclude(stack: Stack, watch: Watch, snapshot: Snapshot, feed: SandboxFeed | None, console: Console) -> int:
    """Print the result of a run. Return the exit code."""
    key = watch.report_key()
    report = _report(key, stack, console) if key else {}
    recorded = RECORDED & symbols(watch.plan or [])
    origins = sample_origins(feed) if feed and _is_sample(feed, stack.airflow, stack.environ) else ()
    console.print()
    console.print(summary(snapshot, watch.estimate(), report, watch.receipts.values(), recorded, sample_origins=origins))
    if snapshot.state != "success":
        console.print(reasons(report, watch.reasons(), snapshot.failed_tasks))
    where = _places(stack, key)
    console.print(places(where))
    statement = example_query(feed, report, sorted(recorded)) if feed else None
    if where.warehouse and snapshot.rows and statement:
        console.print(f'\nA query to try: make query SQL="{statement}"', soft_wrap=True, highlight=False)
    console.print("\n`make run` again fetches only what is missing, `make down` ends everything.")
    return 0 if snapshot.state == "success" else 1


def sample_origins(feed: SandboxFeed) -> set[str]:
    """Return where the values of a sample server come from.

    Databento's client hides the header that names the source.
    """
    return {"recorded", "generated"} if (feed.provider, feed.dataset) == ("databento", "ohlcv-1d") else {"generated"}


def example_query(feed: SandboxFeed, report: Mapping[str, Any], recorded: Sequence[str]) -> str | None:
    """Return a SELECT that shows rows of the run; None for a dataset that is not loaded.

    Prefers recorded symbols.
    """
    if (table := dataset(feed.dataset).table) is None:
        return None
    where = [f"provider = '{feed.provider}'"]
    if recorded and table == "prices":
        where.append(f"symbol IN ({', '.join(repr(symbol) for symbol in recorded)})")
    if table != "prices":
        return f"SELECT * FROM silver_{table} WHERE {where[0]} FETCH FIRST 10 ROWS ONLY"  # noqa: S608  names of our feeds
    where.append(f"timeframe = '{feed.dataset.removeprefix('ohlcv-')}'")
    if dates := report.get("date_range"):
        where += [f"bar_time >= TIMESTAMP '{dates['from']} 00:00:00'", f"bar_time < TIMESTAMP '{_day_after(dates['to'])} 00:00:00'"]
    columns = "symbol, bar_time, open_px, high_px, low_px, close_px, volume"
    ordered = "ORDER BY bar_time DESC, symbol FETCH FIRST 10 ROWS ONLY"
    return f"SELECT {columns} FROM silver_prices WHERE {' AND '.join(where)} {ordered}"  # noqa: S608  names and dates of ours


def _day_after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=2)).isoformat()  # an evening in New York is the next day in UTC


def parse_conf(text: str) -> dict[str, Any] | None:
    """Return the run params that the user set; None without any.

    :raises LocalError: if ``text`` is not a JSON object.
    """
    if not text:
        return None
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise LocalError(f"CONF is {text!r}, which is not valid JSON: {error}") from None
    if not isinstance(conf, dict):
        raise LocalError(f"CONF is {text!r}; a JSON object is needed, e.g. CONF='{json.dumps(EXAMPLE_CONF)}'")
    return conf


def default_conf(feed: SandboxFeed | None, airflow: Airflow, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return dates with recorded prices for a sample server, else none: the last completed session."""
    # IB's futures that have expired are known for two years only; mock serves every date.
    if feed is None or feed.provider in {"ib", "mock"} or not _is_sample(feed, airflow, environ):
        return {}
    first, last = SAMPLE_DATES[feed.dataset]
    return {"start_date": first, "end_date": last}


def _is_sample(feed: SandboxFeed, airflow: Airflow, environ: Mapping[str, str]) -> bool:
    """Return True where the feed's rows come from a sample server or from the mock provider."""
    if feed.provider == "mock":
        return True
    if environ.get(f"AIRFLOW_CONN_{feed.conn_id.upper()}"):
        return False
    return airflow.connection_extra(feed.conn_id).get("plan") == "sample"


def _report(key: str, stack: Stack, console: Console) -> dict[str, Any]:
    try:
        return read(key, stack.environ, stack.ports)
    except LocalError as error:  # the run is what it is, whether its report can be shown or not
        console.print(str(error), style="yellow", markup=False)
        return {}


def _places(stack: Stack, report: str | None) -> Places:
    ours = not stack.environ.get(WAREHOUSE_VARIABLE)
    return Places(
        ui=stack.ports.airflow_url,
        password=stack.airflow.password,
        lake=lake_of(stack.environ),
        lake_server=stack.ports.s3_url if lake_is_local_s3(stack.environ) else None,
        report=report,
        warehouse=str(stack.paths.warehouse) if ours else None,
        logs=str(stack.paths.logs),
    )


def _give_up(watch: Watch | None, holds: Holds, dag_id: str, airflow: Airflow) -> None:
    """End our run, so that the next start does not continue it, and pause the DAG again."""
    try:
        if watch is not None:
            airflow.fail_run(dag_id, watch.run_id)
    except LocalError:
        pass  # Airflow is gone or busy; the hold is released all the same
    _release(holds, dag_id, airflow)


def _release(holds: Holds, dag_id: str, airflow: Airflow) -> None:
    try:
        holds.release(dag_id, airflow)
    except LocalError:
        return  # the hold stays: the watchdog, of this or of the next start, pauses the DAG


def _end_stack(stack: Stack, started_here: bool, console: Console) -> None:
    """End the stack where this command started it and no other run is active."""
    try:
        others = bool(stack.airflow.active_runs())
    except LocalError:
        others = False
    if started_here and not others:
        stack.down()
        console.print("The stack that this command started has ended.")
    else:
        console.print("The stack is still up" + ("; other runs are active. " if others else ". ") + "`make down` ends it.")


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
        Console(stderr=True).print("Interrupted.")
        return 130


if __name__ == "__main__":
    sys.exit(_entry())
