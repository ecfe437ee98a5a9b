"""Log the progress of a batch: one structured line per request, for people and for log filters.

The message is for people. The fields (provider, dataset, batch, symbols, dates, rows ...) are the same on every line.
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
"""Most symbols listed in a line; the rest is a count."""


@dataclass
class Progress:
    """Progress of one batch in one try of its task.

    :param total: requests of the batch.
    :param resumed: requests that an earlier try finished; they do not count for the speed.
    :param attempt: number of the try, from 1.
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
            _scope(self.batch.symbols, self.batch.intervals),
        )

    def done(self, request: Request, counts: Mapping[str, int], absent: int) -> None:
        """Log a finished request.

        :param counts: the counts of its receipt.
        :param absent: number of cells without a row.
        """
        self.ok += 1
        self.rows += counts["rows_landed"]
        quarantined = counts["rows_quarantined"]
        words = f"{request}: {counts['rows_landed']} rows" + (f", {quarantined} quarantined" if quarantined else "")
        if cleared := counts.get("values_cleared", 0):
            words += f", {cleared} values without meaning made null"
        seen = {"rows": counts["rows_landed"], "quarantined": quarantined, "absent": absent}
        self._say(words, {**_scope(request.symbols, request.intervals), **seen, "bytes": counts["bytes"], "calls": counts["calls"]})

    def failed_one(self, request: Request, error: Exception) -> None:
        """Log a failed request whose batch continues without its symbol."""
        self.failed += 1
        self._say(f"FAILED {error}", _scope(request.symbols, request.intervals), log.error)

    def _say(self, words: str, fields: Mapping[str, Any], say: Callable[..., Any] | None = None) -> None:
        done = self.resumed + self.ok + self.failed
        elapsed = self.clock() - self._started
        finished = self.ok + self.failed
        left = elapsed / finished * (self.total - done) if finished else None
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


def _scope(symbols: Sequence[str], intervals: Sequence[Any]) -> dict[str, str]:
    return {"symbols": some(symbols, NAMED), "dates": f"{intervals[0].start}..{intervals[-1].last}"}
