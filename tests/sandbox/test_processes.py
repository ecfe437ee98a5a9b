import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from sandbox.stack.environment import LocalError
from sandbox.stack.processes import FREE_PORTS, Record, Registry, check_port, free_port, held_signals

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]
# A parent with a child, as a scheduler with its workers.
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
FAMILY = [sys.executable, "-c", PARENT]


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path / "run", tmp_path / "logs")
    yield made
    for name in made.records():
        made.stop(name, patience=0)


def start(registry, argv, name="one"):
    return registry.start(name, argv, os.environ, registry.folder.parent)


def first_line(registry, name="one"):
    """What the process printed, once it has."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if text := registry.log(name).read_text().strip():
            return text
        time.sleep(0.05)
    raise AssertionError(f"{name} wrote nothing")


def lives(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_started_process_is_known_and_ends_when_stopped(registry):
    process = start(registry, SLEEPER)
    record = Registry(registry.folder, registry.logs).records()["one"]  # as another command sees it
    assert record.pid == process.pid
    assert record.leader().pid == process.pid
    assert os.getsid(process.pid) == process.pid
    registry.stop("one")
    assert not lives(process.pid)
    assert registry.records() == {}


def test_stopping_twice_is_harmless(registry):
    start(registry, SLEEPER)
    registry.stop("one")
    registry.stop("one")


def test_many_can_be_stopped_and_listed_at_once(registry):
    ended = start(registry, [sys.executable, "-c", ""], "ended")
    ended.wait()
    text = (registry.folder / "ended.pid").read_text()
    names = [f"n{number}" for number in range(300)]
    for name in names:
        (registry.folder / f"{name}.pid").write_text(text.replace('"ended"', f'"{name}"'))
    with ThreadPoolExecutor(16) as pool:
        stops = [pool.submit(registry.stop, name) for name in names]
        while not all(stop.done() for stop in stops):
            registry.records()
        for stop in stops:
            stop.result()
    assert list(registry.records()) == ["ended"]


def test_a_process_that_will_not_end_is_killed(registry):
    process = start(registry, STUBBORN)
    first_line(registry)
    registry.stop("one", patience=0.2)
    assert not lives(process.pid)


def test_children_end_with_their_parent(registry):
    start(registry, FAMILY)
    child = int(first_line(registry))
    assert lives(child)
    registry.stop("one", patience=0.2)
    assert not lives(child)


def test_children_of_a_killed_parent_end_too(registry):
    parent = start(registry, FAMILY)
    child = int(first_line(registry))
    parent.kill()
    parent.wait()
    assert lives(child)
    assert registry.records()["one"].leader() is None
    registry.stop("one")
    assert not lives(child)


def test_a_recycled_pid_is_left_alone(registry):
    other = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        record = Record("one", other.pid, psutil.Process(other.pid).create_time() - 60)
        registry.folder.mkdir()
        (registry.folder / "one.pid").write_text(json.dumps({"name": record.name, "pid": record.pid, "started": record.started}))
        assert record.leader() is None
        assert record.members() == []
        registry.stop("one")
        assert lives(other.pid)
        assert registry.records() == {}
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("seconds", [-7200, 163])
def test_a_process_stays_the_same_when_the_clock_is_set(registry, monkeypatch, seconds):
    """Also after a pause of the machine. The watchdog took every component for ended, and started each a second time."""
    process = start(registry, SLEEPER)
    boot_time = psutil._psplatform.boot_time
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time() + seconds)
    assert psutil.Process(process.pid).create_time() == pytest.approx(registry.records()["one"].started + seconds, abs=2)
    assert registry.records()["one"].leader().pid == process.pid
    other = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        of_another = Record("two", other.pid, registry.records()["one"].started - 60, boot_time())
        assert of_another.leader() is None
    finally:
        other.kill()
        other.wait()


def test_a_dead_process_is_not_alive(registry):
    process = start(registry, [sys.executable, "-c", ""])
    process.wait()
    assert registry.records()["one"].leader() is None


def test_a_free_port_is_none_that_the_system_gives_to_outgoing_connections(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        assert port in FREE_PORTS
        monkeypatch.setattr("sandbox.stack.processes.FREE_PORTS", range(port, port + 1))
        with pytest.raises(LocalError, match=f"no port from {port} to {port} is free at 127.0.0.1"):
            free_port()


def test_a_free_port_passes_and_a_taken_one_is_named_with_its_holder():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        with pytest.raises(LocalError, match=rf"port {port} is taken by .*\(process {os.getpid()}\).*S3_PORT="):
            check_port(port, "S3_PORT")
    check_port(port, "S3_PORT")


def test_an_interrupt_waits_for_the_end_of_the_block(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the interrupt comes from inside
        with held_signals():
            signal.raise_signal(signal.SIGINT)
            steps.append("the rest of the block")
        steps.append("after the block")
    assert steps == ["the rest of the block"]
