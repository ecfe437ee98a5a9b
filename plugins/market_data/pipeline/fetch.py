"""Fetch a batch, request by request: hook -> gate -> lake and quarantine -> staging -> receipt."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from market_data.core.batch import Batch, Request
from market_data.core.calendar import Calendar
from market_data.core.capabilities import Shape
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
from market_data.core.full_disk import full_disk_named
from market_data.core.intervals import IntervalSet, closed, coalesce
from market_data.core.outcome import MAY_BE_MORE, NOTHING_YET, SOME_QUARANTINED, Evidence, Receipt, State
from market_data.core.request_rows import of_request
from market_data.core.without_pandas import leave_pandas_out
from market_data.lake.cells import cells_of
from market_data.pipeline.batch_log import Progress
from market_data.pipeline.overruled import Overruled
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.run_records import LedgerRecords
from market_data.pipeline.unknown_symbols import HOLLOW, UNCERTAIN, AbsenceCheck
from market_data.pipeline.withdrawn import contradictions, describe, find_withdrawn, identified, without_cells
from market_data.providers.registry import signed_of_source

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

PART_ROWS = 25_000
"""Rows per pass of gate and lake, about: a request for minutes has 400,000 rows, and a pass takes a KB for each of its rows."""

NOTHING = "the provider has nothing"
NOTHING_AT_ALL = f"{NOTHING} in the whole span: not listed, or unknown to it"
"""Reasons of ``empty`` cells."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
                detail = _fetch_request(context, hook, batch, folder, request, absences, now)
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


def _give_memory_back(rows: int) -> None:
    """Give free memory back to the system.

    :param rows: of the response. Few do not take enough memory to be worth the time.
    """
    import pyarrow as pa

    if rows > PART_ROWS:
        pa.default_memory_pool().release_unused()


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


