"""Find what other runs have fetched and not loaded: a plan does not request such cells again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from market_data.core.outcome import FINAL
from market_data.pipeline.interrupted import interrupted
from market_data.pipeline.leftovers import group_leftovers
from market_data.pipeline.run_context import RunContext

Whose = tuple[bool | None, str]
"""A run that has fetched cells: True if it is active, None if it may be; and its id. ``OWN``: the planned run loads them."""

OWN: Whose = (False, "")

Masks = Mapping[Whose, Mapping[str, int]]


@dataclass(frozen=True)
class StagedCells:
    """Numbers of cells that were fetched and are not loaded.

    :param own: those that the planned run loads.
    :param active: id of an active run -> those that it loads; ``uncertain``: likewise, of runs that may be active.
    """

    own: int = 0
    active: Mapping[str, int] = field(default_factory=dict)
    uncertain: Mapping[str, int] = field(default_factory=dict)


NONE_STAGED = StagedCells()


def staged_masks(context: RunContext, sessions: Sequence[date]) -> Masks:
    """Return the cells in staging: fetched, not loaded, not requested again.

    :return: who will load them -> symbol -> mask of sessions.
    """
    from market_data.lake import staging

    waiting = staging.waiting(context.lake, context.feed.dataset, context.source)
    if not waiting or not sessions:
        return {}
    bits = {session: 1 << bit for bit, session in enumerate(sessions)}
    infos = staging.describe(context.lake, waiting)[0].values()
    activity = context.activity(info.run for info in infos)
    masks: dict[Whose, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for info in infos:
        active = activity[info.run.dag_id, info.run.run_id]
        found = masks[OWN if active is False else (active, info.run.run_id)]
        for run in info.receipt.cells:
            if run.state in FINAL:
                mask = sum(bits.get(session, 0) for session in run.sessions)
                for symbol in run.symbols:
                    found[symbol] |= mask
    return masks


def with_staged(covered: dict[str, int], staged: Masks, wished: Mapping[str, int]) -> tuple[dict[str, int], StagedCells]:
    """Return covered and staged cells, and how many of ``wished`` are staged.

    Those of another run count even if they are covered: it has newer values than the warehouse.
    """
    counts: dict[Whose, int] = {}
    for whose, masks in staged.items():
        known = covered if whose == OWN else {}
        count = sum(
            (mask & ~known.get(symbol, 0) & wished[symbol]).bit_count() for symbol, mask in masks.items() if symbol in covered
        )
        covered = {symbol: mask | masks.get(symbol, 0) for symbol, mask in covered.items()}
        if count:
            counts[whose] = count
    own = counts.pop(OWN, 0)
    active, uncertain = ({run: count for (state, run), count in counts.items() if state is wanted} for wanted in (True, None))
    return covered, StagedCells(own, active, uncertain)


@dataclass(frozen=True)
class Waiting:
    """Requests of any session that ended runs have left.

    :param staged: id of a run -> number of its requests in staging; ``interrupted``: -> of those interrupted before that.
    """

    staged: Mapping[str, int] = field(default_factory=dict)
    interrupted: Mapping[str, int] = field(default_factory=dict)


def find_waiting(context: RunContext) -> Waiting:
    """Return what ended runs have left to the feed's next run."""
    from market_data.lake import staging

    infos, _ = staging.describe(context.lake, staging.waiting(context.lake, context.feed.dataset, context.source))
    staged = [info.run.run_id for group in group_leftovers(context, infos) for info in group.infos.values()]
    return Waiting(dict(Counter(staged)), dict(Counter(info.run.run_id for info in interrupted(context).values())))
