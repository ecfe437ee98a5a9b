"""The cells that findings are about: of each, and those that are requested."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.intervals import closed
from market_data.core.outcome import State
from market_data.maintenance.findings import FINDINGS, Cause, Repair
from market_data.pipeline.gap_list import GAPS
from market_data.pipeline.rebuild import rows_of_cells
from market_data.providers.registry import calendar_of_source

if TYPE_CHECKING:
    from market_data.lake.coverage import Coverage
    from market_data.lake.store import Lake
    from market_data.pipeline.selection import Selection


def cells_of(findings: pa.Table, selection: Selection) -> pa.Table:
    """Return the cells of findings: each session of the symbol's calendar from the first to the last."""
    find = calendar_of_source(selection.source)
    symbols: list[str] = []
    sessions: list[date] = []
    columns = (findings[name].to_pylist() for name in ("symbol", "first_session", "last_session"))
    for symbol, first, last in zip(*columns, strict=True):
        if symbol is None or first is None:
            continue
        days = [first] if first == last else find(symbol).sessions_in((closed(first, last),))
        symbols += [symbol] * len(days)
        sessions += days
    found = pa.table([pa.array(symbols, pa.string()), pa.array(sessions, pa.date32())], schema=GAPS)
    return found.group_by(GAPS.names).aggregate([]).sort_by([("symbol", "ascending"), ("session", "ascending")]).cast(GAPS)


def without_empty(findings: pa.Table, selection: Selection, coverage: Coverage) -> tuple[pa.Table, int]:
    """Return the findings without those of rows that the provider lacks, and the number of their cells.

    A further request would not explain them, and nobody but a person deletes them.
    """
    only = pc.equal(findings["cause"], str(Cause.ONLY_IN_WAREHOUSE))
    cells = cells_of(findings.filter(only), selection)
    empty = pc.fill_null(pc.equal(coverage.states(cells), str(State.EMPTY)), False)
    asked = cells.filter(pc.invert(empty))
    rows = [
        {"symbol": symbol, "first_session": session, "last_session": session}
        for symbol, session in zip(asked["symbol"].to_pylist(), asked["session"].to_pylist(), strict=True)
    ]
    place = {"dataset": selection.dataset.name, "source": selection.source, "key": None, "detail": "", "repair": str(Repair.FETCH)}
    again = pa.Table.from_pylist([{**row, **place, "cause": str(Cause.ONLY_IN_WAREHOUSE)} for row in rows], schema=FINDINGS)
    return pa.concat_tables([findings.filter(pc.invert(only)), again]), len(cells) - len(asked)


def cells_to_fetch(lake: Lake, selection: Selection, findings: pa.Table, coverage: Coverage) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the cells to request, and the unreadable objects."""
    broken = pc.equal(findings["cause"], str(Cause.OBJECT_UNREADABLE))
    unreadable = findings.filter(broken)
    aside = tuple(sorted(set(unreadable["key"].drop_null().to_pylist())))
    parts = [cells_of(findings.filter(pc.invert(broken)), selection), _cells_in(lake, selection, unreadable, coverage)]
    undated = findings.filter(pc.and_(pc.is_valid(findings["symbol"]), pc.is_null(findings["first_session"])))
    parts.append(_last_cells(undated["symbol"].unique().to_pylist(), coverage))
    cells = pa.concat_tables(parts).group_by(GAPS.names).aggregate([])
    return cells.sort_by([("symbol", "ascending"), ("session", "ascending")]).cast(GAPS), aside


def _cells_in(lake: Lake, selection: Selection, findings: pa.Table, coverage: Coverage) -> pa.Table:
    """Return the cells of unreadable objects that may have had rows which no other object has.

    Several documents hold the rows of one cell: what others hold tells nothing of an unreadable one.
    """
    from market_data.lake.coverage import contains

    cells = cells_of(findings, selection)
    if not len(cells) or selection.dataset.files.date != "session":
        return cells
    without = pc.fill_null(pc.equal(coverage.states(cells), str(State.EMPTY)), False)
    cells = cells.filter(pc.invert(without))
    return cells.filter(pa.array(~contains(rows_of_cells(lake, selection, cells), cells)))


def _last_cells(symbols: Sequence[str], coverage: Coverage) -> pa.Table:
    """Return the last recorded cell of each symbol.

    One response has all rows of a dataset whose objects are not by session.
    """
    latest: defaultdict[str, date] = defaultdict(lambda: date.min)
    table = coverage.table.select(["symbol", "session"])
    table = table.filter(pc.is_in(table["symbol"].cast(pa.string()), pa.array(symbols, pa.string())))
    for symbol, session in zip(table["symbol"].to_pylist(), table["session"].to_pylist(), strict=True):
        latest[symbol] = max(latest[symbol], session)
    return pa.table([pa.array(list(latest), pa.string()), pa.array(list(latest.values()), pa.date32())], schema=GAPS)
