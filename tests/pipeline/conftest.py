"""Servers of the vendors; runs are quick."""

import pytest

from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from sandbox.stack.settings import SAMPLE_API_KEY
from tests.quick_runs import _kept_warehouses, _no_waiting, _quick_validator  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def api():
    with SampleApi(api_key=SAMPLE_API_KEY) as api:
        yield api


@pytest.fixture(scope="module")
def gateway():
    with SampleGateway() as gateway:
        yield gateway
