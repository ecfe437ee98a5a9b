"""A uvicorn server in a thread, which can also be stopped in the middle of a response."""

from __future__ import annotations

import asyncio
import socket
import threading

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class UvicornListener:
    """Serve ``app`` on ``host`` from construction until `close`.

    :raises OSError: if the port is taken.
    """

    def __init__(self, app: ASGIApp, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, port), backlog=128)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(app, http=_Protocol, loop="asyncio", ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, timeout_keep_alive=3600, backlog=128)  # fmt: skip
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="sample-api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and break off every connection."""
        self._server.end()
        self._thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._running = threading.Event()

    def end(self) -> None:
        self._running.wait()
        self._loop.call_soon_threadsafe(self._ended.set)

    async def main_loop(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._running.set()
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - the servers own them
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


class _Protocol(HttpToolsProtocol):
    """Gives the application the connection, which some faults need."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport": self.transport}
