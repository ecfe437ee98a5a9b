"""Record the failures of a run in one lake object, for its circuit breaker, report and notes.

A run without failures never writes the object. It is in the lake because the tasks of one run may execute on several hosts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from market_data.core.errors import OTHER_FORM
from market_data.core.run import RunInfo
from market_data.lake.layout import failures_key
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

COOL_DOWN = timedelta(minutes=5)
"""Pause before the next call when the breaker opens, and again after a failed probe."""

PROBE_TIME = timedelta(seconds=30)
"""Time that other batches wait for the outcome of a probe. After it another batch may probe, as the first may have died."""


class Kind(StrEnum):
    """Kinds of events in the failure log of a run."""

    FAILED = "failed"  # a batch failed for a cause that affects other batches too: counts for the breaker
    SINGLE = "single"  # one request failed and its batch continues, or for a cause of its own: does not count
    PROBE = "probe"  # the breaker is open and this batch makes the test call
    RECOVERED = "recovered"  # a request succeeded after failures


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a batch.

    :param at: UTC.
    :param error: type and message; empty if there was no error.
    :param calls: HTTP calls of the failed request, its ``retries`` included.
    :param bytes: size of the response bodies, decompressed.
    """

    kind: Kind
    batch_id: str
    at: datetime
    error: str = ""
    calls: int = 0
    retries: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"at": self.at.isoformat()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Event:
        """Return the event.

        :raises ValueError: if its moment has no time zone; errors of `OTHER_FORM` if it is something else.
        """
        at = datetime.fromisoformat(value["at"])
        if at.tzinfo is None:
            raise ValueError(f"{value['at']} has no time zone")
        return replace(cls(**value), kind=Kind(value["kind"]), at=at)


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one attempt of a run."""

    lake: Lake
    key: str

    @classmethod
    def of(cls, lake: Lake, dataset: str, provider: str, run: RunInfo) -> Failures:
        return cls(lake, failures_key(dataset, provider, run.key))

    def read(self) -> tuple[Event, ...]:
        """Return all events in the order in which they were recorded.

        :raises LakeError: if the object store fails.
        """
        stored = self.lake.get(self.key)
        return _readable(self.key, stored.body) if stored else ()

    def record(self, event: Event) -> None:
        """Append ``event``. Safe when several tasks append at the same time.

        :raises LakeError: if the object store fails.
        """
        self._append(lambda _: event)

    def open_until(self, batch_id: str, now: datetime, most: int) -> datetime | None:
        """Return the time (UTC) until which the batch must not call the provider, or None if it may.

        The breaker opens when ``most`` batches have failed in a row, without a successful request in between. After ``COOL_DOWN``
        one batch may probe: the first one that records its event.

        :raises LakeError: if the object store fails.
        """
        until: datetime | None = None

        def probe(events: Sequence[Event]) -> Event | None:
            nonlocal until
            until = None
            if len(failed_batches(events)) < most:
                return None
            until = max(
                e.at + (PROBE_TIME if e.kind is Kind.PROBE else COOL_DOWN) for e in events if e.kind in (Kind.FAILED, Kind.PROBE)
            )
            if now < until:
                return None
            until = None
            return Event(Kind.PROBE, batch_id, now)

        if self.read():  # rare: a run without failures has no object
            self._append(probe)
        return until

    def recovered(self, batch_id: str, now: datetime) -> None:
        """Record a successful request; earlier failures no longer count for the breaker.

        :raises LakeError: if the object store fails.
        """
        self._append(lambda events: Event(Kind.RECOVERED, batch_id, now) if failed_batches(events) else None)

    def _append(self, next_event: Callable[[Sequence[Event]], Event | None]) -> None:
        def revise(body: bytes | None) -> bytes | None:
            events = _readable(self.key, body) if body is not None else ()
            event = next_event(events)
            return None if event is None else json.dumps([e.to_json() for e in (*events, event)], indent=1).encode()

        self.lake.update(self.key, revise)


def failed_batches(events: Sequence[Event]) -> frozenset[str]:
    """Return the ids of the batches that have failed since the last successful request."""
    failed: set[str] = set()
    for event in events:
        if event.kind is Kind.FAILED:
            failed.add(event.batch_id)
        elif event.kind is Kind.RECOVERED:
            failed.clear()
    return frozenset(failed)


def _readable(key: str, body: bytes) -> tuple[Event, ...]:
    """Return the events of an object; none if it cannot be read, which is logged."""
    try:
        return _decoded(body)
    except OTHER_FORM as error:
        log.warning("the failures in %s cannot be read and do not count: %s", key, error)
        return ()


def _decoded(body: bytes) -> tuple[Event, ...]:
    return tuple(Event.from_json(value) for value in json.loads(body))
