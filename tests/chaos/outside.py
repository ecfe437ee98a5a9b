"""Faults of a server or of another process, ordered before a task begins."""

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.points import Fault
from tests.chaos.processes import Child

if TYPE_CHECKING:
    from tests.chaos.world import ChaosWorld

HELD = 0.4
"""Seconds for which somebody else holds the warehouse."""


def begin_outside(world: "ChaosWorld", faults: Sequence[Fault]) -> None:
    """Order the faults that are not those of the task's own process."""
    database, table = world.campaign.engine != "duckdb", world.silver
    for fault in faults:
        if fault.kind == "cut" and database:
            world.host.cut_database(fault.number, fault.after)
        elif fault.kind == "held" and database:
            if table:
                world.host.hold_database(HELD, table)
        elif fault.kind == "held":
            world.stopped.append(
                Child(lambda struck: _hold(Path(f"{world.folder}/warehouse.duckdb.lock")), lambda error: (False, 0.0))
            )
        elif fault.kind == "full" and fault.task == "load" and database and table:
            world.host.fill_database(table)


def _hold(lock: Path) -> None:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(HELD)
