"""Paths, ports and process environment of the local stack. All functions are pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
BUCKET = "market-data"
ADMIN = "admin"

# Imported once, in the server that LocalExecutor's workers are forked from: a task that needs them then starts in no time. Our modules are
# nearly half of what a task computes otherwise; the stack restarts Airflow when they change.
# Great Expectations comes before Airflow, which would have its import logged, in hundreds of lines.
PRELOAD = (
    "great_expectations",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.acero",
    "boto3",
    "requests",
    "market_data.airflow.plugin",
    "market_data.airflow.dag",
    "market_data.airflow.limit_stores",
    "market_data.pipeline.plan",
    "market_data.pipeline.fetch",
    "market_data.pipeline.check",
    "market_data.pipeline.load",
    "market_data.pipeline.publish",
    "market_data.providers.polygon.hook",
    "market_data.lake.writer",
)


class LocalError(Exception):
    """Something the user can put right. The message is the one line they see."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of the local stack.

    :param project: the repository.
    :param local: everything the stack writes.
    """

    project: Path
    local: Path

    @classmethod
    def of(cls, project: Path, environ: Mapping[str, str]) -> Paths:
        """Return the paths in ``MARKET_DATA_LOCAL_DIR`` (a second stack) or the repository's ``.local/``."""
        return cls(project, Path(environ.get("MARKET_DATA_LOCAL_DIR") or project / ".local").absolute())

    @property
    def airflow_home(self) -> Path:
        return self.local / "airflow"

    @property
    def logs(self) -> Path:
        return self.local / "logs"

    @property
    def run(self) -> Path:
        """One record a process: who it is, so that `make down` ends it and nothing else."""
        return self.local / "run"

    @property
    def holds(self) -> Path:
        """DAGs that are unpaused for one run."""
        return self.run / "holds"

    @property
    def s3(self) -> Path:
        """The objects of the local S3 server."""
        return self.local / "s3"

    @property
    def warehouse(self) -> Path:
        return self.local / "warehouse.duckdb"

    @property
    def settings(self) -> Path:
        return self.project / "airflow_settings.yaml"

    @property
    def passwords(self) -> Path:
        """The file that SimpleAuthManager reads by default."""
        return self.airflow_home / "simple_auth_manager_passwords.json.generated"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the stack, on 127.0.0.1 only."""

    airflow: int = 8080
    s3: int = 8580
    sample_api: int = 8581
    gateway: int = 8582

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Ports:
        """Return the ports set in the environment, or the defaults.

        :raises LocalError: if a value is not a port number, or two ports are equal.
        """
        ports = cls(
            **{field: _port(variable, environ[variable]) for field, variable in PORT_VARIABLES.items() if environ.get(variable)}
        )
        numbers = [getattr(ports, field) for field in PORT_VARIABLES]
        if len(set(numbers)) < len(numbers):
            named = ", ".join(f"{variable}={getattr(ports, field)}" for field, variable in PORT_VARIABLES.items())
            raise LocalError(f"every server needs a port of its own; these are {named}")
        return ports

    @property
    def airflow_url(self) -> str:
        return f"http://{HOST}:{self.airflow}"

    @property
    def s3_url(self) -> str:
        return f"http://{HOST}:{self.s3}"

    @property
    def sample_api_url(self) -> str:
        return f"http://{HOST}:{self.sample_api}"


def lake_of(environ: Mapping[str, str]) -> str:
    """Return the lake's address."""
    return environ.get("MARKET_DATA_LAKE") or f"s3://{BUCKET}"


def lake_is_local_s3(environ: Mapping[str, str]) -> bool:
    """Return True if the lake is in the stack's own S3 server, False for a folder or another S3."""
    return lake_of(environ).startswith("s3://") and not environ.get("AIRFLOW_CONN_AWS_DEFAULT")


def bucket_of(environ: Mapping[str, str]) -> str:
    """Return the bucket of a lake on S3."""
    return lake_of(environ).removeprefix("s3://").partition("/")[0]


PORT_VARIABLES = {"airflow": "AIRFLOW_PORT", "s3": "S3_PORT", "sample_api": "SAMPLE_API_PORT", "gateway": "SAMPLE_GATEWAY_PORT"}


def _port(variable: str, value: str) -> int:
    if value.isascii() and value.isdigit() and 0 < int(value) < 65536:
        return int(value)
    raise LocalError(f"{variable} is {value!r}; a port number from 1 to 65535 is needed")


def process_env(environ: Mapping[str, str], paths: Paths, ports: Ports) -> dict[str, str]:
    """Return the environment of every process of the stack.

    The user's environment is passed on (``AIRFLOW_CONN_*``, ``MARKET_DATA_*``, credentials) and may tune the stack. The settings
    that keep the stack in its folder and on this machine are fixed: the stack must never migrate or write to another Airflow's
    home or database, even if the user's shell names it.
    """
    removed = (
        "AIRFLOW_CONFIG",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV",
    )  # without byte code every start compiles everything again
    env = {name: value for name, value in environ.items() if name not in removed}
    return _defaults(paths) | env | _fixed(environ, paths, ports)


def _fixed(environ: Mapping[str, str], paths: Paths, ports: Ports) -> dict[str, str]:
    inherited = [part for part in (environ.get("PYTHONPATH"),) if part]
    return {
        "AIRFLOW_HOME": str(paths.airflow_home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{paths.airflow_home / 'airflow.db'}?timeout=30",
        "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",  # the launcher migrates, while the api-server is still importing
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(paths.passwords),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{ports.airflow_url}/execution/",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(ports.airflow),
        "AIRFLOW__API__BASE_URL": ports.airflow_url,
        "PYTHONPATH": os.pathsep.join([str(paths.project), str(paths.project / "plugins"), *inherited]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
        "NO_PROXY": ",".join(filter(None, [environ.get("NO_PROXY", environ.get("no_proxy", "")), HOST, "localhost"])),
    }


def _defaults(paths: Paths) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(paths.project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(paths.project / "plugins"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",  # the button in the connection form; only this machine's user reaches it
        "AIRFLOW__API__EXPOSE_CONFIG": "False",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "3600",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "great_expectations=WARNING",
        # Among hundreds of cleared runs, tonight's is examined in every third loop; the default is 20 runs per loop.
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100",
        # Between two tasks of a run the scheduler sleeps up to this long; the default is 1 second, six times a run.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # `publish` reports thousands of sessions in one call, which takes up to 17 seconds; the default is 5, then it calls again.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A LocalExecutor slot idles this long after a task that ends just as its sockets close; the default is 5 seconds.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # As our tasks set it, which comes too late where the server that they are forked from has Arrow already: 40 MB less in a load.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "GX_ANALYTICS_ENABLED": "false",
        "MARKET_DATA_LAKE": lake_of({}),
        "PYTHONUNBUFFERED": "1",
    }
