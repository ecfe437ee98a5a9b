"""Recent cells that have a state, and that a scheduled run requests again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.pipeline.conditions import NO_CONDITIONS, Conditions, read_conditions
from market_data.pipeline.gaps import due_gaps
from market_data.pipeline.recheck import rejected_rechecks
from market_data.pipeline.run_context import RunContext

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.providers.base import ProviderHook

Cells = Mapping[date, set[str]]
"""Session -> symbols."""


@dataclass(frozen=True)
class RequestedAgain:
    """The cells, by the reason to request them again, and what the provider says of the run's sessions."""

    gaps: Cells
    rejected: Cells
    reissued: Cells
    conditions: Conditions = NO_CONDITIONS

    @property
    def cells(self) -> dict[date, set[str]]:
        """Return all cells."""
        reasons = (self.gaps, self.rejected, self.reissued)
        return {session: set().union(*(found.get(session, ()) for found in reasons)) for session in set().union(*reasons)}

    @property
    def refetch(self) -> bool:
        """True if rows of them are stored already."""
        return bool(self.rejected or self.reissued)

    def without_reissued(self) -> RequestedAgain:
        """Leave out the sessions that the provider has issued again."""
        return replace(self, reissued={})


NOTHING = RequestedAgain({}, {}, {})


def requested_again(
    context: RunContext,
    hook: ProviderHook,
    coverage: Coverage,
    symbols: Sequence[str],
    sessions: Sequence[date],
    now: datetime,
    kept: Callable[[Mapping[date, Sequence[str]]], dict[date, set[str]]],
) -> RequestedAgain:
    """Return the cells that the run requests although they have a state.

    None unless it is a scheduled run.

    :param sessions: those of the run, ascending.
    :param kept: leaves out the cells that are not the run's to request.
    """
    if not sessions:
        return NOTHING
    scheduled = context.run.run_type == "scheduled"
    conditions = read_conditions(hook, context.feed.dataset, coverage, symbols, sessions, scheduled=scheduled)
    if not scheduled:
        return replace(NOTHING, conditions=conditions)
    rejected = rejected_rechecks(context, hook, coverage, symbols, sessions[-1])
    gaps = due_gaps(coverage, symbols, now, context.calendar_of)
    return RequestedAgain(kept(gaps), kept(rejected), kept(conditions.reissued), conditions)
