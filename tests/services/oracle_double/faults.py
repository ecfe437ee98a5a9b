"""Faults that a test orders, and what the double saw."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.services.oracle_double.errors import DropConnection, OraError
from tests.services.oracle_double.packets import Link

CONNECT, COMMIT = "<connect>", "<commit>"
POLL_SECONDS = 0.2
ORDERED = "ordered by the test"


@dataclass(slots=True)
class Fault:
    """One order.

    :param match: a regular expression that is looked for in a statement, upper and lower case alike; or ``<connect>``, ``<commit>``.
    :param action: ``ora``, ``drop``, ``drop_after``, ``hang`` or ``refuse``.
    :param number: of the error or refusal.
    :param times: how often it strikes; None for always.
    :param after: how many matches it lets pass before.
    :param struck: how often it struck so far.
    """

    match: str
    action: str
    number: int = 0
    text: str = ORDERED
    times: int | None = 1
    after: int = 0
    struck: int = 0

    def matches(self, what: str) -> bool:
        if self.match.startswith("<") or what.startswith("<"):
            return self.match == what
        return re.search(self.match, what, re.IGNORECASE | re.DOTALL) is not None


class Faults:
    """What goes wrong, and when. Each method orders one fault and returns it; of several that match, the first ordered strikes."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []
        self._lock = threading.Lock()

    def ora(self, match: str, number: int, *, text: str = ORDERED, **when: int | None) -> Fault:
        """Respond with ``ORA-number`` and do nothing. A number that means a dead session (e.g. 3113) does not close the connection."""
        return self._order(match, "ora", number, text, **when)

    def drop(self, match: str, **when: int | None) -> Fault:
        """Cut the connection before anything is done."""
        return self._order(match, "drop", **when)

    def drop_after(self, match: str, **when: int | None) -> Fault:
        """Do it, then cut the connection before the response: the client cannot know. Not at ``<connect>``."""
        return self._order(match, "drop_after", **when)

    def hang(self, match: str, **when: int | None) -> Fault:
        """Give no response until the client interrupts (its ``call_timeout``), goes away, or the double closes."""
        return self._order(match, "hang", **when)

    def refuse(self, number: int, **when: int | None) -> Fault:
        """Refuse connections as a listener does: 12514 unknown service, 12516 no handler, 12541 no listener, ..."""
        return self._order(CONNECT, "refuse", number, **when)

    def clear(self) -> None:
        """Take back all orders."""
        with self._lock:
            self._orders.clear()

    def strike(self, what: str) -> Fault | None:
        """Return the fault that strikes at ``what``, a statement or an event."""
        with self._lock:
            for fault in self._orders:
                if fault.times == 0 or not fault.matches(what):
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.struck += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _order(self, match: str, action: str, number: int = 0, text: str = ORDERED, **when: Any) -> Fault:
        fault = Fault(match, action, number, text, **when)
        with self._lock:
            self._orders.append(fault)
        return fault


def suffer(fault: Fault | None, link: Link) -> Fault | None:
    """Do what a fault does before the call; ``drop_after`` does the rest."""
    if fault and fault.action == "ora":
        raise OraError(fault.number, fault.text)
    if fault and fault.action == "drop":
        raise DropConnection(ORDERED)
    while fault and fault.action == "hang":
        link.interrupted(POLL_SECONDS)
    return fault


def drop_after(fault: Fault | None) -> None:
    """Do what a fault does after the call, before its response."""
    if fault and fault.action == "drop_after":
        raise DropConnection(ORDERED)


@dataclass(frozen=True, slots=True)
class Statement:
    """An execution that the client requested, whatever became of it.

    :param types: Oracle's types of the binds, e.g. ``("VARCHAR", "NUMBER")``.
    :param rows: how many rows were bound; 1 without binds.
    """

    sql: str
    types: tuple[str, ...]
    rows: int


@dataclass(slots=True)
class Record:
    """What the double saw, in order.

    :param connects: connect descriptors.
    :param schemas: each SET SCHEMA that came along with a call.
    :param failed_logins: user names.
    :param failed_handshakes: reasons for which TLS came to nothing.
    """

    connects: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    failed_logins: list[str] = field(default_factory=list)
    failed_handshakes: list[str] = field(default_factory=list)
