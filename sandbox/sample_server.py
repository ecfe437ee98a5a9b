"""The frame of the two sample servers: start and stop, prices, call log, waiting faults."""

from __future__ import annotations

import signal
import struct
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from sandbox.call_log import CallLog, Logged, max_in_window
from sandbox.faults import FaultQueue
from sandbox.market.edits import Edits
from sandbox.market.file_prices import FilePrices
from sandbox.market.market import Market
from sandbox.market.recorded_prices import SamplePrices, utc_now

LINGER_ZERO = struct.pack("ii", 1, 0)
"""``SO_LINGER`` with which closing a connection sends a reset and drops what is unsent."""

C = TypeVar("C", bound=Logged)


class Listener(Protocol):
    """An open port, served by threads of this process until `close`, which breaks off every connection."""

    port: int

    def close(self) -> None: ...


class SampleServer(Generic[C]):
    """A server on 127.0.0.1; a context manager that starts and stops it.

    :param port: 0 takes a free one; a restart takes the same again.
    :param prices: what it serves, altered by ``edits``.
    :param call_log: file that calls are appended to.
    :param now: the present moment, with a time zone: later sessions are not there yet.
    :param clock: seconds, never going back; what quotas and pacing are measured with.
    """

    def __init__(
        self,
        port: int,
        prices: SamplePrices | FilePrices,
        seed: int,
        call_log: str | Path | None = None,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.port = port
        self.now = now
        self.edits = Edits()
        self.prices = prices
        self.market = Market(prices, self.edits, seed, now)
        self.faults: FaultQueue[Any] = FaultQueue()
        self.log: CallLog[C] = CallLog(Path(call_log) if call_log else None)
        self._clock = clock
        self._arrivals = threading.Lock()
        self._listener: Listener | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return self.address

    @abstractmethod
    def _listen(self) -> Listener:
        """Open `port`. :raises OSError: if it is taken."""

    def start(self) -> Self:
        """Listen, in threads of this process.

        :raises OSError: if the port is taken.
        """
        self._listener = self._listen()
        self.port = self._listener.port
        return self

    def stop(self) -> None:
        """Stop listening and break off every connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def calls(self) -> list[C]:
        """The calls so far, in order of arrival. A call is added before its response is sent."""
        return self.log.calls

    @property
    def has_faults(self) -> bool:
        """True while a fault waits for its request."""
        return bool(self.faults.to_json())

    def max_in_window(self, seconds: float, *, accepted_only: bool = False) -> int:
        """See `call_log.max_in_window`."""
        return max_in_window(self.calls, seconds, accepted_only=accepted_only)

    def forget(self) -> None:
        """Reset to the initial state: no calls, faults or changes of prices. Connections stay open."""
        self.log.clear()
        self.faults.clear()
        self.edits.clear_changes()
        self.edits.clear_hidden()


def serve(name: str, port: int, make: Callable[[], SampleServer[Any]]) -> int:
    """Run a server until SIGTERM or Ctrl-C. Return the exit status: 1 where it cannot start."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server = make().start()
    except (OSError, ValueError) as error:
        print(f"{name} on port {port}: {error}", file=sys.stderr)
        return 1
    print(f"{name} on {server.url}", flush=True)
    ended.wait()
    server.stop()
    return 0
