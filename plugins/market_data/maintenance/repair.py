"""Repair the findings of an audit by a plan: ledger, then requests, then warehouse.

Nothing but the gaps is touched. Each step may be repeated: records and lists of gaps have keys of their content, a gap that was
requested since is not requested again, and loads of equal rows change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.errors import BrokenObject, DataError
from market_data.core.outcome import FINAL, State
from market_data.lake import parquet
from market_data.lake.at_work import at_work
from market_data.lake.broken import keep_aside
from market_data.maintenance import journal
from market_data.maintenance.ledger_rebuild import LedgerRebuilt, rebuild_ledger
from market_data.maintenance.repair_plan import OpenHook, RepairPlan, repair_context
from market_data.pipeline.gap_list import GAPS, write_gaps
from market_data.pipeline.plan_gaps import plan_gaps
from market_data.pipeline.rebuild import Rebuilt, rebuild_warehouse
from market_data.pipeline.run_in_process import run_in_process

if TYPE_CHECKING:
    from market_data.core.run import IsRunning
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

JOB = "repair"
OpenWarehouse = Callable[[], AbstractContextManager["Warehouse"]]


@dataclass(frozen=True)
class Repaired:
    """Result of a repair, or of one step.

    :param removed: rows of the warehouse that no load wrote; a copy is kept under ``repairs/``.
    :param published: of the run that requested the gaps, as ``publish_run`` returns it; None if nothing was requested.
    """

    ledger: LedgerRebuilt = field(default_factory=LedgerRebuilt)
    aside: tuple[str, ...] = ()
    loaded: Rebuilt | None = None
    published: Mapping[str, Any] | None = None
    removed: int = 0

    def sentences(self) -> list[str]:
        """Return what was done."""
        lines = self.ledger.sentences()
        lines += [f"unreadable object {key} is kept under broken/" for key in self.aside]
        if self.published is not None:
            lines += [self.published.get("headline") or f"requested; report: {self.published['report']}"]
            lines += [*self.published["red"], *self.published["warnings"]]
        if self.loaded is not None:
            lines.append(f"loaded from the lake: {self.loaded.rows:,} rows, {self.loaded.changed:,} of them new or changed")
        if self.removed:
            lines.append(f"removed from the warehouse: {self.removed:,} rows that no load wrote; a copy is kept under repairs/")
        return lines

    @property
    def red(self) -> list[str]:
        """Sentences on what the run of the gaps failed to repair."""
        return list(self.published["red"]) if self.published else []


def repair(
    plan: RepairPlan,
    lake: Lake,
    warehouse: OpenWarehouse | None,
    hook: OpenHook,
    now: Callable[[], datetime],
    *,
    is_running: IsRunning,
    by: str,
    reason: str,
) -> Repaired:
    """Repair everything that a plan has, in this process, and note it in the journal.

    :param warehouse: opens it; None: it is not repaired, and gaps are not requested, which need it.
    :param hook: opens the hook of the feed's provider; not called where nothing is requested.
    :param is_running: looks up a run of a feed: what it has fetched is loaded here only if the run is known to have ended.
    """
    mended = mend(plan, lake, warehouse)
    published = None
    aside: tuple[str, ...] = ()
    if len(plan.fetch) and plan.planned is not None and warehouse is not None:
        aside, _ = prepare(plan, lake)
        context = repair_context(lake, plan.feed, plan.selection.source, plan.options, now(), is_running=is_running)
        shown = at_work(lake, plan.feed.dataset, plan.selection.source, context.run)
        with shown, hook({**plan.feed.options, **plan.options}) as opened:
            planned = plan_gaps(context, opened, plan.gaps, now())
            published = run_in_process(context, opened, planned, warehouse, now)
    # An object that could not be read has kept rows of its other cells out of the warehouse.
    cells = pa.concat_tables([plan.fetch, plan.load])
    restored = restore(plan, lake, warehouse, cells) if published is not None else None
    removed = mended.removed + (remove(plan, lake, warehouse, reported(plan, lake)) if published is not None else 0)
    loaded = _sum(mended.loaded, restored)
    done = Repaired(mended.ledger, aside, loaded, published, removed)
    note(plan, lake, done, now(), by=by, reason=reason)
    return done


def mend(plan: RepairPlan, lake: Lake, warehouse: OpenWarehouse | None) -> Repaired:
    """Repair without calls: records from objects and receipts, then rows of the warehouse from the lake."""
    rebuilt = LedgerRebuilt()
    if len(plan.ledger) or plan.ledger_objects:
        with _opened(warehouse) as opened:
            rebuilt = rebuild_ledger(lake, opened, plan.selection, plan.ledger, plan.ledger_objects)
    cells = pa.concat_tables([plan.load, plan.ledger]) if rebuilt.states.get(str(State.HAVE)) else plan.load
    loaded = restore(plan, lake, warehouse, cells) if len(plan.load) or rebuilt.states.get(str(State.HAVE)) else None
    return Repaired(rebuilt, (), loaded, removed=remove(plan, lake, warehouse, plan.remove))


def prepare(plan: RepairPlan, lake: Lake) -> tuple[tuple[str, ...], str]:
    """Put unreadable objects aside and write the list of gaps; return the objects' keys and the list's."""
    return tuple(_put_aside(plan, lake)), write_gaps(lake, plan.gaps)


def restore(plan: RepairPlan, lake: Lake, warehouse: OpenWarehouse | None, cells: pa.Table) -> Rebuilt | None:
    """Load exactly ``cells`` from the lake; altered values of the warehouse become the lake's again."""
    if warehouse is None or plan.selection.dataset.table is None or not len(cells):
        return None
    with warehouse() as opened:
        return rebuild_warehouse(lake, opened, plan.selection, cells=cells.select(GAPS.names))


