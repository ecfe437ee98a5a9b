"""Changes of symbols from two providers, and companies read under all their names."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pytest

import market_data
from market_data.config.run_params import RunParams
from market_data.config.universes import Member, with_earlier_names
from market_data.core import calendar
from market_data.core.errors import ParamError
from market_data.core.intervals import Interval
from market_data.core.symbol_changes import SymbolChange
from market_data.datasets.registry import dataset
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.symbol_changes import read_symbol_changes
from market_data.lake.writer import land
from market_data.pipeline import universe_of
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, Scene
from tests.pipeline.test_corporate_actions import world_of
from tests.warehouse.rows import bar, midnight, table

WEEK = calendar.sessions(date(2022, 6, 6), date(2022, 6, 15))
CHANGED = date(2022, 6, 9)
META = SymbolChange(CHANGED, "FB", "META")
FEEDS = ("polygon_symbol_changes", "alpaca_symbol_changes")


@pytest.fixture
def scene(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        yield Scene(tmp_path, api, SimpleNamespace(address=""))


def changes(world):
    return read_symbol_changes(world.lake, Layout(), dataset("symbol-changes"))


@pytest.mark.parametrize("dag_id", FEEDS)
@pytest.mark.parametrize("symbols", [("META", "AAPL"), ("FB", "META", "NOSUCH")])
def test_a_change_is_loaded_once_and_withdrawn_when_it_is_gone(scene, dag_id, symbols, monkeypatch):
    world = world_of(scene, dag_id)
    _, report = world.run(WEEK, symbols)
    assert report["red"] == []
    assert changes(world) == [META]
    stored = "SELECT DISTINCT old_symbol, new_symbol, effective_date FROM silver_symbol_changes WHERE withdrawn IS NULL"
    assert world.query(stored) == [{"old_symbol": "FB", "new_symbol": "META", "effective_date": CHANGED}]
    monkeypatch.setattr(scene.api.market, "symbol_changes", lambda *_: [])
    world.run(WEEK, symbols, world.context("r2", force=True))
    assert (changes(world), world.query(stored)) == ([], [])


@pytest.mark.parametrize("dag_id", FEEDS)
def test_fb_and_meta_are_one_company_on_request(scene, dag_id):
    renames = world_of(scene, dag_id)
    renames.run(WEEK, ("META",))
    rows = [bar("FB" if day < CHANGED else "META", midnight(day)) for day in WEEK]
    land(renames.lake, Layout(), dataset("ohlcv-1d"), "polygon", table(*rows), "day", refetch=False)

    def read(symbols, start=WEEK[0], end=WEEK[-1], **how):
        rows = market_data.read(symbols, start, end, provider="polygon", lake=renames.lake, **how)
        return list(zip(rows["symbol"].to_pylist(), rows["session"].to_pylist(), strict=True))

    wanted = [("FB" if day < CHANGED else "META", day) for day in WEEK]
    assert read("META", follow_renames=True) == wanted
    assert read("FB", follow_renames=True) == wanted
    assert read(["META", "FB"], follow_renames=True) == wanted
    assert read("META", WEEK[2], WEEK[3], follow_renames=True) == wanted[2:4]
    assert read("META") == wanted[3:]
    assert read("FB") == wanted[:3]
    assert read("AAPL", follow_renames=True) == []


def test_withdrawn_actions_are_not_read(scene, monkeypatch):
    world = world_of(scene, "polygon_corporate_actions")
    days = calendar.sessions(date(2013, 1, 2), date(2013, 3, 20))
    world.run(days, ("KO", "IBM"))
    read = {"dataset": "corporate-actions", "provider": "polygon", "lake": world.lake}
    before = market_data.read(["KO", "IBM"], days[0], days[-1], **read)
    assert len(before) > 0
    monkeypatch.setattr(scene.api.market, "dividends", lambda *_: [])
    monkeypatch.setattr(scene.api.market, "splits", lambda *_: [])
    world.run(days, ("KO", "IBM"), world.context("r2", force=True))
    assert len(market_data.read(["KO", "IBM"], days[0], days[-1], **read)) == 0


def universe(world, **params):
    feed = SimpleNamespace(universe="dow30")
    return universe_of(RunParams(follow_renames=True, **params), feed, lambda: world.lake)


@pytest.mark.parametrize("symbol", ["FB", "META"])
def test_a_run_requests_a_company_by_the_symbol_of_each_session(scene, symbol):
    world = world_of(scene, "polygon_symbol_changes")
    world.run(WEEK, ("META",))
    found = universe(world, symbols=(symbol, "AAPL"))
    assert found.symbols == ("FB", "META", "AAPL")
    assert found.membership == {"FB": (Interval(date.min, CHANGED),), "META": (Interval(CHANGED, date.max),)}


def test_a_symbol_with_bars_long_after_it_was_given_up_means_its_new_listing(scene):
    world = world_of(scene, "polygon_symbol_changes")
    world.run(WEEK, ("META",))
    later = calendar.sessions(CHANGED, CHANGED + timedelta(days=60))
    rows = [bar("FB" if day < CHANGED else "META", midnight(day)) for day in WEEK] + [bar("FB", midnight(later[-1]))]
    land(world.lake, Layout(), dataset("ohlcv-1d"), "polygon", table(*rows), "day", refetch=False)
    cells = [{"symbol": "FB", "session": later[-1], "state": "have", "reason": ""}]
    run = world.context().run
    write_cells(world.lake, "ohlcv-1d", "polygon", run, "b", pa.Table.from_pylist(cells, CELLS), recorded_at=world.now)
    found = universe(world, symbols=("FB", "META"))
    assert found.membership == {"META": (Interval(CHANGED, date.max),)}  # FB: what was Meta before, and the new listing since
    assert universe(world, symbols=("FB",)).membership == {"FB": (Interval(CHANGED, date.max),)}
    read = partial(market_data.read, provider="polygon", lake=world.lake, follow_renames=True)
    assert read("FB", WEEK[0], later[-1])["session"].to_pylist() == [later[-1]]
    assert len(read("META", WEEK[0], later[-1])) == len(WEEK)


def test_following_keeps_to_the_dates_of_a_universe(scene, tmp_path):
    world = world_of(scene, "polygon_symbol_changes")
    world.run(WEEK, ("META",))
    path = tmp_path / "list.csv"
    path.write_text("symbol,added_date,removed_date\nMETA,2022-06-07,2022-06-13\nAAPL,,\n", encoding="utf-8")
    found = universe(world, tickers_path=str(path))
    dates = {"FB": (WEEK[1], CHANGED), "META": (CHANGED, date(2022, 6, 13))}
    assert found.membership == {symbol: (Interval(*span),) for symbol, span in dates.items()}
    whole = universe(world, tickers_path=str(path), as_of=date(2022, 6, 10))
    assert whole.membership == {"FB": (Interval(date.min, CHANGED),), "META": (Interval(CHANGED, date.max),)}


def test_following_without_known_changes_is_refused(scene):
    with pytest.raises(ParamError, match="follow_renames is true; the lake has no symbol-changes"):
        universe(world_of(scene, "polygon_symbol_changes"), symbols=("META",))


def test_a_symbol_that_another_company_has_later_means_the_one_of_the_membership():
    known = [SymbolChange(date(2010, 1, 4), "A", "B"), SymbolChange(date(2020, 1, 2), "C", "A")]
    former = with_earlier_names([Member("A", date(2005, 1, 3), date(2009, 1, 2))], known)
    assert former == (Member("A", date(2005, 1, 3), date(2009, 1, 2)),)
    assert with_earlier_names([Member("A")], known) == (Member("C", None, date(2020, 1, 2)), Member("A", date(2020, 1, 2)))
    assert with_earlier_names([Member("B"), Member("D")], known) == (
        Member("A", None, date(2010, 1, 4)), Member("B", date(2010, 1, 4)), Member("D"),
    )  # fmt: skip
