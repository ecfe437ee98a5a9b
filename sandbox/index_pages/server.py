"""A server of index pages on this machine."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ERROR_PAGE = "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Our servers are under maintenance</h1></body></html>"
FAULTS = (
    "error",
    "error_page",
    "cut",
    "cut_quietly",
    "no_table",
    "empty_table",
    "endless",
    "bomb",
    "redirect",
    "throttled",
    "binary",
)
FORBIDDEN = "Please set a User-Agent and respect our robot policy"


class IndexPages:
    """Serves pages by path. Refuses requests without a User-Agent of their own, as the encyclopedia does.

    :param pages: path -> body.
    """

    def __init__(self, pages: Mapping[str, str]) -> None:
        self.pages = dict(pages)
        self.faults: dict[str, str] = {}
        """Path -> one of ``FAULTS``."""
        self.requests: list[tuple[str, str]] = []
        """Path and User-Agent of each request."""
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.respond(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> IndexPages:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        """Respond to a request, with the fault of its path."""
        agent = request.headers.get("User-Agent", "")
        self.requests.append((request.path, agent))
        path = request.path.partition("?")[0]
        body, fault = self.pages.get(path), self.faults.get(path, "")
        if not agent or agent.startswith("python-requests/"):
            _send(request, 403, FORBIDDEN.encode())
        elif body is None:
            _send(request, 404, ERROR_PAGE.encode())
        elif fault:
            _fail(request, fault, body.encode())
        else:
            _send(request, 200, body.encode())


def _fail(request: BaseHTTPRequestHandler, fault: str, body: bytes) -> None:
    """Send the response of a fault."""
    statuses: dict[str, tuple[int, bytes, dict[str, str]]] = {
        "error": (503, ERROR_PAGE.encode(), {}),
        "throttled": (429, b"Too many requests", {"Retry-After": "3600"}),
        "redirect": (302, b"", {"Location": "http://127.0.0.1:9/elsewhere"}),
    }
    bodies = {
        "error_page": ERROR_PAGE.encode,
        "cut_quietly": lambda: body[: len(body) // 2],
        "no_table": lambda: re.sub(rb'(?i)id="constituents"|symbol|ticker', b"", body),
        "empty_table": lambda: _without_rows(body),
        "endless": lambda: b"<html>" + b"<p>more</p>" * 4_000_000,
        "binary": lambda: bytes(range(256)) * 100,
    }
    if fault in statuses:
        _send(request, *statuses[fault])
    elif fault == "cut":
        _send(request, 200, body, length=len(body) + 1000)
    elif fault == "bomb":
        _send(request, 200, gzip.compress(b" " * 100_000_000), {"Content-Encoding": "gzip"})
    else:
        _send(request, 200, bodies[fault]())


def _without_rows(body: bytes) -> bytes:
    start = body.index(b"</tr>", body.index(b'<table class="wikitable')) + 5
    return body[:start] + body[body.index(b"</tbody>") :]


def _send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None, length: int | None = None
) -> None:
    """Send a response.

    :param length: the Content-Length that is declared, where it differs from the body's: then the connection is closed early.
    """
    request.send_response(status)
    for name, value in {"Content-Type": "text/html; charset=UTF-8", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    try:
        request.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        return
    request.close_connection = length is not None
