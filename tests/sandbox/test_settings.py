import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from sandbox.stack.environment import LocalError, Paths, Ports
from sandbox.stack.settings import apply, end_runs, is_stub, load, local_connections

PROJECT = Path(__file__).resolve().parents[2]
OURS = {"polygon_default", "aws_default", "warehouse_default"}


@pytest.fixture
def session(tmp_path):
    from airflow.models.connection import Connection
    from airflow.models.pool import Pool
    from airflow.models.variable import Variable

    engine = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    tables = [model.__table__ for model in (Connection, Pool, Variable)]
    Connection.metadata.create_all(engine, tables=tables)
    with Session(engine) as made:
        yield made


@pytest.fixture
def settings():
    return load(PROJECT / "airflow_settings.yaml")


def local(ports=None):
    return local_connections(Paths(PROJECT, PROJECT / ".local"), ports or Ports())


def connection(session, conn_id):
    from airflow.models.connection import Connection

    return session.scalar(select(Connection).where(Connection.conn_id == conn_id))


def slots(session, name):
    from airflow.models.pool import Pool

    return session.scalar(select(Pool.slots).where(Pool.pool == name))


def test_the_file_has_every_connection_and_pool_and_no_secret(settings):
    connections = {item["conn_id"]: item for item in settings["connections"]}
    providers = {"polygon", "alpaca", "fmp", "databento", "ib", "mock"}
    assert set(connections) == {f"{name}_default" for name in (*providers, "aws", "warehouse")}
    assert all(is_stub(item) for item in connections.values())
    pools = {item["pool_name"]: item["pool_slot"] for item in settings["pools"]}
    assert set(pools) == {*(f"{name}_api" for name in providers), "warehouse"}
    assert pools["polygon_api"] == pools["warehouse"] == 1


def test_first_time_everything_is_made_and_then_nothing(session, settings):
    first = apply(session, settings, local())
    assert len(first) == len(settings["connections"]) + len(settings["pools"]) + len(settings["variables"])
    assert apply(session, settings, local()) == []


def test_the_local_connections_point_at_the_local_servers(session, settings):
    apply(session, settings, local(Ports(1, 2, 3, 4)))
    polygon, aws, warehouse = (connection(session, conn_id) for conn_id in ("polygon_default", "aws_default", "warehouse_default"))
    assert (polygon.conn_type, polygon.host, polygon.extra_dejson) == (
        "market_data_polygon",
        "http://127.0.0.1:3",
        {"plan": "sample"},
    )
    assert polygon.password
    assert aws.extra_dejson["endpoint_url"] == "http://127.0.0.1:2"
    assert (warehouse.conn_type, warehouse.extra_dejson) == ("duckdb", {"path": str(PROJECT / ".local" / "warehouse.duckdb")})
    alpaca, ib = connection(session, "alpaca_default"), connection(session, "ib_default")
    assert (alpaca.host, alpaca.login) == ("http://127.0.0.1:3/alpaca", "sample")
    assert (ib.conn_type, ib.host, ib.port) == ("market_data_ib", "127.0.0.1", 4)


def test_untouched_local_connections_follow_the_stack_to_other_ports(session, settings):
    apply(session, settings, local(Ports(1, 2, 3, 4)))
    assert set(apply(session, settings, local(Ports(1, 5, 6, 7)))) == {
        f"connection {name}_default" for name in ("polygon", "alpaca", "fmp", "databento", "ib", "aws")
    }
    assert connection(session, "polygon_default").host == "http://127.0.0.1:6"


def test_a_connection_that_the_user_edited_is_theirs(session, settings):
    apply(session, settings, local(Ports(1, 2, 3, 4)))
    polygon = connection(session, "polygon_default")
    polygon.password = "a real key"
    session.flush()
    assert "connection polygon_default" not in apply(session, settings, local(Ports(1, 2, 6, 4)))
    assert connection(session, "polygon_default").password == "a real key"
    assert connection(session, "polygon_default").host == "http://127.0.0.1:3"


def test_a_pool_that_the_user_resized_stays_so(session, settings):
    from airflow.models.pool import Pool

    apply(session, settings, local())
    session.scalar(select(Pool).where(Pool.pool == "polygon_api")).slots = 8
    session.flush()
    apply(session, settings, local())
    assert slots(session, "polygon_api") == 8


