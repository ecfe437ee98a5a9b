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

    Uses the scheduler's session and its transaction; whatever goes wrong is logged and undone, and the run is as it was.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import or_, select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    try:
        with session.begin_nested():
            left = select(XComModel).where(XComModel.dag_run_id == dag_run.id, XComModel.key == KEY)
            texts = {(x.task_id, x.map_index): str(XComModel.deserialize_value(x)) for x in session.scalars(left)}
            concerned = or_(
                TaskInstance.task_id.in_({task_id for task_id, _ in texts}),
                TaskInstance.task_instance_note.has(),
            )
            of_run = (TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id)
            for ti in session.scalars(select(TaskInstance).where(*of_run, concerned)):
                _note(ti, texts.get((ti.task_id, ti.map_index)))
    except Exception:
        log.exception("the notes of %s could not be written", dag_run.run_id)


def _note(ti: Any, text: str | None) -> None:
    standing = ti.note
    if text is None and (standing or "").startswith(HEAD):
        ti.task_instance_note = None
    elif text is not None and (standing is None or standing.startswith(HEAD)) and standing != HEAD + text:
        ti.note = HEAD + text
