"""A Redis server for the tests: real, on 127.0.0.1, with a password. One for each pytest process, started when first asked for.

The program is Debian's ``redis-server``; ``.ci/run`` installs it. Where it is missing, a test that needs it is skipped and says so, except
with ``TESTS_MAY_NOT_SKIP=1``, which ``.ci/run`` sets.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.stack.processes import free_port

PASSWORD = "p@ss/w:rd %s'\\\"=?&#"
# The shell ends the server when the pipe to it closes: so also when pytest is killed.
WATCHED = """
"$@" & server=$!
cat
kill -KILL $server; wait $server
"""


class Server:
    """A running server; it keeps nothing on disk. ``stop`` and ``start`` keep its port.

    :param address: where it listens.
    """

    def __init__(self, path: str, address: str = "127.0.0.1", password: str = PASSWORD) -> None:
        self.program = path
        self.folder = Path(tempfile.mkdtemp(prefix="market-data-redis-"))
        self.settings: dict[str, Any] = {"host": address, "port": free_port(), "password": password, "socket_timeout": 10}
        self.start()

    def start(self) -> None:
        quoted = self.settings["password"].replace("\\", "\\\\").replace('"', '\\"')
        lines = [f"bind {self.settings['host']}", f"port {self.settings['port']}", 'save ""']
        lines += [f"dir {self.folder}", f'requirepass "{quoted}"']
        (self.folder / "settings").write_text("\n".join(lines))
        self._watched = subprocess.Popen(
            ["sh", "-c", WATCHED, "sh", self.program, str(self.folder / "settings")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is pytest's
        )
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
        assert self._watched.stdin is not None
        self._watched.stdin.close()
        self._watched.wait(60)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        return redis.Redis(**self.settings)


def program() -> str:
    """Return the path of the program."""
    found = shutil.which("redis-server")
    if found is None:
        said = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("TESTS_MAY_NOT_SKIP"):
            pytest.fail(said)
        pytest.skip(said)
    return found


def server(address: str = "127.0.0.1") -> Server:
    """The server of this process on an address; it ends with it."""
    return _server(address)


@cache
def _server(address: str) -> Server:
    running = Server(program(), address)
    atexit.register(running.remove)
    return running
