"""A run that has fetched its cells and not loaded them, for tests of plans."""

from market_data.config.feeds import load_feeds
from market_data.config.layouts import layout_of
from market_data.config.run_params import RunParams
from market_data.core.run import RunInfo
from market_data.pipeline import RunContext, fetch_batch, plan_run
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook

FEED = "mock_ohlcv_1d"


def stage(lake, run_id, symbol, days, now):
    """Fetch the cells of a symbol as a run of the mock feed does, and stop there."""
    feed = next(feed for feed in load_feeds() if feed.dag_id == FEED)
    run = RunInfo(FEED, run_id, "manual", 0, now)
    context = RunContext(feed, RunParams(symbols=(symbol,)), run, lake, layout_of(feed), "mock")
    with MockHook(ProviderConfig(feed.conn_id, "")) as hook:
        for batch in plan_run(context, hook, Wanted(tuple(days)), [symbol], now).plan.batches:
            fetch_batch(context, hook, batch, lambda: now)
