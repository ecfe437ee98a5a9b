"""The findings of the latest audit, without those that were repaired since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.dates import microseconds
from market_data.core.intervals import closed
from market_data.maintenance.findings import FINDINGS, Repair
from market_data.providers.registry import calendar_of_source

if TYPE_CHECKING:
    from market_data.core.instruments import CalendarOf
    from market_data.views.records import Mask, Records

BY_RECORD = (Repair.FETCH, Repair.LEDGER)
"""Repairs that leave a record. The others cost nothing, and the next audit tells if they are done."""


def still_open(records: Records, source: str, findings: pa.Table, audited: datetime) -> pa.Table:
    """Return an audit's findings without the cells that were repaired since.

    Nobody shall pay for them again. A cell to request is repaired by a record later than ``audited``. A cell to record had none then, so
    any record repairs it: a rebuilt one has the moment of the response. A request of a symbol's last cell repairs findings without dates.

    :param findings: schema ``FINDINGS``.
    """
    by_record = pc.is_in(findings["repair"], pa.array(sorted(map(str, BY_RECORD))))
    rows, find, moment = findings.filter(by_record).to_pylist(), calendar_of_source(source), microseconds(audited)
    spans = [_sessions(row, find) for row in rows]
    cells = [(row["symbol"], session) for row, span in zip(rows, spans, strict=True) for session in span]
    current = records.current([symbol for symbol, _ in cells], [session for _, session in cells])
    later = np.append(records.stamps > moment, np.False_)[current]
    kept: list[Mapping[str, Any]] = []
    start = 0
    for row, span in zip(rows, spans, strict=True):
        own = slice(start, start := start + len(span))
        if span:
            kept += _parts(row, span, current[own] >= 0 if row["repair"] == Repair.LEDGER else later[own])
        elif records.last_stamps.get(row["symbol"], moment) <= moment:
            kept.append(row)
    return pa.concat_tables([findings.filter(pc.invert(by_record)), pa.Table.from_pylist(kept, schema=FINDINGS)])


def _sessions(row: Mapping[str, Any], find: CalendarOf) -> Sequence[date]:
    """Return the sessions of a finding; none if it is not about cells with a date."""
    symbol, first, last = row["symbol"], row["first_session"], row["last_session"]
    if symbol is None or first is None:
        return ()
    return (first,) if first == last else find(symbol).sessions_in((closed(first, last),))


def _parts(row: Mapping[str, Any], sessions: Sequence[date], done: Mask) -> Iterator[Mapping[str, Any]]:
    """Yield a finding as it is, or its parts that are not done."""
    if not done.any():
        yield row
        return
    for is_done, part in groupby(zip(done.tolist(), sessions, strict=True), key=lambda one: one[0]):
        if not is_done:
            days = [session for _, session in part]
            yield {**row, "first_session": days[0], "last_session": days[-1]}
