"""The limit of an account over all slots, of one host or of many.

The calls of the account (`CallState`) are a text in a `Store`. Every step reads the text, works out the next one and swaps it in
if nobody was quicker; else it begins again. So nothing is ever locked while somebody waits, and a process that dies holds nobody up.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self, TypeVar

from market_data.core.errors import QuotaExhausted, RetriableError, Throttled
from market_data.http.call_state import DAY, CallState, Rules, UsedUp

T = TypeVar("T")
log = logging.getLogger(__name__)

BEATS = 3
"""Signs of life of a call in the time of its lease."""

NEWS = 0.1
"""Seconds of waiting after which the store is read again before a call leaves: meanwhile there may be a pause."""
LONGEST_CALL = 900.0
"""Seconds for which the lease of a call is extended. A call that was given up may hang for minutes in looking a name up."""

FIX = "set MARKET_DATA_LIMITER_CONN_ID, see docs/reference/rate-limits.md"
SHOWN = 5
"""Hosts that a message names."""


class LimiterError(RetriableError):
    """The store of the limits cannot be used. No call is made without it."""

    to_do = "retried automatically; if it persists, check the limiter's connection and its server"


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a store, and its time.

    :param text: the text; empty if there is none yet.
    :param now: seconds on the store's own clock, read after the text was.
    :param utc: seconds since 1970, for midnights and messages.
    """

    text: str
    now: float
    utc: float


class Store(Protocol):
    """A text of one account that all its processes share, and a clock that they share too."""

    def read(self) -> Reading:
        """Return text and time.

        :raises LimiterError: if the store cannot be used.
        """

    def swap(self, seen: Reading, text: str) -> bool:
        """Replace the text by ``text`` if it is still that of ``seen``; return True where it was replaced.

        :raises LimiterError: if the store cannot be used; the text may be replaced or not.
        """


class Stores(Protocol):
    """The stores of all accounts in one place, with what they share, such as a connection."""

    def __call__(self, account: str) -> Store:
        """Return the store of an account.

        :raises ConfigError: if the place cannot be used as it is set.
        """

    def close(self) -> None:
        """Close what is shared; the next use opens it again."""


