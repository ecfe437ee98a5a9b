"""What the tasks of a run do, without Airflow: plan, fetch, check, load, publish.

A run's data takes this path::

    plan     universe x sessions = cells, minus coverage -> requests -> batches
    fetch    each batch: hook -> gate -> lake and quarantine -> receipt objects        (many tasks)
    check    one Great Expectations checkpoint over what landed -> a verdict for each session
    load     passed sessions -> warehouse, in chunks, a transaction each
    publish  coverage, report, completion flag, and whether the run is red
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_data import calendar
from market_data.datasets import dataset as find_dataset
from market_data.errors import (
    BadRequest,
    CircuitOpen,
    LakeError,
    MarketDataError,
    NotYetAvailable,
    ParamError,
    PerCellError,
    RetriableError,
    Throttled,
    TruncatedResponse,
)
from market_data.feeds import Feed
from market_data.interval import Interval, IntervalSet, coalesce, difference, union
from market_data.params import RunParams, Wanted
from market_data.plan import Plan, make_plan
from market_data.progress import Progress
from market_data.types import Batch, Evidence, Receipt, Request, RunInfo, State, Verdict
from market_data.universe import IndexChange, load_tickers, members, update_index

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.hooks.base import Fetched, ProviderHook
    from market_data.lake.failures import Failures
    from market_data.lake.layout import Layout
    from market_data.lake.manifest import Coverage
    from market_data.lake.receipts import CellRun, Detail
    from market_data.lake.store import Lake
    from market_data.transport import Counters
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

SETTLE_SESSIONS = 3
"""A cell that came back empty stays ``pending`` until this many sessions after its own are over: vendors add late bars until then."""

LOAD_ROWS = 250_000
"""Rows of one load transaction, about."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

RECENT = timedelta(days=365)
"""A session this young must have the universe in full, even where no other session is known to compare with."""

PREVIOUS_SESSIONS = 20
"""Sessions before the run that the checkpoint compares with."""


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share.

    :param source: what stands in the lake and the warehouse as provider, e.g. ``polygon`` or ``alpaca~iex``.
    """

    feed: Feed
    params: RunParams
    run: RunInfo
    lake: Lake
    layout: Layout
    source: str

    @property
    def dataset(self) -> Dataset:
        return find_dataset(self.feed.dataset)


# -- plan ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """What ``plan`` found out.

    :param plan: what will be asked.
    :param sessions: sessions of the run, lookback included.
    :param symbols: how many the universe has.
    :param covered: cells that coverage has already.
    :param pending: sessions that are not over, or that the provider's plan cannot have yet.
    :param dates: first and last date that the run is about, inclusive, sessions or not.
    :param day_grain_calls: calls that the same would take with ``file_grain=day``.
    """

    plan: Plan
    sessions: tuple[date, ...]
    symbols: int
    covered: int
    pending: tuple[date, ...]
    dates: tuple[date, date] | None
    day_grain_calls: int

    @property
    def summary(self) -> dict[str, Any]:
        """Totals for XCom and report."""
        return {
            **self.plan.estimate(),
            "symbols": self.symbols,
            "sessions": len(self.sessions),
            "from": min(self.sessions, default=None) and min(self.sessions).isoformat(),
            "to": max(self.sessions, default=None) and max(self.sessions).isoformat(),
            "covered": self.covered,
            "pending": [session.isoformat() for session in self.pending],
            "note": self.note,
        }

    @property
    def note(self) -> str:
        """Why there is nothing to do, or what is left for a later run; empty where neither is so."""
        if not self.sessions and not self.pending and self.dates:
            return f"Nothing to do: {_closed(*self.dates)}"
        pending = f"Not to be had yet, asked by a later run: {', '.join(map(str, self.pending))}" if self.pending else ""
        nothing = "" if self.plan.batches or not self.sessions else f"Nothing to do: all {self.covered:,} cells are covered"
        return ". ".join(filter(None, [nothing, pending]))

    def explain(self) -> str:
        """The plan in words, for the log."""
        if not self.sessions:
            return self.note
        found = self.summary
        lines = [
            f"{self.symbols:,} symbols x {len(self.sessions):,} sessions, {found['from']} to {found['to']}: "
            f"{self.covered:,} cells are covered, {self.plan.cells:,} will be asked"
        ]
        if self.note:
            lines.append(self.note)
        if self.day_grain_calls < self.plan.calls:
            lines.append(f"file_grain year asks symbol by symbol; with file_grain day it would be {self.day_grain_calls:,} calls")
        return "\n".join([*lines, self.plan.explain()])


def _closed(first: date, last: date) -> str:
    """That there is no session from ``first`` to ``last``, and why."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    reasons = dict.fromkeys(filter(None, (calendar.why_closed(day) for day in days[:7])))
    span = f"{first}" if first == last else f"{first} to {last}"
    return f"no session on {span} ({', '.join(reasons)})" if reasons else f"no session on {span} that is over"


