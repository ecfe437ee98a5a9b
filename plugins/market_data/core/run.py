"""The value types that pass between the parts, frozen and serialisable.

Dates are exchange dates; intervals are half-open; moments are UTC. ``to_json``/``from_json`` give what an XCom carries: plain
dicts, small, without secrets. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run this is: what deterministic keys and ids are made of.

    :param clear_number: how often the run was cleared; part of every resume key and load id.
    :param started: when the run was queued first, UTC.
    """

    dag_id: str
    run_id: str
    run_type: str
    clear_number: int
    started: datetime

    @property
    def key(self) -> str:
        """A short hash of dag and run, safe in object keys, and the clear number."""
        digest = hashlib.sha256(f"{self.dag_id}/{self.run_id}".encode()).hexdigest()[:16]
        return f"{digest}-{self.clear_number}"
