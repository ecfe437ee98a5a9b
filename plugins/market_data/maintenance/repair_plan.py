"""Plan the repair of an audit's findings, cheapest first, with calls, minutes and dollars.

Nothing is written. The requests come from the planner of the feeds, over exactly the gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.config.layouts import layout_of
from market_data.config.run_params import RunParams
from market_data.core.errors import ConfigError, LakeError, ParamError, ProviderError
from market_data.core.messages import counted, dollars
from market_data.core.run import IN_SHELL, IsRunning, RunInfo
from market_data.maintenance.findings import FINDINGS, Cause, Repair
from market_data.maintenance.repair_cells import cells_of, cells_to_fetch, without_empty
from market_data.pipeline.gap_list import GAPS, GapList
from market_data.pipeline.plan_gaps import plan_gaps
from market_data.pipeline.run_context import RunContext
from market_data.providers.registry import known_provider, options_of
from market_data.providers.spec import source_of

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.store import Lake
    from market_data.pipeline.planned import Planned
    from market_data.pipeline.selection import Selection
    from market_data.providers.base import ProviderHook

OpenHook = Callable[[Mapping[str, Any]], AbstractContextManager["ProviderHook"]]

BY_ITSELF = (Repair.LEDGER, Repair.LOAD, Repair.REMOVE, Repair.FETCH)
"""The repairs that are made, in this order; the others are shown only."""

WORDS = {
    Repair.LEDGER: "rebuilt from objects and receipts, no call",
    Repair.LOAD: "loaded from the lake, no call",
    Repair.REMOVE: "with rows that neither the lake nor any load has: removed from the warehouse, no call",
    Repair.FETCH: "requested from the provider",
    Repair.RUN: "loaded by the feed's next run",
    Repair.WAIT: "requested by a scheduled run when due",
    Repair.DECIDE: "left to a person: market-data release",
    Repair.NONE: "shown only",
}


@dataclass(frozen=True)
class Budget:
    """Limits of a repair that needs no approval. None: unlimited."""

    calls: int | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class RepairPlan:
    """A repair of one feed and source.

    :param findings: of an audit, schema ``FINDINGS``; ``found``: when it was made.
    :param ledger: cells without a record, to be recorded; ``ledger_objects``: ledger objects that cannot be read.
    :param load: cells to load from the lake; ``remove``: cells whose rows no load wrote, to remove from the warehouse; ``fetch``: cells
        to request. All of schema ``GAPS``.
    :param aside: lake objects that cannot be read: kept under ``broken/`` before their cells are requested.
    :param planned: the requests; None if none are needed or ``problem`` prevents them.
    :param problem: why the gaps cannot be requested; empty if they can.
    :param left: number of cells that only the warehouse has rows of although the provider reported none: left to a person.
    :param options: the provider's options that lead to the source.
    """

    feed: Feed
    selection: Selection
    findings: pa.Table
    found: datetime
    ledger: pa.Table = field(default_factory=GAPS.empty_table)
    ledger_objects: tuple[str, ...] = ()
    load: pa.Table = field(default_factory=GAPS.empty_table)
    remove: pa.Table = field(default_factory=GAPS.empty_table)
    fetch: pa.Table = field(default_factory=GAPS.empty_table)
    aside: tuple[str, ...] = ()
    planned: Planned | None = None
    problem: str = ""
    left: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """True if there is anything to do."""
        return bool(len(self.ledger) or self.ledger_objects or len(self.load) or len(self.remove) or len(self.fetch) or self.aside)

    @property
    def calls(self) -> int:
        return self.planned.plan.calls if self.planned else 0

    @property
    def minutes(self) -> float:
        return self.planned.plan.minutes if self.planned else 0.0

    @property
    def cost(self) -> float | None:
        """The provider's charge in US dollars; None if it does not charge per request."""
        return self.planned.cost if self.planned else None

    @property
    def gaps(self) -> GapList:
        """The cells to request, as the feed's run takes them."""
        return GapList(self.selection.dataset.name, self.selection.source, self.found, self.fetch)

    def sentences(self) -> list[str]:
        """Return what is done, cheapest first, and what is left, for log, note and approval."""
        name = f"{self.selection.dataset.name} of {self.selection.source}"
        counts = {
            Repair.LEDGER: counted(len(self.ledger), "cell")
            + (f", {counted(len(self.ledger_objects), 'object')}" if self.ledger_objects else ""),
            Repair.LOAD: counted(len(self.load), "cell"),
            Repair.REMOVE: counted(len(self.remove), "cell"),
            Repair.FETCH: counted(len(self.fetch), "cell")
            + (f" in {counted(self.calls, 'call')}, {self.minutes:.1f} minutes, {dollars(self.cost or 0)}" if self.planned else ""),
        }
        todo = {
            Repair.LEDGER: len(self.ledger) + len(self.ledger_objects),
            Repair.LOAD: len(self.load),
            Repair.REMOVE: len(self.remove),
            Repair.FETCH: len(self.fetch),
        }
        lines = [f"{name}: {counts[kind]} {WORDS[kind]}" for kind in BY_ITSELF if todo[kind]]
        lines += [f"{name}: {counted(len(self.aside), 'unreadable object')} to be kept under broken/"] if self.aside else []
        shown = Counter(row for row in self.findings["repair"].to_pylist() if row not in BY_ITSELF)
        lines += [f"{name}: {counted(count, 'finding')} {WORDS[Repair(kind)]}" for kind, count in shown.most_common()]
        lines += (
            [
                f"{name}: {counted(self.left, 'cell')} with rows in the warehouse that a load once wrote; lake and provider lack them:"
                " left to a person, who deletes them by SQL if they are wrong"
            ]
            if self.left
            else []
        )
        lines += [f"{name}: the gaps cannot be requested: {self.problem}"] if self.problem else []
        lines += [f"{name}: {text}" for text in (self.planned.conditions if self.planned else ())]
        return lines or [f"{name}: nothing to repair"]

    def to_json(self) -> dict[str, Any]:
        """Return the figures, for an XCom."""
        return {
            "feed": self.feed.dag_id,
            "source": self.selection.source,
            "found": self.found.isoformat(),
            "ledger": len(self.ledger) + len(self.ledger_objects),
            "load": len(self.load),
            "remove": len(self.remove),
            "fetch": len(self.fetch),
            "calls": self.calls,
            "minutes": round(self.minutes, 1),
            "cost_usd": self.cost,
            "problem": self.problem,
            "sentences": self.sentences(),
        }


