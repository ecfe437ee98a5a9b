"""Name and look up the partitions of verdicts: a session ``2016-03-04``, a symbol-year ``AAPL/2016``.

A symbol may contain a slash itself (``BRK/B/2016``): the year follows the last slash, and an ISO date has none, so names are unambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.outcome import State, Verdict


def partition_of(symbol: str, session: date) -> str:
    """Return the symbol-year of a bar. The partition of its session is the ISO date."""
    return f"{symbol}/{session.year}"


def parse(partition: str) -> date | tuple[str, int]:
    """Return the session, or the symbol and year, that ``partition`` names.

    :raises ValueError: if it names neither.
    """
    symbol, slash, year = partition.rpartition("/")
    if not slash:
        return date.fromisoformat(partition)
    if not symbol or not year.isdecimal():
        raise ValueError(f"partition is {partition!r}; an ISO date or SYMBOL/YEAR is allowed")
    return symbol, int(year)


def session_of(partition: str) -> date | None:
    """Return the session that ``partition`` names; None for a symbol-year."""
    found = parse(partition)
    return found if isinstance(found, date) else None


def verdict_of(verdicts: Mapping[str, Verdict], symbol: str, session: date) -> Verdict | None:
    """Return the verdict on a cell, or None where ``verdicts`` has none.

    :param verdicts: by partition, of both kinds, all refused or all passed; the session's verdict takes precedence.
    """
    return verdicts.get(session.isoformat()) or verdicts.get(partition_of(symbol, session))


def allowed(rows: pa.Table, refused: Iterable[str]) -> pa.Table:
    """Return ``rows`` without those of refused partitions, of either kind; see ``is_refused``."""
    names = list(refused)
    return rows.filter(pc.invert(is_refused(rows, names))) if names else rows


def is_refused(rows: pa.Table, refused: Iterable[str]) -> pa.ChunkedArray | pa.Array:
    """Return a mask of the rows in a refused partition, of either kind.

    :param rows: has ``symbol`` and ``session`` (date32).
    :param refused: partitions; those without rows have no effect.
    """
    names = pa.array(list(refused), pa.string())
    if not len(names):
        return pa.repeat(False, len(rows))
    by_session = pc.is_in(rows["session"].cast(pa.string()), names)
    return pc.or_(by_session, pc.is_in(year_partitions(rows), names))


def refused_states(cells: pa.Table, refused: Mapping[str, Verdict]) -> pa.Table:
    """Set the cells of refused partitions to ``refused``, those without rows included.

    :param cells: ``symbol``, ``session``, ``state``, ``reason``.
    """
    if not refused or not len(cells):
        return cells
    names = pa.array(list(refused), pa.string())
    by_session = pc.index_in(cells["session"].cast(pa.string()), value_set=names)
    verdict = pc.coalesce(by_session, pc.index_in(year_partitions(cells), value_set=names))
    why = pa.array(["; ".join(v.reasons) for v in refused.values()], pa.string()).take(verdict.combine_chunks())
    hit = pc.is_valid(verdict)
    columns = {
        "symbol": cells["symbol"],
        "session": cells["session"],
        "state": pc.if_else(hit, str(State.REFUSED), cells["state"]),
        "reason": pc.if_else(hit, why, cells["reason"]),
    }
    return pa.table(columns, schema=cells.schema)


def year_partitions(rows: pa.Table) -> pa.ChunkedArray:
    """Return ``partition_of`` for each row; null where symbol or session is."""
    years = pc.cast(pc.year(rows["session"]), pa.string())
    return pc.binary_join_element_wise(pc.cast(rows["symbol"], pa.string()), years, "/")
