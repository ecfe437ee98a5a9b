"""Describe a provider without importing its hook: every parse of a DAG file reads this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from market_data.core import json_schema
from market_data.core.calendar import Calendar
from market_data.core.capabilities import Endpoint
from market_data.core.errors import ConfigError
from market_data.core.instruments import Kind, calendar_of, kind_of
from market_data.core.messages import shown, suggestion

MINUTES = 960
"""Minutes from 04:00 to 20:00 New York: the most one-minute bars that a share has in a session."""
REGULAR = 390
"""Minutes from 09:30 to 16:00 New York."""
BARS = ("ohlcv-1d", "ohlcv-5m", "ohlcv-1m")


@dataclass(frozen=True, slots=True)
class Option:
    """A provider's own setting, for feeds and for the trigger form.

    :param schema: JSON schema of the value: ``type``, ``enum``, ``pattern``, ``minimum``, ``maximum``.
    :param description: text for the trigger form.
    :param variant: a value other than the default changes the rows, so they are stored under a source of their own, see `source_of`.
    :param refused: values that a user may well try -> why they are not allowed.
    :param datasets: the datasets that it applies to; empty means all.
    """

    default: str | int | float | None
    schema: Mapping[str, Any]
    description: str
    variant: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionForm:
    """A provider's connection in Airflow's UI. Defined here because every Airflow component reads it.

    :param plans: names of the subscription plans, the default first.
    :param host: example of the host; empty hides the field.
    :param login_label: label of the login; empty hides it. ``key_label`` likewise.
    :param port: example of the port; empty where the host says it.
    :param extra: further keys of the connection's extra -> (label, JSON schema type).
    """

    plans: tuple[str, ...] = ()
    host: str = ""
    login_label: str = ""
    key_label: str = "API key"
    port: str = ""
    extra: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProviderSpec:
    """Everything that is known about a provider without importing its hook.

    :param name: the provider's name in DAG ids, connections, lake keys and warehouse rows.
    :param hook: ``module:Class``.
    :param serves: dataset -> the endpoints that serve it, best first. The hook leaves out those that an account lacks.
    :param options: its own settings, by name.
    :param label: its name for people.
    :param form: its connection in Airflow's UI.
    :param charges: each request is charged by the bytes that it returns; a feed then has no schedule unless its own stanza sets one.
    :param kind_of: returns the kind of a symbol of a source (see `source_of`) where its spelling means something else than elsewhere.
    :param own_source: returns the source for given options where the common rule does not fit, else None; see `source_of`.
    """

    name: str
    hook: str
    serves: Mapping[str, tuple[Endpoint, ...]]
    options: Mapping[str, Option] = field(default_factory=dict)
    label: str = ""
    form: ConnectionForm = ConnectionForm()
    charges: bool = False
    own_source: Callable[[Mapping[str, Any]], str | None] = lambda _: None
    kind_of: Callable[[str, str], Kind] = lambda symbol, _: kind_of(symbol)

    def serving(self, dataset: str) -> tuple[Endpoint, ...]:
        """Return the endpoints that serve ``dataset``, best first.

        :raises ConfigError: if there are none; names the datasets that the provider serves.
        """
        if dataset not in self.serves:
            raise ConfigError(f"{self.name} does not serve the dataset {dataset!r}; it serves: {', '.join(sorted(self.serves))}")
        return self.serves[dataset]

    def options_of(self, dataset: str) -> Mapping[str, Option]:
        """Return the options that apply to ``dataset``."""
        return {name: option for name, option in self.options.items() if not option.datasets or dataset in option.datasets}

    def calendar_of(self, symbol: str, source: str) -> Calendar:
        """Return the calendar of a symbol's sessions.

        :param source: where its rows are stored, see `source_of`.
        """
        return calendar_of(symbol, self.kind_of(symbol, source))

    def option(self, options: Mapping[str, Any], name: str) -> Any:
        """Return the value of an option, or its default where it is absent or None."""
        value = options.get(name)
        return self.options[name].default if value is None else value


def source_of(spec: ProviderSpec, options: Mapping[str, Any]) -> str:
    """Return the name under which rows are stored.

    It is the provider's, followed by ``~`` and each option that changes values.
    """
    own = spec.own_source(options)
    if own is not None:
        return own
    values = {name: spec.option(options, name) for name, option in spec.options.items() if option.variant}
    changed = [str(value) for name, value in values.items() if value != spec.options[name].default]
    return "~".join([spec.name, *changed])


def one_of(description: str, *allowed: str, refused: Mapping[str, str] | None = None) -> Option:
    """Return an option with a few allowed values, the default first; each of the others changes the rows."""
    return Option(allowed[0], {"type": "string", "enum": list(allowed)}, description, refused=refused or {})


def option_problems(spec: ProviderSpec, given: Mapping[str, Any]) -> Iterable[str]:
    """Yield a sentence for each of the ``given`` options that is unknown or has a wrong value."""
    for name, value in given.items():
        if name not in spec.options:
            near = suggestion(name, spec.options)
            yield f"{name} is unknown{near}; options of {spec.name}: {', '.join(spec.options) or 'none'}"
        elif (problem := option_problem(spec.options[name], value)) is not None:
            yield f"{name} is {shown(value)}; {problem}"


def option_problem(option: Option, value: Any) -> str | None:
    """Return what is allowed where ``value`` is not, else None."""
    if json_schema.fits(value, option.schema):
        return None
    why = f" ({option.refused[value]})" if isinstance(value, str) and value in option.refused else ""
    return f"{json_schema.needed(option.schema)}{why}"
