"""Hold DAGs that `make run` has unpaused for one run.

A paused DAG starts no run, and unpausing a DAG creates a scheduled one.

A DAG is held while a file ``{folder}/{dag_id}/{pid}`` exists. The stack's scheduler creates no scheduled run of a held DAG. The last
holder pauses the DAG again; the watchdog does so for a holder that was killed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped, unused-ignore]


class PausesDags(Protocol):
    """The part of Airflow's REST API that this module needs."""

    def pause(self, dag_id: str) -> None: ...

    def active_runs(self, dag_id: str = "~") -> list[dict[str, str]]: ...


class Holds:
    """The held DAGs of one stack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def dag_ids(self) -> set[str]:
        """Return the held DAGs."""
        return {file.parent.name for file in self._folder.glob("*/*")}

    def add(self, dag_id: str) -> None:
        """Hold a DAG on behalf of this process. Call it before unpausing."""
        file = self._folder / dag_id / str(os.getpid())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def release(self, dag_id: str, airflow: PausesDags, pid: int | None = None) -> None:
        """Give up this process's hold (or that of ``pid``); pause the DAG where no other process holds it."""
        file = self._folder / dag_id / str(pid or os.getpid())
        if not file.exists():
            return
        if len(list(file.parent.iterdir())) == 1:
            airflow.pause(dag_id)  # before the file goes: from here on the scheduler creates no run because of the pause
        file.unlink(missing_ok=True)

    def release_abandoned(self, airflow: PausesDags) -> list[str]:
        """Release what killed processes hold, once the DAG has no active run. Return the DAGs."""
        found = []
        for file in self._folder.glob("*/*"):
            if not psutil.pid_exists(int(file.name)) and not airflow.active_runs(file.parent.name):
                self.release(file.parent.name, airflow, int(file.name))
                found.append(file.parent.name)
        return found
