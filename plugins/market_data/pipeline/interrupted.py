"""Interrupted requests: a worker died between writing rows to the lake and staging them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from market_data.core.full_disk import full_disk_named
from market_data.core.intervals import coalesce
from market_data.core.outcome import State
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.core.batch import Request
    from market_data.lake.coverage import Coverage
    from market_data.lake.receipts import CellRun
    from market_data.lake.staging import StagedInfo

log = logging.getLogger(__name__)


def interrupted(context: RunContext) -> dict[str, StagedInfo]:
    """Return key -> request of the marks that other runs, and earlier attempts of this one, have left.

    See ``of_ended_runs``.
    """
    from market_data.lake import begun

    return of_ended_runs(context, begun.marks(context.lake, context.feed.dataset, context.source)[0])


def of_ended_runs(context: RunContext, marks: Mapping[str, StagedInfo]) -> dict[str, StagedInfo]:
    """Return the ``marks`` that other runs, and earlier attempts of this one, have left.

    Those of runs that are, or may be, active are not among them, nor those of this attempt: a retry completes it, or the next run.
    """
    others = {key: info for key, info in marks.items() if info.run.key != context.run.key}
    activity = context.activity(info.run for info in others.values())
    return {key: info for key, info in others.items() if activity[info.run.dag_id, info.run.run_id] is False}


def stage_interrupted(context: RunContext) -> None:
    """Stage the lake's rows of interrupted requests, so that this run loads them with the other leftovers.

    Values that the warehouse has already change nothing there.
    """
    from market_data.core.request_rows import of_request
    from market_data.lake import staging
    from market_data.lake.ledger import read_coverage
    from market_data.lake.reader import read_rows

    found = interrupted(context)
    if not found:
        return
    place = (context.lake, context.feed.dataset, context.source)
    coverage = read_coverage(*place)
    for key, info in found.items():
        request = info.receipt.request
        span = (request.start, request.intervals[-1].end)
        stored = read_rows(context.lake, context.layout, context.dataset, context.source, request.symbols, *span)
        rows = of_request(stored, request)
        if len(rows):
            log.warning("%s ended while it wrote %s: the %d rows in the lake are loaded", info.run.run_id, request, len(rows))
            receipt = replace(info.receipt, cells=_cells(rows, request, coverage))
            with full_disk_named(), staging.Rows() as staged:
                staged.add(rows)
                staging.write(*place, PurePosixPath(key).parent.name, replace(info, receipt=receipt), staged)
        context.lake.delete(key)


def _cells(rows: pa.Table, request: Request, coverage: Coverage) -> tuple[CellRun, ...]:
    """Return the cells that have rows, without quarantined ones: what the gate rejected is still open."""
    from market_data.lake.cells import cells_of
    from market_data.lake.receipts import CellRun

    found = []
    for symbol, sessions in cells_of(rows).items():
        axis = request.calendar.sessions(min(sessions), max(sessions) + timedelta(days=1))
        days = sorted(session for session in sessions if coverage.state(symbol, session) is not State.QUARANTINED)
        if days:
            found.append(
                CellRun((symbol,), State.HAVE, "", coalesce(days, axis), with_rows=True, calendar_name=request.calendar_name)
            )
    return tuple(found)
