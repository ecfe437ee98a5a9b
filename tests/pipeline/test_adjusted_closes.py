"""FMP's bulk files have adjusted closes, the histories of symbols on the same plan have none: no run loses or ages a stored one."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import product

import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.writer import land
from market_data.maintenance.person import Person
from market_data.maintenance.state import reset
from market_data.pipeline.rebuild import rebuild_warehouse
from market_data.pipeline.selection import Selection
from market_data.providers.fmp.hook import FMPHook
from sandbox.http import SampleApi
from tests.contract.provider import KEY
from tests.pipeline.runs import World, feed_of
from tests.providers.sample_setup import hook_on
from tests.tiers import tiers

DAYS = calendar.sessions(date(2013, 1, 7), date(2013, 1, 9))
STORED, RESTATED = [(523.9, 67.937), (525.31, 68.1198)], 530.5631


@pytest.fixture(scope="module")
def api():
    with SampleApi(vendor="fmp", api_key=KEY) as running:
        yield running


@pytest.fixture
def world(api, tmp_path):
    api.forget()
    found = World(feed_of("fmp_ohlcv_1d"), tmp_path, lambda: hook_on(FMPHook, "fmp", api, extra={"plan": "ultimate"}))
    found.feed = replace(found.feed, options={})
    found.now = calendar.session_close(DAYS[-1]) + timedelta(days=30, hours=11)
    return found


def run(world, endpoint, grain, *, force=True):
    """Request both sessions of AAPL again; return the number of changed rows."""
    context = world.context(f"r{world.now:%H}", endpoint=endpoint, file_grain=grain, force=force)
    _, report = world.run(DAYS, ("AAPL",), context)
    assert report["red"] == []
    return report["rows_changed"]


def stored(world):
    """Return close and adjusted close of each session, which lake and silver agree on."""
    rows = read_rows(world.lake, Layout(), world.context().dataset, "fmp", ("AAPL",), DAYS[0], DAYS[-1] + timedelta(1))
    found = [(row["close"], row["adj_close"]) for row in rows.to_pylist()]
    silver = world.query("SELECT close_px, adj_close_px FROM silver_prices ORDER BY bar_time")
    assert [tuple(value and float(value) for value in row.values()) for row in silver] == found
    return found


@pytest.mark.parametrize(("first", "grain"), tiers(list(product(("day", "session"), ("day", "session", "year"))), ("day", "year")))
def test_a_history_keeps_the_adjusted_close_of_an_equal_bar_and_none_of_a_corrected_one(world, api, first, grain):
    assert run(world, "bulk", first) == len(DAYS)
    assert run(world, "history", grain) == 0
    assert stored(world) == STORED
    api.alter("AAPL", DAYS[1], multiply=1.01)
    assert run(world, "history", grain) == 1
    assert stored(world) == [STORED[0], (RESTATED, None)]  # the old one would be wrong beside the new close
    assert run(world, "bulk", first) == 1
    assert stored(world) == [STORED[0], (RESTATED, 68.801)]
    assert len(world.query("SELECT * FROM bronze_prices")) == len(DAYS) + 2


@pytest.mark.parametrize(("first", "grain"), tiers(list(product(("day", "session", "year"), ("day", "session"))), ("year", "day")))
def test_a_bulk_file_adds_adjusted_closes_to_bars_that_had_none(world, first, grain):
    assert run(world, "history", first) == len(DAYS)
    assert [adjusted for _, adjusted in stored(world)] == [None, None]
    assert run(world, "bulk", grain) == len(DAYS)
    assert stored(world) == STORED
    assert run(world, "history", first) == 0
    assert stored(world) == STORED


def forget(world, how):
    """Let the ledger not know the cells any more: a person resets them, or the ledger's object cannot be read."""
    if how == "reset":
        selection = Selection(world.context().dataset, "fmp", Layout(), ("AAPL",), DAYS[0], DAYS[-1])
        assert reset(world.lake, selection, Person("Ada", "wrong plan"), world.now, dry_run=False).cells == len(DAYS)
        return
    (key,) = [key for key, _ in world.lake.list("manifest")]
    (path,) = world.folder.glob(f"lake/{key}")
    path.write_bytes(path.read_bytes()[:-5])


FORGOTTEN = list(product(("reset", "ledger"), ("day", "session"), ("day", "session", "year")))


@pytest.mark.parametrize(("how", "first", "grain"), tiers(FORGOTTEN, ("reset", "day", "year")))
def test_a_history_of_cells_without_a_record_keeps_the_adjusted_close_of_an_equal_bar(world, how, first, grain):
    assert run(world, "bulk", first) == len(DAYS)
    forget(world, how)
    raw = {key: body for key, body in world.objects().items() if key.startswith("raw/")}
    assert run(world, "history", grain, force=False) == 0
    assert stored(world) == STORED
    assert {key: body for key, body in world.objects().items() if key.startswith("raw/")} == raw  # equal values cause no write


def lose(world, first, grain):
    """Store a newer equal bar without its adjusted close in a file of ``grain``, and load it, as earlier versions did."""
    dataset = world.context().dataset
    assert run(world, "bulk", first) == len(DAYS)
    rows = read_rows(world.lake, Layout(), dataset, "fmp", ("AAPL",), DAYS[0], DAYS[-1] + timedelta(1))
    later = pa.scalar(world.now + timedelta(minutes=1), rows.schema.field("ingest_ts").type)
    for name, values in (("adj_close", pa.nulls(len(rows), pa.float64())), ("ingest_ts", pa.repeat(later, len(rows)))):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    land(world.lake, Layout(), dataset, "fmp", rows, grain, refetch=False)
    with world.warehouse() as warehouse:
        rebuild_warehouse(world.lake, warehouse, Selection(dataset, "fmp", Layout(), ("AAPL",), DAYS[0], DAYS[-1]), now=world.now)
    world.now += timedelta(hours=1)


HEALED = [(first, grain) for first, grain in product(("day", "session"), ("day", "session", "year")) if first != grain]


@pytest.mark.parametrize(("first", "grain"), tiers(HEALED, ("day", "year")))
def test_adjusted_closes_that_earlier_versions_lost_are_fetched_again_by_one_forced_run(world, api, first, grain):
    """The run of docs/reference/providers.md, on the plan whose histories have none by themselves. ``auto`` chooses the endpoint."""
    lose(world, first, grain)
    assert [adjusted for _, adjusted in stored(world)] == [None, None]
    asking = {"extra": {"plan": "ultimate"}, "options": {"adj_close": "yes"}}
    world.make_hook = lambda: hook_on(FMPHook, "fmp", api, **asking)
    for endpoint in ("auto", "history"):
        assert run(world, endpoint, grain) == (len(DAYS) if endpoint == "auto" else 0)
        assert stored(world) == STORED
