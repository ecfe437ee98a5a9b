"""Create scheduled runs of past sessions as the scheduler does: ``python -m tests.e2e.scheduled_runs DAG CLEARED SESSION...``.

Unpausing a DAG never makes one. This needs the environment of the stack. CLEARED is how often the runs were cleared: 1 makes runs that
request their session again.
"""

import sys
from datetime import date

from airflow.models.dagbag import DBDagBag
from airflow.timetables.base import DataInterval
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType


def create(dag_id, cleared, sessions):
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        for day in sessions:
            interval: DataInterval = dag.timetable._interval(day)
            run_id = dag.timetable.generate_run_id(
                run_type=DagRunType.SCHEDULED, run_after=interval.end, data_interval=interval, partition_key=None
            )
            run = dag.create_dagrun(
                run_id=run_id,
                logical_date=interval.start,
                data_interval=interval,
                run_after=interval.end,
                run_type=DagRunType.SCHEDULED,
                triggered_by=DagRunTriggeredByType.TIMETABLE,
                state=DagRunState.QUEUED,
                session=session,
            )
            run.clear_number = cleared
            sys.stdout.write(f"{run_id}\n")


if __name__ == "__main__":
    create(sys.argv[1], int(sys.argv[2]), [date.fromisoformat(day) for day in sys.argv[3:]])
