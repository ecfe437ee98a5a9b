"""`airflow scheduler` of the local stack with two changes: ``python -m sandbox.stack.scheduler``.

The server that tasks are forked from starts at once. Airflow would start it for the first task, which would then wait
for the import of ``PRELOAD``. DAGs that `make run` has unpaused for its own run get no scheduled run (`holds.py`).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from sandbox.stack.environment import PRELOAD, Paths
from sandbox.stack.holds import Holds


def main() -> None:
    """Become the scheduler."""
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    forkserver.ensure_running()

    from airflow.__main__ import main as airflow
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    spare_held_dags(SchedulerJobRunner, Holds(Paths.of(Path.cwd(), os.environ).holds))
    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


def spare_held_dags(runner: Any, holds: Holds) -> None:
    """Make a scheduler class create no scheduled run of a held DAG.

    The holds are read before Airflow reads which DAGs are unpaused: a hold that ends in between still counts, and its DAG is paused
    by then.

    :raises AttributeError: this version of Airflow creates runs elsewhere.
    """
    look, create = runner._create_dagruns_for_dags, runner._create_dag_runs  # noqa: SLF001  Airflow has no setting for this
    held: set[str] = set()

    def _create_dagruns_for_dags(self: Any, guard: Any, session: Any) -> Any:
        held.clear()
        held.update(holds.dag_ids())
        return look(self, guard, session)

    def _create_dag_runs(self: Any, dag_models: Any, session: Any) -> Any:
        return create(self, [model for model in dag_models if model.dag_id not in held], session)

    runner._create_dagruns_for_dags, runner._create_dag_runs = _create_dagruns_for_dags, _create_dag_runs  # noqa: SLF001


if __name__ == "__main__":
    main()
