"""Fetch a batch, request by request: hook -> gate -> lake and quarantine -> staging -> receipt."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from market_data.core import calendar
from market_data.core.batch import Batch, Request
from market_data.core.calendar import sessions_in
from market_data.core.errors import (
    AuthError,
    BadRequest,
    CircuitOpen,
    LakeError,
    MarketDataError,
    NotYetAvailable,
    PerCellError,
    QuotaExhausted,
    RetriableError,
    SchemaDrift,
    Throttled,
    TruncatedResponse,
    UnknownSymbol,
)
from market_data.core.intervals import Interval, IntervalSet, coalesce, difference
from market_data.core.outcome import MAY_BE_MORE, SOME_QUARANTINED, Evidence, Receipt, State
from market_data.lake.cells import cells_of, rows_inside
from market_data.pipeline.batch_log import Progress
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.unknown_symbols import check_unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.http.client import Counters
    from market_data.lake.failures import Failures
    from market_data.lake.parquet import Encoder
    from market_data.lake.receipts import CellRun, RequestReceipt
    from market_data.providers.base import Fetched, ProviderHook

log = logging.getLogger(__name__)

SAME_TROUBLE = 2
"""Consecutive failed requests that end a batch: the cause is the provider, not a symbol."""

SAME_REFUSAL = 5
"""Consecutive requests refused as malformed that end a batch; more, because a list may have several wrong symbols."""

PART_ROWS = 50_000
"""Rows per pass of gate and lake, about: a request for minutes has 400,000 rows, a task a few hundred MB of memory."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fetch_batch(context: RunContext, hook: ProviderHook, batch: Batch, now: Callable[[], datetime], attempt: int = 1) -> Receipt:
    """Fetch a batch request by request: gate, write and receipt each before the next call.

    Requests with a receipt from an earlier try of this attempt are not repeated. If the provider refuses a symbol or its response has
    an unexpected schema, the symbol is reported without a state and the other symbols continue. They also continue if the provider
    fails for one symbol; the batch then fails at the end. Several consecutive failures end the batch at once.

    :param attempt: number of the task's try, for the log.
    :raises ClockError: before any call, if the clock of this host is wrong; or if a stored row has a stamp in the future.
    :raises CircuitOpen: before any call, if too many batches of the run have failed in a row.
    :raises ProviderError: if a request failed for good; finished requests keep their receipts.
    """
    import pyarrow as pa

    from market_data.lake import receipts
    from market_data.lake.clock import check_clock
    from market_data.lake.failures import Failures

    # The default pool of pyarrow keeps memory that its many threads released: 50 % more than the rows need.
    pa.set_memory_pool(pa.system_memory_pool())
    started = time.monotonic()
    folder = receipts.prefix(context.feed.dataset, context.source, context.run, batch)
    finished = dict(receipts.finished(context.lake, folder))
    requests = list(batch.requests(sessions_in(batch.intervals)))
    progress = Progress(context.source, batch, len(requests), len(finished), attempt)
    failures = Failures.of(context.lake, context.feed.dataset, context.source, context.run)
    open_requests = [request for request in requests if request.id not in finished]
    if open_requests:
        check_clock(context.lake)
        _check_breaker(context, failures, batch, now())
    failed: dict[str, str] = {}
    broken: list[MarketDataError] = []
    in_a_row = 0
    for request in open_requests:
        before = replace(hook.counters)
        try:
            detail = _fetch_request(context, hook, batch, folder, request, before, now)
        except MarketDataError as error:
            in_a_row += 1
            refused = isinstance(error, BadRequest | SchemaDrift)
            most = SAME_REFUSAL if isinstance(error, BadRequest) else SAME_TROUBLE
            continues = (refused or _is_server(error)) and len(request.symbols) == 1 and in_a_row < most
            _record(failures, batch, error, before, hook.counters, now(), passing=continues)
            if not continues:
                raise
            if refused:
                failed[request.symbols[0]] = str(error)
            else:
                broken.append(error)
            progress.failed_one(request, error)
            continue
        in_a_row = 0
        finished[request.id] = detail
        progress.done(request, detail.counts, sum(run.size for run in detail.cells if run.state is not State.HAVE))
        for words in (
            *detail.warnings,
            *detail.replaced,
            *(f"{symbol} was refused: {why}" for symbol, why in detail.refused.items()),
        ):
            log.warning("%s: %s: %s", context.source, request, words)
        failures.recovered(batch.id, now())
    if broken:
        # The task's retry does not repeat the finished requests.
        _record(failures, batch, broken[0], hook.counters, hook.counters, now())
        raise broken[0]
    return _receipt(batch, folder, requests, finished, failed, progress.resumed, time.monotonic() - started)


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


