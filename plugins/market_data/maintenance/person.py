"""Who decides, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from market_data.lake.store import Lake
from market_data.maintenance import journal


@dataclass(frozen=True)
class Person:
    """Who decides, and why; the journal keeps both.

    :raises ParamError: if one is empty or too long.
    """

    by: str
    reason: str

    def __post_init__(self) -> None:
        journal.Entry(datetime(2000, 1, 1, tzinfo=UTC), "check", self.by, self.reason)

    def note(self, lake: Lake, job: str, at: datetime, what: Mapping[str, Any]) -> str:
        """Write an entry of the journal and return its key."""
        return journal.write(lake, journal.Entry(at, job, self.by, self.reason, what))
