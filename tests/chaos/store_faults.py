"""Faults of the object store: a share of its requests goes wrong, in a kind drawn from the seed."""

import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.sample_server import LINGER_ZERO

S3_FAULTS = ("error_500", "slow_down", "reset", "slow", "hang", "full", "lost", "lost_reset", "cut")
S3_TIMEOUT = 2.0
"""Seconds that a client waits for the object store."""

CLOSE = ("Connection", "close")


@dataclass
class StoreFaults:
    """Faults of the object store, for a share of its requests.

    ``lost``: the change is made, and its acknowledgement is lost. ``cut``: the body ends early.
    """

    kinds: Sequence[str] = ()
    share: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    struck: dict[str, int] = field(default_factory=dict)
    paused: bool = False

    def wrap(self, application: Any) -> Any:
        lock = threading.Lock()

        def served(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            with lock:
                kind = self.draw.choice(self.kinds) if self.kinds and not self.paused and self.draw.random() < self.share else ""
                if kind:
                    self.struck[kind] = self.struck.get(kind, 0) + 1
            return self._respond(kind, application, environ, start)

        return served

    def _respond(self, kind: str, application: Any, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        refusals = {"error_500": "500 Internal Server Error", "slow_down": "503 Slow Down", "full": "507 Insufficient Storage"}
        if kind in refusals:
            start(refusals[kind], [("Content-Length", "0"), CLOSE])
            return []
        if kind in ("slow", "hang"):
            time.sleep(0.3 if kind == "slow" else S3_TIMEOUT + 0.5)
        if kind == "reset":
            return _reset(environ)
        if kind not in ("lost", "lost_reset", "cut"):
            return application(environ, start)
        said: list[Any] = []
        body = b"".join(application(environ, lambda status, headers, exc_info=None: said.extend((status, headers))))
        if kind == "cut" and len(body) > 1:
            start(
                said[0], [*said[1], CLOSE]
            )  # with the whole length: on a connection that stays open the client would wait for the rest
            return [body[: len(body) // 2]]
        if kind == "lost_reset":
            return _reset(environ)
        start("500 Internal Server Error", [("Content-Length", "0"), CLOSE])
        return []


def _reset(environ: dict[str, Any]) -> list[bytes]:
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    connection.shutdown(socket.SHUT_RDWR)  # the handler's files keep a closed one open, and the client waits
    raise ConnectionError("reset")
