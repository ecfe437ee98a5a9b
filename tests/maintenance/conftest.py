"""A lake per test, once in an S3 server and once in a folder; and a quick checkpoint.

Great Expectations itself judges runs in tests/pipeline and tests/quality.
"""

import pytest

from market_data.quality import checkpoint
from tests.lake.conftest import lake, s3, s3_server  # noqa: F401 - fixtures
from tests.quality.quick_validator import QuickValidator


@pytest.fixture(autouse=True)
def _quick_validator(monkeypatch):
    monkeypatch.setattr(checkpoint, "Validator", QuickValidator)
