"""For all tests: an Airflow home of their own, limiter state of their own, no time limit on a property (the machine may be busy)."""

import contextlib
import os
import tempfile

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


@pytest.fixture(autouse=True)
def _own_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_LIMITS", str(tmp_path / "limits"))
