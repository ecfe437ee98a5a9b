"""An interrupt ends the run of `make run`, also one that arrives while Airflow is asked to start it."""

import io
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from sandbox.stack import __main__ as commands


class Airflow:
    def __init__(self):
        self.active = set()

    def fail_run(self, dag_id, run_id):
        self.active.discard((dag_id, run_id))

    def active_runs(self):
        return sorted(self.active)


@pytest.fixture
def _heard():
    """SIGINT is heard, although a job in the background may have inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heard")
def test_an_interrupt_while_a_run_is_triggered_ends_that_run(monkeypatch):
    airflow, ended = Airflow(), []

    def trigger(found, *_):
        found.active.add(("d", "r"))
        signal.raise_signal(signal.SIGINT)
        return "r"

    monkeypatch.setattr(commands, "read_feed", lambda *_: None)
    monkeypatch.setattr(commands, "wait_for_dag", lambda *_: {"dag_id": "d", "is_paused": False})
    monkeypatch.setattr(commands, "start", trigger)
    stack = SimpleNamespace(
        airflow=airflow,
        paths=None,
        up=lambda: True,
        down=lambda: ended.append(True),
        holds=SimpleNamespace(release=lambda *_: None),
    )
    with pytest.raises(KeyboardInterrupt):
        commands.run(stack, {"DAG": "d", "CONF": "{}"}, Console(file=io.StringIO()))
    assert airflow.active == set()
    assert ended == [True]
