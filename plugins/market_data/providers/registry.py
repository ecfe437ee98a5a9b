"""The providers, by name. Adding one: a file here, an entry below, a test file that inherits the contract suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from market_data.core import json_schema
from market_data.core.capabilities import Endpoint
from market_data.core.errors import ConfigError
from market_data.providers.alpaca.spec import SPEC as ALPACA
from market_data.providers.databento.spec import SPEC as DATABENTO
from market_data.providers.fmp.spec import SPEC as FMP
from market_data.providers.ib.spec import SPEC as IB
from market_data.providers.mock.spec import SPEC as MOCK
from market_data.providers.polygon.spec import SPEC as POLYGON
from market_data.providers.spec import Option, ProviderSpec

if TYPE_CHECKING:
    from market_data.providers.base import ProviderHook

PROVIDERS: dict[str, ProviderSpec] = {spec.name: spec for spec in (MOCK, POLYGON, ALPACA, FMP, DATABENTO, IB)}


def known_provider(name: str) -> ProviderSpec:
    """The provider called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    if name not in PROVIDERS:
        raise ConfigError(f"provider is {name!r}; known providers: {', '.join(sorted(PROVIDERS))}")
    return PROVIDERS[name]


def provider(name: str) -> type[ProviderHook]:
    """The hook class of the provider called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    module, attribute = known_provider(name).hook.split(":")
    found: type[ProviderHook] = getattr(import_module(module), attribute)
    return found


def serving(name: str, dataset: str) -> tuple[Endpoint, ...]:
    """The endpoints of a provider that serve ``dataset``, best first.

    :raises ConfigError: if there are none; says which datasets the provider serves.
    """
    served = known_provider(name).serves
    if dataset not in served:
        raise ConfigError(f"{name} does not serve the dataset {dataset!r}; it serves: {', '.join(sorted(served))}")
    return served[dataset]


def options_of(name: str, dataset: str) -> Mapping[str, Option]:
    """The settings of a provider that are for ``dataset``."""
    options = known_provider(name).options
    return {key: option for key, option in options.items() if not option.datasets or dataset in option.datasets}


def option_problems(options: Mapping[str, Option], given: Mapping[str, Any], owner: str) -> Iterable[str]:
    """A sentence for each of the ``given`` options that is unknown or has a wrong value.

    :param owner: the provider's name, for the message.
    """
    for name, value in given.items():
        if name not in options:
            yield f"{name} is unknown; options of {owner}: {', '.join(options) or 'none'}"
        elif (problem := option_problem(options[name], value)) is not None:
            yield f"{name} is {value!r}; {problem}"


def option_problem(option: Option, value: Any) -> str | None:
    """What is wrong with a value, and what is allowed; None where nothing is."""
    if json_schema.fits(value, option.schema):
        return None
    why = f" ({option.refused[value]})" if isinstance(value, str) and value in option.refused else ""
    return f"{json_schema.needed(option.schema)}{why}"
