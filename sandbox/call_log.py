"""Log of the calls to a sample server, kept in memory for tests and appended to a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class Logged(Protocol):
    """A call, a dataclass: when it arrived (monotonic, and since the epoch), and if within limits."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def monotonic(self) -> float: ...
    @property
    def time(self) -> float: ...
    @property
    def accepted(self) -> bool: ...


C = TypeVar("C", bound=Logged)


class CallLog(Generic[C]):
    """The calls so far, in order of arrival; also JSON lines in ``path``, in order of their responses.

    Each line is appended at once.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._calls: list[C] = []
        self._path = path

    def add(self, call: C) -> None:
        with self._lock:
            self._calls.append(call)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(call)) + "\n")

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    @property
    def calls(self) -> list[C]:
        with self._lock:
            return sorted(self._calls, key=lambda call: call.monotonic)


def read_calls(path: Path, kind: type[C]) -> list[C]:
    """Read the calls of a log file as ``kind``, in order of arrival."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted((kind(**line) for line in lines), key=lambda call: call.time)


def max_in_window(calls: Iterable[Logged], seconds: float, *, accepted_only: bool = False) -> int:
    """Return the largest number of calls that arrived in any window of ``seconds`` seconds.

    Two calls exactly ``seconds`` apart share no window.

    :param accepted_only: leave out those refused for their key or the quota. All calls count otherwise: a client is within a quota
        of n calls only where no window holds more than n, the refused ones among them.
    """
    return most_in((call.monotonic for call in calls if call.accepted or not accepted_only), seconds)


def most_in(moments: Iterable[float], seconds: float) -> int:
    """Return the most of ``moments`` in any window of ``seconds`` seconds, its end exclusive."""
    times = sorted(moments)
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
