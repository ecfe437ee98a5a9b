"""A request as the endpoints see it, and an answer before it is sent."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """A GET of a data endpoint.

    :param base: scheme, host and port that the client used.
    :param path: decoded, without the query.
    :param query: the last value of each parameter, without the key.
    :param key: what the client showed as its key, or None.
    :param key_in_url: it did so in the URL, where logs get to see it.
    :param client_request_id: its ``X-Request-Id``.
    """

    base: str
    path: str
    query: Mapping[str, str]
    key: str | None
    client_request_id: str | None
    key_in_url: bool = False

    @classmethod
    def parse(cls, target: str, headers: Mapping[str, str], prefix: str = "") -> Request:
        """The request of ``target`` (path and query).

        :param prefix: what a gateway puts before every path; taken off. A path without it leads nowhere.
        """
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        in_url = query.pop("apiKey", None)
        key = in_url or (token.strip() if scheme.lower() == "bearer" else None)
        whole = unquote(parts.path)
        base, path = f"http://{headers.get('Host', '127.0.0.1')}", whole.removeprefix(prefix) if whole.startswith(prefix) else "/"
        return cls(base, path, query, key, headers.get("X-Request-Id"), in_url is not None)

    @property
    def target(self) -> str:
        """Path and query, without the key: what logs and fault patterns see."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent. Faults turn one into another.

    :param body: JSON, which gets ``request_id`` added, or bytes as they are.
    :param headers: besides the usual ones. Where they have ``Content-Encoding``, the body is not compressed again.
    :param source: where the values come from; None where there are none.
    :param delay: seconds to wait before sending.
    :param drip: seconds between two bytes; 0 sends them together.
    :param drip_head: the status line and the headers drip too.
    :param send: which share of the body is sent before the connection closes; ``Content-Length`` always tells of the whole.
    :param reset: end the connection with a TCP reset instead.
    """

    request: Request
    status: int
    body: dict[str, Any] | bytes
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
        text = json.dumps({**self.body, "request_id": self.request_id}, separators=(",", ":"))
        return _LARGE_VOLUME.sub(lambda found: f'"v":{_exponent(found[1])}', _ZERO_FRACTION.sub("", text)).encode()

    @property
    def all_headers(self) -> dict[str, str]:
        source = {"X-Sample-Source": self.source} if self.source else {}
        return {"Content-Type": "application/json", "X-Request-Id": self.request_id, **source, **self.headers}


# The vendor writes 75 for 75.0, and volumes from a million on with an exponent.
_ZERO_FRACTION = re.compile(r"(?<=\d)\.0(?=[,}])")
_LARGE_VOLUME = re.compile(r'"v":(\d{7,}(?:\.\d+)?)(?=[,}])')


def _exponent(number: str) -> str:
    """``112117471`` -> ``1.12117471e+08``."""
    whole, _, fraction = number.partition(".")
    digits = (whole + fraction).rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{mantissa}e+{len(whole) - 1:02d}"
