"""The messages of the socket protocol: a length, then text fields that each end with a zero byte.

The order of the fields is that of the official clients for versions 157 to 178 of the protocol.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OLDEST, NEWEST = 157, 178
"""Versions of the protocol that are spoken."""

MAX_MESSAGE = 1 << 20

START_API, DETAILS, HISTORY, CANCEL_HISTORY = "71", "9", "20", "25"
CONTRACT_FIELDS = 12


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract as a client describes it; what it leaves open is empty."""

    con_id: str
    symbol: str
    sec_type: str
    expiry: str
    strike: str
    right: str
    multiplier: str
    exchange: str
    primary: str
    currency: str
    local_symbol: str
    trading_class: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A parameters for contract details or historical bars.

    :param number: the client's own number of it.
    :param end: ``yyyymmdd hh:mm:ss`` with a time zone behind it, or empty for now.
    """

    kind: str
    client_id: int
    number: int
    contract: Contract
    end: str = ""
    size: str = ""
    duration: str = ""
    regular: bool = True
    what: str = ""
    format_date: int = 1

    @classmethod
    def parse(cls, client_id: int, fields: Sequence[str]) -> GatewayRequest:
        """Parse the fields of a message.

        :raises ValueError: if they are not those of a known message.
        """
        if fields[0] == DETAILS:
            rest = fields[3 + CONTRACT_FIELDS :]
            contract = Contract(*fields[3 : 3 + CONTRACT_FIELDS], expired=rest[0] == "1")
            return cls("details", client_id, int(fields[2]), contract)
        contract, rest = fields[2 : 2 + CONTRACT_FIELDS], fields[2 + CONTRACT_FIELDS :]
        expired, end, size, duration, regular, what, format_date = rest[:7]
        wanted = Contract(*contract, expired=expired == "1")
        return cls("history", client_id, int(fields[1]), wanted, end, size, duration, regular == "1", what, int(format_date))

    @property
    def parameters(self) -> tuple[object, ...]:
        """All parameters of the request: equal for identical requests."""
        return self.kind, self.contract, self.end, self.size, self.duration, self.regular, self.what

    @property
    def target(self) -> str:
        """The request in words, for logs and the patterns of faults."""
        contract = self.contract
        name = " ".join(filter(None, (contract.sec_type, contract.symbol or contract.con_id, contract.expiry)))
        return f"{self.kind} {name} {self.size} {self.duration} {self.end}".rstrip()


def frame(fields: Iterable[object]) -> bytes:
    body = "".join(f"{_text(field)}\0" for field in fields).encode()
    return struct.pack(">I", len(body)) + body


def _text(field: object) -> str:
    return str(int(field)) if isinstance(field, bool) else "" if field is None else str(field)


class Reader:
    """Messages from a socket.

    :raises ConnectionError: from every method, when the client is gone or speaks something else.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rb")

    def versions(self) -> tuple[int, int]:
        """Read the protocol versions that the client offers in its first message, after ``API``."""
        if self._exactly(4) != b"API\0":
            raise ConnectionError("no client of this protocol")
        low, _, high = self._message().split()[0].decode().removeprefix("v").partition("..")
        return int(low), int(high or low)

    def fields(self) -> list[str]:
        return self._message().decode().split("\0")[:-1]

    def _message(self) -> bytes:
        (length,) = struct.unpack(">I", self._exactly(4))
        if length > MAX_MESSAGE:
            raise ConnectionError("the message is too long")
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        body = self._stream.read(size)
        if len(body) < size:
            raise ConnectionError("the client is gone")
        return body
