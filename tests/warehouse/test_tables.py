"""What holds of every table, whatever its columns: once for each engine and each dataset that has a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from market_data.core.errors import DataError, WarehouseError
from market_data.datasets.base import Dataset
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.datasets.registry import DATASETS
from market_data.datasets.registry import dataset as find
from market_data.datasets.symbol_changes import SYMBOL_CHANGES
from market_data.datasets.ticks import TRADES
from market_data.warehouse.arrow_rows import row_hashes, to_wire
from market_data.warehouse.base import Loaded, Warehouse
from market_data.warehouse.schema import TABLES, Table, Type
from tests.warehouse.rows import FIRST, SEEN, bar, dividend, item, later, naive, split, table, trade


@dataclass(frozen=True)
class Case:
    """A dataset with rows for its table.

    :param row: a whole row.
    :param others: the same row with another key, one for each key column that can differ within a dataset.
    :param wrong: values that the database itself refuses.
    """

    dataset: Dataset
    row: Mapping[str, Any]
    others: tuple[Mapping[str, Any], ...]
    wrong: tuple[Mapping[str, Any], ...]

    @property
    def table(self) -> Table:
        return TABLES[str(self.dataset.table)]

    def rows(self, *rows: Mapping[str, Any]) -> pa.Table:
        return table(*rows, dataset=self.dataset)

    def read(self, warehouse: Warehouse, layer: str = "silver") -> list[dict[str, Any]]:
        """The rows of a layer as (column of the dataset -> value), by key and version."""
        names = [column.name for column in self.table.columns if column.source]
        order = ", ".join(column.name for column in self.table.version_key)
        found = warehouse.query(f"SELECT {', '.join(names)} FROM {layer}_{self.table.name} ORDER BY {order}").to_pylist()
        sources = [column.source for column in self.table.columns if column.source]
        return [dict(zip(sources, row.values(), strict=True)) for row in found]

    def expected(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row as it comes back: exact decimals, naive UTC."""

        def exact(value: Any, kind: Type) -> Any:
            if kind in {Type.DECIMAL, Type.AMOUNT} and value is not None:
                return Decimal(repr(float(value)))
            return naive(value) if isinstance(value, datetime) else value

        return {column.source: exact(row[column.source], column.type) for column in self.table.columns if column.source}


def _bars(name: str) -> Case:
    timeframe = find(name).timeframe
    row = bar(timeframe=timeframe, open=10.0, high=12.0, low=9.0, close=11.0, adj_close=5.5, volume=12.5)
    others = ({"symbol": "BRK.B"}, {"provider": "alpaca~iex"}, {"bar_time": datetime(2024, 2, 29, tzinfo=UTC)})
    return Case(find(name), row, others, ({"low": 12.5}, {"high": 8.0}, {"volume": -1.0}))


CASES = {
    "ohlcv-1m": _bars("ohlcv-1m"),
    "trades": Case(
        TRADES,
        trade(),
        (
            {"symbol": "BRK.B"},
            {"provider": "databento~XCIS.TRADESBBO~instrument_id"},
            {"ts_event": datetime(2024, 2, 29, 20, 59, 59, 999999, tzinfo=UTC)},
            {"sequence": 2},
            {"ordinal": 1},
        ),
        ({"size": -1.0}, {"ordinal": -1}),
    ),
    "fundamentals": Case(
        FUNDAMENTALS,
        item(),
        (
            {"symbol": "BRK.B"},
            {"provider": "mock"},
            {"statement": "cash_flow"},
            {"period": "FY"},
            {"period_end": date(2024, 2, 29)},
            {"item": "netIncome"},
        ),
        ({"statement": "equity"}, {"period": "H1"}),
    ),
    "corporate-actions": Case(
        CORPORATE_ACTIONS,
        dividend(split_from=2.0, split_to=1.0, action_id="240000 USD CD", withdrawn=None),
        (
            {"symbol": "BRK.B"},
            {"provider": "mock"},
            {"action": "split", "action_id": "10000:20000"},
            {"ex_date": date(2024, 2, 29)},
            {"amount": 5.0, "action_id": "5000000 USD CD"},
        ),
        (
            {"action": "spinoff"},
            {"amount": -0.01},
            {"amount": None},
            {"action": "split", "split_from": 0.0},
            {"action": "split", "split_to": None},
        ),
    ),
}
CASES["symbol-changes"] = Case(
    SYMBOL_CHANGES,
    {
        "symbol": "AAPL",
        "session": date(2022, 6, 9),
        "effective_date": date(2022, 6, 9),
        "old_symbol": "FB",
        "new_symbol": "META",
        "issuer": "Meta Platforms, Inc.",
        "withdrawn": None,
        "provider": "polygon",
        "ingest_ts": SEEN,
    },
    ({"symbol": "FB"}, {"provider": "alpaca"}, {"effective_date": date(2022, 6, 10)}, {"old_symbol": "F"}, {"new_symbol": "M"}),
    ({"old_symbol": "META"},),
)
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


