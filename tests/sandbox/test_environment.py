import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.stack.environment import PORT_VARIABLES, PRELOAD, LocalError, Paths, Ports, process_env


@pytest.fixture
def paths(tmp_path):
    return Paths.of(tmp_path, {})


def test_everything_is_below_the_local_folder_whatever_the_users_shell_says(paths):
    theirs = {
        "AIRFLOW_HOME": "/their/airflow",
        "AIRFLOW_CONFIG": "/their/airflow.cfg",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production/airflow",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__API__HOST": "0.0.0.0",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    }
    env = process_env(theirs, paths, Ports())
    assert env["AIRFLOW_HOME"] == str(paths.local / "airflow")
    assert env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith(f"sqlite:///{paths.local}/airflow/airflow.db")
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert "AIRFLOW_CONFIG" not in env


def test_the_users_connections_and_tuning_go_through(paths):
    theirs = {
        "AIRFLOW_CONN_POLYGON_DEFAULT": "{}",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "MARKET_DATA_LAKE": "file:///lake",
        "PYTHONPATH": "/their/code",
        "NO_PROXY": "example.com",
    }
    env = process_env(theirs, paths, Ports())
    for name in ("AIRFLOW_CONN_POLYGON_DEFAULT", "AIRFLOW__CORE__PARALLELISM", "MARKET_DATA_LAKE"):
        assert env[name] == theirs[name]
    assert env["PYTHONPATH"].split(":") == [str(paths.project), str(paths.project / "plugins"), "/their/code"]
    assert env["NO_PROXY"].split(",") == ["example.com", "127.0.0.1", "localhost"]


def test_byte_code_is_kept(paths):
    assert "PYTHONDONTWRITEBYTECODE" not in process_env({"PYTHONDONTWRITEBYTECODE": "1"}, paths, Ports())


def test_processes_find_airflow_at_the_chosen_port(paths):
    env = process_env({}, paths, Ports(airflow=9080))
    assert env["AIRFLOW__API__PORT"] == "9080"
    assert env["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:9080"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:9080/execution/"


def test_the_environment_that_is_given_stays_as_it_was(paths):
    theirs = {"AIRFLOW_HOME": "/theirs"}
    process_env(theirs, paths, Ports())
    assert theirs == {"AIRFLOW_HOME": "/theirs"}


def test_ports_come_from_the_environment():
    assert Ports.of({}) == Ports()
    assert Ports.of({"AIRFLOW_PORT": "1080", "S3_PORT": "1081", "SAMPLE_API_PORT": ""}) == replace(Ports(), airflow=1080, s3=1081)


@pytest.mark.parametrize("variable", PORT_VARIABLES.values())
@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5", "²"])
def test_a_port_that_is_none_is_refused(variable, value):
    with pytest.raises(LocalError, match=f"{variable} is '{value}'.*1 to 65535"):
        Ports.of({variable: value})


def test_a_port_can_be_had_once():
    with pytest.raises(LocalError, match="AIRFLOW_PORT=8580, S3_PORT=8580"):
        Ports.of({"AIRFLOW_PORT": "8580"})


def test_a_second_stack_has_its_own_folder(tmp_path):
    assert Paths.of(tmp_path, {}).local == tmp_path / ".local"
    assert Paths.of(tmp_path, {"MARKET_DATA_LOCAL_DIR": str(tmp_path / "two")}).local == tmp_path / "two"


def test_a_task_imports_nothing_of_ours_that_could_be_preloaded():
    script = f"""
import importlib, importlib.util, sys
for name in {[name for name in PRELOAD if name.startswith("market_data.")]}:
    importlib.import_module(name)
before = set(sys.modules)
sys.path.insert(0, "dags")
import ingest
from market_data.pipeline import check_run, fetch_batch, load_run, plan_run, publish_run
import market_data.providers.polygon.hook, market_data.lake.writer
print("not preloaded:", *sorted(name for name in set(sys.modules) - before if name.startswith("market_data")))
print("unknown:", *(name for name in {PRELOAD} if importlib.util.find_spec(name) is None))  # Python ignores what it cannot preload
"""
    project = Path(__file__).parents[2]
    environ = {
        **os.environ,
        "PYTHONPATH": f"{project / 'plugins'}:{project}",
        "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "polygon_ohlcv_1d",
    }
    done = subprocess.run([sys.executable, "-c", script], env=environ, cwd=project, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["not preloaded:", "unknown:"], done.stderr
