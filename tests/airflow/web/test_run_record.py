"""What tasks returned, wherever Airflow keeps it: in its database, in an object store, or where the api-server cannot read it."""

import importlib
import json
import pkgutil
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest

from market_data.airflow import links
from market_data.airflow.web.run_record import read_run
from market_data.views.runs import run_of

NOW = datetime(2024, 10, 1, tzinfo=UTC)
BATCH = {"id": "b000", "label": "AAPL", "calls": 1, "blocks": [{"symbols": ["AAPL"]}]}
RECEIPT = {"batch_id": "b000", "calls": 1, "rows_landed": 5}
VALUES = {
    ("plan", -1, "return_value"): [BATCH],
    ("plan", -1, "summary"): {"minutes": 1.0},
    ("fetch", 0, "return_value"): RECEIPT,
    ("check", -1, "return_value"): {"table": "all rules pass"},
    ("publish", -1, "return_value"): {"report": "logs/ingest/r.json", "headline": "1 symbol", "red": [], "warnings": []},
}


@pytest.fixture
def stored(monkeypatch):
    """Return a function that puts the results of a run into Airflow's tables."""
    import airflow.models
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.tasklog import LogTemplate
    from airflow.models.xcom import XComModel
    from airflow.utils import session as airflow_session
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    for module in pkgutil.iter_modules(airflow.models.__path__):  # tables refer to each other
        importlib.import_module(f"airflow.models.{module.name}")
    engine = create_engine("sqlite://")
    for model in (LogTemplate, DagRun, TaskInstance, XComModel):
        model.__table__.create(engine)
    opened = Session(engine)

    @contextmanager
    def create_session(**_):
        yield opened

    monkeypatch.setattr(airflow_session, "create_session", create_session)
    run = {"id": 1, "dag_id": "d", "run_id": "r", "run_type": "manual", "run_after": NOW, "state": "success"}
    opened.execute(insert(DagRun.__table__), [{**run, "start_date": NOW, "end_date": NOW}])
    for place, (task, index) in enumerate((("plan", -1), ("fetch", 0), ("check", -1), ("publish", -1))):
        one = {"id": UUID(int=place), "dag_id": "d", "run_id": "r", "pool": "p", "pool_slots": 1}
        opened.execute(
            insert(TaskInstance.__table__), [{**one, "task_id": task, "map_index": index, "state": "success", "try_number": 1}]
        )

    def put(values):
        common = {"dag_run_id": 1, "dag_id": "d", "run_id": "r", "timestamp": NOW}
        for (task, index, key), value in values.items():
            opened.execute(insert(XComModel), [{**common, "task_id": task, "map_index": index, "key": key, "value": value}])

    return put


def page():
    found = run_of(read_run("d", "r"), None, NOW)
    json.dumps(found)
    return found


def links_of(monkeypatch):
    monkeypatch.setenv("MARKET_DATA_LAKE", "s3://lake")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": {"endpoint_url": "http://h"}}))
    ours = SimpleNamespace(get_dag=lambda: SimpleNamespace(tags={links.TAG}))
    key = SimpleNamespace(dag_id="d", run_id="r", task_id="fetch", map_index=0)
    return {link.name: link.get_link(ours, ti_key=key) for link in (links.ReportLink(), links.DataDocsLink())}


def test_results_in_the_database_are_shown(stored, monkeypatch):
    stored(VALUES)
    found = page()
    assert (found["totals"]["rows"], found["symbols"]["ok"], found["checkpoint"], found["notes"]) == (5, 1, "all rules pass", [])
    assert links_of(monkeypatch) == {"Run report": "http://h/lake/logs/ingest/r.json", "Data Docs": ""}


def test_results_in_an_object_store_are_read_from_there(stored, monkeypatch, tmp_path):
    from airflow.providers.common.io.xcom import backend
    from airflow.sdk.execution_time import xcom

    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}/xcoms")
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "0")
    for name in ("_get_base_path", "_get_threshold", "_get_compression"):
        monkeypatch.setattr(backend, name, getattr(backend, name).__wrapped__)
    monkeypatch.setattr(xcom, "XCom", backend.XComObjectStorageBackend)
    paths = {
        (task, index, key): backend.XComObjectStorageBackend.serialize_value(value, key=key, task_id=task, dag_id="d", run_id="r")
        for (task, index, key), value in VALUES.items()
    }
    assert all("file://" in path for path in paths.values())
    stored(paths)
    found = page()
    assert (found["totals"]["rows"], found["checkpoint"], found["notes"]) == (5, "all rules pass", [])
    assert links_of(monkeypatch)["Run report"] == "http://h/lake/logs/ingest/r.json"
    shutil.rmtree(tmp_path / "xcoms")
    assert len(page()["notes"]) == 4
    assert set(links_of(monkeypatch).values()) == {""}


@pytest.mark.parametrize("value", ["s3://bucket/key", 7, ["x"], [None], True])
def test_results_of_another_kind_are_named_and_nothing_fails(stored, monkeypatch, value):
    stored(dict.fromkeys(VALUES, value))
    found = page()
    assert [note.partition("`")[2].partition("`")[0] for note in found["notes"]] == ["plan", "fetch", "check", "publish"]
    assert "xcom_backend" in found["notes"][0]
    assert (found["state"], found["batches"]) == ("success", [])
    assert set(links_of(monkeypatch).values()) == {""}


def test_results_that_are_none_are_those_of_tasks_that_have_not_run(stored, monkeypatch):
    stored(dict.fromkeys(VALUES))
    assert (page()["notes"], page()["batches"]) == ([], [])
    assert set(links_of(monkeypatch).values()) == {""}
