"""The frame of a stack: read the job, time the work, print its figures. Standard library only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import Timer, peak_mb

KEY = "key"
"""The key of every account at the server."""


@dataclass(frozen=True, slots=True)
class Job:
    """The work of a stack: the bars to fetch, and the folder to write to.

    :param url: of the server, with the provider's path.
    :param groups: the symbols of each request for many symbols; every stack requests the same groups, so all get the same bytes.
    :param start, end: the span, end exclusive: moments in UTC, ISO 8601.
    :param first, last: the same as New York dates, both inclusive.
    :param folder: an empty folder for the Parquet files.
    :param option: variant of the stack.
    """

    url: str
    groups: list[list[str]]
    start: str
    end: str
    first: str
    last: str
    folder: str
    option: str = ""

    @property
    def symbols(self) -> list[str]:
        """All symbols, in order of their requests."""
        return [symbol for group in self.groups for symbol in group]

    def path(self, *parts: str) -> Path:
        """Return a path in the folder; the folders above it exist."""
        found = Path(self.folder, *parts)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found


def run(work: Callable[[Job], None]) -> None:
    """Do the work of the job in the first argument; print seconds, CPU seconds and peak memory.

    Imports are not timed, as a task's process has them before it begins.
    """
    job, before = Job(**json.loads(sys.argv[1])), peak_mb()
    timer = Timer()
    work(job)
    print(json.dumps({**timer.figures(), "before_mb": before}), flush=True)
