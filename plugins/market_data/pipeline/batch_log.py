"""How a batch is getting on: one structured log line a request, that people can read and tools can filter.

The words say what a person wants to know; the fields (provider, dataset, batch, symbols, dates, rows ...) are the same on every line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from market_data.core.batch import Batch, Request
from market_data.core.messages import some

log = structlog.stdlib.get_logger(__name__)

NAMED = 5
"""Symbols named in a line; of more, how many."""


@dataclass
class Progress:
    """The requests of one batch in one try.

    :param total: requests of the batch.
    :param resumed: of these, finished by an earlier try: done, and no measure of this one's speed.
    :param attempt: the try, from 1.
    """

    provider: str
    batch: Batch
    total: int
    resumed: int
    attempt: int
    clock: Callable[[], float] = time.monotonic
    ok: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._say(
            f"{self.total} requests, {self.resumed} of them finished by an earlier try",
            _asked(self.batch.symbols, self.batch.intervals),
        )

    def done(self, request: Request, counts: Mapping[str, int], absent: int) -> None:
        """A request is finished: ``counts`` of its receipt, ``absent`` cells without a row."""
        self.ok += 1
        self.rows += counts["rows_landed"]
        quarantined = counts["rows_quarantined"]
        words = f"{request}: {counts['rows_landed']} rows" + (f", {quarantined} quarantined" if quarantined else "")
        seen = {"rows": counts["rows_landed"], "quarantined": quarantined, "absent": absent}
        self._say(words, {**_asked(request.symbols, request.intervals), **seen, "bytes": counts["bytes"], "calls": counts["calls"]})

    def failed_one(self, request: Request, error: Exception) -> None:
        """A request failed; the batch goes on without its symbol."""
        self.failed += 1
        self._say(f"FAILED {error}", _asked(request.symbols, request.intervals), log.error)

    def _say(self, words: str, fields: Mapping[str, Any], say: Callable[..., Any] | None = None) -> None:
        done = self.resumed + self.ok + self.failed
        elapsed = self.clock() - self._started
        asked = self.ok + self.failed
        left = elapsed / asked * (self.total - done) if asked else None
        speed = self.rows / elapsed if elapsed > 0 else 0.0
        percent = 100 * done // self.total if self.total else 100
        head = f"{self.batch.id.split('-')[0]} ({self.batch.number} of {self.batch.of}) {done}/{self.total} {percent} %"
        tail = f"ok {self.resumed + self.ok}, failed {self.failed}, {elapsed:.0f} s"
        if left is not None:
            tail += f", about {left:.0f} s left, {speed:,.0f} rows/s"
        (say or log.info)(
            f"{head} | {words} | {tail}",
            provider=self.provider,
            dataset=self.batch.dataset,
            batch=f"{self.batch.number} of {self.batch.of}",
            batch_id=self.batch.id,
            attempt=self.attempt,
            **fields,
            percent=percent,
            ok=self.resumed + self.ok,
            failed=self.failed,
            elapsed_seconds=round(elapsed, 1),
            remaining_seconds=None if left is None else round(left, 1),
            rows_per_second=round(speed, 1),
        )


def _asked(symbols: Sequence[str], intervals: Sequence[Any]) -> dict[str, str]:
    return {"symbols": some(symbols, NAMED), "dates": f"{intervals[0].start}..{intervals[-1].last}"}
