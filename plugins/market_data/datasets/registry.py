"""The datasets, by name. Adding one: a file here, a line below, a test file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from market_data.datasets.base import Dataset

DATASETS = {
    "ohlcv-1d": "market_data.datasets.bars:OHLCV_1D",
    "ohlcv-5m": "market_data.datasets.bars:OHLCV_5M",
    "ohlcv-1m": "market_data.datasets.bars:OHLCV_1M",
    "trades": "market_data.datasets.ticks:TRADES",
    "tbbo": "market_data.datasets.ticks:TBBO",
    "statistics": "market_data.datasets.ticks:STATISTICS",
    "fundamentals": "market_data.datasets.fundamentals:FUNDAMENTALS",
    "corporate-actions": "market_data.datasets.corporate_actions:CORPORATE_ACTIONS",
}


def dataset(name: str) -> Dataset:
    """The dataset called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    from market_data.core.errors import ConfigError

    if name not in DATASETS:
        raise ConfigError(f"dataset is {name!r}; known datasets: {', '.join(sorted(DATASETS))}")
    module, attribute = DATASETS[name].split(":")
    found: Dataset = getattr(import_module(module), attribute)
    return found
