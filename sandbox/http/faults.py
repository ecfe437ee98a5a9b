"""Faults, each a function from the normal response to a faulty one. Add a new kind to a table."""

from __future__ import annotations

import gzip
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from sandbox.http.messages import Answer, Request
from sandbox.vendors.base import Vendor

Match = str | re.Pattern[str] | Callable[[Request], bool]
Kind = Callable[..., Answer]


# Refusals, in the vendor's shape


def unauthorized(answer: Answer, *, message: str | None = None) -> Answer:
    return _error(answer, 401, message)


def forbidden(answer: Answer, *, message: str | None = None, status: int = 403) -> Answer:
    return _error(answer, status, message)


def not_found(answer: Answer, *, message: str | None = None) -> Answer:
    return _error(answer, 404, message)


def throttled(answer: Answer, *, retry_after: float | str | None = None) -> Answer:
    return answer.request.vendor.throttled(answer.request, retry_after)


def server_error(answer: Answer, *, status: int = 500, message: str = "Internal Server Error") -> Answer:
    return _error(answer, status, message)


def error_with_200(answer: Answer, *, message: str = "Internal error") -> Answer:
    return _error(answer, 200, message)


# Bodies and transfers that are not whole, or not the API's


def truncated(answer: Answer, *, fraction: float = 0.5, clean: bool = False) -> Answer:
    """Send ``fraction`` of the body, then disconnect; ``clean``: with a fitting ``Content-Length``."""
    if not clean:
        return replace(answer, send=fraction)
    return replace(answer, body=_share(answer.encoded(), fraction))


def truncated_gzip(answer: Answer, *, fraction: float = 0.5) -> Answer:
    """Send ``fraction`` of the compressed body in a complete transfer: ``Content-Length`` fits."""
    return _gzipped(answer, _share(gzip.compress(answer.encoded(), 1), fraction))


def bad_gzip(answer: Answer) -> Answer:
    """Change a byte in the middle of the compressed body, in a complete transfer."""
    body = bytearray(gzip.compress(answer.encoded(), 1))
    body[len(body) // 2] ^= 0xFF
    return _gzipped(answer, bytes(body))


def empty(answer: Answer, *, status: int = 200) -> Answer:
    return replace(answer, status=status, body=b"")


def html(answer: Answer, *, status: int = 200) -> Answer:
    """Send an HTML page, as a proxy in maintenance does."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Maintenance</h1></body></html>"
    return Answer(answer.request, status, page, {"Content-Type": "text/html; charset=utf-8"})


def reset(answer: Answer) -> Answer:
    return replace(answer, reset=True)


def slow(answer: Answer, *, seconds: float = 1.0) -> Answer:
    return replace(answer, delay=seconds)


def trickle(answer: Answer, *, seconds: float = 0.05, head: bool = False) -> Answer:
    """Send single bytes with pauses too short for a read time-out; ``head``: the headers too."""
    return replace(answer, drip=seconds, drip_head=head)


KINDS: Mapping[str, Kind] = {
    function.__name__: function
    for function in (
        *(unauthorized, forbidden, not_found, throttled, server_error, error_with_200),
        *(truncated, truncated_gzip, bad_gzip, empty, html, reset, slow, trickle),
    )
}
"""Those that can happen to any vendor. Each vendor has more of its own."""


def _error(answer: Answer, status: int, message: str | None) -> Answer:
    vendor = answer.request.vendor
    return vendor.error(
        answer.request, status, (vendor.words.get(status) or HTTPStatus(status).phrase) if message is None else message
    )


def _share(body: bytes, fraction: float) -> bytes:
    return body[: int(len(body) * fraction)]


def _gzipped(answer: Answer, body: bytes) -> Answer:
    return replace(answer, body=body, headers={**answer.headers, "Content-Encoding": "gzip"})


@dataclass(slots=True)
class Fault:
    """A fault to inject.

    :param vendor: the vendor whose responses get it.
    :param kind: a name in `KINDS`, or in the vendor's ``faults``.
    :param match: a pattern searched in the request's path and query, or a function of the request; None is every request.
    :param times: how often; None is without end.
    :param options: those of the kind.
    :raises ValueError: for an unknown kind or option.
    """

    vendor: Vendor
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

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return {**KINDS, **self.vendor.faults}

    def apply(self, answer: Answer) -> Answer:
        return self.kinds[self.kind](answer, **self.options)

    def hits(self, request: Request) -> bool:
        if request.vendor is not self.vendor:
            return False
        if self.match is None:
            return True
        if isinstance(self.match, re.Pattern):
            return self.match.search(request.target) is not None
        assert callable(self.match)
        return self.match(request)

    def to_json(self) -> dict[str, Any]:
        match = self.match.pattern if isinstance(self.match, re.Pattern) else repr(self.match) if self.match else None
        return {"vendor": self.vendor.name, "kind": self.kind, "match": match, "times": self.times, **self.options}


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
        """Return the response to send, and the kind of the fault in it."""
        fault = self._take(answer.request)
        return (fault.apply(answer), fault.kind) if fault else (answer, None)

    def _take(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if fault.hits(request):
                    if fault.times is not None:
                        fault.times -= 1
                    self._waiting = [waiting for waiting in self._waiting if waiting.times != 0]
                    return fault
        return None
