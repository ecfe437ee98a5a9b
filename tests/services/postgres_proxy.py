"""A TCP proxy before the server of the tests, which loses a message or its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

When = Literal["before", "after"]


class Proxy:
    """Passes on what it gets, counts connections, and cuts them where told.

    :param server: the server's port on 127.0.0.1.
    """

    def __init__(self, server: int) -> None:
        self.connections = 0
        self.cuts = 0
        self._server = server
        self._word: bytes | None = None
        self._when: When = "before"
        self._left = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def cut_at(self, word: bytes, when: When) -> None:
        """Cut the first connection whose client says ``word``: before the server hears it, or after it has answered, unheard."""
        self._word, self._when = word, when

    def cut_message(self, number: int, when: When) -> None:
        """Cut the connection whose client sends the ``number``-th message from now on, of all connections; 0: none."""
        self._left, self._when = number, when

    def _is_cut(self, data: bytes) -> bool:
        with self._lock:
            self._left -= 1
            if not (self._left == 0 or (self._word and self._word in data)):
                return False
            self._word = None
            self.cuts += 1
            return True

    def _serve(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._server))
                lost = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, lost), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, lost), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self._is_cut(data):
                    if self._when == "before":
                        break
                    lost.set()
                server.sendall(data)
        _close(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(1 << 16)) and not lost.is_set():
                client.sendall(data)
        _close(client, server)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def proxy(server: int) -> Iterator[Proxy]:
    """A proxy for as long as this lasts."""
    made = Proxy(server)
    threading.Thread(target=made._serve, daemon=True).start()
    try:
        yield made
    finally:
        _close(made._listening)