def _fetch_request(
    context: RunContext,
    hook: ProviderHook,
    batch: Batch,
    folder: str,
    request: Request,
    absences: AbsenceCheck,
    now: Callable[[], datetime],
) -> RequestReceipt:
    """Fetch one request, write its rows and then its receipt.

    :param absences: checks what the responses of this batch lack.
    :param now: is called when the whole response has arrived: that moment stamps its rows. ``hook.fetch`` may wait for the quota first.
    """
    from market_data.lake import begun, receipts, staging
    from market_data.lake.parquet import Encoder
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.staging import StagedInfo

    dataset, sessions, before = context.dataset, request.sessions, replace(hook.counters)
    fetched, reported = _response(context, hook, request, absences, now)
    arrived = now()
    evidence, refused, warnings, unproved = fetched.evidence, dict(fetched.refused), fetched.warnings, fetched.unproved
    odd = fetched.odd if fetched.odd is None else of_request(fetched.odd, request)
    open_sessions = [session for session in sessions if session not in reported]
    served = [symbol for symbol in request.symbols if symbol not in refused]
    # A row that cannot be read is there all the same.
    unread = set(odd["symbol"].to_pylist() if odd else ())
    judged = tuple(symbol for symbol in served if symbol not in unread)
    doubted: Mapping[str, str] = {}
    if judged:
        doubted = absences.check_rows(request.renamed({name: name for name in judged}), open_sessions, fetched.table, arrived)
    if not odd:
        hollow = absences.hollow_sessions(request, open_sessions, fetched.table, arrived)
        reported |= dict.fromkeys(hollow, (State.PENDING, HOLLOW))
    counts = Counter(rows_received=len(fetched.table) + len(odd or ()), rows_left_aside=evidence.rows_left_aside)
    table = identified(dataset, fetched.table)
    proved = [symbol for symbol in judged if symbol not in doubted and symbol not in unproved]
    absent = find_withdrawn(context, request, table, proved, reported, arrived)
    warnings += contradictions(dataset, table)
    apart = "session" if context.params.file_grain == "session" else "symbol"
    incoming = _Incoming(_parts(table, apart), odd, absent, fetched.release)
    del fetched, table  # release the rows part by part
    incoming.release()
    _give_memory_back(counts["rows_received"])
    mark = ""
    if (counts["rows_received"] or len(absent)) and _may_replace(context, batch):
        stamp = {"ingest_us": (arrived - EPOCH) // timedelta(microseconds=1)}
        info = StagedInfo(context.run, batch.id, context.params.file_grain, RequestReceipt(request, evidence, stamp))
        mark = begun.begin(context.lake, dataset.name, context.source, batch.spec_hash, info)
    with TemporaryFile() as spool:  # minutes of many symbols have tens of megabytes: they wait on disk
        staged = Encoder(spool, compression="snappy")  # read once, and soon
        landed = _land(context, batch, request, incoming, counts, _Arrival(arrived, now), staged)
        counts.update({name: getattr(hook.counters, name) - getattr(before, name) for name in ("calls", "retries", "bytes")})
        settled = context.settled(arrived, request.calendar)
        cells = _cells(dataset, request, served, landed, settled, reported, unproved, doubted)
        receipt = RequestReceipt(
            request, evidence, counts, cells, coalesce(sorted(reported), _axis(sessions, request.calendar)), refused,
            warnings + landed.withdrawn, restated=landed.restated, replaced=landed.replaced,
            unproved=_without_state(request, served, cells, unproved),
            renewed=coalesce(landed.renewed, _axis(sessions, request.calendar)),
        )  # fmt: skip
        _give_memory_back(counts["rows_received"])
        # The receipt comes last: a retry repeats a request without one. Rows in staging are loaded in any case.
        info = StagedInfo(context.run, batch.id, context.params.file_grain, receipt)
        key = staging.write(context.lake, dataset.name, context.source, batch.spec_hash, info, staged)
    if mark:
        context.lake.delete(mark)
    receipt = receipt.with_staged(key)
    receipts.write(context.lake, folder, receipt, landed.objects)
    return receipt


def _response(
    context: RunContext, hook: ProviderHook, request: Request, absences: AbsenceCheck, now: Callable[[], datetime]
) -> tuple[Fetched, dict[date, tuple[State, str]]]:
    """Return the response to a request, and session -> state and reason that the provider reported.

    :raises ProviderError: if there is none, or it is not proved to be complete.
    """
    calls, reported = hook.counters.calls, {}
    try:
        fetched = hook.fetch(request)
        if fetched.pending_from is not None:
            reported = {s: (State.PENDING, fetched.pending_reason) for s in request.sessions if s >= fetched.pending_from}
    except PerCellError as error:
        if isinstance(error, UnknownSymbol):
            absences.check_unknown(request, error)
        fetched = _nothing(context.dataset, hook.counters.calls - calls)
        state, reason = _state_of(error)
        if isinstance(error, UnknownSymbol) and absences.is_uncertain(request, now()):
            state, reason = State.PENDING, f"{reason}; {UNCERTAIN}"
        reported = dict.fromkeys(request.sessions, (state, reason))
    evidence = fetched.evidence
    if not evidence.last_page_seen or evidence.rows_declared not in (None, evidence.rows_received):
        raise TruncatedResponse(
            f"the evidence does not prove a complete response: {evidence}", provider=context.source, request=str(request)
        )
    return fetched, reported


def _may_replace(context: RunContext, batch: Batch) -> bool:
    """Return true if rows of the batch may replace stored ones.

    Other runs request cells without a state only, and do so again.
    """
    return batch.refetch or context.run.clear_number > 0 or context.run.run_type == "scheduled"


def _parts(rows: pa.Table, apart: str = "symbol") -> list[pa.Table]:
    """Split ``rows`` into tables of about ``PART_ROWS`` rows, or more, that share no value of a column.

    Nothing is copied if the rows of each page are by that column, which is the usual case.

    :param apart: ``session`` for session files: each is written once.
    """
    import pyarrow.compute as pc

    from market_data.providers.spool import groups_of, taken

    if len(rows) <= PART_ROWS:
        return [rows]
    if (groups := groups_of(rows, apart, PART_ROWS)) is None:
        return _parts(rows.take(pc.sort_indices(rows, sort_keys=[(apart, "ascending")])), apart)
    return [taken(rows, pieces) for pieces in groups]


@dataclass(frozen=True)
class _Written:
    """Result of ``_land``: the rows of a request in the lake.

    :param objects: schema ``receipts.OBJECTS``.
    :param have: symbol -> sessions with rows.
    :param restated: see ``RequestReceipt``, as ``replaced``.
    :param quarantined: symbol -> sessions with quarantined rows.
    :param renewed: sessions with rows first seen by the request.
    :param withdrawn: a sentence on the stored rows that the response lacks, if any.
    :param confirmed: cell -> reason, for cells with rows that a person confirmed to be wrong.
    """

    objects: pa.Table
    have: dict[str, set[date]]
    quarantined: dict[str, set[date]]
    renewed: frozenset[date]
    withdrawn: tuple[str, ...] = ()
    restated: tuple[tuple[str, str, int], ...] = ()
    replaced: tuple[str, ...] = ()
    confirmed: Mapping[tuple[str, date], str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Incoming:
    """The rows of a response.

    :param parts: the readable ones.
    :param odd: the others, as in `Fetched`.
    :param withdrawn: stored rows that the response lacks, marked as withdrawn.
    :param release: as in `Fetched`.
    """

    parts: list[pa.Table]
    odd: pa.Table | None
    withdrawn: pa.Table
    release: Callable[[], None]


@dataclass(frozen=True)
class _Arrival:
    """The moment at which a response had arrived, and the clock."""

    at: datetime
    now: Callable[[], datetime]


def _land(
    context: RunContext,
    batch: Batch,
    request: Request,
    incoming: _Incoming,
    counts: Counter[str],
    arrival: _Arrival,
    staged: Encoder,
) -> _Written:
    """Gate the rows and write them to the lake part by part.

    Empties ``incoming.parts`` to release memory; adds to ``counts``, and to ``staged`` the rows as they are in the lake.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake import quarantine
    from market_data.lake.object_writer import Refetch
    from market_data.lake.writer import land
    from market_data.providers.spool import in_memory
    from market_data.quality.gate import gate

    dataset, sessions = context.dataset, request.sessions
    extra = {
        "timeframe": dataset.timeframe,
        "provider": context.source,
        "ingest_ts": pa.scalar(arrival.at, pa.timestamp("us", tz="UTC")),
    }
    forced = context.params.force or context.run.clear_number > 0
    # Rechecked cells are written only where they differ.
    terms = Refetch(arrival.now, in_place=not forced, again=batch.refetch or context.run.clear_number > 0)
    bad = [] if incoming.odd is None else [incoming.odd]
    counts["rows_quarantined"] += len(incoming.odd or ())
    objects: list[pa.Table] = []
    restated: list[pa.Table] = []
    replaced: list[str] = []
    have: dict[str, set[date]] = {}
    renewed: set[date] = set()
    counts["ingest_us"] = (arrival.at - EPOCH) // timedelta(microseconds=1)  # whole numbers: the report compares for equality

    def write(rows: pa.Table) -> None:
        landed = land(context.lake, context.layout, dataset, context.source, rows, context.params.file_grain, refetch=terms)
        staged.add(landed.rows)
        objects.append(landed.objects)
        restated.append(landed.restated)
        replaced.extend(landed.broken)
        cells = cells_of(landed.rows)
        for symbol, days in cells.items():
            have.setdefault(symbol, set()).update(days)
        # A stored row with equal values keeps its own, earlier moment.
        new = pc.greater_equal(landed.rows["ingest_ts"], extra["ingest_ts"])
        renewed.update(*(cells if pc.all(new).as_py() else cells_of(landed.rows.filter(new))).values())
        counts.update(
            rows_landed=len(landed.rows),
            files_written=landed.written,
            files_unchanged=landed.unchanged,
            rows_missing=0 if dataset.withdrawn else landed.missing,
        )

    signed = signed_of_source(context.source)
    overruled = Overruled(context)
    incoming.parts.reverse()
    while incoming.parts:
        # The response to a request with holes has the whole span; the cells in the holes are covered already.
        rows = in_memory(incoming.parts.pop(), incoming.release)
        gated = gate(dataset, of_request(rows, request), request, sessions, signed)
        del rows
        if len(gated.bad):
            gated = overruled.apply(gated, request, sessions, signed)
        bad.append(gated.bad)
        counts.update(rows_quarantined=len(gated.bad), values_cleared=sum(gated.cleared.values()))
        write(_stored(gated.good, dataset, extra))
        del gated
    rejected = pa.concat_tables(bad)
    quarantine.write(context.lake, dataset.name, context.source, context.run, batch.id, rejected, received_at=arrival.at)
    # One copy of a duplicate row is in the lake.
    lacking = rejected.filter(pc.not_equal(rejected["reasons"], "duplicate row"))
    # A row that was rejected came nevertheless: it may be the one that seems to be gone.
    gone = without_cells(incoming.withdrawn, cells_of(lacking))
    if len(gone):
        write(gone)
    return _Written(
        pa.concat_tables(objects), have, cells_of(lacking), frozenset(renewed), describe(gone, dataset.key),
        _counted(pa.concat_tables(restated)), tuple(replaced), overruled.confirmed,
    )  # fmt: skip


def _stored(rows: pa.Table, dataset: Dataset, extra: Mapping[str, Any]) -> pa.Table:
    """Return received rows in the columns of a lake file."""
    import pyarrow as pa

    def column(field: pa.Field) -> Any:
        if field.name in rows.column_names:
            return rows[field.name]
        return pa.repeat(extra[field.name], len(rows)) if field.name in extra else pa.nulls(len(rows), field.type)

    return pa.table([column(field) for field in dataset.schema], schema=dataset.schema)


def _counted(rows: pa.Table) -> tuple[tuple[str, str, int], ...]:
    """Return symbol, session (ISO date) and number of rows of each cell."""
    if not len(rows):
        return ()  # nearly always; a group_by of no rows starts all threads
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


def _axis(sessions: Sequence[date], calendar: Calendar) -> Sequence[date]:
    """Return ``sessions`` and those in the holes between them.

    An interval over a hole would give its cells a state.
    """
    return calendar.sessions_in((closed(sessions[0], sessions[-1]),)) if sessions else ()


def _cells(
    dataset: Dataset,
    request: Request,
    symbols: Sequence[str],
    written: _Written,
    settled: date,
    reported: dict[date, tuple[State, str]],
    unproved: Mapping[str, str],
    doubted: Mapping[str, str],
) -> tuple[CellRun, ...]:
    """Return the state of every cell of a request that has one.

    :param symbols: the symbols that the provider did not refuse.
    :param settled: the last final session: the vendor does not add rows to it any more.
    :param reported: session -> state and reason that the provider reported.
    :param unproved: symbols whose cells without rows are not known to be empty.
    :param doubted: see ``AbsenceCheck.check_rows``.
    """
    from market_data.lake.receipts import CellRun

    alike: dict[tuple[State, str, bool, IntervalSet], list[str]] = defaultdict(list)
    axis = _axis(request.sessions, request.calendar)
    chosen = set(symbols)
    own = [(symbol, block) for block in request.blocks for symbol in block.symbols if symbol in chosen]
    days_of = {block.intervals: block.sessions for _, block in own}
    all_of = {intervals: frozenset(sessions) for intervals, sessions in days_of.items()}
    for symbol, block in own:
        sessions = days_of[block.intervals]
        if sessions and sessions[-1] <= settled and _is_whole(written, symbol, all_of[block.intervals]):
            alike[State.HAVE, "", True, coalesce(sessions, axis)].append(symbol)
            continue
        known = dict.fromkeys(sessions if symbol in doubted else (), (State.PENDING, doubted.get(symbol, ""))) | reported
        states = _states(dataset, symbol, sessions, written, settled, known, unproved)
        for (state, reason, there), days in states.items():
            alike[state, reason, there, coalesce(days, axis)].append(symbol)
    name = request.calendar_name
    return tuple(CellRun(tuple(names), *kind[:2], kind[3], kind[2], name) for kind, names in alike.items())


def _states(
    dataset: Dataset,
    symbol: str,
    sessions: Sequence[date],
    written: _Written,
    settled: date,
    known: Mapping[date, tuple[State, str]],
    unproved: Mapping[str, str],
) -> dict[tuple[State, str, bool], list[date]]:
    """Return state, reason, and true if the cell has rows -> the sessions of a symbol; see ``_cells``.

    :param known: session -> state and reason without rows.
    """
    later = f"requested again until {dataset.settle_sessions} sessions later"
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
        elif session in known:
            state, reason = known[session]
        elif recent:
            state, reason = State.PENDING, f"{NOTHING_YET}; {later}"
        elif symbol in unproved:
            continue
        else:
            state, reason = State.EMPTY, NOTHING if have or quarantined else NOTHING_AT_ALL
        state, reason = _unless_confirmed(written, (symbol, session), (state, reason))
        states[state, reason, there].append(session)
    return states


def _is_whole(written: _Written, symbol: str, sessions: frozenset[date]) -> bool:
    """Return true if the lake has rows of a symbol in all ``sessions``, and none was rejected."""
    return not written.confirmed and symbol not in written.quarantined and sessions <= written.have.get(symbol, set())


def _unless_confirmed(written: _Written, cell: tuple[str, date], found: tuple[State, str]) -> tuple[State, str]:
    """Return the state and reason of a cell whose rejected rows are confirmed to be wrong; else ``found``."""
    symbol, session = cell
    if cell not in written.confirmed or found[0] is State.QUARANTINED:
        return found
    return (State.HAVE if session in written.have.get(symbol, ()) else State.EMPTY, written.confirmed[cell])


def _without_state(
    request: Request, symbols: Sequence[str], cells: Sequence[CellRun], unproved: Mapping[str, str]
) -> dict[str, str]:
    """Return the part of ``unproved`` with cells that got no state."""
    open_cells: Counter[str] = Counter()
    for block in request.blocks if unproved else ():
        open_cells.update(dict.fromkeys(block.symbols, len(block.sessions)))
    for run in cells if unproved else ():
        open_cells.subtract(dict.fromkeys(run.symbols, run.size // len(run.symbols)))
    return {symbol: why for symbol, why in unproved.items() if symbol in symbols and open_cells[symbol] > 0}


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
