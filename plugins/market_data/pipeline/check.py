"""Check: validate the rows of this run and of leftovers with Great Expectations before the load."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_data.config.thresholds import thresholds_of
from market_data.core.batch import Batch
from market_data.core.errors import BrokenObject, QualityError
from market_data.core.intervals import coalesce
from market_data.core.outcome import Receipt
from market_data.pipeline.decided import exempt_rows, find_decided, keep
from market_data.pipeline.interrupted import stage_interrupted
from market_data.pipeline.leftovers import find_leftovers
from market_data.pipeline.quality_entries import entries_of_run
from market_data.pipeline.requests import finished_requests, place, request_rows, staged_rows, staged_sizes
from market_data.pipeline.run_context import RunContext
from market_data.providers.registry import signed_of_source

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.decisions import Decisions
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.store import Lake
    from market_data.pipeline.decided import Decided
    from market_data.pipeline.leftovers import LeftoverGroup
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

RECENT = timedelta(days=365)
"""A session this recent must have the universe in full, even where no other session is known to compare with."""

NOTHING = "The provider has none of the sessions yet; there is nothing to check."


def check_run(context: RunContext, batches: Sequence[Batch], receipts: Sequence[Receipt], warehouse: Warehouse) -> dict[str, Any]:
    """Judge the rows of the given receipts, and apart from them what earlier runs left in staging.

    :returns: for an XCom: ``prefixes`` of the receipts, ``passed`` as date intervals, ``refused`` and ``warned`` verdicts, ``statistics``,
        ``table`` for the log, ``document``: the lake key of the whole result. ``decided``: that of the cells that a person has decided
        on. ``log``: entries for the warehouse's ``quality_log``. A refused partition is a session, or with
        ``file_grain=year`` perhaps a symbol's year: see ``quality.verdicts``. ``leftovers``: the same for each earlier attempt, with the
        staging ``keys`` judged, or ``error``; ``broken``: staging objects that cannot be read.
    """
    stage_interrupted(context)
    prefixes = [receipt.prefix for receipt in receipts]
    own = finished_requests(context, prefixes)
    staged = staged_sizes(context)
    # The chunks are read as the checkpoint takes them, once; twice if a person has decided on some of their cells.
    checked = _judge(context, warehouse, own, lambda: request_rows(context, prefixes, staged), context.params.file_grain, "")
    groups, broken = find_leftovers(context, batches, receipts, {receipt.staged for receipt in own})
    earlier = [_judge_leftover(context, warehouse, group, staged, number) for number, group in enumerate(groups)]
    tables = [checked["table"]] if receipts or not earlier else []
    tables += [f"Left in staging by {left['run_id']}:\n{left['table']}" for left in earlier if "table" in left]
    return {"prefixes": prefixes, **checked, "table": "\n".join(tables), "leftovers": earlier, "broken": broken}


def _judge_leftover(
    context: RunContext, warehouse: Warehouse, group: LeftoverGroup, staged: dict[str, int], number: int
) -> dict[str, Any]:
    """Judge what one earlier attempt left. An error is kept: it must not stop this run's own rows."""
    keys = sorted(group.infos, key=lambda key: place(group.infos[key].receipt))
    log.info("loading what %s left in staging: %d requests", group.run.run_id, len(keys))
    left = {"run_id": group.run.run_id, "keys": keys}
    try:
        rows = partial(staged_rows, context, keys, staged)
        return {**left, **_judge(context, warehouse, group.receipts, rows, group.file_grain, f"/leftover-{number}")}
    except (BrokenObject, QualityError) as error:
        log.exception("what %s left in staging cannot be judged", group.run.run_id)
        return {**left, "passed": [], "refused": [], "warned": [], "error": f"{type(error).__name__}: {error}"}


