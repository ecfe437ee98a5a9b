"""Values of the warehouse for page Prices: features, factors of adjusted prices, restatements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_data.core.dates import naive_utc
from market_data.core.errors import MarketDataError
from market_data.views.price_marks import RESTATED

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.views.price_range import Chosen
    from market_data.warehouse.base import Warehouse

OpenWarehouse = Callable[[], AbstractContextManager["Warehouse"]]

MOST_MARKS = 500
"""Restated bars that are marked, latest first."""

FEATURES = ("ma_20", "ma_50", "close_stddev_20d")
WHERE = "WHERE symbol = ? AND provider = ? AND timeframe = ? AND bar_time >= ? AND bar_time < ?"
SELECT_FEATURES = f"SELECT bar_time, {', '.join(FEATURES)} FROM gold_price_features {WHERE} ORDER BY bar_time"  # noqa: S608 - our own names
SELECT_FACTORS = f"SELECT bar_time, split_factor, adj_factor FROM gold_adjusted_prices {WHERE}"  # noqa: S608 - our own names
VALUES = {"open": "open_px", "high": "high_px", "low": "low_px", "close": "close_px", "volume": "volume"}
OLD_AND_NEW = ", ".join(f"old_{column}, new_{column}" for column in VALUES.values())
SELECT_RESTATED = (
    f"SELECT bar_time, {OLD_AND_NEW}, restated_at, run_id FROM gold_restatements {WHERE} "  # noqa: S608 - our own names
    "ORDER BY bar_time DESC, restated_at DESC"
)

Factors = Mapping[date, tuple[float, float]]
"""Session -> the factor of prices, and that of splits alone, by which volumes are divided."""


def gold_of(chosen: Chosen, open_warehouse: OpenWarehouse) -> dict[str, Any]:
    """Return features of daily bars and the restated bars of a range.

    :return: ``features``, columns with ``time``, empty for bars within the day; ``restated``, marks as ``marks_of`` returns them;
        ``notes``; ``problem``: why the warehouse cannot be read, else empty.
    """
    found: dict[str, Any] = {"features": {}, "restated": [], "notes": [], "problem": ""}
    try:
        with open_warehouse() as opened:
            restated = _query(opened, SELECT_RESTATED, chosen, chosen.dataset.timeframe)
            if not chosen.dataset.is_intraday:
                features = _query(opened, SELECT_FEATURES, chosen, chosen.dataset.timeframe)
                times = [chosen.clock(_utc(moment)) for moment in features["bar_time"].to_pylist()]
                found["features"] = {"time": times, **{name: _floats(features, name) for name in FEATURES}}
    except MarketDataError as error:
        return {**found, "problem": str(error)}
    marks = [mark for row in restated.to_pylist() if (mark := _restated(chosen, row))]
    if len(marks) > MOST_MARKS:
        found["notes"] = [f"{len(marks):,} restated bars: the latest {MOST_MARKS} are marked"]
    return {**found, "restated": sorted(marks[:MOST_MARKS], key=lambda one: one["time"])}


def factors_of(chosen: Chosen, source: str, kind: str, opened: Warehouse) -> Factors:
    """Return the factors of the sessions whose corporate actions the warehouse knows.

    They are those of the daily bars of ``source``.

    :param kind: ``splits``, or ``all`` for splits and dividends.
    """
    found = _query(opened, SELECT_FACTORS, chosen, "1d", source)
    splits, everything = (_floats(found, name) for name in ("split_factor", "adj_factor"))
    price = splits if kind == "splits" else everything
    rows = zip(found["bar_time"].to_pylist(), price, splits, strict=True)
    return {moment.date(): (factor, split) for moment, factor, split in rows if factor is not None and split is not None}


def _query(opened: Warehouse, statement: str, chosen: Chosen, timeframe: str, source: str | None = None) -> pa.Table:
    bounds = [naive_utc(moment) for moment in chosen.moments()]
    return opened.query(statement, [chosen.symbol, source or chosen.place.source, timeframe, *bounds])


def _floats(found: pa.Table, name: str) -> list[float | None]:
    return [None if value is None else float(value) for value in found[name].to_pylist()]


def _restated(chosen: Chosen, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the mark of a restated bar, None if its session is outside the range."""
    moment = _utc(row["bar_time"])
    session = chosen.calendar.session_of(moment) if chosen.dataset.is_intraday else moment.date()
    if not chosen.first <= session <= chosen.last:
        return None
    pairs = {name: (row[f"old_{column}"], row[f"new_{column}"]) for name, column in VALUES.items()}
    changes = [f"{name} {_number(old)} to {_number(new)}" for name, (old, new) in pairs.items() if old != new]
    by = f" by run {row['run_id']}" if row["run_id"] else ""
    text = f"{', '.join(changes) or 'other values'}, {row['restated_at']:%Y-%m-%d %H:%M} UTC{by}"
    return {"time": chosen.clock(moment), "session": session.isoformat(), "kind": RESTATED, "text": text}


def _number(value: Any) -> str:
    return "none" if value is None else f"{float(value):.10g}"


def _utc(moment: datetime) -> datetime:
    """Return a moment of the warehouse, whose tables have naive UTC."""
    return moment.replace(tzinfo=UTC)
