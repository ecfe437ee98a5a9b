"""No dataset without its contract."""

from importlib import import_module

import pytest

from market_data.core.errors import ConfigError
from market_data.datasets.registry import DATASETS, dataset
from tests.contract.dataset import DatasetContract


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_test_class_that_inherits_the_contract(name):
    items = vars(import_module(f"tests.datasets.test_{name.replace('-', '_')}")).values()
    (found,) = [item for item in items if isinstance(item, type) and item.__name__.startswith("Test")]
    assert issubclass(found, DatasetContract)
    assert found.name == dataset(name).name == name
    inherited = {case for base in found.__mro__[1:] for case in vars(base) if case.startswith("test_")}
    assert inherited.isdisjoint(vars(found))  # nothing is overridden


def test_no_two_datasets_share_a_lake_folder():
    assert len({dataset(name).folder for name in DATASETS}) == len(DATASETS)


def test_an_unknown_dataset_says_which_there_are():
    with pytest.raises(ConfigError, match="dataset is 'news'; known datasets: .*fundamentals.*trades"):
        dataset("news")