def plan_run(job: Job, hook: ProviderHook, wanted: Wanted, symbols: Sequence[str], now: datetime) -> Planned:
    """Which cells are missing, and how to ask for them.

    Own cells are asked again when the run is forced or was cleared; all others only where coverage has no state for them, a
    ``pending`` one counting as none for scheduled runs.

    :raises ParamError: if the provider's plan has no history that old, or the work is too much for a run.
    """
    from market_data.lake.manifest import read_coverage

    check_history(job.feed.dataset, job.params, hook, wanted)
    capabilities = hook.capabilities(job.feed.dataset)
    start = capabilities.history_start
    asked = [s for s in (*wanted.lookback, *wanted.own) if not start or s >= start]
    pending = tuple(s for s in asked if max(calendar.session_close(s), _available(s, capabilities.available_after)) > now)
    sessions = tuple(s for s in asked if s not in pending)
    coverage = read_coverage(job.lake, job.feed.dataset, job.source)
    covered = _covered(coverage, symbols, sessions, scheduled=job.run.run_type == "scheduled", settled=_settled(now))
    refetch = job.params.force or job.run.clear_number > 0
    again = sum(1 << bit for bit, session in enumerate(sessions) if session in set(wanted.own)) if refetch else 0
    everything = (1 << len(sessions)) - 1
    missing = {symbol: everything & (~covered.get(symbol, 0) | again) for symbol in symbols}

    def plan_with(file_grain: str, endpoint: str) -> Plan:
        size, dataset = job.params.batch_size, job.feed.dataset
        return make_plan(
            dataset, missing, sessions, capabilities, batch_size=size, endpoint=endpoint, file_grain=file_grain, refetch=refetch
        )

    plan = plan_with(job.params.file_grain, job.params.endpoint)
    cheaper = plan_with("day", "auto").calls if job.params.file_grain != "day" else plan.calls
    covered_cells = len(symbols) * len(sessions) - plan.cells
    return Planned(plan, sessions, len(symbols), covered_cells, pending, wanted.dates, cheaper)


def _covered(
    coverage: Coverage, symbols: Sequence[str], sessions: Sequence[date], *, scheduled: bool, settled: date
) -> dict[str, int]:
    """Cells that need not be asked, as masks: those with a state. ``pending`` counts only while the vendor may still add the bar, and
    never for a scheduled run."""
    covered = coverage.covered(symbols, sessions, states=set(State) - {State.PENDING})
    if scheduled:
        return covered
    young = sum(1 << bit for bit, session in enumerate(sessions) if session > settled)
    pending = coverage.covered(symbols, sessions, states={State.PENDING})
    return {symbol: mask | pending[symbol] & young for symbol, mask in covered.items()}


def _available(session: date, after: float) -> datetime:
    return datetime(session.year, session.month, session.day, tzinfo=UTC) + timedelta(seconds=after)


def check_history(dataset: str, params: RunParams, hook: ProviderHook, wanted: Wanted) -> None:
    """That the provider's plan has the run's own sessions.

    :raises ParamError: if it does not; names the plan and its first date.
    """
    start = hook.capabilities(dataset).history_start
    if not start or not wanted.own or wanted.own[0] >= start:
        return
    if params.start_date:
        said = f"start_date is {params.start_date}"
    elif params.backfill_days:
        said = f"backfill_days is {params.backfill_days}, back to {wanted.own[0]}"
    else:
        said = f"the run's session is {wanted.own[0]}"
    plan = hook.config.extra.get("plan", hook.default_plan)
    raise ParamError([f"{said}; the plan {plan!r} of connection {hook.conn_id!r} has sessions from {start} on"])


