"""Reports as real runs write them: one that fails is told, the next one that succeeds gives the all-clear."""

import json
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data import pipeline
from market_data.airflow.metrics import figures
from market_data.alerts.reports import REPORT_CACHE, read_reports
from market_data.config.alerts import Alerts, Thresholds
from market_data.core.calendar import XNYS
from market_data.core.errors import AuthError
from market_data.core.outcome import Receipt
from market_data.pipeline.attempts import attempts_of
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.quality import checkpoint
from market_data.views.feeds import calls_in_a_day, spend
from market_data.views.run_reports import recent_reports, restatements
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
    assert (green.red, [one["cost_usd"] for one in green.attempts], green.restated) == ((), [None], ())
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


class Thin(MockHook):
    """Serves two symbols in every third session only."""

    def fetch(self, request):
        found = super().fetch(request)
        thin = pc.is_in(found.table["symbol"], pa.array(MEMBERS[:2]))
        lacking = pc.is_in(found.table["session"], pa.array([day for n, day in enumerate(request.sessions) if n % 3], pa.date32()))
        table = found.table.filter(pc.invert(pc.and_(thin, lacking)))
        evidence = replace(found.evidence, rows_received=len(table), rows_declared=len(table))
        return replace(found, table=table, evidence=evidence)


def test_a_refusal_of_symbol_years_is_one_message_however_many_sessions_and_files_it_has(world, tmp_path):
    desk = Desk(tmp_path, replace(world.feed, start_date=date(2024, 2, 1)))
    world.make_hook = lambda: Thin(config=ProviderConfig("mock_default", ""), options={})
    world.now = new_york(THURSDAY, 20, 30)
    days = XNYS.sessions(date(2024, 2, 1), DAY)  # no session is due for the first time
    _, report = world.run(days, list(MEMBERS), world.context(file_grain="year"))
    assert {one["partition"] for one in report["refused"]} == {f"{symbol}/2024" for symbol in MEMBERS[:2]}
    desk.cells(DAY)
    desk.cells(THURSDAY)
    desk.now = world.now + timedelta(minutes=5)
    (message,) = desk.watch()
    assert message.title == "mock_ohlcv_1d 2024: a run failed"
    assert all(f"{symbol}/2024 was refused" in message.text for symbol in MEMBERS[:2])
    assert desk.until(new_york(date(2024, 3, 8), 9), step=120) == []
    repaired(world)
    world.now = desk.now
    world.run(days, list(MEMBERS), world.context("again", file_grain="year", force=True))
    desk.now = world.now + timedelta(minutes=5)
    assert [one.title for one in desk.watch()] == [f"all-clear: {message.title}"]
    assert desk.found.causes == ()


class Charging(MockHook):
    """Charges 2.50 US dollars for each run."""

    def cost(self, requests):
        return 2.5


def charging(seed):
    return lambda: Charging(config=ProviderConfig("mock_default", "", extra={"seed": seed}), options={})


def finish(world, planned, context):
    """Check, load and publish once more what was fetched before, as a clear of these tasks does."""
    with world.warehouse() as warehouse:
        checked = json.loads(json.dumps(pipeline.check_run(context, world.batches, world.receipts, warehouse)))
        loaded = pipeline.load_run(context, checked, warehouse)
    summary = {**planned.summary, "run_key": f"{context.run.key.partition('-')[0]}-0", "run_started": NIGHT.isoformat()}
    result = pipeline.RunResult(world.batches, world.receipts, {}, checked, loaded, summary)
    return pipeline.publish_run(context, result, world.now)


NIGHT = new_york(DAY, 20, 30)


@pytest.mark.parametrize("published", [True, False])
def test_a_clear_of_later_tasks_counts_no_charge_call_or_restatement_twice(world, tmp_path, published):
    """Also if the first attempt left no report: then the later one has all of it."""
    desk = Desk(tmp_path, world.feed, alerts=Alerts(Thresholds(spend_usd=4, restated=20)))
    world.make_hook = charging(1)
    world.run([DAY], list(MEMBERS), world.context("r1"))
    world.make_hook = charging(2)
    planned, report = world.run([DAY], list(MEMBERS), world.context("r2", force=True))
    assert len(report["restated"]) == len(MEMBERS)
    if not published:
        world.lake.delete(report["key"])
    for clear_number in (1, 2):
        world.now += timedelta(minutes=10)
        published_key = finish(world, planned, world.context("r2", clear_number=clear_number, force=True))["report"]
    desk.now = world.now + timedelta(minutes=5)
    assert sorted(message.title for message in desk.watch()) == [
        "mock: 5.00 US dollars in 2024-03",
        f"mock_ohlcv_1d: {len(MEMBERS)} rows were restated",
    ]
    shown = recent_reports(world.lake, desk.now)
    assert spend(shown, world.feed.dag_id)["dollars"] == 5
    assert calls_in_a_day(shown, [world.feed.dag_id], desk.now) == 2 * sum(one.calls for one in world.receipts)
    assert len(restatements(shown, "ohlcv-1d", "mock")) == len(MEMBERS)
    latest = json.loads(world.lake.get(published_key).body)
    found = figures(world.feed, latest, "manual")
    assert (found["spend_micro_usd"], found["restated"]) == (0, 0)


def test_a_batch_that_is_fetched_again_is_charged_again(world):
    run = world.context("r1", clear_number=3).run
    folders = [f"receipts/ohlcv-1d/provider=mock/run=0123456789abcdef-{attempt}/x" for attempt in (0, 0, 0, 3)]
    batches = [SimpleNamespace(id=f"b{n}", cells=10) for n in range(4)]
    receipts = [Receipt(batch.id, folder, calls=2) for batch, folder in zip(batches, folders, strict=True)]
    result = pipeline.RunResult(batches, receipts, summary={"cost_usd": 8.0, "run_key": "0123456789abcdef-0"})
    found = attempts_of(run, result, calls=9)
    assert [(one["attempt"], one["api_calls"], one["cost_usd"]) for one in found] == [(0, 6, 8.0), (3, 3, 2.0)]


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
