"""Processes that outlive the command which started them, and that can be ended for certain.

Each gets a session of its own, a log file and a record: its pid and the moment it was started. A pid alone is not enough, for the
system hands it out again. Ending one means the whole session: an Airflow scheduler leaves workers behind when it is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import psutil  # type: ignore[import-untyped, unused-ignore]

from sandbox.stack.environment import HOST, LocalError

START_TOLERANCE = 2.0  # seconds; the kernel counts a start in ticks since boot
FREE_PORTS = range(15_000, 32_000)
"""Below those that Linux gives to outgoing connections, any of which may take a port between its choice and its use."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Record:
    """Who a process is.

    :param pid: also the id of its session.
    :param started: seconds since the epoch.
    :param booted: likewise, when the machine was started. It moves with the clock when that is set, or after a pause of the machine, and
        so does the start of a process.
    """

    name: str
    pid: int
    started: float
    booted: float = 0.0

    @classmethod
    def of(cls, name: str, pid: int) -> Record:
        """Return the record of a process that runs."""
        return cls(name, pid, psutil.Process(pid).create_time(), psutil.boot_time())

    def leader(self) -> psutil.Process | None:
        """Return the process itself; None if it has ended or its pid belongs to another process."""
        try:
            process = psutil.Process(self.pid)
            alive = process.status() != psutil.STATUS_ZOMBIE
            later = process.create_time() - self.started
            clock_set = psutil.boot_time() - self.booted if self.booted else 0.0
            return process if alive and min(abs(later), abs(later - clock_set)) < START_TOLERANCE else None
        except psutil.NoSuchProcess:
            return None

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the session, leader first, and all descendants of the leader.

        The kernel gives a session's id to no new process while the session has members, so survivors of a dead leader are found. If
        another process has the pid, the session is empty, and so is the result.
        """
        leader = self.leader()
        if leader is None and psutil.pid_exists(self.pid) and not _is_zombie(self.pid):
            return []
        found = {process.pid: process for process in psutil.process_iter() if _session(process.pid) == self.pid}
        if leader is not None:
            found |= {leader.pid: leader} | {child.pid: child for child in _descendants(leader)}
        return [process for process in found.values() if not _is_zombie(process.pid)]


class Registry:
    """The records of a folder.

    :param folder: one JSON file for each process, named for it.
    :param logs: where each process writes, ``{name}.log``.
    """

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder, self.logs = folder, logs

    def records(self) -> dict[str, Record]:
        """Return what runs by its name. A process may be stopped, and its record removed, meanwhile."""
        found = (self._read(file) for file in sorted(self.folder.glob("*.pid")))
        return {record.name: record for record in found if record is not None}

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process. An interrupt waits until its record is written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with held_signals(), self.log(name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  a component of the stack
                argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            self._write(Record.of(name, process.pid))
        return process

    def stop(self, name: str, patience: float = 5.0) -> None:
        """Stop a process and its session: SIGTERM to it, after ``patience`` to the rest, then SIGKILL."""
        record = self._read(self._file(name))
        if record is None:
            return
        members = record.members()
        leader = record.leader()
        _signal([leader] if leader else members, signal.SIGTERM)
        left = _wait(lambda: _alive(members, record), patience)
        _signal(left, signal.SIGTERM)
        left = _wait(lambda: _alive(members, record), 2) if left else []
        _signal(left, signal.SIGKILL)
        left = _wait(lambda: _alive(members, record), 5) if left else []
        if left:
            raise LocalError(f"{name} does not end: process {', '.join(str(process.pid) for process in left)}")
        self.forget(name)

    def forget(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pid"

    @staticmethod
    def _read(file: Path) -> Record | None:
        try:
            return Record(**json.loads(file.read_text()))
        except FileNotFoundError:
            return None

    def _write(self, record: Record) -> None:
        file = self._file(record.name)
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(file)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold back what would end this program, and deliver it at the end of the block. For the main thread."""
    caught: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        caught.append(number)

    before = {number: signal.signal(number, hold) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
    for number in caught:
        signal.raise_signal(number)


def check_port(port: int, variable: str) -> None:
    """Make sure that a server can listen on ``port``.

    :raises LocalError: if another has it; names that process where it can be seen, and the ``variable`` that chooses another port.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise LocalError(f"port {port} is for the system only; choose one above 1023 with {variable}=") from None
        except OSError:
            raise LocalError(
                f"port {port} is taken{_holder(port)}; choose another with {variable}=, or end what holds it"
            ) from None


def free_port(host: str = HOST) -> int:
    """Return a port on which a server can listen."""
    for port in random.SystemRandom().sample(FREE_PORTS, len(FREE_PORTS)):  # others choose at the same time
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise LocalError(f"no port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1} is free at {host}")


def _holder(port: int) -> str:
    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid]
        return f" by {psutil.Process(listening[0].pid).name()} (process {listening[0].pid})" if listening else ""
    except psutil.Error:
        return ""


def _wait(left: Callable[[], list[psutil.Process]], seconds: float) -> list[psutil.Process]:
    until = time.monotonic() + seconds
    while (remaining := left()) and time.monotonic() < until:
        time.sleep(0.05)
    return remaining


def _alive(members: list[psutil.Process], record: Record) -> list[psutil.Process]:
    """Return the living among ``members`` and later members of the session. Reaps child processes."""
    known = {process.pid: process for process in [*members, *record.members()]}
    return [process for process in known.values() if process.is_running() and not _is_zombie(process.pid)]


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # refuses a recycled pid
        except psutil.NoSuchProcess:
            continue


def _descendants(leader: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = leader.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