def symbols_of(
    params: RunParams, feed: Feed, as_of: date, today: date, open_s3: Callable[[str], bytes] | None = None
) -> tuple[str, ...]:
    """The symbols of a run: its own list, else its file, else its universe as of a date.

    :param as_of: the run's last session.
    :param today: the New York date: a file's symbols removed by then are left out.
    :param open_s3: the body of an ``s3://`` address.
    :raises ParamError: naming every bad line of the file.
    """
    if params.symbols:
        return params.symbols
    if params.tickers_path is not None:
        return load_tickers(params.tickers_path, open_s3, today=today)
    return members(params.universe or feed.universe, as_of)


def record_index(lake: Lake, index: str, symbols: Sequence[str], day: date) -> str:
    """Keeps ``symbols`` as the members of an index, ``metadata/indices/{index}.csv``; equal members write nothing.

    :param day: the New York date; who is new is added on it, who is gone removed.
    :return: what changed, in words.
    :raises ConfigError: if the standing file is wrong.
    """
    key = f"metadata/indices/{index}.csv"
    change = IndexChange(None)

    def revise(standing: bytes | None) -> bytes | None:
        nonlocal change
        change = update_index(None if standing is None else standing.decode(errors="replace"), symbols, day, source=key)
        return None if change.text is None else change.text.encode()

    lake.update(key, revise)
    if change.text is None:
        return f"{key}: {len(symbols):,} members, as before"
    return f"{key}: {len(symbols):,} members; new: {_some(change.added)}; gone: {_some(change.removed)}"


def _some(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - 10:,} more" if len(symbols) > 10 else ""
    return (", ".join(symbols[:10]) or "none") + more


# -- fetch -----------------------------------------------------------------------------------------------------------------------


def fetch_batch(job: Job, hook: ProviderHook, batch: Batch, now: Callable[[], datetime], attempt: int = 1) -> Receipt:
    """Fetch a batch, request by request; each is gated, landed and receipted before the next is asked.

    Requests that an earlier try of this attempt has finished are not asked again: their receipt objects say so. A symbol that the
    provider refuses to answer for is left without a state and named; the others go on.

    :param attempt: the task's try, for the log.
    :raises CircuitOpen: before any call, if too many batches of the run have failed one after another.
    :raises ProviderError: if a request failed for good; the finished ones stay finished.
    """
    from market_data.lake import receipts
    from market_data.lake.failures import Failures

    started = time.monotonic()
    folder = receipts.prefix(job.feed.dataset, job.source, job.run, batch)
    finished = dict(receipts.finished(job.lake, folder))
    requests = list(batch.requests(_sessions(batch.intervals)))
    progress = Progress(job.source, batch, len(requests), len(finished), attempt)
    failures = Failures.of(job.lake, job.feed.dataset, job.source, job.run)
    open_requests = [request for request in requests if request.id not in finished]
    if open_requests:
        _ask_leave(job, failures, batch, now())
    failed: dict[str, str] = {}
    for request in open_requests:
        before = replace(hook.counters)
        try:
            detail = _fetch_request(job, hook, batch, folder, request, now())
        except MarketDataError as error:
            _record(failures, batch, error, before, hook.counters, now())
            if not isinstance(error, BadRequest) or len(request.symbols) > 1:
                raise
            failed[request.symbols[0]] = str(error)
            progress.refused(request, error)
            continue
        finished[request.id] = detail
        progress.done(request, detail.counts, sum(len(_sessions(run.intervals)) for run in detail.absent))
        if progress.ok == 1:
            failures.recovered(batch.id, now())
    return _receipt(batch, folder, requests, finished, failed, progress.resumed, time.monotonic() - started)


def _ask_leave(job: Job, failures: Failures, batch: Batch, now: datetime) -> None:
    """The circuit breaker of the run.

    :raises CircuitOpen: while it is open.
    """
    most = job.params.circuit_breaker
    until = failures.closed_until(batch.id, now, most)
    if until is not None:
        raise CircuitOpen(
            f"{most} batches have failed one after another, so nothing more is asked before {until:%H:%M:%S} UTC",
            until=until,
            retry_after=(until - now).total_seconds(),
            provider=job.source,
            request=f"batch {batch.number} of {batch.of}",
        )


def _record(failures: Failures, batch: Batch, error: MarketDataError, before: Counters, after: Counters, now: datetime) -> None:
    from market_data.lake.failures import Event, Kind

    down = isinstance(error, RetriableError) and not isinstance(error, Throttled)
    calls, retries, size = after.calls - before.calls, after.retries - before.retries, after.bytes - before.bytes
    said = f"{type(error).__name__}: {error}"[:1000]
    try:
        failures.record(Event(Kind.FAILED if down else Kind.REFUSED, batch.id, now, said, calls, retries, size))
    except LakeError as lost:
        # What the provider said decides what happens next, not that it could not be written down.
        log.warning("the failure could not be recorded: %s", lost)


