"""Read a run from Airflow's database: its task instances, and what they returned."""

from __future__ import annotations

from typing import Any

from market_data.airflow.task_notes import KEY
from market_data.views.runs import Run, Task

RETURNED = "return_value"


def read_run(dag_id: str, run_id: str) -> Run | None:
    """Return a run; None if there is no such run."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        run = session.execute(
            select(DagRun.id, DagRun.state, DagRun.start_date, DagRun.end_date).where(
                DagRun.dag_id == dag_id, DagRun.run_id == run_id
            )
        ).one_or_none()
        if run is None:
            return None
        of_run = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        columns = (TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state, TaskInstance.start_date, TaskInstance.end_date)
        instances = session.execute(select(*columns).where(*of_run)).all()
        wanted = XComModel.key.in_((KEY, "summary", RETURNED))
        left = select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
            XComModel.dag_run_id == run.id, wanted
        )
        values = {(row.task_id, row.map_index, row.key): XComModel.deserialize_value(row) for row in session.execute(left)}
    tasks = [
        Task(
            one.task_id,
            one.map_index,
            _text(one.state),
            one.start_date,
            one.end_date,
            str(values.get((one.task_id, one.map_index, KEY), "")),
        )
        for one in instances
    ]
    return Run(
        dag_id,
        run_id,
        _text(run.state) or "",
        run.start_date,
        run.end_date,
        tasks,
        values.get(("plan", -1, RETURNED)) or [],
        {index: value for (task, index, key), value in values.items() if (task, key) == ("fetch", RETURNED) and value},
        values.get(("plan", -1, "summary")) or {},
        values.get(("check", -1, RETURNED)) or {},
        values.get(("publish", -1, RETURNED)) or {},
    )


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