def _fetch_request(
    context: RunContext,
    hook: ProviderHook,
    batch: Batch,
    folder: str,
    request: Request,
    before: Counters,
    now: Callable[[], datetime],
) -> RequestReceipt:
    """Fetch one request, write its rows and then its receipt.

    :param before: the hook's counters before this request.
    :param now: is called when the whole response has arrived: that moment stamps its rows. ``hook.fetch`` may wait for the quota first.
    """
    from market_data.lake import begun, receipts, staging
    from market_data.lake.parquet import Encoder
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.staging import StagedInfo

    dataset, sessions = context.dataset, sessions_in(request.intervals)
    reported: dict[date, tuple[State, str]] = {}
    try:
        fetched = hook.fetch(request)
        if fetched.pending_from is not None:
            reported = {s: (State.PENDING, fetched.pending_reason) for s in sessions if s >= fetched.pending_from}
    except PerCellError as error:
        if isinstance(error, UnknownSymbol):
            check_unknown(context, request, error)
        fetched = _nothing(dataset, hook.counters.calls - before.calls)
        reported = dict.fromkeys(sessions, _state_of(error))
    arrived = now()
    evidence, refused, warnings = fetched.evidence, dict(fetched.refused), fetched.warnings
    if not evidence.last_page_seen or evidence.rows_declared not in (None, evidence.rows_received):
        raise TruncatedResponse(
            f"the evidence does not prove a complete response: {evidence}", provider=context.source, request=str(request)
        )
    parts = _parts(fetched.table)
    counts = Counter(rows_received=len(fetched.table))
    del fetched  # release its rows part by part
    mark = ""
    if counts["rows_received"] and _may_replace(context, batch):
        stamp = {"ingest_us": (arrived - EPOCH) // timedelta(microseconds=1)}
        info = StagedInfo(context.run, batch.id, context.params.file_grain, RequestReceipt(request, evidence, stamp))
        mark = begun.begin(context.lake, dataset.name, context.source, batch.spec_hash, info)
    with TemporaryFile() as spool:  # minutes of many symbols have tens of megabytes: they wait on disk
        staged = Encoder(spool)
        landed = _land(context, batch, request, parts, counts, _Arrival(arrived, now), staged)
        counts["calls"] = hook.counters.calls - before.calls
        counts["retries"] = hook.counters.retries - before.retries
        counts["bytes"] = hook.counters.bytes - before.bytes
        served = [symbol for symbol in request.symbols if symbol not in refused]
        cells = _cells(dataset, served, sessions, landed, context.settled(arrived), reported)
        receipt = RequestReceipt(
            request, evidence, counts, cells, coalesce(sorted(reported), _axis(sessions)), refused, warnings,
            restated=landed.restated, replaced=landed.replaced,
        )  # fmt: skip
        # The receipt comes last: a retry repeats a request without one. Rows in staging are loaded in any case.
        info = StagedInfo(context.run, batch.id, context.params.file_grain, receipt)
        key = staging.write(context.lake, dataset.name, context.source, batch.spec_hash, info, staged)
    if mark:
        context.lake.delete(mark)
    receipt = receipt.with_staged(key)
    receipts.write(context.lake, folder, receipt, landed.objects)
    return receipt


def _may_replace(context: RunContext, batch: Batch) -> bool:
    """Return true if rows of the batch may replace stored ones.

    Other runs request cells without a state only, and do so again.
    """
    return batch.refetch or context.run.clear_number > 0 or context.run.run_type == "scheduled"


def _parts(rows: pa.Table) -> list[pa.Table]:
    """Split ``rows`` into tables of about ``PART_ROWS`` rows that share no symbol.

    Nothing is copied if the rows of each symbol are adjacent, which is the usual case.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(rows) <= PART_ROWS:
        return [rows]
    codes = pa.chunked_array([rows["symbol"].combine_chunks().dictionary_encode("encode").indices]).to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) > codes.max() + 1:  # the rows of a symbol are not adjacent
        return _parts(rows.take(pc.sort_indices(rows, sort_keys=[("symbol", "ascending")])))
    cuts = [0]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        if end - cuts[-1] > PART_ROWS and start > cuts[-1]:
            cuts.append(int(start))
    return [rows.slice(start, end - start) for start, end in zip(cuts, [*cuts[1:], len(rows)], strict=True)]


@dataclass(frozen=True)
class _Written:
    """Result of ``_land``: the rows of a request in the lake.

    :param objects: schema ``receipts.OBJECTS``.
    :param have: symbol -> sessions with rows.
    :param restated: see ``RequestReceipt``, as ``replaced``.
    :param quarantined: symbol -> sessions with quarantined rows.
    """

    objects: pa.Table
    have: dict[str, set[date]]
    quarantined: dict[str, set[date]]
    restated: tuple[tuple[str, str, int], ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Arrival:
    """The moment at which a response had arrived, and the clock."""

    at: datetime
    now: Callable[[], datetime]


def _land(
    context: RunContext,
    batch: Batch,
    request: Request,
    parts: list[pa.Table],
    counts: Counter[str],
    arrival: _Arrival,
    staged: Encoder,
) -> _Written:
    """Gate the rows and write them to the lake part by part.

    Empties ``parts`` to release memory; adds to ``counts``, and to ``staged`` the rows as they are in the lake.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake import quarantine
    from market_data.lake.object_writer import Refetch
    from market_data.lake.writer import land
    from market_data.quality.gate import gate

    dataset, sessions = context.dataset, sessions_in(request.intervals)
    extra = {
        "timeframe": dataset.timeframe,
        "provider": context.source,
        "ingest_ts": pa.scalar(arrival.at, pa.timestamp("us", tz="UTC")),
    }
    forced = context.params.force or context.run.clear_number > 0
    # Rechecked cells are written only where they differ.
    terms = Refetch(arrival.now, in_place=not forced, again=batch.refetch or context.run.clear_number > 0)
    bad: list[pa.Table] = []
    objects: list[pa.Table] = []
    restated: list[pa.Table] = []
    replaced: list[str] = []
    have: dict[str, set[date]] = {}
    counts["ingest_us"] = (arrival.at - EPOCH) // timedelta(microseconds=1)  # whole numbers: the report compares for equality
    parts.reverse()
    while parts:
        # The response to a request with holes has the whole span; the cells in the holes are covered already.
        gated = gate(dataset, _without_holes(parts.pop(), request.intervals), request, sessions)
        rows = gated.good
        columns = [rows[name] if name in rows.column_names else pa.repeat(extra[name], len(rows)) for name in dataset.schema.names]
        landed = land(
            context.lake, context.layout, dataset, context.source, pa.table(columns, schema=dataset.schema), context.params.file_grain,
            refetch=terms,
        )  # fmt: skip
        staged.add(landed.rows)
        objects.append(landed.objects)
        restated.append(landed.restated)
        replaced += landed.broken
        bad.append(gated.bad)
        have |= cells_of(landed.rows)
        counts.update(
            rows_landed=len(landed.rows),
            rows_quarantined=len(gated.bad),
            files_written=landed.written,
            files_unchanged=landed.unchanged,
            rows_missing=landed.missing,
        )
    rejected = pa.concat_tables(bad)
    quarantine.write(context.lake, dataset.name, context.source, context.run, batch.id, rejected, received_at=arrival.at)
    # One copy of a duplicate row is in the lake.
    lacking = rejected.filter(pc.not_equal(rejected["reasons"], "duplicate row"))
    return _Written(pa.concat_tables(objects), have, cells_of(lacking), _counted(pa.concat_tables(restated)), tuple(replaced))


def _counted(rows: pa.Table) -> tuple[tuple[str, str, int], ...]:
    """Return symbol, session (ISO date) and number of rows of each cell."""
    found = (
        rows.group_by(["symbol", "session"])
        .aggregate([([], "count_all")])
        .sort_by([("symbol", "ascending"), ("session", "ascending")])
    )
    columns = (found[name].to_pylist() for name in ("symbol", "session", "count_all"))
    return tuple((symbol, session.isoformat(), count) for symbol, session, count in zip(*columns, strict=True))


def _nothing(dataset: Dataset, calls: int) -> Fetched:
    """Return an empty result for a response of "unknown symbol" or "not available yet"."""
    from market_data.providers.base import Fetched

    evidence = Evidence(calls=calls, retries=0, pages=0, bytes=0, rows_received=0, rows_declared=0, last_page_seen=True)
    return Fetched(dataset.received.empty_table(), evidence)


def _state_of(error: PerCellError) -> tuple[State, str]:
    return (State.PENDING if isinstance(error, NotYetAvailable) else State.EMPTY, str(error))


def _without_holes(rows: pa.Table, intervals: IntervalSet) -> pa.Table:
    """Drop the rows between the intervals. Rows outside the whole span are kept for the gate to reject."""
    import pyarrow.compute as pc

    holes = difference([Interval(intervals[0].start, intervals[-1].end)], intervals)
    return rows.filter(pc.invert(rows_inside(rows, holes))) if holes else rows


def _axis(sessions: Sequence[date]) -> Sequence[date]:
    """Return ``sessions`` and those in the holes between them.

    An interval over a hole would give its cells a state.
    """
    return calendar.sessions(sessions[0], sessions[-1] + timedelta(days=1)) if sessions else ()


def _cells(
    dataset: Dataset,
    symbols: Sequence[str],
    sessions: Sequence[date],
    written: _Written,
    settled: date,
    reported: Mapping[date, tuple[State, str]],
) -> tuple[CellRun, ...]:
    """Return the state of every cell of a request.

    :param symbols: the symbols that the provider did not refuse.
    :param settled: the last final session: the vendor does not add rows to it any more.
    :param reported: session -> state and reason that the provider reported.
    """
    from market_data.lake.receipts import CellRun

    later = f"requested again until {dataset.settle_sessions} sessions later"
    alike: dict[tuple[State, str, bool, IntervalSet], list[str]] = defaultdict(list)
    axis = _axis(sessions)
    for symbol in symbols:
        states: dict[tuple[State, str, bool], list[date]] = defaultdict(list)
        have, quarantined = written.have.get(symbol, ()), written.quarantined.get(symbol, ())
        for session in sessions:
            recent, there = session > settled, session in have
            if session in quarantined:
                state, reason = State.QUARANTINED, SOME_QUARANTINED if there else "the gate rejected the row"
            elif there and recent and dataset.grows:
                state, reason = State.PENDING, f"{MAY_BE_MORE}; {later}"
            elif there:
                state, reason = State.HAVE, ""
            elif session in reported:
                state, reason = reported[session]
            elif recent:
                state, reason = State.PENDING, f"nothing yet; {later}"
            elif have or quarantined:
                state, reason = State.EMPTY, "the provider has nothing"
            else:
                state, reason = State.EMPTY, "the provider has nothing in the whole span: not listed, or unknown to it"
            states[state, reason, there].append(session)
        for (state, reason, there), days in states.items():
            alike[state, reason, there, coalesce(days, axis)].append(symbol)
    return tuple(CellRun(tuple(names), *kind[:2], kind[3], kind[2]) for kind, names in alike.items())


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
        failed = {**failed, **detail.refused}
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
        files_written=counts["files_written"],
        files_unchanged=counts["files_unchanged"],
        requests_resumed=resumed,
        seconds=round(seconds, 3),
        cells={state: count for state, count in cells.items() if count},
        sources=tuple(sorted({detail.evidence.source for detail in details if detail.evidence.source})),
        failed=failed,
        warnings=tuple(dict.fromkeys(words for detail in details for words in detail.warnings)),
    )