def test_a_key_in_the_file_goes_before_the_sample_api(session):
    item = {"conn_id": "polygon_default", "conn_type": "http", "conn_host": "https://api.massive.com", "conn_password": "key"}
    apply(session, {"connections": [item], "pools": [], "variables": []}, local())
    assert connection(session, "polygon_default").host == "https://api.massive.com"
    assert connection(session, "polygon_default").password == "key"


def test_a_connection_may_be_a_uri(session):
    item = {"conn_id": "warehouse_default", "conn_uri": "postgres://me:secret@db:5432/market"}
    apply(session, {"connections": [item], "pools": [], "variables": []}, local())
    made = connection(session, "warehouse_default")
    assert (made.conn_type, made.host, made.port, made.schema, made.password) == ("postgres", "db", 5432, "market", "secret")


def test_variables_are_made_once(session):
    settings = {"connections": [], "pools": [], "variables": [{"variable_name": "v", "variable_value": {"a": 1}}]}
    assert apply(session, settings, {}) == ["variable v"]
    from airflow.models.variable import Variable

    made = session.scalar(select(Variable).where(Variable.key == "v"))
    assert json.loads(made.val) == {"a": 1}
    made.set_val("changed")
    session.flush()
    assert apply(session, settings, {}) == []
    assert session.scalar(select(Variable).where(Variable.key == "v")).val == "changed"


def test_runs_of_a_lost_lake_are_ended_with_their_tasks(session):
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    tasks = {
        "plan": None,
        "fetch": "queued",
        "check": "running",
        "load": "up_for_retry",
        "publish": "success",
        "verdict": "skipped",
    }
    for model in (DagRun, TaskInstance):  # columns without constraints: what other columns hold does not matter here
        names = ", ".join(column.name for column in model.__table__.columns)
        session.execute(text(f"create table {model.__tablename__} ({names})"))
    for state in ("queued", "running", "success"):
        session.execute(text(f"insert into dag_run (dag_id, run_id, state) values ('d', '{state}', '{state}')"))
        for task, task_state in tasks.items():
            insert = text("insert into task_instance (dag_id, run_id, task_id, state) values ('d', :run, :task, :state)")
            session.execute(insert, {"run": state, "task": task, "state": task_state})

    assert end_runs(session) == 2
    runs = dict(session.execute(select(DagRun.run_id, DagRun.state)).all())
    assert runs == {"queued": "failed", "running": "failed", "success": "success"}
    ended = {"plan": "failed", "fetch": "failed", "check": "failed", "load": "failed", "publish": "success", "verdict": "skipped"}
    for run, states in (("queued", ended), ("running", ended), ("success", tasks)):
        found = select(TaskInstance.task_id, TaskInstance.state).where(TaskInstance.run_id == run)
        assert dict(session.execute(found).all()) == states
    assert end_runs(session) == 0


def test_astros_empty_placeholders_are_left_out(tmp_path):
    file = tmp_path / "airflow_settings.yaml"
    file.write_text("airflow:\n  connections:\n    - conn_id:\n      conn_type:\n  pools:\n  variables:\n    - variable_name:\n")
    assert load(file) == {"connections": [], "pools": [], "variables": []}


@pytest.mark.parametrize("content", ["airflow: [", "airflow: text", "- a list"])
def test_a_broken_file_is_named(tmp_path, content):
    file = tmp_path / "airflow_settings.yaml"
    file.write_text(content)
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml cannot be read"):
        load(file)


def test_no_secret_of_the_stack_occurs_in_its_paths_and_addresses():
    """Airflow masks a connection's password wherever it occurs, also in the form of another connection."""
    values = [json.dumps({**item, "conn_password": ""}) for item in local().values()]
    secrets = {item["conn_password"] for item in local().values() if "conn_password" in item}
    assert [secret for secret in secrets if any(secret in value for value in values)] == []


def test_each_connection_has_a_port_so_that_it_can_be_tested(session, settings):
    """Airflow 3.3.2 refuses to test a stored connection without one: its form sends 0."""
    apply(session, settings, local())
    assert [item["conn_id"] for item in settings["connections"] if connection(session, item["conn_id"]).port is None] == []
