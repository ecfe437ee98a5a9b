"""The journal: an append-only log in the lake of what people decided and what maintenance changed.

One object per entry, ``journal/date=YYYY-MM-DD/{moment}-{job}-{id}.json``. No entry is changed or deleted; the latest decision on a cell
counts.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from market_data.core.errors import OTHER_FORM, ParamError
from market_data.lake.store import Lake

log = logging.getLogger(__name__)

PREFIX = "journal"
MAX_TEXT = 500
"""Characters of a name or a reason, at most."""


@dataclass(frozen=True)
class Entry:
    """An entry of the journal.

    :param at: aware, UTC.
    :param job: the job that wrote it, e.g. ``release``.
    :param by: who decided: a person's name, or the DAG run that acted by itself.
    :param reason: why, in the person's words.
    :param what: the job's own details, JSON values only: dataset, source, cells, counts.
    """

    at: datetime
    job: str
    by: str
    reason: str
    what: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"{name} has {len(text)} characters; allowed: 1 to {MAX_TEXT}"
            for name, text in (("by", self.by), ("reason", self.reason))
            if not 1 <= len(text.strip()) <= MAX_TEXT
        ]
        if problems:
            raise ParamError(problems)

    @property
    def key(self) -> str:
        """Return the key of the entry's object; equal entries have equal keys."""
        digest = hashlib.sha256(self.body()).hexdigest()[:12]
        return f"{PREFIX}/date={self.at.date().isoformat()}/{self.at:%H%M%S.%f}-{self.job}-{digest}.json"

    def body(self) -> bytes:
        """Return the entry as JSON."""
        content = {**asdict(self), "at": self.at.astimezone(UTC).isoformat(), "what": dict(self.what)}
        return json.dumps(content, sort_keys=True, default=str).encode()

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the entry of an object.

        :raises ValueError: if the object holds something else.
        """
        try:
            content = json.loads(body)
            return cls(**{**content, "at": datetime.fromisoformat(content["at"])})
        except (*OTHER_FORM, ParamError) as error:
            raise ValueError(f"not an entry of the journal: {error}") from None


def write(lake: Lake, entry: Entry) -> str:
    """Add an entry and return its key. An equal entry is there once."""
    lake.put_new(entry.key, entry.body())
    return entry.key


def entries(lake: Lake, job: str | None = None) -> Iterator[Entry]:
    """Yield the entries, oldest first; unreadable ones are logged and left out.

    :param job: only the entries of this job.
    """
    keys = [key for key, _ in lake.list(PREFIX) if job is None or f"-{job}-" in key.rpartition("/")[2]]
    for key, stored in zip(keys, lake.get_many(keys), strict=True):
        try:
            entry = Entry.read(stored.body) if stored else None
        except ValueError as error:
            log.warning("lake object %s is left out: %s", key, error)
            continue
        if entry and job in (None, entry.job):
            yield entry
