"""Watch the processes of a stack: peak memory of each task, memory of the scheduler, CPU time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped, unused-ignore]

from sandbox.stack.components import AIRFLOW_SERVICES
from sandbox.stack.launcher import Stack

TITLE = b"airflow worker -- "
"""Airflow's title of a task's process; the id of its task instance follows."""
PAUSE = 0.1  # seconds


class Watch:
    """Watch tasks while the context lasts.

    Peak memory of a process is VmHWM: the most that it ever held, with the pages it shares with the server it was forked from.

    :ivar peaks: id of a task instance -> peak MB of its process, seen shortly before it ended.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack, self._ended = stack, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._cpu, self.scheduler_mb = 0.0, (0, 0)
        self.peaks: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._cpu, self.scheduler_mb = self._used(), (resident_mb(self._scheduler), 0)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.cpu_seconds = self._used() - self._cpu
        self.scheduler_mb = (self.scheduler_mb[0], resident_mb(self._scheduler))

    def by_task(self, instances: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Return the peak MB of the largest process of each task id."""
        found: dict[str, int] = {}
        for one in instances:
            task, peak = str(one["task_id"]), self.peaks.get(str(one["id"]), 0)
            found[task] = max(found.get(task, 0), peak)
        return found

    @property
    def _scheduler(self) -> int:
        return self._stack.registry.records()["scheduler"].pid

    def _used(self) -> float:
        """Return the CPU seconds of Airflow's processes and of their children that have ended."""
        used = 0.0
        for name in AIRFLOW_SERVICES:
            for process in self._stack.registry.records()[name].members():
                try:
                    used += sum(process.cpu_times()[:4])
                except psutil.NoSuchProcess:
                    continue
        return used

    def _look(self) -> None:
        while not self._ended.wait(PAUSE):
            for pid in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
                if title := task_of(pid):
                    self.peaks[title] = max(self.peaks.get(title, 0), status_mb(pid, "VmHWM"))


def task_of(pid: str) -> str | None:
    """Return the id of the task instance that a process runs; None for any other process."""
    try:
        title = Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return None
    return title.removeprefix(TITLE).rstrip(b"\0 ").decode(errors="replace") if title.startswith(TITLE) else None


def resident_mb(pid: int) -> int:
    """Return the memory that a process holds now, in MB."""
    return status_mb(str(pid), "VmRSS")


def status_mb(pid: str, field: str) -> int:
    """Return a field of a process's status in MB; 0 where the process has ended."""
    try:
        lines = Path("/proc", pid, "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{field}:")), 0)
