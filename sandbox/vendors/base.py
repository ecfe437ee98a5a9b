"""What a vendor is to the server. A vendor is a subclass in a file here, and a line in ``vendors/__init__.py``."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from sandbox.http.calls import RollingQuota
from sandbox.http.messages import Answer, Request
from sandbox.market.market import Market


class BadParameterError(Exception):
    """A request that the vendor refuses.

    :param message: in its words.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Vendor:
    """A vendor's dialect: its endpoints, where it looks for a key, the bodies of its errors, how it writes a body.

    An endpoint is an entry in ``routes`` and a method of that name, ``(request, found) -> Answer``, where ``found`` holds the named
    groups of the pattern. It raises `BadParameterError` for what the vendor refuses. More options of a vendor are keyword arguments
    of its own ``__init__``, and of `SampleApi`.

    :param market: what it answers from.
    :param quota: that of its one account.
    """

    name: ClassVar[str]
    methods: ClassVar[tuple[str, ...]] = ("GET",)
    routes: ClassVar[Mapping[str, str]]
    """Endpoint -> pattern of its whole path. The first that fits is taken."""
    words: ClassVar[Mapping[int, str]]
    """Status -> what the vendor says with it, where nothing else is known; 401 and 429 are needed, 403 and 404 for those faults."""
    no_key: ClassVar[str]
    """What it says where no key is shown; ``words[401]`` is for an unknown one."""
    key_parameter: ClassVar[str | None] = None
    """The parameter of the URL that may hold the key; it is seen by `key` only, in ``request.url_key``."""
    content_type: ClassVar[str] = "application/json"
    compresses: ClassVar[bool] = True
    """Bodies are sent with gzip to clients that take it."""
    faults: ClassVar[Mapping[str, Callable[..., Answer]]] = {}
    """Faults of its own, ``(answer, **options) -> Answer``; one of a name in ``faults.KINDS`` takes its place."""

    def __init__(self, market: Market, quota: RollingQuota) -> None:
        self.market, self.quota = market, quota

    # the key

    def key(self, request: Request) -> str | None:
        """The key that a request shows, to be compared with the server's; None where it shows none."""
        return request.url_key or bearer(request)

    # refusals

    def error(self, request: Request, status: int, message: str) -> Answer:
        """An error in the vendor's shape."""
        raise NotImplementedError

    def unauthorized(self, request: Request, key: str | None) -> Answer:
        """The answer to a missing key (None), or to one that the server does not know."""
        return self.error(request, 401, self.no_key if key is None else self.words[401])

    def throttled(self, request: Request, retry_after: float | str | None = None) -> Answer:
        """The answer over quota.

        :param retry_after: seconds, or a date in words, for the header of that name; None leaves it out.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return replace(self.error(request, 429, self.words[429]), headers=headers)

    # answers

    def route(self, path: str) -> tuple[str, dict[str, str]] | None:
        """The endpoint's name and the named parts of ``path``, or None where there is no such endpoint."""
        for name, pattern in self.routes.items():
            if found := re.fullmatch(pattern, path):
                return name, found.groupdict()
        return None

    def subject(self, request: Request, found: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002
        """The ticker and the date that a call is about, for the call log; None where there is not exactly one."""
        return found.get("ticker"), found.get("date")

    def answer(self, endpoint: str, request: Request, found: Mapping[str, str]) -> Answer:
        """The answer of the endpoint that `route` found."""
        try:
            answer: Answer = getattr(self, endpoint)(request, found)
        except BadParameterError as bad:
            return self.error(request, bad.status, str(bad))
        return answer

    def unknown_path(self, request: Request) -> Answer:
        return self.error(request, 404, "Page not found")

    def encode(self, answer: Answer) -> bytes:
        """A body that is neither bytes nor text."""
        return json.dumps(answer.body, separators=(",", ":")).encode()

    def headers(self, answer: Answer) -> dict[str, str]:
        """Those that every answer has. `Answer.headers` goes before them."""
        return {"Content-Type": self.content_type, "X-Request-Id": answer.request_id}


def bearer(request: Request) -> str | None:
    """The token of ``Authorization: Bearer``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def basic(request: Request) -> tuple[str, str] | None:
    """User and password of ``Authorization: Basic``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return user, password
