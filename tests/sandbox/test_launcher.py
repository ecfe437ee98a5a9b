import inspect
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from market_data.datasets.registry import DATASETS, dataset
from sandbox.stack.__main__ import EXAMPLE_CONF, SAMPLE_DATES, Notices, default_conf, example_query, parse_conf
from sandbox.stack.components import write_secrets
from sandbox.stack.environment import PORT_VARIABLES, LocalError, Paths, Ports
from sandbox.stack.feed import SandboxFeed, read_feed
from sandbox.stack.follow import start
from sandbox.stack.holds import Holds
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import free_port
from sandbox.stack.scheduler import spare_held_dags
from sandbox.stack.watchdog import MOST_STARTS, Watchdog

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environ(tmp_path):
    ports = {name: str(free_port()) for name in PORT_VARIABLES.values()}
    ours = {**ports, "MARKET_DATA_LOCAL_DIR": str(tmp_path / "local")}
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA_"))}
    return theirs | ours


def stack(environ, reported=None):
    return Stack(Paths.of(PROJECT, environ), environ, (reported if reported is not None else []).append)


@pytest.mark.parametrize("variable", ["AIRFLOW_PORT", "S3_PORT", "SAMPLE_API_PORT"])
def test_a_taken_port_is_one_clear_line_and_nothing_runs(environ, variable):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", int(environ[variable])))
        holder.listen()
        result = command("up", environ)
        assert result.returncode == 1
        assert len(result.stderr.strip().splitlines()) == 1
        assert f"port {environ[variable]} is taken" in result.stderr
        assert variable in result.stderr
    assert stack(environ).registry.records() == {}


def test_a_running_stack_keeps_its_ports(environ):
    first = stack(environ)
    first._remember(made_of=None)
    first.registry.start("s3", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ, PROJECT)
    try:
        without = {name: value for name, value in environ.items() if not name.endswith("_PORT")}
        assert stack(without).ports == Ports.of(environ)
        with pytest.raises(LocalError, match=r"AIRFLOW_PORT is 1024, but a stack is running with .*make down"):
            stack(environ | {"AIRFLOW_PORT": "1024"}).up()
    finally:
        first.down()
    assert first.registry.records() == {}


def test_down_without_anything_up_is_harmless(environ):
    assert command("down", environ).returncode == 0
    assert not Path(environ["MARKET_DATA_LOCAL_DIR"]).exists()


def test_airflow_is_started_again_when_what_it_read_at_its_start_changes(environ):
    before = stack(environ)._made_of()
    assert stack(environ)._made_of() == before
    assert stack(environ | {"AIRFLOW_CONN_POLYGON_DEFAULT": "{}"})._made_of() != before
    assert stack(environ | {"EDITOR": "vi"})._made_of() == before


def test_passwords_and_keys_are_made_once_and_for_this_user_only(environ):
    one = stack(environ)
    write_secrets(one.paths)
    files = {file: file.read_text() for file in (one.paths.passwords, one.paths.airflow_home / "airflow.cfg")}
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert len(json.loads(one.paths.passwords.read_text())["admin"]) >= 16
    write_secrets(one.paths)
    assert all(file.read_text() == text for file, text in files.items())


@pytest.mark.parametrize(("text", "conf"), [("", None), ("{}", {}), ('{"force": true}', {"force": True})])
def test_conf_is_a_json_object(text, conf):
    assert parse_conf(text) == conf


@pytest.mark.parametrize("text", ["{", "[]", "1", "symbols=AAPL"])
def test_conf_that_is_none_is_refused(text):
    with pytest.raises(LocalError, match="CONF is"):
        parse_conf(text)


