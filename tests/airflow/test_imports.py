"""What the process of a task imports and makes: time that every task of every run takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

SCRIPT = """
import airflow.sdk.execution_time.task_runner
import json, os, sys
sys.path.insert(0, "dags")

def process(task_id):
    if task_id:  # as Airflow's task runner sets them
        os.environ |= {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "polygon_ohlcv_1d", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": task_id}
    import ingest
    dags = {name: found for name, found in vars(ingest).items() if hasattr(found, "dag_id") and name not in ("dag", "feed")}
    steps = {name.removeprefix("market_data.pipeline.") for name in sys.modules}
    print(json.dumps([task_id, {
        "dags": sorted(dags),
        "outlets": {task.task_id: [asset.name for asset in task.outlets] for task in dags["polygon_ohlcv_1d"].tasks if task.outlets},
        "heavy": sorted({"pyarrow", "pandas", "great_expectations", "duckdb", "obstore", "boto3"} & set(sys.modules)),
        "steps": sorted({"plan", "fetch", "check", "load", "publish"} & steps),
    }]), flush=True)

for task_id in sys.argv[1:]:
    if not (child := os.fork()):  # as Airflow's supervisor makes the process of a task
        process(task_id)
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""
DAG_PROCESSOR = ""


@pytest.fixture(scope="module")
def processes():
    """Task id -> what its process has after it has made its DAG; under `DAG_PROCESSOR`, that of Airflow's dag-processor."""
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}"}
    command = [sys.executable, "-c", SCRIPT, "fetch", "publish", DAG_PROCESSOR]
    done = subprocess.run(command, env=environ, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines()[-3:])


ASSETS = {"publish": ["polygon_ohlcv_1d", "polygon_ohlcv_1d_sessions"]}


def test_a_task_makes_its_own_dag_and_imports_nothing_heavy_for_it(processes):
    assert processes["fetch"] == {"dags": ["polygon_ohlcv_1d"], "outlets": {}, "heavy": [], "steps": []}


def test_publish_has_the_assets_of_its_feed(processes):
    found = processes["publish"]
    assert (found["dags"], found["outlets"]) == (["polygon_ohlcv_1d"], ASSETS)


def test_the_dag_processor_makes_every_dag_with_its_assets(processes):
    found = processes[DAG_PROCESSOR]
    assert (len(found["dags"]) > 10, found["outlets"]) == (True, ASSETS)


def test_every_public_name_of_the_pipeline_can_be_imported():
    from market_data import pipeline

    assert [name for name in pipeline.__all__ if getattr(pipeline, name).__name__ != name] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing
