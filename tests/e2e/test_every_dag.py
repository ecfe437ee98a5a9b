"""Every DAG of the project on a real scheduler, against the local servers."""

from datetime import date, timedelta

import pytest

from market_data.config.feeds import load_feeds
from market_data.core import calendar
from market_data.datasets.registry import dataset
from sandbox.stack.__main__ import SAMPLE_DATES

pytestmark = pytest.mark.slow

FEEDS = [feed for feed in load_feeds() if feed.dag_id != "polygon_ohlcv_1d"]
AT_ONCE = 4
MONTH_AGO = calendar.previous_session(date.today() - timedelta(days=30)).isoformat()  # noqa: DTZ011  any session of then
FEW = {"ib": ["ES.c.0", "MES.c.0", "VIX"]}


def unpause(world, dag_id):
    world.parsed(dag_id)
    world.airflow.unpause(dag_id)


@pytest.fixture(scope="module")
def ended(_world):
    """A few at a time: Airflow's database is SQLite here."""
    _world.control("POST", "quota", limits=[])
    runs = {}
    for number, feed in enumerate(FEEDS):
        if number >= AT_ONCE:
            earlier = FEEDS[number - AT_ONCE].dag_id
            runs[earlier] = _world.wait(runs[earlier], 600)
        unpause(_world, feed.dag_id)
        # IB's futures that have expired are not known for long.
        first, last = (MONTH_AGO, MONTH_AGO) if feed.provider == "ib" else SAMPLE_DATES[feed.dataset]
        dates = {"start_date": first, "end_date": last}
        symbols = ["META"] if feed.dataset == "symbol-changes" else FEW.get(feed.provider, ["AAPL", "BRK.B", "IBM", "SPY"])
        # With many runs at once on SQLite, Airflow itself may lose a task: a retry is what a user has for that.
        runs[feed.dag_id] = _world.trigger(dag_id=feed.dag_id, symbols=symbols, max_retries=2, retry_delay_seconds=5, **dates)
    return {dag_id: _world.wait(run, 600) for dag_id, run in runs.items()}


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.dag_id)
def test_every_dag_lands_and_loads(ended, world, feed):
    run = ended[feed.dag_id]
    assert run["state"] == "success", world.trouble(run)
    report = world.report(run)
    assert report["red"] == []
    assert report["rows_landed"] > 0
    table = dataset(feed.dataset).table
    assert report["rows_loaded"] == (report["rows_landed"] if table else 0)
    prefix = f"raw/{dataset(feed.dataset).folder}/provider={feed.provider}/"
    assert len(world.versions(prefix)) >= report["files_written"] > 0
    if table:
        found = world.query(f"SELECT COUNT(*) AS n FROM silver_{table} WHERE provider = '{feed.provider}'")
        assert found[0]["n"] >= report["rows_landed"]


def test_what_a_provider_cannot_serve_is_asked_of_the_fallback_under_its_own_name(world):
    unpause(world, "polygon_ohlcv_1m")
    unpause(world, "alpaca_ohlcv_1m")
    world.control("POST", "quota", limits=[])
    world.control("POST", "faults", kind="server_error", status=403, match="ticker/IBM/range/1/minute", times=None)
    conf = {"start_date": "2012-03-01", "end_date": "2012-03-01", "symbols": ["AAPL", "IBM"], "batch_size": 1}
    run = world.wait(world.trigger(dag_id="polygon_ohlcv_1m", **conf), 300)
    assert run["state"] == "failed"
    states = world.states(run)
    assert (states["unserved", -1], states["fallback", 0]) == ("success", "success")
    (other,) = [
        r for r in world.airflow._all("/dags/alpaca_ohlcv_1m/dagRuns", "dag_runs") if r["dag_run_id"].startswith("fallback__")
    ]
    assert other["conf"] == {"symbols": ["IBM"], "start_date": "2012-03-01", "end_date": "2012-03-01"}
    assert world.wait(other, 300)["state"] == "success"
    found = world.query(
        "SELECT symbol, provider, COUNT(*) AS n FROM silver_prices WHERE timeframe = '1m' AND bar_time >= TIMESTAMP '2012-03-01' "
        "AND bar_time < TIMESTAMP '2012-03-02' GROUP BY symbol, provider"
    )
    assert {(row["symbol"], row["provider"]) for row in found} == {("AAPL", "polygon"), ("IBM", "alpaca")}


def test_nothing_is_asked_of_the_fallback_when_all_was_served(world, ended):
    states = world.states(ended["polygon_ohlcv_1m"])
    assert (states["unserved", -1], states["fallback", -1]) == ("success", "skipped")
