"""Tonight's run while the cleared runs of a year wait, on a real scheduler."""

from datetime import UTC, datetime, timedelta
from datetime import time as clock_time

import pytest

from market_data.core import calendar
from tests.e2e.conftest import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = "mock_ohlcv_1d"
CLEARED = 250
TONIGHT = calendar.last_completed_session(datetime.now(UTC), clock_time(20, 30))
DONE = ("success", "failed")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with running(tmp_path_factory.mktemp("tonight"), AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="5") as world:
        world.parsed(DAG)
        world.resize("mock_api", 1)
        yield world


def moment(text):
    return datetime.fromisoformat(text)


def fetches(world):
    path = f"/dags/{DAG}/dagRuns/~/taskInstances?task_id=fetch"
    return [task for task in world.airflow._all(path, "task_instances") if task["scheduled_when"]]


def unfinished(world):
    return [run for run in world.runs(DAG) if run["state"] not in DONE]


def test_tonights_run_is_created_and_goes_first_while_250_cleared_runs_wait(world, record_property):
    past = calendar.sessions(TONIGHT - timedelta(days=400), TONIGHT)[-CLEARED:]
    world.stack.holds.add(DAG)  # tonight has not come yet
    world.scheduled(DAG, *past, cleared=1)
    world.airflow.unpause(DAG)
    world.until(lambda: any(task["state"] == "success" for task in fetches(world)), seconds=300)
    assert len(unfinished(world)) > CLEARED - 50

    for hold in world.stack.paths.holds.glob("*/*"):
        hold.unlink()  # now it has
    came = datetime.now(UTC)
    tonight = {"dag_id": DAG, "dag_run_id": f"scheduled__{TONIGHT}"}
    world.until(lambda: tonight["dag_run_id"] in {run["dag_run_id"] for run in world.runs(DAG)}, seconds=60)
    run = world.wait(tonight, seconds=420)
    assert run["state"] == "success", world.trouble(run)
    waiting = len(unfinished(world))
    assert waiting > CLEARED / 2
    record_property("seconds from its time to its start", (moment(run["queued_at"]) - came).total_seconds())
    record_property("seconds to its end", (moment(run["end_date"]) - came).total_seconds())
    record_property("cleared runs that wait at its end", waiting)

    found = fetches(world)
    (own,) = [task for task in found if task["dag_run_id"] == tonight["dag_run_id"]]
    others = [task for task in found if task["dag_run_id"] != tonight["dag_run_id"]]
    assert own["priority_weight"] > max(task["priority_weight"] for task in others)
    ready, started = moment(own["scheduled_when"]), moment(own["start_date"])
    assert [task["dag_run_id"] for task in others if task["queued_when"] and ready < moment(task["queued_when"]) < started] == []
    assert any(moment(task["scheduled_when"]) < ready and not task["start_date"] for task in others)  # it did overtake some
