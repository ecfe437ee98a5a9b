"""Servers of the vendors, and for the stories a quick checkpoint.

Great Expectations itself judges the runs of the modules in ``WHOLE``, and tests/quality.
"""

import pytest

from market_data.http.rate_limit import Pacer
from market_data.quality import checkpoint
from market_data.warehouse.duckdb import DuckDBWarehouse
from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from sandbox.stack.settings import SAMPLE_API_KEY
from tests.pipeline.kept_warehouses import KeptWarehouses
from tests.quality.quick_validator import QuickValidator

WHOLE = ("test_every_feed", "test_runs", "test_unexpected_rows")
KEPT = ("test_broken_objects", "test_corporate_actions", "test_unknown_symbols")
"""Modules with many runs, whose DuckDB file stays open until the test ends."""


@pytest.fixture(autouse=True)
def _quick_validator(request, monkeypatch):
    if request.module.__name__.rpartition(".")[2] not in WHOLE:
        monkeypatch.setattr(checkpoint, "Validator", QuickValidator)


@pytest.fixture(autouse=True)
def _kept_warehouses(request, monkeypatch):
    if request.module.__name__.rpartition(".")[2] not in KEPT:
        yield
        return
    kept = KeptWarehouses(DuckDBWarehouse._session)
    monkeypatch.setattr(DuckDBWarehouse, "_session", lambda warehouse, *, write: kept.session(warehouse, write=write))
    yield
    kept.close()


@pytest.fixture(autouse=True)
def _no_gap(monkeypatch):
    """Calls of a slot follow at once: tests/http and the provider contract test the gap between them."""
    monkeypatch.setattr(Pacer, "gap", 0.0)


@pytest.fixture(scope="module")
def api():
    with SampleApi(api_key=SAMPLE_API_KEY) as api:
        yield api


@pytest.fixture(scope="module")
def gateway():
    with SampleGateway() as gateway:
        yield gateway
