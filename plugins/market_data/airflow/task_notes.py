"""Notes on runs and task instances: the verdict and the reasons of failures, shown in the grid.

A task of Airflow 3 cannot write a note, because tasks have no access to the metadata database. It pushes the text as an XCom. The
listener below runs in the scheduler when a run is over, and writes the notes; the run gets that of ``verdict``, else that of ``plan``.
Every component imports this module: keep it light.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)
hookimpl = HookimplMarker("airflow")  # as in airflow.listeners, which would add a second of imports to every task

KEY = "market_data_note"
NOT_LOADED = "market_data_not_loaded"
"""Key of a sentence that ``fetch`` pushes if it was cleared without the tasks that load its rows."""
HEAD = "market-data: "
"""Prefix of our notes. A note without it was written by a person and is kept."""
CHUNK = 500  # rows per statement
RUN_NOTES = ("verdict", "plan", "act")
"""The tasks whose note is also the run's, the first that has one."""
LONGEST = 1000  # characters that Airflow allows in a note


def leave(ti: Any, text: str) -> None:
    """Leave ``text`` as the note of the task instance, written when its run is over, unless empty."""
    if text:
        ti.xcom_push(key=KEY, value=text[: LONGEST - len(HEAD)])


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001 - the listener's signature
    write_down(dag_run)
    fail_if_not_loaded(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001
    write_down(dag_run)


def write_down(dag_run: DagRun) -> None:
    """Write the notes that the tasks of a run have left, and remove our notes that no longer apply."""
    _in_savepoint(dag_run, lambda connection: _write(connection, dag_run))


def fail_if_not_loaded(dag_run: DagRun) -> None:
    """Fail a run whose ``fetch`` was cleared without the tasks that load its rows.

    ``verdict`` did not run again, so Airflow takes its earlier success for that of the run.
    """

    def fail(connection: Any) -> None:
        from airflow.utils.state import DagRunState

        if words := _not_loaded(connection, dag_run):
            log.error("%s of %s failed: %s", dag_run.run_id, dag_run.dag_id, words)
            dag_run.set_state(DagRunState.FAILED)

    _in_savepoint(dag_run, fail)


def _in_savepoint(dag_run: DagRun, action: Callable[[Any], None]) -> None:
    """Act inside the scheduler's transaction.

    That is in a savepoint of the connection, because the session must not commit there. Any error is logged and rolled back, and the
    run stays as it was.
    """
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    try:
        connection = session.connection()
        with connection.begin_nested():
            action(connection)
    except Exception:
        log.exception("the listener failed for %s", dag_run.run_id)


def _not_loaded(connection: Any, dag_run: DagRun) -> str:
    """Return the sentence of a ``fetch`` that ran after the verdict; empty if there is none."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    left = select(XComModel.value, XComModel.timestamp).where(XComModel.dag_run_id == dag_run.id, XComModel.key == NOT_LOADED)
    rows = list(connection.execute(left))
    if not rows:
        return ""
    verdict = select(TaskInstance.start_date).where(
        TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id, TaskInstance.task_id == "verdict"
    )
    judged = connection.execute(verdict).scalar_one_or_none()
    return next((str(XComModel.deserialize_value(row)) for row in rows if judged is None or row.timestamp > judged), "")


def _write(connection: Any, dag_run: DagRun) -> None:
    from airflow.models.dagrun import DagRunNote
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
    text = next((texts[task_id, -1] for task_id in RUN_NOTES if (task_id, -1) in texts), None)
    if words := _not_loaded(connection, dag_run):
        text = HEAD + words
    stored = connection.execute(select(DagRunNote.content).where(DagRunNote.dag_run_id == dag_run.id)).scalar_one_or_none()
    if stored != text and (stored or HEAD).startswith(HEAD):
        connection.execute(delete(DagRunNote).where(DagRunNote.dag_run_id == dag_run.id))
        if text is not None:
            connection.execute(insert(DagRunNote), [{"dag_run_id": dag_run.id, "content": text}])
