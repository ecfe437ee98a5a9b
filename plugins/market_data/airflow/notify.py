"""Airflow notifiers by name and connection, as `alerts.notifiers` in feeds.yaml lists them.

The log is always one of them.
"""

from __future__ import annotations

import inspect
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from market_data.config.alerts import KINDS, LOG, Alerts, Kind, Notifier
from market_data.core.errors import ConfigError
from market_data.core.messages import shown

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier

    from market_data.alerts.cause import Message
    from market_data.alerts.sent import Send

log = logging.getLogger(__name__)


def senders(alerts: Alerts) -> dict[str, Send]:
    """Return a function per notifier that sends a message, or raises; the log is the first."""
    return {LOG: _to_log, **{one.name: sender(one) for one in alerts.notifiers}}


def sender(notifier: Notifier) -> Send:
    """Return a function that sends a message with an Airflow notifier."""

    def send(message: Message) -> None:
        # Not `__call__`: it replaces names of the message by the notifier's own templates, and logs errors with what they quote.
        built = build(notifier)
        built.render_template_fields(dict(message.values()))
        built.notify(dict(message.values()))

    return send


def build(notifier: Notifier) -> BaseNotifier:
    """Return the Airflow notifier. Sends nothing.

    :raises ConfigError: if its package is not installed, the class does not exist or is not a notifier, or an argument is wrong.
    """
    kind = KINDS.get(notifier.notifier)
    found = _class_of(notifier, kind)
    args = {**(kind.args if kind else {}), **notifier.args}
    if notifier.connection is not None:
        args[kind.conn_arg if kind else _conn_arg(found, notifier)] = notifier.connection
    try:
        inspect.signature(found).bind(**args)
        return found(**args)
    except TypeError as error:
        raise ConfigError(f"alerts.notifiers: args of {notifier.name}: {error}") from None


def _class_of(notifier: Notifier, kind: Kind | None) -> Any:
    from airflow.sdk import BaseNotifier

    module, _, name = notifier.path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        package = kind.package if kind else (error.name or module)
        raise ConfigError(
            f"alerts.notifiers: {notifier.name} needs a package that is not installed; pip install {package}"
        ) from None
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise ConfigError(
            f"alerts.notifiers: notifier of {notifier.name} is {shown(notifier.path)}; a class of notifiers is needed"
        )
    return found


def _conn_arg(found: Any, notifier: Notifier) -> str:
    """Return the argument of a class that takes the id of a connection."""
    names = [name for name in inspect.signature(found).parameters if name.endswith("conn_id")]
    if len(names) != 1:
        raise ConfigError(
            f"alerts.notifiers: connection of {notifier.name} is {shown(notifier.connection)}; "
            f"the class has {', '.join(names) or 'no such argument'}: name it in args"
        )
    return names[0]


def _to_log(message: Message) -> None:
    log.warning("%s", message)


def base_url() -> str:
    """Return the address of this Airflow's UI, of its setting ``[api] base_url``; empty without it."""
    from airflow.configuration import conf

    found: str = conf.get("api", "base_url", fallback="")
    return found
