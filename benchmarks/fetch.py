"""Measure stacks that fetch 770,000 minute bars and write them as Parquet: ours, peers, and the floor.

Usage: ``python -m benchmarks.fetch [PART OF A NAME ...]``. Every stack fetches the same bytes from the same server on this machine
(`vendor_server`), in a process of its own on one core; server and runner have another. Imports are not timed. Each is run three times
after the bodies are prepared, and the run with the median time is reported. All that a stack wrote is read back and compared with what the
first floor of the provider wrote: number of rows, and a checksum of symbol, minute, prices and volume.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.measurement import SERVERS_CORE, Measurement, child
from benchmarks.parquet_values import Values, read_values
from benchmarks.stacks.harness import Job
from benchmarks.vendor_server import VendorServer, prepared

RUNS = 3
SYMBOLS, FIRST, LAST = 100, date(2024, 2, 1), date(2024, 2, 29)
"""Twenty sessions of 390 minutes, a few of which have no trade."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A way to fetch bars.

    :param name: as the table has it, unique per provider.
    :param module: in `benchmarks.stacks`. ``option``: its variant.
    :param packages: those whose versions are printed; the stack is not run if one is missing.
    :param peer: it runs in the environment of the peers.
    """

    name: str
    provider: str
    module: str
    option: str = ""
    packages: tuple[str, ...] = ()
    peer: bool = True


FLOOR = ("msgspec", "pyarrow")
STACKS = (
    *(
        stack
        for provider in ("alpaca", "polygon", "databento")
        for floor in ("floor_databento" if provider == "databento" else "floor",)
        for stack in (
            Stack("floor, a file per symbol", provider, floor, "symbol", FLOOR),
            Stack("floor, a file per symbol and session", provider, floor, "day", FLOOR),
            Stack("ours, a file per symbol", provider, "ours", "year", peer=False),
            Stack("ours, a file per symbol and session", provider, "ours", "day", peer=False),
        )
    ),
    Stack("alpaca-py raw, DuckDB COPY", "alpaca", "alpaca_client", "raw", ("alpaca-py", "duckdb")),
    Stack("alpaca-py models, DuckDB COPY", "alpaca", "alpaca_client", "models", ("alpaca-py", "duckdb")),
    Stack("DuckDB read_json, COPY", "polygon", "duckdb_json", packages=("duckdb", "requests")),
    Stack("dlt, yielding Arrow", "polygon", "dlt_pipeline", "arrow", ("dlt", "pyarrow")),
    Stack("massive, pandas", "polygon", "massive_client", packages=("massive", "pandas")),
    Stack("dlt rest_api", "polygon", "dlt_pipeline", "rest_api", ("dlt", "pyarrow")),
    Stack("databento to_parquet", "databento", "databento_client", packages=("databento", "pandas")),
)
"""The first of a provider is the one that the others are compared with."""


def job_of(symbols: int, first: date = FIRST, last: date = LAST) -> Job:
    """Return the job of so many symbols, in one group, without a server and a folder.

    :param first, last: dates of sessions in New York, both inclusive.
    """
    from market_data.config.universes import members
    from market_data.core.calendar import NEW_YORK
    from market_data.core.intervals import closed

    chosen = [symbol for symbol in members("sp500_etf") if symbol.isalpha()][:symbols]
    span = closed(first, last)
    start, end = (datetime.combine(day, time(), NEW_YORK).astimezone(UTC).isoformat().replace("+00:00", "Z") for day in span)
    return Job("", [chosen], start, end, str(first), str(last), "")


def planned(provider: str, job: Job) -> tuple[Job, list[Any]]:
    """Return the job with the groups of symbols that our plan requests, and the plan's batches.

    The sample API responds to the plan.
    """
    from market_data.core.batch import Batch
    from sandbox.http import SampleApi

    with SampleApi(api_key="key") as api, tempfile.TemporaryDirectory() as folder:
        here = replace(job, url=f"{api.url}/{provider}", folder=folder)
        (found,) = child(["-m", "benchmarks.stacks.ours", json.dumps(asdict(here)), "plan"], env={"AIRFLOW_HOME": folder})
    batches = [Batch.from_json(batch) for batch in found["batches"]]
    groups = [list(request.symbols) for batch in batches for request in batch.requests(batch.sessions)]
    return replace(job, groups=groups), found["batches"]


def run(stack: Stack, job: Job, batches: Sequence[Any], folder: Path) -> tuple[dict[str, Any], Values]:
    """Run a stack once, and return its figures and what it wrote.

    :param folder: exists, and gets the stack's files.
    """
    lake, home = folder / "lake", folder / "home"
    lake.mkdir()
    option = stack.option if stack.peer else json.dumps([stack.option, batches])
    arguments = json.dumps(asdict(replace(job, folder=str(lake), option=option)))
    python = peers.PYTHON if stack.peer else Path(sys.executable)
    command = ["-m", f"benchmarks.stacks.{stack.module}", arguments]
    (found,) = child(command, python=python, env={"AIRFLOW_HOME": str(home), "HOME": str(home)})
    return found, read_values(lake if stack.peer else lake / "raw")


def measurements(stacks: Sequence[Stack] = STACKS, job: Job | None = None, runs: int = RUNS) -> Iterator[Measurement]:
    """Yield a measurement per stack, provider by provider.

    The stacks of a provider take turns, so that all see the same machine. Their files are deleted after the last run: after files are
    deleted, ext4 may for minutes take several times as long to make one, which says nothing of the stack that makes it.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from _measurements(stacks, job, runs, Path(folder))