def _fetch_request(job: Job, hook: ProviderHook, batch: Batch, folder: str, request: Request, now: datetime) -> Detail:
    import pyarrow as pa

    from market_data.lake import quarantine, receipts
    from market_data.lake.receipts import Detail
    from market_data.lake.writer import land
    from market_data.quality.gate import gate

    dataset, sessions = job.dataset, _sessions(request.intervals)
    told: dict[date, tuple[State, str]] = {}
    before = replace(hook.counters)
    try:
        fetched = hook.fetch(request)
        if fetched.pending_from is not None:
            told = {s: (State.PENDING, fetched.pending_reason) for s in sessions if s >= fetched.pending_from}
    except PerCellError as error:
        fetched, told = _nothing(dataset, hook.counters.calls - before.calls), dict.fromkeys(sessions, _state_of(error))
    if not fetched.evidence.last_page_seen or fetched.evidence.rows_declared not in (None, fetched.evidence.rows_received):
        raise TruncatedResponse(
            f"the evidence does not prove a whole answer: {fetched.evidence}", provider=job.source, request=str(request)
        )
    # A request over holes is answered for the whole span; what lies in the holes is covered already.
    gated = gate(dataset, _without_holes(fetched.table, request.intervals), request, sessions)
    extra = {"timeframe": dataset.timeframe, "provider": job.source, "ingest_ts": pa.scalar(now, pa.timestamp("us", tz="UTC"))}
    rows = gated.good
    columns = [rows[name] if name in rows.column_names else pa.repeat(extra[name], len(rows)) for name in dataset.schema.names]
    landed = land(
        job.lake, job.layout, dataset, job.source, pa.table(columns, schema=dataset.schema), job.params.file_grain,
        refetch=batch.refetch or job.run.clear_number > 0,
    )  # fmt: skip
    quarantine.write(job.lake, dataset.name, job.source, job.run, batch.id, gated.bad, received_at=now)
    counts = {
        "calls": hook.counters.calls - before.calls,
        "retries": hook.counters.retries - before.retries,
        "bytes": hook.counters.bytes - before.bytes,
        "rows_received": len(fetched.table),
        "rows_landed": len(landed.rows),
        "rows_quarantined": len(gated.bad),
        "files_written": landed.written,
        "files_unchanged": landed.unchanged,
        "ingest_us": (now - EPOCH) // timedelta(microseconds=1),  # whole numbers: the report compares for equality
    }
    absent = tuple(_absent(request, sessions, landed.rows, gated.bad, now, told))
    detail = Detail(request, fetched.evidence, counts, absent, coalesce(sorted(told), sessions))
    receipts.write(job.lake, folder, detail, landed.rows)
    return detail


def _nothing(dataset: Dataset, calls: int) -> Fetched:
    """What a request brought that the provider answered with "unknown" or "not yet"."""
    from market_data.hooks.base import Fetched

    evidence = Evidence(calls=calls, retries=0, pages=0, bytes=0, rows_received=0, rows_declared=0, last_page_seen=True)
    return Fetched(dataset.received.empty_table(), evidence)


def _state_of(error: PerCellError) -> tuple[State, str]:
    return (State.PENDING if isinstance(error, NotYetAvailable) else State.EMPTY, str(error))


def _without_holes(rows: pa.Table, intervals: IntervalSet) -> pa.Table:
    """``rows`` without those of sessions between the intervals. Rows outside the whole span stay: the gate tells what is wrong."""
    import pyarrow.compute as pc

    holes = difference([Interval(intervals[0].start, intervals[-1].end)], intervals)
    return rows.filter(pc.invert(_inside(rows, holes))) if holes else rows


def _only(rows: pa.Table, intervals: IntervalSet) -> pa.Table:
    return rows.filter(_inside(rows, intervals))


