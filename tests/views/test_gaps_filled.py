"""Gaps that an audit found and a later run of the feed has filled: the page does not show them any more."""

from datetime import date, timedelta

import pytest

from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout
from market_data.maintenance.audit import audit, write_report
from market_data.pipeline.selection import Selection
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.views.coverage import grid_of
from market_data.views.gaps import gaps_of
from market_data.views.places import Place
from tests.pipeline.runs import World, feed_of

DAYS = calendar.sessions(date(2026, 11, 9), date(2026, 11, 20))
NEXT = DAYS[-1] + timedelta(days=1)
SYMBOLS = ("AAPL", "MSFT")


@pytest.fixture
def world(tmp_path):
    found = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", ""), options={}))
    found.run(DAYS, SYMBOLS)
    return found


def delete_object(world):
    (key,) = [key for key, _ in world.lake.list("raw") if "symbol=AAPL/" in key and key.endswith(f"{DAYS[-1]}.parquet")]
    world.lake.delete(key)


def change_silver(world):
    _execute(world, f"UPDATE silver_prices SET vwap = 1 WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '{DAYS[-1]} 00:00:00'")


def delete_silver(world):
    _execute(world, f"DELETE FROM silver_prices WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '{DAYS[-1]} 00:00:00'")


def _execute(world, statement):
    with world.warehouse() as warehouse, warehouse._transaction():
        warehouse._execute("change", statement)


def audited(world):
    world.now += timedelta(hours=1)
    selection = Selection(dataset("ohlcv-1d"), "mock", Layout(), None, DAYS[0], DAYS[-1])
    with world.warehouse() as opened:
        found = audit(
            world.lake, opened, world.feed, selection, world.now, Universe("test", tuple(map(Member, SYMBOLS))), share=1.0
        )
    write_report(world.lake, found, world.now)
    return found.findings.to_pylist()


def listed(world):
    selection = Selection(dataset("ohlcv-1d"), "mock", Layout())
    place = Place(world.lake, world.feed, selection, ("mock",))
    rows = gaps_of(place, grid_of(place, world.now), world.now).table.to_pylist()
    found = [(row["symbol"], row["first_session"], row["cause"]) for row in rows if row["symbol"] == "AAPL"]
    return [row for row in found if DAYS[0] <= row[1] <= DAYS[-1]]


DAMAGES = {
    "object missing": delete_object,
    "warehouse changed": change_silver,
    "not loaded": delete_silver,
}


def later_run(world, how):
    """A run that requests all sessions again, or that of the next session, which rechecks the last ones."""
    if how == "scheduled":
        world.now = calendar.session_close(NEXT) + timedelta(hours=8)
        return world.run((NEXT,), SYMBOLS, world.context("scheduled", run_type="scheduled"))
    context = world.context("later", force=True) if how == "forced" else world.context("r1", clear_number=1)
    return world.run(DAYS, SYMBOLS, context)


@pytest.mark.parametrize("cause", DAMAGES)
@pytest.mark.parametrize("how", ["forced", "cleared", "scheduled"])
def test_a_gap_is_open_after_the_publish_of_a_later_run_if_an_audit_would_find_it(world, cause, how):
    DAMAGES[cause](world)
    assert [row["cause"] for row in audited(world)] == [cause]
    assert listed(world) == [("AAPL", DAYS[-1], cause)]
    _, report = later_run(world, how)
    assert report["red"] == []
    shown = listed(world)
    # A load leaves altered values as they are: that gap is still open, and only a repair fills it.
    assert shown == ([("AAPL", DAYS[-1], cause)] if cause == "warehouse changed" else [])
    assert [row["cause"] for row in audited(world)] == [cause for *_, cause in shown]


def test_a_run_without_anything_to_repair_records_nothing_anew(world):
    manifest = sorted(key for key, _ in world.lake.list("manifest"))
    _, report = later_run(world, "forced")
    assert report["red"] == []
    assert sorted(key for key, _ in world.lake.list("manifest")) == manifest
