"""The memory of the task ``check``, with Great Expectations itself."""

import pytest

from benchmarks.check import measure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_ten_years_of_523_symbols_take_400_megabytes():
    found = measure("large")
    assert found["rows"] == 523 * 2_500
    # Measured: 365 MB, of which 163 before the task and 110 for Great Expectations; 840 MB with all rows at once.
    assert found["peak_mb"] <= 400
