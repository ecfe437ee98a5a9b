"""The log of quality: entries are there once, on every engine, and the checks of the tables are known before a load."""

from datetime import UTC, date, datetime

import pytest

from market_data.core.errors import DataError
from market_data.warehouse.base import Warehouse
from market_data.warehouse.quality_log import Event, LogEntry
from market_data.warehouse.schema import TABLES
from market_data.warehouse.storable import CHECKS, check_rows
from tests.warehouse.rows import bar, table

AT = datetime(2026, 11, 20, 12, 0, 1, 5, tzinfo=UTC)
REFUSED = LogEntry(
    AT, Event.REFUSED, "ohlcv-1d", "polygon", date(2026, 11, 19), date(2026, 11, 19), 30, "price jump: 30 of 30", run_id="r1"
)  # fmt: skip
RELEASED = LogEntry(AT, Event.RELEASED, "ohlcv-1d", "polygon", date(2026, 11, 19), date(2026, 11, 19), 30, "right", "AAPL", "Ada")


def test_an_entry_is_there_once_and_the_latest_counts(warehouse: Warehouse) -> None:
    warehouse.migrate()
    warehouse.log_quality([REFUSED, RELEASED])
    warehouse.log_quality([RELEASED])
    warehouse.log_quality([LogEntry(**{**REFUSED.__dict__, "cells": 31})])
    found = warehouse.query(
        "SELECT event, symbol, cells, decided_by, run_id, reason FROM gold_quality_log ORDER BY event"
    ).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("refused", None, 31, None, "r1", "price jump: 30 of 30"),
        ("released", "AAPL", 30, "Ada", None, "right"),
    ]


def test_no_entry_needs_no_table(warehouse: Warehouse) -> None:
    warehouse.log_quality([])


def test_entries_survive_json() -> None:
    assert LogEntry.from_json(RELEASED.to_json()) == RELEASED


def test_every_table_has_its_checks() -> None:
    assert set(CHECKS) == set(TABLES)


@pytest.mark.parametrize("values", [{"high": 1.0, "low": 2.0}, {"volume": -1.0}])
def test_a_bar_that_the_table_would_reject_is_known_before_the_load(warehouse: Warehouse, values: dict[str, float]) -> None:
    from market_data.warehouse.arrow_rows import to_wire

    rows = table(bar(**values))
    with pytest.raises(DataError, match="the warehouse cannot hold it"):
        check_rows(TABLES["prices"], to_wire(TABLES["prices"], rows, load_id="x", loaded_at=AT))
