"""The gateway as a server: one thread per connection, requests handled in order of arrival."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from market_data.core.calendar import NEW_YORK
from market_data.core.capabilities import Window
from sandbox.http.call_log import CallLog
from sandbox.http.calls import max_in_window
from sandbox.http.edits import Edits
from sandbox.ib_gateway import history, requests
from sandbox.ib_gateway.calls import Call
from sandbox.ib_gateway.contracts import INDICES, Catalogue, Listing
from sandbox.ib_gateway.faults import Fault, Faults, GatewayResponse, Match
from sandbox.ib_gateway.pacing import Pacing, Rules
from sandbox.ib_gateway.prices import Prices
from sandbox.ib_gateway.requests import GatewayRequest, Reader, frame
from sandbox.market.market import Market
from sandbox.market.recorded_prices import SamplePrices, universe_symbols, utc_now

ACCOUNT = "DU1000001"
LINGER_ZERO = struct.pack("ii", 1, 0)
ID_IN_USE = (326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
INFO = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)


class SampleGateway:
    """The gateway in threads of this process; a context manager.

    :param port: 0 takes a free one.
    :param rules: what it enforces with error 162.
    :param version: the newest version of the protocol that it speaks, 157 to 178.
    :param now: the present moment, with a time zone.
    :param clock: seconds, never going back; what the rules are measured with.
    """

    def __init__(
        self,
        port: int = 0,
        rules: Rules = Rules(),  # noqa: B008 - it is frozen
        seed: int = 0,
        *,
        symbols: Iterable[str] | None = None,
        call_log: str | Path | None = None,
        version: int = requests.NEWEST,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.port = port
        self.version = version
        self.faults = Faults()
        self.log: CallLog[Call] = CallLog(Path(call_log) if call_log else None)
        self.stopping = threading.Event()
        # The universes name futures and indices too; ES is also a stock.
        known = universe_symbols() - INDICES.keys() if symbols is None else symbols
        self.now = now
        self.edits = Edits()
        self.market = Market(SamplePrices(seed, known, now), self.edits, seed, now)
        self.prices = Prices(self.market)
        self.catalogue = Catalogue(self.market.symbols)
        self._pacing = Pacing(rules)
        self._clock = clock
        self._arrivals = threading.Lock()
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> SampleGateway:
        """Start the server.

        :raises OSError: if the port is in use.
        """
        self.stopping.clear()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sample-gateway", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and break off every connection."""
        if self._server is not None:
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self.break_links()
            self._server = None

    def __enter__(self) -> SampleGateway:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def break_links(self) -> None:
        """End every connection, as the real one does once a day."""
        for connection in tuple(self._server.open) if self._server else ():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def clients(self) -> frozenset[int]:
        """The client ids in use."""
        return frozenset(self._server.clients) if self._server else frozenset()

    def forget(self) -> None:
        """Reset to the initial state: no calls, faults or rules. Connections stay open."""
        self.log.clear()
        self.faults.clear()
        self.rules = Rules()
        self._pacing.forget()

    @property
    def calls(self) -> list[Call]:
        """The calls so far, in order of arrival. A call is added before its response is sent."""
        return self.log.calls

    @property
    def rules(self) -> Rules:
        """Set them to change them. Calls accepted before keep counting."""
        return self._pacing.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._pacing.rules = rules

    @property
    def limits(self) -> tuple[Window, ...]:
        """The windows of the rules for all requests together."""
        return self.rules.windows

    @limits.setter
    def limits(self, limits: Sequence[Window]) -> None:
        self.rules = Rules(tuple(limits), self.rules.per_contract, self.rules.identical)

    def max_in_window(self, seconds: float) -> int:
        """Return the largest number of calls that arrived in any window of ``seconds`` seconds."""
        return max_in_window(self.calls, seconds)

    def fault(self, kind: str, *, match: Match | None = None, times: int | None = 1, **options: Any) -> None:
        """Put in a fault: see `faults.Fault`. It happens to calls that keep the rules."""
        self.faults.add(Fault(kind, match, times, options))

    def respond(self, request: GatewayRequest) -> GatewayResponse:
        """Return the response to a request, and log the request."""
        with self._arrivals:
            arrived, moment = time.time(), self._clock()
            accepted = request.kind != "history" or self._pacing.admit(request, moment)
        fault = None
        if not accepted:
            response = GatewayResponse(request, error=(history.NO_DATA, history.PACING))
        else:
            response, fault = self.faults.apply(self._due(request))
        self.log.add(
            Call.of(
                request,
                time=arrived,
                monotonic=moment,
                status=response.status,
                accepted=accepted,
                rows=len(response.rows),
                fault=fault,
            )
        )
        return response

    def _due(self, request: GatewayRequest) -> GatewayResponse:
        now = self.now()
        found = self.catalogue.find(request.contract, now.astimezone(NEW_YORK).date())
        try:
            return self._details(request, found) if request.kind == "details" else self._history(request, found, now)
        except history.Refused as refusal:
            return GatewayResponse(request, error=(refusal.code, refusal.text))

    def _details(self, request: GatewayRequest, found: Sequence[Listing]) -> GatewayResponse:
        if not found:
            raise history.Refused(history.UNKNOWN, history.NO_DEFINITION)
        return GatewayResponse(request, rows=tuple(tuple(_details(listing, self.version)) for listing in found))

    def _history(self, request: GatewayRequest, found: Sequence[Listing], now: datetime) -> GatewayResponse:
        listing = history.the_only(found, request)
        history.check(request, listing)
        span = history.span(request, now)
        rows = tuple(map(tuple, history.rows(request, listing, history.bars(request, listing, self.prices, span))))
        begins, ends = (f"{moment:%Y%m%d  %H:%M:%S}" for moment in (span.start, span.end))
        return GatewayResponse(request, rows, begins, ends, len(rows))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, gateway: SampleGateway) -> None:
        self.gateway = gateway
        self.open: set[socket.socket] = set()
        self.clients: set[int] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", gateway.port), _Link)

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

    server: _Server
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
        stopping = self.server.gateway.stopping
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


def _details(listing: Listing, version: int) -> list[object]:
    """The fields of a contract's details behind the request's number."""
    expires = f"{listing.expiry:%Y%m%d} 08:30 US/Central" if listing.expiry else ""
    month = f"{listing.expiry:%Y%m}" if listing.expiry else ""
    kind = "COMMON" if listing.sec_type == "STK" else ""
    return [
        *(listing.symbol, listing.sec_type, expires, 0, "", listing.exchange, "USD", listing.local_symbol),
        *(listing.trading_class or listing.symbol, listing.trading_class, listing.con_id, listing.tick),
        *(("1",) if version < 164 else ()),
        *(listing.multiplier, "LMT,MKT", listing.exchange, 1, 0, listing.name, listing.primary, month),
        *("", "", "", listing.zone, "", "", "", 0, 0),
        *(1, "", "", "26", f"{listing.expiry:%Y%m%d}" if listing.expiry else "", kind),
        *((1, 1, 1) if version >= 164 else (1,) if version == 163 else ()),
    ]
