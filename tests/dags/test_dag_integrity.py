"""Every DAG of the project loads as Airflow loads it.

Passes in the image too (`astro dev pytest dags`), so it imports nothing but Airflow, pytest and the project.
"""

from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from market_data.airflow.maintain import JOBS
from market_data.config.feeds import load_feeds

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dagbag():
    return DagBag(dag_folder=PROJECT / "dags")


def test_all_files_import(dagbag):
    assert dagbag.import_errors == {}


def test_each_feed_is_a_dag(dagbag):
    feeds = {feed.dag_id for feed in load_feeds()}
    assert feeds <= set(dagbag.dags)
    assert all(name.startswith(("maintain_", "watch_")) for name in set(dagbag.dags) - feeds)


@pytest.mark.parametrize("name", [*JOBS, load_feeds()[0].dag_id])
def test_a_tasks_process_makes_its_own_dag_only(monkeypatch, name):
    """Airflow's task runner tells the file which DAG it wants."""
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", name)
    assert list(DagBag(dag_folder=PROJECT / "dags").dags) == [name]


def test_no_dag_catches_up_since_its_start_date(dagbag):
    assert {dag.catchup for dag in dagbag.dags.values()} == {False}


def test_a_result_is_one_xcom(dagbag):
    """Airflow pushes each key of a result annotated as a dict as one more XCom, with a call for each."""
    tasks = [task for dag in dagbag.dags.values() for task in dag.tasks]
    assert [f"{task.dag_id} {task.task_id}" for task in tasks if getattr(task, "multiple_outputs", False)] == []


def test_tonights_run_is_created_while_cleared_runs_of_years_stand(dagbag):
    """Airflow creates no run of a DAG that has ``max_active_runs`` queued or running ones, cleared ones too."""
    assert min(dagbag.dags[feed.dag_id].max_active_runs for feed in load_feeds()) > 26 * 253


def test_in_every_pool_the_newest_session_goes_first(dagbag):
    rules = {
        (task.partial_kwargs["weight_rule"] if task.is_mapped else task.weight_rule)
        for feed in load_feeds()
        for task in dagbag.dags[feed.dag_id].tasks
        if task.task_id in ("plan", "fetch", "check", "load", "publish", "verdict")
    }
    assert rules == {"market_data.airflow.priority.NewestSessionFirst"}


def test_each_task_has_an_owner_and_a_pool_that_the_settings_create(dagbag):
    settings = PROJECT / "airflow_settings.yaml"
    if not settings.is_file():
        pytest.skip("this container has no airflow_settings.yaml: `astro dev pytest` copies folders only")
    pools = {item["pool_name"] for item in yaml.safe_load(settings.read_text())["airflow"]["pools"]} | {"default_pool"}
    for dag in dagbag.dags.values():
        assert {task.owner for task in dag.tasks} == {"market-data"}
        assert {task.pool for task in dag.tasks} <= pools