def _judge(
    context: RunContext,
    warehouse: Warehouse,
    judged: Sequence[RequestReceipt],
    rows: Callable[[], Iterable[pa.Table]],
    grain: str,
    name: str,
) -> dict[str, Any]:
    """Run the checkpoint over the rows of some requests, without those that a person has decided on.

    :param rows: returns their rows.
    :param name: is appended to the key of the result in the lake.
    """
    from market_data.lake import decisions as lake_decisions
    from market_data.quality.checkpoint import Scope, run_checkpoint
    from market_data.quality.verdicts import session_of

    planned = planned_symbols(judged)
    if not planned:
        return {"passed": [], "refused": [], "warned": [], "statistics": {}, "table": NOTHING, "document": None}
    symbols, limits = sorted(set().union(*planned.values())), thresholds_of(context.feed.checks)
    previous = _previous(context, warehouse, min(planned), symbols)
    prefix = f"quality/{context.feed.dataset}/provider={context.source}/run={context.run.key}{name}"
    decisions = lake_decisions.read(context.lake, context.feed.dataset, context.source)
    decided = find_decided(context.dataset, decisions, planned, rows) if decisions else None
    undecided = decided.open(planned) if decided else planned
    previous, released = _apart(context, previous, decisions, decided)
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) if context.params.data_docs else None
        scope = Scope(
            planned={session: len(members) for session, members in undecided.items()},
            requested=undecided,
            previous=previous,
            released=released,
            exempt=exempt_rows(context.dataset, decisions) if decisions else None,
            provider=context.source,
            recent_from=context.run.started.date() - RECENT,
            grain="year" if grain == "year" else "day",
            signed=signed_of_source(context.source),
        )
        chunks = decided.without(rows()) if decided else rows()
        result = run_checkpoint(context.dataset, scope, chunks, run_name=context.run.run_id, thresholds=limits, docs=docs)
        if docs:
            _keep_docs(context.lake, f"{prefix}/docs", docs)
    context.lake.update(f"{prefix}.json", lambda _: json.dumps(result.document, default=str).encode(), new=True)
    refused = [v for v in result.verdicts if not v.passed]
    place = (context.feed.dataset, context.source, context.run.run_id, context.run.started)
    log_of_run = entries_of_run(*place, judged, refused) if context.dataset.table else []
    refused_sessions = {session_of(v.partition) for v in refused}
    axis = sorted(planned)
    return {
        "passed": [interval.to_json() for interval in coalesce([s for s in axis if s not in refused_sessions], axis)],
        "refused": [v.to_json() for v in refused],
        "warned": [v.to_json() for v in result.verdicts if v.passed and v.reasons],
        "statistics": result.statistics,
        "table": result.table,
        "document": f"{prefix}.json",
        **({"data_docs": f"{prefix}/docs/index.html"} if docs else {}),
        "log": [entry.to_json() for entry in log_of_run],
        **({"decided": keep(context.lake, f"{prefix}-decided.parquet", decided)} if decided else {}),
    }


def _apart(
    context: RunContext, previous: pa.Table, decisions: Decisions, decided: Decided | None
) -> tuple[pa.Table, pa.Table | None]:
    """Return the previous bars that nobody released, and the released bars, of the run too."""
    import pyarrow as pa

    from market_data.lake.coverage import contains
    from market_data.quality.session_bars import bars

    if not context.dataset.is_bars or not len(decisions.released):
        return previous, None
    mask = contains(decisions.released, previous)
    released = [bars(previous.filter(pa.array(mask))), *([decided.bars] if decided else [])]
    return previous.filter(pa.array(~mask)), pa.concat_tables(released)


def _previous(context: RunContext, warehouse: Warehouse, before: date, symbols: Sequence[str]) -> pa.Table:
    """Return the sessions to compare with; none for datasets other than bars.

    A warehouse that is not there yet has none, and is left for the load to make.
    """
    import pyarrow as pa

    from market_data.quality.session_bars import BARS

    if not context.dataset.is_bars:
        return pa.table({})
    if not warehouse.exists():
        return BARS.empty_table()
    warehouse.migrate()
    return warehouse.previous_bars(context.dataset, context.source, before, symbols=symbols)


def _keep_docs(lake: Lake, prefix: str, folder: Path) -> None:
    """Copy Great Expectations' pages from a folder into the lake. ``index.html`` needs the whole folder."""
    from market_data.quality.great_expectations import docs_files

    def put(file: tuple[str, Path]) -> None:
        name, path = file
        lake.update(f"{prefix}/{name}", lambda _: path.read_bytes(), new=True)

    for _ in lake.each(put, docs_files(folder).items()):
        pass
    log.info("Great Expectations' pages: %s/%s/index.html", lake.url, prefix)


def planned_symbols(judged: Iterable[RequestReceipt]) -> dict[date, frozenset[str]]:
    """Return for each session the symbols to expect. Sessions with the same symbols share one set.

    Symbols that the provider rejected, and dates for which it reported that it has nothing, are not expected.
    """
    members: dict[date, list[int]] = defaultdict(list)
    symbols: list[tuple[str, ...]] = []
    blocks = ((receipt, block) for receipt in judged for block in receipt.request.blocks)
    for number, (receipt, block) in enumerate(blocks):
        symbols.append(tuple(symbol for symbol in block.symbols if symbol not in receipt.refused))
        unanswered = set(receipt.request.calendar.sessions_in(receipt.unanswered))
        for session in block.sessions:
            if session not in unanswered:
                members[session].append(number)
    shared: dict[tuple[int, ...], frozenset[str]] = {}
    for numbers in map(tuple, members.values()):
        if numbers not in shared:
            shared[numbers] = frozenset(symbol for number in numbers for symbol in symbols[number])
    expected = {session: shared[tuple(numbers)] for session, numbers in sorted(members.items())}
    return {session: found for session, found in expected.items() if found}
