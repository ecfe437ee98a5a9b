"""Release what the checkpoint refused and the gate quarantined, or confirm that it is wrong for good.

Both are decisions of a person on the values that are held back: see :mod:`market_data.lake.decisions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from market_data.core.errors import ConfigError
from market_data.core.outcome import State
from market_data.core.run import Grain
from market_data.lake.decisions import Decision, Kind
from market_data.maintenance.decision_work import DecisionWork, Released
from market_data.maintenance.held_rows import first_and_last
from market_data.maintenance.person import Person
from market_data.maintenance.state import chosen, described
from market_data.pipeline.known_actions import known_actions
from market_data.pipeline.quality_entries import entry_of_decision
from market_data.pipeline.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.config.feeds import Feed
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake
    from market_data.warehouse.base import Warehouse

HELD = (State.REFUSED, State.QUARANTINED)
AT_ONCE = 5_000
"""Cells that are decided on before the next ones are read, about; of datasets with many rows per cell a hundredth."""


def decide(
    lake: Lake,
    warehouse: Warehouse,
    selection: Selection,
    kind: Kind,
    person: Person,
    now: datetime,
    *,
    only: str | None = None,
    grain: Grain = "day",
    dry_run: bool = True,
) -> Released:
    """Release the held rows of a selection, or confirm that they are wrong for good. No calls.

    ``RELEASE`` loads them: the cells become ``released``, or ``empty`` where the refused response had no row. ``CONFIRM`` loads nothing:
    the cells become ``empty``, or ``have`` where other rows of them are loaded. Neither is requested again. Cells in any other state are
    left as they are, so that a second time changes nothing. If it is killed, the next time goes on with the rest.

    :param kind: ``RELEASE`` or ``CONFIRM``.
    :param only: part of a reason: of refused cells that of the cell, of quarantined ones that of the row. None: every reason.
    :param grain: of the lake files that quarantined rows are written to.
    :raises ConfigError: if ``kind`` is another one.
    """
    from market_data.lake.ledger import read_coverage

    if kind not in (Kind.RELEASE, Kind.CONFIRM):
        raise ConfigError(f"kind is {kind!r}; release or confirm")
    coverage = read_coverage(lake, selection.dataset.name, selection.source)
    held = _held(coverage, selection, only)
    if not len(held):
        return Released(0)
    decision = Decision(kind, person.by, person.reason, coverage.next_stamp(held, now))
    work = DecisionWork(lake, warehouse, selection, decision, only, grain, coverage, dry_run=dry_run)
    if not dry_run and selection.dataset.table is not None:
        warehouse.migrate()
    try:
        for cells in _blocks(held, 1 if selection.dataset.timeframe == "1d" else 100):
            work.block(cells)
    finally:
        settled = work.settled()
        found = work.found()
        if len(settled):
            what = described(selection, len(settled), *first_and_last(settled), found.states)
            person.note(lake, str(kind), decision.at, {**what, "only": only, "why": dict(list(found.why.items())[:20])})
    if len(settled) and selection.dataset.table is not None:
        if selection.dataset.name == "corporate-actions":
            warehouse.know_actions(known_actions(lake, selection.source, now))
        warehouse.log_quality([entry_of_decision(selection.dataset.name, selection.source, decision, settled)])
    return found


def grain_of(feed: Feed) -> Grain:
    """Return the grain of the lake files of a feed."""
    grain: Grain = feed.params.get("file_grain", "day")
    return grain


def folded_grain(feed: Feed) -> Grain:
    """Return the grain of the files into which compaction folds the day files of a feed."""
    return "session" if grain_of(feed) == "session" else "year"


def _held(coverage: Coverage, selection: Selection, only: str | None) -> pa.Table:
    """Return the selected cells that are refused or quarantined, of ``coverage.SCHEMA``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import SCHEMA

    table = chosen(coverage, selection)
    states = table["state"].cast(pa.string())
    mask = pc.is_in(states, pa.array([str(state) for state in HELD]))
    if only is not None:  # of quarantined cells, the rows have reasons of their own
        hit = pc.match_substring(table["reason"].cast(pa.string()), only)
        mask = pc.and_(mask, pc.or_(hit, pc.equal(states, str(State.QUARANTINED))))
    return table.filter(mask).cast(SCHEMA).sort_by([("session", "ascending")])  # plain strings


def _blocks(held: pa.Table, weight: int) -> Iterator[pa.Table]:
    """Yield the cells in tables of whole sessions, about ``AT_ONCE`` cells each."""
    sessions = held["session"].to_pylist()
    start = 0
    for place in range(1, len(sessions) + 1):
        if place == len(sessions) or (sessions[place] != sessions[place - 1] and (place - start) * weight >= AT_ONCE):
            yield held.slice(start, place - start)
            start = place
