"""Table locks that sessions hold until their transaction ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.services.oracle_double.errors import OraError

ROWS = "ROWS"
"""Not a mode of Oracle's: taken by DML beside ROW EXCLUSIVE, and by one session at a time. So a second writer of a table waits for the
first, as Oracle has it wait where both write the same rows."""
COMPATIBLE = {
    "ROW SHARE": {"ROW SHARE", "ROW EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", ROWS},
    "ROW EXCLUSIVE": {"ROW SHARE", "ROW EXCLUSIVE", ROWS},
    "SHARE": {"ROW SHARE", "SHARE"},
    "SHARE ROW EXCLUSIVE": {"ROW SHARE"},
    "EXCLUSIVE": set(),
    ROWS: {"ROW SHARE", "ROW EXCLUSIVE"},
}
"""Database Concepts, "Automatic locks in DML operations": which modes others may hold."""
POLL_SECONDS = 0.02


@dataclass(eq=False)
class Owner:
    """A session, as the holder of locks.

    :param poll: called while it waits; raises to give up.
    """

    poll: Callable[[], None]
    waits_for: set[Owner] = field(default_factory=set)


class Locks:
    """All locks of a database."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[str, list[tuple[Owner, str]]] = {}
        self._waiting: set[Owner] = set()

    def take(self, owner: Owner, table: str, mode: str, wait: float | None = None) -> None:
        """Hold ``mode`` on ``table`` as well.

        :param wait: seconds; None for as long as it takes.
        :raises OraError: 54 at once where ``wait`` is 0, 30006 after it; 60 where two would wait for each other.
        """
        end = None if wait is None else time.monotonic() + wait
        with self._changed:
            try:
                while others := self._others(owner, table, mode):
                    if wait == 0:
                        raise OraError(54, "resource busy and acquire with NOWAIT specified or timeout expired")
                    if end is not None and time.monotonic() >= end:
                        raise OraError(30006, "resource busy; acquire with WAIT timeout expired")
                    owner.waits_for = others
                    self._waiting.add(owner)
                    if _circle(owner):
                        raise OraError(60, "deadlock detected while waiting for resource")
                    self._changed.notify_all()
                    self._changed.wait(POLL_SECONDS)
                    owner.poll()
            finally:
                owner.waits_for = set()
                self._waiting.discard(owner)
            held = self._held.setdefault(table, [])
            if (owner, mode) not in held:
                held.append((owner, mode))

    def release(self, owner: Owner) -> None:
        """Give up all that ``owner`` holds."""
        self.keep(owner, set())

    def held(self, owner: Owner) -> set[tuple[str, str]]:
        """Tables and modes that ``owner`` holds."""
        with self._changed:
            return {(table, mode) for table, held in self._held.items() for other, mode in held if other is owner}

    def keep(self, owner: Owner, held: set[tuple[str, str]]) -> None:
        """Give up what ``owner`` holds beside ``held``."""
        with self._changed:
            for table, entries in self._held.items():
                entries[:] = [entry for entry in entries if entry[0] is not owner or (table, entry[1]) in held]
            self._changed.notify_all()

    def until_waiting(self, count: int, timeout: float) -> None:
        """Come back when ``count`` sessions wait for a lock.

        :raises TimeoutError: they do not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waiting) >= count, timeout):
                raise TimeoutError(f"{len(self._waiting)} sessions wait for a lock, not {count}")

    def _others(self, owner: Owner, table: str, mode: str) -> set[Owner]:
        return {other for other, theirs in self._held.get(table, []) if other is not owner and theirs not in COMPATIBLE[mode]}


def _circle(start: Owner) -> bool:
    seen: set[Owner] = set()
    todo = list(start.waits_for)
    while todo:
        owner = todo.pop()
        if owner is start:
            return True
        if owner not in seen:
            seen.add(owner)
            todo += owner.waits_for
    return False