def _inside(rows: pa.Table, intervals: IntervalSet) -> Any:
    """Which rows' sessions are inside; false where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.repeat(False, len(rows))
    for interval in intervals:
        here = pc.and_(pc.greater_equal(rows["session"], interval.start), pc.less(rows["session"], interval.end))
        found = pc.or_(found, pc.fill_null(here, False))
    return found


def _absent(
    request: Request,
    sessions: Sequence[date],
    landed: pa.Table,
    bad: pa.Table,
    now: datetime,
    told: Mapping[date, tuple[State, str]],
) -> Iterator[CellRun]:
    """The cells that no landed row stands for, with what is known of them.

    :param told: session -> what the provider itself said of it.
    """
    from market_data.lake.receipts import CellRun

    have, quarantined = _cells(landed), _cells(bad)
    settled = _settled(now)
    for symbol in request.symbols:
        states: dict[tuple[State, str], list[date]] = defaultdict(list)
        known = have.get(symbol, set()) | quarantined.get(symbol, set())
        for session in sessions:
            if session in have.get(symbol, ()):
                continue
            if session in quarantined.get(symbol, ()):
                states[State.QUARANTINED, "the gate turned the row away"].append(session)
            elif session in told:
                states[told[session]].append(session)
            elif session > settled:
                states[State.PENDING, f"no bar yet; asked again until {SETTLE_SESSIONS} sessions later"].append(session)
            elif known:
                states[State.EMPTY, "the provider has no bar"].append(session)
            else:
                states[State.EMPTY, "the provider has no bar in the whole span: not listed, or unknown to it"].append(session)
        for (state, reason), days in states.items():
            yield CellRun(symbol, state, reason, coalesce(days, sessions))


def _cells(rows: pa.Table) -> dict[str, set[date]]:
    cells: dict[str, set[date]] = defaultdict(set)
    unique = rows.group_by(["symbol", "session"]).aggregate([])
    for symbol, session in zip(unique["symbol"].to_pylist(), unique["session"].to_pylist(), strict=True):
        cells[symbol].add(session)
    return cells


def _settled(now: datetime) -> date:
    """The last session that vendors add nothing to any more."""
    session = calendar.last_completed_session(now)
    for _ in range(SETTLE_SESSIONS):
        session = calendar.previous_session(session)
    return session


def _sessions(intervals: IntervalSet) -> tuple[date, ...]:
    return tuple(session for interval in intervals for session in calendar.sessions(interval.start, interval.end))


def _receipt(
    batch: Batch,
    folder: str,
    requests: Sequence[Request],
    finished: Mapping[str, Detail],
    failed: Mapping[str, str],
    resumed: int,
    seconds: float,
) -> Receipt:
    counts: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    details = [finished[request.id] for request in requests if request.id in finished]
    asked = sum(len(r.symbols) * len(_sessions(r.intervals)) for r in requests if r.id in finished)
    for detail in details:
        counts.update(detail.counts)
        for run in detail.absent:
            cells[str(run.state)] += len(_sessions(run.intervals))
    cells[str(State.HAVE)] = asked - sum(cells.values())
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
    )


NOTHING = "The provider has none of the sessions yet; there is nothing to check."

# -- check -----------------------------------------------------------------------------------------------------------------------


def check_run(job: Job, batches: Sequence[Batch], receipts: Sequence[Receipt], warehouse: Warehouse) -> dict[str, Any]:
    """The checkpoint over what the given receipts landed.

    :returns: for an XCom: ``prefixes`` of the receipts, ``passed`` as date intervals, ``refused`` and ``warned`` verdicts, ``statistics``,
        ``table`` for the log, ``document``: the lake key of the whole result. What is refused is a session, or with ``file_grain=year``
        perhaps a symbol's year: see ``quality.partitions``.
    """
    from market_data.lake.receipts import finished, read
    from market_data.quality.checkpoint import run_checkpoint
    from market_data.quality.partitions import session_of

    landed = {receipt.batch_id for receipt in receipts}
    details = [detail for receipt in receipts for detail in finished(job.lake, receipt.prefix).values()]
    planned = planned_symbols([batch for batch in batches if batch.id in landed])
    for detail in details:
        for session in _sessions(detail.unanswered):
            planned[session] -= frozenset(detail.request.symbols)
    planned = {session: asked for session, asked in planned.items() if asked}
    prefixes = [receipt.prefix for receipt in receipts]
    if not planned:
        return {
            "prefixes": prefixes,
            "passed": [],
            "refused": [],
            "warned": [],
            "statistics": {},
            "table": NOTHING,
            "document": None,
        }
    symbols = sorted(set().union(*planned.values()))
    warehouse.migrate()
    previous = warehouse.previous_bars(job.dataset, job.source, min(planned), PREVIOUS_SESSIONS, symbols)
    chunks = (stored.rows for receipt in receipts for stored in read(job.lake, receipt.prefix))
    counts = {session: len(asked) for session, asked in planned.items()}
    prefix = f"quality/{job.feed.dataset}/provider={job.source}/run={job.run.key}"
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) if job.params.data_docs else None
        result = run_checkpoint(
            job.dataset,
            planned=counts,
            asked=planned,
            chunks=chunks,
            previous=previous,
            run_name=job.run.run_id,
            provider=job.source,
            recent_from=job.run.started.date() - RECENT,
            grain=job.params.file_grain,
            docs=docs,
        )
        if docs:
            _keep_docs(job.lake, f"{prefix}/docs", docs)
    job.lake.update(f"{prefix}.json", lambda _: json.dumps(result.document, default=str).encode(), new=True)
    refused = [v for v in result.verdicts if not v.passed]
    lost = {session_of(v.partition) for v in refused}
    axis = sorted(planned)
    return {
        "prefixes": prefixes,
        "passed": [interval.to_json() for interval in coalesce([s for s in axis if s not in lost], axis)],
        "refused": [v.to_json() for v in refused],
        "warned": [v.to_json() for v in result.verdicts if v.passed and v.reasons],
        "statistics": result.statistics,
        "table": result.table,
        "document": f"{prefix}.json",
    }


def _keep_docs(lake: Lake, prefix: str, folder: Path) -> None:
    """Great Expectations' pages, from a folder into the lake. Whoever opens ``index.html`` needs the folder as it stands."""

    def put(path: Path) -> None:
        lake.update(f"{prefix}/{path.relative_to(folder).as_posix()}", lambda _: path.read_bytes(), new=True)

    for _ in lake.each(put, sorted(path for path in folder.rglob("*") if path.is_file())):
        pass
    log.info("Great Expectations' pages: %s/%s/index.html", lake.url, prefix)


