"""Fetch a batch, request by request, each with its receipt before the next call."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from market_data.core.batch import Batch, Request
from market_data.core.capabilities import Shape
from market_data.core.errors import (
    AuthError,
    BadRequest,
    CircuitOpen,
    LakeError,
    MarketDataError,
    QuotaExhausted,
    RetriableError,
    SchemaDrift,
    Throttled,
)
from market_data.core.full_disk import full_disk_named
from market_data.core.outcome import Receipt, State
from market_data.core.without_pandas import leave_pandas_out
from market_data.pipeline.batch_log import Progress
from market_data.pipeline.fetch_request import fetch_request
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_records import LedgerRecords
from market_data.pipeline.unknown_symbols import AbsenceCheck

if TYPE_CHECKING:
    from market_data.http.client import Counters
    from market_data.lake.failures import Failures
    from market_data.lake.receipts import RequestReceipt
    from market_data.providers.base import ProviderHook

log = logging.getLogger(__name__)

SAME_TROUBLE = 2
"""Consecutive failed requests that end a batch: the cause is the provider, not a symbol."""

SAME_REFUSAL = 5
"""Consecutive requests refused as malformed that end a batch; more, because a list may have several wrong symbols."""


def fetch_batch(context: RunContext, hook: ProviderHook, batch: Batch, now: Callable[[], datetime], attempt: int = 1) -> Receipt:
    """Fetch a batch request by request: gate, write and receipt each before the next call.

    Requests with a receipt from an earlier try of this attempt are not repeated. If the provider refuses a symbol or its response has
    an unexpected schema, the symbol is reported without a state and the other symbols continue. They also continue if the provider
    fails for one symbol; the batch then fails at the end. Several consecutive failures end the batch at once. The same holds for the
    sessions of a market-wide endpoint.

    :param attempt: number of the task's try, for the log.
    :raises ClockError: before any call, if the clock of this host is wrong; or if a stored row has a stamp in the future.
    :raises CircuitOpen: before any call, if too many batches of the run have failed in a row.
    :raises ProviderError: if a request failed for good; finished requests keep their receipts.
    """
    from market_data.lake import receipts
    from market_data.lake.clock import check_clock
    from market_data.lake.failures import Failures

    _save_memory()
    started = time.monotonic()
    folder = receipts.prefix(context.feed.dataset, context.source, context.run, batch)
    finished = dict(receipts.finished(context.lake, folder))
    requests = list(batch.requests(batch.sessions))
    progress = Progress(context.source, batch, len(requests), len(finished), attempt)
    failures = Failures.of(context.lake, context.feed.dataset, context.source, context.run)
    open_requests = [request for request in requests if request.id not in finished]
    if open_requests:
        check_clock(context.lake)
        _check_breaker(context, failures, batch, now())
    failed: dict[str, str] = {}
    failed_sessions: dict[str, str] = {}
    broken: list[MarketDataError] = []
    by_session, in_a_row = batch.shape is Shape.MARKET, 0
    absences = AbsenceCheck(
        context, served=any(detail.counts["rows_received"] for detail in finished.values()), symbols=batch.symbols
    )
    hook.records = LedgerRecords(context, absences.lives)
    for request in open_requests:
        before = replace(hook.counters)
        try:
            with full_disk_named():
                detail = fetch_request(context, hook, batch, folder, request, absences, now)
        except MarketDataError as error:
            in_a_row += 1
            refused = isinstance(error, BadRequest | SchemaDrift)
            alone = by_session or len(request.symbols) == 1
            continues = (refused or _is_server(error)) and alone and in_a_row < _most_in_a_row(error, by_session=by_session)
            _record(failures, batch, error, before, hook.counters, now(), passing=continues)
            if not continues:
                raise
            if refused and by_session:
                failed_sessions[f"{request.start}"] = str(error)
            elif refused:
                failed[request.symbols[0]] = str(error)
            else:
                broken.append(error)
            progress.failed_one(request, error)
            continue
        in_a_row = 0
        finished[request.id] = detail
        progress.done(request, detail.counts, sum(run.size for run in detail.cells if run.state is not State.HAVE))
        _log_words(context.source, request, detail)
        failures.recovered(batch.id, now())
    if broken:
        # The task's retry does not repeat the finished requests.
        _record(failures, batch, broken[0], hook.counters, hook.counters, now())
        raise broken[0]
    receipt = _receipt(batch, folder, requests, finished, failed, progress.resumed, time.monotonic() - started)
    return replace(receipt, failed_sessions=failed_sessions)


def _save_memory() -> None:
    """Set pyarrow up for a task with little memory.

    Its default pool keeps what its many threads released: 50 % more than the rows need.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    leave_pandas_out()


