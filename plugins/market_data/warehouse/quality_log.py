"""Entries of the table ``quality_log``: refusals, quarantined cells, and decisions of people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Self

from market_data.core.dates import naive_utc

MOST = 1000
"""Characters of a reason, at most: some engines count bytes."""


class Event(StrEnum):
    """The kinds of entries."""

    REFUSED = "refused"  # by the checkpoint
    QUARANTINED = "quarantined"  # by the gate
    RELEASED = "released"  # by a person
    CONFIRMED = "confirmed"  # by a person, to be wrong for good


@dataclass(frozen=True)
class LogEntry:
    """An entry: cells to which the same happened for the same reason.

    :param at: aware, UTC.
    :param symbol: None: several.
    :param by: the person; None where the pipeline decided.
    :param run_id: of the run; None for a person.
    """

    at: datetime
    event: Event
    dataset: str
    provider: str
    first: date
    last: date
    cells: int
    reason: str
    symbol: str | None = None
    by: str | None = None
    run_id: str | None = None

    @property
    def id(self) -> str:
        """Return a hash: equal for what is written again."""
        moment = self.at.isoformat() if self.by else ""  # a run's entries are those of its run id
        parts = (self.event, self.dataset, self.provider, self.run_id, self.by, self.reason, moment)
        return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]

    def row(self) -> tuple[Any, ...]:
        """Return the columns of ``QUALITY_LOG`` in order."""
        return (
            self.id, naive_utc(self.at), str(self.event), self.dataset, self.provider, self.symbol, self.first, self.last, self.cells,
            self.by, self.run_id, self.reason[:MOST] or "none given",
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        dates = {"at": self.at.isoformat(), "first": self.first.isoformat(), "last": self.last.isoformat()}
        return {**asdict(self), **dates}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        dates = {"first": date.fromisoformat(value["first"]), "last": date.fromisoformat(value["last"])}
        return cls(**{**value, **dates, "at": datetime.fromisoformat(value["at"]), "event": Event(value["event"])})
