"""Fixtures that make runs quick: no waiting for a turn, DuckDB files that stay open, a quick checkpoint. A ``conftest.py`` imports them.

What they leave out has tests of its own: the pace in tests/http and the provider contract, sessions of DuckDB in tests/warehouse, Great
Expectations in tests/quality and the modules in ``WHOLE``.
"""

import pytest

from market_data.http.call_state import CallState
from market_data.http.rate_limit import Pacer
from market_data.quality import checkpoint
from market_data.warehouse.duckdb import DuckDBWarehouse
from tests.kept_warehouses import KeptWarehouses
from tests.quality.quick_validator import QuickValidator

WHOLE = ("test_every_feed", "test_runs", "test_unexpected_rows")
"""Modules whose runs Great Expectations itself judges."""
OPENED = (
    "test_every_feed",
    "test_duckdb",
    "test_processes_write_at_once",
    "test_asked_for_one_symbol_a_view_reads_one",
    "test_the_copy_of_a_duckdb_file_is_the_same",
)
"""Modules and tests that open the DuckDB file each time, as a task does."""


def _name(request):
    return request.module.__name__.rpartition(".")[2]


@pytest.fixture(autouse=True)
def _quick_validator(request, monkeypatch):
    if _name(request) not in WHOLE:
        monkeypatch.setattr(checkpoint, "Validator", QuickValidator)


@pytest.fixture(autouse=True)
def _kept_warehouses(request, monkeypatch):
    if not {_name(request), request.node.originalname}.isdisjoint(OPENED):
        yield
        return
    kept = KeptWarehouses(DuckDBWarehouse._session)
    monkeypatch.setattr(DuckDBWarehouse, "_session", lambda warehouse, *, write: kept.session(warehouse, write=write))
    yield
    kept.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Calls follow at once. Windows of an hour and longer are counted as ever."""
    monkeypatch.setattr(Pacer, "gap", 0.0)
    monkeypatch.setattr(CallState, "wait", lambda *_: 0.0)
