"""Two feeds of one provider and dataset, each with a name: they share the lake, and neither loads or requests the other's work twice."""

from dataclasses import replace
from datetime import date

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.pipeline.run_sessions import Wanted
from tests.pipeline.test_every_feed import make_hook, world_of  # noqa: F401  fixture

SESSIONS = calendar.sessions(date(2012, 12, 12), date(2012, 12, 15))
MAIN, ETFS = ("AAPL", "ADBE"), ("ADBE", "AMZN")


@pytest.fixture
def world(make_hook, tmp_path):  # noqa: F811
    return world_of("mock_ohlcv_1d", tmp_path, make_hook)


def bars(world):
    return world.query("SELECT symbol, count(*) AS n FROM silver_prices GROUP BY symbol ORDER BY symbol")


def test_a_bar_of_the_other_feed_is_not_fetched_again(world):
    main = world.feed
    _, report = world.run(SESSIONS, MAIN)
    assert (report["dag_id"], report["rows_loaded"], report["red"]) == ("mock_ohlcv_1d", 6, [])
    world.feed = replace(main, name="etfs")
    planned, report = world.run(SESSIONS, ETFS)
    assert [batch.symbols for batch in planned.plan.batches] == [("AMZN",)]
    assert (report["dag_id"], report["rows_loaded"], report["red"]) == ("mock_ohlcv_1d_etfs", 3, [])
    assert [row["n"] for row in bars(world)] == [3, 3, 3]


def test_runs_of_one_name_and_session_do_not_meet(world):
    """Scheduled runs of both feeds have the same run id."""
    main, keys = world.feed, []
    for name, symbols in (("", MAIN), ("etfs", ETFS)):
        world.feed = replace(main, name=name)
        _, report = world.run(SESSIONS, symbols, world.context("scheduled__2012-12-14", force=True))
        assert (report["rows_loaded"], report["red"]) == (6, [])
        keys.append(report["key"])
    assert len(set(keys)) == 2
    assert [row["n"] for row in bars(world)] == [3, 3, 3]


def test_a_feed_leaves_what_a_running_one_has_staged_and_loads_what_an_ended_one_left(world):
    main = world.feed
    context = world.context("fetching")
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(SESSIONS), MAIN, world.now)
        for batch in planned.plan.batches:
            pipeline.fetch_batch(context, hook, batch, lambda: world.now)
    world.feed = replace(main, name="etfs")
    busy = replace(world.context("second"), is_running=lambda run: run.dag_id == "mock_ohlcv_1d")
    _, report = world.run(SESSIONS, ("AMZN",), busy)
    assert (report["rows_loaded"], report["red"]) == (3, [])
    _, report = world.run(SESSIONS, ("AMZN",), world.context("third"))
    assert [(row["symbol"], row["n"]) for row in bars(world)] == [("AAPL", 3), ("ADBE", 3), ("AMZN", 3)]
