"""A new warehouse from the lake alone: the same rows as the runs loaded, without a provider."""

from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data import pipeline
from market_data.core.errors import ConfigError
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.ticks import TBBO
from market_data.lake import staging
from market_data.lake.cells import table_of
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout, ParsedKey
from market_data.lake.ledger import write_cells
from market_data.lake.staging import StagedInfo
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.pipeline import loadable, rebuild
from market_data.warehouse import WarehouseConnection, open_warehouse
from tests.lake.rows import D0, T0, bars, weekdays
from tests.lake.test_receipts import receipt_of

DAYS = weekdays(D0, 5)
NO_MONTH = {"year": 2023, "month": None, "grain": "year"}
RUN = RunInfo("dag", "r1", "manual", 0, T0)
SELECT = "SELECT symbol, bar_time, open_px, high_px, low_px, close_px, volume, provider, ingest_ts FROM {} ORDER BY 1, 2, 9"


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def warehouse(tmp_path):
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": f"{tmp_path}/warehouse.duckdb", "chunk_rows": 7})) as opened:
        yield opened


def put(lake, cells, grain="day", **values):
    return land(lake, Layout(), OHLCV_1D, "polygon", bars(cells, **values), grain, refetch=True).rows


def record(lake, cells, state=State.HAVE, reason=""):
    table = pa.concat_tables([cell_table(symbol, day, state, reason) for symbol, day in cells])
    write_cells(lake, "ohlcv-1d", "polygon", RUN, f"b{len(cells)}-{state}-{len(reason)}", table)


def cell_table(symbol, day, state, reason):
    return pa.table([[symbol], pa.array([day], pa.date32()), [str(state)], [reason]], schema=CELLS)


def selection(**others):
    return pipeline.Selection(**({"dataset": OHLCV_1D, "source": "polygon", "layout": Layout()} | others))


def test_the_newest_row_of_both_grains_is_loaded(lake, warehouse, monkeypatch):
    monkeypatch.setattr(rebuild, "AT_A_TIME", 2)
    cells = [(symbol, day) for symbol in ("AAPL", "BRK.B", "IBM") for day in DAYS]
    put(lake, cells, "year")
    put(lake, [("AAPL", DAYS[1])], "day", close=10.5, at=T0 + timedelta(hours=1))
    record(lake, cells)
    done = pipeline.rebuild_warehouse(lake, warehouse, selection())
    assert done == pipeline.Rebuilt(symbols=3, objects=4, rows=15, changed=15)
    silver = warehouse.query(SELECT.format("silver_prices"))
    assert silver.equals(warehouse.query(SELECT.format("bronze_prices")))
    closes = {(r["symbol"], r["bar_time"].date()): float(r["close_px"]) for r in silver.to_pylist()}
    assert closes == {cell: 10.5 if cell == ("AAPL", DAYS[1]) else 10.0 for cell in cells}
    again = pipeline.rebuild_warehouse(lake, warehouse, selection(), now=datetime.now(T0.tzinfo))
    assert (again.rows, again.changed) == (15, 0)


def test_only_cells_that_runs_have_loaded_are_loaded(lake, warehouse):
    put(lake, [("AAPL", day) for day in DAYS])
    record(lake, [("AAPL", DAYS[0])])
    record(lake, [("AAPL", DAYS[1])], State.REFUSED, "row count")
    record(lake, [("AAPL", DAYS[2])], State.QUARANTINED, "the gate rejected the row")
    record(lake, [("AAPL", DAYS[3])], State.PENDING, "row count")  # recent and refused
    done = pipeline.rebuild_warehouse(lake, warehouse, selection())  # nothing is recorded for the fifth
    assert (done.rows, done.left_out) == (1, 4)
    record(lake, [("AAPL", DAYS[3])], State.PENDING, "there may be more; requested again until 3 sessions later")
    record(lake, [("AAPL", DAYS[2])], State.QUARANTINED, "the gate turned some of its rows away")
    assert pipeline.rebuild_warehouse(lake, warehouse, selection()).rows == 3


