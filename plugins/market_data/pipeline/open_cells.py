"""Find the cells that are not final: of a run, and in the older sessions of its feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from market_data.core import calendar
from market_data.core.batch import Batch
from market_data.core.calendar import sessions_in
from market_data.core.intervals import IntervalSet, coalesce, union
from market_data.core.outcome import SUSPECTED_GAP, State

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.datasets.base import Dataset
    from market_data.lake.ledger import Coverage

WINDOW = 250
"""Older sessions in which open cells are named: about a year."""

KINDS = (str(State.PENDING), str(State.QUARANTINED), str(State.REFUSED), SUSPECTED_GAP)


@dataclass(frozen=True)
class OwnCells:
    """The cells of a run: ``symbols`` x ``sessions``, with covered cells, without the lookback."""

    symbols: tuple[str, ...]
    sessions: tuple[date, ...]

    def to_json(self) -> dict[str, Any]:
        axis = calendar.sessions(self.sessions[0], self.sessions[-1] + timedelta(days=1)) if self.sessions else ()
        return {"symbols": list(self.symbols), "intervals": [i.to_json() for i in coalesce(self.sessions, axis)]}

    @classmethod
    def of(cls, summary: Mapping[str, Any], batches: Sequence[Batch]) -> OwnCells:
        """Return the cells that the summary of ``plan`` names; without them, those of the batches."""
        from market_data.lake.receipts import dates_from_json

        if found := summary.get("own"):
            return cls(tuple(found["symbols"]), sessions_in(dates_from_json(found["intervals"])))
        spans: IntervalSet = union(interval for batch in batches for interval in batch.intervals)
        return cls(tuple(dict.fromkeys(s for batch in batches for s in batch.symbols)), sessions_in(spans))


NO_CELLS = OwnCells((), ())


@dataclass(frozen=True)
class OpenCells:
    """The cells of a run that are not final.

    :param total: number of all cells of the run.
    :param missing: number of cells without a state.
    :param table: the others, with the columns of ``ledger.SCHEMA`` and ``kind``, one of ``KINDS``.
    :param unfinished: symbols with at least one cell that is not final.
    """

    total: int
    missing: int
    table: pa.Table
    unfinished: frozenset[str]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of cells of each kind."""
        import pyarrow.compute as pc

        found = {item["values"]: item["counts"] for item in pc.value_counts(self.table["kind"]).to_pylist()}
        return {kind: found.get(kind, 0) for kind in KINDS}

    def of(self, kind: str) -> pa.Table:
        """Return the cells of one kind, by session."""
        import pyarrow.compute as pc

        return self.table.filter(pc.equal(self.table["kind"], kind)).sort_by("session")


@dataclass(frozen=True)
class Findings:
    """The open cells after a run, for its verdict and report.

    :param own: the cells of the run.
    :param older: by session and kind: ``session``, ``kind``, ``count`` and the first ``symbols``; for scheduled runs only.
    :param unfetched: older sessions in which symbols have no state, although they have one in an earlier session.
    :param suspected: the suspected gaps of the feed in the ``WINDOW`` sessions that end with the run's, and of the run itself.
    :param found: suspected gaps of which no earlier run knew, as a table of ``symbol`` and ``session``.
    :param unknown: symbol -> the known symbol that it probably should be, or None.
    """

    own: OpenCells
    older: Sequence[Mapping[str, Any]] = ()
    unfetched: Sequence[date] = ()
    suspected: pa.Table | None = None
    found: pa.Table | None = None
    unknown: Mapping[str, str | None] = field(default_factory=dict)


