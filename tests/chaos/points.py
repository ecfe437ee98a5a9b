"""Faults inside a task's process, at counted calls of the lake, the warehouse or the provider: so that a seed repeats."""

import os
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from requests.adapters import HTTPAdapter

from market_data.core.errors import WarehouseError
from market_data.http.client import Transport
from market_data.lake import clock
from market_data.lake.store import Lake
from market_data.providers.databento.client import Client as DatabentoClient
from market_data.providers.ib.client import Link
from market_data.warehouse.base import Warehouse

LAKE = ("get", "get_range", "put_new", "put_if", "delete", "delete_if", "list", "listed", "folders")
WAREHOUSE = ("_execute", "_fetch", "_stage", "_begin", "_commit")


@dataclass(frozen=True)
class Fault:
    """A fault in one task of a step.

    :param kind: ``kill``: the process kills itself. ``stop``: it stops, and something else happens meanwhile. ``cut``: the connection
        to the warehouse is lost. ``full``: the disk is full. ``held``: somebody else holds the warehouse. ``skew``: the clock is wrong.
    :param task: the task that it strikes, e.g. ``fetch``.
    :param place: ``lake``, ``warehouse``, ``http`` or ``sent``, whose calls are counted. After a ``sent`` one its response is being
        read, so that the limiter does not know yet that it has arrived.
    :param number: of the call, from 1; of ``full``: kilobytes that a file may have; of ``skew``: seconds.
    :param after: it strikes after the call, not before.
    """

    kind: str
    task: str
    place: str = "lake"
    number: int = 1
    after: bool = False

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        what = {"full": f"of {self.number} KB", "skew": f"of {self.number} s"}.get(
            self.kind, f"{when} call {self.number} of the {self.place}"
        )
        return f"{self.kind} {what} in {self.task}"


class Points:
    """Counts calls in this process and lets faults strike.

    :param struck: gets the names of those that struck and left the process alive.
    """

    def __init__(self, faults: Sequence[Fault], struck: list[str]) -> None:
        self._faults, self._struck = list(faults), struck
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def arm(self, warehouse: Warehouse) -> None:
        """Watch the calls of this process."""
        for owner, name in ((Transport, "_response"), (DatabentoClient, "_once"), (Link, "_run")):
            self._watch(owner, name, "http")
        self._watch(HTTPAdapter, "send", "sent")
        for name in LAKE:
            self._watch(Lake, name, "lake")
        for name in WAREHOUSE:
            self._watch(type(warehouse), name, "warehouse")
        for fault in self._faults:
            if fault.kind == "full":
                limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (fault.number * 1024, limit))
                self._struck.append(str(fault))
            elif fault.kind == "skew":
                skewed = timedelta(seconds=fault.number)
                clock.worker_clock = lambda skewed=skewed: datetime.now(UTC) + skewed
                self._struck.append(str(fault))

    def _watch(self, owner: Any, name: str, place: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **named: Any) -> Any:
            with self._lock:
                self._counts[place] += 1
                number = self._counts[place]
            self._strike(place, number, after=False)
            done = inner(*args, **named)
            self._strike(place, number, after=True)
            return done

        setattr(owner, name, watched)

    def _strike(self, place: str, number: int, *, after: bool) -> None:
        for fault in self._faults:
            if (fault.place, fault.number, fault.after) != (place, number, after):
                continue
            if fault.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault.kind == "stop":
                self._struck.append(str(fault))
                os.kill(os.getpid(), signal.SIGSTOP)
            elif fault.kind == "cut":
                self._struck.append(str(fault))
                raise WarehouseError("the connection was cut", retriable=True)
