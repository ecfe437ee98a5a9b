"""Airflow on a movable clock, in one process: its database, its scheduler's decisions, the real timetable and the real tasks.

Only the executor is left out: tasks run here, one after the other, the tasks of several runs interleaved. `time_machine` moves the clock
of Python, and SQLite's ``CURRENT_TIMESTAMP``, with which the scheduler decides which runs are due, is the same clock.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime, time
from pathlib import Path

import time_machine
from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import ReprocessBehavior, _create_backfill
from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.sdk.definitions.dag import _run_task
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import event, select

from market_data.core.calendar import NEW_YORK
from market_data.lake import clock as lake_clock

ACTIVE = (DagRunState.QUEUED, DagRunState.RUNNING)


class ClockedAirflow:
    """Airflow at a moment that the caller chooses."""

    def __init__(self, dags: Path, start: datetime) -> None:
        self._clock = time_machine.travel(start, tick=True)
        self.moment = self._clock.start()
        lake_clock._folder_time = lambda _: (datetime.now(UTC), datetime.now(UTC))  # a file system keeps the machine's clock
        event.listen(settings.engine, "connect", _same_clock)
        settings.engine.dispose()  # connections from before have the other clock
        manager = DagBundlesManager()
        with create_session() as session:
            manager.sync_bundles_to_db(session=session)
        self._bag = BundleDagBag(dag_folder=str(dags), bundle_path=dags, bundle_name="dags-folder")
        assert self._bag.import_errors == {}
        self._params = {dag_id: copy.deepcopy(dag.params) for dag_id, dag in self._bag.dags.items()}
        self._runner = SchedulerJobRunner(Job(), executors=[])
        self.after_task = lambda run_id, task_id, map_index: None
        self.parse()

    # -- the clock ---------------------------------------------------------------------------------------------------------------

    def go_to(self, day, hour, minute=0):
        """Go to a New York time; the DAG processor reads the DAGs, as it does all the time."""
        moment = datetime.combine(day, time(hour, minute), NEW_YORK).astimezone(UTC)
        assert moment >= datetime.now(UTC)
        self.moment.move_to(moment)
        self.parse()

    def parse(self):
        sync_bag_to_db(self._bag, "dags-folder", None)

    # -- a user ------------------------------------------------------------------------------------------------------------------

    def pause(self, dag_id, paused):
        with create_session() as session:
            session.get(DagModel, dag_id).is_paused = paused

    def trigger(self, dag_id, name, **conf):
        with create_session() as session:
            self._dag(dag_id, session).create_dagrun(
                run_id=name,
                run_after=datetime.now(UTC),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.REST_API,
                state=DagRunState.QUEUED,
                conf=conf,
                session=session,
            )

    def clear(self, dag_id, session_date):
        """``airflow tasks clear`` of one logical date; returns how many runs it reached."""
        with create_session() as session:
            midnight = datetime.combine(session_date, time(), UTC)
            found = session.scalars(
                select(TaskInstance)
                .join(TaskInstance.dag_run)
                .where(TaskInstance.dag_id == dag_id, DagRun.logical_date == midnight)
            ).all()
            clear_task_instances(found, session)
            return len({instance.run_id for instance in found})

    def backfill(self, dag_id, first, last):
        _create_backfill(
            dag_id=dag_id,
            from_date=datetime.combine(first, time(), UTC),
            to_date=datetime.combine(last, time(), UTC),
            max_active_runs=10,
            reverse=False,
            dag_run_conf={},
            reprocess_behavior=ReprocessBehavior.NONE,
            triggering_user_name="somebody",
        )

    # -- the scheduler -----------------------------------------------------------------------------------------------------------

    def run_all(self):
        """Let the scheduler create and start what is due, and run it to its end; return the runs that ended, by id."""
        ended = set()
        while True:
            with create_session() as session:
                created = self._create_and_start(session)
                running = list(session.scalars(select(DagRun).where(DagRun.state == DagRunState.RUNNING).order_by(DagRun.id)))
                for run in running:
                    self._step(run, session)
                    session.commit()
                    if run.state not in ACTIVE:
                        ended.add((run.dag_id, run.run_id))
            if not running and not created:
                return ended

    def runs(self, dag_id):
        """Run id -> state, type and logical date."""
        with create_session() as session:
            found = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.id))
            return {run.run_id: (str(run.state), str(run.run_type), run.logical_date, run.run_after) for run in found}

    def notes(self, dag_id, run_id):
        """Task -> note, of the tasks that left one."""
        with create_session() as session:
            found = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id))
            return {f"{task.task_id} {task.map_index}": task.note for task in found if task.note}

    def _dag(self, dag_id, session):
        return DBDagBag().get_latest_version_of_dag(dag_id, session=session)

    def _create_and_start(self, session):
        count = session.query(DagRun).count()
        with prohibit_commit(session) as guard:
            self._runner._create_dagruns_for_dags(guard, session)
            self._runner._start_queued_dagruns(session)
            guard.commit()
        return session.query(DagRun).count() - count

    def _step(self, run, session):
        """One pass over a run: what is ready runs here."""
        run.dag = self._dag(run.dag_id, session)
        ready, _ = run.update_state(session=session, execute_callbacks=False)
        for instance in ready:
            instance.try_number += 1
            instance.state = TaskInstanceState.SCHEDULED
        session.commit()
        waiting = [found for found in run.get_task_instances(session=session) if found.state == TaskInstanceState.SCHEDULED]
        for instance in sorted(waiting, key=lambda found: found.map_index):
            # The params of a run are written into those of the DAG, which is read again for each task elsewhere.
            dag = self._bag.dags[run.dag_id]
            object.__setattr__(dag, "params", copy.deepcopy(self._params[run.dag_id]))
            _run_task(ti=instance, task=dag.task_dict[instance.task_id])
            self.after_task(run.run_id, instance.task_id, instance.map_index)


def _same_clock(connection, _record):
    connection.create_function("current_timestamp", 0, lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"))
