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
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from include.local.sample_api import control, polygon
from include.local.sample_api.answer import Answer, Request
from include.local.sample_api.calls import Call, CallLog, RollingQuota, max_in_window
from include.local.sample_api.edits import PRICES, Change, Edits
from include.local.sample_api.faults import Fault, Faults, Match
from include.local.sample_api.file_prices import FilePrices
from include.local.sample_api.prices import SamplePrices, scattered, universe_symbols, utc_now
from market_data.types import Window

LINGER_ZERO = struct.pack("ii", 1, 0)  # closing then sends a reset and drops what is unsent


class SampleApi:
    """The sample API on 127.0.0.1; a context manager that starts and stops it.

    :param port: 0 takes a free one; a restart takes the same again.
    :param data: a Parquet file to serve instead of recorded and generated prices.
    :param limits: the account's quota, all windows at once; empty is no limit.
    :param api_key: the only key it knows.
    :param seed: of the generated prices.
    :param symbols: those it has generated prices for, besides its own; by default those of ``include/universes``.
    :param call_log: file that calls are appended to.
    :param cursor_keeps_adjusted: see `polygon.Dialect`.
    :param prefix: path before all others, such as ``/polygon``, as behind a gateway: links in answers do not have it.
    :param now: the present moment, with a time zone: later sessions are not there yet.
    :param clock: seconds, never going back; what the quota is measured with.
    :raises ValueError: if ``data`` lacks a column.
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
        cursor_keeps_adjusted: bool = False,
        prefix: str = "",
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.port = port
        self.faults = Faults()
        self.edits = Edits()
        self.log = CallLog(Path(call_log) if call_log else None)
        self.stopping = threading.Event()
        self.prefix = prefix
        generated = universe_symbols() if symbols is None else symbols
        self.prices = FilePrices(Path(data)) if data else SamplePrices(seed, generated, now)
        self._dialect = polygon.Dialect(self.prices, self.edits, cursor_keeps_adjusted)
        self._quota = RollingQuota(limits)
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
        """As if just started: no calls, no faults, no changes, no quota."""
        self.log.clear()
        self.faults.clear()
        self.edits.clear_changes()
        self.edits.clear_hidden()
        self.limits = ()
        self._quota.forget()

    @property
    def calls(self) -> list[Call]:
        """The calls so far, in order of arrival. A call is here before its answer is sent."""
        return self.log.calls

    @property
    def limits(self) -> tuple[Window, ...]:
        """The quota's windows; set them to change the quota. Calls accepted before keep counting."""
        return self._quota.limits

    @limits.setter
    def limits(self, limits: Iterable[Window]) -> None:
        self._quota.limits = tuple(limits)

    def max_in_window(self, seconds: float, *, accepted_only: bool = False) -> int:
        """See `calls.max_in_window`."""
        return max_in_window(self.calls, seconds, accepted_only=accepted_only)

    def fault(self, kind: str, *, match: Match | None = None, times: int | None = 1, **options: Any) -> None:
        """Put in a fault: see `faults.Fault`. It happens to calls with a valid key and within the quota."""
        self.faults.add(Fault(kind, match, times, options))

    def alter(
        self,
        symbol: str | None,
        session: date,
        *,
        multiply: float = 1.0,
        fields: Sequence[str] = PRICES,
        **replace: float | None,
    ) -> None:
        """Give another price from now on, as in ``alter("AAPL", date(2012, 1, 3), close=60.0)``: see `edits.Change`."""
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

    def answer(self, request: Request) -> Answer:
        """The answer to a data call, which is logged."""
        with self._arrivals:
            arrived, moment = time.time(), self._clock()
            refused = self._refusal(request, moment)
        endpoint, found = polygon.route(request.path) or ("unknown", {})
        fault = None
        if refused is not None:
            answer = refused
        elif endpoint == "unknown":
            answer = polygon.error(request, 404, "Page not found", word="NOT_FOUND", field="message")
        else:
            answer, fault = self.faults.apply(self._dialect.answer(endpoint, request, found))
        self.log.add(
            Call(
                time=arrived,
                monotonic=moment,
                target=request.target,
                endpoint=endpoint,
                ticker=found.get("ticker"),
                date=found.get("date"),
                status=answer.status,
                accepted=refused is None,
                source=answer.source,
                fault=fault,
                request_id=answer.request_id,
                client_request_id=request.client_request_id,
                key_in_url=request.key_in_url,
            )
        )
        return answer

    def _refusal(self, request: Request, moment: float) -> Answer | None:
        if request.key is None:
            return polygon.error(request, 401, polygon.NO_KEY)
        if request.key != self._api_key:
            return polygon.error(request, 401, polygon.UNKNOWN_KEY)
        return None if self._quota.admit(moment) else polygon.throttled(request)


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
        if not isinstance(sys.exception(), ConnectionError):  # a client that hangs up is no error of this server
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "SampleApi"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    server: _Server

    def do_GET(self) -> None:
        if self.path.startswith(control.PREFIX):
            self._control()
        else:
            request = Request.parse(self.path, dict(self.headers), self.server.api.prefix)
            self._deliver(self.server.api.answer(request))

    def do_POST(self) -> None:
        if self.path.startswith(control.PREFIX):
            self._control()
        else:
            self.close_connection = True  # its body is unread
            self.send_error(405)

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """The call log says it."""

    def _control(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, value = control.answer(self.server.api, self.command, self.path, body)
        self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _deliver(self, answer: Answer) -> None:
        if answer.delay:
            self.server.api.stopping.wait(answer.delay)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            self.close_connection = True
            return
        body, headers = answer.encoded(), answer.all_headers
        if "gzip" in self.headers.get("Accept-Encoding", "") and "Content-Encoding" not in headers:
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
