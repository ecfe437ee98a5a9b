"""Runs without Airflow, everything else real: a lake in files, Great Expectations, DuckDB, and whatever the hook asks."""

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from market_data import pipeline
from market_data.config.feeds import load_feeds
from market_data.config.run_params import RunParams
from market_data.core.errors import AuthError, BadRequest, CircuitOpen, ServerError
from market_data.core.run import RunInfo
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.pipeline.plan_gaps import plan_gaps
from market_data.pipeline.run_in_process import run_in_process
from market_data.pipeline.run_sessions import Wanted
from market_data.warehouse import WarehouseConnection, open_warehouse

NOW = datetime(2026, 11, 20, 12, 0, 1, 123457, tzinfo=UTC)  # as real moments are: to the microsecond


@cache
def feed_of(dag_id):
    """A feed of the project."""
    return next(feed for feed in load_feeds() if feed.dag_id == dag_id)


def ended(run):
    """Return what ``is_running`` says of a run that has ended."""
    return False


@cache
def migrated():
    """Return the content of a migrated warehouse without rows. It saves a test the migrations."""
    with tempfile.TemporaryDirectory() as folder:
        with open_warehouse(WarehouseConnection("duckdb", extra={"path": f"{folder}/warehouse.duckdb"})) as warehouse:
            warehouse.migrate()
            with warehouse._session(write=True):  # a file that stays open has its last writes beside it
                warehouse._execute("checkpoint", "CHECKPOINT")
        return Path(folder, "warehouse.duckdb").read_bytes()


class World:
    """A lake and a warehouse, and the runs of a feed against them.

    :param make_hook: makes a hook of the feed's provider.
    """

    def __init__(self, feed, folder, make_hook):
        self.feed, self.folder, self.make_hook = feed, folder, make_hook
        self.lake = Lake.open(f"file://{folder}/lake")
        self.now = NOW
        warehouse = Path(folder, "warehouse.duckdb")
        if not warehouse.exists():
            warehouse.write_bytes(migrated())

    def hook(self):
        hook = self.make_hook()
        hook.now = lambda: self.now
        return hook

    def warehouse(self):
        return open_warehouse(WarehouseConnection("duckdb", extra={"path": f"{self.folder}/warehouse.duckdb"}))

    def context(self, run_id="r1", clear_number=0, run_type="manual", **params):
        run = RunInfo(self.feed.dag_id, run_id, run_type, clear_number, self.now)
        defaults = {name: value for name, value in self.feed.params.items() if name in RunParams.__dataclass_fields__}
        params = replace(RunParams("sp500_etf"), **{**defaults, **params})
        return pipeline.RunContext(self.feed, params, run, self.lake, Layout(), self.make_hook().source)

    def run(self, sessions, symbols, context=None, lookback=()):
        """Plan, fetch, check, load and publish as the tasks do; return the plan and the report. A batch that fails is left out."""
        context = context or self.context()
        self.now += timedelta(hours=1)
        with self.hook() as hook:
            planned = pipeline.plan_run(context, hook, Wanted(tuple(sessions), tuple(lookback)), symbols, self.now)
            batches, receipts, errors = list(planned.plan.batches), [], {}
            for batch in batches:
                try:
                    receipts.append(pipeline.fetch_batch(context, hook, batch, lambda: self.now))
                except (ServerError, CircuitOpen, AuthError, BadRequest) as error:
                    errors[batch.id] = str(error)
        self.batches, self.receipts = batches, receipts
        self.standing = planned.standing
        left = pipeline.has_leftovers(context, batches)
        if not batches and not left:
            return planned, None
        checked = loaded = None
        if receipts or left:
            with self.warehouse() as warehouse:
                checked = json.loads(json.dumps(pipeline.check_run(context, batches, receipts, warehouse)))
                loaded = pipeline.load_run(context, checked, warehouse)
        published = pipeline.publish_run(
            context, pipeline.RunResult(batches, receipts, errors, checked, loaded, planned.summary), self.now
        )
        return planned, {**published, **json.loads(self.lake.get(published["report"]).body), "key": published["report"]}

    def repair(self, gaps, run_id="repair", **params):
        """Request the cells of a list of gaps; return the plan and the report."""
        context = self.context(run_id, **params)
        self.now += timedelta(hours=1)
        with self.hook() as hook:
            planned = plan_gaps(context, hook, gaps, self.now)
            self.batches = list(planned.plan.batches)
            return planned, run_in_process(context, hook, planned, self.warehouse, lambda: self.now)

    def query(self, sql):
        with self.warehouse() as warehouse:
            return warehouse.query(sql).to_pylist()

    def objects(self):
        return {key: self.lake.get(key).body for key, _ in self.lake.list("")}
