"""A lake per test, once in an S3 server and once in a folder; runs are quick."""

from tests.lake.conftest import lake, s3, s3_server  # noqa: F401 - fixtures
from tests.quick_runs import _kept_warehouses, _no_waiting, _quick_validator  # noqa: F401 - fixtures
