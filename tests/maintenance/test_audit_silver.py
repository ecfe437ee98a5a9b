"""Silver is compared by values on every engine: altered, deleted and added rows are found, and a lost table."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core.instruments import calendar_of
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.maintenance.audit.cells import Names, days_of, symbols_of
from market_data.maintenance.audit.listing import day_of
from market_data.maintenance.audit.silver import Silver
from market_data.pipeline.selection import Selection
from tests.warehouse.engines import CONNECTIONS
from tests.warehouse.rows import bar, sessions, table

DAYS = sessions(30)


def everything(symbols, months):
    return np.ones(len(symbols), dtype=bool)


@pytest.mark.parametrize("engine", CONNECTIONS)
def test_every_difference_is_found_on_every_engine(engine, tmp_path):
    rows = table(*(bar(symbol, day, close=100.0 + n) for symbol in ("AAPL", "IBM") for n, day in enumerate(DAYS)))
    names, selection = Names(["AAPL", "IBM", "XRX"]), Selection(OHLCV_1D, "polygon", Layout())

    def found(warehouse):
        compared = Silver(warehouse, selection, calendar_of).compare(rows, names.names, names, everything)
        kinds = (compared.lacking, compared.changed, compared.only, compared.loaded)
        return [[(names.names[s], day_of(d)) for s, d in zip(symbols_of(c), days_of(c), strict=True)] for c in kinds]

    with CONNECTIONS[engine](tmp_path) as connection, open_with_hooks(connection) as warehouse:
        assert not Silver(warehouse, selection, calendar_of).exists
        warehouse.migrate()
        assert Silver(warehouse, selection, calendar_of).exists
        warehouse.load(OHLCV_1D, rows, "one")
        assert found(warehouse) == [[], [], [], []]
        added = DAYS[-1] + timedelta(days=60)
        warehouse.load(OHLCV_1D, table(bar("XRX", added)), "two")
        where = "symbol = '{}' AND bar_time >= TIMESTAMP '{:%Y-%m-%d %H:%M:%S}' AND bar_time <= TIMESTAMP '{:%Y-%m-%d %H:%M:%S}'"
        with warehouse._transaction():
            where_changed, where_deleted = where.format("AAPL", DAYS[3], DAYS[3]), where.format("IBM", DAYS[5], DAYS[6])
            warehouse._execute("change", f"UPDATE silver_prices SET close_px = close_px + 0.00000001 WHERE {where_changed}")
            warehouse._execute("delete", f"DELETE FROM silver_prices WHERE {where_deleted}")
        assert found(warehouse) == [
            [("IBM", DAYS[5].date()), ("IBM", DAYS[6].date())],
            [("AAPL", DAYS[3].date())],
            [("XRX", added.date())],
            [("XRX", added.date())],
        ]
        if engine == "duckdb":  # the others have a primary key
            with warehouse._transaction():
                of_a_day = where.format("AAPL", DAYS[7], DAYS[7])
                warehouse._execute("insert", f"INSERT INTO silver_prices SELECT * FROM silver_prices WHERE {of_a_day}")
            assert found(warehouse)[1] == [("AAPL", DAYS[3].date()), ("AAPL", DAYS[7].date())]
            whole = table(*(bar("AAPL", day, close=100.0 + n) for n, day in enumerate(DAYS)))
            warehouse.restore(OHLCV_1D, whole, "restored")
            assert found(warehouse)[1] == []
        by_hand = added + timedelta(days=1)
        values = f"'XRX', timeframe, provider, TIMESTAMP '{by_hand:%Y-%m-%d %H:%M:%S}'"
        rest = "open_px, high_px, low_px, close_px, volume, row_hash, load_id, ingest_ts, loaded_at"
        with warehouse._transaction():
            warehouse._execute(
                "insert",
                f"INSERT INTO silver_prices (symbol, timeframe, provider, bar_time, {rest})"
                f" SELECT {values}, {rest} FROM silver_prices WHERE symbol = 'XRX'",
            )
        assert found(warehouse)[2:] == [[("XRX", added.date()), ("XRX", by_hand.date())], [("XRX", added.date())]]
        alone = Silver(warehouse, selection, calendar_of).never_loaded(["AAPL", "IBM", "XRX"])
        assert alone.select(["symbol", "session"]).to_pylist() == [{"symbol": "XRX", "session": by_hand.date()}]
        assert warehouse.remove(OHLCV_1D, alone.drop_columns("session"), "removed") == 1
        assert found(warehouse)[2:] == [[("XRX", added.date())]] * 2
        loaded_since = alone.drop_columns("session").set_column(3, "bar_time", pa.array([added], pa.timestamp("us")))
        assert warehouse.remove(OHLCV_1D, loaded_since, "kept") == 0
        counts = Silver(warehouse, selection, calendar_of).counts.to_pylist()
        assert sum(row["row_count"] for row in counts) == 59
        assert {row["month"] for row in counts if row["symbol"] == "XRX"} == {(added.year - 1970) * 12 + added.month - 1}
    assert date(2024, 1, 2) == DAYS[0].date()
