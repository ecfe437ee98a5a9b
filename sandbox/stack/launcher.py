"""Start and end the local stack: S3 server, sample API, Airflow's api-server, scheduler and dag-processor.

Not `airflow standalone`: ending that leaves its children behind, it listens on all interfaces, and it knows nothing of the rest.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import requests

from sandbox.stack.api import Airflow
from sandbox.stack.environment import ADMIN, BUCKET, HOST, PORT_VARIABLES, LocalError, Paths, Ports, lake_is_in_memory, process_env
from sandbox.stack.processes import Registry, check_port, held_signals
from sandbox.stack.settings import SAMPLE_API_KEY, load

Say = Callable[[str], None]

AIRFLOW_SERVICES = ("scheduler", "dag-processor", "api-server")
SERVERS = ("sample-api", "sample-gateway", "s3")
STOP_ORDER = ("prepare", *AIRFLOW_SERVICES, *SERVERS)
HEALTHY = ("metadatabase", "scheduler", "dag_processor")
START_SECONDS = 180.0  # a cold disk and a busy machine; a stack that can be had is there within 20


class Stack:
    """The local stack of one folder.

    :param environ: the user's environment.
    :param say: takes one line for the user at a time.
    """

    def __init__(self, paths: Paths, environ: Mapping[str, str], say: Say = print) -> None:
        self.paths, self.environ, self.say = paths, environ, say
        self.registry = Registry(paths.run, paths.logs)
        self.ports = self._running_ports() or Ports.of(environ)

    @property
    def airflow(self) -> Airflow:
        return Airflow(self.ports.airflow_url, self.paths.passwords)

    def is_up(self) -> bool:
        """Whether every process lives and Airflow calls itself healthy."""
        return self._alive() >= set(STOP_ORDER) - {"prepare"} and self._airflow_is_healthy()

    def up(self) -> None:
        """Bring up what is not up, and wait until it is healthy. On any failure, an interrupt included, nothing is left running.

        What runs is used as it is; when the environment or the plugins changed since, Airflow alone is started again (the lake of
        the local S3 server lives in its memory).
        """
        self._refuse_other_ports()
        os.umask(0o077)  # passwords, keys and data are this user's alone
        self.paths.local.mkdir(parents=True, exist_ok=True)
        with self._lock():
            try:
                self._up()
            except BaseException:
                with held_signals():
                    self._down()
                raise

    def down(self) -> None:
        """End every process of the stack. Doing so twice is harmless."""
        if self.paths.local.exists():
            with self._lock():
                self._down()

    # -- up --------------------------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        state = self._state()
        if self.is_up() and state.get("made_of") == self._made_of():
            return
        if self._alive() >= set(SERVERS):
            self.say("Airflow's environment or the plugins changed, or a part of it ended: starting Airflow again.")
            self._stop(("prepare", *AIRFLOW_SERVICES))
            self._check_ports("airflow")
            self._start_airflow()
        else:
            self._down()
            self._check_ports(*PORT_VARIABLES)
            self._start_servers()
            self._start_airflow("--new-lake" if lake_is_in_memory(self.environ) else "--old-lake")

    def _check_ports(self, *fields: str) -> None:
        for field in fields:
            check_port(getattr(self.ports, field), PORT_VARIABLES[field])

    def _start_servers(self) -> None:
        self._remember(made_of=None)
        self._start("s3", "-m", "moto.server", "-H", HOST, "-p", str(self.ports.s3))
        calls = self.paths.logs / "sample-api-calls.jsonl"
        options = ("--port", str(self.ports.sample_api), "--api-key", SAMPLE_API_KEY, "--call-log", str(calls))
        data = self.environ.get("SAMPLE_API_DATA")
        self._start("sample-api", "-m", "sandbox.http", *options, *(("--data", data) if data else ()))
        calls = self.paths.logs / "sample-gateway-calls.jsonl"
        port = str(self.ports.gateway)
        self._start("sample-gateway", "-m", "sandbox.ib_gateway", "--port", port, "--call-log", str(calls))

    def _start_airflow(self, lake: str = "--old-lake") -> None:
        began = time.monotonic()
        load(self.paths.settings)  # a broken file is found before anything waits for it
        self._write_secrets()
        prepare = self._start("prepare", "-m", "sandbox.stack.settings", lake)
        processes = {"api-server": self._start("api-server", "-m", "airflow", "api-server")}
        self._until("Airflow's database", lambda: prepare.poll() is not None, processes)
        if prepare.returncode:
            raise LocalError(self._why("prepare", "Airflow's database cannot be made ready"))
        self.registry.forget("prepare")
        processes["scheduler"] = self._start("scheduler", "-m", "sandbox.stack.scheduler")
        processes["dag-processor"] = self._start("dag-processor", "-m", "airflow", "dag-processor")
        self._until("the S3 server", self._make_bucket, processes)
        self._until("the sample API", lambda: _answers(f"{self.ports.sample_api_url}/_control/health"), processes)
        self._until("the sample gateway", lambda: _listens(self.ports.gateway), processes)
        # What tasks talk to is built at the first call, for seconds: better now, while the scheduler starts, than in the first task.
        self._until("Airflow's task API", lambda: _answers(f"{self.ports.airflow_url}/execution/health"), processes)
        self._until("Airflow", self._airflow_is_healthy, processes)
        self._remember(made_of=self._made_of())
        self.say(f"Airflow is up at {self.ports.airflow_url} after {time.monotonic() - began:.0f} s.")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        env = process_env(self.environ, self.paths, self.ports)
        env |= {variable: str(getattr(self.ports, field)) for field, variable in PORT_VARIABLES.items()}
        return self.registry.start(name, [sys.executable, *arguments], env, self.paths.project)

    def _until(self, what: str, ready: Callable[[], bool], processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        """Wait for ``ready``; no longer than a process that it needs lives."""
        until = time.monotonic() + START_SECONDS
        while not ready():
            for name, process in processes.items():
                if process.poll() is not None:
                    raise LocalError(self._why(name, f"{name} ended with code {process.returncode}"))
            for name in set(SERVERS) - self._alive():
                raise LocalError(self._why(name, f"{name} ended"))
            if time.monotonic() > until:
                raise LocalError(f"{what} is not ready after {START_SECONDS:.0f} s; see the logs in {self.paths.logs}")
            time.sleep(0.1)

    def _why(self, name: str, what: str) -> str:
        lines = [line for line in self.registry.log(name).read_text(errors="replace").splitlines() if line.strip()]
        return f"{what}: {lines[-1].strip() if lines else 'it said nothing'} (all of it in {self.registry.log(name)})"

    def _make_bucket(self) -> bool:
        return _answers(f"{self.ports.s3_url}/{BUCKET}", method="PUT")

    def _airflow_is_healthy(self) -> bool:
        health = self.airflow.health()
        return all(health.get(part) == "healthy" for part in HEALTHY)

    def _write_secrets(self) -> None:
        """The admin's password, and the keys that Airflow's processes share. Kept, so that connections stay readable."""
        self.paths.airflow_home.mkdir(parents=True, exist_ok=True)
        config = self.paths.airflow_home / "airflow.cfg"
        if not config.exists():
            fernet, api, jwt = (base64.urlsafe_b64encode(secrets.token_bytes(size)).decode() for size in (32, 64, 64))
            config.write_text(f"[core]\nfernet_key = {fernet}\n\n[api]\nsecret_key = {api}\n\n[api_auth]\njwt_secret = {jwt}\n")
        if not self.paths.passwords.exists():
            self.paths.passwords.write_text(json.dumps({ADMIN: secrets.token_urlsafe(12)}))
        for file in (config, self.paths.passwords):
            file.chmod(0o600)

    # -- down ------------------------------------------------------------------------------------------------------------------

    def _down(self) -> None:
        self._stop(STOP_ORDER)
        for name in self.registry.records():
            self.registry.stop(name)
        self._state_file.unlink(missing_ok=True)

    def _stop(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.registry.stop(name)

    # -- what is known of the running stack ------------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.paths.run / "stack.json"

    def _state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads(self._state_file.read_text()) if self._state_file.exists() else {}
        return state

    def _remember(self, made_of: str | None) -> None:
        self.paths.run.mkdir(parents=True, exist_ok=True)
        self._state_file.write_text(json.dumps({"ports": asdict(self.ports), "made_of": made_of}))

    def _running_ports(self) -> Ports | None:
        ports = self._state().get("ports")
        return Ports(**ports) if isinstance(ports, dict) and self._alive() else None

    def _refuse_other_ports(self) -> None:
        """A running stack keeps its ports: moving it would empty the lake."""
        for field, variable in PORT_VARIABLES.items():
            wanted, has = self.environ.get(variable), str(getattr(self.ports, field))
            if wanted and wanted != has:
                raise LocalError(f"{variable} is {wanted}, but a stack is running with {has}; `make down` first")

    def _made_of(self) -> str:
        """A hash of what Airflow's processes read only once, at their start."""
        settled = {
            name: value for name, value in self.environ.items() if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "MARKET_DATA_"))
        }
        plugins = sorted((str(file), file.stat().st_mtime_ns) for file in (self.paths.project / "plugins").rglob("*.py"))
        return hashlib.sha256(json.dumps([settled, plugins], sort_keys=True).encode()).hexdigest()

    def _alive(self) -> set[str]:
        return {name for name, record in self.registry.records().items() if record.leader() is not None}

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time may start or end processes."""
        with (self.paths.local / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("Another make is starting or ending the stack: waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _answers(url: str, method: str = "GET") -> bool:
    try:
        with requests.Session() as http:
            http.trust_env = False
            return http.request(method, url, timeout=30).status_code < 500
    except requests.RequestException:
        return False
