"""Checksums of silver are the same in SQL, on every engine, and in Arrow; every changed value changes one."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.registry import DATASETS, dataset
from market_data.warehouse.arrow_rows import to_values
from market_data.warehouse.base import Warehouse
from market_data.warehouse.checksums import MONTH, arrow_checksums, binds, checksums, count_by_month, exact, rows_between
from market_data.warehouse.schema import table as tables_of
from tests.warehouse.engines import CONNECTIONS
from tests.warehouse.rows import FIRST, bar, dividend, item, midnight, naive, split, table, trade

SPAN = [naive(midnight(date(2000, 1, 1))), naive(midnight(date(2100, 1, 1)))]
ROWS: dict[str, list[dict[str, Any]]] = {
    "ohlcv-1d": [
        bar("AAPL", close=100.1),
        bar("AAPL", FIRST + timedelta(days=1), close=0.1 + 0.2, volume=None, vwap=None, trade_count=None),
        bar("AAPL", FIRST + timedelta(days=40), close=99999999.12345678, trade_count=9_000_000_000),
        bar("BRK.B", close=-37.63, low=-40.32),
        bar("BRK.B", datetime(2020, 2, 29, tzinfo=FIRST.tzinfo)),
    ],
    "trades": [
        trade(),
        trade(ordinal=1, side=None, venue=None, conditions=None),
        trade(ts_event=FIRST + timedelta(hours=23, minutes=59, seconds=59, microseconds=999999), sequence=2**62, venue="XNAS"),
        trade("ESZ4", price=-1.25, size=0.5, side="N", conditions="T:é*"),
    ],
    "fundamentals": [
        item(),
        item(item="netIncomeApplicableToCommonShares", value=-1.5),
        item(item="eps", value=None, accepted_at=None, currency=None),
        item(statement="balance_sheet", period="FY", period_end=date(2023, 9, 30)),
    ],
    "corporate-actions": [dividend(), split(), dividend("MSFT", date(2024, 2, 20), withdrawn=True)],
    "symbol-changes": [
        {
            "symbol": "META", "session": date(2022, 6, 9), "effective_date": date(2022, 6, 9), "old_symbol": "FB", "new_symbol": "META",
            "issuer": "Meta Platforms, Inc.", "withdrawn": None, "provider": "polygon", "ingest_ts": FIRST,
        },
    ],
}  # fmt: skip
"""Rows for each table."""


def in_sql(warehouse: Warehouse, name: str, symbols: list[str]) -> pa.Table:
    found, target = dataset(name), tables_of(dataset(name).table)
    source = ROWS[name][0]["provider"]
    statement = checksums(target, warehouse.dialect, len(symbols))
    rows = exact(warehouse.query(statement, [*binds(target, source, found.timeframe), *SPAN, *symbols]))
    return rows.sort_by([("symbol", "ascending"), (MONTH, "ascending")])


@pytest.mark.parametrize("engine", CONNECTIONS)
def test_sql_and_arrow_agree_on_every_engine_and_table(engine: str, tmp_path: Path) -> None:
    with CONNECTIONS[engine](tmp_path) as connection, open_with_hooks(connection) as warehouse:
        warehouse.migrate()
        for name, rows in ROWS.items():
            found, target = dataset(name), tables_of(dataset(name).table)
            given = found.identified(table(*rows, dataset=found))
            warehouse.load(found, given, name)
            values = to_values(target, given)
            expected = arrow_checksums(target, values).sort_by([("symbol", "ascending"), (MONTH, "ascending")])
            symbols = sorted({row["symbol"] for row in rows})
            assert in_sql(warehouse, name, symbols).to_pylist() == expected.to_pylist(), name
            source, timeframe = rows[0]["provider"], found.timeframe
            counts = exact(warehouse.query(count_by_month(target), [*binds(target, source, timeframe), *SPAN]))
            assert (
                counts.sort_by([("symbol", "ascending"), (MONTH, "ascending")]).to_pylist()
                == expected.select(["symbol", MONTH, "row_count"]).to_pylist()
            )
            given_binds = [*binds(target, source, timeframe), *SPAN, *symbols]
            stored = warehouse.query(rows_between(target, len(symbols)), given_binds)
            assert stored.cast(values.schema).sort_by("symbol").num_rows == len(values)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE silver_prices SET close_px = close_px + 0.00000001 WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-02'",
        "UPDATE silver_prices SET volume = NULL WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-02'",
        "UPDATE silver_prices SET volume = 0 WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-03'",
        "UPDATE silver_prices SET trade_count = 11 WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-02'",
        "UPDATE silver_prices SET bar_time = bar_time + INTERVAL 1 DAY WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-03'",
        "DELETE FROM silver_prices WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2024-01-03'",
        # two values exchanged: the plain sums stay
        "UPDATE silver_prices SET close_px = CASE WHEN bar_time = TIMESTAMP '2024-01-02' THEN 0.3 ELSE 100.1 END"
        " WHERE symbol = 'AAPL' AND bar_time < TIMESTAMP '2024-01-04'",
    ],
)
def test_a_changed_row_changes_a_checksum(change: str, tmp_path: Path) -> None:
    with CONNECTIONS["duckdb"](tmp_path) as connection, open_with_hooks(connection) as warehouse:
        warehouse.migrate()
        warehouse.load(OHLCV_1D, table(*ROWS["ohlcv-1d"]), "one")
        before = in_sql(warehouse, "ohlcv-1d", ["AAPL"])
        with warehouse._transaction():
            warehouse._execute("change", change)
        after = in_sql(warehouse, "ohlcv-1d", ["AAPL"])
        assert before.slice(1).equals(after.slice(1)), "the other month is as it was"
        assert not before.slice(0, 1).equals(after.slice(0, 1))


def test_every_table_has_rows_here() -> None:
    assert {dataset(name).table for name in DATASETS} - {None} == {dataset(name).table for name in ROWS}
