"""Links of a task instance: of mapped tasks and tasks that have not run too, never of other people's DAGs."""

import importlib
import json
import pkgutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from market_data.airflow import links

OURS = SimpleNamespace(get_dag=lambda: SimpleNamespace(tags={"market-data", "polygon"}))
OTHER = SimpleNamespace(get_dag=lambda: SimpleNamespace(tags={"sales"}))
KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="fetch", map_index=3)
REPORT = "logs/ingest/date=2024-01-02/run-1.json"


@pytest.mark.parametrize(
    ("lake", "key", "endpoint", "address"),
    [
        ("s3://b", "a b/c=1.json", "http://127.0.0.1:9/", "http://127.0.0.1:9/b/a%20b/c%3D1.json"),
        ("s3://b/p/", "", "http://127.0.0.1:9", "http://127.0.0.1:9/b/p"),
        ("s3://b/p", "k=1", None, "https://console.aws.amazon.com/s3/object/b?prefix=p%2Fk%3D1"),
        ("s3://b/p", "", None, "https://console.aws.amazon.com/s3/buckets/b?prefix=p%2F"),
        ("s3://b", "", None, "https://console.aws.amazon.com/s3/buckets/b?prefix="),
        ("file:///lake", "k", None, ""),
    ],
)
def test_address_of_an_object(lake, key, endpoint, address):
    assert links.object_address(lake, key, endpoint) == address


def found(operator=OURS):
    return {link.name: link.get_link(operator, ti_key=KEY) for link in links.LINKS}


def test_links_of_a_run_appear_when_it_has_something_to_show(monkeypatch):
    import airflow.models
    from airflow.models.xcom import XComModel
    from airflow.utils import session as airflow_session
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    for module in pkgutil.iter_modules(airflow.models.__path__):  # tables refer to each other
        importlib.import_module(f"airflow.models.{module.name}")
    engine = create_engine("sqlite://")
    XComModel.__table__.create(engine)
    opened = Session(engine)
    opened.close = opened.commit
    monkeypatch.setattr(airflow_session, "create_session", lambda: opened)
    monkeypatch.setenv("MARKET_DATA_LAKE", "s3://lake")
    extra = {"endpoint_url": "http://127.0.0.1:9"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "password": "hush", "login": "k", "extra": extra})
    )
    nothing = {
        "Run in Market data": "/market-data/run?dag_id=d&run_id=r",
        "Run report": "",
        "Data Docs": "",
        "Lake": "http://127.0.0.1:9/lake",
    }
    assert found() == nothing
    row = {"dag_run_id": 1, "dag_id": "d", "run_id": "r", "map_index": -1, "key": "return_value", "timestamp": datetime.now(UTC)}
    opened.execute(insert(XComModel), [{**row, "task_id": "publish", "value": {"report": REPORT}}])
    opened.execute(insert(XComModel), [{**row, "task_id": "check", "value": {"data_docs": "quality/docs/index.html"}}])
    assert found() == {
        "Run in Market data": nothing["Run in Market data"],
        "Run report": f"http://127.0.0.1:9/lake/{REPORT.replace('=', '%3D')}",
        "Data Docs": "http://127.0.0.1:9/lake/quality/docs/index.html",
        "Lake": "http://127.0.0.1:9/lake",
    }
    assert set(found(OTHER).values()) == {""}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": {**extra, "profile_name": "none"}}))
    assert found()["Lake"] == "http://127.0.0.1:9/lake"  # an address needs no credentials
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": {"endpoint_url": "http://u:hush@h"}}))
    assert set(found().values()) == {nothing["Run in Market data"], ""}