def test_what_waits_in_staging_is_left_to_the_feeds_next_run(lake, warehouse):
    put(lake, [("AAPL", day) for day in DAYS])
    record(lake, [("AAPL", day) for day in DAYS])
    receipt = receipt_of("AAPL")
    with staging.Rows() as staged_rows:
        staged_rows.add(bars([("AAPL", DAYS[0])]))
        staging.write(lake, "ohlcv-1d", "polygon", 16 * "a", StagedInfo(RUN, "b000", "day", receipt), staged_rows)
    staged = table_of(receipt.cells)
    done = pipeline.rebuild_warehouse(lake, warehouse, selection())
    assert (done.rows, done.left_out) == (len(DAYS) - len(staged), len(staged))


@pytest.mark.parametrize("broken", ["day", "year"])
def test_nothing_is_loaded_for_the_dates_of_an_object_that_cannot_be_read(lake, warehouse, broken):
    """Another object may hold an older value of the same cell."""
    cells = [(symbol, day) for symbol in ("AAPL", "IBM") for day in DAYS]
    put(lake, cells, "year")
    put(lake, [("AAPL", DAYS[1])], "day", close=10.5, at=T0 + timedelta(hours=1))
    record(lake, cells)
    key = next(key for key, _ in lake.list("raw") if "AAPL" in key and Layout().parse(key).grain == broken)
    lake.update(key, lambda _: b"PAR1 cut")
    done = pipeline.rebuild_warehouse(lake, warehouse, selection())
    assert [key in sentence for sentence in done.unreadable] == [True]
    assert done.rows == len(warehouse.query(SELECT.format("silver_prices"))) == {"day": 9, "year": 5}[broken]


@pytest.mark.parametrize(
    ("parts", "left_out"),
    [
        ({"session": date(2023, 9, 18)}, [1]),
        ({}, [0, 1]),
        ({"month": 9}, [1]),
        ({"docdate": date(2023, 9, 30)}, [0, 1, 2]),
    ],
)
def test_the_dates_of_an_object_are_its_session_month_year_or_all_of_its_symbol(parts, left_out):
    cells = [("AAPL", date(2023, 1, 3)), ("AAPL", date(2023, 9, 18)), ("AAPL", date(2024, 9, 18)), ("IBM", date(2023, 9, 18))]
    rows = pa.table({"symbol": [symbol for symbol, _ in cells], "session": [day for _, day in cells]})
    broken = ParsedKey(**({"folder": "prices", "provider": "polygon", "symbol": "AAPL", "session": None} | NO_MONTH | parts))
    mask = loadable._may_be_in(broken, rows).to_pylist()
    assert [n for n, hit in enumerate(mask) if hit] == left_out


@pytest.mark.parametrize("grain", ["day", "year"])
def test_dates_and_symbols_select(lake, warehouse, grain):
    cells = [(symbol, day) for symbol in ("AAPL", "IBM") for day in [*DAYS, date(2023, 9, 18)]]
    put(lake, cells, grain)
    record(lake, cells)
    chosen = selection(symbols=("IBM", "NOSUCH"), start=DAYS[1], end=DAYS[2])
    dry = pipeline.rebuild_warehouse(lake, warehouse, chosen, dry_run=True)
    assert (dry.symbols, dry.objects, dry.rows) == (1, 2 if grain == "day" else 1, 0)
    assert pipeline.rebuild_warehouse(lake, warehouse, chosen).rows == 2
    found = warehouse.query("SELECT DISTINCT symbol FROM silver_prices").to_pylist()
    assert found == [{"symbol": "IBM"}]


def test_a_dry_run_opens_no_warehouse(lake):
    put(lake, [("AAPL", D0)])
    assert pipeline.rebuild_warehouse(lake, None, selection(), dry_run=True) == pipeline.Rebuilt(1, 1)


def test_a_dataset_without_a_table_is_an_error(lake, warehouse):
    with pytest.raises(ConfigError, match="tbbo has no table in the warehouse"):
        pipeline.rebuild_warehouse(lake, warehouse, selection(dataset=TBBO))


