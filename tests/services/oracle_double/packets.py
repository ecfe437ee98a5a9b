"""TNS packets and the primitive values of TTC messages, as the thin driver reads and writes them.

A packet has a length (2 bytes before the connection is accepted, 4 after), a type and a body. A TTC message runs over the bodies of as
many DATA packets as it needs, without a mark at its end: only who parses it knows where it ends.
"""

from __future__ import annotations

import select
import socket
import struct
from contextlib import suppress
from typing import Self

from tests.services.oracle_double.errors import Break, DropConnection

ACCEPT, REFUSE, DATA, MARKER = 2, 4, 6, 12
RESET = 2
SDU = 8192
END_OF_FILE = 0x40
LONGEST_SHORT = 252
LONG_MARK, NULL_MARK = 254, 255
CHUNK = 32767


class Link:
    """One client's socket, packet by packet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.wide = False
        """Lengths have 4 bytes: from the ACCEPT on."""
        self._raw = bytearray()

    def receive(self) -> tuple[int, bytes]:
        """Return the next packet: type and body."""
        self._fill(8)
        size = int.from_bytes(self._raw[: 4 if self.wide else 2], "big")
        self._fill(size)
        kind, body = self._raw[4], bytes(self._raw[8:size])
        del self._raw[:size]
        return kind, body

    def _fill(self, size: int) -> None:
        while len(self._raw) < size:
            data = self.sock.recv(262144)
            if not data:
                raise DropConnection("the client closed")
            self._raw += data

    def send(self, kind: int, body: bytes) -> None:
        size = len(body) + 8
        head = struct.pack(">I", size) if self.wide else struct.pack(">HH", size, 0)
        self.sock.sendall(head + bytes([kind, 0, 0, 0]) + body)

    def send_message(self, message: bytes) -> None:
        """Send a TTC message in as many DATA packets as it takes."""
        step = SDU - 10
        for start in range(0, len(message), step):
            self.send(DATA, b"\0\0" + message[start : start + step])

    def refuse(self, number: int) -> None:
        """Refuse as a listener does, with its TNS number."""
        text = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={number})(ERROR_STACK=(ERROR=(CODE={number})(EMFI=4))))".encode()
        self.send(REFUSE, b"\0\0" + struct.pack(">H", len(text)) + text)

    def interrupted(self, seconds: float) -> None:
        """Wait as long for the client to interrupt or to go: nothing else can happen during a call.

        :raises Break: it interrupts.
        :raises DropConnection: it is gone.
        """
        if self._raw or select.select([self.sock], [], [], seconds)[0]:
            kind, _ = self.receive()
            raise Break if kind == MARKER else DropConnection("the client sent more in the middle of a call")

    def reset(self) -> None:
        """Take part in the client's break: it waits for a marker, resets, and waits for a reset."""
        self.send(MARKER, b"\1\0\1")
        while self.receive() != (MARKER, bytes((1, 0, RESET))):
            pass
        self.send(MARKER, b"\1\0\2")

    def close(self) -> None:
        """Cut, from any thread: whoever receives gets an end."""
        with suppress(OSError):  # the other side was faster
            self.sock.shutdown(socket.SHUT_RDWR)


class Reader:
    """Values of the messages that come in. Asks for further packets as needed."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._data = bytearray()
        self._at = 0

    def forget(self) -> None:
        """Drop what was read, and at a break or between messages all that came."""
        self._data.clear()
        self._at = 0

    def take(self, size: int) -> bytes:
        self._need(size)
        taken = bytes(self._data[self._at : self._at + size])
        self._at += size
        return taken

    def byte(self) -> int:
        if self._at >= len(self._data):
            self._need(1)
        value = self._data[self._at]
        self._at += 1
        return value

    def skip(self, layout: str) -> None:
        """Pass over values: ``b`` a byte, ``n`` a number, ``s`` sized bytes."""
        for kind in layout:
            {"b": self.byte, "n": self.number, "s": self.sized}[kind]()

    def number(self) -> int:
        size = self.byte()
        return int.from_bytes(self.take(size & 0x7F), "big") if size else 0

    def bytes_(self) -> bytes | None:
        """A length byte and as many bytes, or chunks; None for null."""
        size = self.byte()
        if size in (0, NULL_MARK):
            return None
        if size != LONG_MARK:
            return self.take(size)
        chunks = bytearray()
        while chunk := self.number():
            chunks += self.take(chunk)
        return bytes(chunks)

    def sized(self) -> bytes:
        """Bytes after a number that says whether there are any."""
        return (self.bytes_() or b"") if self.number() else b""

    def _need(self, size: int) -> None:
        while len(self._data) - self._at < size:
            kind, body = self._link.receive()
            if kind == MARKER:
                raise Break
            if kind != DATA or struct.unpack(">H", body[:2])[0] & END_OF_FILE:
                raise DropConnection(f"the client sent packet type {kind} or an end")
            self._data += body[2:]


class Writer(bytearray):
    """A message that goes out."""

    def bytes1(self, *values: int) -> Self:
        self.extend(value & 0xFF for value in values)
        return self

    def numbers(self, *values: int) -> Self:
        for value in values:
            size = (value.bit_length() + 7) // 8
            size = size if size <= 2 else (4 if size <= 4 else 8)
            self.append(size)
            self += value.to_bytes(size, "big")
        return self

    def bytes_(self, value: bytes) -> Self:
        if len(value) <= LONGEST_SHORT:
            self.append(len(value))
            self += value
            return self
        self.append(LONG_MARK)
        for start in range(0, len(value), CHUNK):
            chunk = value[start : start + CHUNK]
            self.numbers(len(chunk))
            self += chunk
        return self.numbers(0)

    def text(self, value: str) -> Self:
        """What ``Reader.sized`` reads."""
        encoded = value.encode()
        self.numbers(len(encoded))
        return self.bytes_(encoded) if encoded else self
