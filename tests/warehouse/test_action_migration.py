"""A warehouse of an earlier version, whose actions have the vendors' ids: one action may be there under several."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.warehouse import WarehouseConnection, migrations
from market_data.warehouse.arrow_rows import row_hashes
from tests.warehouse.rows import SEEN, dividend, later, naive, split, table

COLUMNS = (
    "symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency, declaration_date, record_date, "
    "pay_date, action_kind, frequency, row_hash, load_id, ingest_ts, loaded_at"
)
SPLIT, PAID, RUN = date(2020, 8, 31), date(2024, 2, 9), None
OLD = [
    split(action_id="a"),
    split(action_id="b", ingest_ts=later(1)),
    split(action_id="c", ratio=(2, 8), ingest_ts=later(2)),
    split(ratio=(8, 1), symbol="GE"),
    split(ratio=(3, 1), symbol="F"),
    split(ratio=(1, 0.333333), symbol="F", action_id="b"),
    split(ratio=(1000, 1281), symbol="T"),
    dividend(action_id="a"),
    dividend(action_id="b"),  # seen in one response: the same moment, the same values
    dividend(action_id="c", amount=5.0, kind="SC"),
    dividend(action_id="d", currency=None),
    dividend("ENB", amount=0.8875, currency="CAD"),
    dividend("TINY", amount=0.0000005, kind=None),
]


def insert(layer: str, row: dict[str, Any]) -> tuple[str, list[Any]]:
    """An insert as the earlier version left the row."""
    names = ("split_from", "split_to", "amount", "currency", "declaration_date", "record_date", "pay_date", "kind", "frequency")
    values = [row["symbol"], row["provider"], row["action"], row["ex_date"], row["action_id"], *(row[name] for name in names)]
    digest = row_hashes([table(row, dataset=CORPORATE_ACTIONS)[name].cast("string") for name in names])[0].as_py()
    marks = ", ".join("?" * 18)
    text = f"INSERT INTO {layer}_corporate_actions ({COLUMNS}) VALUES ({marks})"
    return text, [*values, digest, "old", naive(row["ingest_ts"]), naive(SEEN)]


def test_actions_of_an_earlier_version_are_one_each(connection: WarehouseConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_with_hooks(connection) as warehouse, monkeypatch.context() as patch:
        patch.setattr(migrations, "_ALL", tuple(migration for migration in migrations._ALL if migration.version <= 46))
        warehouse.migrate()
        with warehouse._transaction():
            for row in OLD:
                for layer in ("bronze", "silver"):
                    warehouse._execute("insert", *insert(layer, row))
    with open_with_hooks(connection) as warehouse:
        assert warehouse.migrate() == [str(m) for m in migrations.migrations(warehouse.dialect) if m.version > 46]
        ids = "SELECT symbol, action_id FROM silver_corporate_actions ORDER BY symbol, action_id"
        migrated = [tuple(row.values()) for row in warehouse.query(ids).to_pylist()]
        assert migrated == [
            ("AAPL", "240000 USD CD"),
            ("AAPL", "40000:10000"),
            ("AAPL", "5000000 USD SC"),
            ("ENB", "887500 CAD CD"),
            ("F", "10000:30000"),
            ("GE", "10000:80000"),
            ("T", "12810:10000"),
            ("TINY", "1 USD CD"),
        ]
        # The rows are those that the lake has of the same actions: they meet under one key.
        warehouse.load(CORPORATE_ACTIONS, table(*OLD, dataset=CORPORATE_ACTIONS), "new")
        assert [tuple(row.values()) for row in warehouse.query(ids).to_pylist()] == migrated
        (kept,) = warehouse.query(
            "SELECT split_to FROM silver_corporate_actions WHERE symbol = 'AAPL' AND action_type = 'split'"
        ).to_pylist()
        assert float(kept["split_to"]) == 8.0
        versions = (
            "SELECT COUNT(*) AS n FROM bronze_corporate_actions WHERE symbol = 'AAPL' AND action_type = 'split' AND load_id = 'old'"
        )
        assert warehouse.query(versions).to_pylist()[0]["n"] == 3
