"""Faults that a test orders, and what the double saw."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from tests.services.oracle_double.errors import DropConnection, OraError
from tests.services.oracle_double.packets import Link

CONNECT, COMMIT = "<connect>", "<commit>"
POLL_SECONDS = 0.2


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
    text: str = "ordered by the test"
    times: int | None = 1
    after: int = 0
    struck: int = 0


class Faults:
    """What goes wrong, and when. Each method orders one fault and gives it back; of several that match, the first ordered strikes."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []
        self._lock = threading.Lock()

    def ora(self, match: str, number: int, *, text: str = "ordered by the test", times: int | None = 1, after: int = 0) -> Fault:
        """Answer with ``ORA-number`` and do nothing. A number that means a dead session (e.g. 3113) does not close the connection."""
        return self._order(Fault(match, "ora", number, text, times, after))

    def drop(self, match: str, *, times: int | None = 1, after: int = 0) -> Fault:
        """Cut the connection before anything is done."""
        return self._order(Fault(match, "drop", times=times, after=after))

    def drop_after(self, match: str, *, times: int | None = 1, after: int = 0) -> Fault:
        """Do it, then cut the connection before the answer: the client cannot know. Not at ``<connect>``."""
        return self._order(Fault(match, "drop_after", times=times, after=after))

    def hang(self, match: str, *, times: int | None = 1, after: int = 0) -> Fault:
        """Do not answer until the client interrupts (its ``call_timeout``), goes away, or the double closes."""
        return self._order(Fault(match, "hang", times=times, after=after))

    def refuse(self, number: int, *, times: int | None = 1, after: int = 0) -> Fault:
        """Refuse connections as a listener does: 12514 unknown service, 12516 no handler, 12541 no listener, ..."""
        return self._order(Fault(CONNECT, "refuse", number, times=times, after=after))

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._orders.clear()

    def strike(self, what: str) -> Fault | None:
        """The fault that strikes at ``what``, a statement or an event."""
        with self._lock:
            for fault in self._orders:
                if fault.times == 0 or not _matches(fault.match, what):
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.struck += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _order(self, fault: Fault) -> Fault:
        with self._lock:
            self._orders.append(fault)
        return fault


def _matches(match: str, what: str) -> bool:
    if match.startswith("<") or what.startswith("<"):
        return match == what
    return re.search(match, what, re.IGNORECASE | re.DOTALL) is not None


def suffer(fault: Fault | None, link: Link) -> Fault | None:
    """What a fault does before the call; ``drop_after`` does the rest."""
    if fault and fault.action == "ora":
        raise OraError(fault.number, fault.text)
    if fault and fault.action == "drop":
        raise DropConnection("ordered by the test")
    while fault and fault.action == "hang":
        link.interrupted(POLL_SECONDS)
    return fault


def drop_after(fault: Fault | None) -> None:
    """What a fault does after the call, before its answer."""
    if fault and fault.action == "drop_after":
        raise DropConnection("ordered by the test")


@dataclass(frozen=True, slots=True)
class Statement:
    """An execution that the client asked for, whatever became of it.

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
