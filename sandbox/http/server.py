"""The HTTP server."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from market_data.core.capabilities import Window
from sandbox.http import control
from sandbox.http.call_log import CallLog
from sandbox.http.calls import Call, RollingQuota, max_in_window
from sandbox.http.edits import PRICES, Change, Edits
from sandbox.http.faults import Fault, Faults, Match
from sandbox.http.messages import Answer, Request
from sandbox.market.file_prices import FilePrices
from sandbox.market.market import Market
from sandbox.market.recorded_prices import SamplePrices, scattered, universe_symbols, utc_now
from sandbox.vendors import VENDORS, Vendor

LINGER_ZERO = struct.pack("ii", 1, 0)  # closing then sends a reset and drops what is unsent


class SampleApi:
    """The sample API on 127.0.0.1; a context manager that starts and stops it.

    :param port: 0 takes a free one; a restart takes the same again.
    :param data: a Parquet file to serve instead of recorded and generated prices.
    :param limits: the quota of each vendor's account, all windows at once; empty means unlimited.
    :param api_key: the only key it knows, whatever the vendor.
    :param seed: of the generated prices.
    :param symbols: those it has generated prices for, besides its own; by default those of ``include/universes``.
    :param call_log: file that calls are appended to.
    :param vendor: a name in `VENDORS`: who is served at the root. All are served under their names too, such as ``/polygon``.
    :param prefix: path before all others, such as ``/polygon``, as behind a gateway. Links in responses do not have it.
    :param now: the present moment, with a time zone: later sessions are not there yet.
    :param clock: seconds, never going back; what the quota is measured with.
    :param options: those of that vendor.
    :raises ValueError: if ``data`` lacks a column, or for an unknown vendor.
    """

    def __init__(
        self,
        port: int = 0,
        data: str | Path | None = None,
        limits: Sequence[Window] = (),
        api_key: str = "sample",
        seed: int = 0,
        *,
        symbols: Iterable[str] | None = None,
        call_log: str | Path | None = None,
        vendor: str = "polygon",
        prefix: str = "",
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if vendor not in VENDORS:
            raise ValueError(f"vendor is {vendor!r}; allowed: {', '.join(VENDORS)}")
        self.port = port
        self.faults = Faults()
        self.edits = Edits()
        self.log: CallLog[Call] = CallLog(Path(call_log) if call_log else None)
        self.stopping = threading.Event()
        self.prefix = prefix
        generated = universe_symbols() if symbols is None else symbols
        self.prices = FilePrices(Path(data)) if data else SamplePrices(seed, generated, now)
        self.market = Market(self.prices, self.edits, seed, now)
        self.vendors: dict[str, Vendor] = {
            name: make(self.market, RollingQuota(limits, clock), **(options if name == vendor else {}))
            for name, make in VENDORS.items()
        }
        self.vendor = self.vendors[vendor]
        self._api_key = api_key
        self._clock = clock
        self._arrivals = threading.Lock()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def start(self) -> SampleApi:
        """Listen, in threads of this process.

        :raises OSError: if the port is taken.
        """
        self.stopping.clear()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sample-api", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and break off every connection."""
        if self._server is not None:
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.break_connections()
            self._server = None

    def __enter__(self) -> SampleApi:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def forget(self) -> None:
        """Reset to the initial state: no calls, faults, changes or quota."""
        self.log.clear()
        self.faults.clear()
        self.edits.clear_changes()
        self.edits.clear_hidden()
        self.limits = ()
        for vendor in self.vendors.values():
            vendor.quota.forget()

    @property
    def calls(self) -> list[Call]:
        """The calls so far, in order of arrival. A call is added before its response is sent."""
        return self.log.calls

    @property
    def limits(self) -> tuple[Window, ...]:
        """The windows of each account's quota; set them to change it. Calls accepted before keep counting."""
        return self.vendor.quota.limits

    @limits.setter
    def limits(self, limits: Iterable[Window]) -> None:
        windows = tuple(limits)
        for vendor in self.vendors.values():
            vendor.quota.limits = windows

    def max_in_window(self, seconds: float, *, accepted_only: bool = False) -> int:
        """See `calls.max_in_window`."""
        return max_in_window(self.calls, seconds, accepted_only=accepted_only)

    def fault(
        self, kind: str, *, match: Match | None = None, times: int | None = 1, vendor: str | None = None, **options: Any
    ) -> None:
        """Inject a fault: see `faults.Fault`. It happens to calls with a valid key and within the quota.

        :param vendor: the vendor whose responses get it; None: the one at the root.
        """
        if vendor is not None and vendor not in self.vendors:
            raise ValueError(f"vendor is {vendor!r}; allowed: {', '.join(self.vendors)}")
        self.faults.add(Fault(self.vendors[vendor] if vendor else self.vendor, kind, match, times, options))

    def alter(
        self,
        symbol: str | None,
        session: date,
        *,
        multiply: float = 1.0,
        fields: Sequence[str] = PRICES,
        **replace: float | None,
    ) -> None:
        """Change prices from now on, for example ``alter("AAPL", date(2012, 1, 3), close=60.0)``.

        See `edits.Change`.
        """
        self.edits.alter(session, Change(symbol, multiply, tuple(fields), replace))

    def hide(self, session: date, symbols: Collection[str] | None = None, *, fraction: float | None = None) -> None:
        """Leave ``symbols``, or a ``fraction`` of those it has (always the same ones), out of a session.

        :raises ValueError: unless exactly one of the two is given.
        """
        if (symbols is None) == (fraction is None):
            raise ValueError("give either symbols or fraction")
        if symbols is None:
            present = sorted((bar.symbol for bar in self.prices.session(session)), key=scattered)
            symbols = present[: round(len(present) * (fraction or 0))]
        self.edits.hide(session, symbols)

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Request:
        """Build the request for its vendor. A path without the gateway's prefix is unknown."""
        target = target.removeprefix(self.prefix) if target.startswith(self.prefix) else "/"
        name = target.partition("?")[0].split("/")[1] if target.startswith("/") else ""
        if name in self.vendors:
            prefix = f"/{name}"
            return Request.parse(self.vendors[name], target.removeprefix(prefix), headers, method=method, body=body, prefix=prefix)
        return Request.parse(self.vendor, target, headers, method=method, body=body)

    def answer(self, request: Request) -> Answer:
        """Return the response to a data call, and log the call."""
        vendor = request.vendor
        with self._arrivals:
            arrived, moment = time.time(), self._clock()
            refused = self._refusal(request, moment)
        endpoint, found = vendor.route(request.path) or ("unknown", {})
        fault = None
        if refused is not None:
            answer = refused
        elif endpoint == "unknown":
            answer = vendor.unknown_path(request)
        else:
            answer, fault = self.faults.apply(vendor.answer(endpoint, request, found))
        ticker, day = vendor.subject(request, found)
        self.log.add(
            Call(
                time=arrived,
                monotonic=moment,
                target=request.target,
                endpoint=endpoint,
                ticker=ticker,
                date=day,
                status=answer.status,
                accepted=refused is None,
                source=answer.source,
                fault=fault,
                request_id=answer.request_id,
                client_request_id=request.headers.get("x-request-id"),
                key_in_url=request.url_key is not None,
                vendor=vendor.name,
                method=request.method,
            )
        )
        return answer

    def _refusal(self, request: Request, moment: float) -> Answer | None:
        vendor, key = request.vendor, request.vendor.key(request)
        if key != self._api_key:
            return vendor.unauthorized(request, key)
        return None if vendor.quota.admit(moment) else vendor.throttled(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, api: SampleApi) -> None:
        self.api = api
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", api.port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks the host's name up, which can take seconds
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        if request.fileno() >= 0 and request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER_ZERO)) == LINGER_ZERO:
            self.close_request(request)  # a shutdown first would end the connection in good order
        else:
            super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client closed the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "SampleApi"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith(control.PREFIX):
            status, value = control.answer(self.server.api, self.command, self.path, body)
            self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())
            return
        request = self.server.api.request(self.command, self.path, dict(self.headers), body)
        if self.command in request.vendor.methods:
            self._deliver(self.server.api.answer(request))
        else:
            self.send_error(405)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Write nothing: the call log has every call."""

    def _deliver(self, answer: Answer) -> None:
        if answer.delay:
            self.server.api.stopping.wait(answer.delay)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            self.close_connection = True
            return
        body, headers = answer.encoded(), answer.all_headers
        takes = answer.request.vendor.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
        if takes and "Content-Encoding" not in headers:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        if answer.drip:
            self._drip(answer, headers, body)
        else:
            self._send(answer.status, headers, body, answer.send)

    def _drip(self, answer: Answer, headers: dict[str, str], body: bytes) -> None:
        connection, self.wfile = self.wfile, BytesIO()
        self._send(answer.status, headers, body)
        whole, self.wfile = self.wfile.getvalue(), connection
        at_once = 0 if answer.drip_head else len(whole) - len(body)
        self.wfile.write(whole[:at_once])
        for place in range(at_once, len(whole)):
            self.wfile.write(whole[place : place + 1])
            self.wfile.flush()
            if self.server.api.stopping.wait(answer.drip):
                return

    def _send(self, status: int, headers: dict[str, str], body: bytes, share: float = 1.0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(len(body) * share)])
        self.wfile.flush()
        if share < 1:
            self.close_connection = True
