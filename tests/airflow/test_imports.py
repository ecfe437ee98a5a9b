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
import json, sys
sys.path.insert(0, "dags")
import ingest
dags = {name: found for name, found in vars(ingest).items() if hasattr(found, "dag_id") and name not in ("dag", "feed")}
print(json.dumps({
    "dags": sorted(dags),
    "outlets": {task.task_id: [asset.name for asset in task.outlets] for task in dags["polygon_ohlcv_1d"].tasks if task.outlets},
    "heavy": sorted({"pyarrow", "pandas", "great_expectations", "duckdb", "obstore", "boto3"} & set(sys.modules)),
    "steps": sorted({"plan", "fetch", "check", "load", "publish"} & {name.removeprefix("market_data.pipeline.") for name in sys.modules}),
}))
"""


def process_of(task_id=None):
    """Return what a task's process has after it has made its DAG; without ``task_id``, that of Airflow's dag-processor."""
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}"}
    if task_id:  # as Airflow's task runner sets them
        environ |= {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "polygon_ohlcv_1d", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": task_id}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environ, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ASSETS = {"publish": ["polygon_ohlcv_1d", "polygon_ohlcv_1d_sessions"]}


def test_a_task_makes_its_own_dag_and_imports_nothing_heavy_for_it():
    assert process_of("fetch") == {"dags": ["polygon_ohlcv_1d"], "outlets": {}, "heavy": [], "steps": []}


def test_publish_has_the_assets_of_its_feed():
    found = process_of("publish")
    assert (found["dags"], found["outlets"]) == (["polygon_ohlcv_1d"], ASSETS)


def test_the_dag_processor_makes_every_dag_with_its_assets():
    found = process_of()
    assert (len(found["dags"]) > 10, found["outlets"]) == (True, ASSETS)


def test_every_public_name_of_the_pipeline_can_be_imported():
    from market_data import pipeline

    assert [name for name in pipeline.__all__ if getattr(pipeline, name).__name__ != name] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing
