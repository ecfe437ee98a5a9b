"""Bars of a company under all its symbols, adjusted for what it did under any of them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.symbol_changes import SYMBOL_CHANGES
from market_data.warehouse.base import Warehouse
from tests.warehouse.rows import SEEN, bar, dividend, later, midnight, split, table

CHANGED = date(2022, 6, 9)
BARS = [
    ("FB", date(2022, 6, 7), 100.0),
    ("FB", date(2022, 6, 8), 100.0),
    ("META", CHANGED, 50.0),
    ("META", date(2022, 6, 10), 10.0),
]
COMPANY = "SELECT company, symbol, adj_factor FROM gold_company_prices WHERE company = 'META' ORDER BY bar_time"


def change(symbol: str, **values: Any) -> dict[str, Any]:
    row = {"symbol": symbol, "session": CHANGED, "effective_date": CHANGED, "old_symbol": "FB", "new_symbol": "META"}
    return row | {"issuer": None, "withdrawn": None, "provider": "polygon", "ingest_ts": SEEN} | values


@pytest.fixture
def loaded(warehouse: Warehouse) -> Warehouse:
    warehouse.load(OHLCV_1D, table(*(bar(symbol, midnight(day), close=close) for symbol, day, close in BARS)), "bars")
    return warehouse


def load(warehouse: Warehouse, *rows: dict[str, Any], dataset: Any = SYMBOL_CHANGES, name: str = "changes") -> None:
    warehouse.load(dataset, table(*rows, dataset=dataset), name)


def test_bars_of_the_old_symbol_are_adjusted_for_actions_of_the_new_one(loaded: Warehouse) -> None:
    load(loaded, change("META"), change("FB"))
    actions = [split("META", CHANGED, (1, 2)), dividend("META", date(2022, 6, 10), 5.0), split("FB", date(2022, 6, 8), (1, 3))]
    load(loaded, *actions, dataset=CORPORATE_ACTIONS, name="actions")
    found = loaded.query(COMPANY).to_pylist()
    assert [row["symbol"] for row in found] == ["FB", "FB", "META", "META"]
    assert [float(row["adj_factor"]) for row in found] == pytest.approx([0.9 / 6, 0.9 / 2, 0.9, 1.0])
    alone = loaded.query("SELECT adj_factor FROM gold_adjusted_prices WHERE symbol = 'FB' ORDER BY bar_time")["adj_factor"]
    assert [float(factor) for factor in alone.to_pylist()] == pytest.approx([1 / 3, 1.0])


def test_without_the_actions_of_the_new_symbol_nothing_before_is_adjusted(loaded: Warehouse) -> None:
    load(loaded, change("META"))
    loaded.know_actions(
        [("FB", "polygon", date(2022, 6, 1), date(2022, 6, 8)), ("META", "polygon", date(2022, 6, 10), date(2022, 6, 10))]
    )
    assert [row["adj_factor"] for row in loaded.query(COMPANY).to_pylist()] == [None, None, None, 1.0]


def test_a_change_that_is_withdrawn_parts_the_company(loaded: Warehouse) -> None:
    load(loaded, change("META"))
    load(loaded, change("META", withdrawn=True, ingest_ts=later(1)), name="withdrawn")
    assert [row["symbol"] for row in loaded.query(COMPANY).to_pylist()] == ["META", "META"]
    load(loaded, change("META", ingest_ts=later(2)), name="back")
    assert [row["symbol"] for row in loaded.query(COMPANY).to_pylist()] == ["FB", "FB", "META", "META"]