IDENTIFYING = {"amount", "currency", "kind"}
"""Values that are part of an action's id: another one is another dividend."""


def changeable(case: Case) -> list[Any]:
    """The columns that a restatement can change without making another row."""
    fixed = IDENTIFYING if case.dataset is CORPORATE_ACTIONS else set()
    return [c for c in case.table.values if c.source not in fixed]


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if value is None:
        return True
    if isinstance(value, str):
        return "B" if value != "B" else "A"
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond + 1)
    if isinstance(value, date):
        return value.replace(day=value.day + 1)
    return value + 1


def test_every_table_is_here() -> None:
    assert {case.dataset.table for case in CASES.values()} == set(TABLES) == {find(name).table for name in DATASETS} - {None}


@each
def test_rows_come_back_as_they_were(warehouse: Warehouse, case: Case) -> None:
    rows = [case.row, *(case.row | other for other in case.others)]
    assert warehouse.load(case.dataset, case.rows(*rows), "one") == Loaded(len(rows), len(rows))
    key = [column.source for column in case.table.key]
    wanted = sorted((case.expected(row) for row in rows), key=lambda row: [row[name] for name in key])
    assert case.read(warehouse) == case.read(warehouse, "bronze") == wanted
    audit = warehouse.query("SELECT table_name, rows_in, rows_changed FROM load_audit").to_pylist()
    assert [list(row.values()) for row in audit] == [[case.table.silver, len(rows), len(rows)]]


@each
def test_rows_again_change_nothing(warehouse: Warehouse, case: Case) -> None:
    rows = [case.row, *(case.row | other for other in case.others)]
    warehouse.load(case.dataset, case.rows(*rows), "one")
    before = case.read(warehouse), case.read(warehouse, "bronze")
    assert warehouse.load(case.dataset, case.rows(*rows), "one") == Loaded(len(rows), len(rows), already=True)
    assert warehouse.load(case.dataset, case.rows(*(row | {"ingest_ts": later(9)} for row in rows)), "two") == Loaded(len(rows), 0)
    assert (case.read(warehouse), case.read(warehouse, "bronze")) == before


@each
def test_a_correction_of_any_value_is_one_change_and_a_version_more(warehouse: Warehouse, case: Case) -> None:
    row, versions = dict(case.row), [dict(case.row)]
    other = case.row | case.others[0]
    warehouse.load(case.dataset, case.rows(row, other), "one")
    changes = [(c.source, another(row[c.source])) for c in changeable(case) if c.source not in {"low", "high"}]
    changes += [(c.source, None) for c in changeable(case) if c.nullable and c.source != "amount"]
    changes += [("currency", "USD")] if "currency" in row and case.dataset is not CORPORATE_ACTIONS else []
    for number, (source, value) in enumerate(changes, 1):
        row |= {source: value, "ingest_ts": later(number)}
        versions.append(dict(row))
        assert warehouse.load(case.dataset, case.rows(row, other), f"load {number}") == Loaded(2, 1), (source, value)
        assert case.read(warehouse)[0] == case.expected(row)
    assert case.read(warehouse, "bronze")[:-1] == [case.expected(version) for version in versions]


