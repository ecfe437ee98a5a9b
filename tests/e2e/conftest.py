"""One real stack for all tests of this folder: the launcher's own, in a folder and on ports of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime
from datetime import time as clock_time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import requests

from market_data.core import calendar
from sandbox.stack.environment import BUCKET, Paths, process_env
from sandbox.stack.launcher import Stack
from sandbox.stack.processes import free_port

PROJECT = Path(__file__).parents[2]
DAG = "polygon_ohlcv_1d"
LIMITS = [{"calls": 20, "seconds": 5}]


class World:
    """The running stack, and what a test asks of it."""

    def __init__(self, stack, environ):
        self.stack, self.environ = stack, environ
        self.airflow = stack.airflow
        self.sample = stack.ports.sample_api_url

    # -- the provider ------------------------------------------------------------------------------------------------------------

    def control(self, method, path, **body):
        answer = requests.request(method, f"{self.sample}/_control/{path}", json=body or None, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def calls(self):
        return self.control("GET", "calls")["calls"]

    def forget_calls(self):
        self.control("DELETE", "calls")

    # -- the lake ------------------------------------------------------------------------------------------------------------------

    @property
    def s3(self):
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.stack.ports.s3_url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )

    def versions(self, prefix=""):
        """key -> how many versions it ever had: every successful PUT makes one."""
        counts = {}
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=prefix):
            for version in page.get("Versions", []):
                counts[version["Key"]] = counts.get(version["Key"], 0) + 1
        return counts

    def puts(self, prefix=""):
        """PUT requests that reached the S3 server, answered well or not."""
        return self.stack.registry.log("s3").read_text().count(f'"PUT /{BUCKET}/{prefix}')

    def read(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def has_flag(self, run):
        """Whether the flag of a complete run stands beside its last report."""
        flag = self.airflow.result(run["dag_id"], run["dag_run_id"], "publish")["report"].removesuffix("json") + "flag"
        return self.s3.list_objects_v2(Bucket=BUCKET, Prefix=flag)["KeyCount"] == 1

    def report(self, run):
        return json.loads(self.read(self.airflow.result(run["dag_id"], run["dag_run_id"], "publish")["report"]))

    # -- the warehouse -------------------------------------------------------------------------------------------------------------

    def query(self, sql):
        from market_data.warehouse import WarehouseConnection, open_warehouse

        with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(self.stack.paths.warehouse)})) as warehouse:
            return warehouse.query(sql).to_pylist()

    def count(self, where):
        """Bars of `DAG` in the current table: other DAGs of the stack have the same dates."""
        own = "provider = 'polygon' AND timeframe = '1d'"
        return self.query(f"SELECT COUNT(*) AS n FROM silver_prices WHERE {own} AND {where}")[0]["n"]

    # -- Airflow -------------------------------------------------------------------------------------------------------------------

    def trigger(self, logical_date=None, dag_id=DAG, **conf):
        body = {"logical_date": logical_date, "conf": {"max_retries": 0, "retry_delay_seconds": 0, **conf}}
        return self.airflow.trigger(dag_id, body)

    def wait(self, run, seconds=600):
        until = time.time() + seconds
        while (found := self.airflow.run(run["dag_id"], run["dag_run_id"]))["state"] not in ("success", "failed"):
            assert time.time() < until, f"{[s for s in self.states(run).items() if s[1] != 'success']}\n{self.log('scheduler')}"
            time.sleep(0.5)
        return found

    def log(self, name):
        return self.stack.registry.log(name).read_text()[-6000:]

    def run(self, **conf):
        return self.wait(self.trigger(**conf))

    def states(self, run):
        """(task id, map index) -> state"""
        return {(t["task_id"], t["map_index"]): t["state"] for t in self.airflow.task_instances(run["dag_id"], run["dag_run_id"])}

    def trouble(self, run):
        """What tasks that did not end well say last."""
        said = [str(self.states(run))]
        for task in self.airflow.task_instances(run["dag_id"], run["dag_run_id"]):
            if task["state"] in ("failed", "up_for_retry"):
                where = f"{task['task_id']}/logs/{task['try_number']}?map_index={task['map_index']}"
                lines = self.api("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{where}")["content"]
                said += [f"{task['task_id']} {task['map_index']}:", *(str(line)[:1500] for line in lines[-12:])]
        return "\n".join(said)

    def why(self, run, task_id="verdict", map_index=-1):
        (instance,) = [
            t
            for t in self.airflow.task_instances(run["dag_id"], run["dag_run_id"])
            if (t["task_id"], t["map_index"]) == (task_id, map_index)
        ]
        return self.airflow.why(run["dag_id"], run["dag_run_id"], instance)

    def api(self, method, path, body=None):
        return self.airflow._some(method, path, body)

    def clear(self, run, *tasks, downstream=True):
        body = {"dry_run": False, "only_failed": False, "include_downstream": downstream, "dag_run_id": run["dag_run_id"]}
        if tasks:
            body["task_ids"] = list(tasks)
        self.api("POST", f"/dags/{run['dag_id']}/clearTaskInstances", body)

    def until(self, holds, seconds=60):
        end = time.time() + seconds
        while not holds():
            assert time.time() < end, f"{self.airflow.import_errors()}\n{self.log('scheduler')}"
            time.sleep(0.5)

    def parsed(self, dag_id):
        self.until(lambda: self.airflow.dag(dag_id) is not None)

    def runs(self, dag_id):
        return self.airflow._all(f"/dags/{dag_id}/dagRuns", "dag_runs")

    def scheduled(self, dag_id, *sessions, cleared=0):
        """Scheduled runs of past sessions: unpausing makes none."""
        done = self.python("-m", "tests.e2e.scheduled_runs", dag_id, str(cleared), *map(str, sessions))
        ids = [line for line in done.splitlines() if line.startswith("scheduled__")]
        assert len(ids) == len(sessions), done
        return [{"dag_id": dag_id, "dag_run_id": run_id} for run_id in ids]

    def resize(self, pool, slots):
        body = {"pool": pool, "slots": slots, "include_deferred": False}
        self.api("PATCH", f"/pools/{pool}?update_mask=slots", body)

    def cli(self, *arguments):
        return self.python("-m", "airflow", *arguments)

    def python(self, *arguments):
        env = process_env(self.environ, self.stack.paths, self.stack.ports)
        done = subprocess.run(
            [sys.executable, *arguments], env=env, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def installed(folder):
    """Return a folder for the path with the project's entry points; connection types come from there. Empty if it is installed."""
    if entry_points(group="airflow.plugins", name="market_data"):
        return folder  # Airflow would see the plugin twice
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "airflow_market_data-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-market-data\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items()) for group, found in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@contextmanager
def running(folder, **more):
    """A stack of its own in ``folder``, with the DAGs of ``tests/e2e/dags``; all of them paused."""
    sample = free_port()
    polygon = {
        "conn_type": "http",
        "host": f"http://127.0.0.1:{sample}",
        "password": "sample-key",
        "extra": {"plan": "sample", "calls_per_minute_per_slot": 120, "limits": LIMITS},
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA"))}
    environ |= {
        "MARKET_DATA_LOCAL_DIR": str(folder),
        "AIRFLOW_PORT": str(free_port()),
        "S3_PORT": str(free_port()),
        "SAMPLE_API_PORT": str(sample),
        "SAMPLE_GATEWAY_PORT": str(free_port()),
        "AIRFLOW_CONN_POLYGON_DEFAULT": json.dumps(polygon),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "PYTHONPATH": str(installed(folder / "site")),
        **more,
    }
    stack = Stack(Paths.of(PROJECT, environ), environ)
    try:
        stack.up()
        world = World(stack, environ)
        world.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        world.parsed(DAG)
        world.forget_calls()
        yield world
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def with_first_run(folder):
    """A stack of its own in ``folder``, with `DAG` unpaused and its run of the last session."""
    with running(folder) as world:
        last = calendar.last_completed_session(datetime.now(UTC), clock_time(20, 30))
        (run,) = world.scheduled(DAG, last)
        world.airflow.unpause(DAG)
        # It would mix its calls into those that a test counts.
        world.first_run, world.first_calls = world.wait(run), world.calls()
        yield world


def without_faults(world):
    world.control("DELETE", "faults")
    world.control("DELETE", "prices")
    world.control("DELETE", "missing")
    world.control("POST", "quota", limits=LIMITS)
    world.forget_calls()
    return world


@pytest.fixture(scope="session")
def _world(tmp_path_factory):
    with with_first_run(tmp_path_factory.mktemp("stack")) as world:
        yield world


@pytest.fixture
def world(_world):
    return without_faults(_world)


@pytest.fixture
def page(world):
    """A browser in which the admin has logged in."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "a browser is needed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.set_default_timeout(60_000)
        page.goto(world.airflow.url)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", world.airflow.password)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Dags", exact=True).first.wait_for()
        yield page
        browser.close()
