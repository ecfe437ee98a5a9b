"""Tell the warehouse which dates' corporate actions are loaded.

Prices of other dates are not adjusted.

A date of a symbol is known if a whole response on it was received and all of it is loaded: with actions, or without any. A cell that is
quarantined, refused or not available yet is not known. Bars are adjusted to the terms of the last known date, so only the dates that
lead up to it without a gap count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_data.core import calendar
from market_data.core.outcome import FINAL, MAY_BE_MORE, NOTHING_YET, State
from market_data.pipeline.decided import kept

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.lake.coverage import Coverage
    from market_data.lake.receipts import RequestReceipt
    from market_data.lake.store import Lake

DAY = timedelta(days=1)
NEVER = (date(1900, 1, 1), date(1900, 1, 1))
"""A span without a session."""


def known_actions(
    lake: Lake, source: str, started: datetime, receipts: Sequence[RequestReceipt] = (), checked: Any = None
) -> list[tuple[str, str, date, date]]:
    """Return the known dates of each symbol of a provider for ``Warehouse.know_actions``.

    They are those of the ledger and of requests that are loaded now.

    :param started: when the run started.
    :param receipts: of requests whose cells the ledger does not have yet.
    :param checked: the decision on them; see ``check_run``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
    from market_data.lake.cells import table_of
    from market_data.lake.coverage import contains
    from market_data.lake.ledger import read_coverage
    from market_data.quality.verdicts import is_refused

    coverage = read_coverage(lake, CORPORATE_ACTIONS.name, source)
    if checked is not None:
        cells = table_of(run for receipt in receipts for run in receipt.cells)
        refused = [verdict["partition"] for verdict in checked["refused"]]
        held = is_refused(cells, refused)
        if (decided := kept(lake, checked)) is not None:  # a person has let them pass, or they are wrong for good
            held = pc.and_not(held, pa.array(contains(decided, cells)))
        # Not the moment of the run: a record of another run's clock may be later, and this response is the newest.
        stamp = coverage.next_stamp(cells, started)
        coverage = coverage.updated([cells.filter(pc.invert(held))], stamp)
    spans = known_spans(coverage).to_pydict()
    found = {symbol: (first, last) for symbol, first, last in zip(*spans.values(), strict=True)}
    # A symbol that has lost its known dates has a row in the warehouse that must not stay.
    return [(symbol, source, *found.get(symbol, NEVER)) for symbol in coverage.table["symbol"].cast("string").unique().to_pylist()]


def known_spans(coverage: Coverage) -> pa.Table:
    """Return ``symbol``, ``known_from``, ``known_to`` per symbol with a known date.

    ``known_from`` is the session before the first known one: its bar needs no action of its own date.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    fields = [("symbol", pa.string()), ("known_from", pa.date32()), ("known_to", pa.date32())]
    schema = pa.schema([pa.field(*field, nullable=False) for field in fields])
    states, reasons = (coverage.table[name].cast(pa.string()) for name in ("state", "reason"))
    final = pc.is_in(states, pa.array(sorted(map(str, FINAL))))
    recent = pc.or_(pc.starts_with(reasons, MAY_BE_MORE), pc.starts_with(reasons, NOTHING_YET))
    known = coverage.table.filter(pc.or_(final, pc.and_(pc.equal(states, str(State.PENDING)), recent)))
    if not len(known):
        return schema.empty_table()
    axis = np.array(calendar.sessions(pc.min(known["session"]).as_py(), pc.max(known["session"]).as_py() + DAY), "datetime64[D]")
    symbols = known["symbol"].cast(pa.string()).combine_chunks().dictionary_encode()
    codes = symbols.indices.to_numpy().astype(np.int64)
    places = codes * (len(axis) + 1) + np.searchsorted(axis, known["session"].to_numpy())
    places.sort()
    # A span ends where the next place is not the next session of the same symbol; the last span of each symbol counts.
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    ends = np.append(starts[1:], len(places)) - 1
    of = places[starts] // (len(axis) + 1)
    last = np.append(of[1:] != of[:-1], True)
    first_days, last_days = (axis[places[edge][last] % (len(axis) + 1)] for edge in (starts, ends))
    before = [_before(day) for day in first_days.tolist()]
    names = symbols.dictionary.take(pa.array(of[last]))
    return pa.table([names, pa.array(before, pa.date32()), pa.array(last_days, pa.date32())], schema=schema)


def _before(day: date) -> date:
    return calendar.previous_session(day) if day > calendar.FIRST + 10 * DAY else day