def above(plans: Sequence[RepairPlan], budget: Budget) -> str:
    """Return a sentence on what exceeds the budget; empty if nothing does."""
    calls, cost = sum(plan.calls for plan in plans), sum(plan.cost or 0.0 for plan in plans)
    parts = []
    if budget.calls is not None and calls > budget.calls:
        parts.append(f"{counted(calls, 'call')}, max_calls is {budget.calls:,}")
    if budget.dollars is not None and cost > budget.dollars:
        parts.append(f"{dollars(cost)}, max_cost_usd is {budget.dollars:g}")
    return f"above the budget: {'; '.join(parts)}" if parts else ""


def plan_repair(
    lake: Lake, feed: Feed, selection: Selection, findings: pa.Table, hook: OpenHook, found: datetime, now: datetime
) -> RepairPlan:
    """Plan the repair of the ``findings`` of one feed and source.

    It reads the lake, and the provider's price where it charges.

    :param hook: opens the hook of the feed's provider with some options; its account decides on endpoints and rate. Not called where
        nothing is requested.
    :param found: when the audit was made.
    """
    from market_data.lake.ledger import read_coverage

    findings = findings.cast(FINDINGS)
    of_kind = {kind: findings.filter(pc.equal(findings["repair"], str(kind))) for kind in BY_ITSELF}
    ledger = of_kind[Repair.LEDGER]
    unreadable = ledger.filter(pc.equal(ledger["cause"], str(Cause.LEDGER_UNREADABLE)))
    ledger_objects = tuple(sorted(set(unreadable["key"].drop_null().to_pylist())))
    coverage = read_coverage(lake, selection.dataset.name, selection.source)
    of_kind[Repair.FETCH], left = without_empty(of_kind[Repair.FETCH], selection, coverage)
    fetch, aside = cells_to_fetch(lake, selection, of_kind[Repair.FETCH], coverage)
    plan = RepairPlan(
        feed, selection, findings, found, cells_of(ledger, selection), ledger_objects,
        cells_of(of_kind[Repair.LOAD], selection), cells_of(of_kind[Repair.REMOVE], selection), fetch, aside, left=left,
    )  # fmt: skip
    if not len(fetch):
        return plan
    options: Mapping[str, Any] = {}
    try:
        options = repair_options(feed, selection.source)
        context = repair_context(lake, feed, selection.source, options, now, is_running=lambda _: None, dry_run=True)
        with hook({**feed.options, **options}) as opened:
            planned, problem = plan_gaps(context, opened, plan.gaps, now), ""
    except ParamError as error:
        planned, problem = None, "; ".join(error.problems)
    except (ConfigError, ProviderError) as error:
        planned, problem = None, str(error)
    return replace(plan, planned=planned, problem=problem, options=options)


def read_findings(lake: Lake, key: str) -> pa.Table:
    """Return the findings of a gap report.

    :raises LakeError: if there is none, or it cannot be read.
    """
    from market_data.lake import parquet

    stored = lake.get(key)
    if stored is None:
        raise LakeError(f"lake object {key} does not exist any more")
    return parquet.decode(stored.body, key).cast(FINDINGS)


def repair_context(
    lake: Lake, feed: Feed, source: str, options: Mapping[str, Any], now: datetime, *, is_running: IsRunning, dry_run: bool = False
) -> RunContext:
    """Return the context of a run of the feed that requests gaps in this process."""
    run = RunInfo(IN_SHELL, f"repair {source} {now.isoformat()}", "manual", 0, now)
    known = {name: value for name, value in feed.params.items() if name in RunParams.__dataclass_fields__}
    params = RunParams(**{"universe": feed.universe, **known, "dry_run": dry_run, "options": dict(options)})
    return RunContext(feed, params, run, lake, layout_of(feed), source, is_running)


def repair_options(feed: Feed, source: str) -> dict[str, Any]:
    """Return the provider's options with which a run of the feed stores its rows under ``source``.

    :raises ConfigError: if none do.
    """
    spec = known_provider(feed.provider)
    given = dict(feed.options)
    if source_of(spec, given) == source:
        return {}
    options = options_of(feed.provider, feed.dataset)
    parts = source.split("~")[1:]
    chosen = {name: option.default for name, option in options.items() if option.variant}
    for part in parts:
        name = next((n for n, o in options.items() if o.variant and part in o.schema.get("enum", ())), None)
        if name is not None:
            chosen[name] = part
    if source_of(spec, {**given, **chosen}) == source:
        return chosen
    raise ConfigError(f"no options of {feed.dag_id} lead to the source {source}; request its gaps with a run of your own")
