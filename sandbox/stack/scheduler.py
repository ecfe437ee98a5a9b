"""`airflow scheduler`, with the server that its workers are forked from started first: ``python -m sandbox.stack.scheduler``.

Airflow starts that server when the first task is due, which then waits until all of ``PRELOAD`` is imported. Here it imports while
the scheduler does.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import forkserver

from sandbox.stack.environment import PRELOAD


def main() -> None:
    """Become the scheduler."""
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    forkserver.ensure_running()

    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


if __name__ == "__main__":
    main()
