"""A key that something else than a load wrote twice: a load leaves one of equal rows, names others, and never multiplies rows.

DuckDB only: its tables of rows have no primary keys, which would forbid it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from market_data.core.errors import WarehouseError
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.warehouse import WarehouseConnection, open_warehouse
from market_data.warehouse.base import Loaded, Warehouse
from tests.warehouse.rows import SEEN, bars, later
from tests.warehouse.test_restore import change, count

RUN = RunInfo("polygon_ohlcv_1d", "run", "manual", 0, SEEN)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(tmp_path / "market.duckdb")})) as opened:
        opened.migrate()
        opened.load(OHLCV_1D, seen(0), "first")
        yield opened


def seen(after: float, **values: float) -> pa.Table:
    """Return three bars of two symbols each, seen some seconds after the first."""
    return pa.concat_tables([bars(name, 3, ingest_ts=later(after), **values) for name in ("AAPL", "IBM")])


def double(warehouse: Warehouse, layer: str, columns: str = "*") -> None:
    """Write one row of IBM again."""
    where = f"symbol = 'IBM' AND bar_time = (SELECT MAX(bar_time) FROM {layer}_prices)"
    change(warehouse, f"INSERT INTO {layer}_prices SELECT {columns} FROM {layer}_prices WHERE {where}")


def volumes(warehouse: Warehouse) -> set[float]:
    return {float(value) for value in warehouse.query("SELECT DISTINCT volume FROM silver_prices")["volume"].to_pylist()}


def counts(warehouse: Warehouse) -> tuple[int, int]:
    return count(warehouse, "bronze_prices"), count(warehouse, "silver_prices")


@pytest.mark.parametrize("after", [-9, 0, 9], ids=["older", "same", "newer"])
@pytest.mark.parametrize("volume", [1000.0, 7.0], ids=["equal", "other"])
def test_a_load_leaves_one_of_equal_rows(warehouse: Warehouse, tmp_path: Path, caplog: Any, after: float, volume: float) -> None:
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(tmp_path / "other.duckdb")})) as other:
        other.migrate()
        other.load(OHLCV_1D, seen(0), "first")
        expected = other.load(OHLCV_1D, seen(after, volume=volume), "second", RUN), counts(other), volumes(other)
    for _ in range(2):
        double(warehouse, "silver")
    found = warehouse.load(OHLCV_1D, seen(after, volume=volume), "second", RUN)
    assert (found, counts(warehouse), volumes(warehouse)) == expected
    assert "silver_prices had 3 copies of rows, which no load wrote: they are removed" in caplog.text


@pytest.mark.parametrize("after", [-9, 0, 9], ids=["older", "same", "newer"])
def test_a_load_names_a_key_with_different_rows_and_changes_nothing(warehouse: Warehouse, after: float) -> None:
    double(warehouse, "silver", "* REPLACE ('other' AS row_hash, 7 AS volume)")
    before = counts(warehouse)
    with pytest.raises(WarehouseError) as caught:
        warehouse.load(OHLCV_1D, seen(after), "second", RUN)
    message = str(caught.value)
    assert "silver_prices has 1 key with more than one row" in message
    assert "symbol IBM, timeframe 1d, provider polygon, bar_time 2024-01-04 00:00:00" in message
    assert "the one whose row_hash is in bronze_prices, then load again" in message
    assert not caught.value.retriable
    assert counts(warehouse) == before
    change(warehouse, "DELETE FROM silver_prices s WHERE NOT EXISTS (SELECT 1 FROM bronze_prices b WHERE b.row_hash = s.row_hash)")
    warehouse.load(OHLCV_1D, seen(after), "second", RUN)
    assert count(warehouse, "silver_prices") == 6


def test_a_repair_leaves_one_row_of_a_key(warehouse: Warehouse) -> None:
    double(warehouse, "silver", "* REPLACE ('other' AS row_hash, 7 AS volume)")
    warehouse.restore(OHLCV_1D, seen(0), "restored")
    assert counts(warehouse) == (6, 6)
    assert volumes(warehouse) == {1000.0}


def test_symbols_without_such_a_key_are_loaded(warehouse: Warehouse) -> None:
    double(warehouse, "silver")
    assert warehouse.load(OHLCV_1D, bars("AAPL", 3, ingest_ts=later(9), volume=7.0), "second") == Loaded(3, 3)


@pytest.mark.parametrize(("after", "versions", "changed"), [(-9, 6, 0), (9, 6, 6), (0, 0, 0)], ids=["older", "newer", "known"])
def test_a_version_that_is_twice_in_bronze_multiplies_no_row(
    warehouse: Warehouse, after: float, versions: int, changed: int
) -> None:
    for _ in range(2):
        double(warehouse, "bronze")
    before = counts(warehouse)
    given = seen(after, volume=7.0) if versions else seen(after)
    assert warehouse.load(OHLCV_1D, given, "second") == Loaded(6, changed)
    assert counts(warehouse) == (before[0] + versions, before[1])


def test_a_repair_leaves_one_of_equal_versions_and_all_that_differ(warehouse: Warehouse) -> None:
    for _ in range(2):
        double(warehouse, "bronze")
    change(warehouse, "INSERT INTO bronze_prices SELECT * REPLACE ('other' AS load_id) FROM bronze_prices WHERE symbol = 'AAPL'")
    warehouse.restore(OHLCV_1D, seen(0), "restored")
    assert counts(warehouse) == (6 + 3, 6)
