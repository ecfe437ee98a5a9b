"""Bulk files that lack symbols, in runs of the feed: the ledger and the run remember what was looked up."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.core.errors import TruncatedResponse
from market_data.core.outcome import State
from market_data.lake.ledger import read_coverage
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.fmp.hook import FMPHook, few
from sandbox.http import SampleApi
from tests.contract.provider import KEY
from tests.pipeline.runs import World, feed_of
from tests.providers.sample_setup import hook_on

DAYS = calendar.sessions(date(2013, 1, 7), date(2013, 3, 1))
UNLISTED = tuple(f"NONE{number}" for number in range(12))


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="fmp", api_key=KEY) as api:
        yield api


@pytest.fixture
def api(running):
    running.forget()
    return running


@pytest.fixture
def traded(api):
    return tuple(sorted(bar.symbol for bar in api.market.session(DAYS[0]))[:40])


@pytest.fixture
def world(api, tmp_path):
    feed = replace(feed_of("fmp_ohlcv_1d"), options={})
    extra = {"plan": "sample", "limits": [{"calls": 3, "seconds": 0.02}]}  # three sessions a batch
    return World(feed, tmp_path, lambda: hook_on(FMPHook, "fmp", api, extra=extra))


def run(world, api, sessions, symbols, run_id, days_later=30, **context):
    """Return the report of a run, and the number of its calls by endpoint."""
    world.now = calendar.session_close(sessions[-1]) + timedelta(days=days_later, hours=11)
    before = len(api.calls)
    _, report = world.run(sessions, symbols, world.context(run_id, endpoint="bulk", **context))
    endpoints = [call.endpoint for call in api.calls[before:]]
    return report, {name: endpoints.count(name) for name in ("eod_bulk", "eod")}


def states(world, symbols, sessions):
    coverage = read_coverage(world.lake, "ohlcv-1d", "fmp")
    return {coverage.state(symbol, session) for symbol in symbols for session in sessions}


def test_a_run_looks_each_symbol_up_once_and_a_later_run_not_at_all(world, api, traded):
    symbols = (*traded, *UNLISTED)
    report, calls = run(world, api, DAYS[:10], symbols, "first", days_later=0)
    assert len(world.batches) > 1  # each has a hook of its own on a scheduler
    assert (report["red"], calls) == ([], {"eod_bulk": 10, "eod": len(UNLISTED)})
    assert states(world, UNLISTED, DAYS[:6]) == {State.EMPTY}
    for place in (10, 11, 12):
        report, calls = run(world, api, DAYS[place : place + 1], symbols, f"night {place}", days_later=0, run_type="scheduled")
        assert report["red"] == []
        assert calls["eod"] == 0
    assert [key for key, _ in world.lake.list("remembered")] == []


def test_every_task_of_a_run_knows_what_another_has_looked_up(world, api, traded):
    context = world.context("tasks", endpoint="bulk")
    world.now += timedelta(hours=1)
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(DAYS[:6]), (*traded, *UNLISTED), world.now)
    for batch in planned.plan.batches:
        with world.hook() as hook:
            pipeline.fetch_batch(context, hook, batch, lambda: world.now)
    assert sum(call.endpoint == "eod" for call in api.calls) == len(UNLISTED)
    cleared = world.context("tasks", clear_number=1, endpoint="bulk")
    api.forget()
    with world.hook() as hook:
        pipeline.fetch_batch(cleared, hook, planned.plan.batches[0], lambda: world.now)
    assert sum(call.endpoint == "eod" for call in api.calls) == len(UNLISTED)


@pytest.mark.parametrize("known", [False, True], ids=["first run", "later run"])
def test_a_file_without_the_requested_symbols_turns_no_cell_empty(world, api, traded, known):
    if known:
        run(world, api, DAYS[:6], traded, "seed")
    body = api.vendor.eod_bulk
    gone = {*traded}

    def lacking(request, found):
        response = body(request, found)
        lines = response.body.splitlines(keepends=True)
        return replace(response, body="".join(line for line in lines if line.split(",")[0].strip('"') not in gone))

    api.vendor.eod_bulk = lacking
    api.calls.clear()
    try:
        with pytest.raises(TruncatedResponse, match="it is cut"):
            run(world, api, DAYS[6:8], traded, "cut")
    finally:
        del api.vendor.eod_bulk
    assert sum(call.endpoint == "eod" for call in api.calls) == (0 if known else few(len(traded)) + 1)
    assert states(world, traded, DAYS[6:8]) == {None}
    report, _ = run(world, api, DAYS[6:8], traded, "again")
    assert report["red"] == []
    assert states(world, traded, DAYS[6:8]) == {State.HAVE}


def test_a_symbol_that_a_file_lacks_once_is_taken_from_its_history(world, api, traded):
    run(world, api, DAYS[:6], traded, "seed")
    api.fault("without_symbol", match="eod-bulk", symbol=traded[3].replace(".", "-"))
    report, calls = run(world, api, DAYS[6:7], traded, "one")
    assert (report["red"], calls) == ([], {"eod_bulk": 1, "eod": 1})
    assert states(world, traded, DAYS[6:7]) == {State.HAVE}
