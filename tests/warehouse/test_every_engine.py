"""Each engine's way once through, in the first tier: the whole contract runs on the servers in the second."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.datasets.bars import OHLCV_1D
from market_data.warehouse import ENGINES
from market_data.warehouse.base import Loaded
from tests.warehouse.engines import CONNECTIONS
from tests.warehouse.rows import bar, later, sessions, table


def test_every_engine_has_a_test_database() -> None:
    assert set(CONNECTIONS) == set(ENGINES)


@pytest.mark.parametrize("engine", CONNECTIONS)
def test_a_load_a_repeat_a_correction_and_what_is_seen_of_it(engine: str, tmp_path: Path) -> None:
    with CONNECTIONS[engine](tmp_path) as connection, open_with_hooks(connection) as warehouse:
        assert warehouse.migrate()
        assert warehouse.migrate() == []
        rows = table(*(bar("BRK.B", day, close=100.0 + n) for n, day in enumerate(sessions(30))))
        assert warehouse.load(OHLCV_1D, rows, "one") == Loaded(30, 30)
        assert warehouse.load(OHLCV_1D, rows, "one") == Loaded(30, 30, already=True)
        corrected = [*rows.to_pylist()[:-1], rows.to_pylist()[-1] | {"close": 200.0, "high": 200.0, "ingest_ts": later(60)}]
        assert warehouse.load(OHLCV_1D, table(*corrected), "two") == Loaded(30, 1)
        (change,) = warehouse.query("SELECT symbol, old_close_px, new_close_px, new_load_id FROM gold_restatements").to_pylist()
        assert (change["symbol"], float(change["old_close_px"]), float(change["new_close_px"])) == ("BRK.B", 129.0, 200.0)
        assert change["new_load_id"] == "two"
        features = warehouse.query("SELECT ma_20, simple_ret FROM gold_price_features ORDER BY bar_time").to_pylist()
        assert [row["ma_20"] is None for row in features] == [True] * 19 + [False] * 11
        assert float(features[-1]["simple_ret"]) == pytest.approx(200 / 128 - 1, rel=1e-12)
