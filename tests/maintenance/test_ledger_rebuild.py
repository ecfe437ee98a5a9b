"""Lost records of the ledger are written anew from receipts, objects and quality results, and nothing refused becomes loaded."""

import shutil
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.core.outcome import State
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import read_coverage
from market_data.maintenance.ledger_rebuild import NOT_TOLD, rebuild_ledger
from market_data.pipeline.selection import Selection
from tests.pipeline.model_vendor import Bar, Kind, ModelHook, Shape, Vendor
from tests.pipeline.runs import World, feed_of

DAYS = [date(2026, 11, day) for day in (2, 3, 4, 5, 6)]
SYMBOLS = ["AAPL", "IBM", "KO", "MSFT", *(f"S{number:02d}" for number in range(20))]
SELECTION = Selection(OHLCV_1D, "mock", Layout())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Bars, one that is missing, one that the gate rejects, a session that the checkpoint refuses, and a bar that is withdrawn later."""
    vendor = Vendor(SYMBOLS)
    made = world_in(tmp_path_factory.mktemp("made"), vendor)
    long_ago = made.now - timedelta(days=60)
    vendor.change(("IBM", DAYS[1]), None, long_ago)
    vendor.change(("KO", DAYS[2]), Bar(kind=Kind.ODD), long_ago)
    for symbol in SYMBOLS:
        vendor.change((symbol, DAYS[4]), Bar(kind=Kind.STRANGE), long_ago)
    made.run(DAYS, SYMBOLS)
    vendor.change(("AAPL", DAYS[0]), None, made.now)
    made.run(DAYS[:1], ["AAPL"], made.context("later", force=True))
    return made


@pytest.fixture
def world(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made.folder, tmp_path / "world")
    return world_in(tmp_path / "world", Vendor(SYMBOLS))


def world_in(folder, vendor):
    made = World(feed_of("mock_ohlcv_1d"), folder, lambda: ModelHook(vendor, Shape.MARKET, "run", lambda: made.now))
    return made


def records(world):
    table = read_coverage(world.lake, "ohlcv-1d", "mock").table.select(CELLS.names).cast(CELLS)
    return table.sort_by([("symbol", "ascending"), ("session", "ascending")])


def forget(world):
    keys = [key for key, _ in world.lake.list("manifest")]
    for key in keys:
        world.lake.delete(key)
    return keys


def rebuild(world, cells, broken=()):
    with world.warehouse() as warehouse:
        return rebuild_ledger(world.lake, warehouse, SELECTION, cells, tuple(broken))


def without_gaps(table):
    """Suspected gaps are found again by the next run: here they are empty."""
    return [(row["symbol"], row["session"], row["state"]) for row in table.to_pylist()]


def test_every_state_is_as_it_was(world):
    before = records(world)
    assert {*before["state"].to_pylist()} == {"have", "empty", "quarantined", "refused"}
    forget(world)
    done = rebuild(world, before)
    assert without_gaps(records(world)) == without_gaps(before)
    assert done.not_told == done.without_rows == 0
    refused = pc.equal(before["state"], "refused")
    assert records(world).filter(refused)["reason"].to_pylist() == before.filter(refused)["reason"].to_pylist()
    objects = world.objects()
    rebuild(world, before)
    assert world.objects() == objects


def test_records_of_an_unreadable_object_are_written_and_the_object_is_kept_aside(world):
    before = records(world)
    (key, *_) = [key for key, _ in world.lake.list("manifest") if "suspected" not in key]
    world.lake.update(key, lambda _: b"torn")
    done = rebuild(world, before.slice(0, 0), [key])
    assert without_gaps(records(world)) == without_gaps(before)
    assert done.kept == (key,)
    assert world.lake.get(key) is None
    assert world.lake.get(f"broken/{key}").body == b"torn"


def test_a_cell_is_refused_where_neither_checkpoint_nor_warehouse_tells(world):
    before = records(world)
    forget(world)
    for key, _ in world.lake.list("quality"):
        world.lake.delete(key)
    with world.warehouse() as warehouse, warehouse._transaction():
        warehouse._execute(
            "delete", f"DELETE FROM silver_prices WHERE symbol = 'MSFT' AND bar_time = TIMESTAMP '{DAYS[0]} 00:00:00'"
        )
    done = rebuild(world, before)
    after = {(row["symbol"], row["session"]): row for row in records(world).to_pylist()}
    assert after["MSFT", DAYS[0]]["state"] == State.REFUSED
    assert after["MSFT", DAYS[0]]["reason"] == NOT_TOLD
    assert after["MSFT", DAYS[1]]["state"] == State.HAVE
    assert {after[symbol, DAYS[4]]["state"] for symbol in SYMBOLS} == {State.REFUSED}
    assert done.not_told == 1 + len(SYMBOLS)
    assert f"{1 + len(SYMBOLS)} of them are refused because nothing tells" in "\n".join(done.sentences())


def test_a_later_record_counts(world):
    before = records(world)
    some = before.filter(pc.equal(before["symbol"], "MSFT"))
    rebuild(world, some)
    assert records(world).equals(before)


def test_a_cell_whose_object_is_gone_is_left_without_a_record(world):
    before = records(world)
    forget(world)
    (key,) = [key for key, _ in world.lake.list("raw") if "symbol=MSFT" in key and key.endswith(f"{DAYS[1]}.parquet")]
    world.lake.delete(key)
    done = rebuild(world, before)
    assert done.without_rows == 1
    assert read_coverage(world.lake, "ohlcv-1d", "mock").state("MSFT", DAYS[1]) is None
    assert len(records(world)) == len(before) - 1


def test_staged_cells_are_left_to_the_next_run(world):
    from market_data.lake import staging

    before = records(world)
    forget(world)
    waiting = pa.table([["MSFT"], pa.array([DAYS[1]], pa.date32()), ["have"], [""]], schema=CELLS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("market_data.maintenance.ledger_rebuild._staged", lambda *_: waiting)
        rebuild(world, before)
    assert staging.waiting(world.lake, "ohlcv-1d", "mock") == []
    assert read_coverage(world.lake, "ohlcv-1d", "mock").state("MSFT", DAYS[1]) is None