def since_boot() -> float:
    """Return the seconds since the host was started, those it slept included.

    Setting the wall clock does not change them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass
class Limiter:
    """The limit of one account.

    :param store: what the account's processes share.
    :param rules: the account's windows; without any, only :meth:`penalise` holds calls back.
    :param patience: longest pause in seconds to sit out; a longer one is left to the task's retry, which frees the slot.
    :param clock: this host's seconds, of any origin, that nobody sets.
    """

    store: Store
    rules: Rules = field(default_factory=Rules)
    patience: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = since_boot

    def acquire(self) -> Permit:
        """Return the permit for one call, when it may leave.

        :raises QuotaExhausted: when a long window is used up.
        :raises Throttled: when a pause is longer than ``patience``.
        :raises LimiterError: if the store cannot be used.
        """
        while True:
            asked, name = self.clock(), secrets.token_hex(8) if self.rules.windows else ""
            taken, wait = self._step(lambda state, at, name=name: self._take(state, at, name))  # type: ignore[misc]
            if not taken:
                self.sleep(wait)
            elif self._may_leave(permit := Permit(self, name), asked, wait):
                return permit

    def _may_leave(self, permit: Permit, asked: float, wait: float) -> bool:
        """Wait until the call may leave; return False if it may not, its permit given back."""
        try:
            if wait > 0:
                self.sleep(wait)
            # The lease may be over before the call leaves if this host was held up; a pause may be news.
            good = self.clock() - asked < wait + self.rules.lease / BEATS and not (wait > NEWS and self.paused() > 0)
        except BaseException:
            permit.cancel()
            raise
        if not good:
            permit.cancel()
        return good

    def penalise(self, seconds: float) -> None:
        """Block all calls, from every process, for ``seconds`` from now."""
        self._step(lambda state, at: state.pause(at.now + seconds))

    def paused(self) -> float:
        """Return for how many seconds calls are still blocked; 0: they are not."""
        at = self.store.read()
        return max(0.0, CallState.parse(at.text).paused_until - at.now)

    def _take(self, state: CallState, at: Reading, name: str) -> tuple[bool, float]:
        """Let the call go if that is possible; return True if it is, and for how many seconds to wait."""
        if used_up := state.used_up(self.rules, at.now, at.now - at.utc % DAY):
            raise _exhausted(used_up, at)
        pause = state.paused_until - at.now
        if pause > self.patience:
            raise Throttled(f"rate limited: retry in {pause:.0f} s", retry_after=pause)
        wait = max(0.0, pause, state.wait(self.rules, at.now))
        if wait > 0:
            return False, wait
        return True, (state.start(name, self.rules, at.now) - at.now) if name else 0.0

    def _step(self, step: Callable[[CallState, Reading], T]) -> T:
        """Change the state by ``step`` and return its result.

        ``step`` may be called several times; its last call counts.
        """
        while True:
            at = self.store.read()
            state = CallState.parse(at.text)
            state.advance(self.rules, at.now)
            result = step(state, at)
            # A step that only waits is not worth a write: the next one advances the state again.
            if not state.changed or self.store.swap(at, state.text()):
                return result


@dataclass
class Permit:
    """The permission for one call, which counts until it is done. Use it as a context around the call.

    :param name: empty where nothing is counted.
    """

    limiter: Limiter
    name: str
    _arrived: float | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.keep()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.done()

    def keep(self) -> None:
        """Extend the lease in a thread until the call is over."""
        if self.name:
            until = self.limiter.clock() + LONGEST_CALL
            threading.Thread(target=self._keep, args=(until,), name="market-data-permit", daemon=True).start()

    def arrived(self) -> None:
        """Note that the response has begun: the call has reached the server. Its body may take longer."""
        if self.name:
            self._arrived = self.limiter.clock()

    def done(self) -> None:
        """Let the call count for one window from its response on; without :meth:`arrived`, from now on."""
        arrived = self._arrived

        def end(state: CallState, at: Reading) -> None:
            # measured before the store's clock was read, so the moment is never too early
            state.end(self.name, at.now - ago)

        ago = 0.0 if arrived is None else self.limiter.clock() - arrived
        self._finish(end)

    def cancel(self) -> None:
        """Give the permit back: the call did not leave."""
        self._finish(lambda state, _: state.withdraw(self.name))

    def _finish(self, step: Callable[[CallState, Reading], None]) -> None:
        if self.name and not self._over.is_set():
            self._over.set()
            self._quietly(step, "the end of a call is not noted")

    def _keep(self, until: float) -> None:
        while not self._over.wait(self.limiter.rules.lease / BEATS) and self.limiter.clock() < until:
            self._quietly(self._renew, "the lease of a call is not extended")

    def _renew(self, state: CallState, at: Reading) -> None:
        if not self._over.is_set():
            state.renew(self.name, self.limiter.rules, at.now)

    def _quietly(self, step: Callable[[CallState, Reading], object], missing: str) -> None:
        """Change the state. If the store fails, the call still counts until its lease is over.

        Its response is not lost.
        """
        try:
            self.limiter._step(step)  # noqa: SLF001 - one unit
        except Exception as error:  # noqa: BLE001 - whatever the store's trouble is, the call was made
            log.warning("%s, so it counts until its lease of %g s is over: %s", missing, self.limiter.rules.lease, error)


def apart(hosts: Sequence[str]) -> str:
    """Return what is wrong where ``hosts`` share an account but no store of its limits; empty: nothing."""
    if len(hosts) < 2:
        return ""
    named = ", ".join([*hosts[:SHOWN], *(["..."] if len(hosts) > SHOWN else [])])
    return f"tasks ran on {len(hosts)} hosts ({named}), and each host knows its own calls only. To do: {FIX}"


def _exhausted(found: UsedUp, at: Reading) -> QuotaExhausted:
    window = found.window
    resets = datetime.fromtimestamp(round(found.renewed - at.now + at.utc, 3), UTC)
    if found.midnight:
        said = f"all {window.calls} calls are used; the quota is renewed at {resets:%Y-%m-%d %H:%M} UTC"
    else:
        said = f"all {window.calls} calls of {window.seconds:.0f} s are used; the next is free at {resets:%Y-%m-%d %H:%M:%S} UTC"
    return QuotaExhausted(said, resets_at=resets)
