"""Switching a DAG on, on a real scheduler: nothing is fetched that nobody asked for."""

from datetime import UTC, datetime
from datetime import time as clock_time

import pytest

from market_data.core import calendar

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MARKER = "mock_ohlcv_1m"
"""Its run shows that the scheduler has gone round since, and another that the DAG was read again."""
LAST = calendar.last_completed_session(datetime.now(UTC), clock_time(22, 30))


@pytest.fixture(params=["alpaca_ohlcv_1d", "databento_ohlcv_1d"])
def paused(world, request):
    world.parsed(request.param)
    world.airflow.pause(request.param)
    yield request.param
    world.airflow.pause(request.param)


FREE = {"get_cost", "get_record_count", "get_billable_size", "get_dataset_range", "get_dataset_condition", "resolve"}
"""Databento's calls that return no data."""


def scheduled(world, dag_id):
    return sorted(run["dag_run_id"] for run in world.runs(dag_id) if run["run_type"] == "scheduled")


def let_the_scheduler_go_round(world):
    world.parsed(MARKER)
    world.airflow.unpause(MARKER)
    for day in ("2012-10-01", "2012-10-02", "2012-10-03"):
        run = world.trigger(dag_id=MARKER, symbols=["AAPL"], start_date=day, end_date=day, dry_run=True)
        assert world.wait(run)["state"] == "success", world.trouble(run)


def next_run(world, dag_id):
    found = world.airflow.dag(dag_id)["next_dagrun_run_after"]
    return found and datetime.fromisoformat(found)


def test_a_dry_run_of_a_paused_dag_that_airflow_unpauses_causes_no_other_run(world, paused):
    """The trigger form unpauses by default: *Unpause on trigger*."""
    before = {run["dag_run_id"] for run in world.runs(paused)}
    world.control("POST", "quota", limits=[])
    world.forget_calls()
    run = world.trigger(dag_id=paused, dry_run=True, symbols=["AAPL", "IBM"], start_date="2012-10-01", end_date="2012-10-31")
    world.airflow.unpause(paused)
    assert world.wait(run)["state"] == "success", world.trouble(run)
    let_the_scheduler_go_round(world)
    assert {found["dag_run_id"] for found in world.runs(paused)} - before == {run["dag_run_id"]}
    assert {call["endpoint"] for call in world.calls()} <= FREE
    due = next_run(world, paused)
    assert due is None if paused.startswith("databento") else due > datetime.now(UTC)


def test_unpausing_after_a_backfill_and_manual_runs_makes_no_run_of_the_past(world):
    dag_id = "fmp_ohlcv_1d"
    world.parsed(dag_id)
    world.airflow.pause(dag_id)
    assert scheduled(world, dag_id) == []
    manual = world.trigger(dag_id=dag_id, symbols=["AAPL"], logical_date="2012-11-01T00:00:00Z", dry_run=True)
    body = {
        "dag_id": dag_id,
        "from_date": "2012-11-05T00:00:00Z",
        "to_date": "2012-11-07T00:00:00Z",
        "run_backwards": False,
        "reprocess_behavior": "none",
        "max_active_runs": 2,
        "dag_run_conf": {"symbols": ["AAPL"], "dry_run": True},
    }
    world.api("POST", "/backfills", body)
    world.airflow.unpause(dag_id)
    made = [run for run in world.runs(dag_id) if run["run_type"] == "backfill"]
    assert sorted(run["logical_date"][:10] for run in made) == [f"2012-11-0{day}" for day in (5, 6, 7)]
    for run in [manual, *made]:
        assert world.wait(run)["state"] == "success", world.trouble(run)
    let_the_scheduler_go_round(world)
    assert scheduled(world, dag_id) == []
    assert next_run(world, dag_id) > datetime.now(UTC)


def test_each_missed_session_has_a_run_of_its_own_up_to_catch_up_sessions(world):
    """Away for longer than that: the oldest are left out, and none is made twice."""
    dag_id = "mock_ohlcv_1d"
    world.parsed(dag_id)
    world.airflow.pause(dag_id)
    first = LAST
    for _ in range(40):
        first = calendar.previous_session(first)
    last = calendar.last_completed_session(datetime.now(UTC), clock_time(20, 30))
    world.scheduled(dag_id, first)
    world.airflow.unpause(dag_id)
    expected = [last]
    while len(expected) < 30:
        expected.insert(0, calendar.previous_session(expected[0]))
    ids = [f"scheduled__{day}" for day in (first, *expected)]
    world.until(lambda: len(scheduled(world, dag_id)) >= len(ids), seconds=700)
    assert scheduled(world, dag_id) == ids
    assert next_run(world, dag_id) > datetime.now(UTC)
    world.airflow.pause(dag_id)
