"""A run that requests exactly the cells of a list of gaps."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from market_data.core.errors import ParamError
from market_data.core.outcome import State
from market_data.lake.ledger import read_coverage
from market_data.pipeline.gap_list import GAPS, GapList, read_gaps, write_gaps
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

DAYS = [date(2026, 11, day) for day in (2, 3, 4, 5, 6, 9, 10)]
SYMBOLS = ["AAPL", "IBM", "KO", "MSFT"]


def gaps_of(cells, found, source="mock"):
    columns = [pa.array(values, kind.type) for values, kind in zip(zip(*cells, strict=True), GAPS, strict=True)]
    return GapList("ohlcv-1d", source, found, pa.table(columns, schema=GAPS))


@pytest.fixture
def world(tmp_path):
    made = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", ""), options={}))
    made.run(DAYS, SYMBOLS)
    return made


def delete(world, symbol, day):
    (key,) = [key for key, _ in world.lake.list("raw") if f"symbol={symbol}/" in key and key.endswith(f"{day}.parquet")]
    world.lake.delete(key)
    return key


def raw(world):
    return {key: body for key, body in world.objects().items() if key.startswith("raw/")}


def test_recorded_cells_are_requested_and_no_others(world):
    before = raw(world)
    lost = [delete(world, "AAPL", DAYS[1]), delete(world, "KO", DAYS[1]), delete(world, "KO", DAYS[5])]
    gaps = gaps_of([("AAPL", DAYS[1]), ("KO", DAYS[1]), ("KO", DAYS[5])], world.now)
    planned, report = world.repair(gaps)
    assert planned.plan.cells == 3
    requested = {(s, d) for b in world.batches for block in b.blocks for s in block.symbols for d in b.sessions
                 if any(d in i for i in block.intervals)}  # fmt: skip
    assert requested == {("AAPL", DAYS[1]), ("KO", DAYS[1]), ("KO", DAYS[5])}
    after = raw(world)
    assert after.keys() == before.keys()
    assert {key for key in after if after[key] != before[key]} <= set(lost)
    assert not report["red"]


def test_a_repaired_cell_is_not_requested_again(world):
    delete(world, "AAPL", DAYS[1])
    gaps = gaps_of([("AAPL", DAYS[1])], world.now)
    world.repair(gaps)
    again, _ = world.repair(gaps, run_id="again")
    assert again.plan.calls == 0
    assert "Repaired since, not requested: 1 cells" in again.note
    forced, _ = world.repair(gaps, run_id="forced", force=True)
    assert forced.plan.cells == 1


def test_cells_without_a_record_are_requested_as_before(world):
    gaps = gaps_of([("ORCL", DAYS[2])], world.now)
    world.repair(gaps)
    coverage = read_coverage(world.lake, "ohlcv-1d", "mock")
    assert coverage.state("ORCL", DAYS[2]) is State.HAVE
    assert coverage.state("ORCL", DAYS[3]) is None


def test_sessions_that_are_not_over_are_left_for_later(world):
    later = (world.now + timedelta(days=3)).date()
    planned, _ = world.repair(gaps_of([("AAPL", later), ("AAPL", DAYS[0])], world.now))
    assert planned.plan.cells == 1
    assert planned.pending == (later,)


def test_a_list_is_written_once_and_read_for_its_source_only(world):
    gaps = gaps_of([("AAPL", DAYS[1])], world.now)
    key = write_gaps(world.lake, gaps)
    assert write_gaps(world.lake, gaps) == key
    assert read_gaps(world.lake, key, "ohlcv-1d", "mock").cells.equals(gaps.cells)
    with pytest.raises(ParamError, match="this run is for ohlcv-1d of polygon"):
        read_gaps(world.lake, key, "ohlcv-1d", "polygon")
    with pytest.raises(ParamError, match="no such list of gaps"):
        read_gaps(world.lake, "repairs/x.parquet", "ohlcv-1d", "mock")
