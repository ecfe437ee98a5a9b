"""No provider without its contract."""

from importlib import import_module
from pathlib import Path

import pytest

from market_data.providers.registry import PROVIDERS
from tests.contract.provider import NetworkContract, ProviderContract

HOOKS = Path(__file__).parents[1] / "providers"


def classes(name):
    """The classes that hold a provider to its contract: tests/providers/test_NAME.py, and perhaps test_NAME_*.py for more datasets."""
    files = [HOOKS / f"test_{name}.py", *sorted(HOOKS.glob(f"test_{name}_*.py"))]
    found = [
        item for file in files for item in vars(import_module(f"tests.providers.{file.stem}")).values() if isinstance(item, type)
    ]
    return [item for item in found if item.__name__.startswith("Test") and issubclass(item, ProviderContract)]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_test_classes_that_inherit_the_contract(name):
    found = classes(name)
    assert any(issubclass(item, ProviderContract if name == "mock" else NetworkContract) for item in found)
    for item in found:
        assert item.provider == name
        inherited = {case for base in item.__mro__[1:] for case in vars(base) if case.startswith("test_")}
        assert inherited.isdisjoint(vars(item))  # nothing is overridden
