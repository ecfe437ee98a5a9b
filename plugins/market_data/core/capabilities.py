"""What a provider can do: endpoints, quota, and both together for one dataset and plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Shape(StrEnum):
    """What one call of an endpoint can answer."""

    SYMBOL = "symbol"  # one symbol, a range of sessions
    MULTI = "multi"  # many symbols, a range of sessions
    MARKET = "market"  # every symbol, one session


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's way to serve a dataset.

    :param name: the provider's word for it, what the run param ``endpoint`` takes, e.g. ``grouped``.
    :param shape: what one call can answer.
    :param page_rows: most rows one page holds; a request takes ``ceil(rows / page_rows)`` calls.
    :param rows_per_session: rows that a symbol has in a session at most, as pages count them (1 for daily bars).
    :param chains: call chains that one request takes: three statements in two periods are six.
    :param request_rows: most rows one request should bring, for memory's sake; the plan cuts symbols and dates so.
    :param max_symbols: most symbols a request may name.
    :param market_rows: rows of all symbols together that one chain has in a session, where an answer has every symbol, whichever are
        asked: then requests are not cut by symbols. 0: an answer has the asked ones only.
    :param weight: what a call is counted as when kinds of endpoints are compared: one that brings a file of the whole market is no
        match for a small one.
    :param chunk_days: calendar days of a request where it would bring more than ``request_rows`` otherwise.
    :param max_days: calendar days that a request may span in any case.
    :param available_after: seconds from midnight UTC after a session's date until this endpoint has it, where that is later than the
        plan's others.
    """

    name: str
    shape: Shape
    page_rows: int = 50_000
    rows_per_session: int = 1
    chains: int = 1
    request_rows: int = 400_000
    max_symbols: int | None = None
    market_rows: int = 0
    weight: int = 1
    chunk_days: int | None = None
    max_days: int | None = None
    available_after: float = 0.0

    def calls(self, sessions: int, symbols: int = 1) -> int:
        """Calls that one request for ``symbols`` over ``sessions`` sessions takes."""
        if self.shape is Shape.MARKET:
            return sessions * self.chains
        if self.market_rows:
            return self.chains * max(1, min(symbols, math.ceil(sessions * self.market_rows / self.page_rows)))
        return self.chains * max(1, math.ceil(symbols * sessions * self.rows_per_session / self.page_rows))


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``calls`` calls in any ``seconds`` seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may do: the rate of one pool slot and, over all slots, the vendor's own windows.

    :param calls_per_minute_per_slot: rate of a task that holds one slot of the provider's pool.
    :param limits: windows that hold for the whole account, all at once; empty where the vendor sets none.
    """

    calls_per_minute_per_slot: float
    limits: tuple[Window, ...] = ()

    def calls_per_minute(self, calls: int) -> float:
        """The rate at which so many calls go with one slot. A window that holds all of them, as a day's may, slows none."""
        return min([self.calls_per_minute_per_slot, *(60 * w.calls / w.seconds for w in self.limits if w.calls < calls)])

    @property
    def window_calls(self) -> int:
        """Calls of the narrowest window: how many make up one quota window."""
        return min((w.calls for w in self.limits), default=max(1, round(self.calls_per_minute_per_slot)))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do for one dataset on one plan.

    :param endpoints: best first.
    :param quota: the account's.
    :param history_start: first session the plan has, or None where it has all.
    :param available_after: seconds from midnight UTC after a session's date until the plan has it.
    """

    endpoints: tuple[Endpoint, ...]
    quota: Quota
    history_start: date | None = None
    available_after: float = 0.0