def _most_in_a_row(error: MarketDataError, *, by_session: bool) -> int:
    """Return the number of consecutive failures that ends a batch."""
    return SAME_REFUSAL if isinstance(error, BadRequest) and not by_session else SAME_TROUBLE


def _log_words(source: str, request: Request, detail: RequestReceipt) -> None:
    """Log what a user should read about a finished request."""
    for words in (
        *detail.warnings,
        *detail.replaced,
        *(f"{symbol} was refused: {why}" for symbol, why in detail.refused.items()),
        *(f"{symbol} has cells without a state: {why}" for symbol, why in detail.unproved.items()),
    ):
        log.warning("%s: %s: %s", source, request, words)


def _check_breaker(context: RunContext, failures: Failures, batch: Batch, now: datetime) -> None:
    """Check the circuit breaker of the run.

    :raises CircuitOpen: while the breaker is open.
    """
    most = context.params.circuit_breaker
    until = failures.open_until(batch.id, now, most)
    if until is not None:
        raise CircuitOpen(
            f"{most} batches failed in a row: no more requests before {until:%H:%M:%S} UTC",
            until=until,
            retry_after=(until - now).total_seconds(),
            provider=context.source,
            request=f"batch {batch.number} of {batch.of}",
        )


def _is_server(error: MarketDataError) -> bool:
    """Return true if the provider or the network failed, as far as one request can tell."""
    return isinstance(error, RetriableError) and not isinstance(error, Throttled)


def _record(
    failures: Failures,
    batch: Batch,
    error: MarketDataError,
    before: Counters,
    after: Counters,
    now: datetime,
    *,
    passing: bool = False,
) -> None:
    """Record a failure in the lake.

    :param passing: the batch continues, so the failure does not count for the breaker.
    """
    from market_data.lake.failures import Event, Kind

    # A revoked key, a used-up quota and a wrong address affect every batch, as a server that is down does.
    affects_all = _is_server(error) or isinstance(error, AuthError | QuotaExhausted | BadRequest)
    kind = Kind.FAILED if affects_all and not passing else Kind.SINGLE
    calls, retries, size = after.calls - before.calls, after.retries - before.retries, after.bytes - before.bytes
    try:
        failures.record(Event(kind, batch.id, now, f"{type(error).__name__}: {error}"[:1000], calls, retries, size))
    except LakeError as not_recorded:
        # The provider's error decides what happens next, not the failed record.
        log.warning("the failure could not be recorded: %s", not_recorded)


def _receipt(
    batch: Batch,
    folder: str,
    requests: Sequence[Request],
    finished: Mapping[str, RequestReceipt],
    failed: Mapping[str, str],
    resumed: int,
    seconds: float,
) -> Receipt:
    counts: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    details = [finished[request.id] for request in requests if request.id in finished]
    for detail in details:
        counts.update(detail.counts)
        failed = {**failed, **detail.refused, **detail.unproved}
        for run in detail.cells:
            cells[str(run.state)] += run.size
    return Receipt(
        batch_id=batch.id,
        prefix=folder,
        calls=counts["calls"],
        retries=counts["retries"],
        bytes=counts["bytes"],
        rows_received=counts["rows_received"],
        rows_landed=counts["rows_landed"],
        rows_quarantined=counts["rows_quarantined"],
        rows_left_aside=counts["rows_left_aside"],
        files_written=counts["files_written"],
        files_unchanged=counts["files_unchanged"],
        requests_resumed=resumed,
        seconds=round(seconds, 3),
        cells={state: count for state, count in cells.items() if count},
        sources=tuple(sorted({detail.evidence.source for detail in details if detail.evidence.source})),
        failed=failed,
        warnings=tuple(dict.fromkeys(words for detail in details for words in detail.warnings)),
    )
