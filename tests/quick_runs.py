"""Fixtures that make runs quick: no waiting for a turn, DuckDB files that stay open, a quick checkpoint. A ``conftest.py`` imports them.

What they leave out has tests of its own: the pace in tests/http and the provider contract, sessions of DuckDB in tests/warehouse, Great
Expectations in tests/quality and what ``WHOLE`` names.
"""

import pytest

from market_data.http.call_state import CallState
from market_data.http.rate_limit import Pacer
from market_data.quality import checkpoint
from market_data.warehouse.duckdb import DuckDBWarehouse
from tests.kept_warehouses import KeptWarehouses
from tests.quality.quick_validator import QuickValidator

WHOLE = (
    "test_every_feed",
    "test_everything_asked_is_landed_checked_loaded_and_recorded",
    "test_doubtful_sessions_are_refused_and_the_rest_is_loaded",
    "test_what_the_checkpoint_warns_of_is_a_warning_of_the_run",
    "test_a_symbols_year_that_lacks_most_of_its_bars_is_refused_alone",
    "test_pages_of_great_expectations_are_kept_on_request_only",
)
"""Modules and tests whose runs Great Expectations itself judges: each dataset of bars, and each kind of verdict."""
OPENED = (
    "test_every_feed",
    "test_duckdb",
    "test_processes_write_at_once",
    "test_asked_for_one_symbol_a_view_reads_one",
    "test_the_copy_of_a_duckdb_file_is_the_same",
)
"""Modules and tests that open the DuckDB file each time, as a task does."""


def _is_among(request, names):
    """Return True where ``names`` has the test or its module."""
    return not {request.module.__name__.rpartition(".")[2], request.node.originalname}.isdisjoint(names)


@pytest.fixture(autouse=True)
def _quick_validator(request, monkeypatch):
    if not _is_among(request, WHOLE):
        monkeypatch.setattr(checkpoint, "Validator", QuickValidator)


@pytest.fixture(autouse=True)
def _kept_warehouses(request, monkeypatch):
    if _is_among(request, OPENED):
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
