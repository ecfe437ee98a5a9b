"""Notes on task instances: what went wrong, where one looks first, the grid.

A task of Airflow 3 cannot write its own note: notes are in the metadata database, which tasks do not reach. It leaves the text as an
XCom, and the listener below, which runs in the scheduler when a run is over, writes it down. Imported by every component: keep it light.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)
hookimpl = HookimplMarker("airflow")  # what airflow.listeners has too, without a second of imports in every task

KEY = "market_data_note"
HEAD = "market-data: "
"""What our notes begin with. One that does not is a person's and is left alone."""
CHUNK = 500  # rows a statement
LONGEST = 1000  # characters; a note of Airflow's


def leave(ti: Any, text: str) -> None:
    """Have ``text`` noted on the task instance when its run is over; an empty one is no note."""
    if text:
        ti.xcom_push(key=KEY, value=text[: LONGEST - len(HEAD)])


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001 - the listener's signature
    write_down(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001
    write_down(dag_run)


def write_down(dag_run: DagRun) -> None:
    """Write what the tasks of a run have left as their notes, and take away our own notes that no longer hold.

    It happens inside the scheduler's transaction, in a savepoint of the connection (the session itself must not commit there): whatever
    goes wrong is logged and undone, and the run is as it was.
    """
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    try:
        connection = session.connection()
        with connection.begin_nested():
            _write(connection, dag_run)
    except Exception:
        log.exception("the notes of %s could not be written", dag_run.run_id)


def _write(connection: Any, dag_run: DagRun) -> None:
    from airflow.models.taskinstance import TaskInstance, TaskInstanceNote
    from airflow.models.xcom import XComModel
    from sqlalchemy import delete, insert, select

    left = select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
        XComModel.dag_run_id == dag_run.id, XComModel.key == KEY
    )
    texts = {(row.task_id, row.map_index): HEAD + str(XComModel.deserialize_value(row)) for row in connection.execute(left)}
    concerned = (
        select(TaskInstance.id, TaskInstance.task_id, TaskInstance.map_index, TaskInstanceNote.content)
        .outerjoin(TaskInstanceNote, TaskInstanceNote.ti_id == TaskInstance.id)
        .where(TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id)
        .where(TaskInstance.task_id.in_({task_id for task_id, _ in texts}) | TaskInstanceNote.content.startswith(HEAD))
    )
    ours = [row for row in connection.execute(concerned) if (row.content or HEAD).startswith(HEAD)]
    changed = [(row, text) for row in ours if row.content != (text := texts.get((row.task_id, row.map_index)))]
    for start in range(0, len(changed), CHUNK):
        chunk = changed[start : start + CHUNK]
        connection.execute(delete(TaskInstanceNote).where(TaskInstanceNote.ti_id.in_([row.id for row, _ in chunk])))
        fresh = [{"ti_id": row.id, "content": text} for row, text in chunk if text is not None]
        if fresh:
            connection.execute(insert(TaskInstanceNote), fresh)
