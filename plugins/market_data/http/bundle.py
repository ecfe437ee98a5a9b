"""Permits that a process took ahead, and ends of calls that it has not noted yet.

They are for accounts with many calls. Both save steps: processes that step at once hinder each other. Neither lets a window overflow, as a
call counts from its permit on until its end is noted, and one window longer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from market_data.http.call_state import Rules

T = TypeVar("T")

AHEAD = 0.5
"""Seconds of calls that a process takes ahead. They count for so much longer than their calls need."""
SMALLEST_SHARE = 500
"""At most the smallest window's calls divided by this are taken ahead."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that may leave.

    :param name: of its permit; empty where nothing is counted.
    :param asked: moment, on this host's clock, before the store was read.
    :param known: moment after it was written: no pause was known then.
    :param wait: seconds from ``asked`` to its departure.
    """

    name: str
    asked: float
    known: float
    wait: float


@dataclass
class Bundle:
    """The permits and ends of one process.

    A child process begins with none: those of its parent are the parent's.
    """

    _grants: deque[Grant] = field(default_factory=deque)
    _ends: deque[tuple[str, float]] = field(default_factory=deque)
    _taken: tuple[int, float] = (0, 0.0)
    _process: int = field(default_factory=os.getpid)

    def wanted(self, rules: Rules, now: float) -> int:
        """Return how many permits to take now: as many as this process used of late in ``AHEAD`` seconds.

        :param now: on this host's clock.
        """
        if not rules.many:
            return 1
        taken, since = self._taken
        passed = max(now - since, 1e-3)
        most = min(window.calls for window in rules.windows) // SMALLEST_SHARE
        count = min(max(1, round(taken * AHEAD / passed)), most)
        self._taken = count, now
        return count

    def add(self, grants: Sequence[Grant]) -> None:
        """Keep permits for later calls."""
        self._grants.extend(grants)

    def next(self) -> Grant | None:
        """Return a permit that was taken ahead, if there is one."""
        self._own()
        return self._pop(self._grants)

    def unused(self) -> list[Grant]:
        """Return all permits that were taken ahead; they are no longer held."""
        self._own()
        return list(iter(lambda: self._pop(self._grants), None))

    def ended(self, name: str, arrived: float) -> None:
        """Keep the end of a call for the next step.

        :param arrived: moment by which it had arrived, on this host's clock.
        """
        self._own()
        self._ends.append((name, arrived))

    def ends(self) -> list[tuple[str, float]]:
        """Return the ends that are not noted yet; they are no longer held."""
        self._own()
        return list(iter(lambda: self._pop(self._ends), None))

    @property
    def has_ends(self) -> bool:
        """True while there are ends that are not noted."""
        return bool(self._ends)

    def again(self, ends: Sequence[tuple[str, float]]) -> None:
        """Keep ends that could not be noted."""
        self._ends.extend(ends)

    def _own(self) -> None:
        if self._process != os.getpid():
            self._process, self._taken = os.getpid(), (0, 0.0)
            self._grants, self._ends = deque(), deque()

    @staticmethod
    def _pop(queue: deque[T]) -> T | None:
        try:
            return queue.popleft()  # safe with several threads
        except IndexError:
            return None
