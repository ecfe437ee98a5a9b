"""What `deploy/compose/docker-compose.yaml` describes, started without Docker: its commands, its settings, each container a host.

A host has a network address, a host name and a read-only file system of its own, with an empty ``/tmp``. PostgreSQL, Redis, S3 and the
provider's API are servers of the test on the network's address.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from sandbox.http import SampleApi
from sandbox.http.application import application
from sandbox.http.listener import UvicornListener
from sandbox.s3 import S3Server
from sandbox.stack.api import Airflow
from tests.deploy import compose_file
from tests.services import postgres_server, redis_server
from tests.services.network import NamespaceHost, Network

PROJECT = Path(__file__).parents[2]
KEY = "sample-key"
BUCKET = "market-data"
USUAL = {"timezone": "UTC", "datestyle": "ISO, MDY", "extra_float_digits": "1", "default_transaction_isolation": "read committed"}


class Api(SampleApi):
    """The provider's API on an address of the network."""

    host = ""

    def _listen(self) -> UvicornListener:
        return UvicornListener(application(self), self.port, self.host)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass
class CeleryStack:
    """The running stack.

    :param environ: of every Airflow component.
    """

    network: Network
    folder: Path
    environ: dict[str, str]
    compose: dict[str, Any]
    postgres: postgres_server.Server
    s3: S3Server
    api: Api
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def control(self) -> NamespaceHost:
        return self.network.hosts[0]

    @property
    def workers(self) -> list[NamespaceHost]:
        return list(self.network.hosts[1:])

    @property
    def airflow(self) -> Airflow:
        return Airflow(f"http://{self.control.address}:8080", self.folder / "passwords")

    def command(self, service: str) -> list[str]:
        return list(self.compose["services"][service]["command"])

    def start(self, service: str, host: NamespaceHost) -> subprocess.Popen[bytes]:
        with self.log(f"{service}-{host.name}").open("wb") as log:
            process = subprocess.Popen(
                host.command(*self.command(service), read_only=True),
                env=self.compose["services"][service]["environment"] | self.environ,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[f"{service}-{host.name}"] = process
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def python(self, *words: str, **environ: str) -> str:
        """Run Python on the host of the control plane; return what it prints."""
        command = self.control.command(sys.executable, *words, read_only=True)
        env = self.environ | environ
        done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr

    def up(self) -> None:
        assert self.start("init", self.control).wait(180) == 0, self.log(f"init-{self.control.name}").read_text()[-3000:]
        for service in ("api-server", "scheduler", "dag-processor", "triggerer"):
            self.start(service, self.control)
        for worker in self.workers:
            self.start("worker", worker)

    def until(self, holds: Any, seconds: float = 120.0) -> Any:
        """Return what ``holds`` returns, once that is true."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            ended = [name for name, process in self.processes.items() if process.poll() not in (None, 0, -9)]
            assert not ended, "\n".join(self.log(name).read_text()[-3000:] for name in ended)
            assert time.monotonic() < end, "\n".join(f"{name}: {self.log(name).read_text()[-1500:]}" for name in self.processes)
            time.sleep(0.2)
        return found

    def query(self, sql: str, database: str = "warehouse") -> list[Any]:
        with closing(self.postgres.admin(database)) as admin:
            return admin.execute(sql).fetchall()


def _shims(folder: Path) -> None:
    """Write the commands that the image has, for this Python and this tree."""
    for name, module in {"airflow": "airflow.__main__", "market-data": "market_data.airflow.command"}.items():
        (folder / name).write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        (folder / name).chmod(0o755)


def _include(folder: Path) -> Path:
    """Return a copy of ``include/`` with a shorter wait before what a killed worker leaves is tried again."""
    shutil.copytree(PROJECT / "include", folder / "include")
    shutil.copy(PROJECT / "airflow_settings.yaml", folder)
    (folder / "include" / "feeds.quick.yaml").write_text("defaults: {params: {retry_delay_seconds: 2}}\n")
    return folder / "include"


def _connections(s3: S3Server, api: Api, limits: list[dict[str, float]]) -> dict[str, str]:
    polygon = {
        "conn_type": "http",
        "host": api.url,
        "password": KEY,
        "extra": {"plan": "sample", "calls_per_minute_per_slot": 120, "limits": limits},
    }
    aws = {"conn_type": "aws", "login": "local", "password": "local-s3-key"}
    aws["extra"] = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}  # type: ignore[assignment]
    return {"AIRFLOW_CONN_POLYGON_DEFAULT": json.dumps(polygon), "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws)}


@contextmanager
def running(network: Network, limits: list[dict[str, float]]) -> Iterator[CeleryStack]:
    """Yield the stack on a network whose first host runs the control plane, each further one a worker."""
    with ExitStack() as ends:
        # not below /tmp: each host has one of its own
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="market-data-celery-", dir="/var/tmp")))
        _shims(folder)
        words = {name: secrets.token_hex(16) for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "API_SECRET_KEY", "JWT_SECRET")}
        from cryptography.fernet import Fernet

        words |= {"FERNET_KEY": Fernet.generate_key().decode(), "MARKET_DATA_LAKE": f"s3://{BUCKET}/lake"}
        words |= {"ADMIN_PASSWORDS": json.dumps({"admin": secrets.token_hex(8)})}
        (folder / "passwords").write_text(words["ADMIN_PASSWORDS"])  # for the test's own calls
        words |= {"LOG_FOLDER": f"s3://{BUCKET}/task-logs", "WORKER_CONCURRENCY": "3"}
        postgres = postgres_server.Server(network.address, max_connections="100", **USUAL)
        ends.callback(postgres.stop, keep=False)
        with closing(postgres.admin()) as admin:
            admin.execute(f"CREATE ROLE airflow LOGIN PASSWORD '{words['POSTGRES_PASSWORD']}'")
            for database in ("airflow", "warehouse"):
                admin.execute(f"CREATE DATABASE {database} OWNER airflow")
        redis = redis_server.Server(redis_server.program(), network.address, words["REDIS_PASSWORD"])
        ends.callback(redis.remove)
        s3 = S3Server(host=network.address)
        ends.callback(s3.stop)
        boto3.client(
            "s3", endpoint_url=s3.endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        ).create_bucket(Bucket=BUCKET)
        api = Api(api_key=KEY)
        api.host = network.address
        ends.enter_context(api)
        compose = compose_file.resolved(words)
        places = {
            "@postgres:5432/": f"@{network.address}:{postgres.port}/",
            "@redis:6379/": f"@{network.address}:{redis.settings['port']}/",
            "//api-server:8080/": f"//{network.hosts[0].address}:8080/",
        }
        settings = compose["x-airflow"]["environment"]
        for name, place in places.items():
            settings = {key: value.replace(name, place) for key, value in settings.items()}
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA"))}
        environ |= settings
        environ |= _connections(s3, api, limits)
        environ |= {"MARKET_DATA_INCLUDE": str(_include(folder)), "MARKET_DATA_ENV": "quick"}
        # what the Dockerfile sets
        environ |= {"AIRFLOW_HOME": str(PROJECT), "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
        environ |= {"PATH": f"{folder}:{environ['PATH']}", "NO_PROXY": "*", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        yield CeleryStack(network, folder, environ, compose, postgres, s3, api)