class FakeAirflow:
    def __init__(self, plan="sample", runs=()):
        self.plan, self.runs, self.calls = plan, list(runs), []

    def connection_extra(self, conn_id):
        return {"plan": self.plan}

    def active_runs(self, dag_id="~"):
        return self.runs

    def trigger(self, dag_id, body):
        self.calls.append(("trigger", dag_id, body["conf"]))
        return body

    def unpause(self, dag_id):
        self.calls.append(("unpause", dag_id))

    def pause(self, dag_id):
        self.calls.append(("pause", dag_id))


def feed(provider, name):
    return SandboxFeed(f"{provider}_{name.replace('-', '_')}", provider, name, f"{provider}_default")


def test_recorded_sessions_are_the_default_of_the_sample_api_only():
    assert default_conf(feed("polygon", "ohlcv-1d"), FakeAirflow(), {}) == EXAMPLE_CONF
    assert default_conf(feed("databento", "trades"), FakeAirflow(), {})["start_date"] == SAMPLE_DATES["trades"][0]
    assert default_conf(feed("polygon", "ohlcv-1d"), FakeAirflow("basic"), {}) == {}
    assert default_conf(feed("polygon", "ohlcv-1d"), FakeAirflow(), {"AIRFLOW_CONN_POLYGON_DEFAULT": "{}"}) == {}
    assert default_conf(feed("ib", "ohlcv-1d"), FakeAirflow(), {}) == {}
    assert default_conf(None, FakeAirflow(), {}) == {}


def test_conf_is_checked_before_anything_starts(environ):
    result = command("run", environ | {"CONF": '{"symbols": ["not a symbol"], "lookback_days": -1}'})
    assert result.returncode == 1
    assert "CONF is not valid for polygon_ohlcv_1d" in result.stderr
    assert "symbols" in result.stderr
    assert "lookback_days" in result.stderr
    assert not Path(environ["MARKET_DATA_LOCAL_DIR"]).exists()


def test_a_feed_is_found_by_its_dag(environ):
    paths = Paths.of(PROJECT, environ)
    assert read_feed("fmp_fundamentals", {}, paths, environ) == feed("fmp", "fundamentals")
    assert read_feed("market_data_maintenance", {"anything": 1}, paths, environ) is None


@pytest.mark.parametrize("name", DATASETS)
def test_the_example_query_runs_for_every_dataset(name, tmp_path):
    from market_data.warehouse import WarehouseConnection, open_warehouse

    report = {"date_range": {"from": "2013-01-02", "to": "2013-01-15"}}
    statement = example_query(feed("polygon", name), report, ["AAPL", "IBM"])
    assert (statement is None) == (dataset(name).table is None)
    if statement:
        with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(tmp_path / "w.duckdb")})) as warehouse:
            warehouse.migrate()
            assert warehouse.query(statement).num_rows == 0


def test_the_example_query_asks_for_recorded_rows_of_the_run():
    report = {"date_range": {"from": "2013-01-02", "to": "2013-01-15"}}
    statement = example_query(feed("polygon", "ohlcv-1d"), report, ["AAPL"])
    assert "symbol IN ('AAPL')" in statement
    assert "bar_time >= TIMESTAMP '2013-01-02" in statement
    assert "timeframe = '1d'" in statement


def test_every_dataset_has_sample_dates():
    assert set(SAMPLE_DATES) == set(DATASETS)


def test_a_paused_dag_is_held_before_it_is_unpaused_and_paused_again(tmp_path):
    airflow, holds = FakeAirflow(), Holds(tmp_path)
    airflow.unpause = lambda dag_id: airflow.calls.append(("unpause", holds.dag_ids()))
    start(airflow, holds, {"dag_id": "d", "is_paused": True}, {"force": True})
    assert airflow.calls == [("trigger", "d", {"force": True}), ("unpause", {"d"})]
    holds.release("d", airflow)
    assert airflow.calls[2:] == [("pause", "d")]
    assert holds.dag_ids() == set()


