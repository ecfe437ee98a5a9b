"""What there is after a step: lake, silver, ledger, staging, reports. Read in a child process, as values that can be compared."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from market_data.core.outcome import State
from market_data.datasets.base import Dataset
from market_data.lake import begun, parquet
from market_data.lake.reader import newest
from market_data.lake.store import Lake
from market_data.maintenance.held_rows import COPY
from market_data.warehouse.base import Warehouse
from market_data.warehouse.schema import table as warehouse_table
from tests.pipeline.model_checks import recorded_states, staged_cells
from tests.pipeline.model_vendor import Cell

Print = tuple[int, str]
"""Rows of a cell: their number, and a hash of keys and values."""


@dataclass
class Snapshot:
    """What lake and warehouse hold.

    :param twice: sentences on rows that are stored twice where one is right. ``strays``: on rows of silver that the lake lacks.
    :param quarantined: cells with rows in quarantine. ``copies``: those of which a second copy of a row is there, and one is in the lake.
    :param marks: requests that were begun and are not in staging.
    """

    lake: dict[Cell, Print] = field(default_factory=dict)
    silver: dict[Cell, Print] = field(default_factory=dict)
    ledger: dict[Cell, tuple[State, str]] = field(default_factory=dict)
    staged: dict[Cell, list[str]] = field(default_factory=dict)
    quarantined: set[Cell] = field(default_factory=set)
    copies: set[Cell] = field(default_factory=set)
    marks: list[str] = field(default_factory=list)
    staging_objects: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


def take(lake: Lake, warehouse: Warehouse | None, dataset: Dataset, source: str) -> Snapshot:
    """Read everything of a dataset and source."""
    found = Snapshot()
    rows = lake_rows(lake, dataset, found.twice)
    found.lake = prints(rows, dataset)
    found.ledger = recorded_states(lake, dataset.name, source)
    found.staged = staged_cells(lake, dataset.name, source)
    found.marks = sorted(begun.marks(lake, dataset.name, source)[0])
    found.staging_objects = [key for key, _ in lake.list("staging")]
    for key, _ in lake.list("quarantine"):
        stored = lake.get(key)
        if stored is not None:
            held = parquet.decode(stored.body, key)
            for cell, reasons in zip(_cells(held), held["reasons"].to_pylist(), strict=True):
                (found.copies if reasons == COPY else found.quarantined).add(cell)
    for key, _ in lake.list("logs"):
        if key.endswith(".flag"):
            found.flags.add(key)
        elif (stored := lake.get(key)) is not None:
            found.reports[key] = json.loads(stored.body)
    if warehouse is not None and dataset.table:
        _silver(warehouse, dataset, source, rows, found)
    return found


def lake_rows(lake: Lake, dataset: Dataset, twice: list[str]) -> pa.Table:
    """Return the current rows of the whole lake."""
    tables = [dataset.schema.empty_table()]
    for key, _ in lake.list("raw"):
        stored = lake.get(key)
        if stored is None:
            continue
        rows = parquet.decode_rows(stored.body, key, dataset)
        keys = Counter(zip(*(rows[name].to_pylist() for name in dataset.key), strict=True))
        twice += [f"{key} has {count} rows of {row}" for row, count in keys.items() if count > 1]
        tables.append(rows)
    return newest(pa.concat_tables(tables), dataset)


def _columns(dataset: Dataset) -> list[tuple[str, str]]:
    """Return the lake's and the warehouse's name of each column of key and values."""
    if dataset.table is None:
        return [(name, name) for name in (*dataset.key, *dataset.values)]
    target = warehouse_table(dataset.table)
    return [(column.source, column.name) for column in (*target.key, *target.values) if column.source in dataset.schema.names]


def prints(rows: pa.Table, dataset: Dataset) -> dict[Cell, Print]:
    """Return the print of each cell of lake rows."""
    names = [name for name, _ in _columns(dataset)]
    return _prints(
        (cell, row)
        for cell, row in zip(_cells(rows), zip(*(map(_plain, rows[name].to_pylist()) for name in names), strict=True), strict=True)
    )


def _cells(rows: pa.Table) -> list[Cell]:
    return list(zip(rows["symbol"].to_pylist(), rows["session"].to_pylist(), strict=True))


def _prints(rows: Iterable[tuple[Cell, tuple[Any, ...]]]) -> dict[Cell, Print]:
    found: dict[Cell, list[str]] = {}
    for cell, row in rows:
        found.setdefault(cell, []).append(repr(row))
    return {
        cell: (len(all_of), hashlib.sha256("\n".join(sorted(all_of)).encode()).hexdigest()[:12]) for cell, all_of in found.items()
    }


def _plain(value: Any) -> Any:
    """Return a value as lake and warehouse both have it: six digits, naive UTC microseconds."""
    if isinstance(value, Decimal | float):
        return round(float(value), 6) + 0.0
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return moment.replace(tzinfo=None, microsecond=moment.microsecond).isoformat(timespec="microseconds")[:26]
    if isinstance(value, date):
        return value.isoformat()
    return None if value == "" else value


def _silver(warehouse: Warehouse, dataset: Dataset, source: str, rows: pa.Table, found: Snapshot) -> None:
    columns = _columns(dataset)
    target = warehouse_table(dataset.table or "")
    selected = ", ".join(name for _, name in columns)
    where = f"WHERE provider = '{source}'" + (f" AND timeframe = '{dataset.timeframe}'" if dataset.timeframe else "")
    held = warehouse.query(f"SELECT {selected} FROM {target.silver} {where}")  # our own names
    keys = [(column.source, column.name) for column in target.key if column.source in dataset.schema.names]
    place: Mapping[tuple[Any, ...], Cell] = dict(
        zip(zip(*(map(_plain, rows[name].to_pylist()) for name, _ in keys), strict=True), _cells(rows), strict=True)
    )
    values = [tuple(map(_plain, row)) for row in zip(*(held[name.lower()].to_pylist() for _, name in columns), strict=True)]
    mine = [tuple(map(_plain, row)) for row in zip(*(held[name.lower()].to_pylist() for _, name in keys), strict=True)]
    found.twice += [f"silver has {count} rows of {row}" for row, count in Counter(mine).items() if count > 1]
    found.strays = [f"silver has {row}, the lake has not" for row in mine if row not in place][:5]
    found.silver = _prints((place[key], row) for key, row in zip(mine, values, strict=True) if key in place)


def loads_without_audit(warehouse: Warehouse, dataset: Dataset) -> list[str]:
    """Return the loads of which rows are in bronze or silver, and that were never committed as a whole."""
    target = warehouse_table(dataset.table or "")
    found = []
    for table in (target.bronze, target.silver):
        rows = warehouse.query(f"SELECT DISTINCT load_id FROM {table} WHERE load_id NOT IN (SELECT load_id FROM load_audit)")
        found += [f"{table} {load}" for load in rows["load_id"].to_pylist()]
    return found
