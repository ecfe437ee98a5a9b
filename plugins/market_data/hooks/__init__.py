"""The providers, by name. Adding one: a file here, a line below, a test file that inherits the contract suite."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from market_data.errors import ConfigError
from market_data.types import Shape

if TYPE_CHECKING:
    from market_data.hooks.base import ProviderHook

PROVIDERS = {
    "mock": "market_data.hooks.mock:MockHook",
    "polygon": "market_data.hooks.polygon:PolygonHook",
}

OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "mock": {},
    "polygon": {"adjustment": ("raw", "split")},
}
"""The providers' own settings, as the trigger form shows them: name -> allowed values, the default first. They stand here because
DAGs are parsed without importing the hooks."""

ENDPOINTS: dict[str, dict[str, dict[str, Shape]]] = {
    "mock": {"ohlcv-1d": {"market": Shape.MARKET, "symbol": Shape.SYMBOL}},
    "polygon": {"ohlcv-1d": {"grouped": Shape.MARKET, "range": Shape.SYMBOL}},
}
"""Provider -> dataset -> its endpoints, best first, and what one call of each answers; for the same reason here. The hooks'
``capabilities`` say the same."""


def provider(name: str) -> type[ProviderHook]:
    """The hook class of the provider called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    if name not in PROVIDERS:
        raise ConfigError(f"provider is {name!r}; known providers: {', '.join(sorted(PROVIDERS))}")
    module, attribute = PROVIDERS[name].split(":")
    found: type[ProviderHook] = getattr(import_module(module), attribute)
    return found
