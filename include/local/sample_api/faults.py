"""Faults: each turns the answer that was due into another. A new kind is one function in the table."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from include.local.sample_api import polygon
from include.local.sample_api.answer import Answer, Request

Match = str | re.Pattern[str] | Callable[[Request], bool]


def unauthorized(answer: Answer, *, message: str = polygon.UNKNOWN_KEY) -> Answer:
    return polygon.error(answer.request, 401, message)


def throttled(answer: Answer, *, retry_after: float | None = None) -> Answer:
    return polygon.throttled(answer.request, retry_after)


def server_error(answer: Answer, *, status: int = 500, message: str = "Internal Server Error") -> Answer:
    return polygon.error(answer.request, status, message)


def truncated(answer: Answer, *, fraction: float = 0.5, clean: bool = False) -> Answer:
    """``fraction`` of the body. The connection breaks off before ``Content-Length`` is reached, or ``clean``: the header fits."""
    if not clean:
        return replace(answer, send=fraction)
    body = answer.encoded()
    return replace(answer, body=body[: int(len(body) * fraction)])


def reset(answer: Answer) -> Answer:
    return replace(answer, reset=True)


def html(answer: Answer, *, status: int = 200) -> Answer:
    """A page of something in between, such as a proxy in maintenance."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Maintenance</h1></body></html>"
    return Answer(answer.request, status, page, {"Content-Type": "text/html; charset=utf-8"})


def slow(answer: Answer, *, seconds: float = 1.0) -> Answer:
    return replace(answer, delay=seconds)


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function for function in (unauthorized, throttled, server_error, truncated, reset, html, slow)
}


@dataclass(slots=True)
class Fault:
    """A fault to put in.

    :param kind: a name in `KINDS`.
    :param match: a pattern searched in the request's path and query, or a function of the request; None is every request.
    :param times: how often; None is without end.
    :param options: those of the kind.
    :raises ValueError: for an unknown kind or option.
    """

    kind: str
    match: Match | None = None
    times: int | None = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault is {self.kind!r}; allowed: {', '.join(KINDS)}")
        allowed = list(inspect.signature(KINDS[self.kind]).parameters)[1:]
        for name in self.options:
            if name not in allowed:
                raise ValueError(f"option of fault {self.kind} is {name!r}; allowed: {', '.join(allowed) or 'none'}")
        if isinstance(self.match, str):
            try:
                self.match = re.compile(self.match)
            except re.error as error:
                raise ValueError(f"match is {self.match!r}, which is not a pattern: {error}") from None

    def hits(self, request: Request) -> bool:
        if self.match is None:
            return True
        if isinstance(self.match, re.Pattern):
            return self.match.search(request.target) is not None
        assert callable(self.match)
        return self.match(request)

    def to_json(self) -> dict[str, Any]:
        match = self.match.pattern if isinstance(self.match, re.Pattern) else repr(self.match) if self.match else None
        return {"kind": self.kind, "match": match, "times": self.times, **self.options}


class Faults:
    """The faults that wait, in the order they were set; a request meets the first that fits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def to_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.to_json() for fault in self._waiting]

    def apply(self, answer: Answer) -> tuple[Answer, str | None]:
        """The answer to give, and the kind of the fault in it."""
        fault = self._take(answer.request)
        return (KINDS[fault.kind](answer, **fault.options), fault.kind) if fault else (answer, None)

    def _take(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if fault.hits(request):
                    if fault.times is not None:
                        fault.times -= 1
                    self._waiting = [waiting for waiting in self._waiting if waiting.times != 0]
                    return fault
        return None
