"""The run's own note: that of the verdict, else of the plan; one written by a person is kept."""

import importlib
import pkgutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, delete, insert, select, update

from market_data.airflow import task_notes

RUN = SimpleNamespace(id=7, dag_id="d", run_id="r")


@pytest.fixture
def connection():
    import airflow.models
    from airflow.models.base import Base

    for module in pkgutil.iter_modules(airflow.models.__path__):  # tables refer to each other
        importlib.import_module(f"airflow.models.{module.name}")
    engine = create_engine("sqlite://")
    tables = ("dag_run_note", "task_instance", "task_instance_note", "xcom")
    Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in tables])
    with engine.connect() as opened:
        yield opened


def note_after(connection, **left):
    """Return the run's note after its tasks have left these notes."""
    from airflow.models.dagrun import DagRunNote
    from airflow.models.xcom import XComModel

    connection.execute(delete(XComModel))
    ids = {"dag_run_id": RUN.id, "dag_id": RUN.dag_id, "run_id": RUN.run_id, "map_index": -1}
    for task_id, text in left.items():
        xcom = {**ids, "task_id": task_id, "key": task_notes.KEY, "value": text, "timestamp": datetime.now(UTC)}
        connection.execute(insert(XComModel), [xcom])
    task_notes._write(connection, RUN)
    return connection.execute(select(DagRunNote.content)).scalar_one_or_none()


@pytest.mark.filterwarnings("ignore")
def test_the_run_gets_the_note_of_the_verdict_and_a_persons_note_is_kept(connection):
    from airflow.models.dagrun import DagRunNote

    assert note_after(connection) is None
    assert note_after(connection, plan="2 problems") == "market-data: 2 problems"
    assert note_after(connection, plan="2 problems", verdict="the plan failed") == "market-data: the plan failed"
    assert note_after(connection) is None
    connection.execute(insert(DagRunNote.__table__), [{"dag_run_id": RUN.id, "content": "seen, A. B."}])
    assert note_after(connection, verdict="30 symbols") == "seen, A. B."
    connection.execute(update(DagRunNote).values(content="market-data: old"))
    assert note_after(connection, verdict="30 symbols") == "market-data: 30 symbols"
