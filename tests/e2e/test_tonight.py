"""Tonight's run while cleared runs of a whole year stand, on a real scheduler."""

import time
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time

import pytest

from market_data.core import calendar
from tests.e2e.conftest import DAG, running

pytestmark = pytest.mark.slow

CLEARED = 250
TONIGHT = calendar.last_completed_session(datetime.now(UTC), clock_time(20, 30))


@pytest.fixture(scope="module")
def backlog(tmp_path_factory):
    """A stack with a standing backlog of cleared runs that are at work."""
    past = calendar.sessions(TONIGHT - timedelta(days=400), TONIGHT)[-CLEARED:]
    with running(
        tmp_path_factory.mktemp("tonight"),
        AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="5",
        AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE="500",
    ) as world:
        world.stack.holds.add(DAG)  # tonight has not come
        runs = world.scheduled(DAG, *past, cleared=1)
        world.airflow.unpause(DAG)
        yield world, runs


def test_experiment(backlog):
    world, runs = backlog
    began = time.monotonic()
    released = None
    while time.monotonic() - began < 600:
        found = world.runs(DAG)
        states = {}
        for run in found:
            states[run["state"]] = states.get(run["state"], 0) + 1
        tonight = [r for r in found if r["logical_date"].startswith(str(TONIGHT))]
        ts = world.states(tonight[0]) if tonight else None
        print(
            f"{time.monotonic() - began:6.1f}",
            states,
            len(world.calls()),
            tonight and (tonight[0]["state"], tonight[0]["queued_at"], tonight[0]["start_date"]),
            ts,
            flush=True,
        )
        if not released and states.get("queued", 0) == 0:
            for file in world.stack.holds._folder.glob("*/*"):
                file.unlink()
            released = time.monotonic()
            print("RELEASED", datetime.now(UTC))
        if tonight and tonight[0]["state"] in ("success", "failed"):
            for t in world.airflow.task_instances(DAG, tonight[0]["dag_run_id"]):
                print(
                    t["task_id"], t["map_index"], t["queued_when"], t["start_date"], t["end_date"], t["priority_weight"], t["state"]
                )
            break
        time.sleep(3)
    print(world.log("scheduler"))
    import shutil

    shutil.copytree(world.stack.paths.logs, "/tmp/tonightlogs", dirs_exist_ok=True)
