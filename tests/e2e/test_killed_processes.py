"""Processes of the real stack are killed while runs are at work; see tests/chaos/stack.py."""

import pytest

from tests.chaos.stack import stack_campaign
from tests.e2e.conftest import DAG, running


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_runs_end_with_every_bar_once_whatever_is_killed(tmp_path):
    with running(tmp_path / "stack") as world:
        world.airflow.unpause(DAG)
        done = stack_campaign(world, 1)
        assert len(done.targets) >= 4