def planned_symbols(batches: Sequence[Batch]) -> dict[date, frozenset[str]]:
    """For each session the symbols that the batches ask for. Sessions asked for the same symbols share one set."""
    blocks = [block for batch in batches for block in batch.blocks]
    members: dict[date, list[int]] = defaultdict(list)
    for number, block in enumerate(blocks):
        for session in _sessions(block.intervals):
            members[session].append(number)
    shared: dict[tuple[int, ...], frozenset[str]] = {}
    for numbers in map(tuple, members.values()):
        if numbers not in shared:
            shared[numbers] = frozenset(symbol for number in numbers for symbol in blocks[number].symbols)
    return {session: shared[tuple(numbers)] for session, numbers in sorted(members.items())}


# -- load ------------------------------------------------------------------------------------------------------------------------


def load_run(job: Job, checked: Mapping[str, Any], warehouse: Warehouse) -> dict[str, Any]:
    """Load what passed, in chunks of about ``LOAD_ROWS`` rows.

    :returns: for an XCom: ``of``: what of the checkpoint's word was loaded, ``rows`` given, ``changed`` of them, ``loads`` made,
        ``already``: loads that an earlier try had committed.
    """
    warehouse.migrate()
    passed = union(Interval.from_json(interval) for interval in checked["passed"])
    rows = changed = loads = already = 0
    for chunk in _chunks(job, checked["prefixes"], passed, _partitions(checked)):
        loaded = warehouse.load(job.dataset, chunk, _load_id(job.run, chunk))
        rows, changed, loads, already = rows + loaded.rows_in, changed + loaded.rows_changed, loads + 1, already + loaded.already
        log.info(
            "load %d: %d rows, %d new or changed%s",
            loads,
            loaded.rows_in,
            loaded.rows_changed,
            " (by an earlier try)" * loaded.already,
        )
    return {"of": _judged(checked), "rows": rows, "changed": changed, "loads": loads, "already": already}


def _partitions(checked: Mapping[str, Any]) -> list[str]:
    return [verdict["partition"] for verdict in checked["refused"]]


def _judged(checked: Mapping[str, Any]) -> list[Any]:
    """What the checkpoint said of what: equal for equal words."""
    return [checked["prefixes"], checked["passed"], _partitions(checked)]


