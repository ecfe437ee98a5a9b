"""Suspected gaps: cells without a row, of symbols that trade nearly every session before and after.

A vendor may publish such a bar late, or never. So the cell is not final: it is requested again 10, 30 and 90 sessions after its own.
Its record in the ledger tells when it was last requested, so each request changes the record.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.calendar import DAY, Calendar
from market_data.core.instruments import CalendarOf, by_calendar, calendar_of
from market_data.core.outcome import SUSPECTED_GAP, State

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage

SCHEDULE = (3, 10, 30, 90)
"""Sessions after its own at which a cell without a row is requested. The first is the end of its time as ``pending``."""

WINDOW = 250
"""Sessions by which it is judged how regularly a symbol trades; half of them on each side of the cell, where known."""

KNOWN = 5
"""Least number of known sessions of a symbol in the window."""

OTHERS = 0.1
"""Greatest share of further sessions without a row in the window."""

AT_ONCE = 500_000
"""Cells that are judged at a time: the arrays of 10,000 symbols x 500 sessions take 170 MB."""

REACH = 100
"""Scheduled runs request suspected gaps of this many sessions: a few more than the last step of ``SCHEDULE``."""

_LAST = re.compile(r"T\+(\d+)$")


def reason(sessions_later: int) -> str:
    """Return the reason of a gap that was last requested ``sessions_later`` sessions after its own."""
    return f"{SUSPECTED_GAP}: the symbol has bars before and after; last requested at T+{sessions_later}"


def last_requested(words: str) -> int:
    """Return how many sessions after its own a gap was last requested; 0 if ``words`` do not tell."""
    found = _LAST.search(words)
    return int(found[1]) if found else 0


def next_request(words: str) -> int | None:
    """Return how many sessions after its own a suspected gap is requested next; None: not again."""
    return next((step for step in SCHEDULE if step > last_requested(words)), None)


def due_gaps(coverage: Coverage, symbols: Sequence[str], now: datetime, find: CalendarOf = calendar_of) -> dict[date, list[str]]:
    """Return session -> symbols of the suspected gaps that a scheduled run requests.

    :param find: returns a symbol's calendar.
    """
    due: dict[date, list[str]] = defaultdict(list)
    for calendar, own in by_calendar(symbols, find).items():
        for session, names in _due_gaps(coverage, own, now, calendar).items():
            due[session] += names
    return dict(due)


def _due_gaps(coverage: Coverage, symbols: Sequence[str], now: datetime, calendar: Calendar) -> dict[date, list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    axis = calendar.recent_sessions(calendar.last_completed_session(now), REACH)
    found = coverage.table.filter(pa.array(coverage.suspected[:-1])).select(["symbol", "session", "reason"])
    found = found.filter(pc.is_in(found["session"], pa.array(axis, pa.date32())))
    wanted, due = set(symbols), defaultdict(list)
    for symbol, session, words in zip(*(column.to_pylist() for column in found.columns), strict=True):
        step = next_request(words)
        if symbol in wanted and step is not None and len(axis) - 1 - axis.index(session) >= step:
            due[session].append(symbol)
    return dict(due)


def find_gaps(coverage: Coverage, recorded: Sequence[pa.Table], now: datetime, find: CalendarOf = calendar_of) -> pa.Table:
    """Return the suspected gaps among the symbols of ``recorded`` whose record must change.

    These are the ones just requested, with the moment of that request, and all others that do not count as suspected yet: a symbol may
    trade again long after the cell became ``empty``. Sessions from ``WINDOW`` before the first to ``WINDOW`` after the last recorded one
    are considered.

    :param coverage: as it is with ``recorded``.
    :param recorded: the cells that the run records, of schema ``coverage.CELLS``.
    :param find: returns a symbol's calendar.
    :return: of schema ``coverage.CELLS``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import CELLS

    cells = pa.concat_tables([CELLS.empty_table(), *recorded])
    groups = by_calendar(pc.unique(cells["symbol"]).to_pylist(), find)
    several = len(groups) > 1
    parts = [cells.filter(pc.is_in(cells["symbol"], pa.array(own, pa.string()))) if several else cells for own in groups.values()]
    found = [_find_gaps(coverage, part, now, calendar) for calendar, part in zip(groups, parts, strict=True)]
    return pa.concat_tables([CELLS.empty_table(), *found])


