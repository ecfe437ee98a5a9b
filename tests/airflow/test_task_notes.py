"""The run's own note: that of the verdict, else of the plan; one written by a person is kept."""

import importlib
import pkgutil
import uuid
from datetime import UTC, datetime, timedelta
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("verdict_after", "state"), [(False, "failed"), (True, "success")])
def test_a_run_whose_fetch_ran_after_its_verdict_is_failed_and_its_note_says_why(connection, verdict_after, state, monkeypatch):
    import sqlalchemy.orm
    from airflow.models.dagrun import DagRun, DagRunNote
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.state import DagRunState

    moment = datetime(2026, 11, 20, tzinfo=UTC)
    ids = {"dag_id": RUN.dag_id, "run_id": RUN.run_id}
    started = moment + timedelta(seconds=1 if verdict_after else -1)
    connection.execute(
        insert(TaskInstance.__table__).values(
            **ids, id=uuid.UUID(int=1), task_id="verdict", map_index=-1, start_date=started, pool="p", pool_slots=1, max_tries=0
        )
    )
    xcom = {"dag_run_id": RUN.id, **ids, "map_index": 0, "timestamp": moment}
    for key in (task_notes.KEY, task_notes.NOT_LOADED):
        connection.execute(insert(XComModel).values(**xcom, task_id="fetch", key=key, value="`load` not cleared"))
    connection.execute(insert(XComModel).values(**{**xcom, "map_index": -1}, task_id="verdict", key=task_notes.KEY, value="fine"))
    monkeypatch.setattr(sqlalchemy.orm, "object_session", lambda _: SimpleNamespace(connection=lambda: connection))
    run = DagRun(**ids)
    run.id, run._state = RUN.id, DagRunState.SUCCESS
    task_notes.on_dag_run_success(run, "")
    assert run.state == state
    note = connection.execute(select(DagRunNote.content)).scalar_one()
    assert note == "market-data: " + ("fine" if verdict_after else "`load` not cleared")
