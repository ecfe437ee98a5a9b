"""Refusals, quarantined rows, restatements, disagreements of providers, and the latest audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from market_data.core.calendar import XNYS
from market_data.core.errors import OTHER_FORM, MarketDataError
from market_data.core.outcome import State
from market_data.maintenance.audit.result import PREFIX
from market_data.maintenance.held_rows import quarantined_rows
from market_data.views.places import empty_note
from market_data.views.records import STATES, Numbers, Records, split
from market_data.views.run_reports import recent_reports, restatements
from market_data.warehouse.schema import table

if TYPE_CHECKING:
    from market_data.views.places import Place
    from market_data.warehouse.base import Warehouse

OpenWarehouse = Callable[[], AbstractContextManager["Warehouse"]]

MOST_SESSIONS = 60
"""Sessions whose quarantined rows are read, latest first."""

MOST_ROWS = 500
SESSIONS = 30
"""Sessions in which the closes of providers are compared."""

SHARE = 0.01
"""Difference of two closes, as a share, that is shown."""

PRICES = (
    "SELECT a.symbol, a.bar_time, a.provider AS provider_a, b.provider AS provider_b, a.close_px AS value_a, b.close_px AS value_b "
    "FROM {name} a JOIN {name} b ON a.symbol = b.symbol AND a.timeframe = b.timeframe AND a.bar_time = b.bar_time "
    "WHERE a.timeframe = ? AND a.bar_time >= ? AND a.provider <> b.provider AND (a.provider = ? OR b.provider = ?) "
    "AND a.provider < b.provider AND ABS(a.close_px - b.close_px) > ? * b.close_px ORDER BY a.bar_time DESC, a.symbol"
)
ACTIONS = (
    "SELECT symbol, ex_date, action_type, provider_a, provider_b, value_a, value_b FROM gold_action_differences "
    "WHERE provider_a = ? OR provider_b = ? ORDER BY ex_date DESC, symbol"
)


def quality_of(place: Place, open_warehouse: OpenWarehouse | None, now: datetime) -> dict[str, Any]:
    """Return what the page shows of a place.

    :param open_warehouse: None: disagreements are not looked up. If it cannot be read, a note says so.
    """
    records = place.records()
    rows, more = held_rows(place, records)
    reports = recent_reports(place.lake, now)
    restated = restatements(reports, place.selection.dataset.name, place.source)
    differences, notes = disagreements(place, open_warehouse, now)
    return {
        "version": records.version,
        "refused": held_cells(records, State.REFUSED),
        "quarantined": held_cells(records, State.QUARANTINED),
        "rows": rows,
        "cells_left_out": more,
        "restatements": restated[:MOST_ROWS],
        "disagreements": differences,
        "audit": latest_audit(place),
        "notes": [*notes, *empty_note(place.lake)],
    }


def held_cells(records: Records, state: State) -> list[dict[str, Any]]:
    """Return the cells that are in ``state``, a row per session and reason, latest first.

    All symbols are named: a decision on a row is on exactly these cells.
    """
    rows = _held(records, state)
    symbols, days = split(records.codes[rows])
    reasons = records.numbers["reason"][rows]
    order = np.lexsort((symbols, reasons, days))
    rows, symbols, days, reasons = rows[order], symbols[order], days[order], reasons[order]
    starts = np.flatnonzero(np.append(True, (days[1:] != days[:-1]) | (reasons[1:] != reasons[:-1])))[: len(rows)]
    found = []
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=False):
        latest = records.record(int(rows[start + int(np.argmax(records.stamps[rows[start:end]]))]))
        found.append(
            {
                "session": latest["session"].isoformat(),
                "reason": latest["reason"] or "no reason is recorded",
                "symbols": sorted(records.symbols[number] for number in symbols[start:end].tolist()),
                "run_id": latest["run_id"],
                "at": latest["recorded_at"].isoformat(),
            }
        )
    return sorted(found, key=lambda one: (one["session"], len(one["symbols"])), reverse=True)


def held_rows(place: Place, records: Records) -> tuple[list[dict[str, Any]], int]:
    """Return the quarantined rows of the latest sessions, and the number of cells without a listed row."""
    rows = _held(records, State.QUARANTINED)
    if not len(rows):
        return [], 0
    symbols, days = split(records.codes[rows])
    recent = days >= np.unique(days)[-MOST_SESSIONS:][0]
    names = pa.array(records.symbols, pa.string()).take(pa.array(symbols[recent]))
    cells = pa.table({"symbol": names, "session": pa.array(days[recent].astype("datetime64[D]"))})
    found, _ = quarantined_rows(place.lake, place.selection, cells, None)
    found = found.sort_by([("session", "descending"), ("symbol", "ascending")]).slice(0, MOST_ROWS)
    shown = [{name: _plain(value) for name, value in row.items() if value is not None} for row in found.to_pylist()]
    return shown, len(rows) - len({(one["symbol"], one["session"]) for one in shown})


def _held(records: Records, state: State) -> Numbers:
    """Return the rows of the current records that are in ``state``."""
    return records.latest[records.states[records.latest] == STATES.index(state)]


def disagreements(place: Place, open_warehouse: OpenWarehouse | None, now: datetime) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the values on which providers differ, and sentences on what cannot be looked up."""
    dataset = place.selection.dataset
    if open_warehouse is None or dataset.table is None:
        return [], []
    try:
        with open_warehouse() as opened:
            return list(_differences(place, opened, now)), []
    except MarketDataError as error:
        return [], [f"disagreements of providers are not known: {error}"]


def _differences(place: Place, warehouse: Warehouse, now: datetime) -> Iterator[dict[str, Any]]:
    dataset, source = place.selection.dataset, place.source
    if dataset.is_bars and dataset.timeframe == "1d" and dataset.table is not None:
        first = XNYS.recent_sessions(XNYS.last_completed_session(now), SESSIONS)[0]
        given = [dataset.timeframe, datetime(first.year, first.month, first.day), source, source, SHARE]  # noqa: DTZ001 - as stored
        found = warehouse.query(PRICES.format(name=table(dataset.table).silver), given)
        yield from (_difference("close", row["bar_time"].date(), row) for row in found.slice(0, MOST_ROWS).to_pylist())
    if dataset.name == "corporate-actions":
        found = warehouse.query(ACTIONS, [source, source])
        yield from (_difference(row["action_type"], row["ex_date"], row) for row in found.slice(0, MOST_ROWS).to_pylist())


def _difference(what: str, day: Any, row: dict[str, Any]) -> dict[str, Any]:
    values = {name: None if row[name] is None else float(row[name]) for name in ("value_a", "value_b")}
    providers = {name: row[name] for name in ("symbol", "provider_a", "provider_b")}
    return {**providers, "what": what, "session": f"{day:%Y-%m-%d}", **values}


def latest_audit(place: Place) -> dict[str, Any] | None:
    """Return the latest audit of a place: when, figures, causes, notes; None without one."""
    folder = f"{PREFIX}/{place.selection.dataset.name}/provider={place.source}"
    for day in reversed([name for name in place.lake.folders(folder) if "/date=" in name]):
        keys = [key for key, _ in place.lake.list(day) if key.endswith(".json")]
        stored = place.lake.get(keys[-1]) if keys else None
        if stored is not None:
            try:
                found = json.loads(stored.body)
                return {name: found[name] for name in ("at", "counts", "causes", "repairs", "notes")}
            except OTHER_FORM:
                return {"at": "", "counts": {}, "causes": {}, "repairs": {}, "notes": [f"{keys[-1]} cannot be read"]}
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return (
        value if isinstance(value, int | float | str | bool) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    )
