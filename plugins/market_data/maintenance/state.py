"""Show what the ledger knows of a feed, and reset cells: the next run requests them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.maintenance.person import Person
from market_data.pipeline.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake

JOB = "reset"


@dataclass(frozen=True)
class FeedState:
    """Summary of a selection in the ledger.

    :param first: first session with a state, ``last``: the last one; None if nothing is recorded.
    :param complete: the last session in which every recorded cell is final.
    :param states: state -> number of cells.
    :param staging: staging objects that are not loaded yet, ``staging_bytes``: their size.
    :param last_run: id of the run that made the latest record, at ``recorded_at``.
    :param unreadable: a sentence per ledger object that was left out.
    """

    source: str
    symbols: int
    first: date | None
    last: date | None
    complete: date | None
    states: Mapping[str, int]
    staging: int = 0
    staging_bytes: int = 0
    last_run: str = ""
    recorded_at: datetime | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reset:
    """Cells that are, or would be, unknown again.

    :param states: state -> number of cells that had it.
    :param waiting: staging objects with some of the cells: the next run loads them, and then knows these cells again.
    """

    cells: int
    symbols: int
    first: date | None
    last: date | None
    states: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0


def feed_state(lake: Lake, selection: Selection) -> FeedState:
    """Return what the ledger knows of a selection."""
    import pyarrow.compute as pc

    from market_data.lake import staging
    from market_data.lake.ledger import read_coverage

    place = (lake, selection.dataset.name, selection.source)
    coverage = read_coverage(*place)
    table = chosen(coverage, selection)
    waiting = staging.waiting(*place)
    newest = pc.max(table["recorded_at"]).as_py()
    last_run = table.filter(pc.equal(table["recorded_at"], newest))["run_id"][0].as_py() if newest else ""
    return FeedState(
        selection.source,
        pc.count_distinct(table["symbol"].cast("string")).as_py(),
        *_ends(table),
        _complete(table),
        _counts(table),
        len(waiting),
        sum(item.size for item in waiting),
        last_run,
        newest,
        coverage.unreadable,
    )


def symbol_states(lake: Lake, selection: Selection) -> pa.Table:
    """Return a row per symbol: first, last and last loaded session, and the number of cells per state."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.lake.ledger import read_coverage

    table = chosen(read_coverage(lake, selection.dataset.name, selection.source), selection)
    states, symbols = table["state"].cast(pa.string()), table["symbol"].cast(pa.string())
    loaded = pc.is_in(states, pa.array([str(State.HAVE), str(State.RELEASED)]))
    columns = {"symbol": symbols, "session": table["session"], "loaded": pc.if_else(loaded, table["session"], None)}
    columns |= {str(state): pc.equal(states, str(state)).cast(pa.int64()) for state in State}
    found = (
        pa.table(columns)
        .group_by("symbol")
        .aggregate([("session", "min"), ("session", "max"), ("loaded", "max"), *((str(state), "sum") for state in State)])
    )
    names = {"session_min": "first", "session_max": "last", "loaded_max": "last_loaded", **{f"{s}_sum": str(s) for s in State}}
    return found.rename_columns([names.get(name, name) for name in found.column_names]).sort_by("symbol")


def reset(lake: Lake, selection: Selection, person: Person, now: datetime, *, dry_run: bool = True) -> Reset:
    """Make the cells of a selection unknown again: the next run requests them.

    Lake objects and warehouse rows stay, and the newest response replaces them. Decisions on the cells are forgotten. Cells
    without a record stay as they are: a second reset changes nothing and writes no entry.
    """
    import pyarrow as pa

    from market_data.lake import decisions, fingerprint, staging
    from market_data.lake.coverage import CELLS, UNKNOWN, contains
    from market_data.lake.ledger import read_coverage, write_cells

    place = (lake, selection.dataset.name, selection.source)
    coverage = read_coverage(*place)
    table = chosen(coverage, selection)
    infos, _ = staging.describe(lake, staging.waiting(*place))
    waiting = sum(_touches(info.receipt.request, selection) for info in infos.values())
    found = Reset(len(table), len(table["symbol"].cast("string").unique()), *_ends(table), _counts(table), waiting)
    if dry_run or not len(table):
        return found
    cells = pa.table(
        [table["symbol"].cast(pa.string()), table["session"], pa.repeat(UNKNOWN, len(table)), pa.repeat("", len(table))],
        schema=CELLS,
    )
    stamp = coverage.next_stamp(cells, now)
    person.note(lake, JOB, stamp, described(selection, found.cells, found.first, found.last, found.states))
    decided = decisions.read(*place).cells
    forgotten = decided.filter(pa.array(contains(cells, decided))) if len(decided) else decided
    if len(forgotten):
        hashes = fingerprint.of_empty(forgotten["symbol"].to_pylist(), forgotten["session"].to_pylist())
        made = decisions.Decision(decisions.Kind.RESET, person.by, person.reason, stamp)
        decisions.write(*place, made, decisions.values(forgotten, decisions.CELL, hashes))
    write_cells(*place, run_of(JOB, stamp), JOB, cells, recorded_at=stamp)
    return found


def run_of(job: str, at: datetime) -> RunInfo:
    """Return the run under which a job of a person is recorded."""
    return RunInfo("maintain_state", f"{job} {at.isoformat()}", "manual", 0, at)


def described(selection: Selection, cells: int, first: date | None, last: date | None, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what the journal keeps of a decision on cells."""
    return {
        "dataset": selection.dataset.name,
        "source": selection.source,
        "symbols": list(selection.symbols) if selection.symbols else None,
        "start": selection.start.isoformat(),
        "end": selection.end.isoformat(),
        "cells": cells,
        "first": first.isoformat() if first else None,
        "last": last.isoformat() if last else None,
        "counts": dict(counts),
    }


def chosen(coverage: Coverage, selection: Selection) -> pa.Table:
    """Return the records of the selected cells, with the columns of ``coverage.SCHEMA``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = coverage.table
    inside = pc.and_(
        pc.greater_equal(table["session"], pa.scalar(selection.start)), pc.less_equal(table["session"], pa.scalar(selection.end))
    )
    if selection.symbols is not None:
        inside = pc.and_(inside, pc.is_in(table["symbol"].cast(pa.string()), pa.array(selection.symbols, pa.string())))
    return table.filter(inside)


def _touches(request: Any, selection: Selection) -> bool:
    inside = selection.symbols is None or not set(request.symbols).isdisjoint(selection.symbols)
    return inside and request.start <= selection.end and selection.start < request.intervals[-1].end


def _ends(table: pa.Table) -> tuple[date | None, date | None]:
    import pyarrow.compute as pc

    found = pc.min_max(table["session"])
    return found["min"].as_py(), found["max"].as_py()


def _counts(table: pa.Table) -> dict[str, int]:
    import pyarrow.compute as pc

    found = pc.value_counts(table["state"].cast("string")).to_pylist()
    return {item["values"]: item["counts"] for item in sorted(found, key=lambda item: item["values"])}


def _complete(table: pa.Table) -> date | None:
    """Return the last session in which every recorded cell is final."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.core.outcome import FINAL, SUSPECTED_GAP

    final = pc.is_in(table["state"].cast(pa.string()), pa.array(sorted(map(str, FINAL))))
    final = pc.and_(final, pc.invert(pc.starts_with(table["reason"].cast(pa.string()), SUSPECTED_GAP)))
    sessions = pa.table({"session": table["session"], "final": final}).group_by("session").aggregate([("final", "all")])
    found: date | None = pc.max(sessions.filter(sessions["final_all"])["session"]).as_py()
    return found
