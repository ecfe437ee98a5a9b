"""Identify a run: `RunInfo`, from which deterministic keys and ids are made, and its `Grain`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Grain = Literal["day", "session", "year"]
"""``file_grain`` of a run. ``day``: a file per symbol and session. ``session``: a file per session with all symbols. ``year``: a file per
symbol and year, or month within the day; the verdicts are by symbol and year too, else by session."""

GRAINS: tuple[Grain, ...] = get_args(Grain)
"""In the order in which files count where they hold equally new rows of one key."""

CATCH_UP_SESSIONS = 30
"""Default of a feed's ``catch_up_sessions``: how many of the last completed sessions get a scheduled run where they were missed."""


IN_SHELL = "repair"
"""In place of a DAG's id: ``market-data repair`` in a shell. Airflow has no such run: see `lake/at_work.py`."""

IsRunning = Callable[["RunInfo"], bool | None]
"""Returns True for a run that is active, False for one that has ended or was deleted, None if that is not known."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run of a DAG.

    :param clear_number: how often the run was cleared; part of every resume key and load id.
    :param started: when the run was first queued, UTC.
    """

    dag_id: str
    run_id: str
    run_type: str
    clear_number: int
    started: datetime

    @property
    def key(self) -> str:
        """Return a short hash of DAG and run, safe in object keys, and the clear number."""
        digest = hashlib.sha256(f"{self.dag_id}/{self.run_id}".encode()).hexdigest()[:16]
        return f"{digest}-{self.clear_number}"
