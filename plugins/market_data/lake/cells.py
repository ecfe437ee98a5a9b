"""Cells (symbol x session) as Arrow tables: their states from receipts, and filters of rows by cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from market_data.core.batch import calendar_for
from market_data.core.calendar import Calendar
from market_data.core.dates import dates_of
from market_data.core.intervals import IntervalSet
from market_data.core.request_rows import rows_inside

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.receipts import CellRun


SHORT = 16
"""Characters, at most, of a text whose column batches share: states, and no reason."""


def cells_of(rows: pa.Table) -> dict[str, set[date]]:
    """Return symbol -> the sessions for which ``rows`` holds at least one row."""
    from market_data.core.key_order import run_starts

    cells: dict[str, set[date]] = defaultdict(set)
    if not len(rows):
        return cells
    rows = rows.select(["symbol", "session"])
    starts = run_starts(rows, rows.column_names)
    unique = rows.group_by(rows.column_names, use_threads=False).aggregate([]) if starts is None else rows.take(starts)
    for symbol, session in zip(unique["symbol"].to_pylist(), dates_of(unique["session"]), strict=True):
        cells[symbol].add(session)
    return cells


def only(rows: pa.Table, intervals: IntervalSet) -> pa.Table:
    """Return the rows with sessions inside ``intervals``."""
    return rows.filter(rows_inside(rows, intervals))


def table_of(runs: Iterable[CellRun]) -> pa.Table:
    """Return one row per cell of ``runs``, of schema ``coverage.CELLS``, by symbol and session."""
    import numpy as np
    import pyarrow as pa

    from market_data.lake.coverage import CELLS

    symbols = _Codes()
    codes: list[Any] = []
    known: dict[tuple[str, ...], Any] = {}  # requests of one universe share their symbols
    days: list[Any] = []
    kinds: dict[tuple[str, str], int] = {}
    kind_of: list[int] = []
    lengths: list[int] = []
    for run in runs:
        sessions = _days(calendar_for(run.calendar_name, run.symbols), run.intervals)
        if run.symbols not in known:
            known[run.symbols] = np.array([symbols.code(symbol) for symbol in run.symbols], dtype=np.int32)
        codes.append(np.repeat(known[run.symbols], len(sessions)))
        days.append(np.tile(sessions, len(run.symbols)))
        kind_of.append(kinds.setdefault((str(run.state), run.reason), len(kinds)))
        lengths.append(len(run.symbols) * len(sessions))
    if not codes:
        return CELLS.empty_table()
    symbol, session = np.concatenate(codes), np.concatenate(days)
    place = (symbols.ranks()[symbol] << 32) + session.astype(np.int64)
    order = np.argsort(place, kind="stable")  # of whole numbers: sorting text takes three times as long
    if len(kinds) == 1:
        described = [(_shared if len(text) <= SHORT else _repeated)(text, len(order)) for text in next(iter(kinds))]
    else:
        per_cell = pa.array(np.repeat(np.array(kind_of, dtype=np.int32), lengths)[order])
        described = [pa.array(texts, pa.string()).take(per_cell) for texts in zip(*kinds, strict=True)]
    return pa.table([symbols.decode(symbol[order]), pa.array(session[order], pa.date32()), *described], schema=CELLS)


def _repeated(text: str, count: int) -> pa.Array:
    """Return a column of one text."""
    import pyarrow as pa

    return pa.repeat(pa.scalar(text, pa.string()), count)


@lru_cache(maxsize=2)
def _shared(text: str, count: int) -> pa.Array:
    """Return a column of one text.

    Most batches of a run have as many cells in the same state without a reason: they share both columns. The latest two stay in memory.
    """
    return _repeated(text, count)


def row_filter(runs: Sequence[CellRun]) -> Callable[[pa.Table], pa.Table]:
    """Return a function that keeps the rows of cells for which a request has rows in the lake."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with_rows = [run for run in runs if run.with_rows]

    def keep(rows: pa.Table) -> pa.Table:
        found = pa.repeat(False, len(rows))
        for run in with_rows:
            of_symbols = pc.is_in(rows["symbol"], pa.array(run.symbols, pa.string()))
            found = pc.or_(found, pc.and_(of_symbols, rows_inside(rows, run.intervals)))
        return rows.filter(found)

    return keep


class _Codes:
    """Distinct strings by number."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, value: str) -> int:
        return self._codes.setdefault(value, len(self._codes))

    def ranks(self) -> Any:
        """Return the place of each string in their order, by number."""
        import numpy as np

        places = {text: place for place, text in enumerate(sorted(self._codes))}
        return np.array([places[text] for text in self._codes], np.int64)

    def decode(self, codes: Any) -> pa.Array:
        """Return the string of each number."""
        import pyarrow as pa

        return pa.array(list(self._codes), pa.string()).take(pa.array(codes))


@lru_cache(maxsize=1024)
def _days(calendar: Calendar, intervals: IntervalSet) -> Any:
    import numpy as np

    return np.array(calendar.sessions_in(intervals), dtype="datetime64[D]")
