"""Describe a provider's abilities: endpoints, quota, and both together for one dataset and plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Shape(StrEnum):
    """The cells that one call of an endpoint can return."""

    SYMBOL = "symbol"  # one symbol, a range of sessions
    MULTI = "multi"  # many symbols, a range of sessions
    MARKET = "market"  # every symbol, one session


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's way to serve a dataset.

    :param name: the provider's name for it, a value of the run param ``endpoint``, e.g. ``grouped``.
    :param shape: the cells that one call can return.
    :param page_rows: maximum rows per page; a request takes ``ceil(rows / page_rows)`` calls.
    :param rows_per_session: maximum rows per symbol and session, as pages count them (1 for daily bars).
    :param chains: call chains per request: three statements in two periods are six.
    :param request_rows: maximum rows per request, to limit memory; the plan splits symbols and dates accordingly.
    :param max_symbols: maximum symbols per request.
    :param market_rows: rows of all symbols together per chain and session, where a response has every symbol, whichever are requested:
        requests are then not split by symbols. 0: a response has the requested symbols only.
    :param weight: the cost of a call when endpoints of different shapes are compared: a file of the whole market costs more than a
        small response.
    :param chunk_days: calendar days per request where it would return more than ``request_rows`` otherwise.
    :param max_days: maximum calendar days per request.
    :param charged: the provider charges for the rows: no cell is requested that is not missing.
    :param available_after: seconds from midnight UTC after a session's date until this endpoint has it, where that is later than for
        the plan's other endpoints.
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
    charged: bool = False
    available_after: float = 0.0

    def calls(self, sessions: int, symbols: int = 1) -> int:
        """Return the number of calls of one request for ``symbols`` symbols over ``sessions`` sessions."""
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
    """The call limits of an account: the rate of one pool slot, and the vendor's windows over all slots.

    :param calls_per_minute_per_slot: rate of a task that holds one slot of the provider's pool.
    :param limits: windows that apply to the whole account, all of them at once; empty where the vendor sets none.
    """

    calls_per_minute_per_slot: float
    limits: tuple[Window, ...] = ()

    @property
    def longest_window(self) -> float:
        """Seconds of the account's longest window; 0 without any."""
        return max((window.seconds for window in self.limits), default=0.0)

    def calls_per_minute(self, calls: int) -> float:
        """Return the sustained rate of ``calls`` calls with one slot.

        A window that holds all of them, such as a daily one, does not slow them down.
        """
        return min([self.calls_per_minute_per_slot, *(60 * w.calls / w.seconds for w in self.limits if w.calls < calls)])

    @property
    def window_calls(self) -> int:
        """The calls of the narrowest window; without windows, those of one slot in a minute."""
        return min((w.calls for w in self.limits), default=max(1, round(self.calls_per_minute_per_slot)))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A provider's abilities for one dataset on one plan.

    :param endpoints: best first.
    :param quota: the account's.
    :param history_start: first session the plan includes; None: all.
    :param available_after: seconds from midnight UTC after a session's date until the plan has it.
    """

    endpoints: tuple[Endpoint, ...]
    quota: Quota
    history_start: date | None = None
    available_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """A provider's statement on the quality of one date.

    :param words: empty if nothing is wrong, else the provider's own word, e.g. ``degraded``.
    :param modified: UTC date of the last issue of the date's data; None: unknown.
    """

    words: str = ""
    modified: date | None = None
