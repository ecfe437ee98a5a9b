"""Decide from the calls of an account when the next may leave.

There is no clock, file or network here: time is handed in.

A call reaches the server at some moment between leaving and its response, and nobody here knows when. So it counts from the moment it is
let go, at or a little before its departure, until one window after its response. A new call may be let go when fewer calls than the
window's count that way.

**Why no window can overflow.** Take any window with one call too many and look at the call in it that was let go last. All others of the
window reached the server less than one window before that moment, or later. Each of them therefore counted then, so it was not let go.

**Why it cannot be tighter.** As far as leaving and response tell, all calls that count may reach the server within a window of the new one.

All moments are seconds on the clock of the store, whatever their origin.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from market_data.core.capabilities import Window
from market_data.core.errors import OTHER_FORM

LONG_WINDOW = 3600.0
"""Seconds from which a window is counted, not spaced: a daily quota may be used in a burst, a minute's may not."""
LEASE = 30.0
LONGEST_PAUSE = 86_400.0
"""Seconds. A pause that seems longer comes from a clock that was set back."""
DAY = 86_400.0
SPREAD = 0.9
"""Share of a short window divided by its calls that is kept between two calls. Below 1, so that calls held up can be made up for."""
SHORTEST_WAIT = 1e-5
"""Seconds. A shorter wait may be less than what a clock can tell."""
CLOCK_ERROR = 60.0
"""Seconds by which the wall clock may differ from the vendor's. Calls this close to a midnight count for both days."""
MANY = 1000
"""Calls of the smallest window from which a process takes permits ahead: those of all processes are a small share of it."""
GRAINS = 125
"""In a list of more than twice as many moments they are rounded up to this part of their window, so that no list becomes long."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of an account.

    :param windows: all apply at once; none: only pauses hold calls back.
    :param utc_days: windows of a day begin anew at midnight UTC, as the vendor counts.
    :param lease: seconds for which a call counts as on its way without a sign of life from its process. Then it counts as arrived.
    """

    windows: tuple[Window, ...] = ()
    utc_days: bool = False
    lease: float = LEASE

    @property
    def gap(self) -> float:
        """Least seconds between two calls."""
        return max((SPREAD * w.seconds / w.calls for w in self.windows if w.seconds < LONG_WINDOW), default=0.0)

    @property
    def many(self) -> bool:
        """True if every window has so many calls that a process may hold some of them for a moment.

        Not where one is long: a call that outlives its lease counts twice, and for a day that would be much.
        """
        return bool(self.windows) and all(one.calls >= MANY and one.seconds < LONG_WINDOW for one in self.windows)

    @property
    def ahead(self) -> float:
        """Longest time in seconds from letting a call go to its departure."""
        return self.lease / 3


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A long window is used up.

    :param renewed: moment from which a call is possible.
    :param midnight: because a new day begins then.
    """

    window: Window
    renewed: float
    midnight: bool


def held(seconds: float) -> float:
    """Return how long a call counts after its response, in seconds.

    A thousandth more than the window, at most a second: two clocks may differ in speed by that much.
    """
    return seconds + min(seconds / 1000, 1.0)


@dataclass(slots=True)
class CallState:
    """The calls of an account.

    :param running: permit -> moment at which its lease ends.
    :param ended: seconds of a window -> moments by which calls had arrived, ascending, with their count.
    :param last: departure of the last call, perhaps in the future.
    :param paused_until: no call leaves before.
    :param changed: True once anything but the passing of time changed the state.
    """

    running: dict[str, float] = field(default_factory=dict)
    ended: dict[float, list[tuple[float, int]]] = field(default_factory=dict)
    last: float = 0.0
    paused_until: float = 0.0
    changed: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> CallState:
        """Return the state that `text` made; an empty one for a text that is empty or damaged."""
        try:
            found = json.loads(text)
            return cls(
                {str(permit): float(end) for permit, end in found["running"].items()},
                {float(name): [(float(at), int(calls)) for at, calls in ends] for name, ends in found["ended"].items()},
                float(found["last"]),
                float(found["paused_until"]),
            )
        except OTHER_FORM:
            return cls()

    def text(self) -> str:
        """Return the state as one line of JSON."""
        fields = {"running": self.running, "ended": self.ended, "last": self.last, "paused_until": self.paused_until}
        return json.dumps(fields, separators=(",", ":"))

    # -- what has happened -------------------------------------------------------------------------------------------------------

    def advance(self, rules: Rules, now: float) -> None:
        """Bring the state to ``now``: end the calls whose leases are over, drop what no longer counts.

        Moments in the future come from a clock that was set back; they become ``now``, which never lets a call go too early. Such a
        state counts as changed: it has to be stored, or they come back.
        """
        ahead = now + rules.ahead
        changed, set_back = self.changed, self.last > ahead or self.paused_until > now + LONGEST_PAUSE
        self.last, self.paused_until = self.last if self.last <= ahead else now, min(self.paused_until, now + LONGEST_PAUSE)
        self._add_windows(rules)
        for permit, end in list(self.running.items()):
            self.running[permit] = end if end <= ahead + rules.lease else now + rules.lease
            if end <= now:
                self.end(permit, end)
        for seconds, ends in self.ended.items():
            latest = now + seconds / GRAINS
            set_back = set_back or bool(ends and ends[-1][0] > latest)
            self.ended[seconds] = [(min(at, latest), calls) for at, calls in ends if at + held(seconds) > now]
        self.changed = changed or set_back

    def start(self, permit: str, rules: Rules, now: float) -> float:
        """Let a call go; return the moment at which it may leave: now, or a gap after the call before."""
        self.last = max(now, self.last + rules.gap)
        self.renew(permit, rules, self.last)
        return self.last

    def renew(self, permit: str, rules: Rules, now: float) -> None:
        """Note that the process of a call is alive and still waits for the response."""
        self.running[permit] = now + rules.lease
        self.changed = True

    def end(self, permit: str, arrived: float) -> None:
        """Note that a call has arrived by ``arrived``.

        One whose lease was over counts once more: it is not known when it arrived.
        """
        self.changed = True
        self.running.pop(permit, None)
        for seconds, ends in self.ended.items():
            _count(ends, arrived)
            if len(ends) > 2 * GRAINS:
                self.ended[seconds] = _rounded_up(ends, seconds / GRAINS)

    def withdraw(self, permit: str) -> None:
        """Forget a call that did not leave."""
        self.changed = True
        self.running.pop(permit, None)

    def pause(self, until: float) -> None:
        """Let no call go before ``until``. A shorter pause does not cut a longer one."""
        self.changed = True
        self.paused_until = max(self.paused_until, until)

    # -- what may happen ---------------------------------------------------------------------------------------------------------

    def used_up(self, rules: Rules, now: float, midnight: float) -> UsedUp | None:
        """Return the long window that lets no call go now, if there is one.

        :param midnight: the last midnight UTC.
        """
        day = midnight if now >= midnight + CLOCK_ERROR else midnight - DAY
        for window in rules.windows:
            if window.seconds < LONG_WINDOW:
                continue
            by_day = rules.utc_days and window.seconds == DAY
            free = self._free_at(window, now, day - CLOCK_ERROR if by_day else -math.inf)
            if free > now:
                tomorrow = day + DAY + CLOCK_ERROR if by_day else math.inf
                return UsedUp(window, min(free, tomorrow), midnight=tomorrow < free)
        return None

    def wait(self, rules: Rules, now: float) -> float:
        """Return for how many seconds short windows let no call go; 0: one may go now.

        `start` says when it may leave.
        """
        free = [self._free_at(window, now) for window in rules.windows if window.seconds < LONG_WINDOW]
        wait = max([self.last + rules.gap - rules.ahead, *free]) - now
        return max(wait, SHORTEST_WAIT) if wait > 0 else 0.0

    def _free_at(self, window: Window, now: float, since: float = -math.inf) -> float:
        """Return the earliest moment at which fewer than the window's calls can count.

        ``now`` or before: they do already.

        :param since: calls that had arrived by then do not count.
        """
        ends = [(at, calls) for at, calls in self.ended.get(window.seconds, []) if at > since and at + held(window.seconds) > now]
        too_many = sum(calls for _, calls in ends) + len(self.running) - window.calls + 1
        if too_many <= 0:
            return now
        for at, calls in ends:
            too_many -= calls
            if too_many <= 0:
                return at + held(window.seconds)
        return now + held(window.seconds)  # a call that is on its way: its response comes later than now

    def _add_windows(self, rules: Rules) -> None:
        """Begin the list of a window that is new in the rules with what a longer one knows."""
        for window in rules.windows:
            if window.seconds not in self.ended:
                known = sorted(self.ended, key=lambda seconds: (seconds < window.seconds, abs(seconds - window.seconds)))
                self.ended[window.seconds] = list(self.ended[known[0]]) if known else []


def _count(ends: list[tuple[float, int]], moment: float) -> None:
    """Add a call to a list in ascending order."""
    place = len(ends)
    while place and ends[place - 1][0] > moment:
        place -= 1
    ends.insert(place, (moment, 1))


def _rounded_up(ends: list[tuple[float, int]], grain: float) -> list[tuple[float, int]]:
    counts: dict[float, int] = {}
    for at, calls in ends:
        moment = math.ceil(at / grain) * grain
        counts[moment] = counts.get(moment, 0) + calls
    return list(counts.items())
