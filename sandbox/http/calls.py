"""The call log and the quota: which calls came when, and whether they were too many."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from market_data.core.capabilities import Window
from sandbox.call_log import read_calls


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a data endpoint.

    :param time: arrival, Unix seconds.
    :param monotonic: arrival on the server's monotonic clock, seconds.
    :param target: path and query without the key.
    :param endpoint: the vendor's word for it, such as ``range`` or ``grouped``; ``unknown`` where there is none.
    :param ticker: the one symbol that the call is about.
    :param date: the one session that the call is about.
    :param status: of the response; with the fault ``reset``, of the response that was not sent.
    :param accepted: the call had a valid key and was within the quota; only these use the quota up.
    :param source: value of ``X-Sample-Source``.
    :param fault: the kind of the injected fault.
    :param client_request_id: what the client sent as ``X-VendorRequest-Id``.
    :param key_in_url: the URL contained a key, valid or not.
    :param vendor: the vendor that was called.
    """

    time: float
    monotonic: float
    target: str
    endpoint: str
    ticker: str | None
    date: str | None
    status: int
    accepted: bool
    source: str | None
    fault: str | None
    request_id: str
    client_request_id: str | None
    key_in_url: bool = False
    vendor: str = "polygon"
    method: str = "GET"


def read_call_log(path: Path) -> list[Call]:
    """Read the calls of a log file, in order of arrival."""
    return read_calls(path, Call)


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
