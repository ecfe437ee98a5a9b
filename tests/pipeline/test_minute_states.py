"""Minute bars that are not final tonight: named, not done, requested by the next night, and then in lake and warehouse."""

from datetime import time

import pytest

from market_data.core import calendar
from market_data.core.outcome import State
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from tests.golden.scripted_runs import SYMBOLS as MANY
from tests.golden.scripted_runs import WEEK
from tests.pipeline.test_recheck import scene, spoil, world_of  # noqa: F401  fixture

FEW = ("AAPL", "IBM", "KO")
TONIGHT = WEEK[2]


def night(world, place, symbols):
    """Run the night of ``WEEK[place]`` at 20:30 New York, with the sessions before it as its lookback."""
    world.now = calendar.at(WEEK[place], time(19, 30))  # a run adds an hour
    return world.run(WEEK[place : place + 1], symbols, world.context(f"night-{place}", run_type="scheduled"), WEEK[:place])


def has_flag(world, report):
    return world.lake.get(report["key"].removesuffix("json") + "flag") is not None


def agrees(world, symbols):
    """Return true if every cell of the week's first four sessions is final, and silver has exactly the lake's minutes and closes."""
    context = world.context()
    coverage = read_coverage(world.lake, world.feed.dataset, context.source)
    states = {coverage.state(symbol, session) for symbol in symbols for session in WEEK[:4]}
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, symbols, WEEK[0], WEEK[4])
    lake = sorted((row["symbol"], row["bar_time"].replace(tzinfo=None), row["close"]) for row in rows.to_pylist())
    silver = world.query("SELECT symbol, bar_time, close_px FROM silver_prices ORDER BY symbol, bar_time")
    found = [(row["symbol"], row["bar_time"], float(row["close_px"])) for row in silver]
    return states == {State.HAVE} and found == [(symbol, time, round(close, 8)) for symbol, time, close in lake]


@pytest.mark.parametrize("grain", ["day", pytest.param("year", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dag_id", ["polygon_ohlcv_1m", pytest.param("alpaca_ohlcv_1m", marks=pytest.mark.slow)])
@pytest.mark.parametrize("state", [State.PENDING, State.QUARANTINED])
def test_minutes_of_a_symbol_that_are_not_final_are_named_and_requested_again(scene, dag_id, grain, state):  # noqa: F811
    world = world_of(scene, dag_id, file_grain=grain)
    make_hook = world.make_hook
    for place in (0, 1):
        assert night(world, place, FEW)[1]["red"] == []
    if state is State.PENDING:
        scene.hide(TONIGHT, symbols=["AAPL"])
    else:
        world.make_hook = spoil(make_hook, TONIGHT)
    _, report = night(world, 2, FEW)
    assert report["red"] == []
    assert any(f"1 of 3 cells are {state}" in words and f"{TONIGHT} AAPL" in words for words in report["warnings"])
    assert not any("unknown" in words or "no bars" in words for words in report["warnings"])
    assert (report["total_tickers"], report["successful_tickers"]) == (3, 2)
    assert not has_flag(world, report)
    planned, again = world.run([TONIGHT], FEW, world.context("manual"))
    assert again is None
    assert any(str(state) in words and "AAPL" in words for words in planned.standing["warnings"])
    scene.restore()
    world.make_hook = make_hook
    _, report = night(world, 3, FEW)
    assert (report["red"], report["successful_tickers"]) == ([], 3)
    assert has_flag(world, report)
    assert agrees(world, FEW)


@pytest.mark.slow
def test_a_refused_session_of_minutes_is_red_until_it_is_loaded(scene):  # noqa: F811
    world = world_of(scene, "polygon_ohlcv_1m")
    for place in (0, 1):
        night(world, place, MANY)
    scene.alter(TONIGHT, multiply=10)
    _, report = night(world, 2, MANY)
    assert report["red"][0].startswith(f"session {TONIGHT} was refused")
    planned, again = world.run([TONIGHT], MANY, world.context("manual"))
    assert again is None
    assert planned.standing["red"]
    scene.restore()
    _, report = night(world, 3, MANY)
    assert report["red"] == []
    assert has_flag(world, report)
    assert agrees(world, MANY)
