"""``plan`` and ``publish`` read each object of the coverage ledger once; no other step of a run without trouble reads any."""

from collections import Counter
from datetime import date, timedelta

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.lake.store import Lake
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

SESSIONS = calendar.sessions(date(2024, 9, 3), date(2024, 9, 17))
STEPS = ("plan_run", "fetch_batch", "has_leftovers", "check_run", "load_run", "publish_run")
ONCE = ("plan_run", "publish_run")


@pytest.fixture
def world(tmp_path):
    config = ProviderConfig("mock_default", "", extra={"calls_per_minute_per_slot": 60_000, "limits": []})
    return World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=config))


@pytest.fixture
def reads(monkeypatch):
    """(step, key) of every object of the ledger that is read."""
    found, current = [], [""]

    def during(step, function):
        def named(*args, **options):
            current[0] = step
            return function(*args, **options)

        return named

    def get(lake, key):
        found.extend([(current[0], key)] if key.startswith("manifest/") else [])
        return whole(lake, key)

    whole = Lake.get
    monkeypatch.setattr(Lake, "get", get)
    for step in STEPS:
        monkeypatch.setattr(pipeline, step, during(step, getattr(pipeline, step)))
    return found


def test_a_run_reads_each_object_of_the_ledger_once_a_task(world, reads):
    for place in range(3):
        world.run(SESSIONS[place : place + 1], ("AAPL", "MSFT"), world.context(f"night {place}"))
    world.now += timedelta(days=3)
    fold_ledger(world.lake, "ohlcv-1d", "mock", world.now)
    world.run(SESSIONS[3:4], ("AAPL", "MSFT"), world.context("later"))
    objects = {key for key, _ in world.lake.list("manifest")}
    assert [key for key in objects if "/run=folded/" in key]
    reads.clear()
    _, report = world.run(SESSIONS[4:5], ("AAPL", "MSFT"), world.context("last"))
    assert report["red"] == []
    # What a run writes is looked for before: the object of its own batch.
    own = {key for key, _ in world.lake.list("manifest")} - objects
    assert Counter(one for one in reads if one[1] not in own) == Counter((step, key) for step in ONCE for key in objects)
