"""Whether a run is active, from the tables of Airflow's own database."""

import importlib
import pkgutil
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, insert

from market_data.airflow.command import AirflowDeployment
from market_data.airflow.known_runs import is_active
from market_data.core.errors import ConfigError
from market_data.core.run import RunInfo

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAG, NEVER_RUN = "mock_ohlcv_1d", "polygon_ohlcv_1d"
NOT_NULL = {"max_active_tasks": 16, "max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False}


@pytest.fixture
def session():
    import airflow.models
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

    for module in pkgutil.iter_modules(airflow.models.__path__):  # tables refer to each other
        importlib.import_module(f"airflow.models.{module.name}")
    engine = create_engine("sqlite://")
    for table in (DagModel.__table__, DagRun.__table__):
        table.create(engine)
    with Session(engine) as found:
        for dag_id in (DAG, NEVER_RUN):
            found.execute(insert(DagModel.__table__).values(dag_id=dag_id, bundle_name="dags", is_paused=False, **NOT_NULL))
        for number, state in enumerate(("queued", "running", "success", "failed")):
            fields = {"dag_id": DAG, "run_id": state, "state": state, "run_type": "manual", "run_after": NOW, "queued_at": NOW}
            found.execute(insert(DagRun.__table__).values(id=number, log_template_id=1, clear_number=0, **fields))
        yield found


@pytest.mark.parametrize(
    ("dag_id", "run_id", "active"),
    [
        (DAG, "queued", True),
        (DAG, "running", True),
        (DAG, "success", False),
        (DAG, "failed", False),
        (DAG, "deleted", False),
        ("another_airflows", "running", None),
        (NEVER_RUN, "running", None),
    ],
)
def test_a_run_is_active_by_its_state_and_unknown_without_runs_of_its_dag(session, dag_id, run_id, active):
    assert is_active(session, RunInfo(dag_id, run_id, "manual", 0, NOW)) is active


def test_a_run_is_unknown_to_a_shell_whose_database_cannot_be_used(monkeypatch, caplog):
    def broken():
        raise ConfigError("Airflow's database cannot be used (OperationalError)")

    monkeypatch.setattr("market_data.airflow.command._session", broken)
    assert AirflowDeployment().is_running(RunInfo(DAG, "tonight", "manual", 0, NOW)) is None
    assert "whether tonight is active is not known" in caplog.text
