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

from sandbox.http.messages import VendorRequest, VendorResponse
from sandbox.vendors.base import Vendor

Match = str | re.Pattern[str] | Callable[[VendorRequest], bool]
Kind = Callable[..., VendorResponse]


# Refusals, in the vendor's shape


def unauthorized(response: VendorResponse, *, message: str | None = None) -> VendorResponse:
    return _error(response, 401, message)


def forbidden(response: VendorResponse, *, message: str | None = None, status: int = 403) -> VendorResponse:
    return _error(response, status, message)


def not_found(response: VendorResponse, *, message: str | None = None) -> VendorResponse:
    return _error(response, 404, message)


def throttled(response: VendorResponse, *, retry_after: float | str | None = None) -> VendorResponse:
    return response.request.vendor.throttled(response.request, retry_after)


def server_error(response: VendorResponse, *, status: int = 500, message: str = "Internal Server Error") -> VendorResponse:
    return _error(response, status, message)


def error_with_200(response: VendorResponse, *, message: str = "Internal error") -> VendorResponse:
    return _error(response, 200, message)


# Bodies and transfers that are not whole, or not the API's


def truncated(response: VendorResponse, *, fraction: float = 0.5, clean: bool = False) -> VendorResponse:
    """Send ``fraction`` of the body, then disconnect; ``clean``: with a fitting ``Content-Length``."""
    if not clean:
        return replace(response, send=fraction)
    return replace(response, body=_share(response.encoded(), fraction))


def truncated_gzip(response: VendorResponse, *, fraction: float = 0.5) -> VendorResponse:
    """Send ``fraction`` of the compressed body in a complete transfer: ``Content-Length`` fits."""
    return _gzipped(response, _share(gzip.compress(response.encoded(), 1), fraction))


def bad_gzip(response: VendorResponse) -> VendorResponse:
    """Change a byte in the middle of the compressed body, in a complete transfer."""
    body = bytearray(gzip.compress(response.encoded(), 1))
    body[len(body) // 2] ^= 0xFF
    return _gzipped(response, bytes(body))


def empty(response: VendorResponse, *, status: int = 200) -> VendorResponse:
    return replace(response, status=status, body=b"")


def html(response: VendorResponse, *, status: int = 200) -> VendorResponse:
    """Send an HTML page, as a proxy in maintenance does."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Maintenance</h1></body></html>"
    return VendorResponse(response.request, status, page, {"Content-Type": "text/html; charset=utf-8"})


def reset(response: VendorResponse) -> VendorResponse:
    return replace(response, reset=True)


def slow(response: VendorResponse, *, seconds: float = 1.0) -> VendorResponse:
    return replace(response, delay=seconds)


def trickle(response: VendorResponse, *, seconds: float = 0.05, head: bool = False) -> VendorResponse:
    """Send single bytes with pauses too short for a read time-out; ``head``: the headers too."""
    return replace(response, drip=seconds, drip_head=head)


KINDS: Mapping[str, Kind] = {
    function.__name__: function
    for function in (
        *(unauthorized, forbidden, not_found, throttled, server_error, error_with_200),
        *(truncated, truncated_gzip, bad_gzip, empty, html, reset, slow, trickle),
    )
}
"""Those that can happen to any vendor. Each vendor has more of its own."""


def _error(response: VendorResponse, status: int, message: str | None) -> VendorResponse:
    vendor = response.request.vendor
    return vendor.error(
        response.request, status, (vendor.words.get(status) or HTTPStatus(status).phrase) if message is None else message
    )


def _share(body: bytes, fraction: float) -> bytes:
    return body[: int(len(body) * fraction)]


def _gzipped(response: VendorResponse, body: bytes) -> VendorResponse:
    return replace(response, body=body, headers={**response.headers, "Content-Encoding": "gzip"})


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

    def apply(self, response: VendorResponse) -> VendorResponse:
        return self.kinds[self.kind](response, **self.options)

    def hits(self, request: VendorRequest) -> bool:
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

    def apply(self, response: VendorResponse) -> tuple[VendorResponse, str | None]:
        """Return the response to send, and the kind of the fault in it."""
        fault = self._take(response.request)
        return (fault.apply(response), fault.kind) if fault else (response, None)

    def _take(self, request: VendorRequest) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if fault.hits(request):
                    if fault.times is not None:
                        fault.times -= 1
                    self._waiting = [waiting for waiting in self._waiting if waiting.times != 0]
                    return fault
        return None
