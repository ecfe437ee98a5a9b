"""Base class of the vendors. A new vendor is a subclass in this package, listed in ``__init__.py``."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from market_data.core.spelling import Scheme
from sandbox.market.market import Market
from sandbox.market.vendor_market import VendorMarket
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.quota import RollingQuota


class BadParameterError(Exception):
    """A request that the vendor refuses.

    :param message: in its words.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Vendor:
    """A vendor's dialect: endpoints, place of the key, error bodies and encoding.

    An endpoint is an entry in ``routes`` and a method of that name, ``(request, found) -> VendorResponse``, where ``found`` holds the named
    groups of the pattern. It raises `BadParameterError` for what the vendor refuses. More options of a vendor are keyword arguments
    of its own ``__init__``, and of `SampleApi`.

    :param market: source of the data.
    :param quota: quota of the vendor's only account.
    """

    name: ClassVar[str]
    methods: ClassVar[tuple[str, ...]] = ("GET",)
    routes: ClassVar[Mapping[str, str]]
    """Path as Starlette has it, parameters in braces -> endpoint. The first that fits is taken."""
    words: ClassVar[Mapping[int, str]]
    """Status -> what the vendor says with it, where nothing else is known; 401 and 429 are needed, 403 and 404 for those faults."""
    no_key: ClassVar[str]
    """Message for a request without a key; ``words[401]`` is the one for an unknown key."""
    key_parameter: ClassVar[str | None] = None
    """The parameter of the URL that may hold the key; it is seen by `key` only, in ``request.url_key``."""
    content_type: ClassVar[str] = "application/json"
    compresses: ClassVar[bool] = True
    """Bodies are sent with gzip to clients that take it."""
    spelling: ClassVar[Scheme | None] = None
    """How the vendor spells stocks; None: as the market does."""
    faults: ClassVar[Mapping[str, Callable[..., VendorResponse]]] = {}
    """Faults of its own, ``(response, **options) -> VendorResponse``; one of a name in ``faults.KINDS`` takes its place."""

    def __init__(self, market: Market, quota: RollingQuota) -> None:
        self.market = VendorMarket(market, self.spelling) if self.spelling else market
        self.quota = quota

    @classmethod
    def connection(cls, url: str, api_key: str) -> dict[str, Any]:
        """Return the Airflow connection to this vendor, as the settings file has it; ``url`` is the API's."""
        kind = f"market_data_{cls.name}"
        key = {"conn_password": api_key, "conn_extra": {"plan": "sample"}}
        return {"conn_type": kind, "conn_host": f"{url}/{cls.name}", "conn_port": 0, **key}

    # the key

    def key(self, request: VendorRequest) -> str | None:
        """Return the request's key, which the server compares with its own; None without one."""
        return request.url_key or bearer(request)

    # refusals

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        """Return an error in the vendor's format."""
        raise NotImplementedError

    def unauthorized(self, request: VendorRequest, key: str | None) -> VendorResponse:
        """Return the response to a missing key (None) or an unknown one."""
        return self.error(request, 401, self.no_key if key is None else self.words[401])

    def throttled(self, request: VendorRequest, retry_after: float | str | None = None) -> VendorResponse:
        """Return the response to a call over the quota.

        :param retry_after: seconds, or a date in words, for the header of that name; None leaves it out.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return replace(self.error(request, 429, self.words[429]), headers=headers)

    # responses

    def subject(self, request: VendorRequest, found: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002
        """Return a call's ticker and date for the call log; None for a part that is absent or ambiguous."""
        return found.get("ticker"), found.get("date")

    def respond(self, endpoint: str, request: VendorRequest, found: Mapping[str, str]) -> VendorResponse:
        """Return the response of the endpoint that `route` found."""
        try:
            response: VendorResponse = getattr(self, endpoint)(request, found)
        except BadParameterError as bad:
            return self.error(request, bad.status, str(bad))
        return response

    def unknown_path(self, request: VendorRequest) -> VendorResponse:
        return self.error(request, 404, "Page not found")

    def encode(self, response: VendorResponse) -> bytes:
        """Encode a body that is neither bytes nor text."""
        return json.dumps(response.body, separators=(",", ":")).encode()

    def headers(self, response: VendorResponse) -> dict[str, str]:
        """Return the headers that every response has; `VendorResponse.headers` takes precedence."""
        return {"Content-Type": self.content_type, "X-Request-Id": response.request_id}


def bearer(request: VendorRequest) -> str | None:
    """Return the token of ``Authorization: Bearer``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def basic(request: VendorRequest) -> tuple[str, str] | None:
    """User and password of ``Authorization: Basic``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return user, password