def test_only_given_cells_are_loaded_and_altered_values_restored(lake, warehouse):
    cells = [(symbol, day) for symbol in ("AAPL", "IBM") for day in DAYS]
    put(lake, cells)
    put(lake, [("AAPL", DAYS[0])], "year", close=11.0, at=T0 + timedelta(hours=1))
    record(lake, cells)
    pipeline.rebuild_warehouse(lake, warehouse, selection())
    before = warehouse.query(SELECT.format("silver_prices"))
    with warehouse._transaction():
        warehouse._execute(
            "delete", f"DELETE FROM silver_prices WHERE symbol = 'IBM' AND bar_time = TIMESTAMP '{DAYS[1]} 00:00:00'"
        )
        warehouse._execute("alter", f"UPDATE silver_prices SET vwap = 1 WHERE bar_time >= TIMESTAMP '{DAYS[3]} 00:00:00'")
    wanted = pa.concat_tables([cell_table(symbol, day, State.HAVE, "") for symbol, day in (("IBM", DAYS[1]), ("IBM", DAYS[3]))])
    done = pipeline.rebuild_warehouse(lake, warehouse, selection(), cells=wanted)
    assert (done.objects, done.rows, done.changed) == (2, 2, 2)
    changed = warehouse.query("SELECT symbol, bar_time FROM silver_prices WHERE vwap = 1 ORDER BY 1, 2").to_pylist()
    left = [(r["symbol"], r["bar_time"].date()) for r in changed]
    assert left == [("AAPL", DAYS[3]), ("AAPL", DAYS[4]), ("IBM", DAYS[4])]
    everything = pa.concat_tables([cell_table(symbol, day, State.HAVE, "") for symbol, day in cells])
    pipeline.rebuild_warehouse(lake, warehouse, selection(), cells=everything)
    assert warehouse.query(SELECT.format("silver_prices")).equals(before)
    nothing = pipeline.rebuild_warehouse(lake, warehouse, selection(), cells=wanted.slice(0, 0))
    assert (nothing.objects, nothing.rows) == (0, 0)


@pytest.mark.slow
def test_a_mixed_lake_is_rebuilt_and_its_session_files_are_read_for_all_symbols_at_once(lake, warehouse, monkeypatch):
    """As after two changes of ``file_grain``: year files, day files, and session files with news of both and further symbols."""
    symbols = [f"S{n:03d}" for n in range(60)]
    days = weekdays(D0, 80)
    values = {(symbol, day): (10.0, 0) for symbol in symbols for day in days}
    put(lake, list(values), "year")
    day_files = [(symbol, day) for symbol in symbols[:3] for day in days[:5]]
    put(lake, day_files, "day", close=10.2, at=T0 + timedelta(hours=1))
    corrected = [(symbol, day) for symbol in symbols[2:] for day in days[3:]]
    put(lake, [*corrected, *(("AAA", day) for day in days)], "session", close=10.4, at=T0 + timedelta(hours=2))
    put(lake, [("S002", days[4])], "day", close=10.6, at=T0 + timedelta(hours=3))
    for hours, (close, cells) in enumerate(((10.2, day_files), (10.4, corrected), (10.6, [("S002", days[4])])), start=1):
        values |= dict.fromkeys(cells, (close, hours))
    values |= {("AAA", day): (10.4, 2) for day in days}
    record(lake, list(values))
    reads = []
    tail = lake.get_tail
    monkeypatch.setattr(lake, "get_tail", lambda key, size: reads.append(key) or tail(key, size))
    monkeypatch.setattr(rebuild, "AT_A_TIME", 400)
    done = pipeline.rebuild_warehouse(lake, warehouse, selection())
    assert (done.symbols, done.rows, done.left_out, done.unreadable) == (61, len(values), 0, ())
    silver = warehouse.query(SELECT.format("silver_prices"))
    assert {(r["symbol"], r["bar_time"].date()): (float(r["close_px"]), r["ingest_ts"].hour) for r in silver.to_pylist()} == values
    assert silver.equals(warehouse.query(SELECT.format("bronze_prices")))
    assert len(reads) == 2 * len(days)  # once for the symbols with other files, once for the others
