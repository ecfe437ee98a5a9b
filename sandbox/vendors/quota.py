"""The vendor's side of a quota."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from market_data.core.capabilities import Window


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a quota is used up.

    :param limit: calls of its fullest window. ``remaining``: of them, those still free.
    :param reset: seconds until the oldest call leaves that window; 0 where there is none.
    """

    limit: int
    remaining: int
    reset: float


class RollingQuota:
    """The vendor's side of a quota: at most so many accepted calls in each rolling window.

    :param clock: seconds, never going back.
    """

    def __init__(self, limits: Sequence[Window] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = tuple(limits)
        self._clock = clock
        self._accepted: list[float] = []

    def admit(self, now: float) -> bool:
        """Return true if a call at ``now`` is within all windows, and count it in that case."""
        for window in self.limits:
            if len(self._accepted) - bisect_right(self._accepted, now - window.seconds) >= window.calls:
                return False
        self._accepted.append(now)
        return True

    def standing(self) -> Standing | None:
        """Return the use of the window with the fewest calls left; None without a quota."""
        now = self._clock()
        standings = []
        for window in self.limits:
            within = self._accepted[bisect_right(self._accepted, now - window.seconds) :]
            reset = within[0] + window.seconds - now if within else 0.0
            standings.append(Standing(window.calls, max(window.calls - len(within), 0), reset))
        return min(standings, key=lambda standing: standing.remaining, default=None)

    def forget(self) -> None:
        """Forget all calls."""
        self._accepted.clear()
