import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_data.datasets.registry import DATASETS
from sandbox.stack.__main__ import EXAMPLE_CONF, SAMPLE_DATES, default_conf, parse_conf
from sandbox.stack.environment import PORT_VARIABLES, LocalError, Paths, Ports
from sandbox.stack.follow import start
from sandbox.stack.launcher import Stack

PROJECT = Path(__file__).resolve().parents[2]


def free_ports():
    servers = [socket.socket() for _ in PORT_VARIABLES]
    for server in servers:
        server.bind(("127.0.0.1", 0))
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@pytest.fixture
def environ(tmp_path):
    ports = dict(zip(PORT_VARIABLES.values(), map(str, free_ports()), strict=True))
    ours = {**ports, "MARKET_DATA_LOCAL_DIR": str(tmp_path / "local")}
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA_"))}
    return theirs | ours


def stack(environ, said=None):
    return Stack(Paths.of(PROJECT, environ), environ, (said if said is not None else []).append)


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
    one._write_secrets()
    files = {file: file.read_text() for file in (one.paths.passwords, one.paths.airflow_home / "airflow.cfg")}
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert len(json.loads(one.paths.passwords.read_text())["admin"]) >= 16
    one._write_secrets()
    assert all(file.read_text() == text for file, text in files.items())


@pytest.mark.parametrize(("text", "conf"), [("", None), ("{}", {}), ('{"force": true}', {"force": True})])
def test_conf_is_a_json_object(text, conf):
    assert parse_conf(text) == conf


@pytest.mark.parametrize("text", ["{", "[]", "1", "symbols=AAPL"])
def test_conf_that_is_none_is_refused(text):
    with pytest.raises(LocalError, match="CONF is"):
        parse_conf(text)


class FakeAirflow:
    def __init__(self, plan="sample"):
        self.plan, self.asked = plan, []

    def connection_extra(self, conn_id):
        return {"plan": self.plan}

    def trigger(self, dag_id, body):
        self.asked.append(("trigger", body))
        return body

    def unpause(self, dag_id):
        self.asked.append(("unpause", dag_id))


def test_recorded_sessions_are_the_default_of_the_sample_api_only():
    assert default_conf("polygon_ohlcv_1d", FakeAirflow(), {}) == EXAMPLE_CONF
    assert default_conf("databento_trades", FakeAirflow(), {})["start_date"] == SAMPLE_DATES["trades"][0]
    assert default_conf("polygon_ohlcv_1d", FakeAirflow("basic"), {}) == {}
    assert default_conf("polygon_ohlcv_1d", FakeAirflow(), {"AIRFLOW_CONN_POLYGON_DEFAULT": "{}"}) == {}
    assert default_conf("ib_ohlcv_1d", FakeAirflow(), {}) == {}
    assert default_conf("nothing", FakeAirflow(), {}) == {}


def test_every_dataset_has_sample_dates():
    assert set(SAMPLE_DATES) == set(DATASETS)


def test_our_run_is_there_before_the_scheduled_one_and_sorts_before_it():
    due = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)
    airflow = FakeAirflow()
    run_id = start(airflow, {"dag_id": "d", "is_paused": True, "next_dagrun_run_after": due.isoformat()}, {"force": True})
    (first, body), second = airflow.asked
    assert (first, second) == ("trigger", ("unpause", "d"))
    assert datetime.fromisoformat(body["run_after"]) < due
    assert (body["dag_run_id"], body["conf"], body["logical_date"]) == (run_id, {"force": True}, None)


@pytest.mark.parametrize("paused", [True, False])
def test_our_run_starts_now_where_no_scheduled_one_is_due(paused):
    airflow = FakeAirflow()
    later = datetime.now(UTC) + timedelta(hours=1)
    start(airflow, {"dag_id": "d", "is_paused": paused, "next_dagrun_run_after": later.isoformat() if paused else None}, {})
    assert "run_after" not in airflow.asked[0][1]
    assert len(airflow.asked) == 1 + paused


def command(name, environ):
    argv = [sys.executable, "-m", "sandbox.stack", name]
    return subprocess.run(argv, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False, timeout=300)
