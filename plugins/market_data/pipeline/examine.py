"""Examine what is open after a run, or before it where it has nothing to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from market_data.core.calendar import calendar
from market_data.core.outcome import State
from market_data.pipeline.open_cells import Findings, OwnCells, older_open, survey, suspected_until, unfetched_sessions
from market_data.pipeline.run_context import RunContext
from market_data.pipeline.unknown_symbols import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage


def examine(
    context: RunContext,
    coverage: Coverage,
    own: OwnCells,
    now: datetime,
    *,
    found: pa.Table | None = None,
    with_rows: Collection[str] = (),
) -> Findings:
    """Return what is open of a run, and, for a scheduled run, in older sessions of its feed.

    :param coverage: as it is after the run.
    :param found: suspected gaps that this run has found.
    :param with_rows: symbols with rows in the responses of this run.
    """
    findings = Findings(
        survey(coverage, own, context.dataset),
        suspected=suspected_until(coverage, own),
        found=found,
        unknown=unknown_symbols(context, coverage, own, with_rows),
    )
    if context.run.run_type != "scheduled" or not own.sessions:
        return findings
    first = own.sessions[0]
    older = older_open(coverage, first, context.settled(now, calendar(context.feed.calendar)), membership=own.membership)
    return replace(findings, older=older, unfetched=unfetched_sessions(coverage, own, first, context.feed.catch_up_sessions))


def unknown_symbols(context: RunContext, coverage: Coverage, own: OwnCells, with_rows: Collection[str]) -> Mapping[str, str | None]:
    """Return the symbols without a row in responses and ledger, with the symbol probably meant.

    For bars only, where this is unusual. A symbol without a state failed and is not unknown. A member of a universe whose cells are
    all ``pending`` is not unknown either: its bar is not published yet.
    """
    import numpy as np
    import pyarrow as pa

    from market_data.lake.coverage import STATES

    if not context.dataset.is_bars or not own.symbols:
        return {}
    table = coverage.table
    with_row = [STATES.index(state) for state in (State.HAVE, State.QUARANTINED, State.RELEASED)]
    has_rows = np.isin(coverage.state_codes(np.arange(len(table))), with_row)
    has_rows |= coverage.confirmed[:-1]
    known = set(table.filter(pa.array(has_rows))["symbol"].unique().to_pylist()) | set(with_rows)
    doubtful = [symbol for symbol in own.symbols if symbol not in known]
    if not doubtful:
        return {}
    rows, symbols, sessions = coverage.recorded(doubtful, own.sessions)
    inside = replace(own, symbols=tuple(doubtful)).is_cell()[symbols, sessions]
    rows, symbols = rows[inside], symbols[inside]
    empty = {*symbols[coverage.state_codes(rows) == STATES.index(State.EMPTY)].tolist()}
    some_state, listed = {*symbols.tolist()}, _listed()
    unknown = [symbol for place, symbol in enumerate(doubtful) if place in empty or (symbol not in listed and place in some_state)]
    return {symbol: did_you_mean(symbol, known | (listed - {*unknown})) for symbol in unknown}


def _listed() -> set[str]:
    """Return the symbols of all universe files."""
    from market_data.config import universes

    return {symbol for name in universes.known() for symbol in universes.members(name)}
