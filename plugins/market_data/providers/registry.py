"""List the providers: the built-in ones, and those of installed packages (entry points)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from market_data.core.capabilities import Endpoint
from market_data.core.errors import ConfigError
from market_data.core.instruments import CalendarOf, calendar_of, kind_of
from market_data.providers.spec import Option, ProviderSpec

if TYPE_CHECKING:
    from market_data.providers.base import ProviderHook

BUILT_IN = ("mock", "polygon", "alpaca", "fmp", "databento", "ib")
"""Names of the packages beside this file; each has a ``spec.py`` with its ``SPEC``."""

GROUP = "market_data.providers"
"""Entry point group of further providers. Each entry loads a `ProviderSpec`: ``acme = "acme_market_data.spec:SPEC"``."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def providers() -> dict[str, ProviderSpec]:
    """Return all providers by name, the built-in ones first.

    :raises ConfigError: naming every entry point that cannot be used.
    """
    found = {name: import_module(f"market_data.providers.{name}.spec").SPEC for name in BUILT_IN}
    return {**found, **installed(entry_points(group=GROUP))}


def installed(entries: Iterable[EntryPoint]) -> dict[str, ProviderSpec]:
    """Return the providers that entry points name.

    :raises ConfigError: naming every entry point that cannot be used.
    """
    found: dict[str, ProviderSpec] = {}
    values: dict[str, str] = {}
    problems = []
    for entry in entries:
        if values.get(entry.name) == entry.value:
            continue  # one distribution can be on the path twice
        try:
            if entry.name in found:
                raise ConfigError(f"the name {entry.name!r} is already taken by {values[entry.name]}")  # noqa: TRY301
            found[entry.name] = _loaded(entry)
            values[entry.name] = entry.value
        except ConfigError as error:
            package = entry.dist.name if entry.dist else "an unknown package"
            problems.append(f"entry point {entry.name!r} ({entry.value}) of {package} in group {GROUP}: {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return found


def _loaded(entry: EntryPoint) -> ProviderSpec:
    """:raises ConfigError: if the entry does not load, or loads something other than a spec of that name."""
    if entry.name in BUILT_IN:
        raise ConfigError(f"{entry.name!r} is a built-in provider; choose another name")
    if not _NAME.fullmatch(entry.name):
        raise ConfigError("the name may have a-z, 0-9 and _, the first a letter")
    try:
        spec = entry.load()
    except Exception as error:  # noqa: BLE001 - a package can fail in any way when it is imported
        raise ConfigError(f"it cannot be loaded: {type(error).__name__}: {error}") from None
    if not isinstance(spec, ProviderSpec):
        raise ConfigError(f"it is of type {type(spec).__name__}; a market_data.providers.spec.ProviderSpec is expected")
    if spec.name != entry.name:
        raise ConfigError(f"its spec is named {spec.name!r}; both names must be equal")
    return spec


def calendar_of_source(source: str) -> CalendarOf:
    """Return a function that returns the calendar of a symbol of ``source``, e.g. ``databento~GLBX.MDP3``."""
    spec = providers().get(source.partition("~")[0])
    return calendar_of if spec is None else lambda symbol: spec.calendar_of(symbol, source)


def signed_of_source(source: str) -> Callable[[str], bool]:
    """Return a function that tells if the prices of a symbol of ``source`` may be zero or negative."""
    spec = providers().get(source.partition("~")[0])
    return lambda symbol: (kind_of(symbol) if spec is None else spec.kind_of(symbol, source)).signed_prices


def known_provider(name: str) -> ProviderSpec:
    """Return the spec of the provider called ``name``.

    :raises ConfigError: if there is none; names the known ones.
    """
    found = providers().get(name)
    if found is None:
        raise ConfigError(f"provider is {name!r}; known providers: {', '.join(sorted(providers()))}")
    return found


def provider(name: str) -> type[ProviderHook]:
    """Return the hook class of the provider called ``name``. Importing it imports the vendor's client.

    :raises ConfigError: if there is none; names the known ones. If the vendor's client is not installed.
    """
    module, attribute = known_provider(name).hook.split(":")
    try:
        found: type[ProviderHook] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"provider {name}: package {error.name} is not installed on this machine") from None
    return found


def serving(name: str, dataset: str) -> tuple[Endpoint, ...]:
    """Return the endpoints of a provider that serve ``dataset``, best first.

    :raises ConfigError: if there are none; names the datasets that the provider serves.
    """
    return known_provider(name).serving(dataset)


def options_of(name: str, dataset: str) -> Mapping[str, Option]:
    """Return a provider's options that apply to ``dataset``."""
    return known_provider(name).options_of(dataset)
