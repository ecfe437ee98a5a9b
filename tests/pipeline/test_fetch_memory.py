"""The memory of a fetch task stays flat, however much a batch brings, whoever the provider is."""

import pytest

from benchmarks.fetch_memory import PROVIDERS, measure

pytestmark = pytest.mark.slow

MOST = 250  # MB; 246 were measured, of which libraries and Airflow are 212


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("provider", ["alpaca", "polygon", "databento"])
def test_a_batch_of_700_000_minutes_takes_less_than_250_mb(provider, grain):
    found = measure(provider, grain)
    assert found["rows"] > 700_000
    assert found["before_mb"] < found["peak_mb"] < MOST


@pytest.mark.parametrize("provider", sorted({*PROVIDERS} - {"alpaca", "polygon", "databento"}))
def test_other_providers_take_less_than_250_mb(provider):
    found = measure(provider, "year", symbols=20)
    assert found["rows"] > 50_000
    assert found["before_mb"] < found["peak_mb"] < MOST
