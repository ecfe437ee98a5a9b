"""A request as the vendors see it, and a response before it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

if TYPE_CHECKING:
    from sandbox.vendors.base import Vendor


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """A call of a data endpoint.

    :param vendor: the vendor that is called.
    :param base: scheme, host and port that the client used, and the vendor's path prefix: the start of links in responses.
    :param path: decoded, without prefix and query.
    :param endpoint: name of its route in ``vendor.routes``, or ``unknown``. ``found``: the parameters of that route's path.
    :param query, form: the last value of each parameter, without the key; ``form`` is the body of a POST.
    :param headers: found by name in lower case.
    :param url_key: the key where the client put it into the URL, where logs get to see it.
    """

    vendor: Vendor
    path: str
    query: Mapping[str, str]
    method: str = "GET"
    base: str = ""
    endpoint: str = "unknown"
    found: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    url_key: str | None = None

    @classmethod
    async def read(cls, vendor: Vendor, endpoint: str, request: Request, gateway: str = "") -> VendorRequest:
        """Read a request of Starlette's.

        :param gateway: path prefix that links in responses do not have.
        """
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        url_key = query.pop(vendor.key_parameter, None) if vendor.key_parameter else None
        form = dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
        root = request.scope["root_path"]
        base = f"http://{request.url.netloc}{root.removeprefix(gateway)}"
        path = request.scope["path"].removeprefix(root)
        found = request.path_params
        return cls(vendor, path, query, request.method, base, endpoint, found, form, request.headers, url_key)

    @property
    def parameters(self) -> dict[str, str]:
        """Those of the query and of the form."""
        return {**self.query, **self.form}

    @property
    def target(self) -> str:
        """Path, query and form, without the key: what logs and fault patterns see."""
        return f"{self.path}?{urlencode(self.parameters)}" if self.parameters else self.path


@dataclass(frozen=True, slots=True)
class VendorResponse:
    """A response to send. Faults turn one into another.

    :param body: bytes as they are, text, or what the vendor's ``encode`` makes text of.
    :param headers: besides the vendor's usual ones. With ``Content-Encoding`` the body is not compressed again.
    :param source: where the values come from; None where there are none.
    :param delay: seconds to wait before sending.
    :param drip: seconds between two bytes; 0 sends them together.
    :param drip_head: the status line and the headers drip too.
    :param send: share of the body to send before the connection closes; ``Content-Length`` is always that of the whole body.
    :param reset: end the connection with a TCP reset instead.
    """

    request: VendorRequest
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    delay: float = 0.0
    drip: float = 0.0
    drip_head: bool = False
    send: float = 1.0
    reset: bool = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def encoded(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else self.request.vendor.encode(self)

    @property
    def all_headers(self) -> dict[str, str]:
        source = {"X-Sample-Source": self.source} if self.source else {}
        return {**self.request.vendor.headers(self), **source, **self.headers}
