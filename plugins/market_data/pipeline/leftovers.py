"""Leftovers: what earlier runs of a feed left in staging, and this run loads."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.batch import Batch
from market_data.core.outcome import Receipt
from market_data.core.run import RunInfo
from market_data.pipeline.interrupted import interrupted
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.staging import StagedInfo, StagedKey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftoverGroup:
    """Staging objects of one attempt of a run, no cell twice: they are judged together."""

    infos: dict[str, StagedInfo]

    @property
    def run(self) -> RunInfo:
        """The attempt that wrote them."""
        return next(iter(self.infos.values())).run

    @property
    def file_grain(self) -> str:
        return next(iter(self.infos.values())).file_grain

    @property
    def receipts(self) -> list[RequestReceipt]:
        return [info.receipt for info in self.infos.values()]


def find_leftovers(
    context: RunContext, batches: Sequence[Batch], receipts: Sequence[Receipt], named: Collection[str]
) -> tuple[list[LeftoverGroup], list[str]]:
    """Find what this run has to load beside its own requests, oldest attempt first.

    Left out: objects that this run's receipts name; those of this attempt's failed batches, which a retry or the next run completes;
    and those of other runs that are, or may be, at work.

    :param named: the staging keys that this run's receipts name.
    :return: the groups; a message for each object that cannot be read.
    """
    from market_data.lake import begun, staging

    found = [
        item
        for item in staging.waiting(context.lake, context.feed.dataset, context.source)
        if not is_own(context, batches, receipts, named, item)
    ]
    infos, broken = staging.describe(context.lake, found)
    broken += begun.marks(context.lake, context.feed.dataset, context.source)[1]
    for message in broken:
        log.error("staging object cannot be read: %s", message)
    return group_leftovers(context, infos), broken


@dataclass(frozen=True)
class Unloaded:
    """The requests of other runs of a feed that nobody has loaded, without those of runs that are active.

    :param staged: id of an ended run -> its requests in staging; ``interrupted``: -> those interrupted before their rows were staged.
    :param uncertain: the same two, of runs that may be active.
    :param symbols: symbols with cells of them in the given sessions.
    :param broken: a message for each object that cannot be read.
    """

    staged: dict[str, int] = field(default_factory=dict)
    interrupted: dict[str, int] = field(default_factory=dict)
    uncertain: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))
    symbols: frozenset[str] = frozenset()
    broken: tuple[str, ...] = ()


def find_unloaded(context: RunContext, rest: Sequence[StagedKey], sessions: Collection[date]) -> Unloaded:
    """Find what other runs have in ``rest`` or have begun to write, without those that are active.

    :param rest: staging objects that are not this attempt's.
    :param sessions: those in which cells matter to the caller.
    """
    from market_data.lake import begun, staging

    infos, broken = staging.describe(context.lake, rest)
    marks, unreadable = begun.marks(context.lake, context.feed.dataset, context.source)
    begun_by_others = [info for info in marks.values() if info.run.key != context.run.key]
    every = [*infos.values(), *begun_by_others]
    activity = context.activity(info.run for info in every)

    def count(found: Iterable[StagedInfo], wanted: bool | None) -> dict[str, int]:
        return dict(Counter(info.run.run_id for info in found if activity[info.run.dag_id, info.run.run_id] is wanted))

    left = [info for info in every if not activity[info.run.dag_id, info.run.run_id]]
    blocks = [block for info in left for block in info.receipt.request.blocks if not {*block.sessions}.isdisjoint(sessions)]
    symbols = frozenset(symbol for block in blocks for symbol in block.symbols)
    counts = {wanted: (count(infos.values(), wanted), count(begun_by_others, wanted)) for wanted in (False, None)}
    return Unloaded(*counts[False], counts[None], symbols, (*broken, *unreadable))


def has_leftovers(context: RunContext, batches: Sequence[Batch]) -> bool:
    """Return true if staging has objects that a run without finished batches must load or report."""
    groups, broken = find_leftovers(context, batches, (), ())
    return bool(groups or broken or interrupted(context))


def is_own(
    context: RunContext, batches: Sequence[Batch], receipts: Sequence[Receipt], named: Collection[str], item: StagedKey
) -> bool:
    """Return true if the staging object is of this attempt: a receipt names it, or its batch failed."""
    if item.key in named:
        return True
    finished = {receipt.batch_id for receipt in receipts}
    failed = {batch.spec_hash for batch in batches if batch.id not in finished}
    return item.run_key == context.run.key and item.spec_hash in failed


def group_leftovers(context: RunContext, infos: dict[str, StagedInfo]) -> list[LeftoverGroup]:
    """Group staging objects by attempt, oldest first, without those of runs that may be active."""
    activity = context.activity(info.run for info in infos.values())
    groups: dict[tuple[str, str, int], dict[str, StagedInfo]] = defaultdict(dict)
    versions: Counter[tuple[str, str]] = Counter()
    for key, info in sorted(infos.items(), key=lambda item: item[1].staged_us):
        if activity[info.run.dag_id, info.run.run_id] is not False:
            continue
        # A request repeated after a crash has two objects: two groups, the older one first.
        version = versions[info.run.key, info.receipt.request.id]
        versions[info.run.key, info.receipt.request.id] += 1
        groups[info.run.key, info.file_grain, version][key] = info
    return sorted((LeftoverGroup(found) for found in groups.values()), key=lambda g: min(i.staged_us for i in g.infos.values()))
