"""Faults that wait for a request of a sample server."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Targeted(Protocol):
    """A request that a pattern can be searched in."""

    @property
    def target(self) -> str: ...


Match = str | re.Pattern[str] | Callable[[Any], bool]
Kind = Callable[..., Any]
"""``(response, **options) -> response``."""


@dataclass(slots=True)
class Fault:
    """A fault to inject.

    :param kinds: the functions to choose from, by name.
    :param kind: a name in ``kinds``.
    :param match: a pattern searched in the request's target, or a function of the request; None is every request.
    :param times: how often; None is without end.
    :param options: those of the kind.
    :raises ValueError: for an unknown kind or option, or a pattern that is not one.
    """

    kinds: Mapping[str, Kind]
    kind: str
    match: Match | None = None
    times: int | None = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in self.kinds:
            raise ValueError(f"fault is {self.kind!r}; allowed: {', '.join(self.kinds)}")
        allowed = list(inspect.signature(self.kinds[self.kind]).parameters)[1:]
        for name in self.options:
            if name not in allowed:
                raise ValueError(f"option of fault {self.kind} is {name!r}; allowed: {', '.join(allowed) or 'none'}")
        if isinstance(self.match, str):
            try:
                self.match = re.compile(self.match)
            except re.error as error:
                raise ValueError(f"match is {self.match!r}, which is not a pattern: {error}") from None

    def apply(self, response: Any) -> Any:
        return self.kinds[self.kind](response, **self.options)

    def hits(self, request: Targeted) -> bool:
        if isinstance(self.match, re.Pattern):
            return self.match.search(request.target) is not None
        return not callable(self.match) or self.match(request)

    def to_json(self) -> dict[str, Any]:
        match = self.match.pattern if isinstance(self.match, re.Pattern) else repr(self.match) if self.match else None
        return {"kind": self.kind, "match": match, "times": self.times, **self.options}


F = TypeVar("F", bound=Fault)


class FaultQueue(Generic[F]):
    """The faults that wait, in the order they were set; a request meets the first that fits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[F] = []

    def add(self, fault: F) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def to_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.to_json() for fault in self._waiting]

    def apply(self, response: Any) -> tuple[Any, str | None]:
        """Return the response to send, and the kind of the fault in it."""
        fault = self._take(response.request)
        return (fault.apply(response), fault.kind) if fault else (response, None)

    def _take(self, request: Targeted) -> F | None:
        with self._lock:
            fault = next((fault for fault in self._waiting if fault.hits(request)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
            self._waiting = [waiting for waiting in self._waiting if waiting.times != 0]
            return fault
