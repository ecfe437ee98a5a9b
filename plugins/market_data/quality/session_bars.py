"""Reduce stored rows of any dataset to the input of the metrics: one row per symbol and session.

Rows arrive table by table, split anyhow. Each table is reduced to one row per symbol and session, and so is the concatenation of the
results: the functions here accept their own output, so memory holds cells, not rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from market_data.datasets.bars import PRICES

CELL = [("symbol", pa.string()), ("session", pa.date32())]
BARS = pa.schema([*CELL, *((name, pa.float64()) for name in (*PRICES, "volume", "bars"))])
"""One bar per session. ``bars``: the number of intraday bars it was folded from; null for daily bars, or where unknown."""

OF_SESSIONS = ("symbol", "session", "close", "volume", "bars")
"""The columns that `bars_by_session` needs."""

FOLDED = pa.schema([*BARS, ("start", pa.int64()), ("end", pa.int64())])
"""``BARS`` with the bar_time of the first and the last intraday bar, microseconds UTC."""

COUNTS = pa.schema([*CELL, ("rows", pa.int64())])


def bars(table: pa.Table) -> pa.Table:
    """Return daily bars with the columns of ``BARS``, null where a column is missing.

    Rows without a symbol are dropped: the rows suite reports them.
    """
    return _conform(table, BARS)


def folded(table: pa.Table) -> pa.Table:
    """Fold intraday bars, or results of this function, to one row of ``FOLDED`` per symbol and session.

    Open of the first, highest high, lowest low, close of the last, sum of the known volumes.
    """
    if "start" not in table.column_names:
        moment = table["bar_time"].cast(pa.int64())
        table = table.append_column("start", moment).append_column("end", moment)
        table = table.append_column("bars", pa.repeat(1.0, len(table)))
    table = _conform(table, FOLDED).combine_chunks()
    symbols, sessions = pc.unique(table["symbol"]), table["session"].cast(pa.int32()).to_numpy()
    codes = pc.index_in(table["symbol"], symbols).to_numpy()
    order = np.lexsort((table["start"].to_numpy(), sessions, codes))
    new = (np.diff(codes[order], prepend=-1) != 0) | (np.diff(sessions[order], prepend=0) != 0)
    starts = np.flatnonzero(new)
    if not len(starts):
        return FOLDED.empty_table()

    def sorted_(name: str) -> NDArray[Any]:
        values: NDArray[Any] = table[name].to_numpy()[order]
        return values

    end, volume = sorted_("end"), sorted_("volume")
    known = np.isfinite(volume)
    sizes = np.diff(starts, append=len(order))
    latest = np.flatnonzero(end == np.repeat(np.maximum.reduceat(end, starts), sizes))
    last = latest[np.searchsorted(latest, starts)]
    total = np.where(np.logical_or.reduceat(known, starts), np.add.reduceat(np.where(known, volume, 0.0), starts), np.nan)
    columns = {
        "symbol": symbols.take(pa.array(codes[order][starts])),
        "session": pa.array(sessions[order][starts]).cast(pa.date32()),
        "open": sorted_("open")[starts],
        "high": np.fmax.reduceat(sorted_("high"), starts),
        "low": np.fmin.reduceat(sorted_("low"), starts),
        "close": sorted_("close")[last],
        "volume": total,
        "bars": np.add.reduceat(sorted_("bars"), starts),
        "start": sorted_("start")[starts],
        "end": end[last],
    }
    return pa.table(columns, schema=FOLDED)


def counts(table: pa.Table) -> pa.Table:
    """Count rows per symbol and session as ``COUNTS``. Accepts rows of any dataset, or earlier results."""
    rows = table["rows"] if "rows" in table.column_names else pa.repeat(1, len(table))
    cells = pa.table({"symbol": table["symbol"], "session": table["session"], "n": rows})
    found = cells.filter(pc.is_valid(cells["symbol"])).group_by(["symbol", "session"]).aggregate([("n", "sum")])
    return pa.table([found["symbol"], found["session"], found["n_sum"]], schema=COUNTS)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[name].cast(kind) if name in table.column_names else pa.nulls(len(table), kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    conformed = pa.table(columns, schema=schema)
    return conformed.filter(pc.is_valid(table["symbol"])) if table["symbol"].null_count else conformed
