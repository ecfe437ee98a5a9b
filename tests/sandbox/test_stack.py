"""The local stack for real, with a DAG that needs nothing: minutes, so not in `make test`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.sandbox.test_launcher import command, environ, stack

__all__ = ["environ"]

PROJECT = Path(__file__).resolve().parents[2]
TINY = """
from airflow.sdk import Param, dag, get_current_context, task


@dag(dag_id="tiny", schedule="@daily", catchup=False, max_active_runs=1, params={"fail": Param(False), "seconds": Param(0)})
def tiny():
    @task
    def plan():
        params = get_current_context()["params"]
        if params["fail"]:
            raise ValueError("symbols is 'aapl bad'; letters, digits, dot and dash are allowed")
        return [{"id": "b000", "blocks": [{"symbols": ["A", "B"], "intervals": []}], "seconds": params["seconds"]}]

    @task(pool="polygon_api")
    def fetch(batch):
        import time

        time.sleep(batch["seconds"])
        return {"batch_id": "b000", "calls": 1, "rows_landed": 2, "rows_quarantined": 0, "failed": {}, "sources": []}

    @task
    def publish(receipts):
        return {}

    publish(fetch.expand(batch=plan()))


tiny()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def tiny(environ, tmp_path):
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "tiny.py").write_text(TINY)
    chosen = environ | {"DAG": "tiny", "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    yield chosen
    command("down", chosen)


def processes(environ):
    """Every living process of the stack, and everything that was started from it."""
    found = {member.pid: member for record in stack(environ).registry.records().values() for member in record.members()}
    return list(found.values())


def living(found):
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def listening(found):
    return {
        connection.laddr.ip
        for process in found
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_up_run_red_green_and_down(tiny):
    up = command("up", tiny)
    assert up.returncode == 0, up.stderr
    assert f"http://127.0.0.1:{tiny['AIRFLOW_PORT']}" in up.stdout
    assert set(stack(tiny).airflow.health().values()) == {"healthy"}
    password = stack(tiny).airflow.password
    assert password in up.stdout
    assert stack(tiny).paths.passwords.stat().st_mode & 0o077 == 0
    started = processes(tiny)
    assert listening(started) == {"127.0.0.1"}

    green = command("run", tiny | {"CONF": "{}"})
    assert green.returncode == 0, green.stdout + green.stderr
    assert "1 of 1 done" in green.stdout
    assert "2 rows" in green.stdout

    # The DAG is as paused as it was, and no scheduled run started behind the run.
    time.sleep(5)
    airflow = stack(tiny).airflow
    assert airflow.dag("tiny")["is_paused"]
    assert len(airflow._all("/dags/tiny/dagRuns", "dag_runs")) == 1

    red = command("run", tiny | {"CONF": '{"fail": true}'})
    assert red.returncode == 1
    assert "plan: symbols is 'aapl bad'; letters, digits, dot and dash are allowed" in red.stdout
    assert {record.pid for record in stack(tiny).registry.records().values()} <= {process.pid for process in started}

    started = processes(tiny)
    assert command("down", tiny).returncode == 0
    assert living(started) == []
    assert stack(tiny).registry.records() == {}


def test_an_interrupt_leaves_a_stack_that_was_up_and_a_dead_component_comes_back(tiny):
    assert command("up", tiny).returncode == 0
    ours = stack(tiny)
    server = ours.registry.records()["s3"].leader()
    server.kill()
    server.wait(10)
    until = time.monotonic() + 10
    while "s3" not in ours._alive():
        assert time.monotonic() < until, ours.registry.log("watchdog").read_text()
        time.sleep(0.2)
    started = set(ours.registry.records())

    argv = [sys.executable, "-m", "sandbox.stack", "run"]
    env = tiny | {"CONF": '{"seconds": 300}'}
    run = subprocess.Popen(argv, cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert any("fetching 0/1" in words for words in iter(run.stdout.readline, ""))
    os.kill(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=100)
    assert run.returncode == 130
    assert "The stack is still up" in output
    assert set(ours.registry.records()) == started
    assert ours.airflow.active_runs() == []
    assert ours.airflow.dag("tiny")["is_paused"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting", "fetching"])
def test_an_interrupt_leaves_nothing(tiny, number, moment):
    argv = [sys.executable, "-m", "sandbox.stack", "run"]
    run = subprocess.Popen(
        argv, cwd=PROJECT, env=tiny | {"CONF": '{"seconds": 300}'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if moment == "starting":
        while len(stack(tiny).registry.records()) < 3:
            time.sleep(0.05)
    else:
        assert any("fetching 0/1" in words for words in iter(run.stdout.readline, ""))
        time.sleep(2)
    started = processes(tiny)
    assert started
    os.kill(run.pid, number)
    run.communicate(timeout=400)
    assert run.returncode == 130
    assert living(started) == []
    assert stack(tiny).registry.records() == {}