def _find_gaps(coverage: Coverage, cells: pa.Table, now: datetime, calendar: Calendar) -> pa.Table:
    """Return the same for ``cells`` whose symbols have one calendar."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.coverage import CELLS, contains

    last_completed = calendar.last_completed_session(now)
    bounds = pc.min_max(cells["session"])
    symbols = pc.unique(cells["symbol"]).to_pylist()
    last = max(last_completed, bounds["max"].as_py())
    before = calendar.recent_sessions(bounds["min"].as_py(), WINDOW + 1)
    every = calendar.sessions(before[0] if before else bounds["min"].as_py(), last + DAY)
    days = np.array(every, dtype="datetime64[D]")
    first_at = max(0, int(np.searchsorted(days, np.datetime64(bounds["min"].as_py()))) - WINDOW)
    end_at = int(np.searchsorted(days, np.datetime64(bounds["max"].as_py()), side="right")) + WINDOW
    sessions = every[first_at:end_at]
    size = max(1, AT_ONCE // max(1, len(sessions)))
    hits = np.concatenate([_hits(coverage, symbols[at : at + size], sessions) for at in range(0, len(symbols), size)])
    found = coverage.table.take(pa.array(hits)).select(["symbol", "session", "recorded_at"])
    fresh = contains(cells, found) if len(found) else np.zeros(0, dtype=bool)
    chosen = np.flatnonzero(fresh | ~coverage.suspected[hits])
    found, fresh = found.take(pa.array(chosen)), fresh[chosen]
    if not len(found):
        return CELLS.empty_table()
    own = np.searchsorted(days, found["session"].to_numpy())
    moments = [now if new else moment for new, moment in zip(fresh, found["recorded_at"].to_pylist(), strict=True)]
    ends = {moment: calendar.last_completed_session(moment.astimezone(UTC)) for moment in set(moments)}
    requested = np.searchsorted(days, np.array([ends[moment] for moment in moments], dtype="datetime64[D]"))
    words = [reason(max(0, int(later))) for later in requested - own]
    columns = [found["symbol"].cast(pa.string()), found["session"], pa.repeat(str(State.EMPTY), len(found)), pa.array(words)]
    return pa.table(columns, schema=CELLS)


def _hits(coverage: Coverage, symbols: Sequence[str], sessions: Sequence[date]) -> Any:
    """Return the rows of the ledger's table that are cells inside a life, by symbol and session."""
    import numpy as np

    from market_data.lake.coverage import STATES

    rows = coverage.rows_of(symbols, sessions)
    states = coverage.state_codes(rows)
    have = np.isin(states, [STATES.index(State.HAVE), STATES.index(State.RELEASED)])
    return rows[inside_a_life(have, (states == STATES.index(State.EMPTY)) & ~coverage.confirmed[rows])]


def inside_a_life(have: Any, empty: Any) -> Any:
    """Return a mask of the ``empty`` cells inside the life of a symbol that trades nearly every session.

    Only cells of the two masks are known. Apart from the cell itself, at most a share of ``OTHERS`` of the known sessions
    of the window may be without a row.

    :param have: mask, symbols x sessions; ``empty`` likewise.
    """
    import numpy as np

    count = have.shape[1]
    if not count:
        return empty
    at = np.arange(count)
    first = np.where(have.any(axis=1), have.argmax(axis=1), count)[:, None]
    last = np.where(have.any(axis=1), count - 1 - have[:, ::-1].argmax(axis=1), -1)[:, None]
    low = np.maximum(first, np.maximum(0, at - WINDOW // 2))
    high = np.minimum(last, np.minimum(count - 1, at + WINDOW // 2)) + 1
    inside = empty & (first < at) & (at < last)
    rows, columns = np.nonzero(inside)
    low, high = low[rows, columns], high[rows, columns]
    bars, holes = _sums(have), _sums(empty)
    known_bars = bars[rows, high] - bars[rows, low]
    others = holes[rows, high] - holes[rows, low] - 1
    known = known_bars + others + 1
    inside[rows, columns] = (known >= KNOWN) & (others <= OTHERS * known)
    return inside


def _sums(mask: Any) -> Any:
    """Return the running sums of each row: element i sums the first i."""
    import numpy as np

    return np.concatenate([np.zeros((len(mask), 1), dtype=np.int32), mask.cumsum(axis=1, dtype=np.int32)], axis=1)


def without_gaps(cells: pa.Table, gaps: pa.Table) -> pa.Table:
    """Return ``cells`` without those that are recorded as suspected gaps instead."""
    from market_data.lake.coverage import without

    return without(cells, [gaps]) if len(gaps) else cells
