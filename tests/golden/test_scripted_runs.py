"""What users get from twelve scripted runs is what version 0.4.0 gave them."""

import json
import logging
import os
from pathlib import Path

import pytest

from tests.golden.scripted_runs import RUNS, differences, scripted_runs

GOLDEN = Path(__file__).with_name("golden_0_4_0.json")
CHANGED = Path(__file__).with_name("changed_since_0_4_0.txt")
"""Differences that are intended, each group with its reason."""
SHOWN = 60


@pytest.fixture
def quiet():
    """Collect no log: thousands of lines would follow what differs."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.timeout(900)  # about 45 s; the machine may be busy
@pytest.mark.usefixtures("quiet")
def test_twelve_scripted_runs_give_what_0_4_0_gave(tmp_path):
    """Compare all figures with the stored ones. With ``GOLDEN=write`` in the environment, store them first.

    What differs comes first in pytest's output; ``--show-capture=no`` leaves out the progress lines after it.
    """
    assert len(RUNS) == 12
    found = scripted_runs(tmp_path)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    intended = [line for line in CHANGED.read_text().splitlines() if line and not line.startswith("#")]
    lines = sorted({*differences(json.loads(GOLDEN.read_text()), found)} ^ {*intended})
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        pytest.fail("\n".join([f"{len(lines)} figures differ from {GOLDEN.name}:", *lines[:SHOWN], *more]), pytrace=False)
