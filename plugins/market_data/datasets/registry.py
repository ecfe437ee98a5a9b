"""The datasets, by name. To add one: a module in this folder, a line below, a test module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from market_data.core.run import GRAINS, Grain

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
    "symbol-changes": "market_data.datasets.symbol_changes:SYMBOL_CHANGES",
}

WITHOUT_SESSION_FILES = frozenset({"fundamentals", "corporate-actions", "symbol-changes"})
"""Datasets with a few rows per symbol, which are read whole. Kept here, so that a DAG file need not import the datasets."""


def grains_of(name: str) -> tuple[Grain, ...]:
    """Return the values of ``file_grain`` that the dataset ``name`` may have."""
    return tuple(grain for grain in GRAINS if grain != "session" or name not in WITHOUT_SESSION_FILES)


def dataset(name: str) -> Dataset:
    """Return the dataset ``name``.

    :raises ConfigError: if it is unknown; lists the known ones.
    """
    from market_data.core.errors import ConfigError

    if name not in DATASETS:
        raise ConfigError(f"dataset is {name!r}; known datasets: {', '.join(sorted(DATASETS))}")
    module, attribute = DATASETS[name].split(":")
    found: Dataset = getattr(import_module(module), attribute)
    return found
