"""Runs that fail before they publish: the verdict writes their report, and the watchdog sends one message."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from market_data.airflow import tasks
from market_data.airflow.failed_run import failure_note, report_failure
from market_data.airflow.time_limit import time_limit
from market_data.core.errors import ClockError, LakeError, ParamError, QualityError, RunTimeout
from market_data.http.rate_limit import Pacer
from market_data.lake.store import Lake
from tests.alerts.desk import DAY, MEMBERS, TUESDAY, Desk, new_york
from tests.pipeline.runs import feed_of

FEED = replace(feed_of("mock_ohlcv_1d"), universe="dow30", due="07:00", start_date=DAY)
NIGHT = new_york(DAY, 20, 30)
INTERVAL = {"data_interval_start": datetime(2024, 3, 6, tzinfo=UTC), "data_interval_end": NIGHT}


class Instance:
    """The task instances of a run, without Airflow: XComs by task and key, and the states of tasks."""

    dag_id, run_id, try_number, map_index, task_id = FEED.dag_id, "r1", 1, 0, "plan"

    def __init__(self):
        self.xcoms, self.states = {}, {}

    def xcom_push(self, key, value):
        self.xcoms[self.task_id, key] = value

    def xcom_pull(self, task_ids, key="return_value", **_):
        return self.xcoms.get((task_ids, key))

    def get_dr_count(self, **_):
        return 0

    def get_task_states(self, dag_id, task_ids, run_ids):
        return {self.run_id: {name: self.states.get(name) for name in task_ids}}


@pytest.fixture
def lake(monkeypatch, tmp_path):
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    monkeypatch.setenv("AIRFLOW_CONN_MOCK_DEFAULT", json.dumps({"conn_type": "http"}))
    warehouse = {"conn_type": "duckdb", "extra": {"path": f"{tmp_path}/warehouse.duckdb"}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(warehouse))
    monkeypatch.setattr(Pacer, "gap", 0.0)
    monkeypatch.setattr(tasks, "now", lambda: NIGHT)
    monkeypatch.setattr(tasks, "_today", NIGHT.date)
    return Lake.open(f"file://{tmp_path}/lake")


def context_of(run_type="scheduled", **params):
    run = {"run_id": "r1", "run_type": run_type, "start_date": NIGHT, "run_after": NIGHT, "clear_number": 0}
    interval = INTERVAL if run_type == "scheduled" else {}
    return {
        "ti": Instance(),
        "dag_run": SimpleNamespace(dag_id=FEED.dag_id, **run),
        "params": {"universe": FEED.universe, **params},
        **interval,
    }


def run_task(context, name, body):
    """Run a task as the DAG does; return its result, or None if it failed."""
    context["ti"].task_id = name
    try:
        with time_limit(FEED, context), failure_note(context):
            found = body()
    except (ParamError, LakeError, ClockError, RunTimeout, AirflowTaskTimeout):
        context["ti"].states[name] = "failed"
        return None
    context["ti"].states[name] = "success"
    return found


def publish(context, batches, receipts):
    assets = (object(), object())
    context["outlet_events"] = {asset: SimpleNamespace(add_partitions=list) for asset in assets}
    return tasks.run_publish(FEED, batches, receipts, None, None, assets, context)


def verdict(context, batches, receipts=None):
    context["ti"].task_id = "verdict"
    key = report_failure(FEED, batches, receipts, None, context)
    with pytest.raises(QualityError):
        tasks.run_verdict(batches, None, context)
    return key


def told(lake, tmp_path):
    desk = Desk(tmp_path, FEED)
    desk.now = NIGHT + timedelta(minutes=5)
    found = desk.watch()
    assert desk.until(new_york(TUESDAY, 9) + timedelta(days=2), step=120) == []  # not once more when it is due
    return desk, found


def report_at(lake, key):
    return json.loads(lake.get(key).body)


@pytest.mark.parametrize("run_type", ["scheduled", "manual"])
def test_a_run_whose_plan_fails_is_one_message_with_its_error_sessions_and_symbols(lake, tmp_path, monkeypatch, run_type):
    monkeypatch.setenv("AIRFLOW_CONN_MOCK_DEFAULT", json.dumps({"conn_type": "http", "extra": {"plan": "gold"}}))
    context = context_of(run_type, batch_size=0)
    assert run_task(context, "plan", lambda: tasks.run_plan(FEED, context)) is None
    key = verdict(context, None)
    report = report_at(lake, key)
    assert report["own_range"] == {"from": str(DAY), "to": str(DAY)}
    assert report["failed_tickers_list"] == list(MEMBERS)
    desk, (message,) = told(lake, tmp_path)
    assert message.title == f"{FEED.dag_id} {DAY}: a run failed"
    assert "`plan` failed: " in message.text
    assert "batch_size is 0" in message.text
    assert "gold" in message.text
    desk.cells(DAY)
    desk.report(DAY, run="r2")
    assert [one.title for one in desk.watch()] == [f"all-clear: {message.title}"]


@pytest.mark.parametrize(
    "typo",
    [{"start_date": "2024-13-01"}, {"start_dat": "2024-03-01"}, {"symbols": ["AAPL", ""]}, {"universe": "dow31"}, {"cells": "x"}],
)
def test_a_mistyped_run_claims_no_session_and_ends_no_message(lake, tmp_path, typo):
    desk = Desk(tmp_path, FEED)
    desk.now = NIGHT - timedelta(minutes=5)
    desk.cells(DAY)
    desk.report(DAY, red=["fetched rows were not loaded"])
    assert len(desk.watch()) == 1
    context = context_of("manual", **typo)
    assert run_task(context, "plan", lambda: tasks.run_plan(FEED, context)) is None
    report = report_at(lake, verdict(context, None))
    assert (report["own_range"], report["date_range"], report["own_tickers"]) == (None, {"from": None, "to": None}, 0)
    desk.now = NIGHT + timedelta(minutes=5)
    assert desk.watch() == []


def test_a_run_with_an_unknown_universe_is_about_the_dates_that_were_given(lake):
    context = context_of("manual", universe="dow31", start_date=str(TUESDAY), end_date=str(DAY))
    assert run_task(context, "plan", lambda: tasks.run_plan(FEED, context)) is None
    report = report_at(lake, verdict(context, None))
    assert (report["own_range"], report["own_tickers"]) == ({"from": str(TUESDAY), "to": str(DAY)}, 0)


def test_a_red_run_with_nothing_to_do_is_one_message(lake, tmp_path):
    context = context_of()
    context["ti"].xcoms["plan", "summary"] = {"standing": {"red": ["session 2024-03-06 was refused"], "warnings": []}}
    report = report_at(lake, verdict(context, []))
    assert (report["red"], report["failed_tasks"], report["complete"]) == (["session 2024-03-06 was refused"], [], False)
    _, (message,) = told(lake, tmp_path)
    assert message.title == f"{FEED.dag_id} {DAY}: a run failed"
    assert "session 2024-03-06 was refused" in message.text


def test_a_failed_run_and_its_repetition_tell_the_same_number_of_symbols(lake, tmp_path):
    """Although only what is missing is requested."""
    context = context_of("manual", symbols=list(MEMBERS[:3]))
    Desk(tmp_path, FEED).cells(DAY, symbols=MEMBERS[:1], at=NIGHT)
    batches = run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    receipts = [tasks.run_fetch(FEED, batch, context) for batch in batches]
    published = publish(context, batches, receipts)
    found = report_at(lake, published["report"])
    context["ti"].states["publish"] = "failed"
    lake.delete(published["report"])
    failed = report_at(lake, verdict(context, batches, receipts))
    assert (found["total_tickers"], found["own_tickers"], failed["own_tickers"]) == (2, 3, 3)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_what_an_earlier_attempt_published_counts_for_a_later_one_only_if_publish_did_not_run_again(lake, state):
    """A clear whose ``publish`` dies before a worker starts it leaves the XCom of the attempt before."""
    context = context_of()
    batches = run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    receipts = [tasks.run_fetch(FEED, batch, context) for batch in batches]
    published = {**publish(context, batches, receipts), "red": []}
    context["dag_run"].clear_number = 1
    context["ti"].states["publish"] = state
    if state == "success":  # only `verdict` was cleared
        assert report_failure(FEED, batches, receipts, published, context) is None
        tasks.run_verdict(batches, published, context)
        run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    key = report_failure(FEED, batches, receipts, published, context)
    assert (key is not None) == (state == "failed")
    with pytest.raises(QualityError, match="nothing was published"):
        tasks.run_verdict(batches, published, context)


@pytest.mark.parametrize("failing", ["plan", "check", "publish"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LakeError("lake put failed:\n  the bucket is full"), "LakeError: lake put failed: the bucket is full"),
        (AirflowTaskTimeout(), "was stopped: it took longer than run_timeout"),
    ],
)
def test_a_run_whose_task_fails_or_times_out_is_one_message(lake, tmp_path, failing, error, words):
    context = context_of()

    def fail():
        raise error

    batches = None if failing == "plan" else run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    run_task(context, failing, fail)
    report = report_at(lake, verdict(context, batches))
    assert report["total_batches"] == len(batches or ())
    assert report["own_range"] == {"from": str(DAY), "to": str(DAY)}
    _, (message,) = told(lake, tmp_path)
    assert message.title == f"{FEED.dag_id} {DAY}: a run failed"
    assert f"`{failing}` failed: " in message.text
    assert words in message.text


def test_a_wrong_clock_in_publish_is_the_message_on_clocks(lake, tmp_path):
    context = context_of()

    def fail():
        raise ClockError("the clock of host w7 differs by 60 s")

    batches = run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    run_task(context, "publish", fail)
    verdict(context, batches)
    _, (message,) = told(lake, tmp_path)
    assert message.title == "a clock is wrong"
    assert "host w7" in message.text


def test_a_task_that_was_killed_left_no_error_and_is_told_all_the_same(lake, tmp_path):
    context = context_of()
    batches = run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    context["ti"].states["publish"] = "failed"
    verdict(context, batches)
    _, (message,) = told(lake, tmp_path)
    assert "`publish` failed: see the log of `publish`" in message.text


def test_a_report_of_a_failed_run_has_the_keys_of_every_report_and_no_flag(lake, tmp_path):
    context = context_of(symbols=list(MEMBERS[:2]))
    batches = run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    receipts = [tasks.run_fetch(FEED, batch, context) for batch in batches]
    published = publish(context, batches, receipts)
    whole = report_at(lake, published["report"])
    assert report_failure(FEED, batches, receipts, published, context) is None
    context["ti"].states["publish"] = "failed"
    key = verdict(context, batches, receipts)
    assert key == published["report"]  # of the same attempt: only what failed is added
    added = report_at(lake, key)
    assert {name for name in whole if added[name] != whole[name]} == {"failed_tasks", "red"}
    assert added["red"] == [*whole["red"], "`publish` failed: see the log of `publish`"]
    lake.delete(key)
    failed = report_at(lake, verdict(context, batches, receipts))
    assert {name: type(value) for name, value in failed.items() if value is not None} == {
        name: type(value) for name, value in whole.items() if failed[name] is not None
    }
    assert failed.keys() == whole.keys()
    assert failed["api_calls"] == whole["api_calls"] > 0
    assert lake.get(key.removesuffix("json") + "flag") is None


def test_a_dry_run_and_a_run_with_nothing_to_do_report_nothing(lake):
    assert report_failure(FEED, None, None, None, context_of(dry_run=True)) is None
    assert report_failure(FEED, [], None, None, context_of()) is None
    assert list(lake.list("logs")) == []


def test_a_lake_that_cannot_be_written_does_not_hide_the_verdict(lake, monkeypatch, caplog):
    monkeypatch.setattr(Lake, "put_new", lambda *_, **__: (_ for _ in ()).throw(LakeError("the bucket is full")))
    context = context_of(batch_size=0)
    run_task(context, "plan", lambda: tasks.run_plan(FEED, context))
    assert verdict(context, None) is None
    assert "could not be reported" in caplog.text
