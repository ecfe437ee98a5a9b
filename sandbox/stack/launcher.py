"""Start and stop the local stack: S3 and sample servers, Airflow's components, and their watchdog.

Not `airflow standalone`: ending that leaves its children behind, it listens on all interfaces, and it knows nothing of the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sandbox.stack.api import Airflow
from sandbox.stack.components import AIRFLOW_SERVICES, SERVER_PORTS, command, listens, responds, write_secrets
from sandbox.stack.environment import (
    PORT_VARIABLES,
    LocalError,
    Paths,
    Ports,
    bucket_of,
    lake_is_local_s3,
    process_env,
)
from sandbox.stack.holds import Holds
from sandbox.stack.processes import Registry, check_port, held_signals
from sandbox.stack.settings import load

Say = Callable[[str], None]

PATIENCE = {"triggerer": 1.0}  # seconds from SIGTERM to the second one; by itself it takes 12, and here nothing is deferred
HEALTHY = ("metadatabase", "scheduler", "dag_processor", "triggerer")
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
        self._started: list[str] = []

    @property
    def airflow(self) -> Airflow:
        return Airflow(self.ports.airflow_url, self.paths.passwords)

    @property
    def holds(self) -> Holds:
        return Holds(self.paths.holds)

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers beside Airflow; S3 only where the lake is in it."""
        return tuple(name for name in SERVER_PORTS if name != "s3" or lake_is_local_s3(self.environ))

    @property
    def components(self) -> tuple[str, ...]:
        return (*self.servers, *AIRFLOW_SERVICES)

    def is_up(self) -> bool:
        """Return True where every process lives and Airflow reports every component healthy."""
        return self._alive() >= {*self.components, "watchdog"} and self._airflow_is_healthy()

    def up(self) -> bool:
        """Start components that are not running and wait until all are healthy.

        Return True if nothing was running before.

        A running stack is used as it is. When the environment or the plugins have changed since, Airflow is restarted, unless runs
        are active. On any failure, an interrupt included, the processes that this call started end; those of before stay.
        """
        self._refuse_other_ports()
        os.umask(0o077)  # passwords, keys and data are this user's alone
        self.paths.local.mkdir(parents=True, exist_ok=True)
        with self._lock():
            was_down = not self._alive()
            try:
                self._up()
            except BaseException:
                with held_signals():
                    self._down() if was_down else self._stop(("watchdog", *self._started))
                raise
        return was_down

    def down(self) -> None:
        """End every process of the stack. Doing so twice is harmless."""
        if self.paths.local.exists():
            with self._lock():
                self._down()

    def dead(self) -> list[str]:
        """Return the components of a started stack that have died.

        Returns none while a command starts or stops the stack.
        """
        return sorted(set(self.components) - self._alive()) if self._state().get("made_of") else []

    def restart(self, name: str) -> str:
        """Stop the rest of a dead component's session and start it again. Return its last output line."""
        last = self._last_line(name)
        self._stop((name,))
        self._start(name)
        return last

    # -- up --------------------------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        is_up, made_of = self.is_up(), self._state().get("made_of")
        if is_up and made_of == self._made_of():
            return
        if is_up and (active := self.airflow.active_runs()):
            dags = ", ".join(sorted({run["dag_id"] for run in active}))
            self.say(f"The environment or the plugins changed; Airflow is not restarted while runs of {dags} are active.")
            return
        if made_of:
            self.say("The environment or the plugins changed, or a component ended: restarting Airflow.")
        self._remember(made_of=None)
        self._stop(("watchdog",))
        self._stop(("prepare", *AIRFLOW_SERVICES))
        missing = [name for name in self.servers if name not in self._alive()]
        for field in ("airflow", *(SERVER_PORTS[name] for name in missing)):
            check_port(getattr(self.ports, field), PORT_VARIABLES[field])
        lake = "--new-lake" if "s3" in missing and not self.paths.s3.exists() else "--old-lake"
        for name in missing:
            self._stop((name,))
            self._start(name)
        self._start_airflow(lake)

    def _start_airflow(self, lake: str) -> None:
        began = time.monotonic()
        load(self.paths.settings)  # a broken file is found before anything waits for it
        write_secrets(self.paths)
        prepare = self._start("prepare", "-m", "sandbox.stack.settings", lake)
        processes = {"api-server": self._start("api-server")}
        self._until("Airflow's database", lambda: prepare.poll() is not None, processes)
        if prepare.returncode:
            raise LocalError(self._why("prepare", "Airflow's database cannot be made ready"))
        self.registry.forget("prepare")
        processes |= {name: self._start(name) for name in ("scheduler", "dag-processor", "triggerer")}
        if "s3" in self.servers:
            self._until("the S3 server", self._make_bucket, processes)
        self._until("the sample API", lambda: responds(f"{self.ports.sample_api_url}/_control/health"), processes)
        self._until("the sample gateway", lambda: listens(self.ports.gateway), processes)
        # Airflow builds its task API at the first call, for seconds: better while the scheduler starts than in the first task.
        self._until("Airflow's task API", lambda: responds(f"{self.ports.airflow_url}/execution/health"), processes)
        self._until("Airflow", self._airflow_is_healthy, processes)
        self._start("watchdog")
        self._remember(made_of=self._made_of())
        self.say(f"Airflow is up at {self.ports.airflow_url} after {time.monotonic() - began:.0f} s.")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        env = process_env(self.environ, self.paths, self.ports)
        env |= {variable: str(getattr(self.ports, field)) for field, variable in PORT_VARIABLES.items()}
        self._started.append(name)
        return self.registry.start(
            name,
            [sys.executable, *(arguments or command(name, self.paths, self.ports, self.environ.get("SAMPLE_API_DATA")))],
            env,
            self.paths.project,
        )

    def _until(self, what: str, ready: Callable[[], bool], processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        """Wait for ``ready``; no longer than a process that it needs lives."""
        until = time.monotonic() + START_SECONDS
        while not ready():
            for name, process in processes.items():
                if process.poll() is not None:
                    raise LocalError(self._why(name, f"{name} ended with code {process.returncode}"))
            for name in set(self.servers) - self._alive():
                raise LocalError(self._why(name, f"{name} ended"))
            if time.monotonic() > until:
                raise LocalError(f"{what} is not ready after {START_SECONDS:.0f} s; see the logs in {self.paths.logs}")
            time.sleep(0.1)

    def _why(self, name: str, what: str) -> str:
        return f"{what}: {self._last_line(name)} (full log: {self.registry.log(name)})"

    def _last_line(self, name: str) -> str:
        log = self.registry.log(name)
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
        return lines[-1].strip() if lines else "nothing"

    def _make_bucket(self) -> bool:
        return responds(f"{self.ports.s3_url}/{bucket_of(self.environ)}", method="PUT")

    def _airflow_is_healthy(self) -> bool:
        health = self.airflow.health()
        return all(health.get(part) == "healthy" for part in HEALTHY)

    # -- down ------------------------------------------------------------------------------------------------------------------

    def _down(self) -> None:
        self._stop(("watchdog",))  # or it would start the others again
        self._stop(("prepare", *AIRFLOW_SERVICES))
        self._stop(self.registry.records())
        self._state_file.unlink(missing_ok=True)

    def _stop(self, names: Iterable[str]) -> None:
        """Stop several processes at once."""
        with ThreadPoolExecutor(16) as pool:
            for done in [pool.submit(self.registry.stop, name, PATIENCE.get(name, 5.0)) for name in names]:
                done.result()

    # -- what is known of the running stack ------------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.paths.run / "stack.json"

    def _state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads(self._state_file.read_text()) if self._state_file.exists() else {}
        return state

    def _remember(self, made_of: str | None) -> None:
        self.paths.run.mkdir(parents=True, exist_ok=True)
        draft = self._state_file.with_suffix(".draft")
        draft.write_text(json.dumps({"ports": asdict(self.ports), "made_of": made_of}))
        draft.replace(self._state_file)

    def _running_ports(self) -> Ports | None:
        ports = self._state().get("ports")
        return Ports(**ports) if isinstance(ports, dict) and self._alive() else None

    def _refuse_other_ports(self) -> None:
        """A running stack keeps its ports: its connections name them."""
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
    def try_lock(self) -> Iterator[bool]:
        """Take the lock where no command holds it; False where one does."""
        with (self.paths.local / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

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
