"""Find staging objects, marks of requests that never ended, and unreadable ledger objects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from market_data.core.dates import EPOCH, MICROSECOND
from market_data.core.outcome import State
from market_data.lake.receipts import CellRun
from market_data.maintenance.audit.cells import Collector
from market_data.maintenance.findings import Cause, Repair

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.lake.staging import StagedInfo
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

BEHIND = timedelta(hours=24)
"""Age from which what is in staging was left behind by a run that has ended."""

_KEY = re.compile(r"lake object (\S+?)(?: cannot be read| does not belong)")


def staged_cells(lake: Lake, selection: Selection, now: datetime) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Return the cells that wait in staging or are being written, and what was left behind there.

    :return: cells of schema ``CELLS``; key and detail of each object that was left behind.
    """
    from market_data.lake import begun, staging
    from market_data.lake.cells import table_of

    name, source = selection.dataset.name, selection.source
    waiting = staging.waiting(lake, name, source)
    infos, broken = staging.describe(lake, waiting)
    marks, broken_marks = begun.marks(lake, name, source)
    left = [(key, _age("its rows wait to be loaded", info, now)) for key, info in infos.items()]
    left += [(key, _age("a worker died while it wrote the request's rows", info, now)) for key, info in marks.items()]
    left = [(key, detail) for key, detail in left if detail]
    left += [(_broken_key(message), message) for message in (*broken, *broken_marks)]
    runs: Iterable[CellRun] = [run for info in infos.values() for run in info.receipt.cells]
    begun_blocks = [block for info in marks.values() for block in info.receipt.request.blocks]
    begun_runs = [CellRun(one.symbols, State.PENDING, "", one.intervals, calendar_name=one.calendar_name) for one in begun_blocks]
    return table_of([*runs, *begun_runs]), left


def _age(text: str, info: StagedInfo, now: datetime) -> str:
    """Return the detail of what was left behind; empty if its run may still be at work."""
    arrived = EPOCH + info.receipt.counts.get("ingest_us", 0) * MICROSECOND
    moment = max(info.run.started.astimezone(UTC), arrived)
    return f"{text}; run {info.run.run_id} of {info.run.dag_id}, {moment:%Y-%m-%d %H:%M} UTC" if now - moment > BEHIND else ""


def _broken_key(message: str) -> str:
    found = _KEY.search(message)
    return found[1] if found else message.partition(":")[0]


def unreadable_ledger(coverage: Coverage, collector: Collector) -> list[str]:
    """Add the ledger objects that cannot be read, and return their keys."""
    found: list[str] = []
    for sentence in coverage.unreadable:
        key = _broken_key(sentence)
        if "does not belong" in sentence:
            collector.object(key, Cause.LEDGER_UNREADABLE, Repair.NONE, "the object does not belong to the coverage ledger")
            continue
        collector.object(key, Cause.LEDGER_UNREADABLE, Repair.LEDGER, sentence.partition("cannot be read: ")[2] or sentence)
        found.append(key)
    return found


def add_left_behind(left: list[tuple[str, str]], collector: Collector) -> None:
    """Add what was left behind in staging."""
    for key, detail in left:
        collector.object(key, Cause.STAGING_LEFT, Repair.RUN, detail)