@each
def test_what_may_be_absent_stays_absent(warehouse: Warehouse, case: Case) -> None:
    absent = {
        c.source: None for c in case.table.values if c.nullable and (c.source, case.dataset.name) != ("amount", "corporate-actions")
    }  # the id of a dividend without currency and kind is that of a regular one in dollars
    rows = case.rows(case.row | absent)
    assert warehouse.load(case.dataset, rows, "one").rows_changed == 1
    assert case.read(warehouse) == [case.expected(case.row | absent)]
    assert warehouse.load(case.dataset, rows, "two").rows_changed == 0


@each
def test_keys_that_occur_twice_are_refused(warehouse: Warehouse, case: Case) -> None:
    with pytest.raises(DataError, match=rf"^{case.table.name}: 1 keys occur more than once in one load, the first: symbol AAPL, "):
        warehouse.load(case.dataset, case.rows(case.row, case.row | case.others[0], case.row), "one")
    assert case.read(warehouse, "bronze") == []


@each
def test_what_makes_no_sense_is_refused_by_the_database(warehouse: Warehouse, case: Case) -> None:
    for number, wrong in enumerate(case.wrong):
        with pytest.raises(WarehouseError) as caught:
            warehouse.load(case.dataset, case.rows(case.row | case.others[0], case.row | wrong), f"load {number}")
        assert not caught.value.retriable
    assert case.read(warehouse, "bronze") == case.read(warehouse) == []


@each
@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("symbol", ["BRK.B", "ESZ4-ESH5", "O'X", "x" * 32, "株式", "📈"]),
        ("provider", ["databento~XCIS.TRADESBBO~instrument_id", "x" * 64]),
    ],
)
def test_names_come_back_as_they_were(warehouse: Warehouse, case: Case, column: str, names: list[str]) -> None:
    warehouse.load(case.dataset, case.rows(*(case.row | {column: name} for name in names)), "one")
    assert sorted(row[column] for row in case.read(warehouse)) == names


@each
def test_names_that_are_too_long_are_refused(warehouse: Warehouse, case: Case) -> None:
    with pytest.raises(DataError, match="column provider holds an empty string or one over 64 characters"):
        warehouse.load(case.dataset, case.rows(case.row | {"provider": "x" * 65}), "two")


# --- what is a table's own ------------------------------------------------------------------------------------------------------


def test_trades_are_cut_to_microseconds_and_told_apart_by_ordinal(warehouse: Warehouse) -> None:
    moment = int(FIRST.timestamp()) * 10**9
    stamps = [moment + 1_999, moment + 1_001, moment + 999, moment + 2_000]
    rows = [trade(ordinal=ordinal, price=float(n)) for n, ordinal in enumerate([0, 1, 0, 0])]
    made = table(*rows, dataset=TRADES).set_column(2, TRADES.schema.field("ts_event"), pa.array(stamps, pa.timestamp("ns", "UTC")))
    assert warehouse.load(TRADES, made, "one").rows_changed == 4
    found = warehouse.query("SELECT ts_event, ordinal, trade_px FROM silver_trades ORDER BY ts_event, ordinal").to_pylist()
    wanted = [(0, 0, 2), (1, 0, 0), (1, 1, 1), (2, 0, 3)]
    assert [(row["ts_event"].microsecond, row["ordinal"], row["trade_px"]) for row in found] == wanted
    assert warehouse.load(TRADES, made, "two").rows_changed == 0


def test_a_spread_may_trade_below_nothing(warehouse: Warehouse) -> None:
    warehouse.load(TRADES, table(trade("CLZ4-CLF5", price=-37.63), dataset=TRADES), "one")
    assert warehouse.query("SELECT trade_px FROM silver_trades")["trade_px"].to_pylist() == [Decimal("-37.63")]


