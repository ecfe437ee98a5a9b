"""Fetch one request: hook -> gate -> lake and quarantine -> staging -> receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.core.batch import Batch, Request
from market_data.core.dates import microseconds
from market_data.core.errors import NotYetAvailable, PerCellError, TruncatedResponse, UnknownSymbol
from market_data.core.intervals import coalesce
from market_data.core.outcome import Evidence, State
from market_data.core.request_rows import of_request
from market_data.pipeline.cell_states import axis_of, cells_of_request, without_state
from market_data.pipeline.landing import PART_ROWS, Arrival, Incoming, in_parts, land_response
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.unknown_symbols import HOLLOW, UNCERTAIN, AbsenceCheck
from market_data.pipeline.withdrawn import contradictions, find_withdrawn, identified

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset
    from market_data.lake.receipts import RequestReceipt
    from market_data.providers.base import Fetched, ProviderHook


def fetch_request(
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
    incoming = Incoming(in_parts(table, apart), odd, absent, fetched.release)
    del fetched, table  # release the rows part by part
    incoming.release()
    _give_memory_back(counts["rows_received"])
    mark = ""
    if (counts["rows_received"] or len(absent)) and _may_replace(context, batch):
        stamp = {"ingest_us": microseconds(arrived)}
        info = StagedInfo(context.run, batch.id, context.params.file_grain, RequestReceipt(request, evidence, stamp))
        mark = begun.begin(context.lake, dataset.name, context.source, batch.spec_hash, info)
    with staging.Rows() as staged:
        landed = land_response(context, batch, request, incoming, counts, Arrival(arrived, now), staged)
        counts.update({name: getattr(hook.counters, name) - getattr(before, name) for name in ("calls", "retries", "bytes")})
        settled = context.settled(arrived, request.calendar)
        cells = cells_of_request(dataset, request, served, landed, settled, reported, unproved, doubted)
        receipt = RequestReceipt(
            request, evidence, counts, cells, coalesce(sorted(reported), axis_of(sessions, request.calendar)), refused,
            warnings + landed.withdrawn, restated=landed.restated, replaced=landed.replaced,
            unproved=without_state(request, served, cells, unproved),
            renewed=coalesce(landed.renewed, axis_of(sessions, request.calendar)),
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


def _give_memory_back(rows: int) -> None:
    """Give free memory back to the system.

    :param rows: of the response. Few do not take enough memory to be worth the time.
    """
    import pyarrow as pa

    if rows > PART_ROWS:
        pa.default_memory_pool().release_unused()


def _nothing(dataset: Dataset, calls: int) -> Fetched:
    """Return an empty result for a response of "unknown symbol" or "not available yet"."""
    from market_data.providers.base import Fetched

    evidence = Evidence(calls=calls, retries=0, pages=0, bytes=0, rows_received=0, rows_declared=0, last_page_seen=True)
    return Fetched(dataset.received.empty_table(), evidence)


def _state_of(error: PerCellError) -> tuple[State, str]:
    return (State.PENDING if isinstance(error, NotYetAvailable) else State.EMPTY, str(error))
