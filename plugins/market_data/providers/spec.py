"""What is known of a provider without importing its hook, as every parse of a DAG file must do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from market_data.core.capabilities import Endpoint

MINUTES = 960
"""Minutes of an exchange's day, 04:00 to 20:00 New York: most one-minute bars that a share has in a session."""
REGULAR = 390
"""Those from 09:30 to 16:00."""
BARS = ("ohlcv-1d", "ohlcv-5m", "ohlcv-1m")


@dataclass(frozen=True, slots=True)
class Option:
    """A provider's own setting, as feeds and the trigger form have it.

    :param schema: JSON schema of the value: ``type``, ``enum``, ``pattern``, ``minimum``, ``maximum``.
    :param description: what the form says of it.
    :param datasets: those that it is for; none named: all.
    :param variant: a value other than the default changes what comes, so its rows are kept apart: ``alpaca~iex``.
    :param refused: values that a user may well try -> why they are none.
    """

    default: str | int | float | None
    schema: Mapping[str, Any]
    description: str
    variant: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionForm:
    """How Airflow's UI shows a connection of the provider. Kept here because every Airflow component reads it.

    :param plans: names of the subscription plans, the default first.
    :param host: example of the host; empty hides the field.
    :param login_label: label of the login; empty hides it. ``key_label`` likewise.
    :param port: whether the port is shown.
    :param extra: further keys of the connection's extra -> (label, JSON schema type).
    """

    plans: tuple[str, ...] = ()
    host: str = ""
    login_label: str = ""
    key_label: str = "API key"
    port: bool = False
    extra: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProviderSpec:
    """All that is known of a provider without importing its hook, as every parse of a DAG file must do.

    :param name: as in DAG ids and wherever ``provider`` stands.
    :param hook: ``module:Class``.
    :param serves: dataset -> the endpoints that serve it, best first. What an account lacks of them its hook leaves out.
    :param options: its own settings, by name.
    :param label: its name for people.
    :param form: its connection in Airflow's UI.
    """

    name: str
    hook: str
    serves: Mapping[str, tuple[Endpoint, ...]]
    options: Mapping[str, Option] = field(default_factory=dict)
    label: str = ""
    form: ConnectionForm = ConnectionForm()


def one_of(description: str, *allowed: str, refused: Mapping[str, str] | None = None) -> Option:
    """An option of a few values, the default first; each of the others changes what comes."""
    return Option(allowed[0], {"type": "string", "enum": list(allowed)}, description, refused=refused or {})
