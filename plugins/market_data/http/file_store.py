"""The limits of an account in a file: for the processes of one host."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from market_data.core.errors import OTHER_FORM
from market_data.core.messages import shown
from market_data.http.call_state import DAY, CallState
from market_data.http.limiter import LimiterError, Reading, since_boot

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what tells this start of the host from others; empty where the system has no such id."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass
class FileStore:
    """A file, replaced as a whole under a lock that nobody holds while waiting.

    Its clock is that of the host's kernel, which nobody can set. It goes on over a restart of the host: the time between is that of the
    wall clock, and none if that was set back.

    :param path: the file; its folder is made.
    :param clock: seconds since the host was started. ``boot`` identifies that start.
    :param wall: seconds since 1970.
    """

    path: Path
    clock: Callable[[], float] = since_boot
    wall: Callable[[], float] = time.time
    boot: Callable[[], str] = boot_id

    def read(self) -> Reading:
        """Return text and time."""
        with self._usable():
            found = self._load()
        return Reading(str(found.get("text", "")), self.clock() + self._offset(found), self.wall())

    def swap(self, seen: Reading, text: str) -> bool:
        """Replace the text if it is still that of ``seen``."""
        with self._usable():
            return self._swap(seen, text)

    def _swap(self, seen: Reading, text: str) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self._load()
            if found.get("text", "") != seen.text:
                return False
            offset, clock = self._offset(found), self.clock()
            fields = {"boot": self.boot(), "offset": offset, "at": clock + offset, "wall": self.wall(), "text": text}
            fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(fields))
            fresh.replace(self.path)
        return True

    def _offset(self, found: dict[str, Any]) -> float:
        """Return what has to be added to this start's clock, so that the store's clock goes on."""
        try:
            if found["boot"] == self.boot():
                return float(found["offset"])
            return float(found["at"]) + max(0.0, self.wall() - float(found["wall"])) - self.clock()
        except (KeyError, TypeError, ValueError):
            return self.wall() - self.clock()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LimiterError(f"the limiter cannot use {shown(str(self.path))}: {error.strerror}") from None

    def _load(self) -> dict[str, Any]:
        found = _fields(self.path)
        return found if "text" in found else {"text": self._text_of_0_4(found)}

    def _text_of_0_4(self, found: dict[str, Any]) -> str:
        """Return the state that version 0.4 left in two files, in seconds since 1970; empty if there is none."""
        paused = _fields(self.path.with_suffix(".blocked"))
        if not found and not paused:
            return ""
        try:
            left = sorted(float(moment) for moment in found.get("log", []))
            last, until = float(found.get("last", 0.0)), float(paused.get("until", 0.0))
        except (TypeError, ValueError):
            return ""
        return CallState(ended={DAY: [(moment, 1) for moment in left]}, last=last, paused_until=until).text()


def _fields(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text())
    except (FileNotFoundError, *OTHER_FORM):  # ValueError: the machine died while writing; start afresh
        return {}
    return loaded if isinstance(loaded, dict) else {}
