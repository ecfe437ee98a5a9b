"""Expected cells: calendar x universe of each session, as far as the feed's history goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import TYPE_CHECKING

import numpy as np

from market_data.config.run_params import RunParams
from market_data.config.trigger_form import SCHEMAS
from market_data.config.universes import Universe
from market_data.core import messages
from market_data.core.calendar import DAY, FIRST, LAST, Calendar
from market_data.core.errors import ConfigError, ParamError
from market_data.core.instruments import by_calendar
from market_data.core.json_schema import read
from market_data.core.membership import member_cells
from market_data.maintenance.audit.cells import Mask, Names, Recorded, days_of, symbols_of
from market_data.maintenance.audit.listing import Numbers, cell_codes, day_of, numbers_of
from market_data.pipeline.selection import EVER

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection

CHOOSING = ("universe", "symbols", "tickers_path", "as_of", "follow_renames")
"""Params that choose the symbols of a run."""

AT_A_TIME = 100
"""Symbols whose cells are compared at once."""


@dataclass(frozen=True)
class Missing:
    """Cells that should have a record.

    :param cells: number of all of them.
    :param codes: those without a record, sorted.
    """

    cells: int
    codes: Numbers


def universe_of_feed(lake: Lake, feed: Feed, open_s3: Callable[[str], bytes] | None = None) -> tuple[Universe, tuple[str, ...]]:
    """Return the universe of a feed with the dates of its members; and a note if it cannot be read.

    Params of the feed count, as for its scheduled runs.

    :param open_s3: returns the body of an ``s3://`` URL, for a tickers file; None: there is no access.
    """
    from market_data.pipeline.run_symbols import universe_of

    params = params_of(feed)
    try:
        return universe_of(params, feed, lambda: lake, open_s3), ()
    except (ConfigError, ParamError, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
        name = params.tickers_path or params.universe
        return Universe("none", ()), (f"universe {name} cannot be read, so cells without a record are not found: {error}",)


def params_of(feed: Feed) -> RunParams:
    """Return the params that choose a feed's symbols; the others have the project's defaults."""
    given = {name: read(feed.params[name], SCHEMAS[name]) for name in CHOOSING if name in feed.params}
    return RunParams(**{"universe": feed.universe, **given})


def last_due(feed: Feed, calendar: Calendar, now: datetime) -> date:
    """Return the last session whose scheduled run has begun and had its time."""
    run_at = time.fromisoformat(feed.schedule) if feed.schedule else None
    return calendar.last_completed_session(now - feed.run_timeout, run_at)


def settled(selection: Selection, calendar: Calendar, now: datetime) -> date:
    """Return the last session to which vendors add no rows any more."""
    session = calendar.last_completed_session(now)
    for _ in range(selection.dataset.settle_sessions):
        session = calendar.previous_session(session)
    return session


def missing_cells(
    coverage: Coverage, recorded: Recorded, names: Names, feed: Feed, selection: Selection, universe: Universe, now: datetime
) -> Missing:
    """Return the expected cells of a selection without a record."""
    parts, cells = [np.empty(0, dtype=np.int64)], 0
    first_records = _first_records(recorded, len(names.names))
    known = Known(coverage.rows_of, lambda symbols: first_records[names.of(symbols)])
    for one in expected_cells(known, feed, selection, universe, now):
        own, days = names.of(one.symbols), numbers_of(one.sessions)
        cells += int(one.wanted.sum())
        row, column = np.nonzero(one.wanted & (one.rows < 0))
        parts.append(cell_codes(own[row], days[column]))
    return Missing(cells, np.unique(np.concatenate(parts)))


@dataclass(frozen=True)
class Known:
    """The records of the ledger.

    :param rows_of: returns the record of each cell, or -1, as a matrix of symbols x sessions.
    :param first_days: returns the day of the first record of each symbol, in days since 1970; a later day than all for one without.
    """

    rows_of: Callable[[Sequence[str], Sequence[date]], Numbers]
    first_days: Callable[[Sequence[str]], Numbers]


@dataclass(frozen=True)
class Expected:
    """Cells of symbols with one calendar.

    :param wanted: mask, symbols x sessions, of the expected cells; ``rows``: their records, or -1.
    """

    symbols: Sequence[str]
    sessions: Sequence[date]
    wanted: Mask
    rows: Numbers


def expected_cells(known: Known, feed: Feed, selection: Selection, universe: Universe, now: datetime) -> Iterator[Expected]:
    """Yield the expected cells of a selection, some symbols at a time.

    Without a first session in the selection, the history of a feed begins where at least half of the members have a record. That of a
    symbol with an earlier record begins there.
    """
    from market_data.providers.registry import calendar_of_source

    find, since_ever = calendar_of_source(selection.source), selection.start == EVER[0]
    for calendar, symbols in by_calendar(_members(universe, selection), find).items():
        everybody = symbols
        if since_ever and universe.symbols:
            everybody = by_calendar(_members(universe, replace(selection, symbols=None)), find).get(calendar, symbols)
        start, end = max(selection.start, FIRST), min(selection.end, last_due(feed, calendar, now))
        if since_ever:  # no history begins before the first record
            start = min(max(start, day_of(int(known.first_days(everybody).min()))), LAST)
        axis = calendar.sessions(start, min(end, LAST) + DAY) if start <= end else ()
        if not axis:
            continue
        days = numbers_of(axis)
        begun = _begun(known, everybody, axis, universe, days) if since_ever else numbers_of([feed.start_date])[0]
        for some in _parts(symbols):
            since = np.full(len(some), begun)
            if since_ever:
                since = np.minimum(since, known.first_days(some))
            wanted = member_cells(some, axis, universe.membership) & (days[None, :] >= since[:, None])
            yield Expected(some, axis, wanted, known.rows_of(some, axis))


def _members(universe: Universe, selection: Selection) -> list[str]:
    """Return the symbols whose cells are expected: members, now or once, that are selected."""
    if selection.symbols is None:
        return list(universe.symbols)
    members = set(universe.symbols)
    return [symbol for symbol in selection.symbols if symbol in members]


def not_members(universe: Universe, selection: Selection) -> str:
    """Return a sentence on selected symbols that are not in the universe; empty if there are none."""
    members = set(universe.symbols)
    others = [symbol for symbol in selection.symbols or () if symbol not in members]
    return f"not in {universe.name}, so that missing cells are not found: {messages.some(others)}" if others else ""


def _parts(symbols: list[str]) -> Iterator[list[str]]:
    return (symbols[start : start + AT_A_TIME] for start in range(0, len(symbols), AT_A_TIME))


def _begun(known: Known, symbols: list[str], axis: tuple[date, ...], universe: Universe, days: Numbers) -> int:
    """Return the first session of which at least half of the members have a record.

    Without such a session: the day after the last.
    """
    recorded, members = np.zeros(len(axis), dtype=np.int64), np.zeros(len(axis), dtype=np.int64)
    for some in _parts(symbols):
        inside = member_cells(some, axis, universe.membership)
        recorded += ((known.rows_of(some, axis) >= 0) & inside).sum(axis=0)
        members += inside.sum(axis=0)
    found = np.flatnonzero((recorded * 2 >= members) & (members > 0))
    return int(days[found[0]]) if len(found) else int(days[-1]) + 1


def _first_records(recorded: Recorded, count: int) -> Numbers:
    """Return the day of the first record of each symbol; a day beyond all for one without a record."""
    found = np.full(count, numbers_of([LAST])[0] + 1)
    if len(recorded.codes):
        symbols, first = np.unique(symbols_of(recorded.codes), return_index=True)
        found[symbols] = days_of(recorded.codes[first])
    return found
