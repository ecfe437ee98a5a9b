"""The edge: which error does what, and what the DAG looks like."""

import contextlib
from types import SimpleNamespace

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from market_data.airflow import task_notes
from market_data.airflow.dag import RETRIES, build_dag
from market_data.airflow.retry import MarketDataRetryPolicy
from market_data.airflow.tasks import run_verdict
from market_data.airflow.timetable import SessionTimetable
from market_data.config.feeds import load_feeds
from market_data.config.trigger_form import PARAMS
from market_data.core import errors

FEED = next(feed for feed in load_feeds() if feed.provider == "polygon")


def decide(error, try_number=1, max_tries=RETRIES, map_index=0, **params):
    context = {"params": {"max_retries": 2, "retry_delay_seconds": 30, **params}, "ti": SimpleNamespace(map_index=map_index)}
    return MarketDataRetryPolicy().evaluate(error, try_number, max_tries, context)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigError("x"),
        errors.ParamError(["x"]),
        errors.AuthError("x"),
        errors.EntitlementError("x"),
        errors.BadRequest("x"),
        errors.QuotaExhausted("x"),
        errors.SchemaDrift("x"),
        errors.QualityError("x"),
        errors.WarehouseError("x", retriable=False),
        errors.RunTimeout("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_no_retry_helps_fail_at_once(error):
    assert decide(error).action is RetryAction.FAIL


@pytest.mark.parametrize(
    "error",
    [
        errors.NetworkError("x"),
        errors.ServerError("x"),
        errors.TruncatedResponse("x"),
        errors.Throttled("x"),
        errors.LakeError("x"),
        errors.WarehouseError("x"),
        RuntimeError("a defect, or the machine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_may_pass_are_retried_after_the_runs_delay(error):
    decision = decide(error)
    assert decision.action is RetryAction.RETRY
    assert decision.retry_delay.total_seconds() == 30


def test_what_the_provider_asked_for_is_waited_for_within_a_day():
    assert decide(errors.Throttled("x", retry_after=300)).retry_delay.total_seconds() == 300
    assert decide(errors.Throttled("x", retry_after=90_000)).retry_delay.total_seconds() == 86_400


def test_batches_do_not_come_back_together():
    delays = {decide(errors.ServerError("x"), map_index=index).retry_delay for index in range(16)}
    assert len(delays) == 16


@pytest.mark.parametrize(("try_number", "action"), [(1, RetryAction.RETRY), (2, RetryAction.RETRY), (3, RetryAction.FAIL)])
def test_max_retries_counts_from_the_last_clear(try_number, action):
    assert decide(errors.ServerError("x"), try_number).action is action
    assert decide(errors.ServerError("x"), try_number + 4, max_tries=RETRIES + 4).action is action


def test_the_dag_is_what_the_contract_says():
    dag = build_dag(FEED)
    assert dag.dag_id == "polygon_ohlcv_1d"
    assert set(dag.task_ids) == {"plan", "fetch", "check", "load", "publish", "verdict"}
    assert dag.tags == {"polygon", "ohlcv-1d", "market-data"}
    assert dag.catchup is False
    assert dag.dagrun_timeout is None  # it would skip publish and verdict: see time_limit
    assert isinstance(dag.timetable, SessionTimetable)
    assert set(PARAMS) | {"adjustment"} == set(dag.params)
    fetch, load = dag.get_task("fetch"), dag.get_task("load")
    assert fetch.partial_kwargs["pool"] == "polygon_api"
    assert load.pool == "warehouse"
    assert {dag.get_task(name).trigger_rule for name in ("check", "publish", "verdict")} == {"all_done"}
    assert dag.get_task("verdict").downstream_task_ids == set()


def test_rare_params_are_folded_away_and_everyday_ones_are_not():
    params = build_dag(FEED).params
    folded = {name for name in params if params.get_param(name).schema.get("section") == "Tuning"}
    rare = {"max_retries", "retry_delay_seconds", "lookback_days", "endpoint", "max_missing_ratio", "circuit_breaker", "data_docs"}
    assert folded == {*rare, "recheck_sessions", "tolerate", "as_of", "follow_renames", "cells"}


class Instance:
    """A task instance as far as XComs go."""

    def __init__(self, summary=None):
        self.summary, self.pushed = summary, {}

    def xcom_pull(self, task_ids, key):
        assert (task_ids, key) == ("plan", "summary")
        return self.summary

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.mark.parametrize(
    ("batches", "published", "text"),
    [
        (None, None, "the plan failed"),
        ([{"id": "b000"}], None, "nothing was published"),
        (
            [{"id": "b000"}],
            {"red": ["session 2012-01-03 was refused"], "warnings": [], "report": "r"},
            "session 2012-01-03 was refused",
        ),
    ],
)
def test_the_verdict_is_red_when_something_is_missing_and_says_what(batches, published, text):
    ti = Instance()
    with pytest.raises(errors.QualityError, match=text):
        run_verdict(batches, published, {"ti": ti})
    assert text in ti.pushed[task_notes.KEY]


@pytest.mark.parametrize(
    ("note", "said"),
    [("", "Dry run: nothing was fetched"), ("Not available yet: x", "Dry run: nothing was fetched. Not available yet: x")],
)
def test_the_verdict_of_a_dry_run_says_that_it_was_one_and_what_it_would_take(note, said):
    ti = Instance(summary={"note": note, "dry_run": True})
    run_verdict([], None, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == said
    run_verdict([], None, {"ti": (ti := Instance(summary={"note": note, "dry_run": True, "figures": "The run would request x"}))})
    assert ti.pushed[task_notes.KEY] == said.replace("fetched", "fetched. The run would request x")


def test_the_verdict_is_green_when_nothing_is_missing_or_nothing_was_asked():
    ti = Instance(summary={"note": "Nothing to do: no session on 2013-01-01 (New Year's Day)"})
    run_verdict([], None, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == "Nothing to do: no session on 2013-01-01 (New Year's Day)"
    ti = Instance()
    run_verdict([{"id": "b000"}], {"red": [], "warnings": ["look"], "report": "r"}, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == "look"
    run_verdict([{"id": "b000"}], {"red": [], "warnings": [], "report": "r"}, {"ti": (ti := Instance())})
    assert ti.pushed == {}


def test_a_green_verdict_has_the_figures_and_the_report_before_what_deserves_a_look():
    ti = Instance()
    head = "30 symbols, 28 bars, 28 loaded, 1 call, 0.4 minutes. Report: s3://lake/logs/r.json"
    run_verdict([{"id": "b000"}], {"red": [], "warnings": ["look"], "report": "r", "headline": head}, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == f"{head}\nlook"


def test_a_run_with_nothing_to_do_is_red_while_a_session_of_its_own_is_refused():
    standing = {"red": ["session 2012-01-03 was refused on 2012-01-04"], "warnings": ["2 of 30 cells are pending"]}
    ti = Instance(summary={"note": "Nothing to do", "standing": standing})
    with pytest.raises(errors.QualityError, match="session 2012-01-03 was refused"):
        run_verdict([], None, {"ti": ti})
    assert "2 of 30 cells are pending" in ti.pushed[task_notes.KEY]
    ti = Instance(summary={"note": "", "standing": standing, "dry_run": True})
    run_verdict([], None, {"ti": ti})
    assert ti.pushed[task_notes.KEY].splitlines() == ["Dry run: nothing was fetched", *standing["red"], *standing["warnings"]]


class Scheduled(Instance):
    """A task instance in Airflow, which knows the states of the run's tasks."""

    dag_id, run_id = "polygon_ohlcv_1d", "r1"

    def __init__(self, **states):
        super().__init__({"note": "Nothing to do"})
        self.states = states

    def get_task_states(self, dag_id, task_ids, run_ids):
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        return {self.run_id: {name: state for name, state in self.states.items() if name in task_ids}}


@pytest.mark.parametrize("task", ["check", "load", "publish"])
def test_a_run_without_batches_is_red_if_a_later_task_failed(task):
    with pytest.raises(errors.QualityError, match=f"`{task}` failed: nothing was published"):
        run_verdict([], None, {"ti": Scheduled(**{"check": "success", "load": "success", "publish": "skipped", task: "failed"})})
    run_verdict([], None, {"ti": Scheduled(check="skipped", load="skipped", publish="skipped")})


def test_the_verdict_of_a_failed_plan_repeats_its_problems():
    with pytest.raises(errors.QualityError, match="the plan failed: 1 problem with the run parameters"):
        run_verdict(None, None, {"ti": Instance(summary={"error": "1 problem with the run parameters:\n  1. x"})})


@pytest.mark.parametrize(("count", "running"), [(1, True), (0, False)])
def test_a_run_is_running_if_airflow_counts_it_and_an_error_of_airflow_is_not_a_no(monkeypatch, tmp_path, count, running):
    from datetime import UTC, datetime

    from market_data.airflow import tasks
    from market_data.core.run import RunInfo

    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}")
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    run = SimpleNamespace(dag_id=FEED.dag_id, run_id="r1", run_type="manual", clear_number=0, start_date=moment, run_after=moment)
    ti = SimpleNamespace(get_dr_count=lambda dag_id, run_ids, states: count)
    params = tasks.RunParams()
    other = RunInfo(FEED.dag_id, "other", "manual", 0, moment)
    assert tasks._run_context(FEED, params, {"dag_run": run, "ti": ti}).is_running(other) is running

    def broken(*_, **__):
        raise RuntimeError("the API server does not respond")

    context = {"dag_run": run, "ti": SimpleNamespace(get_dr_count=broken)}
    with pytest.raises(RuntimeError, match="does not respond"):
        tasks._run_context(FEED, params, context).is_running(other)


class Cleared(Scheduled):
    """A task instance of ``fetch`` that was cleared, as a worker sees it."""

    try_number = 2

    def xcom_pull(self, task_ids, map_indexes):
        assert (task_ids, map_indexes) == ("publish", -1)
        return {"report": "logs/ingest/date=2026-11-20/run-1.json"}


@pytest.mark.parametrize(
    ("states", "named"),
    [
        ({}, ""),
        ({"check": None, "load": None, "publish": None, "verdict": None}, ""),
        (dict.fromkeys(("check", "load", "publish", "verdict"), "success"), "`check`, `load`, `publish`, `verdict`"),
        ({"check": None, "load": "success", "publish": "failed", "verdict": "failed"}, "`load`, `publish`, `verdict`"),
    ],
)
def test_a_cleared_fetch_deletes_the_flag_before_it_fetches_and_names_what_was_not_cleared(monkeypatch, tmp_path, states, named):
    from datetime import UTC, datetime

    from market_data.airflow import tasks
    from market_data.core.batch import Batch
    from market_data.core.outcome import Receipt

    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}")
    monkeypatch.setattr(tasks, "_params", lambda *_: tasks.RunParams())
    monkeypatch.setattr(tasks, "_hook", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(Batch, "from_json", lambda value: value)
    flag = "logs/ingest/date=2026-11-20/run-1.flag"
    there = []

    def fetch_batch(context, *_):
        there.append(context.lake.get(flag) is not None)
        return Receipt("b000")

    monkeypatch.setattr(tasks.pipeline, "fetch_batch", fetch_batch)
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    for clear_number in (0, 1):
        tasks.open_lake().update(flag, lambda _: b"{}", new=True)
        ti = Cleared(**states)
        run = {"run_id": "r1", "run_type": "manual", "start_date": moment, "run_after": moment}
        dag_run = SimpleNamespace(dag_id=FEED.dag_id, clear_number=clear_number, **run)
        tasks.run_fetch(FEED, {}, {"ti": ti, "dag_run": dag_run, "params": {}})
        said = ti.pushed.get(task_notes.NOT_LOADED, "")
        assert bool(said) is bool(named and clear_number)
        assert said == ti.pushed.get(task_notes.KEY, "")
        assert not said or f"but {named} were not cleared" in said
    assert there == [True, False]


def test_the_log_of_a_failed_try_ends_with_the_page_that_explains_the_error(monkeypatch):
    long = errors.AuthError("x" * 1000, provider="polygon")
    assert decide(long).reason.endswith(" .... See docs/reference/errors.md#autherror")
    monkeypatch.setenv("MARKET_DATA_DOCS", "https://docs.example.com/md/")
    assert decide(errors.LakeError("gone")).reason == "gone. See https://docs.example.com/md/reference/errors.html#lakeerror"
    assert decide(ValueError("a defect")).reason == "a defect"
