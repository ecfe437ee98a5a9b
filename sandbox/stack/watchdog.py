"""Restart components of the local stack that have died: ``python -m sandbox.stack.watchdog``.

The launcher starts it and `make down` stops it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from sandbox.stack.environment import LocalError, Paths
from sandbox.stack.launcher import Stack

INTERVAL = 2.0
MOST_STARTS, WITHIN = 5, 300.0  # a component that dies more often is reported and left


class Watchdog:
    """Looks at one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._starts: dict[str, list[float]] = defaultdict(list)
        self._given_up: set[str] = set()

    def look(self) -> list[str]:
        """Start dead components again; return one line per component that died."""
        lines = []
        for name in self._stack.dead():
            recent = [moment for moment in self._starts[name] if time.monotonic() - moment < WITHIN]
            if len(recent) < MOST_STARTS:
                self._starts[name] = [*recent, time.monotonic()]
                self._given_up.discard(name)
                lines.append(f"{name} ended and was started again; its last output: {self._stack.restart(name)}")
            elif name not in self._given_up:
                self._given_up.add(name)
                lines.append(
                    f"{name} ended {MOST_STARTS} times within {WITHIN:.0f} s and stays down; see {self._stack.registry.log(name)}"
                )
        return lines


def main() -> None:
    """Look every two seconds until killed."""
    stack = Stack(Paths.of(Path.cwd(), os.environ), os.environ)
    watchdog = Watchdog(stack)
    while True:
        time.sleep(INTERVAL)
        with stack.try_lock() as ours:
            if ours:
                for line in watchdog.look():
                    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}", flush=True)
        try:
            for dag_id in stack.holds.release_abandoned(stack.airflow):
                print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {dag_id} is paused again", flush=True)
        except (LocalError, OSError):
            continue  # Airflow does not respond; the next look tries again


if __name__ == "__main__":
    main()
