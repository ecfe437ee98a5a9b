"""What every engine must do. Runs once for each engine in ``conftest.CONNECTIONS``."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as dt_time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core import calendar
from market_data.core.errors import ConfigError, DataError, WarehouseError
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M, OHLCV_5M
from market_data.datasets.base import Dataset
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.datasets.ticks import TRADES
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.base import NEW_YORK, Loaded, Warehouse
from market_data.warehouse.schema import PRICES
from tests.warehouse.rows import FIRST, SEEN, bar, bars, item, later, midnight, naive, sessions, table

COLUMNS, KEY = ", ".join(c.name for c in PRICES.columns), ", ".join(c.name for c in PRICES.key)
SILVER = f"SELECT {COLUMNS} FROM silver_prices ORDER BY {KEY}"
BRONZE = f"SELECT {COLUMNS} FROM bronze_prices ORDER BY {KEY}, ingest_ts, row_hash"
AUDIT = "SELECT load_id, table_name, rows_in, rows_changed FROM load_audit ORDER BY load_id"


def count(warehouse: Warehouse, name: str) -> int:
    return warehouse.query(f"SELECT COUNT(*) AS n FROM {name}")["n"][0].as_py()


def closes(warehouse: Warehouse, layer: str, symbol: str = "AAPL") -> list[float]:
    """Closes of a symbol, oldest version first."""
    found = warehouse.query(f"SELECT close_px FROM {layer}_prices WHERE symbol = ? ORDER BY bar_time, ingest_ts", [symbol])
    return [float(value) for value in found["close_px"].to_pylist()]


def everything(warehouse: Warehouse) -> list[list[dict[str, Any]]]:
    return [warehouse.query(statement).to_pylist() for statement in (SILVER, BRONZE, AUDIT)]


# --- migrations -----------------------------------------------------------------------------------------------------------------


def test_migrations_are_applied_once(connection: WarehouseConnection) -> None:
    with open_with_hooks(connection) as warehouse:
        first = warehouse.migrate()
        assert {"0002_bronze_prices", "0003_silver_prices", "0005_gold_price_features", "0020_gold_adjusted_prices"} <= set(first)
        assert first == sorted(first)
        assert warehouse.migrate() == []
    with open_with_hooks(connection) as warehouse:
        assert warehouse.migrate() == []
        versions = warehouse.query("SELECT version, name FROM schema_version ORDER BY version").to_pylist()
    assert [f"{int(v['version']):04d}_{v['name']}" for v in versions] == first


def test_a_failed_migration_is_repeated(connection: WarehouseConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_with_hooks(connection) as warehouse:
        run = type(warehouse)._execute

        def fail_at_gold(self: Warehouse, kind: str, *rest: Any) -> int:
            if "gold" in kind:
                raise WarehouseError("cut")
            return run(self, kind, *rest)

        monkeypatch.setattr(type(warehouse), "_execute", fail_at_gold)
        with pytest.raises(WarehouseError, match="cut"):
            warehouse.migrate()
        monkeypatch.undo()
        assert {"0005_gold_price_features", "0021_gold_fundamentals"} <= set(warehouse.migrate())
        assert warehouse.load(OHLCV_1D, bars("AAPL", 3), "one") == Loaded(3, 3)


def test_a_migrated_warehouse_exists(warehouse: Warehouse) -> None:
    assert warehouse.exists()


def test_a_load_before_migrating_says_so(connection: WarehouseConnection) -> None:
    with open_with_hooks(connection) as warehouse, pytest.raises(WarehouseError, match="migrated") as caught:
        warehouse.load(OHLCV_1D, bars("AAPL", 1), "one")
    assert not caught.value.retriable


# --- loads ----------------------------------------------------------------------------------------------------------------------


def test_a_load_lands_in_silver_and_bronze(warehouse: Warehouse) -> None:
    before = naive(datetime.now(UTC))
    row = bar(open=10.5, high=11.0, low=10.25, close=10.75, adj_close=5.125, volume=12.5, vwap=10.6, trade_count=7)
    assert warehouse.load(OHLCV_1D, table(row), "one") == Loaded(rows_in=1, rows_changed=1, already=False)
    silver = warehouse.query(SILVER).to_pylist()
    assert silver == warehouse.query(BRONZE).to_pylist()
    loaded_at, row_hash = silver[0].pop("loaded_at"), silver[0].pop("row_hash")
    assert before <= loaded_at <= naive(datetime.now(UTC))
    assert len(row_hash) == 64
    prices = {"open_px": Decimal("10.5"), "high_px": Decimal(11), "low_px": Decimal("10.25"), "close_px": Decimal("10.75")}
    optional = {"adj_close_px": Decimal("5.125"), "volume": Decimal("12.5"), "vwap": Decimal("10.6"), "trade_count": 7}
    key = {"symbol": "AAPL", "timeframe": "1d", "provider": "polygon", "bar_time": naive(FIRST)}
    assert silver[0] == key | prices | optional | {"load_id": "one", "ingest_ts": naive(SEEN)}


def test_a_load_id_is_loaded_once(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    before = everything(warehouse)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "one") == Loaded(5, 5, already=True)
    assert warehouse.load(OHLCV_1D, bars("MSFT", 9), "one") == Loaded(5, 5, already=True)
    assert everything(warehouse) == before


def test_the_same_rows_again_change_nothing(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    silver, bronze, _ = everything(warehouse)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "two") == Loaded(5, 0)
    assert everything(warehouse)[:2] == [silver, bronze]
    audit = [(a["load_id"], a["table_name"], int(a["rows_in"]), int(a["rows_changed"])) for a in everything(warehouse)[2]]
    assert audit == [("one", "silver_prices", 5, 5), ("two", "silver_prices", 5, 0)]


def test_equal_values_seen_later_change_nothing(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    before = everything(warehouse)[:2]
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5, ingest_ts=later(60)), "two") == Loaded(5, 0)
    assert everything(warehouse)[:2] == before


def test_no_rows_are_a_load_too(warehouse: Warehouse) -> None:
    assert warehouse.load(OHLCV_1D, bars("AAPL", 0), "one") == Loaded(0, 0)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 0), "one") == Loaded(0, 0, already=True)


def test_new_and_known_rows_together(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    assert warehouse.load(OHLCV_1D, bars("AAPL", 8), "two") == Loaded(8, 3)
    assert count(warehouse, "silver_prices") == count(warehouse, "bronze_prices") == 8


@pytest.mark.parametrize("load_id", ["", "x" * 65])
def test_load_ids_that_do_not_fit_are_refused(warehouse: Warehouse, load_id: str) -> None:
    with pytest.raises(ConfigError, match="load_id"):
        warehouse.load(OHLCV_1D, bars("AAPL", 1), load_id)


# --- versions -------------------------------------------------------------------------------------------------------------------


def test_a_correction_replaces_and_both_versions_stay(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 3), "one")
    corrected = bars("AAPL", 3).to_pylist()
    corrected[1] |= {"close": 100.5, "ingest_ts": later(60)}
    assert warehouse.load(OHLCV_1D, table(*corrected), "two") == Loaded(3, 1)
    assert closes(warehouse, "silver") == [100.0, 100.5, 102.0]
    assert closes(warehouse, "bronze") == [100.0, 101.0, 100.5, 102.0]
    assert warehouse.query(SILVER)["load_id"].to_pylist() == ["one", "two", "one"]


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count"])
def test_every_value_can_be_corrected(warehouse: Warehouse, field: str) -> None:
    whole = bar(open=10, high=12, low=9, close=11, adj_close=5, volume=100, vwap=10, trade_count=7)
    warehouse.load(OHLCV_1D, table(whole), "one")
    changed = whole | {field: whole[field] + (-1 if field == "low" else 1), "ingest_ts": later(1)}
    assert warehouse.load(OHLCV_1D, table(changed), "two").rows_changed == 1
    if field in {"adj_close", "volume", "vwap", "trade_count"}:
        assert warehouse.load(OHLCV_1D, table(changed | {field: None, "ingest_ts": later(2)}), "three").rows_changed == 1
        column = next(c.name for c in PRICES.values if c.source == field)
        assert warehouse.query(SILVER)[column].to_pylist() == [None]


def test_there_and_back_again(warehouse: Warehouse) -> None:
    for n, close in enumerate([100.0, 101.0, 100.0]):
        assert warehouse.load(OHLCV_1D, table(bar(close=close, ingest_ts=later(n))), f"load {n}").rows_changed == 1
    assert closes(warehouse, "silver") == [100.0]
    assert closes(warehouse, "bronze") == [100.0, 101.0, 100.0]
    assert warehouse.query(SILVER)["ingest_ts"].to_pylist() == [naive(later(2))]


def test_an_older_version_never_replaces_a_newer_one(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, table(bar(close=101.0, ingest_ts=later(0.000001))), "new")
    assert warehouse.load(OHLCV_1D, table(bar(close=100.0)), "old") == Loaded(1, 0)
    assert closes(warehouse, "silver") == [101.0]
    assert closes(warehouse, "bronze") == [100.0, 101.0]
    assert warehouse.load(OHLCV_1D, table(bar(close=100.0)), "old again") == Loaded(1, 0)
    assert closes(warehouse, "bronze") == [100.0, 101.0]


def test_of_two_versions_seen_at_one_moment_the_one_loaded_last_stands(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, table(bar(close=100.0)), "one")
    assert warehouse.load(OHLCV_1D, table(bar(close=101.0)), "two") == Loaded(1, 1)
    assert closes(warehouse, "silver") == [101.0]
    assert sorted(closes(warehouse, "bronze")) == [100.0, 101.0]


def test_versions_may_arrive_in_any_order(warehouse: Warehouse) -> None:
    orders = list(itertools.permutations(range(4)))
    for step in range(4):
        rows = [bar(f"P{n:02d}", close=100.0 + order[step], ingest_ts=later(order[step])) for n, order in enumerate(orders)]
        warehouse.load(OHLCV_1D, table(*rows), f"step {step}")
    for n in range(len(orders)):
        assert closes(warehouse, "silver", f"P{n:02d}") == [103.0]
        assert closes(warehouse, "bronze", f"P{n:02d}") == [100.0, 101.0, 102.0, 103.0]


def symbols_and_closes(warehouse: Warehouse, layer: str) -> list[tuple[str, float]]:
    found = warehouse.query(f"SELECT symbol, close_px FROM {layer}_prices")
    return [(symbol, float(close)) for symbol, close in zip(*(found[n].to_pylist() for n in found.column_names), strict=True)]


@pytest.mark.parametrize("amended_first", [False, True])
def test_of_a_statement_filed_twice_the_later_filing_stands(warehouse: Warehouse, amended_first: bool) -> None:
    """Whenever it was seen: asking for an earlier span again brings the first one, which is the newer by ``ingest_ts``."""
    original = item(value=100.0, filing_date=date(2024, 2, 2))
    amended = item(value=101.0, filing_date=date(2024, 9, 3))
    order = [amended, original] if amended_first else [original, amended]
    for n, row in enumerate([*order, original]):
        warehouse.load(FUNDAMENTALS, table(row | {"ingest_ts": later(n)}, dataset=FUNDAMENTALS), f"load {n}")
    (silver,) = warehouse.query("SELECT amount, filing_date FROM silver_fundamentals").to_pylist()
    assert (float(silver["amount"]), silver["filing_date"]) == (101.0, date(2024, 9, 3))
    bronze = warehouse.query("SELECT amount FROM bronze_fundamentals")["amount"].to_pylist()
    assert {float(amount) for amount in bronze} == {100.0, 101.0}


def confirmed(warehouse: Warehouse) -> list[datetime | None]:
    return warehouse.query("SELECT confirmed_ts FROM silver_prices ORDER BY symbol, bar_time")["confirmed_ts"].to_pylist()


def test_what_was_seen_last_stands_in_whatever_order_it_came(warehouse: Warehouse) -> None:
    """Of a value that goes and comes back, loads may fail and be repeated later."""
    seen = [100.0, 101.0, 100.0, 102.0, 100.0]
    orders = list(itertools.permutations(range(5)))
    for step in range(5):
        rows = [bar(f"P{n:03d}", close=seen[order[step]], ingest_ts=later(order[step])) for n, order in enumerate(orders)]
        warehouse.load(OHLCV_1D, table(*rows), f"step {step}")
        stands = dict(symbols_and_closes(warehouse, "silver"))
        assert stands == {f"P{n:03d}": seen[max(order[: step + 1])] for n, order in enumerate(orders)}
    assert set(symbols_and_closes(warehouse, "bronze")) == {(f"P{n:03d}", c) for n in range(len(orders)) for c in set(seen)}


def test_a_bar_that_came_back_has_the_version_between_in_its_place(warehouse: Warehouse) -> None:
    for n, load in ((0, "first"), (2, "back")):
        warehouse.load(OHLCV_1D, table(bar(close=100.0, ingest_ts=later(n))), load)
    assert closes(warehouse, "bronze") == [100.0]
    assert confirmed(warehouse) == [naive(later(2))]
    assert warehouse.load(OHLCV_1D, table(bar(close=101.0, ingest_ts=later(1))), "late") == Loaded(1, 0)
    assert closes(warehouse, "silver") == [100.0]
    assert warehouse.query(SILVER)["ingest_ts"].to_pylist() == [naive(later(2))]
    assert confirmed(warehouse) == [None]
    assert closes(warehouse, "bronze") == [100.0, 101.0, 100.0]
    changes = warehouse.query("SELECT old_close_px, new_close_px FROM gold_restatements ORDER BY new_ingest_ts").to_pylist()
    assert [(float(c["old_close_px"]), float(c["new_close_px"])) for c in changes] == [(100.0, 101.0), (101.0, 100.0)]


def test_a_confirmed_bar_is_replaced_as_any_other(warehouse: Warehouse) -> None:
    for n in (0, 2):
        warehouse.load(OHLCV_1D, table(bar(close=100.0, ingest_ts=later(n))), f"load {n}")
    assert warehouse.load(OHLCV_1D, table(bar(close=101.0, ingest_ts=later(3))), "new") == Loaded(1, 1)
    assert closes(warehouse, "bronze") == [100.0, 101.0]
    assert confirmed(warehouse) == [None]


def test_providers_and_timeframes_are_apart(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, table(bar(), bar(provider="alpaca"), bar(provider="alpaca~iex")), "one")
    warehouse.load(OHLCV_1M, table(bar(timeframe="1m")), "two")
    assert count(warehouse, "silver_prices") == 4


def test_unchanged_rows_are_compared_and_nothing_else(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 4), "one")
    execute, kinds = type(warehouse)._execute, []

    def recorded(self: Warehouse, kind: str, *given: Any) -> int:
        kinds.append(kind.split(maxsplit=1)[0])
        return execute(self, kind, *given)

    monkeypatch.setattr(type(warehouse), "_execute", recorded)
    assert warehouse.load(OHLCV_1D, bars("AAPL", 4), "two") == Loaded(4, 0)
    assert {"update", "merge"}.isdisjoint(kinds)
    assert kinds.count("insert") == 1  # the audit row
    assert warehouse.load(OHLCV_1D, bars("AAPL", 4, ingest_ts=later(1)), "three") == Loaded(4, 0)
    assert kinds.count("merge") == 1  # moments of confirmation


def test_bars_that_silver_lost_come_back_without_a_second_version(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 4), "one")
    with warehouse._transaction():
        warehouse._execute("delete", "DELETE FROM silver_prices")
    assert warehouse.load(OHLCV_1D, bars("AAPL", 5), "two") == Loaded(5, 5)
    assert [count(warehouse, f"{layer}_prices") for layer in ("silver", "bronze")] == [5, 5]


# --- failures -------------------------------------------------------------------------------------------------------------------

STEPS = ("_begin", "_fetch", "_stage", "_execute", "_commit")


class Cut:
    """Fails the n-th step of the engine, before or after it was done."""

    def __init__(self, patch: pytest.MonkeyPatch, engine: type[Warehouse], fail_at: int, after: bool) -> None:
        self.steps: list[str] = []
        self.depth = 0
        for name in STEPS:
            patch.setattr(engine, name, self._wrap(name, getattr(engine, name), fail_at, after))

    def _wrap(self, name: str, step: Any, fail_at: int, after: bool) -> Any:
        def wrapped(warehouse: Warehouse, *args: Any) -> Any:
            if self.depth:  # an engine's step may be made of others
                return step(warehouse, *args)
            self.steps.append(name)
            fails = len(self.steps) - 1 == fail_at
            if fails and not after:
                raise WarehouseError("cut")
            self.depth += 1
            try:
                result = step(warehouse, *args)
            finally:
                self.depth -= 1
            if fails:
                raise WarehouseError("cut")
            return result

        return wrapped


def test_a_failure_at_any_step_leaves_nothing_and_a_retry_succeeds(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 4), "before")
    with pytest.MonkeyPatch.context() as patch:
        whole = Cut(patch, type(warehouse), fail_at=-1, after=False)
        warehouse.load(OHLCV_1D, bars("AAPL", 4, adj_close=0.5, ingest_ts=later(0.5)), "dry")
    assert Counter(whole.steps) >= Counter(["_begin", "_fetch", "_stage", "_fetch", "_execute", "_execute", "_execute", "_commit"])
    for number, (at, after) in enumerate(itertools.product(range(len(whole.steps)), [False, True])):
        before = everything(warehouse)
        load_id = f"load {number:02d}"
        rows = bars("AAPL", 5, adj_close=float(1 + number), ingest_ts=later(1 + number))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(warehouse), "attempts", 1)
            Cut(patch, type(warehouse), at, after)
            with pytest.raises(WarehouseError, match="cut"):
                warehouse.load(OHLCV_1D, rows, load_id)
        acknowledgement_lost = after and whole.steps[at] == "_commit"
        if not acknowledgement_lost:
            assert everything(warehouse) == before, (whole.steps[at], after)
        assert warehouse.load(OHLCV_1D, rows, load_id) == Loaded(5, 5, already=acknowledgement_lost)
        assert {float(a) for a in warehouse.query(SILVER)["adj_close_px"].to_pylist()} == {1.0 + number}


def test_rows_lost_on_the_way_to_the_stage_are_noticed(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = type(warehouse)._stage
    monkeypatch.setattr(type(warehouse), "_stage", lambda self, target, wire: stage(self, target, wire.slice(1)))
    before = everything(warehouse)
    with pytest.raises(WarehouseError, match="staged 4 of 5 rows"):
        warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    assert everything(warehouse) == before


def test_what_the_tables_refuse_is_refused_whole(warehouse: Warehouse) -> None:
    for number, wrong in enumerate([{"low": 100.5}, {"high": 99.0, "low": 100.0}, {"volume": -1.0}]):
        with pytest.raises(WarehouseError) as caught:
            warehouse.load(OHLCV_1D, table(bar("GOOD"), bar("SECRETIVE", **wrong)), f"load {number}")
        assert not caught.value.retriable
        assert "SECRETIVE" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert everything(warehouse) == [[], [], []]


def test_what_does_not_fit_is_refused_before_the_database_is_touched(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(warehouse), "_session", lambda *_, **__: pytest.fail("the database was touched"))
    with pytest.raises(DataError, match=r"2 keys occur more than once.*symbol (AAPL|MSFT).*bar_time 2024-01-02"):
        warehouse.load(OHLCV_1D, table(bar("AAPL"), bar("MSFT"), bar("IBM"), bar("AAPL", close=1.0), bar("MSFT")), "one")
    with pytest.raises(DataError, match="close has 1 nulls of 2 rows"):
        warehouse.load(OHLCV_1D, table(bar("AAPL"), bar("MSFT") | {"close": None}), "one")


def write(connection: WarehouseConnection, writer: int, tables: list[pa.Table]) -> int:
    """What one of several processes does: loads overlapping rows, each load repeated once."""
    changed = 0
    with open_with_hooks(connection) as warehouse:
        for number, rows in enumerate(tables):
            for already in (False, True):
                loaded = warehouse.load(OHLCV_1D, rows, f"writer {writer} load {number}")
                assert loaded.already is already
            changed += loaded.rows_changed
    return changed


def test_processes_write_at_once(warehouse: Warehouse, connection: WarehouseConnection) -> None:
    writers, loads, symbols = 4, 6, ["AAPL", "BRK.B", "MSFT"]

    def rows(writer: int, number: int) -> pa.Table:
        version = number * writers + writer
        start = FIRST + timedelta(days=writer)
        return pa.concat_tables([bars(s, 20, start, adj_close=1.0 + version, ingest_ts=later(version)) for s in symbols])

    tables = [[rows(writer, number) for number in range(loads)] for writer in range(writers)]
    with multiprocessing.get_context("spawn").Pool(writers) as pool:
        changed = pool.starmap(write, [(connection, writer, tables[writer]) for writer in range(writers)])

    given = pa.concat_tables([t for each in tables for t in each]).to_pandas()
    latest = given.sort_values("ingest_ts").groupby(["symbol", "bar_time"]).tail(1).sort_values(["symbol", "bar_time"])
    silver = warehouse.query(SILVER)
    assert silver["adj_close_px"].cast(pa.float64()).to_pylist() == latest["adj_close"].tolist()
    assert count(warehouse, "bronze_prices") == len(given)
    assert count(warehouse, "load_audit") == writers * loads
    assert sum(changed) == sum(int(a["rows_changed"]) for a in warehouse.query(AUDIT).to_pylist()) >= silver.num_rows


# --- values ---------------------------------------------------------------------------------------------------------------------


def test_absent_values_stay_absent(warehouse: Warehouse) -> None:
    absent = {"adj_close": None, "volume": None, "vwap": None, "trade_count": None}
    warehouse.load(OHLCV_1D, table(bar(**absent)), "one")
    silver = warehouse.query(SILVER).to_pylist()[0]
    assert [silver[name] for name in ("adj_close_px", "volume", "vwap", "trade_count")] == [None] * 4
    zero = {"adj_close": 0.0, "volume": 0.0, "vwap": 0.0, "trade_count": 0, "ingest_ts": later(1)}
    assert warehouse.load(OHLCV_1D, table(bar(**zero)), "two").rows_changed == 1


def test_extreme_numbers_come_back_exactly(warehouse: Warehouse) -> None:
    smallest, largest = 0.00000001, 99_999_999_999.9375
    rows = table(
        bar("SMALL", close=smallest, volume=smallest, trade_count=0),
        bar("LARGE", close=largest, volume=999_999_999_999.5, trade_count=2**63 - 1),
        bar("THIRD", close=1 / 3),
    )
    warehouse.load(OHLCV_1D, rows, "one")
    silver = {row["symbol"]: row for row in warehouse.query(SILVER).to_pylist()}
    assert silver["SMALL"]["close_px"] == silver["SMALL"]["volume"] == Decimal("0.00000001")
    assert silver["LARGE"]["close_px"] == Decimal("99999999999.9375")
    assert silver["LARGE"]["volume"] == Decimal("999999999999.5")
    assert silver["LARGE"]["trade_count"] == 2**63 - 1
    assert silver["THIRD"]["close_px"] == Decimal("0.33333333")
    assert warehouse.load(OHLCV_1D, rows, "two").rows_changed == 0


def test_every_digit_of_a_decimal_is_kept(warehouse: Warehouse) -> None:
    price, volume = Decimal("999999999999.12345678"), Decimal("-0.00000001").copy_abs()
    rows = bars("AAPL", 1)
    for name, value in {"open": price, "high": price, "low": price, "close": price, "volume": volume}.items():
        column = pa.array([value], pa.decimal128(20, 8))
        rows = rows.set_column(rows.column_names.index(name), name, column)
    assert warehouse.load(OHLCV_1D, rows, "one").rows_changed == 1
    (found,) = warehouse.query(SILVER).to_pylist()
    assert (found["close_px"], found["volume"]) == (price, volume)
    assert warehouse.load(OHLCV_1D, rows, "two").rows_changed == 0
    amount = Decimal("-1234567890123456789012.123456")
    statement = table(item(), dataset=FUNDAMENTALS)
    at = statement.column_names.index("value")
    warehouse.load(FUNDAMENTALS, statement.set_column(at, "value", pa.array([amount], pa.decimal128(28, 6))), "three")
    assert warehouse.query("SELECT amount FROM silver_fundamentals")["amount"].to_pylist() == [amount]


EXACT = {
    "gold_price_features": ["close_px", "volume"],
    "gold_adjusted_prices": ["open_px", "high_px", "low_px", "close_px", "volume"],
    "gold_restatements": [
        f"{when}_{name}"
        for name in ("open_px", "high_px", "low_px", "close_px", "adj_close_px", "volume", "vwap")
        for when in ("old", "new")
    ],
}


@pytest.mark.parametrize("view", EXACT)
def test_prices_of_the_views_are_exact_decimals(warehouse: Warehouse, view: str) -> None:
    for n, close in enumerate((100.1, 100.2)):
        warehouse.load(OHLCV_1D, table(bar(close=close, adj_close=close, ingest_ts=later(n))), f"load {n}")
    found = warehouse.query(f"SELECT * FROM {view}")
    assert {str(found.schema.field(name).type) for name in EXACT[view]} == {"decimal128(20, 8)"}
    name = EXACT[view][-1] if view == "gold_restatements" else "close_px"
    assert found[name].to_pylist() == [Decimal("100.20000000")]
    if view == "gold_restatements":
        assert str(found.schema.field("old_trade_count").type) == str(found.schema.field("new_trade_count").type) == "int64"


SYMBOLS = ["BRK.B", "BF/B", "Ω-ÅÉ", "株式", "📈", "O'X", 'Q"X', "A B", "a", "A", "NULL", "%s", ":1", "?", "x" * 32]


def test_symbols_come_back_as_they_were(warehouse: Warehouse) -> None:
    rows = table(*(bar(symbol) for symbol in SYMBOLS))
    assert warehouse.load(OHLCV_1D, rows, "one").rows_changed == len(SYMBOLS)
    assert set(warehouse.query(SILVER)["symbol"].to_pylist()) == set(SYMBOLS)
    for symbol in SYMBOLS:
        assert closes(warehouse, "silver", symbol) == [100.25]
    assert warehouse.load(OHLCV_1D, rows, "two").rows_changed == 0


DAYS = [date(1970, 1, 1), date(2000, 2, 29), date(2024, 2, 29), date(2024, 3, 10), date(2024, 11, 3), date(2024, 12, 31)]


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def local_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine's time zone, which nothing may depend on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("local_zone")
def test_days_come_back_as_they_were(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, table(*(bar(day=midnight(day)) for day in DAYS)), "one")
    assert warehouse.query(SILVER)["bar_time"].to_pylist() == [naive(midnight(day)) for day in DAYS]


def test_every_hour_of_a_clock_change_is_its_own_bar(warehouse: Warehouse) -> None:
    hours = [datetime(2024, 11, 3, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(48)]
    rows = table(*(bar(day=hour, timeframe="1m") for hour in hours))
    in_new_york = rows.set_column(2, "bar_time", rows["bar_time"].cast(pa.timestamp("us", "America/New_York")))
    assert warehouse.load(OHLCV_1M, in_new_york, "one").rows_changed == 48
    assert warehouse.query(SILVER)["bar_time"].to_pylist() == [naive(hour) for hour in hours]


# --- gold -----------------------------------------------------------------------------------------------------------------------


def features(close: pd.Series) -> pd.DataFrame:
    """The figures of the gold view, computed by pandas."""
    log_ret = np.log(close).diff()
    return pd.DataFrame(
        {
            "simple_ret": close.pct_change(),
            "log_ret": log_ret,
            "ma_20": close.rolling(20).mean(),
            "ma_50": close.rolling(50).mean(),
            "close_stddev_20d": close.rolling(20).std(ddof=1),
            "volatility_20d": log_ret.rolling(20).std(ddof=1) * math.sqrt(252),
        }
    )


def test_gold_is_what_pandas_computes(warehouse: Warehouse) -> None:
    rng = np.random.default_rng(7)
    days = sessions(120, datetime(2023, 1, 3, tzinfo=UTC))
    prices = {
        "AAPL": np.round(150 * np.exp(rng.normal(0, 0.02, 120).cumsum()), 4),
        "BRK.A": np.round(700_000 * np.exp(rng.normal(0, 0.01, 120).cumsum()), 2),
        "PENNY": np.round(0.05 * np.exp(rng.normal(0, 0.1, 120).cumsum()), 8),
        "FLAT": np.full(120, 12.34),
        "YOUNG": np.round(30 + rng.normal(0, 1, 20), 2),
    }
    rows = [bar(s, day, close=float(p)) for s, series in prices.items() for day, p in zip(days, series, strict=False)]
    rng.shuffle(rows)
    warehouse.load(OHLCV_1D, table(*rows), "one")
    gold = warehouse.query("SELECT * FROM gold_price_features ORDER BY symbol, bar_time").to_pandas()
    for symbol, series in prices.items():
        found = gold[gold["symbol"] == symbol].reset_index(drop=True)
        assert found["close_px"].astype(float).tolist() == series.tolist()
        wanted = features(pd.Series(series))
        for name in wanted:
            assert (found[name].isna() == wanted[name].isna()).all(), (symbol, name)
            np.testing.assert_allclose(found[name].astype(float), wanted[name], rtol=1e-9, atol=1e-9, err_msg=f"{symbol} {name}")


def test_gold_keeps_series_apart_and_takes_daily_bars_only(warehouse: Warehouse) -> None:
    closes = {("AAPL", "polygon"): 100.0, ("AAPL", "alpaca"): 7.0, ("MSFT", "polygon"): 400.0}
    days = sessions(55)
    rows = [bar(s, day, provider=p, close=c + n * n / 8) for (s, p), c in closes.items() for n, day in enumerate(days)]
    warehouse.load(OHLCV_1D, table(*rows), "one")
    warehouse.load(OHLCV_1M, bars("AAPL", 60, timeframe="1m"), "two")
    gold = warehouse.query("SELECT * FROM gold_price_features ORDER BY symbol, provider, bar_time").to_pandas()
    assert len(gold) == len(rows)
    assert set(gold["timeframe"]) == {"1d"}
    for (symbol, provider), first in closes.items():
        found = gold[(gold["symbol"] == symbol) & (gold["provider"] == provider)]
        wanted = features(pd.Series([first + n * n / 8 for n in range(55)]))
        np.testing.assert_allclose(found[list(wanted)].astype(float), wanted, rtol=1e-9, atol=1e-9, err_msg=f"{symbol} {provider}")


# --- reading --------------------------------------------------------------------------------------------------------------------


def test_previous_bars(warehouse: Warehouse) -> None:
    days = [date(2024, 7, 1), date(2024, 7, 2), date(2024, 7, 3), date(2024, 7, 5), date(2024, 7, 8)]
    rows = [bar("AAPL", midnight(day), close=100.0 + n, volume=None) for n, day in enumerate(days)]
    rows += [bar("MSFT", midnight(days[1]), close=50.0), bar("AAPL", midnight(date(2024, 7, 4)), provider="alpaca")]
    warehouse.load(OHLCV_1D, table(*rows), "one")

    def previous(before: date, sessions: int, symbols: list[str] | None = None) -> list[tuple[Any, ...]]:
        found = warehouse.previous_bars(OHLCV_1D, "polygon", before, sessions, symbols)
        assert found.schema.types == [pa.string(), pa.date32(), pa.float64(), pa.float64(), pa.int64()]
        assert found.column_names == ["symbol", "session", "close", "volume", "bars"]
        return [tuple(row.values()) for row in found.to_pylist()]

    assert previous(date(2024, 7, 8), 1) == [("AAPL", date(2024, 7, 5), 103.0, None, 1)]
    assert previous(date(2024, 7, 5), 2) == [
        ("AAPL", date(2024, 7, 2), 101.0, None, 1),
        ("AAPL", date(2024, 7, 3), 102.0, None, 1),
        ("MSFT", date(2024, 7, 2), 50.0, 1000.0, 1),
    ]
    assert previous(date(2024, 7, 5), 9, ["MSFT", "IBM"]) == [("MSFT", date(2024, 7, 2), 50.0, 1000.0, 1)]
    assert previous(date(2024, 7, 4), 1, ["MSFT"]) == []
    assert previous(date(2024, 7, 1), 5) == previous(date(2024, 7, 9), 5, []) == []
    assert len(previous(date(2030, 1, 1), 99)) == 6


def test_previous_bars_are_of_twenty_sessions_by_default(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 30), "one")
    assert warehouse.previous_bars(OHLCV_1D, "polygon", date(2024, 12, 31))["close"].to_pylist() == [110.0 + n for n in range(20)]


@pytest.mark.parametrize(("dataset", "timeframe"), [(OHLCV_1M, "1m"), (OHLCV_5M, "5m")])
def test_bars_within_the_day_are_folded(warehouse: Warehouse, dataset: Dataset, timeframe: str) -> None:
    days = calendar.sessions(date(2024, 3, 4), date(2024, 3, 14))  # the clocks changed on the 10th
    clocks = [dt_time(4), dt_time(9, 30), dt_time(15, 59), dt_time(19, 59)]

    def minute(symbol: str, day: date, clock: dt_time, close: float, **values: Any) -> dict[str, Any]:
        moment = datetime.combine(day, clock, ZoneInfo("America/New_York")).astimezone(UTC)
        return bar(symbol, moment, session=day, close=close, timeframe=timeframe, **values)

    rows = [
        minute("AAPL", day, clock, close=100 + n + m / 8, volume=10.0 + m)
        for n, day in enumerate(days)
        for m, clock in enumerate(clocks)
    ]
    rows += [minute("BRK.B", days[-1], clocks[2], 400.0, volume=None), minute("BRK.B", days[-2], clocks[1], 399.0, volume=5.0)]
    rows += [minute("BRK.B", days[-2], clocks[2], 398.0, volume=None), minute("MSFT", days[0], clocks[0], 1.0)]
    rows += [minute("AAPL", days[-1], dt_time(19, 59), 7.0, provider="alpaca")]
    warehouse.load(dataset, table(*rows, dataset=dataset), "one")
    warehouse.load(OHLCV_1D, table(*(bar("AAPL", midnight(day), close=1.0) for day in days)), "two")

    def previous(before: date, sessions: int | None = None, symbols: list[str] | None = None) -> list[tuple[Any, ...]]:
        found = warehouse.previous_bars(dataset, "polygon", before, sessions, symbols)
        assert found.schema.types == [pa.string(), pa.date32(), pa.float64(), pa.float64(), pa.int64()]
        assert found.column_names == ["symbol", "session", "close", "volume", "bars"]
        return [tuple(row.values()) for row in found.to_pylist()]

    apple = [("AAPL", day, 100 + n + 3 / 8, 46.0, 4) for n, day in enumerate(days)]
    berkshire = [("BRK.B", days[-2], 398.0, 5.0, 2), ("BRK.B", days[-1], 400.0, None, 1)]
    end = days[-1] + timedelta(days=1)
    assert previous(end) == [*apple[-5:], *berkshire]
    assert previous(end, 2, ["AAPL"]) == apple[-2:]
    assert previous(days[-1], 1) == [apple[-2], berkshire[0]]
    assert previous(end, 99) == [*apple, *berkshire, ("MSFT", days[0], 1.0, 1000.0, 1)]
    assert previous(date(2024, 6, 3), 1) == [apple[-1], berkshire[1]]  # after a pause, what was before it
    assert previous(days[0]) == previous(end, 3, []) == []


def test_the_evening_of_futures_counts_with_its_date(warehouse: Warehouse) -> None:
    """An approximation: it belongs to the next trading day. A Sunday evening counts nowhere."""
    evening = {"Friday": datetime(2024, 7, 12, 14, tzinfo=UTC), "Sunday": datetime(2024, 7, 14, 22, tzinfo=UTC)}
    evening |= {"Monday": datetime(2024, 7, 15, 14, tzinfo=UTC), "Monday evening": datetime(2024, 7, 15, 23, tzinfo=UTC)}
    rows = [bar("ESU4", moment, close=100.0 + n, timeframe="1m") for n, moment in enumerate(evening.values())]
    warehouse.load(OHLCV_1M, table(*rows, dataset=OHLCV_1M), "one")
    found = warehouse.previous_bars(OHLCV_1M, "polygon", date(2024, 7, 16)).to_pylist()
    assert [(row["session"].day, row["close"], row["bars"]) for row in found] == [(12, 100.0, 1), (15, 103.0, 2)]


def test_five_hours_give_the_date_in_new_york_all_year_round() -> None:
    zone = ZoneInfo("America/New_York")
    for day in (date(2007, 1, 1) + timedelta(days=n) for n in range(366 * 25)):
        for clock in (dt_time(1), dt_time(4), dt_time(9, 30), dt_time(20), dt_time(23, 59, 59, 999999)):
            moment = naive(datetime.combine(day, clock, zone))
            assert (moment - NEW_YORK).date() == day


def test_previous_bars_refuses_what_it_cannot_do(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigError, match="dataset 'trades'"):
        warehouse.previous_bars(TRADES, "polygon", date(2024, 7, 8), 1)
    with pytest.raises(ConfigError, match="sessions 0"):
        warehouse.previous_bars(OHLCV_1D, "polygon", date(2024, 7, 8), 0)


def test_query_binds_its_params(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    found = warehouse.query(
        "SELECT COUNT(*) AS n, MIN('?') AS mark FROM silver_prices WHERE symbol = ? AND bar_time >= ? AND close_px > ?",
        ["AAPL", naive(FIRST + timedelta(days=1)), Decimal("101.5")],
    )
    assert [int(found["n"][0].as_py()), found["mark"][0].as_py()] == [3, "?"]


def test_a_query_may_have_remarks_and_a_semicolon(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    found = warehouse.query("-- don't\nSELECT symbol -- what's?\n  FROM silver_prices WHERE close_px > ? /* it's */;\n", [103])
    assert found["symbol"].to_pylist() == ["AAPL"]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM silver_prices", "DROP TABLE bronze_prices", "CREATE TABLE t (a INTEGER)", "-- SELECT\nDELETE FROM silver_prices"],
)
def test_query_cannot_write(warehouse: Warehouse, statement: str) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 5), "one")
    with pytest.raises(WarehouseError) as caught:
        warehouse.query(statement)
    assert not caught.value.retriable
    assert count(warehouse, "silver_prices") == count(warehouse, "bronze_prices") == 5


def test_a_wrong_query_says_what_is_wrong(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="nonesuch") as caught:
        warehouse.query("SELECT nonesuch FROM silver_prices")
    assert not caught.value.retriable


def test_a_warehouse_can_be_closed_twice(warehouse: Warehouse) -> None:
    warehouse.close()
    warehouse.close()


@pytest.mark.parametrize("value", [0, -1, "many", None, True, float("inf")])
def test_the_rows_of_a_load_must_be_a_number(connection: WarehouseConnection, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"extra\.chunk_rows is .*; a number from 1 on is needed"):
        open_with_hooks(replace(connection, extra={**connection.extra, "chunk_rows": value}))
