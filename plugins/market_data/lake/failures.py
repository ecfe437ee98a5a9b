"""The failures of a run, in one object of the lake: what its circuit breaker, its report and its notes go by.

A run that meets no failure never writes it. It is in the lake, not on a host, because the tasks of a run may be on several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from market_data.core.run import RunInfo
from market_data.lake.layout import failures_key
from market_data.lake.store import Lake

COOL_DOWN = timedelta(minutes=5)
"""How long the provider is left alone when the breaker opens, and again when a try fails."""

PROBE_TIME = timedelta(seconds=30)
"""How long the others wait for the word of the batch that tries. One that dies says none: then another tries."""


class Kind(StrEnum):
    """What happened."""

    FAILED = "failed"  # a batch, by what would spoil the others too: counts for the breaker
    SINGLE = "single"  # one request, of a batch that goes on or by something of its own: does not
    PROBE = "probe"  # the breaker is open, and this batch asks on behalf of all
    RECOVERED = "recovered"  # a request went well after failures


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a batch.

    :param at: UTC.
    :param error: type and message; empty where there is none.
    :param calls: HTTP calls the failed request took; ``retries`` of them were repeated ones.
    :param bytes: of bodies, decompressed.
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
        return replace(cls(**value), kind=Kind(value["kind"]), at=datetime.fromisoformat(value["at"]))


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one attempt of a run."""

    lake: Lake
    key: str

    @classmethod
    def of(cls, lake: Lake, dataset: str, provider: str, run: RunInfo) -> Failures:
        return cls(lake, failures_key(dataset, provider, run.key))

    def read(self) -> tuple[Event, ...]:
        """All of them, in the order they were recorded.

        :raises LakeError: if the object store fails.
        """
        stored = self.lake.get(self.key)
        return _decoded(stored.body) if stored else ()

    def record(self, event: Event) -> None:
        """Append ``event``, whoever else appends at the same time.

        :raises LakeError: if the object store fails.
        """
        self._append(lambda _: event)

    def open_until(self, batch_id: str, now: datetime, most: int) -> datetime | None:
        """None when the batch may ask the provider, else the moment before which it may not.

        The breaker opens when ``most`` batches have failed one after another, with nothing that went well in between. After
        ``COOL_DOWN`` one batch may try: the first one that gets its name into the object.

        :raises LakeError: if the object store fails.
        """
        until: datetime | None = None

        def probe(events: Sequence[Event]) -> Event | None:
            nonlocal until
            until = None
            if len(standing(events)) < most:
                return None
            until = max(
                e.at + (PROBE_TIME if e.kind is Kind.PROBE else COOL_DOWN) for e in events if e.kind in (Kind.FAILED, Kind.PROBE)
            )
            if now < until:
                return None
            until = None
            return Event(Kind.PROBE, batch_id, now)

        if self.read():  # hardly ever: a run without failures has no object
            self._append(probe)
        return until

    def recovered(self, batch_id: str, now: datetime) -> None:
        """A request went well: what failed before it no longer counts.

        :raises LakeError: if the object store fails.
        """
        self._append(lambda events: Event(Kind.RECOVERED, batch_id, now) if standing(events) else None)

    def _append(self, next_event: Callable[[Sequence[Event]], Event | None]) -> None:
        def revise(body: bytes | None) -> bytes | None:
            events = _decoded(body) if body else ()
            event = next_event(events)
            return None if event is None else json.dumps([e.to_json() for e in (*events, event)], indent=1).encode()

        self.lake.update(self.key, revise)


def standing(events: Sequence[Event]) -> frozenset[str]:
    """The batches that have failed since something went well."""
    failed: set[str] = set()
    for event in events:
        if event.kind is Kind.FAILED:
            failed.add(event.batch_id)
        elif event.kind is Kind.RECOVERED:
            failed.clear()
    return frozenset(failed)


def _decoded(body: bytes) -> tuple[Event, ...]:
    return tuple(Event.from_json(value) for value in json.loads(body))
