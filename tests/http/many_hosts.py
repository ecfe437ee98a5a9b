"""Hosts with worker processes that call one vendor, for tests: real processes, real connections, and a server that notes when calls arrive.

A *host* is a process with clocks and a state folder of its own, and where namespaces can be had, a network address and a host name of its
own. It forks a process for each of its slots. As a program, this file is one host; its only argument is a JSON object, see `Host`.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.services.network import NamespaceHost

PROJECT = Path(__file__).parents[2]


class Vendor:
    """An HTTP server. It holds each call up before it counts it, and after.

    :param longest: seconds that a call is held up at most, each time.
    :param address: where it listens.
    """

    def __init__(self, longest: float, seed: int = 1, address: str = "127.0.0.1") -> None:
        self.longest, self.calls = longest, []
        self._draw, self._lock = random.Random(seed), threading.Lock()
        vendor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                vendor._hold_up()
                with vendor._lock:
                    vendor.calls.append((time.monotonic(), self.path))
                vendor._hold_up()
                with contextlib.suppress(OSError):  # whoever called may be dead
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"[]")

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _hold_up(self) -> None:
        with self._lock:
            seconds = self._draw.uniform(0, self.longest)
        time.sleep(seconds)

    @property
    def moments(self) -> list[float]:
        return sorted(moment for moment, _ in list(self.calls))

    def await_calls(self, count: int, seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while len(self.calls) < count:
            assert time.monotonic() < until, f"{len(self.calls)} of {count} calls came in {seconds:g} s"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Host:
    """A process that runs `host`.

    :param store: kind of the store and what it needs, as JSON: ``["file", folder]``, ``["postgres", fields]``, ``["redis", settings]``.
    :param skew: seconds by which its clocks are ahead.
    :param place: where it runs; None: beside the test.
    :param per_minute: calls per minute and slot.
    """

    def __init__(
        self,
        vendor: Vendor,
        store: list,
        rules: dict,
        *,
        slots: int = 8,
        skew: float = 0.0,
        feeds: int = 1,
        place: NamespaceHost | None = None,
        per_minute: float = 600_000,
    ) -> None:
        fields = {"url": vendor.url, "store": store, "rules": rules, "slots": slots, "skew": skew, "feeds": feeds}
        fields["per_minute"] = per_minute
        words = [sys.executable, __file__, json.dumps(fields)]
        environment = {**os.environ, "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}"}
        self._process = subprocess.Popen(
            place.command(*words) if place else words,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.pids: list[int] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.pids.append(int(line))

    def kill_worker(self, place: int) -> None:
        """Kill one of its processes outright; the host starts another in its slot."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[place % len(self.pids)], signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """Kill the process that started the others; these stay behind as orphans."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _store(kind: str, settings: object, account: str) -> object:
    from market_data.http.file_store import FileStore
    from market_data.http.postgres_store import PostgresServer
    from market_data.http.redis_store import RedisServer

    if kind == "file":
        return FileStore(Path(str(settings)) / f"{account}.json")
    if kind == "redis":
        return RedisServer(settings, "limits").store(account)

    import psycopg

    return PostgresServer(lambda: psycopg.connect(**settings), "limits").store(account)


def _worker(fields: dict, feed: int) -> None:
    """Call as often as the account allows, until killed."""
    from market_data.core.capabilities import Quota, Window
    from market_data.http.call_state import Rules
    from market_data.http.client import Transport
    from market_data.http.limiter import Limiter, since_boot
    from market_data.http.rate_limit import Pacer

    given = dict(fields["rules"])
    rules = Rules(tuple(Window(*window) for window in given.pop("windows")), **given)
    limiter = Limiter(_store(*fields["store"], "account"), rules, clock=lambda: since_boot() + fields["skew"])
    transport = Transport("vendor", fields["url"], {}, Pacer(Quota(fields["per_minute"]), limiter), lambda *_: None)
    while True:
        transport.get(f"/feed-{feed}/{os.getpid()}", {}, "bars", lambda response: response.body)


def host(fields: dict) -> None:
    """Keep a process in each slot."""
    real = time.time
    time.time = lambda: real() + fields["skew"]
    import psycopg  # before the fork: once for all
    import redis

    import market_data.http.client
    import market_data.http.limiter

    assert psycopg
    assert redis
    assert market_data.http.client
    slots: dict[int, int] = {}
    free = list(range(fields["slots"]))
    while True:
        for slot in free:
            if (pid := os.fork()) == 0:
                try:
                    _worker(fields, slot % fields["feeds"])
                finally:
                    os._exit(1)
            slots[pid] = slot
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
        pid, _ = os.wait()
        free = [slots.pop(pid)]


if __name__ == "__main__":
    host(json.loads(sys.argv[1]))
