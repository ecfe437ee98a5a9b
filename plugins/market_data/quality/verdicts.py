"""The partitions that verdicts speak of: a session, ``2016-03-04``, or a symbol and a year, ``AAPL/2016``.

A symbol may hold a slash itself (``BRK/B/2016``): the year is what follows the last one, and an ISO date has none, so no partition can
be taken for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.outcome import Verdict

Grain = Literal["day", "year"]


def partition_of(symbol: str, session: date) -> str:
    """The symbol-year that a bar of ``symbol`` in ``session`` belongs to; its session's partition is the ISO date."""
    return f"{symbol}/{session.year}"


def parse(partition: str) -> date | tuple[str, int]:
    """The session, or the symbol and year, that ``partition`` stands for.

    :raises ValueError: if it is neither.
    """
    symbol, slash, year = partition.rpartition("/")
    if not slash:
        return date.fromisoformat(partition)
    if not symbol or not year.isdecimal():
        raise ValueError(f"partition is {partition!r}; an ISO date or SYMBOL/YEAR is allowed")
    return symbol, int(year)


def session_of(partition: str) -> date | None:
    """The session that ``partition`` stands for; None where it is a symbol-year."""
    found = parse(partition)
    return found if isinstance(found, date) else None


def verdict_of(verdicts: Mapping[str, Verdict], symbol: str, session: date) -> Verdict | None:
    """The verdict on a cell, or None where none of ``verdicts`` is about it.

    :param verdicts: by partition, of both kinds, all refused or all passed; that on the session goes before that on the symbol-year.
    """
    return verdicts.get(session.isoformat()) or verdicts.get(partition_of(symbol, session))


def allowed(rows: pa.Table, refused: Iterable[str]) -> pa.Table:
    """``rows`` without those of refused partitions, of either kind; see ``is_refused``."""
    names = list(refused)
    return rows.filter(pc.invert(is_refused(rows, names))) if names else rows


def is_refused(rows: pa.Table, refused: Iterable[str]) -> pa.ChunkedArray | pa.Array:
    """Of each row whether it is of a refused partition, of either kind.

    :param rows: has ``symbol`` and ``session`` (date32).
    :param refused: partitions; ones that no row is in do no harm.
    """
    names = pa.array(list(refused), pa.string())
    if not len(names):
        return pa.repeat(False, len(rows))
    by_session = pc.is_in(rows["session"].cast(pa.string()), names)
    return pc.or_(by_session, pc.is_in(year_partitions(rows), names))


def year_partitions(rows: pa.Table) -> pa.ChunkedArray:
    """Of each row what ``partition_of`` says; null where symbol or session is."""
    years = pc.cast(pc.year(rows["session"]), pa.string())
    return pc.binary_join_element_wise(pc.cast(rows["symbol"], pa.string()), years, "/")
