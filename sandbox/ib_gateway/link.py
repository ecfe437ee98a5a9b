"""The gateway's connections: handshake, start-up, and how a response is sent."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_data.core.calendar import NEW_YORK
from sandbox.ib_gateway import history, requests
from sandbox.ib_gateway.faults import GatewayResponse
from sandbox.ib_gateway.requests import GatewayRequest, Reader, frame
from sandbox.sample_server import LINGER_ZERO

if TYPE_CHECKING:
    from sandbox.ib_gateway.server import SampleGateway

ACCOUNT = "DU1000001"
ID_IN_USE = (326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
INFO = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)


class LinkListener(socketserver.ThreadingTCPServer):
    """The gateway's port: a thread per connection, requests handled in order of arrival."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, gateway: SampleGateway) -> None:
        self.gateway = gateway
        self.open: set[socket.socket] = set()
        self.clients: set[int] = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", gateway.port), _Link)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), name="sample-gateway", daemon=True).start()

    def close(self) -> None:
        """Stop listening and break off every connection."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self.break_links()

    def break_links(self) -> None:
        """End every connection; new ones are accepted."""
        for connection in tuple(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        if request.fileno() >= 0 and request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER_ZERO)) == LINGER_ZERO:
            self.close_request(request)  # a shutdown first would end the connection in good order
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the client closed the connection
            super().handle_error(request, client_address)


class _Link(socketserver.BaseRequestHandler):
    """One client's connection."""

    server: LinkListener
    request: socket.socket
    version = 0
    client_id = -1

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader(self.request)
        low, high = self._reader.versions()
        self.version = min(high, self.server.gateway.version)
        if self.version < max(low, requests.OLDEST):
            return
        self._send(self.version, f"{datetime.now(NEW_YORK):%Y%m%d %H:%M:%S} US/Eastern")
        try:
            while True:
                self._take(self._reader.fields())
        except _Ended:
            pass
        finally:
            with self.server.lock:
                self.server.clients.discard(self.client_id)

    def _take(self, fields: list[str]) -> None:
        kind = fields[0]
        if kind == requests.START_API:
            self._begin(int(fields[2]))
        elif kind in (requests.DETAILS, requests.HISTORY):
            self._deliver(self.server.gateway.respond(GatewayRequest.parse(self.client_id, fields)))
        elif kind == requests.CANCEL_HISTORY:
            number = int(fields[2])
            self._error(number, history.NO_DATA, f"{history.SERVICE}API historical data query cancelled: {number}")
        elif kind in _STARTUP:
            self._send(*_STARTUP[kind](fields))

    def _begin(self, client_id: int) -> None:
        with self.server.lock:
            taken = client_id in self.server.clients
            if not taken:
                self.server.clients.add(client_id)
                self.client_id = client_id
        if taken:
            self._error(-1, *ID_IN_USE)
            raise _Ended
        self._send(15, 1, ACCOUNT)
        self._send(9, 1, 1)
        for code, text in INFO:
            self._error(-1, code, text)

    def _deliver(self, response: GatewayResponse) -> None:
        stopping = self.server.stopping
        if response.delay:
            stopping.wait(response.delay)
        if response.silent:
            return
        body = self._encoded(response)
        if response.drip:
            for place in range(len(body)):
                self.request.sendall(body[place : place + 1])
                if stopping.wait(response.drip):
                    return
        elif response.send is None:
            self.request.sendall(body)
        else:
            self.request.sendall(body[: int(len(body) * response.send)])
            if response.reset:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            raise _Ended

    def _encoded(self, response: GatewayResponse) -> bytes:
        number = response.request.number
        if response.raw is not None:
            return response.raw
        if response.error is not None:
            return self._error_frame(number if response.about is None else response.about, *response.error)
        if response.request.kind == "details":
            head = ("8",) if self.version < 164 else ()
            details = [frame((10, *head, number, *row)) for row in response.rows]
            return b"".join([*details, frame((52, 1, number))])
        fields = (field for row in response.rows for field in row)
        return frame((17, number, response.begins, response.ends, response.declared, *fields))

    def _error(self, number: int, code: int, text: str) -> None:
        self.request.sendall(self._error_frame(number, code, text))

    def _error_frame(self, number: int, code: int, text: str) -> bytes:
        return frame((4, 2, number, code, text, *(("",) if self.version >= 166 else ())))

    def _send(self, *fields: object) -> None:
        self.request.sendall(frame(fields))


class _Ended(Exception):
    """The connection is to be closed."""


_STARTUP: dict[str, Callable[[list[str]], tuple[object, ...]]] = {
    "5": lambda _: (53, 1),  # open orders
    "6": lambda fields: (54, 1, fields[3]),  # account updates
    "7": lambda fields: (55, 1, fields[2]),  # executions
    "49": lambda _: (49, 1, int(time.time())),  # current time
    "61": lambda _: (62, 1),  # positions
    "76": lambda fields: (74, 1, fields[2]),  # account updates of a sub-account
    "99": lambda _: (102,),  # completed orders
}
"""Start-up request of a client -> the empty response to it. Other start-up requests get no response."""
