"""Run benchmarks, one line per measurement: ``make bench``, ``make bench ARGS=fetch``.

A benchmark is a module of this folder that can be run; what it prints as lines of JSON are its measurements. Results are kept in
`.local/bench/results.json`; ``--write`` puts them into the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.measurement import PROJECT, Measurement

FOLDER = Path(__file__).parent
RESULTS = PROJECT / ".local" / "bench" / "results.json"
ARGUMENTS: dict[str, tuple[str, ...]] = {"warehouse_load": ("duckdb",), "pages": ("folded",), "audit": ("year",)}
"""The arguments where all benchmarks are run: the parts that take a minute or two."""
ON_REQUEST = ("compaction", "fetch_memory", "latency", "rate_limits")
"""Run by name only: they take many minutes, or measure a part of what another one does."""


def names() -> list[str]:
    """Return the names of all benchmarks."""
    paths = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__main__")
    return [path.stem for path in paths if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]


def measurements(name: str, arguments: Sequence[str]) -> Iterator[Measurement]:
    """Run a benchmark and yield its measurements as they come.

    :raises RuntimeError: if it fails.
    """
    env = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    with subprocess.Popen(command, env=env, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{"):
                yield Measurement.read(name, json.loads(line))
            else:
                sys.stderr.write(line)
    if process.returncode:
        raise RuntimeError(f"the benchmark {name} failed with exit status {process.returncode}")


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(names())}; by default all but {', '.join(ON_REQUEST)}"
    )
    parser.add_argument("--write", action="store_true", help=f"write the results into {report.PAGE.relative_to(PROJECT)}")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(names())):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    results, failed = report.read(RESULTS), False
    for name in options.names or [name for name in names() if name not in ON_REQUEST]:
        found = []
        machine, load = report.machine(), os.getloadavg()[0]
        try:
            for measurement in measurements(name, () if options.names else ARGUMENTS.get(name, ())):
                print(measurement, flush=True)
                found.append(measurement)
        except RuntimeError as error:
            failed = True
            sys.stderr.write(f"{error}\n")
            continue
        results[name] = report.Run(f"{datetime.now(UTC):%Y-%m-%d}", machine, round(load, 1), tuple(found))
    report.save(results, RESULTS)
    print(f"\n{report.tables(results)}\nResults: {RESULTS.relative_to(PROJECT)}")
    if options.write:
        report.write(results)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
