"""Read Interactive Brokers' bars: from the client library's objects to columns. No I/O."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from ib_async import BarData

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.datasets.registry import dataset as find_dataset
from market_data.providers.ib.contracts import Instrument, Step


def mismatch(instrument: Instrument, bars: Sequence[BarData], step: Step) -> str:
    """Return why bars cannot be the response to a request, or nothing.

    Some may lie before its dates: durations are counted generously.
    """
    dates = step.dates
    earliest = dates.start - (dates.end - dates.start) - timedelta(days=10)
    sessions = (_session(instrument, bar) for bar in bars)
    strange = sorted({day for day in sessions if not earliest <= day < dates.end})
    return f"rows of {', '.join(map(str, strange[:3]))} came" if strange else ""


def _session(instrument: Instrument, bar: BarData) -> date:
    return instrument.session(bar.date) if isinstance(bar.date, datetime) else bar.date


def table(request: Request, instrument: Instrument, bars: Sequence[BarData], dates: Interval) -> pa.Table:
    """Return the bars of sessions in ``dates`` as columns."""
    sessions = set(calendar.sessions(dates.start, dates.end))
    kept = [(day, bar) for day, bar in ((_session(instrument, bar), bar) for bar in bars) if day in sessions]
    opened = [
        bar.date if isinstance(bar.date, datetime) else datetime(day.year, day.month, day.day, tzinfo=UTC) for day, bar in kept
    ]
    schema = find_dataset(request.dataset).received
    counted = instrument.kind != "IND"
    columns: dict[str, Any] = {
        "symbol": [request.symbols[0]] * len(kept),
        "session": [day for day, _ in kept],
        "bar_time": opened,
        "adj_close": [None] * len(kept),
        **{name: [_number(getattr(bar, name)) for _, bar in kept] for name in ("open", "high", "low", "close")},
        "volume": [_amount(bar.volume) if counted else None for _, bar in kept],
        "vwap": [_amount(bar.average) or None if counted else None for _, bar in kept],
        "trade_count": [bar.barCount if counted and bar.barCount >= 0 else None for _, bar in kept],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _number(value: float) -> float | None:
    """Return None for a missing value: not a number, or the largest one, which is the protocol's null."""
    return float(value) if math.isfinite(value) and abs(value) < sys.float_info.max else None


def _amount(value: float) -> float | None:
    """Return the same, and -1 where there can be none."""
    number = _number(value)
    return None if number is None or number < 0 else number
