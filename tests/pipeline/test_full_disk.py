"""A worker whose disk is full: an error with a remedy, and its calls are in the run's report."""

import resource
import tempfile
from contextlib import contextmanager
from datetime import date

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.core.errors import LakeError
from market_data.core.full_disk import full_disk_named
from market_data.lake import clock
from market_data.lake.failures import Failures
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.model_run import MemoryLake
from tests.pipeline.runs import World, feed_of

SESSIONS = calendar.sessions(date(2012, 3, 1), date(2012, 3, 31))


@contextmanager
def full_disk(size=1024):
    """Let no file of this process grow beyond ``size`` bytes, as on a disk that has no more."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_a_disk_that_is_full_before_the_first_temporary_file_is_named_too(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python looks for a folder again
    with (
        full_disk(0),
        pytest.raises(LakeError, match="cannot write temporary files in .*Free space there"),
        full_disk_named(),
        tempfile.TemporaryFile(),
    ):
        pass


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "_server_time", lambda *_, **__: None)  # the lake is in memory
    found = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", "")))
    found.lake = MemoryLake()
    return found


def test_a_full_disk_in_fetch_is_named_and_its_calls_are_recorded(world):
    context = world.context()
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(SESSIONS), ["AAPL", "IBM", "KO"], world.now)
        with full_disk(), pytest.raises(LakeError, match="cannot write temporary files in .*: File too large. Free space there"):
            pipeline.fetch_batch(context, hook, planned.plan.batches[0], lambda: world.now)
        calls = hook.counters.calls
    events = Failures.of(world.lake, context.feed.dataset, context.source, context.run).read()
    assert [(event.calls, event.error.partition(":")[0]) for event in events] == [(calls, "LakeError")]
