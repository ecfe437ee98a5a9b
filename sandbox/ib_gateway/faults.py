"""Faults, each a function from the normal response to a faulty one. Add a new kind to the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sandbox.ib_gateway import history
from sandbox.ib_gateway.requests import GatewayRequest


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """A response to send.

    :param rows: fields of each bar, or of each contract.
    :param begins, ends: span of the bars, as the message declares it.
    :param declared: number of bars, as the message declares it.
    :param error: number and text; then nothing else is sent. ``about``: the request's number, or -1 for none in particular.
    :param silent: nothing is sent.
    :param raw: bytes in place of the message.
    :param delay: seconds to wait before sending. ``drip``: seconds between two bytes.
    :param send: share of the bytes after which the connection is closed; None sends all and keeps it. ``reset``: with a TCP reset.
    """

    request: GatewayRequest
    rows: tuple[tuple[str, ...], ...] = ()
    begins: str = ""
    ends: str = ""
    declared: int = 0
    error: tuple[int, str] | None = None
    about: int | None = None
    silent: bool = False
    raw: bytes | None = None
    delay: float = 0.0
    drip: float = 0.0
    send: float | None = None
    reset: bool = False

    @property
    def status(self) -> int:
        return self.error[0] if self.error else 0


def refused(response: GatewayResponse, *, code: int, text: str, broadcast: bool = False) -> GatewayResponse:
    """Send an error.

    :param broadcast: the error refers to no request, as for a lost link; the request itself gets no response.
    """
    return replace(response, error=(code, text), about=-1 if broadcast else None, rows=(), declared=0)


def pacing(response: GatewayResponse) -> GatewayResponse:
    return refused(response, code=history.NO_DATA, text=history.PACING)


def hang(response: GatewayResponse) -> GatewayResponse:
    return replace(response, silent=True)


def slow(response: GatewayResponse, *, seconds: float = 1.0) -> GatewayResponse:
    return replace(response, delay=seconds)


def trickle(response: GatewayResponse, *, seconds: float = 0.05) -> GatewayResponse:
    return replace(response, drip=seconds)


def reset(response: GatewayResponse) -> GatewayResponse:
    """Reset the connection before anything is sent."""
    return replace(response, send=0.0, reset=True)


def broken_off(response: GatewayResponse, *, fraction: float = 0.5) -> GatewayResponse:
    """Close the connection in the middle of the response."""
    return replace(response, send=fraction)


def garbage(response: GatewayResponse) -> GatewayResponse:
    """Send bytes of another protocol."""
    return replace(response, raw=b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html><h1>Maintenance</h1></html>")


def short(response: GatewayResponse, *, fraction: float = 0.5) -> GatewayResponse:
    """Send fewer bars than the message declares."""
    return replace(response, rows=response.rows[: int(len(response.rows) * fraction)])


def miscounted(response: GatewayResponse, *, by: int = 1) -> GatewayResponse:
    return replace(response, declared=response.declared + by)


def half(response: GatewayResponse) -> GatewayResponse:
    """Send the later half of the bars only, with its true begin.

    The service does so when it responds for a shorter span.
    """
    kept = response.rows[len(response.rows) // 2 :]
    return replace(response, rows=kept, declared=len(kept), begins=f"{kept[0][0][:8]}  00:00:00") if kept else response


def page_loop(response: GatewayResponse) -> GatewayResponse:
    """Declare a span that begins where it ends."""
    return replace(response, begins=response.ends)


def duplicated(response: GatewayResponse, *, conflicting: bool = False) -> GatewayResponse:
    """Send every bar twice; ``conflicting``: the second time with another volume."""

    def copy(row: tuple[str, ...]) -> tuple[str, ...]:
        return (*row[:5], f"{float(row[5]) + 1:.10g}", *row[6:]) if conflicting else row

    rows = tuple(row for one in response.rows for row in (one, copy(one)))
    return replace(response, rows=rows, declared=len(rows))


def out_of_range(response: GatewayResponse, *, stamp: str = "20350102") -> GatewayResponse:
    """Give the last bar another date."""
    if not response.rows:
        return response
    *rows, last = response.rows
    return replace(response, rows=(*rows, (stamp, *last[1:])))


def odd(response: GatewayResponse, *, field: int, value: str, row: int = 1) -> GatewayResponse:
    """Set one field of one bar (of details: of one contract) to ``value``."""
    rows = [list(one) for one in response.rows]
    if row < len(rows):
        rows[row][field] = value
    return replace(response, rows=tuple(tuple(one) for one in rows))


def drifted(response: GatewayResponse) -> GatewayResponse:
    """Closing prices that are no numbers."""
    return replace(response, rows=tuple((*row[:4], f"USD {row[4]}", *row[5:]) for row in response.rows))


def blank(response: GatewayResponse, *, value: str = "1.7976931348623157E308") -> GatewayResponse:
    """Replace all numbers by ``value``: the protocol's null value, ``nan`` or ``Infinity``."""
    return replace(response, rows=tuple((row[0], *[value] * 6, "-1") for row in response.rows))


KINDS: Mapping[str, Callable[..., GatewayResponse]] = {
    function.__name__: function
    for function in (
        *(refused, pacing, hang, slow, trickle, reset, broken_off, garbage),
        *(short, miscounted, half, page_loop, duplicated, out_of_range, odd, drifted, blank),
    )
}
