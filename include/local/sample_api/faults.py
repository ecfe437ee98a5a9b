"""Faults: each turns the answer that was due into another. A new kind is one function in the table."""

from __future__ import annotations

import gzip
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from include.local.sample_api import polygon
from include.local.sample_api.answer import Answer, Request

Match = str | re.Pattern[str] | Callable[[Request], bool]


# Refusals, in the vendor's shape


def unauthorized(answer: Answer, *, message: str = polygon.UNKNOWN_KEY) -> Answer:
    return polygon.error(answer.request, 401, message)


def forbidden(answer: Answer, *, message: str = polygon.NOT_ENTITLED) -> Answer:
    return polygon.error(answer.request, 403, message, word="NOT_AUTHORIZED", field="message")


def not_found(answer: Answer, *, message: str = "Data not found.") -> Answer:
    return polygon.error(answer.request, 404, message, word="NOT_FOUND", field="message")


def throttled(answer: Answer, *, retry_after: float | str | None = None) -> Answer:
    return polygon.throttled(answer.request, retry_after)


def server_error(answer: Answer, *, status: int = 500, message: str = "Internal Server Error") -> Answer:
    return polygon.error(answer.request, status, message)


def error_with_200(answer: Answer, *, message: str = "Internal error") -> Answer:
    return polygon.error(answer.request, 200, message)


# Bodies and transfers that are not whole, or not the API's


def truncated(answer: Answer, *, fraction: float = 0.5, clean: bool = False) -> Answer:
    """``fraction`` of the body. The connection breaks off before ``Content-Length`` is reached, or ``clean``: the header fits."""
    if not clean:
        return replace(answer, send=fraction)
    return replace(answer, body=_share(answer.encoded(), fraction))


def truncated_gzip(answer: Answer, *, fraction: float = 0.5) -> Answer:
    """``fraction`` of the compressed body, in a good transfer: ``Content-Length`` fits."""
    return _gzipped(answer, _share(gzip.compress(answer.encoded(), 1), fraction))


def bad_gzip(answer: Answer) -> Answer:
    """A compressed body with a byte changed in its middle, in a good transfer."""
    body = bytearray(gzip.compress(answer.encoded(), 1))
    body[len(body) // 2] ^= 0xFF
    return _gzipped(answer, bytes(body))


def empty(answer: Answer, *, status: int = 200) -> Answer:
    return replace(answer, status=status, body=b"")


def html(answer: Answer, *, status: int = 200) -> Answer:
    """A page of something in between, such as a proxy in maintenance."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Maintenance</h1></body></html>"
    return Answer(answer.request, status, page, {"Content-Type": "text/html; charset=utf-8"})


def reset(answer: Answer) -> Answer:
    return replace(answer, reset=True)


def slow(answer: Answer, *, seconds: float = 1.0) -> Answer:
    return replace(answer, delay=seconds)


def trickle(answer: Answer, *, seconds: float = 0.05, head: bool = False) -> Answer:
    """A byte at a time, never long enough apart for a time-out between bytes; with ``head`` the headers too."""
    return replace(answer, drip=seconds, drip_head=head)


# Good JSON that cannot be the answer


def page_loop(answer: Answer, *, days_back: int = 0) -> Answer:
    """``next_url`` is the page itself, or with ``days_back`` an earlier one."""
    path, request = answer.request.path, answer.request
    _, found = polygon.route(path) or ("", {})
    if days_back and "start" in found:
        start = polygon.as_date(found["start"], "from") - timedelta(days=days_back)
        path = path.replace(f"/{found['start']}/", f"/{start}/")
    return _with(answer, next_url=f"{request.base}{replace(request, path=path).target}")


def other_symbol(answer: Answer, *, symbol: str = "ZVZZT") -> Answer:
    """A range answer about another symbol."""
    return _with(answer, ticker=symbol)


def out_of_range(answer: Answer, *, days: int = 4000) -> Answer:
    """The last row is of a date so many days later."""
    rows = _rows(answer)
    return _with_rows(answer, [*rows[:-1], *({**row, "t": row["t"] + days * 86_400_000} for row in rows[-1:])])


def duplicated(answer: Answer, *, conflicting: bool = False) -> Answer:
    """Every row twice; ``conflicting``: the second time with another volume."""
    return _with_rows(
        answer, [copy for row in _rows(answer) for copy in (row, {**row, "v": (row["v"] or 0) + 1} if conflicting else row)]
    )


def other_adjustment(answer: Answer) -> Answer:
    """``adjusted`` is the contrary of what was asked."""
    return _with(answer, adjusted=not answer.body.get("adjusted")) if isinstance(answer.body, dict) else answer


def miscounted(answer: Answer, *, by: int = 1) -> Answer:
    """``resultsCount`` is so many too high, or too low."""
    count = len(_rows(answer)) + by
    return _with(answer, resultsCount=count, count=count)


def no_results(answer: Answer, *, null: bool = False) -> Answer:
    """``resultsCount`` says there are rows, and ``results`` is absent, or ``null``."""
    if not isinstance(answer.body, dict):
        return answer
    rest = {name: value for name, value in answer.body.items() if name != "results"}
    return replace(answer, body={**rest, "results": None} if null else rest)


def without_ticker(answer: Answer) -> Answer:
    """Rows of a grouped answer that do not say whose they are."""
    return _with_rows(answer, [{name: value for name, value in row.items() if name != "T"} for row in _rows(answer)])


def drifted(answer: Answer) -> Answer:
    """Closing prices as text."""
    return _with_rows(answer, [{**row, "c": str(row["c"])} for row in _rows(answer)])


KINDS: Mapping[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        *(unauthorized, forbidden, not_found, throttled, server_error, error_with_200),
        *(truncated, truncated_gzip, bad_gzip, empty, html, reset, slow, trickle),
        *(page_loop, other_symbol, out_of_range, duplicated, other_adjustment, miscounted, no_results, without_ticker, drifted),
    )
}


def _share(body: bytes, fraction: float) -> bytes:
    return body[: int(len(body) * fraction)]


def _gzipped(answer: Answer, body: bytes) -> Answer:
    return replace(answer, body=body, headers={**answer.headers, "Content-Encoding": "gzip"})


def _rows(answer: Answer) -> list[dict[str, Any]]:
    return answer.body.get("results", []) if isinstance(answer.body, dict) else []


def _with_rows(answer: Answer, rows: list[dict[str, Any]]) -> Answer:
    """The same answer with other rows, counted right."""
    return _with(answer, results=rows, queryCount=len(rows), resultsCount=len(rows), count=len(rows)) if rows else answer


def _with(answer: Answer, **fields: Any) -> Answer:
    return replace(answer, body={**answer.body, **fields}) if isinstance(answer.body, dict) else answer


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
