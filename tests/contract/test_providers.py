"""Hold every registered provider to its contract."""

from importlib import import_module
from pathlib import Path

import pytest

from market_data.providers.registry import BUILT_IN, provider
from tests.contract.provider import NetworkContract, ProviderContract

TESTS = Path(__file__).parents[1] / "providers"


def classes(name):
    """Return the classes that hold a provider to its contract: tests/providers/test_NAME.py, and test_NAME_*.py for more datasets."""
    files = [TESTS / f"test_{name}.py", *sorted(TESTS.glob(f"test_{name}_*.py"))]
    found = [
        item for file in files for item in vars(import_module(f"tests.providers.{file.stem}")).values() if isinstance(item, type)
    ]
    return [item for item in found if item.__name__.startswith("Test") and issubclass(item, ProviderContract)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_provider_has_test_classes_that_inherit_the_contract(name):
    found = classes(name)
    assert any(issubclass(item, ProviderContract if name == "mock" else NetworkContract) for item in found)
    for item in found:
        assert item.provider == name
        inherited = {case for base in item.__mro__[1:] for case in vars(base) if case.startswith("test_")}
        assert inherited.isdisjoint(vars(item))  # nothing is overridden


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_hook_carries_the_spec_that_the_registry_lists(name):
    assert provider(name).spec.name == name
