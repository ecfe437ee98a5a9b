"""The calls of the sample API, as its log has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox.call_log import read_calls


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a data endpoint.

    :param time: arrival, Unix seconds.
    :param monotonic: arrival on the server's monotonic clock, seconds.
    :param target: path and query without the key.
    :param endpoint: the vendor's word for it, such as ``range`` or ``grouped``; ``unknown`` where there is none.
    :param ticker: the one symbol that the call is about.
    :param date: the one session that the call is about.
    :param status: of the response; with the fault ``reset``, of the response that was not sent.
    :param accepted: the call had a valid key and was within the quota; only these use the quota up.
    :param source: value of ``X-Sample-Source``.
    :param fault: the kind of the injected fault.
    :param client_request_id: what the client sent as ``X-Request-Id``.
    :param key_in_url: the URL contained a key, valid or not.
    :param vendor: the vendor that was called.
    """

    time: float
    monotonic: float
    target: str
    endpoint: str
    ticker: str | None
    date: str | None
    status: int
    accepted: bool
    source: str | None
    fault: str | None
    request_id: str
    client_request_id: str | None
    key_in_url: bool = False
    vendor: str = "polygon"
    method: str = "GET"


def read_call_log(path: Path) -> list[Call]:
    """Read the calls of a log file, in order of arrival."""
    return read_calls(path, Call)