def remove(plan: RepairPlan, lake: Lake, warehouse: OpenWarehouse | None, cells: pa.Table) -> int:
    """Remove from the warehouse the rows of ``cells`` that lake and loads lack; return their number."""
    from market_data.maintenance.rows_by_hand import remove_rows

    if warehouse is None or not len(cells):
        return 0
    with warehouse() as opened:
        return remove_rows(lake, opened, plan.selection, cells)


def reported(plan: RepairPlan, lake: Lake) -> pa.Table:
    """Return the requested cells of which the provider has reported whether it has rows."""
    from market_data.lake.ledger import read_coverage

    states = read_coverage(lake, plan.selection.dataset.name, plan.selection.source).states(plan.fetch)
    return plan.fetch.filter(pc.fill_null(pc.is_in(states, pa.array(sorted(map(str, FINAL)))), False))


def note(plan: RepairPlan, lake: Lake, done: Repaired, now: datetime, *, by: str, reason: str) -> str:
    """Write the journal's entry of a repair."""
    what = {
        "dataset": plan.selection.dataset.name,
        **{name: value for name, value in plan.to_json().items() if name != "sentences"},
        "records": dict(done.ledger.states),
        "kept_aside": [*done.aside, *done.ledger.kept],
        "report": done.published["report"] if done.published else None,
        "rows_loaded": done.loaded.rows if done.loaded else 0,
        "rows_changed": done.loaded.changed if done.loaded else 0,
        "rows_removed": done.removed,
    }
    return journal.write(lake, journal.Entry(now, JOB, by, reason, what))


def _put_aside(plan: RepairPlan, lake: Lake) -> list[str]:
    """Keep the plan's unreadable objects under ``broken/`` and delete them.

    Objects that can be read by now are left alone.
    """
    kept = []
    for key in plan.aside:
        stored = lake.get(key)
        if stored is None:
            continue
        try:
            parquet.decode_rows(stored.body, key, plan.selection.dataset)
        except (BrokenObject, DataError) as error:
            keep_aside(lake, key, stored.body, error if isinstance(error, BrokenObject) else BrokenObject(str(error)))
            lake.delete(key)
            kept.append(key)
    return kept


def _opened(warehouse: OpenWarehouse | None) -> AbstractContextManager[Warehouse | None]:
    return warehouse() if warehouse else nullcontext()


def _sum(first: Rebuilt | None, second: Rebuilt | None) -> Rebuilt | None:
    if first is None or second is None:
        return first or second
    return Rebuilt(
        first.symbols + second.symbols,
        first.objects + second.objects,
        first.rows + second.rows,
        first.changed + second.changed,
        first.left_out + second.left_out,
        (*first.unreadable, *second.unreadable),
    )
