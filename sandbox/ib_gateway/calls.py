"""The call log: requests, their times and their results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox.call_log import read_calls
from sandbox.ib_gateway.requests import GatewayRequest


@dataclass(frozen=True, slots=True)
class GatewayCall:
    """One request for contract details or historical bars. Requests made while connecting are not logged.

    :param time: arrival, Unix seconds.
    :param monotonic: arrival on the gateway's monotonic clock, seconds.
    :param target: the request in words.
    :param kind: ``details`` or ``history``.
    :param symbol: as the client wrote it.
    :param client_id: of the connection. ``number``: the client's own number of the request.
    :param end: end of the requested span as the client wrote it; empty is now. ``duration``, ``size``: likewise.
    :param status: 0, or the number of the error that was sent.
    :param accepted: it kept the pacing rules.
    :param rows: bars or contracts in the response.
    :param fault: the kind of the injected fault.
    """

    time: float
    monotonic: float
    target: str
    kind: str
    symbol: str
    client_id: int
    number: int
    end: str
    duration: str
    size: str
    status: int
    accepted: bool
    rows: int
    fault: str | None = None

    @classmethod
    def of(
        cls, request: GatewayRequest, *, time: float, monotonic: float, status: int, accepted: bool, rows: int, fault: str | None
    ) -> GatewayCall:
        copied = {name: getattr(request, name) for name in ("target", "kind", "client_id", "number", "end", "duration", "size")}
        return cls(
            **copied,
            symbol=request.contract.symbol,
            time=time,
            monotonic=monotonic,
            status=status,
            accepted=accepted,
            rows=rows,
            fault=fault,
        )


def read_call_log(path: Path) -> list[GatewayCall]:
    """Read the calls of a log file, in order of arrival."""
    return read_calls(path, GatewayCall)
