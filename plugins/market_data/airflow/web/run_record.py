"""Read a run from Airflow's database: its task instances, and what they returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from market_data.airflow.task_notes import KEY
from market_data.airflow.xcoms import value_of
from market_data.views.runs import Run, Task

RETURNED = "return_value"
RESULTS = (("plan", "summary"), ("check", RETURNED), ("publish", RETURNED))
"""Task and key of what a run leaves, beside its batches."""
BATCH = {"id", "label", "calls", "blocks"}
"""Keys of a planned batch that the page needs."""
STEPS = ("plan", "fetch", "check", "publish")


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
        rows = session.execute(left).all()
    values = {(row.task_id, row.map_index, row.key): value_of(row) for row in rows}
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
    receipts = {index: value for (task, index, key), value in values.items() if (task, key) == ("fetch", RETURNED) and value}
    planned = values.get(("plan", -1, RETURNED)) or []
    are_batches = isinstance(planned, list) and all(isinstance(one, Mapping) and one.keys() >= BATCH for one in planned)
    results = {name: values.get((name, -1, key)) or {} for name, key in RESULTS}
    others = [name for name, value in results.items() if not isinstance(value, Mapping)]
    others += [] if are_batches else ["plan"]
    others += ["fetch"] if any(not isinstance(value, Mapping) for value in receipts.values()) else []
    summary, checked, published = (value if isinstance(value, Mapping) else {} for value in results.values())
    return Run(
        dag_id,
        run_id,
        _text(run.state) or "",
        run.start_date,
        run.end_date,
        tasks,
        planned if are_batches else [],
        {index: value for index, value in receipts.items() if isinstance(value, Mapping)},
        summary,
        checked,
        published,
        [_unreadable(name) for name in sorted(set(others), key=STEPS.index)],
    )


def _unreadable(task_id: str) -> str:
    return (
        f"The result of `{task_id}` is not in Airflow's database, so that parts of this page are missing. If [core] xcom_backend keeps it"
        " elsewhere, the api-server needs the same setting and access as the workers"
    )


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