def survey(coverage: Coverage, own: OwnCells, dataset: Dataset) -> OpenCells:
    """Return the cells of a run that are not final.

    ``pending`` is the normal state of a recent session in datasets that grow: such cells are listed, and yet count as final.
    """
    import numpy as np
    import pyarrow as pa

    from market_data.lake.ledger import STATES

    rows = coverage.rows_of(own.symbols, own.sessions)
    states, gaps = coverage.state_codes(rows), coverage.suspected[rows]
    settled = [STATES.index(State.HAVE), STATES.index(State.EMPTY)]
    is_open = (~np.isin(states, settled) | gaps) if rows.size else np.zeros(rows.shape, dtype=bool)
    unfinished = is_open & (states != STATES.index(State.PENDING)) if dataset.grows else is_open
    known = is_open & (rows >= 0)
    table = coverage.table.take(pa.array(rows[known]))
    names = np.array([str(state) for state in STATES])[states[known]] if known.any() else np.array([], dtype=str)
    kinds = np.where(gaps[known], SUSPECTED_GAP, names).tolist()
    names_of = frozenset(np.array(own.symbols, dtype=object)[unfinished.any(axis=1)].tolist()) if rows.size else frozenset()
    missing = int((rows < 0).sum())
    return OpenCells(rows.size, missing, table.append_column("kind", pa.array(kinds, pa.string())), names_of)


def older_open(coverage: Coverage, before: date, settled: date, most: int = 3) -> list[dict[str, Any]]:
    """Return what is open in the ``WINDOW`` sessions before ``before``, by session and kind.

    These are refused, quarantined and suspected cells, and cells that are pending although their session is final.

    :param settled: the last final session.
    :param most: symbols named of each.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.pipeline.gaps import recent_sessions

    window = recent_sessions(calendar.previous_session(before), WINDOW)
    table = coverage.table.append_column("gap", pa.array(coverage.suspected[:-1]))
    states = table["state"].cast(pa.string())
    is_open = pc.is_in(states, pa.array([str(State.QUARANTINED), str(State.REFUSED)]))
    late = pc.and_(pc.equal(states, str(State.PENDING)), pc.less_equal(table["session"], pa.scalar(settled)))
    inside = pc.and_(pc.greater_equal(table["session"], window[0]), pc.less_equal(table["session"], window[-1]))
    found = table.filter(pc.and_(inside, pc.or_(pc.or_(is_open, late), table["gap"])))
    groups: dict[tuple[date, str], list[str]] = {}
    columns = (found[name].to_pylist() for name in ("session", "gap", "state", "symbol"))
    for session, gap, state, symbol in sorted(zip(*columns, strict=True)):
        groups.setdefault((session, SUSPECTED_GAP if gap else state), []).append(symbol)
    return [
        {"session": session.isoformat(), "kind": kind, "count": len(symbols), "symbols": symbols[:most]}
        for (session, kind), symbols in groups.items()
    ]


def suspected_until(coverage: Coverage, own: OwnCells) -> pa.Table:
    """Return the suspected gaps of a run's sessions and of the ``WINDOW`` before, by session."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.pipeline.gaps import recent_sessions

    found = coverage.table.filter(pa.array(coverage.suspected[:-1]))
    if not len(found) or not own.sessions:
        return found.slice(0, 0)
    first = min(own.sessions[0], recent_sessions(own.sessions[-1], WINDOW)[0])
    inside = pc.and_(pc.greater_equal(found["session"], first), pc.less_equal(found["session"], own.sessions[-1]))
    return found.filter(inside).sort_by("session")


def unfetched_sessions(coverage: Coverage, symbols: Sequence[str], before: date, catch_up: int) -> list[date]:
    """Return the sessions without a state for symbols that have an earlier one, too old to catch up.

    These are older than the last ``catch_up`` sessions before ``before``.

    Only sessions after the first in which at least half of the symbols have a state are considered: a trial of one symbol does not
    begin a feed's history.
    """
    import numpy as np

    from market_data.pipeline.gaps import recent_sessions

    axis = recent_sessions(calendar.previous_session(before), WINDOW)
    known = coverage.rows_of(symbols, axis) >= 0
    begun = np.flatnonzero(known.sum(axis=0) * 2 >= max(1, len(symbols)))
    if not len(begun):
        return []
    seen = np.logical_or.accumulate(known, axis=1)
    holes = np.flatnonzero((seen & ~known).any(axis=0))
    return [axis[place] for place in holes if begun[0] <= place < len(axis) - catch_up]
