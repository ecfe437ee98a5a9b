"""Rows that are in the lake and not in the warehouse, of any dataset and grain: red until a run of the feed has loaded them."""

from datetime import date, timedelta

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.datasets.registry import dataset
from market_data.lake import staging
from market_data.pipeline.run_sessions import Wanted
from sandbox.stack.__main__ import SAMPLE_DATES
from tests.pipeline.test_every_feed import make_hook, world_of  # noqa: F401  fixture

FEEDS = [
    ("polygon_ohlcv_1d", "day", "AAPL"),
    ("polygon_ohlcv_1d", "year", "AAPL"),
    pytest.param("fmp_ohlcv_1d", "year", "AAPL", marks=pytest.mark.slow),
    pytest.param("alpaca_ohlcv_1m", "day", "AAPL", marks=pytest.mark.slow),
    pytest.param("alpaca_ohlcv_1m", "year", "AAPL", marks=pytest.mark.slow),
    pytest.param("fmp_fundamentals", "day", "AAPL", marks=pytest.mark.slow),
    pytest.param("fmp_fundamentals", "year", "AAPL", marks=pytest.mark.slow),
    pytest.param("polygon_corporate_actions", "day", "AAPL", marks=pytest.mark.slow),
    pytest.param("polygon_corporate_actions", "year", "AAPL", marks=pytest.mark.slow),
    pytest.param("databento_trades", "day", "AAPL", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("dag_id", "grain", "symbol"), FEEDS)
def test_what_a_forced_run_did_not_load_the_next_run_loads(dag_id, grain, symbol, make_hook, tmp_path):  # noqa: F811
    world = world_of(dag_id, tmp_path, make_hook)
    kind = dataset(world.feed.dataset)
    first, last = map(date.fromisoformat, SAMPLE_DATES[kind.name])
    sessions = calendar.sessions(first, last + timedelta(days=1))[:4]
    params = {"file_grain": grain, "batch_size": 10}
    context = world.context("forced", force=True, **params)
    world.now += timedelta(hours=1)
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(sessions), (symbol,), world.now)
        receipts = [pipeline.fetch_batch(context, hook, batch, lambda: world.now) for batch in planned.plan.batches]
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, planned.plan.batches, receipts, warehouse)
    result = pipeline.RunResult(planned.plan.batches, receipts, {}, checked, None, planned.summary)
    published = pipeline.publish_run(context, result, world.now)
    assert any("fetched rows were not loaded" in words for words in published["red"])
    assert not world.lake.get(published["report"].removesuffix("json") + "flag")
    dry = world.context("dry", dry_run=True, **params)
    elsewhere = (calendar.previous_session(sessions[0]),)
    with world.hook() as hook:
        for own in (sessions, elsewhere):
            planned = pipeline.plan_run(dry, hook, Wanted(own), (symbol,), world.now)
            requests = len(staging.waiting(world.lake, kind.name, context.source))
            assert planned.summary["waiting"] == {"forced": requests}
            waiting = f"Fetched and not loaded, waiting in staging for the feed's next run: forced ({requests:,} requests)"
            assert waiting in planned.note
            assert "by this one" not in planned.note
    planned, report = world.run(sessions, (symbol,), world.context("next", **params))
    assert planned.summary["waiting"] is None
    assert planned.plan.batches == ()
    assert (report["red"], report["rows_loaded"]) == ([], sum(receipt.rows_landed for receipt in receipts))
    assert staging.waiting(world.lake, kind.name, context.source) == []
    assert world.query(f"SELECT COUNT(*) AS n FROM silver_{kind.table}") == [{"n": report["rows_loaded"]}]