def _chunks(job: Job, prefixes: Sequence[str], passed: IntervalSet, refused: Sequence[str]) -> Iterator[pa.Table]:
    import pyarrow as pa

    from market_data.lake.receipts import read
    from market_data.quality.partitions import allowed

    if not passed:
        return
    held: list[pa.Table] = []
    for prefix in prefixes:
        for stored in read(job.lake, prefix):
            held.append(allowed(_only(stored.rows, passed), refused))
            if sum(map(len, held)) >= LOAD_ROWS:
                yield pa.concat_tables(held).combine_chunks()
                held = []
    if sum(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()


def _load_id(run: RunInfo, rows: pa.Table) -> str:
    """A hash of run, clear number and content: a retry of the same load has the same one, a cleared run's correction another."""
    import pyarrow as pa

    digest = hashlib.sha256(run.key.encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    digest.update(sink.getvalue())
    return digest.hexdigest()[:32]


# -- publish ---------------------------------------------------------------------------------------------------------------------


def publish_run(
    job: Job,
    batches: Sequence[Batch],
    receipts: Sequence[Receipt],
    errors: Mapping[str, str],
    checked: Mapping[str, Any] | None,
    loaded: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Record coverage, write the report and, when all is well, the completion flag.

    Coverage is recorded of what has been loaded or refused only: a cell that landed and never got into the warehouse stays missing.

    :param errors: batch id -> what the failed batch said.
    :returns: for an XCom: ``report`` (lake key), ``sessions`` loaded (ISO dates), ``rows`` loaded, ``red`` (why, or empty), ``warnings``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data import report
    from market_data.lake.failures import Failures
    from market_data.lake.manifest import read_coverage, write_cells
    from market_data.lake.receipts import read

    prefixes = [receipt.prefix for receipt in receipts]
    # A cleared task that does not run again leaves what it returned before: only what belongs together counts.
    if checked is not None and checked["prefixes"] != prefixes:
        checked = None
    if loaded is not None and (checked is None or loaded["of"] != _judged(checked)):
        loaded = None
    refused = {v["partition"]: Verdict.from_json(v) for v in (checked or {}).get("refused", ())}
    by_batch = {receipt.batch_id: receipt for receipt in receipts}
    coverage = read_coverage(job.lake, job.feed.dataset, job.source)
    tally = report.Tally(job.params.file_grain)
    tally.troubles(Failures.of(job.lake, job.feed.dataset, job.source, job.run).read())
    for batch in batches:
        stored = by_batch.get(batch.id)
        if stored is None:
            tally.failed(batch, errors.get(batch.id, "the task was killed or never ran"))
            continue
        states: list[pa.Table] = []
        for receipt in read(job.lake, stored.prefix):
            tally.add(receipt.detail, receipt.rows)
            if loaded is not None:
                states.append(_states(receipt.detail, receipt.rows, refused, _settled(now)))
        tally.done(batch, stored)
        if states:
            cells = pa.concat_tables(states)
            lost = coverage.lost(cells)
            tally.lost(cells.filter(lost))
            changed = coverage.changed(cells.filter(pc.invert(lost)))
            write_cells(job.lake, job.feed.dataset, job.source, job.run, batch.id, changed, recorded_at=now)
    document = tally.document(job, batches, refused, checked, loaded, summary, now)
    key = report.write(job.lake, document, job.run)
    if not document["red"]:
        report.write_flag(job.lake, key, document)
    found = {"report": key, "sessions": document["sessions_loaded"], "rows": document["rows_loaded"]}
    return {**found, "red": document["red"], "warnings": document["warnings"]}


def _states(detail: Detail, landed: pa.Table, refused: Mapping[str, Verdict], settled: date) -> pa.Table:
    """The state of every cell of a request."""
    import pyarrow as pa

    from market_data.lake.manifest import CELLS
    from market_data.quality.partitions import verdict_of

    rows: list[tuple[str, date, str, str]] = []

    def add(symbol: str, session: date, state: State, reason: str) -> None:
        verdict = verdict_of(refused, symbol, session)
        if verdict is not None:
            # What is absent from a refused partition is as doubtful as what is there. A young one is asked again by the next days' runs.
            state, reason = State.PENDING if session > settled else State.REFUSED, "; ".join(verdict.reasons)
        rows.append((symbol, session, state, reason))

    for symbol, sessions in _cells(landed).items():
        for session in sessions:
            add(symbol, session, State.HAVE, "")
    for run in detail.absent:
        for session in _sessions(run.intervals):
            add(run.symbol, session, run.state, run.reason)
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, CELLS, strict=True)], schema=CELLS)
