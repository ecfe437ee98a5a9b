"""Parts of all benchmarks: a measurement and its line, memory and CPU time, a child process.

The module imports the standard library only: the peers run it in an environment of their own.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
CORES = sorted(os.sched_getaffinity(0))
CORE, SERVERS_CORE = CORES[0], CORES[-1]
"""The core of what is measured, and the core of the server and of the runner."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured case.

    :param benchmark: name of the benchmark, such as ``fetch``.
    :param case: what was measured, unique within the benchmark.
    :param seconds: wall time; ``cpu_seconds``: user and system time of the process. None where it was not measured.
    :param peak_mb: most memory that the process ever held, its imports included.
    :param figures: everything else, by name.
    """

    benchmark: str
    case: str
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_mb: int | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, benchmark: str, found: Mapping[str, Any]) -> Measurement:
        """Return the measurement of one line of figures.

        Its case is the figure ``case``, or all figures that are text: ``{"provider": "polygon", "grain": "day"}`` is "polygon day".
        """
        rest = {name: value for name, value in found.items() if name != "benchmark"}
        seconds, cpu, peak = (rest.pop(name, None) for name in ("seconds", "cpu_seconds", "peak_mb"))
        if "case" not in rest:
            words = [name for name, value in rest.items() if isinstance(value, str)]
            rest["case"] = " ".join(rest.pop(name) for name in words)
        return cls(benchmark, rest.pop("case"), seconds, cpu, peak, rest)

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as one flat dictionary, without what was not measured."""
        known = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mb": self.peak_mb}
        return {
            "benchmark": self.benchmark,
            "case": self.case,
            **{name: value for name, value in known.items() if value is not None},
            **self.figures,
        }

    def __str__(self) -> str:
        figures = [
            "" if self.seconds is None else f"{self.seconds:.2f} s",
            "" if self.cpu_seconds is None else f"CPU {self.cpu_seconds:.2f} s",
            "" if self.peak_mb is None else f"peak {self.peak_mb:,} MB",
            *(f"{name.replace('_', ' ')} {shown(value)}" for name, value in self.figures.items()),
        ]
        return f"{self.benchmark:<10} {self.case:<44} {', '.join(filter(None, figures))}"


def shown(value: object) -> str:
    """Return a figure with thousands separators, or any other value as text."""
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def peak_mb() -> int:
    """Return the most memory this process ever held, in MB.

    It is VmHWM: ``ru_maxrss`` is inherited from the parent.
    """
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024)


def cpu_seconds() -> float:
    """Return the user and system time of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Timer:
    """Seconds, CPU seconds and peak memory from construction to `figures`."""

    def __init__(self) -> None:
        self._began, self._cpu = perf_counter(), cpu_seconds()

    def figures(self) -> dict[str, Any]:
        """Return them by name, rounded."""
        return {
            "seconds": round(perf_counter() - self._began, 3),
            "cpu_seconds": round(cpu_seconds() - self._cpu, 3),
            "peak_mb": peak_mb(),
        }


def pinned(core: int) -> list[str]:
    """Return the words before a command that keep it on ``core``; none on a machine without ``taskset``."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") else []


def inherited() -> dict[str, str]:
    """Return the environment for a measured process: it compiles its modules once, not at each import."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def child(
    command: Sequence[str], *, python: Path | str = sys.executable, env: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run a Python command on the core of what is measured, and return the lines of JSON that it printed.

    :param command: arguments of Python, such as ``["-m", "benchmarks.publish"]``.
    :param env: variables besides those of this process.
    :raises RuntimeError: if it fails, with the end of its errors.
    """
    path = f"{PROJECT}:{PROJECT / 'plugins'}"
    done = subprocess.run(
        [*pinned(CORE), str(python), *command],
        env={**inherited(), "PYTHONPATH": path, **(env or {})},
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}: {done.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
