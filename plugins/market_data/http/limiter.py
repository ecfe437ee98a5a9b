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
from market_data.http.bundle import Bundle, Grant
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
    bundle: Bundle = field(default_factory=Bundle, repr=False, compare=False)

    def acquire(self) -> Permit:
        """Return the permit for one call, when it may leave.

        :raises QuotaExhausted: when a long window is used up.
        :raises Throttled: when a pause is longer than ``patience``.
        :raises LimiterError: if the store cannot be used.
        """
        while True:
            grant = self.bundle.next() or self._ask()
            if not isinstance(grant, Grant):
                self.sleep(grant)
            elif self._may_leave(permit := Permit(self, grant.name), grant):
                return permit

    def _ask(self) -> Grant | float:
        """Return the permit for one call, or for how many seconds to wait. Keep those that were taken with it."""
        asked = self.clock()
        count = self.bundle.wanted(self.rules, asked)
        names = [secrets.token_hex(8) for _ in range(count)] if self.rules.windows else [""]
        waits, wait = self._step(lambda state, at: self._take(state, at, names))
        known = self.clock()
        grants = [Grant(name, asked, known, wait) for name, wait in zip(names, waits, strict=False)]
        self.bundle.add(grants[1:])
        return grants[0] if grants else wait

    def _may_leave(self, permit: Permit, grant: Grant) -> bool:
        """Wait until the call may leave; return False if it may not, its permit given back."""
        try:
            if (wait := grant.wait - (self.clock() - grant.known)) > 0:
                self.sleep(wait)
            # The lease may be over before the call leaves if this host was held up; a pause may be news.
            good = self.clock() - grant.asked < grant.wait + self.rules.lease / BEATS
            good = good and not (max(wait, self.clock() - grant.known) > NEWS and self.paused() > 0)
        except BaseException:
            permit.cancel()
            raise
        if not good:
            permit.cancel()
        return good

    def close(self) -> None:
        """Note the ends of calls that are not noted yet, and give back permits that were taken ahead.

        Without it, for example in a killed process, they count until their lease is over.
        """
        unused = [grant.name for grant in self.bundle.unused()]

        def give_back(state: CallState, _: Reading) -> None:
            for name in unused:
                state.withdraw(name)

        if unused or self.bundle.has_ends:
            self.quietly(give_back, "the end of calls is not noted")

    def penalise(self, seconds: float) -> None:
        """Block all calls, from every process, for ``seconds`` from now."""
        self._step(lambda state, at: state.pause(at.now + seconds))

    def paused(self) -> float:
        """Return for how many seconds calls are still blocked; 0: they are not."""
        at = self.store.read()
        return max(0.0, CallState.parse(at.text).paused_until - at.now)

    def _take(self, state: CallState, at: Reading, names: Sequence[str]) -> tuple[list[float], float]:
        """Let as many calls go as possible; return for how many seconds each has to wait, and the others."""
        waits: list[float] = []
        for name in names:
            try:
                wait = self._hindered(state, at)
            except (QuotaExhausted, Throttled):
                if waits:
                    break
                raise
            if wait > 0:
                return waits, wait
            waits.append((state.start(name, self.rules, at.now) - at.now) if name else 0.0)
        return waits, 0.0

    def _hindered(self, state: CallState, at: Reading) -> float:
        """Return for how many seconds no further call may go."""
        if used_up := state.used_up(self.rules, at.now, at.now - at.utc % DAY):
            raise _exhausted(used_up, at)
        pause = state.paused_until - at.now
        if pause > self.patience:
            raise Throttled(f"rate limited: retry in {pause:.0f} s", retry_after=pause)
        return max(0.0, pause, state.wait(self.rules, at.now))

    def _step(self, step: Callable[[CallState, Reading], T]) -> T:
        """Change the state by ``step`` and return its result.

        ``step`` may be called several times; its last call counts.
        """
        ends = self.bundle.ends()
        try:
            while True:
                begun, at = self.clock(), self.store.read()
                state = CallState.parse(at.text)
                state.advance(self.rules, at.now)
                for name, arrived in ends:
                    # measured before the store's clock was read, so the moment is never too early
                    state.end(name, at.now - (begun - arrived))
                result = step(state, at)
                # A step that only waits is not worth a write: the next one advances the state again.
                if not state.changed or self.store.swap(at, state.text()):
                    return result
        except BaseException:
            self.bundle.again(ends)
            raise

    def quietly(self, step: Callable[[CallState, Reading], object], missing: str) -> None:
        """Change the state. If the store fails, calls still count until their leases are over.

        The response of a call is not lost.
        """
        try:
            self._step(step)
        except Exception as error:  # noqa: BLE001 - whatever the store's trouble is, the call was made
            log.warning("%s, so it counts until its lease of %g s is over: %s", missing, self.rules.lease, error)


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
        arrived = self.limiter.clock() if self._arrived is None else self._arrived
        if self.limiter.rules.many and self.name and not self._over.is_set():
            self._over.set()
            self.limiter.bundle.ended(self.name, arrived)
        ago = self.limiter.clock() - arrived
        # measured before the store's clock was read, so the moment is never too early
        self._finish(lambda state, at: state.end(self.name, at.now - ago))

    def cancel(self) -> None:
        """Give the permit back: the call did not leave."""
        self._finish(lambda state, _: state.withdraw(self.name))

    def _finish(self, step: Callable[[CallState, Reading], None]) -> None:
        if self.name and not self._over.is_set():
            self._over.set()
            self.limiter.quietly(step, "the end of a call is not noted")

    def _keep(self, until: float) -> None:
        while not self._over.wait(self.limiter.rules.lease / BEATS) and self.limiter.clock() < until:
            self.limiter.quietly(self._renew, "the lease of a call is not extended")

    def _renew(self, state: CallState, at: Reading) -> None:
        if not self._over.is_set():
            state.renew(self.name, self.limiter.rules, at.now)


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
