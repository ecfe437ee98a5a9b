"""For all tests: an Airflow home of their own, limiter state of their own, no time limit on a property (the machine may be busy)."""

import contextlib
import os
import tempfile
from itertools import count
from pathlib import Path

import pytest

HOME = tempfile.mkdtemp(prefix="market-data-tests-")
os.environ["AIRFLOW_HOME"] = HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

# A property takes the same examples every time, so that a change is judged by what it changes. To look for new ones (CONTRIBUTING.md):
# pytest --hypothesis-profile search
with contextlib.suppress(ModuleNotFoundError):  # the image has pytest only, which is enough for tests/dags
    from hypothesis import settings

    settings.register_profile("project", deadline=None, derandomize=True)
    settings.register_profile("search", deadline=None, max_examples=3000)
    settings.load_profile("project")

LONG_FIRST = ("days", "pipeline", "lake", "providers", "maintenance", "quality", "warehouse", "sandbox")
"""Folders with files that take long: begun last, such a file would run on one worker while the others have nothing left to do."""


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # of pytest-xdist, which would begin with the files that have the most tests
        config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """For `-n auto`, one worker more than cores: in the first tier a worker waits a quarter of its time, for servers and processes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or "not slow" not in config.option.markexpr:
        return None
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONG_FIRST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: places.get(item.path.relative_to(here).parts[0], len(places)))


LIMITS = count()


@pytest.fixture(autouse=True)
def _own_limits(monkeypatch):
    # Not below tmp_path: most tests need none, and pytest looks through all of them for the name of the next.
    monkeypatch.setenv("MARKET_DATA_LIMITS", f"{HOME}/limits-{next(LIMITS)}")
