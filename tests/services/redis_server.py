"""A Redis server for the tests: real, on 127.0.0.1, with a password. One for each pytest process, started when first asked for.

The program is Debian's ``redis-server``; ``.ci/run`` installs it. Where it is missing, a test that needs it is skipped and says so, except
with ``TESTS_MAY_NOT_SKIP=1``, which ``.ci/run`` sets.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

PASSWORD = "p@ss/w:rd %s'\\\"=?&#"


class Server:
    """A running server; it keeps nothing on disk. ``stop`` and ``start`` keep its port."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="market-data-redis-"))
        self.settings: dict[str, Any] = {"host": "127.0.0.1", "port": _free_port(), "password": PASSWORD, "socket_timeout": 10}
        self.start()

    def start(self) -> None:
        words = ["--bind", "127.0.0.1", "--port", str(self.settings["port"]), "--save", "", "--dir", str(self.folder)]
        self._process = subprocess.Popen(
            [self.program, "-", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is pytest's
        )
        assert self._process.stdin is not None
        with self._process.stdin as settings:
            quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
            settings.write(f'requirepass "{quoted}"\n')
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client().ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End the server; open connections are cut."""
        self._process.kill()
        self._process.wait(60)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        return redis.Redis(**self.settings)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@cache
def _server() -> Server | None:
    program = shutil.which("redis-server")
    if program is None:
        return None
    running = Server(program)
    atexit.register(running.remove)
    return running


def server() -> Server:
    """The server of this process; it ends with it."""
    running = _server()
    if running is None:
        said = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("TESTS_MAY_NOT_SKIP"):
            pytest.fail(said)
        pytest.skip(said)
    return running
