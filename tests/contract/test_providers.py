"""No provider without its contract."""

from importlib import import_module

import pytest

from market_data.hooks import PROVIDERS
from tests.contract.provider import NetworkContract, ProviderContract


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_a_test_class_that_inherits_the_contract(name):
    contract = ProviderContract if name == "mock" else NetworkContract
    tests = vars(import_module(f"tests.hooks.test_{name}")).items()
    (found,) = [item for called, item in tests if called.startswith("Test") and issubclass(item, contract)]
    assert found.provider == name
    inherited = {case for base in found.__mro__[1:] for case in vars(base) if case.startswith("test_")}
    assert inherited.isdisjoint(vars(found))  # nothing is overridden
