"""Runs in Airflow's database, for timetable, pages and commands. Tasks have no access to it."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.calendar import Calendar
from market_data.core.run import RunInfo

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


UNFINISHED = ("queued", "running")
"""States of an active run: it loads its own rows from staging."""


def is_active(session: Session, run: RunInfo) -> bool | None:
    """Return whether a run is active; None if the database has no run of its DAG.

    If it lacks one of a DAG with other runs, that one was deleted. A laptop with the same DAGs has no runs of them: they are another
    Airflow's.
    """
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    state = session.scalar(select(DagRun.state).where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id))
    if state is not None:
        return state in UNFINISHED
    return None if session.scalar(select(DagRun.id).where(DagRun.dag_id == run.dag_id).limit(1)) is None else False


def was_scheduled(dag_run: DagRun) -> bool:
    """Return true for a scheduled run, also one that a Backfill has taken over, which changes its type."""
    return dag_run.run_type == "scheduled" or dag_run.run_id.startswith("scheduled__")


def last_in_a_row(dag_run: DagRun, calendar: Calendar) -> date | None:
    """Return the last session of the DAG's scheduled runs, or of the runs that follow it without a gap.

    Without a scheduled run, return the session of ``dag_run`` if the DAG waits for it as its first one, else None.
    """
    from airflow.models.dag import DagModel
    from sqlalchemy import func, or_, select
    from sqlalchemy.orm import object_session

    session, kind, logical_date = object_session(dag_run), type(dag_run), dag_run.logical_date
    own = logical_date.date() if logical_date else None
    if session is None:
        return own
    scheduled = or_(kind.run_type == "scheduled", kind.run_id.startswith("scheduled__"))
    last = session.scalar(select(func.max(kind.logical_date)).where(kind.dag_id == dag_run.dag_id, scheduled))
    if last is None:
        awaited = session.scalar(select(DagModel.next_dagrun).where(DagModel.dag_id == dag_run.dag_id))
        return own if awaited is not None and awaited.date() == own else None
    later = session.scalars(select(kind.logical_date).where(kind.dag_id == dag_run.dag_id, kind.logical_date > last))
    days, day = {moment.date() for moment in later}, last.date()
    while (following := calendar.next_session(day)) in days:
        day = following
    return day


def awaited_session(dag_id: str) -> date | None:
    """Return the session of the next run that Airflow has stored for an unpaused DAG.

    None if the DAG is paused or new, or where there is no database.
    """
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    try:
        with create_session(scoped=False) as session:  # the scoped one belongs to the caller, who must commit it
            found = session.execute(select(DagModel.is_paused, DagModel.next_dagrun).where(DagModel.dag_id == dag_id)).one_or_none()
    except Exception as error:  # noqa: BLE001 - tasks and commands without a database
        log.debug("the next run of %s is unknown: %s", dag_id, error)
        return None
    if found is None or found.is_paused or found.next_dagrun is None:
        return None
    return found.next_dagrun.date()
