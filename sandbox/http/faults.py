"""Faults, each a function from the normal response to a faulty one. Add a new kind to a table."""

from __future__ import annotations

import codecs
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from sandbox.faults import Fault, Kind, Match
from sandbox.vendors.base import Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse

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


def byte_order_mark(response: VendorResponse, *, packed: bool = False) -> VendorResponse:
    """Begin the body with a UTF-8 byte order mark; ``packed``: inside the compressed body."""
    body = codecs.BOM_UTF8 + response.encoded()
    return _gzipped(response, gzip.compress(body, 1)) if packed else replace(response, body=body)


def substituted(response: VendorResponse, *, pattern: str, text: str, count: int = 1) -> VendorResponse:
    """Replace what ``pattern`` finds in the body by ``text``, the first ``count`` times; 0: everywhere.

    ``\\udcff`` in the text becomes the byte ff.
    """
    body = response.encoded().decode(errors="surrogateescape")
    body = re.sub(pattern, lambda found: found.expand(text), body, count=count)
    return replace(response, body=body.encode(errors="surrogateescape"))


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
        *(truncated, truncated_gzip, bad_gzip, empty, byte_order_mark, substituted, html, reset, slow, trickle),
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
class VendorFault(Fault):
    """A fault in the responses of one vendor.

    :param vendor: the vendor; its own kinds take precedence over `KINDS`.
    """

    vendor: Vendor | None = None

    @classmethod
    def of(cls, vendor: Vendor, kind: str, match: Match | None, times: int | None, options: Mapping[str, Any]) -> VendorFault:
        return cls({**KINDS, **vendor.faults}, kind, match, times, options, vendor)

    def hits(self, request: VendorRequest) -> bool:
        return request.vendor is self.vendor and Fault.hits(self, request)

    def to_json(self) -> dict[str, Any]:
        return {"vendor": self.vendor.name if self.vendor else None, **Fault.to_json(self)}
