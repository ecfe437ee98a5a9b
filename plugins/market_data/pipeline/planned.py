"""Planned: the requests of a run, the reasons for them, and what a dry run and the log say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from market_data.core.calendar import XNYS, Calendar
from market_data.core.messages import counted, dollars
from market_data.pipeline.open_cells import NO_CELLS, OwnCells
from market_data.pipeline.plan_staged import NONE_STAGED, StagedCells, Waiting
from market_data.pipeline.planner import Plan

if TYPE_CHECKING:
    from market_data.core.run import Grain
    from market_data.datasets.base import Dataset


@dataclass(frozen=True)
class Planned:
    """Result of ``plan_run``.

    :param plan: the requests, in batches.
    :param sessions: sessions of the run, lookback included.
    :param symbols: number of symbols.
    :param covered: number of cells that are not requested because they are covered.
    :param pending: sessions that are not over, or that the provider's plan does not have yet.
    :param doubtful: state -> number of covered cells in a state other than ``have`` and ``empty``.
    :param dates: first and last date of the run, inclusive, sessions or not.
    :param day_grain_calls: calls for the same cells with ``file_grain=day``.
    :param cost: charge of the provider in US dollars; None if it does not charge per request.
    :param staged: numbers of cells that other runs fetched and did not load.
    :param waiting: requests that ended runs have left; of a dry run only.
    :param exceeded_cap: ``max_cost_usd`` of a dry run that would cost more; None if it would not.
    :param gaps: number of cells that are requested because they are suspected gaps; ``rejected``: because a recheck was rejected.
    :param reissued: number of cells that are requested because the provider has issued their session again.
    :param reissued_sessions: sessions that the provider has issued again since they were fetched, requested or not.
    :param conditions: what the provider says of the quality of sessions, in sentences.
    :param own: the cells of the run itself; sessions that are not available yet included.
    :param calendars: those of the symbols.
    :param changes: sentences on the symbols that join or leave the universe in the run's sessions, or are not members in them.
    :param repaired: sessions with gaps that the run requests, recorded or not; equal records of them are made anew.
    :param standing: ``red`` and ``warnings`` that hold if the run has nothing to do: what is open although nothing is requested.
    """

    plan: Plan
    sessions: tuple[date, ...]
    symbols: int
    covered: int
    pending: tuple[date, ...]
    doubtful: Mapping[str, int]
    dates: tuple[date, date] | None
    day_grain_calls: int
    cost: float | None = None
    staged: StagedCells = NONE_STAGED
    waiting: Waiting | None = None
    exceeded_cap: float | None = None
    gaps: int = 0
    rejected: int = 0
    reissued: int = 0
    reissued_sessions: tuple[date, ...] = ()
    conditions: tuple[str, ...] = ()
    own: OwnCells = NO_CELLS
    calendars: tuple[Calendar, ...] = (XNYS,)
    changes: str = ""
    standing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repaired: tuple[date, ...] = ()

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
            "figures": self.figures,
            "universe": self.changes,
            "cost_usd": self.cost,
            "waiting": None if self.waiting is None else dict(self.waiting.staged),
            "interrupted": None if self.waiting is None else dict(self.waiting.interrupted),
            "own": self.own.to_json(),
            "standing": dict(self.standing),
            "conditions": list(self.conditions),
            "reissued": [session.isoformat() for session in self.reissued_sessions],
            **({"repaired": [session.isoformat() for session in self.repaired]} if self.repaired else {}),
        }

    @property
    def figures(self) -> str:
        """The cells, calls, minutes and cost of the requests, in a sentence; empty if there are none."""
        if not self.plan.batches:
            return ""
        total = self.plan.estimate()
        parts = [counted(total[f"{noun}{ending}"], noun) for noun, ending in (("cell", "s"), ("batch", "es"), ("call", "s"))]
        charge = "" if self.cost is None else f", {dollars(self.cost)}"
        return (
            f"The run would request {', '.join(parts)}, {total['minutes']} minutes, at most {counted(total['rows'], 'row')}{charge}"
        )

    @property
    def note(self) -> str:
        """The reason for an empty plan, and the sessions left for a later run; empty if there is neither."""
        if self.changes and not self.own.symbols and not self.plan.batches:
            return "Nothing to do: no symbol of the universe is a member in these sessions"
        if not self.sessions and not self.pending and self.dates:
            return f"Nothing to do: {_closed(*self.dates, self.calendars)}"
        pending = f"Not available yet, left for a later run: {', '.join(map(str, self.pending))}" if self.pending else ""
        nothing = "" if self.plan.batches or not self.sessions else f"Nothing to do: all {self.covered:,} cells are covered"
        if self.doubtful:
            states = ", ".join(f"{count:,} {state}" for state, count in self.doubtful.items())
            nothing = f"{nothing or 'Covered, and not requested again'}: {states} among them; force (Fetch again) requests them"
        cap = ""
        if self.cost is not None and self.exceeded_cap is not None:
            cap = f"over the cap: {dollars(self.cost)}, max_cost_usd is {self.exceeded_cap:g}"
        gaps = f"Requested again as suspected gaps: {self.gaps:,} cells" if self.gaps else ""
        rejected = f"Requested again, refused or quarantined at a recheck: {self.rejected:,} cells" if self.rejected else ""
        reissued = f"Requested again, re-issued by the provider: {self.reissued:,} cells" if self.reissued else ""
        return ". ".join(filter(None, [cap, nothing, *self._fetched, gaps, rejected, reissued, *self.conditions, pending]))

    @property
    def _fetched(self) -> list[str]:
        """The cells and requests that other runs have fetched and not loaded, in sentences."""
        if self.waiting is None:
            own = (
                f"Fetched by an earlier run, loaded from staging by this one: {self.staged.own:,} cells" if self.staged.own else ""
            )
            left = [own]
        else:
            left = [
                _by_run("Fetched and not loaded, waiting in staging for the feed's next run", self.waiting.staged, "requests"),
                _by_run(
                    "Interrupted while their rows were written, which the feed's next run loads",
                    self.waiting.interrupted,
                    "requests",
                ),
            ]
        return [
            *left,
            _by_run("Fetched by active runs, which load them", self.staged.active, "cells"),
            _by_run(
                "Fetched by runs that may be active; they load them, or else the feed's next run", self.staged.uncertain, "cells"
            ),
        ]

    def explain(self) -> str:
        """Describe the plan for the log."""
        if not self.sessions:
            return "\n".join(filter(None, [self.note, self.changes]))
        found = self.summary
        lines = [
            f"{self.symbols:,} symbols x {len(self.sessions):,} sessions, {found['from']} to {found['to']}: "
            f"{self.covered:,} cells are covered, {self.plan.cells:,} will be requested"
        ]
        lines += filter(None, [self.changes, self.note])
        if self.day_grain_calls < self.plan.calls:
            lines.append(f"file_grain year requests symbol by symbol; file_grain day would take {self.day_grain_calls:,} calls")
        if self.cost is not None:
            lines.append(f"The provider will charge {dollars(self.cost)}")
        return "\n".join([*lines, self.plan.explain()])


def most_objects(plan: Plan, dataset: Dataset, grain: Grain) -> int | None:
    """Return the number of lake objects that hold the cells of a plan.

    None where the response decides on it.

    A cell without rows has no object, so a run writes these at most.
    """
    from market_data.lake.layout import file_period

    if dataset.files.date != "session":
        return None
    period = file_period(dataset, grain)
    if grain == "session":
        return len({session for batch in plan.batches for session in batch.sessions})
    if period == "day":
        return plan.cells
    found = set[tuple[str, tuple[int, int]]]()
    for block in (block for batch in plan.batches for block in batch.blocks):
        periods = {(day.year, day.month if period == "month" else 0) for day in block.sessions}
        found.update((symbol, one) for symbol in block.symbols for one in periods)
    return len(found)


def _by_run(text: str, counts: Mapping[str, int], noun: str) -> str:
    """Return a sentence with the count of each run; empty if there are none."""
    runs = ", ".join(f"{run_id} ({count:,} {noun})" for run_id, count in counts.items())
    return f"{text}: {runs}" if runs else ""


def _closed(first: date, last: date, calendars: Sequence[Calendar]) -> str:
    """Return a sentence that names the dates from ``first`` to ``last`` as closed, with the reasons."""
    days = [first + timedelta(days=n) for n in range(min(7, (last - first).days + 1))]
    reasons = dict.fromkeys(filter(None, (one.why_closed(day) for day in days for one in calendars)))
    span = f"{first}" if first == last else f"{first} to {last}"
    return f"no session on {span} ({', '.join(reasons)})" if reasons else f"no session on {span} that is over"
