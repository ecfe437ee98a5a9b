"""When the next call may be made.

Two layers, both waited for before *every* call, the first of an attempt and every retry included:

* **Slot pacing.** A pool slot is a rate. The first call waits a full gap too, so the gap between calls on one slot holds across
  tasks, runs and retries. Thus slots x rate bounds the calls whatever runs in the pool, and resizing the pool changes the rate.
* **The shared limiter** holds the vendor's own windows for the whole account. A call may go ``1.015 x seconds / calls`` after the
  one before: so evenly spaced, no window can overflow, even when the way to the server delays a call by 1.5 percent of the window.
  Delays are no shorter for short windows, so a tenth of a second is allowed for at least. It makes the bound exact when a killed
  worker's slot is given away twice, and lets one 429 pause every slot.

The limiter's holder sleeps with the lock in hand and writes down the moment it really leaves. A process that oversleeps therefore
never brings two calls closer together, and one that dies lets go of the lock (the kernel does).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from market_data.core.capabilities import Quota, Window
from market_data.core.errors import QuotaExhausted, Throttled

MARGIN = 1.015
JITTER = 0.1
"""Seconds by which the way to the server may delay one call more than another."""
LONG_WINDOW = 3600.0
"""Seconds from which a window is counted, not spaced: a daily quota may be used in a burst, a minute's may not."""


class Limiter(Protocol):
    """The account's limit over all slots."""

    def acquire(self) -> None:
        """Return when the next call may be made.

        :raises QuotaExhausted: when a long window is used up.
        :raises Throttled: when a penalty is longer than a task should wait with its slot in hand.
        """

    def penalise(self, seconds: float) -> None:
        """Block all calls, from every process, for ``seconds`` from now."""


@dataclass
class FileLimiter:
    """The shared limiter of all processes of one host, kept in a file under a lock.

    :param path: the state file; its folder is made. One file for each account.
    :param windows: the account's windows; none means that only :meth:`penalise` holds calls back.
    :param patience: longest penalty in seconds to sit out; a longer one is left to the task's retry, which frees the slot.
    """

    path: Path
    windows: Sequence[Window]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    patience: float = 60.0

    @property
    def spacing(self) -> float:
        """Least seconds between two calls."""
        return max(
            (max(MARGIN * w.seconds, w.seconds + JITTER) / w.calls for w in self.windows if w.seconds < LONG_WINDOW), default=0.0
        )

    def acquire(self) -> None:
        with self._locked("turn"):
            state = self._load(self.path)
            now = self.clock()
            # A clock set back must not hold calls for longer than a gap.
            last = min(float(state.get("last", 0.0)), now)
            log = self._within_quota([float(t) for t in state.get("log", [])], now)
            self._sleep_until(last + self.spacing)
            while (remaining := self._blocked_until() - self.clock()) > 0:
                if remaining > self.patience:
                    raise Throttled(f"rate limited: retry in {remaining:.0f} s", retry_after=remaining)
                self.sleep(remaining)
            gone = self.clock()
            self._write(self.path, {"last": gone, "log": [*log, gone] if self._long else []})

    def penalise(self, seconds: float) -> None:
        # A file of its own: whoever waits for a turn holds the other one's lock, and must learn of this while waiting.
        with self._locked("penalty"):
            until = max(self._blocked_until(), self.clock() + seconds)
            self._write(self.path.with_suffix(".blocked"), {"until": until})

    @property
    def _long(self) -> list[Window]:
        return [w for w in self.windows if w.seconds >= LONG_WINDOW]

    def _within_quota(self, log: list[float], now: float) -> list[float]:
        for window in self._long:
            recent = [t for t in log if t > now - window.seconds]
            if len(recent) >= window.calls:
                resets = datetime.fromtimestamp(recent[-window.calls] + window.seconds, UTC) + timedelta(seconds=1)
                used = f"all {window.calls} calls of {window.seconds:.0f} s are used"
                raise QuotaExhausted(f"{used}; the next is free at {resets:%Y-%m-%d %H:%M:%S} UTC", resets_at=resets)
        longest = max((w.seconds for w in self._long), default=0.0)
        return [t for t in log if t > now - longest]

    def _sleep_until(self, moment: float) -> None:
        while (remaining := moment - self.clock()) > 0:
            self.sleep(remaining)

    def _blocked_until(self) -> float:
        return float(self._load(self.path.with_suffix(".blocked")).get("until", 0.0))

    @staticmethod
    def _load(path: Path) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):  # ValueError: the machine died while writing; start afresh
            return {}
        return loaded

    @staticmethod
    def _write(path: Path, state: dict[str, Any]) -> None:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(state))
        fresh.replace(path)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(f".{name}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


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

    def wait(self) -> None:
        """Return when this task may make its next call.

        :raises QuotaExhausted: when a long window of the account is used up.
        """
        begun = self.clock()
        try:
            while (remaining := self._last + self.gap - self.clock()) > 0:
                self.sleep(remaining)
            self.limiter.acquire()
        finally:
            self.waited(self.clock() - begun)
        self.still_wanted()
        self._last = self.clock()

    def penalise(self, seconds: float) -> None:
        """Hold every slot of the account back for ``seconds``."""
        self.limiter.penalise(seconds)
