"""The memory of a fetch task stays flat, however much a batch brings."""

import pytest

from benchmarks.fetch_memory import measure

pytestmark = pytest.mark.slow

MOST = 300  # MB


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("provider", ["alpaca", "polygon"])
def test_a_batch_of_400_000_minutes_takes_less_than_300_mb(provider, grain):
    found = measure(provider, grain)
    assert found["rows"] > 390_000
    assert found["before_mb"] < found["peak_mb"] < MOST
