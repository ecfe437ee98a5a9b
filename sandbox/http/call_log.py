"""Log of the calls to a sample server, kept in memory for tests and appended to a file."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Logged(DataclassInstance, Protocol):
        """A call: when it arrived, by the server's monotonic clock and since the epoch, seconds."""

        @property
        def monotonic(self) -> float: ...
        @property
        def time(self) -> float: ...


C = TypeVar("C", bound="Logged")


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
