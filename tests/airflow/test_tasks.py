"""The edge: which error does what, and what the DAG looks like."""

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
    folded = {name for name in params if params.get_param(name).schema.get("section") == "Advanced"}
    rare = {"max_retries", "retry_delay_seconds", "lookback_days", "endpoint", "max_missing_ratio", "circuit_breaker", "data_docs"}
    assert folded == {*rare, "recheck_sessions", "tolerate", "adjustment"}


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
def test_the_verdict_of_a_dry_run_says_that_it_was_one(note, said):
    ti = Instance(summary={"note": note, "dry_run": True})
    run_verdict([], None, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == said


def test_the_verdict_is_green_when_nothing_is_missing_or_nothing_was_asked():
    ti = Instance(summary={"note": "Nothing to do: no session on 2013-01-01 (New Year's Day)"})
    run_verdict([], None, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == "Nothing to do: no session on 2013-01-01 (New Year's Day)"
    ti = Instance()
    run_verdict([{"id": "b000"}], {"red": [], "warnings": ["look"], "report": "r"}, {"ti": ti})
    assert ti.pushed[task_notes.KEY] == "look"
    run_verdict([{"id": "b000"}], {"red": [], "warnings": [], "report": "r"}, {"ti": (ti := Instance())})
    assert ti.pushed == {}
