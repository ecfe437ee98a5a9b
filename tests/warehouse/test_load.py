"""A run's load: what passed of its receipts, in chunks, each a transaction; nothing of a dataset that stays in the lake."""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.core.outcome import Evidence
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.base import Dataset
from market_data.datasets.ticks import STATISTICS, TBBO, TRADES
from market_data.lake import receipts, staging
from market_data.lake.receipts import OBJECTS, RequestReceipt
from market_data.lake.staging import StagedInfo
from market_data.lake.store import Lake
from market_data.pipeline import check, requests
from market_data.pipeline import load as steps
from market_data.pipeline.leftovers import LeftoverGroup
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.base import Warehouse
from tests.warehouse.rows import SEEN, bar, bars, midnight, table, trade

EVIDENCE = Evidence(calls=1, retries=0, pages=1, bytes=1, rows_received=1, rows_declared=None, last_page_seen=True)
WEEK = Interval(date(2024, 1, 1), date(2024, 1, 13))


RUN = RunInfo("dag", "run", "manual", 0, SEEN)


def context(lake: Lake, dataset: Dataset, clear_number: int = 0) -> Any:
    """Return as much of a ``RunContext`` as a load reads."""
    run = replace(RUN, clear_number=clear_number)
    return SimpleNamespace(dataset=dataset, lake=lake, feed=SimpleNamespace(dataset=dataset.name), source="polygon", run=run)


def checked(*prefixes: str, refused: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"prefixes": list(prefixes), "passed": [WEEK.to_json()], "refused": [{"partition": name} for name in refused]}


def put(lake: Lake, prefix: str, dataset: Dataset, symbol: str, rows: Any, week: Interval = WEEK) -> None:
    request = Request(dataset.name, "range", (symbol,), (week,))
    receipt = RequestReceipt(request, EVIDENCE, {"ingest_us": 0})
    with staging.Rows() as staged:
        staged.add(rows)
        key = staging.write(lake, dataset.name, "polygon", 16 * prefix, StagedInfo(RUN, "b000", "day", receipt), staged)
    assert receipts.write(lake, prefix, receipt.with_staged(key), OBJECTS.empty_table())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each transaction, as they come."""
    seen: list[int] = []
    load = Warehouse.load

    def watched(warehouse: Warehouse, dataset: Dataset, rows: Any, *of: Any) -> Any:
        seen.append(len(rows))
        return load(warehouse, dataset, rows, *of)

    monkeypatch.setattr(Warehouse, "load", watched)
    return seen


def test_receipts_of_any_size_are_loaded_in_chunks(connection: WarehouseConnection, lake: Lake, chunks: list[int]) -> None:
    of_day = [bar("MSFT", midnight(date(2024, 1, 2 + n)), close=50.0 + n) for n in range(3)]
    for prefix, symbol, rows in [
        ("a", "AAPL", bars("AAPL", 10)),
        ("a", "BRK.B", bars("BRK.B", 0)),
        ("b", "MSFT", table(*of_day)),
        ("b", "IBM", bars("IBM", 12)),  # one of them is not of this week
    ]:
        put(lake, prefix, OHLCV_1D, symbol, rows)
    word = checked("a", "b", refused=("2024-01-03", "MSFT/2024"))
    with open_with_hooks(replace(connection, extra={**connection.extra, "chunk_rows": 4})) as warehouse:
        done = steps.load_run(context(lake, OHLCV_1D), word, warehouse)
        wanted = 9 + 10  # without the refused session; MSFT is refused whole
        assert done == {
            "of": steps.judged(word),
            "rows": wanted,
            "changed": wanted,
            "loads": 5,
            "already": 0,
            "leftover_errors": {},
        }
        assert chunks == [4, 4, 4, 4, 3]
        found = warehouse.query("SELECT symbol, COUNT(*) AS n FROM silver_prices GROUP BY symbol ORDER BY symbol").to_pylist()
        assert [(row["symbol"], row["n"]) for row in found] == [("AAPL", 9), ("IBM", 10)]
        runs = warehouse.query("SELECT DISTINCT dag_id, run_id FROM load_audit").to_pylist()
        assert runs == [{"dag_id": "dag", "run_id": "run"}]
        again = steps.load_run(context(lake, OHLCV_1D), word, warehouse)
        assert (again["rows"], again["changed"], again["already"]) == (wanted, wanted, 5)
        cleared = steps.load_run(context(lake, OHLCV_1D, clear_number=1), word, warehouse)
        assert (cleared["rows"], cleared["changed"], cleared["already"]) == (wanted, 0, 0)


def test_rows_come_by_symbol_then_date_so_that_a_chunk_spans_few_stored_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of requests are hashes: in their order a chunk spanned the symbols from A to Z."""
    weeks = [Interval(date(2024, 1, 1), date(2024, 1, 8)), Interval(date(2024, 1, 8), date(2024, 1, 15))]
    wanted = [(symbol, week) for symbol in ("AAPL", "BRK.B", "IBM", "MSFT", "NVDA", "WMT") for week in weeks]
    for symbol, week in wanted:
        put(lake, "a", OHLCV_1D, symbol, bars(symbol, 1, midnight(week.start)), week)
    here = context(lake, OHLCV_1D)
    staged = requests.staged_sizes(here)
    rows = [(table["symbol"][0].as_py(), table["session"][0].as_py()) for table in requests.request_rows(here, ["a"], staged)]
    assert rows == [(symbol, week.start) for symbol, week in wanted]

    def judged(_context: Any, _warehouse: Any, _receipts: Any, rows: Any, *_: Any) -> dict[str, Any]:
        return {"rows": [(table["symbol"][0].as_py(), table["session"][0].as_py()) for table in rows()]}

    monkeypatch.setattr(check, "_judge", judged)
    infos, _ = staging.describe(lake, staging.waiting(lake, OHLCV_1D.name, "polygon"))
    left = check._judge_leftover(here, None, LeftoverGroup(infos), staged, 0)  # type: ignore[arg-type]
    assert left["rows"] == rows
    assert [table["symbol"][0].as_py() for table in requests.staged_rows(here, left["keys"], staged)] == [name for name, _ in rows]


def test_nobody_holds_a_chunk_while_it_is_loaded() -> None:
    """Else the dataset's rows are in memory beside the warehouse's form of them."""
    chunks = steps.in_chunks([bars("AAPL", 10)], 4)
    held = [weakref.ref(chunk) for chunk in (next(chunks), next(chunks))]
    assert [chunk() for chunk in held] == [None, None]
    assert [len(chunk) for chunk in chunks] == [2]


def test_trades_are_loaded(connection: WarehouseConnection, lake: Lake) -> None:
    put(lake, "a", TRADES, "AAPL", table(*(trade(ordinal=n) for n in range(3)), dataset=TRADES))
    with open_with_hooks(connection) as warehouse:
        assert steps.load_run(context(lake, TRADES), checked("a"), warehouse)["changed"] == 3


@pytest.mark.parametrize("dataset", [TBBO, STATISTICS], ids=lambda dataset: dataset.name)
def test_what_stays_in_the_lake_is_said_to_and_opens_no_warehouse(
    tmp_path: Path, lake: Lake, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "warehouse.duckdb"
    word = checked("a")
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(file)})) as warehouse:
        done = steps.load_run(context(lake, dataset), word, warehouse)
    assert done == {"of": steps.judged(word), "rows": 0, "changed": 0, "loads": 0, "already": 0, "leftover_errors": {}}
    assert f"{dataset.name} has no table in the warehouse: it stays in the lake" in caplog.text
    assert not file.exists()
