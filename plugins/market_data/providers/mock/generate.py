"""Generate seeded rows of every dataset. Minutes and trades add up to the daily bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_data.core.batch import Request
from market_data.datasets import generated
from market_data.datasets.registry import dataset as find_dataset

Columns = Mapping[str, Any]
"""Names of columns -> values, one a row; those of the dataset that are missing are null."""


def rows(request: Request, seed: int) -> pa.Table:
    """Return all rows of the request, by symbol and then by time."""
    keys = {symbol: generated.key(seed, symbol) for symbol in request.symbols}
    columns = MAKERS[request.dataset](request, keys, request.sessions)
    schema, count = find_dataset(request.dataset).received, len(columns["symbol"])
    made = [
        pa.array(columns[field.name], field.type, from_pandas=True) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(made, schema=schema)


def _days(_: Request, keys: Mapping[str, int], sessions: Sequence[date]) -> Columns:
    ids = np.array(list(keys.values()), np.uint64).reshape(-1, 1)
    values = generated.columns(ids, np.array([session.toordinal() for session in sessions], np.int64))
    dates = np.tile(np.array(sessions, "datetime64[D]"), len(keys))
    names = ("open", "high", "low", "close", "volume", "vwap")
    return {
        "symbol": np.repeat(np.array(list(keys), dtype=object), len(sessions)),
        "session": dates,
        "bar_time": dates.astype("datetime64[us]"),
        **{name: column.ravel() for name, column in zip(names, values, strict=True)},
    }


def _minutes(request: Request, keys: Mapping[str, int], sessions: Sequence[date]) -> Columns:
    found = generated.minutes(generated.cells(list(keys.values()), sessions))
    found = generated.fold(found, 5) if request.dataset == "ohlcv-5m" else found
    return {
        **_cells(found.cell, keys, sessions),
        "bar_time": (found.time // 1000).astype("datetime64[us]"),
        **{name: getattr(found, name) for name in ("open", "high", "low", "close", "volume", "vwap")},
        "trade_count": found.trades,
    }


def _trades(_: Request, keys: Mapping[str, int], sessions: Sequence[date]) -> Columns:
    found = generated.trades(generated.cells(list(keys.values()), sessions))
    quotes = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
    return {
        **_cells(found.cell, keys, sessions),
        **_events(found),
        **{name: getattr(found, name) for name in ("price", "size", "side", *quotes)},
    }


def _statistics(_: Request, keys: Mapping[str, int], sessions: Sequence[date]) -> Columns:
    found = generated.statistics(generated.cells(list(keys.values()), sessions))
    return {
        **_cells(found.cell, keys, sessions),
        **_events(found),
        "stat_type": np.array(generated.STATISTICS, dtype=object)[found.kind],
        "price": found.price,
        "quantity": found.quantity,
        "update_action": np.full(len(found.cell), "new", dtype=object),
    }


def _fundamentals(request: Request, keys: Mapping[str, int], _: Sequence[date]) -> Columns:
    found = [
        statement
        for symbol, key in keys.items()
        for interval in request.intervals
        for statement in generated.statements(symbol, key, interval.start, interval.end)
    ]
    rows = [
        {
            "symbol": statement.symbol,
            "session": statement.filing_date,  # companies file on sessions here
            "statement": statement.statement,
            "period": statement.period,
            "fiscal_year": statement.fiscal_year,
            "period_end": statement.period_end,
            "filing_date": statement.filing_date,
            "accepted_at": statement.accepted,
            "currency": "USD",
            "item": item,
            "value": value,
        }
        for statement in found
        for item, value in statement.values.items()
    ]
    return _transposed(rows, request)


def _actions(request: Request, keys: Mapping[str, int], _: Sequence[date]) -> Columns:
    spans = [(keys, interval.start, interval.end) for interval in request.intervals]
    splits = [split._asdict() | {"action": "split"} for span in spans for split in generated.splits(*span)]
    paid = [
        dividend._asdict() | {"action": "dividend", "currency": "USD"} for span in spans for dividend in generated.dividends(*span)
    ]
    rows = [{**row, "session": row["ex_date"]} for row in splits + paid]  # ex-dates are sessions here
    return _transposed(sorted(rows, key=lambda row: (request.symbols.index(row["symbol"]), row["ex_date"])), request)


def _changes(request: Request, keys: Mapping[str, int], _: Sequence[date]) -> Columns:
    spans = [generated.symbol_changes(keys, interval.start, interval.end) for interval in request.intervals]
    rows = [
        {
            "symbol": symbol,
            "session": day,
            "effective_date": day,
            "old_symbol": old,
            "new_symbol": symbol,
            "issuer": f"{symbol} Inc.",
        }
        for span in spans
        for symbol, day, old in span
    ]
    return _transposed(sorted(rows, key=lambda row: (request.symbols.index(row["symbol"]), row["effective_date"])), request)


MAKERS: Mapping[str, Callable[[Request, Mapping[str, int], Sequence[date]], Columns]] = {
    "ohlcv-1d": _days,
    "ohlcv-5m": _minutes,
    "ohlcv-1m": _minutes,
    "trades": _trades,
    "tbbo": _trades,
    "statistics": _statistics,
    "fundamentals": _fundamentals,
    "corporate-actions": _actions,
    "symbol-changes": _changes,
}


def _cells(cell: NDArray[np.int64], keys: Mapping[str, int], sessions: Sequence[date]) -> Columns:
    """Symbol and session of rows.

    :param cell: which of all symbols x sessions each row belongs to.
    """
    symbol, session = np.divmod(cell, max(len(sessions), 1))
    return {
        "symbol": np.array(list(keys), dtype=object)[symbol],
        "session": np.array(sessions, "datetime64[D]")[session],
    }


def _events(found: generated.Trades | generated.Statistics) -> Columns:
    """Moment, sequence and ordinal of rows that are ordered by cell and time."""
    rows = np.arange(len(found.cell))
    same = [np.diff(column, prepend=-1) == 0 for column in (found.cell, found.time // 1000, found.sequence)]
    first = np.maximum.accumulate(np.where(np.logical_and.reduce(same), 0, rows))
    return {"ts_event": found.time.astype("datetime64[ns]"), "sequence": found.sequence, "ordinal": (rows - first).astype(np.int32)}


def _transposed(rows: list[dict[str, Any]], request: Request) -> Columns:
    return {name: [row.get(name) for row in rows] for name in find_dataset(request.dataset).received.names}