def _measurements(stacks: Sequence[Stack], job: Job | None, runs: int, folder: Path) -> Iterator[Measurement]:
    job = job or job_of(SYMBOLS)
    installed = peers.versions()
    for provider in dict.fromkeys(stack.provider for stack in stacks):
        here, batches = planned(provider, job)
        own = [stack for stack in stacks if stack.provider == provider]
        missing = {stack: [name for name in stack.packages if name not in installed] for stack in own}
        not_run = {stack: f"{', '.join(names)} is not installed" for stack, names in missing.items() if names}
        found: dict[Stack, list[tuple[dict[str, Any], Values]]] = {stack: [] for stack in own}
        with VendorServer(prepared([(provider, here)])) as server:
            here = replace(here, url=server.url(provider))
            for stack in [stack for _ in range(runs) for stack in own]:
                try:
                    found[stack] += [] if stack in not_run else [_observed(server, stack, here, batches, folder)]
                except RuntimeError as error:
                    not_run[stack] = f"failed: {str(error).splitlines()[-1][:200]}"
        reference = next((runs_of[0][1] for stack, runs_of in found.items() if stack not in not_run), None)
        for stack in own:
            if stack in not_run or reference is None:
                yield Measurement("fetch", stack.name, figures={"provider": provider, "not_run": not_run[stack]})
            else:
                yield _measurement(stack, found[stack], reference, installed)


def _observed(server: VendorServer, stack: Stack, job: Job, batches: Sequence[Any], folder: Path) -> tuple[dict[str, Any], Values]:
    """Run a stack once; its figures tell what it took from the server."""
    sent, cpu = server.sent, server.cpu_seconds
    figures, values = run(stack, job, batches, Path(tempfile.mkdtemp(dir=folder)))
    return {**figures, "bytes_received": server.sent - sent, "server_cpu_seconds": round(server.cpu_seconds - cpu, 3)}, values


def _measurement(
    stack: Stack, found: Sequence[tuple[dict[str, Any], Values]], reference: Values, installed: dict[str, str]
) -> Measurement:
    """Return the run with the median time, beside what all its runs wrote."""
    by_time = sorted(found, key=lambda one: one[0]["seconds"])
    figures, values = by_time[len(found) // 2]
    written = {
        "provider": stack.provider,
        "runs": len(found),
        "rows": values.rows,
        "rows_per_second": round(values.rows / figures["seconds"]),
        "files": values.files,
        "bytes_per_row": round(values.bytes / max(values.rows, 1), 1),
        "checksum": values.checksum,
        "same_values": all(one.same_rows(reference) for _, one in found),
        "versions": {name: installed[name] for name in stack.packages},
    }
    return Measurement.read("fetch", {"case": stack.name, **figures, **written})


def main(parts: Sequence[str]) -> None:
    """Measure the stacks whose provider or name contains one of ``parts``; all if there is none."""
    peers.install()
    os.sched_setaffinity(0, {SERVERS_CORE})
    chosen = [stack for stack in STACKS if not parts or any(part in f"{stack.provider} {stack.name}" for part in parts)]
    for measurement in measurements(chosen):
        print(json.dumps(measurement.to_json()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
