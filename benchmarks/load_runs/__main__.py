"""Make load runs on a real Airflow: ``python -m benchmarks.load_runs [NAME...]``; all by default.

Each case starts a stack of its own in a temporary folder, on free ports: scheduler, api-server, sample API, DuckDB, a lake in a folder.
Its rows, objects and calls are known before; they are counted in the lake, the warehouse and the server's log. ``--small`` makes runs of
less than a minute. ``--write`` puts the figures into ``docs/reference/load-runs.md``. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.latency import PROJECT
from benchmarks.load_runs import page
from benchmarks.load_runs.cases import CASES, SMALL, TICKERS, Case
from benchmarks.load_runs.make import make
from benchmarks.load_runs.results import Found
from sandbox.stack.environment import PORT_VARIABLES, Paths
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import free_port

RATE = {"calls_per_minute_per_slot": 6000, "limits": [{"calls": 1000, "seconds": 1}]}
"""No limit of calls that slows a run."""


def main(arguments: list[str]) -> int:
    """Make the named runs; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_runs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CASES)}; by default all")
    parser.add_argument("--small", action="store_true", help="sizes that take less than a minute")
    parser.add_argument("--write", action="store_true", help=f"write the figures into {page.PAGE.relative_to(PROJECT)}")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(CASES)):
        parser.error(f"no load run {', '.join(unknown)}; there are {', '.join(CASES)}")
    found: dict[str, Found] = {}
    for name in options.names or CASES:
        case = CASES[name](**(SMALL[name] if options.small else {}))
        with tempfile.TemporaryDirectory(prefix="load-") as folder, running(Path(folder), case) as stack:
            found[name] = make(stack, case, Path(folder) / "lake")
        print(page.lines(found[name]), flush=True)
        if options.write:
            page.write(found[name])
    print(f"\n{page.table(found.values())}")
    return int(any(one.problems for one in found.values()))


@contextmanager
def running(folder: Path, case: Case) -> Iterator[Stack]:
    """Yield a stack of its own with the case's prices and pools; end it afterwards."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA"))}
    environ |= {name: str(free_port()) for name in PORT_VARIABLES.values()}
    environ |= {"MARKET_DATA_LOCAL_DIR": str(folder), "MARKET_DATA_LAKE": f"file://{folder / 'lake'}"}
    (folder / "lake").mkdir()
    environ |= {"AIRFLOW_CONN_POLYGON_DEFAULT": json.dumps(_polygon(environ["SAMPLE_API_PORT"]))}
    if case.prices:
        case.write_prices(folder / "prices.parquet")
        (folder / TICKERS).write_text("\n".join(case.prices[0]))
        environ["SAMPLE_API_DATA"] = str(folder / "prices.parquet")
    stack = Stack(Paths.of(PROJECT, environ), environ, lambda words: print(words, file=sys.stderr))
    try:
        stack.up()
        for pool, slots in case.slots.items():
            stack.airflow.resize(pool, slots)
        yield stack
    finally:
        stack.down()


def _polygon(port: str) -> Mapping[str, Any]:
    extra = {"plan": "sample", **RATE}
    return {"conn_type": "http", "host": f"http://127.0.0.1:{port}/polygon", "password": "sample-key", "extra": extra}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