def test_an_unpaused_dag_stays_unpaused(tmp_path):
    airflow, holds = FakeAirflow(), Holds(tmp_path)
    start(airflow, holds, {"dag_id": "d", "is_paused": False}, {})
    holds.release("d", airflow)
    assert airflow.calls == [("trigger", "d", {})]


def test_the_last_of_two_commands_pauses_the_dag(tmp_path):
    airflow, holds = FakeAirflow(), Holds(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1").touch()  # the other command
    start(airflow, holds, {"dag_id": "d", "is_paused": False}, {})
    holds.release("d", airflow)
    assert ("pause", "d") not in airflow.calls
    holds.release("d", airflow, 1)
    assert airflow.calls[-1] == ("pause", "d")


def test_the_hold_of_a_killed_command_ends_with_its_run(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holds = Holds(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / str(gone.pid)).touch()
    assert holds.release_abandoned(FakeAirflow(runs=[{"dag_id": "d"}])) == []
    airflow = FakeAirflow()
    assert holds.release_abandoned(airflow) == ["d"]
    assert airflow.calls == [("pause", "d")]
    assert holds.dag_ids() == set()


def test_the_scheduler_creates_no_run_of_a_held_dag(tmp_path):
    created = []

    class Runner:
        def _create_dagruns_for_dags(self, guard, session):
            holds.release("held", FakeAirflow())  # between the scheduler's look and its writing
            self._create_dag_runs([SimpleNamespace(dag_id="held"), SimpleNamespace(dag_id="free")], session)

        def _create_dag_runs(self, dag_models, session):
            created.extend(model.dag_id for model in dag_models)

    holds = Holds(tmp_path)
    holds.add("held")
    spare_held_dags(Runner, holds)
    Runner()._create_dagruns_for_dags(None, None)
    assert created == ["free"]
    Runner()._create_dagruns_for_dags(None, None)
    assert created == ["free", "held", "free"]


def test_this_airflow_creates_scheduled_runs_where_the_sandbox_expects_it():
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    assert "self._create_dag_runs(" in inspect.getsource(SchedulerJobRunner._create_dagruns_for_dags)


@pytest.mark.parametrize("lake", ["s3://market-data", "s3://elsewhere", "file:///tmp/lake"])
def test_a_lake_in_a_folder_needs_no_s3_server(environ, lake):
    assert ("s3" in stack(environ | {"MARKET_DATA_LAKE": lake}).components) == lake.startswith("s3://")
    assert "s3" not in stack(environ | {"AIRFLOW_CONN_AWS_DEFAULT": "{}"}).components


class FakeStack:
    def __init__(self):
        self.gone, self.restarted = [], []
        self.registry = SimpleNamespace(log=lambda name: f"{name}.log")

    def dead(self):
        return self.gone

    def restart(self, name):
        self.restarted.append(name)
        return "killed"


def test_a_dead_component_is_started_again_and_reported():
    one = FakeStack()
    watchdog = Watchdog(one)
    assert watchdog.look() == []
    one.gone = ["s3"]
    (line,) = watchdog.look()
    assert "s3 ended and was started again; its last output: killed" in line
    for _ in range(10):
        watchdog.look()
    assert one.restarted == ["s3"] * MOST_STARTS


def test_a_component_that_keeps_dying_is_reported_once():
    one = FakeStack()
    one.gone = ["s3"]
    watchdog = Watchdog(one)
    lines = [line for _ in range(MOST_STARTS + 4) for line in watchdog.look()]
    assert len(lines) == MOST_STARTS + 1
    assert "stays down" in lines[-1]


def test_notices_are_the_new_lines_of_a_log(tmp_path):
    log = tmp_path / "watchdog.log"
    log.write_text("old\n")
    notices = Notices(log)
    assert notices() == []
    log.write_text("old\nnew\n")
    assert notices() == ["new"]
    assert notices() == []


def command(name, environ):
    argv = [sys.executable, "-m", "sandbox.stack", name]
    return subprocess.run(argv, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False, timeout=300)
