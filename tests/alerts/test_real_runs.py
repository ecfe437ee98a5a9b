"""Reports as real runs write them: one that fails is told, the next one that succeeds gives the all-clear."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from market_data.alerts.reports import REPORT_CACHE, read_reports
from market_data.core.errors import AuthError
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.quality import checkpoint
from tests.alerts.desk import DAY, MEMBERS, THURSDAY, TUESDAY, Desk, new_york
from tests.pipeline.runs import World, feed_of
from tests.quality.quick_validator import QuickValidator


class Refusing(MockHook):
    def fetch(self, request):
        raise AuthError("the key was refused", provider="mock")


WRONG = ({"end_time": "yesterday"}, {"own_range": {"from": "the first", "to": None}}, {"end_time": "0001-01-01T00:00:00+14:00"})


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "Validator", QuickValidator)
    feed = replace(feed_of("mock_ohlcv_1d"), due="07:00", start_date=DAY)
    found = World(feed, tmp_path, lambda: Refusing(config=ProviderConfig("mock_default", ""), options={}))
    found.now = new_york(DAY, 20, 30)
    return found


def repaired(world):
    world.make_hook = lambda: MockHook(config=ProviderConfig("mock_default", ""), options={})


def test_a_failed_run_and_its_repair_are_one_message_and_one_all_clear(world, tmp_path):
    desk = Desk(tmp_path, world.feed)
    world.run([DAY], list(MEMBERS))
    desk.now = world.now + timedelta(minutes=5)
    (message,) = desk.watch()
    assert message.title == f"mock_ohlcv_1d {DAY}: a run failed"
    assert "the key was refused" in message.text
    repaired(world)
    world.run([DAY], list(MEMBERS), world.context("r2"))
    desk.now = world.now + timedelta(minutes=5)
    assert [found.title for found in desk.watch()] == [f"all-clear: {message.title}"]
    red, green = read_reports(desk.lake, world.now - timedelta(days=3), world.now)
    assert (red.first, red.last, red.symbols, bool(red.red), red.roots) == (DAY, DAY, 30, True, {})
    assert (green.red, green.cost_usd, green.restated) == ((), 0.0, 0)
    assert desk.until(new_york(DAY, 23) + timedelta(hours=12), step=120) == []


def test_a_failed_scheduled_run_is_about_its_own_session_and_healed_by_the_next_one_whose_lookback_fills_it(world, tmp_path):
    desk = Desk(tmp_path, world.feed)
    repaired(world)
    world.run([TUESDAY], list(MEMBERS), world.context("r0"))
    world.make_hook = lambda: Refusing(config=ProviderConfig("mock_default", ""), options={})
    world.run([DAY], list(MEMBERS), world.context("r1", run_type="scheduled"), lookback=[TUESDAY])
    desk.now = world.now + timedelta(minutes=5)
    title = f"mock_ohlcv_1d {DAY}: a run failed"
    assert [message.title for message in desk.watch()] == [title]
    assert desk.until(new_york(THURSDAY, 9), step=60) == []  # not once more when it is due
    repaired(world)
    world.now = new_york(THURSDAY, 20, 30)
    world.run([THURSDAY], list(MEMBERS), world.context("r2", run_type="scheduled"), lookback=[TUESDAY, DAY])
    desk.now = world.now + timedelta(minutes=5)
    assert [message.title for message in desk.watch()] == [f"all-clear: {title}"]
    assert desk.found.causes == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"dag_id": "x"}', *WRONG])
def test_reports_that_cannot_be_read_are_left_out(tmp_path, body):
    desk = Desk(tmp_path)
    desk.report(DAY, red=["x"])
    ((key, _),) = desk.lake.list("logs/ingest")
    if isinstance(body, dict):  # a report with a wrong value
        body = json.dumps({**json.loads(desk.lake.get(key).body), **body}).encode()
    desk.lake.put_new(f"logs/ingest/date={DAY}/run-9.json", body)
    for _ in range(2):
        assert [one.red for one in read_reports(desk.lake, desk.now, desk.now)] == [("x",)]


@pytest.mark.parametrize("digest", [None, [], {}, {"dag_id": "x"}])
def test_a_digest_that_another_version_kept_is_made_again(tmp_path, digest):
    desk = Desk(tmp_path)
    desk.report(DAY, red=["x"])
    (found,) = desk.lake.listed("logs/ingest")
    for kept in (digest, {"etag": found.etag, "digest": digest}):
        desk.lake.update(REPORT_CACHE, lambda _, kept=kept: json.dumps({found.key: kept}).encode())
        assert [one.red for one in read_reports(desk.lake, desk.now, desk.now)] == [("x",)]