AMOUNTS = [4_003_814_000_000.0, -1e21, 0.0, 6.13, -0.000001, 9_007_199_254_740_993.0, 1_234_567_890_123.456]


def test_balance_sheets_of_banks_fit(warehouse: Warehouse) -> None:
    rows = table(*(item("JPM", item=f"item {n}", value=value) for n, value in enumerate(AMOUNTS)), dataset=FUNDAMENTALS)
    warehouse.load(FUNDAMENTALS, rows, "one")
    found = warehouse.query("SELECT amount FROM silver_fundamentals ORDER BY item")["amount"].to_pylist()
    assert found == [Decimal(value).quantize(Decimal("1e-6")) for value in AMOUNTS]
    assert warehouse.load(FUNDAMENTALS, rows, "two").rows_changed == 0


@pytest.mark.parametrize("value", [1e22, -1e22])
def test_amounts_too_large_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="column value does not fit a number with at most 22 digits before the point and 6 after"):
        to_wire(TABLES["fundamentals"], table(item(value=value), dataset=FUNDAMENTALS), load_id="one", loaded_at=SEEN)


def test_an_empty_text_is_none(warehouse: Warehouse) -> None:
    rows = table(trade(side="", venue="", conditions=""), trade(ordinal=1, side=None, venue=None, conditions=None), dataset=TRADES)
    warehouse.load(TRADES, rows, "one")
    found = warehouse.query("SELECT side, venue, conditions, row_hash FROM silver_trades").to_pylist()
    assert found[0] == found[1]
    assert found[0]["side"] is found[0]["venue"] is found[0]["conditions"] is None


@pytest.mark.parametrize("column", ["statement", "period", "item", "symbol"])
def test_an_empty_text_in_a_key_is_refused(column: str) -> None:
    with pytest.raises(DataError, match=f"column {column} holds an empty string"):
        to_wire(TABLES["fundamentals"], table(item(**{column: ""}), dataset=FUNDAMENTALS), load_id="one", loaded_at=SEEN)


def test_whole_numbers_of_32_bits_are_held_to_that() -> None:
    rows = table(trade(), dataset=TRADES)
    rows = rows.set_column(rows.column_names.index("ordinal"), "ordinal", pa.array([2**31], pa.int64()))
    with pytest.raises(DataError, match="column ordinal does not fit a whole number of 32 bits"):
        to_wire(TABLES["trades"], rows, load_id="one", loaded_at=SEEN)


def test_texts_cannot_pose_as_others_in_a_hash() -> None:
    def hash_of(*texts: str | None) -> str:
        return row_hashes([pa.chunked_array([[text]], pa.string()) for text in texts])[0].as_py()

    made = [
        ("a|b", "c"),
        ("a", "b|c"),
        ("a\\", "|b"),
        ("a\\|", "b"),
        ("a", None),
        (None, "a"),
        ("\\", "\\"),
        ("\\\\", None),
        ("a", "b"),
    ]
    assert len({hash_of(*texts) for texts in made}) == len(made)


def test_the_hashes_of_other_types_stay_what_they_are() -> None:
    split_hash, item_hash = (
        to_wire(TABLES[str(dataset.table)], table(row, dataset=dataset), load_id="one", loaded_at=SEEN)["row_hash"][0].as_py()
        for dataset, row in ((CORPORATE_ACTIONS, split(kind="a|b", pay_date=date(1970, 1, 2))), (FUNDAMENTALS, item()))
    )
    assert split_hash == sha256("100000000|400000000|||||1|a\\|b|")
    assert item_hash == sha256("2024|19755|1706810618000000|USD|119575000000000000")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_what_was_published_later_stands_in_lake_and_warehouse_alike() -> None:
    for dataset in map(find, DATASETS):
        if dataset.table:
            published = TABLES[dataset.table].published
            assert dataset.published == (published.source if published else "")
