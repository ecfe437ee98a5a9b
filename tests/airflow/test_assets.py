"""A DAG that is scheduled by the sessions of a feed runs once per session, whatever run brought them."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset

from market_data.airflow.assets import announce, loaded_asset, readable, sessions_asset
from tests.docs.pages import PROJECT

DAGS = """
from airflow.sdk import DAG, PartitionedAssetTimetable, task
from market_data.airflow.assets import announce, loaded_asset, sessions_asset

ASSETS = loaded_asset("feed", "file:///lake/feed"), sessions_asset("feed", "file:///lake/feed")

with DAG("feed", params={"new": []}) as feed:
    @task(outlets=list(ASSETS))
    def publish(params=None, outlet_events=None):
        sessions = params["new"]
        announce(outlet_events, ASSETS, {"sessions": sessions, "new_sessions": sessions, "rows": 1, "report": "r"})
    publish()

with DAG("features", schedule=PartitionedAssetTimetable(assets=ASSETS[1])):
    task(lambda: None, task_id="nothing")()
"""

SCRIPT = """
import json, os, sys
from airflow.utils.db import initdb
initdb()
sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
from dags_of_assets import feed
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models import DagRun
from airflow.models.asset import AssetEvent
from airflow.utils.session import create_session
from sqlalchemy import select

with create_session() as session:
    job = Job()
    session.add(job)
    session.commit()
    runner = SchedulerJobRunner(job)
found = []
for new in json.loads(sys.argv[1]):
    assert feed.test(run_conf={"new": new}).state == "success"
    with create_session() as session:
        for _ in range(3):  # as the scheduler's loop does, more often than needed
            runner._create_dagruns_for_partitioned_asset_dags(session)
            session.commit()
        runs = session.execute(select(DagRun.partition_key).where(DagRun.dag_id == "features").order_by(DagRun.id)).scalars().all()
        found.append(sorted(runs[sum(map(len, found)):]))
with create_session() as session:
    events = session.execute(select(AssetEvent.extra)).scalars().all()
print(json.dumps({"runs": found, "events": events}))
"""


@pytest.mark.slow
def test_a_downstream_dag_runs_once_per_session_twenty_after_a_repair_of_twenty_none_after_a_clear_without_new_values(tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "dags_of_assets.py").write_text(DAGS)
    twenty = [f"2024-03-{day:02}" for day in range(1, 21)]
    steps = [["2024-04-01"], twenty, [], ["2024-03-07"]]  # tonight, a repair, a clear with equal values, a restated session
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "plugins"), str(PROJECT)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(steps)], env=environ, capture_output=True, text=True, check=False, timeout=170
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["runs"] == steps
    assert len(found["events"]) == 4 + 1 + 20 + 1 + 1


def outlet_events(*assets):
    keys = {asset.name: SimpleNamespace(extra=None, keys=[]) for asset in assets}
    for found in keys.values():
        found.add_partitions = found.keys.extend
    return type("Events", (), {"__getitem__": lambda _, asset: keys[asset.name]})(), keys


def test_only_sessions_with_new_values_are_partitions_and_the_extra_reads_well():
    assets = loaded_asset("f", "s3://b/f"), sessions_asset("f", "s3://b/f")
    assert [asset.name for asset in assets] == ["f", "f_sessions"]
    assert all(isinstance(asset, Asset) for asset in assets)
    events, found = outlet_events(*assets)
    announce(
        events, assets, {"sessions": ["2024-01-02", "2024-01-03"], "new_sessions": ["2024-01-03"], "rows": 1200, "report": "k"}
    )
    assert found["f_sessions"].keys == ["2024-01-03"]
    assert found["f"].keys == []
    assert found["f"].extra["loaded"] == "1,200 rows of 2 sessions: 2024-01-02 to 2024-01-03"
    assert readable({"sessions": ["2024-01-02"], "rows": 1, "report": "k"})["loaded"] == "1 row of 1 session: 2024-01-02"
    assert readable({"sessions": [], "rows": 10, "report": "k"})["loaded"] == "10 rows, none with a new value"
