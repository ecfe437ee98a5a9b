"""Which hosts fetched at the same time, from Airflow's own table."""

import importlib
import pkgutil
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, insert

from market_data.airflow.hosts import note_of_executors, sharing
from market_data.http.limiter import apart

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def hosts(*runs, pool="polygon_api", longest=60.0, earlier=()):
    """Each run: host, minutes ago that it began, minutes ago that it ended (None: it runs). ``earlier``: tries that others followed."""
    import airflow.models
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from sqlalchemy.orm import Session

    for module in pkgutil.iter_modules(airflow.models.__path__):  # tables refer to each other
        importlib.import_module(f"airflow.models.{module.name}")
    engine = create_engine("sqlite://")
    tables = [TaskInstance.__table__, TaskInstanceHistory.__table__]
    for table in tables:
        table.create(engine)
    tries = [(tables[0], "id", run) for run in runs] + [(tables[1], "task_instance_id", run) for run in earlier]
    with Session(engine) as session:
        for number, (table, key, (host, began, ended)) in enumerate(tries):
            moments = {"start_date": NOW - timedelta(minutes=began)}
            if ended is not None:
                moments["end_date"] = NOW - timedelta(minutes=ended)
            fields = {key: uuid.UUID(int=number), "task_id": "fetch", "map_index": number, "dag_id": "d", "run_id": "r"}
            session.execute(
                insert(table).values(
                    **fields, **moments, hostname=host, pool="polygon_api", pool_slots=1, max_tries=0, try_number=1
                )
            )
        return sharing(session, pool, NOW, longest)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("runs", "found"),
    [
        ([], []),
        ([("a", 60, 50), ("a", 40, 30)], []),
        ([("a", 60, 50), ("b", 55, 30)], ["a", "b"]),
        ([("b", 60, None), ("a", 5, 3)], ["a", "b"]),
        ([("a", 60, 50), ("b", 40, 30), ("a", 20, None)], ["a", "b"]),  # b came between two of a: both are there
        ([("old", 60, 50), ("new", 49, None)], []),  # one container after the other
        ([("a", 3000, 2900), ("b", 2950, 2900), ("a", 10, 5)], []),  # two days ago
        ([("a", 60, 50), ("", 55, 30)], []),
    ],
)
def test_hosts_that_fetch_over_the_same_time_are_found(runs, found):
    assert hosts(*runs) == found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("longest", "runs", "found"),
    [
        (3600.0, [("old", 200, 70), ("new", 11, None)], ["new", "old"]),
        (3600.0, [("old", 200, 72), ("new", 11, None)], []),
        (86_400.0, [("pod-1", 1400, 1399), ("pod-2", 5, 3)], ["pod-1", "pod-2"]),
        (86_400.0, [("pod-1", 1450, 1445), ("pod-2", 5, 3)], []),
        (30 * 86_400.0, [("a", 20_000, 19_999), ("b", 5, 3)], ["a", "b"]),
        (3599.0, [("old", 60, 50), ("new", 49, None)], []),
    ],
)
def test_hosts_one_after_the_other_share_a_long_window(longest, runs, found):
    assert hosts(*runs, longest=longest) == found


@pytest.mark.filterwarnings("ignore")
def test_a_host_counts_whose_tasks_were_all_tried_again_elsewhere():
    assert hosts(("b", 60, 20), earlier=[("a", 60, 50)]) == ["a", "b"]
    assert hosts(("a", 40, 20), earlier=[("a", 60, 50)]) == []
    assert hosts(("a", 40, 20), earlier=[("a", 60, 30)]) == []


@pytest.mark.filterwarnings("ignore")
def test_only_tasks_of_the_pool_count():
    assert hosts(("a", 60, 50), ("b", 55, 30), pool="alpaca_api") == []


def test_one_host_is_nothing_to_tell_and_many_are_not_all_named():
    assert apart(["a"]) == ""
    assert "7 hosts (a, b, c, d, e, ...), and each host knows its own calls only" in apart(list("abcdefg"))


@pytest.mark.parametrize(
    ("executors", "names"),
    [
        ("LocalExecutor", ""),
        ("CeleryExecutor", "CeleryExecutor may run"),
        ("KubernetesExecutor", "KubernetesExecutor may run"),
        ("astronomer.runtime.AstroExecutor", "AstroExecutor may run"),
        (
            "LocalExecutor,team:airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor:k8s",
            "KubernetesExecutor may",
        ),
        (
            "airflow.providers.edge3.executors.EdgeExecutor, CeleryExecutor",
            "EdgeExecutor and CeleryExecutor may run tasks on several hosts",
        ),
    ],
)
def test_an_executor_with_other_hosts_is_told_in_the_log(executors, names):
    said = note_of_executors(executors)
    assert said.startswith(names)
    assert bool(said) == bool(names)
