"""When the next call may be made.

Two layers, both waited for before *every* call, the first of an attempt and every retry included:

* **Slot pacing** (here). A pool slot is a rate. The first call waits a full gap too, so the gap between calls on one slot holds across
  tasks, runs and retries. Thus slots x rate bounds the calls whatever runs in the pool, and resizing the pool changes the rate.
* **The shared limiter** (`http/limiter.py`) holds the vendor's own windows for the whole account, exactly. One 429 pauses every slot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from market_data.core.capabilities import Quota
from market_data.http.limiter import Limiter, Permit

MARGIN = 1.015


def _parent_check() -> Callable[[], None]:
    """Return a check that this process still has the parent it was born with.

    A worker's supervisor killed outright leaves its task running. The scheduler gives the slot away again after a while; a task
    without its supervisor must not go on calling by then.
    """
    parent = os.getppid()

    def check() -> None:
        if os.getppid() != parent:
            raise SystemExit("the task's supervisor is gone; no further call is made")

    return check


@dataclass
class Pacer:
    """The waits of one task attempt before each of its calls.

    :param waited: called with the seconds of each wait, one that ended with an error included.
    """

    quota: Quota
    limiter: Limiter
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    still_wanted: Callable[[], None] = field(default_factory=_parent_check)
    waited: Callable[[float], None] = lambda _: None

    def __post_init__(self) -> None:
        self._last = self.clock()

    @property
    def gap(self) -> float:
        """Least seconds between two calls of one slot."""
        return MARGIN * 60 / self.quota.calls_per_minute_per_slot

    def wait(self) -> Permit:
        """Return when this task may make its next call. Make the call with the permit as its context.

        :raises QuotaExhausted: when a long window of the account is used up.
        :raises Throttled: when the account is paused for longer than a task should wait with its slot in hand.
        :raises LimiterError: when the store of the account's limits cannot be used.
        """
        begun = self.clock()
        try:
            while (remaining := self._last + self.gap - self.clock()) > 0:
                self.sleep(remaining)
            permit = self.limiter.acquire()
        finally:
            self.waited(self.clock() - begun)
        try:
            self.still_wanted()
        except SystemExit:
            permit.cancel()
            raise
        self._last = self.clock()
        return permit

    def penalise(self, seconds: float) -> None:
        """Hold every slot of the account back for ``seconds``."""
        self.limiter.penalise(seconds)

    def close(self) -> None:
        """Tell the account's other slots what this one used. The next wait works all the same."""
        self.limiter.close()
