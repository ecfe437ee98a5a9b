"""Notifiers and thresholds of messages, `alerts` in feeds.yaml; and `due` of a feed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta
from typing import Any

from market_data.core.calendar import CALENDARS, DAY, Calendar, at
from market_data.core.messages import shown, suggestion


@dataclass(frozen=True)
class Thresholds:
    """Amounts above which a message is sent.

    :param pending: share of a session's cells, 0 to 1, that may be pending when the session is due.
    :param quarantined: quarantined cells of a session, or of a year for older sessions.
    :param restated: rows that one run restated.
    :param spend_usd: charges of a provider in a calendar month (UTC), in US dollars; None: no limit.
    """

    pending: float = 0.5
    quarantined: int = 10
    restated: int = 10
    spend_usd: float | None = None


@dataclass(frozen=True)
class Kind:
    """A class of Airflow notifiers.

    :param path: of the class.
    :param package: the package that has it.
    :param conn_arg: the argument that takes the id of a connection.
    :param args: default arguments; Jinja templates of `title`, `text`, `todo`, `link`, `healed`, `id` and `message`, which has them all.
    """

    path: str
    package: str
    conn_arg: str
    args: Mapping[str, Any] = field(default_factory=dict)


_PROVIDERS = "airflow.providers"
_WORDS = "{{ message }}"
KINDS: Mapping[str, Kind] = {
    "smtp": Kind(
        f"{_PROVIDERS}.smtp.notifications.smtp.SmtpNotifier",
        "apache-airflow-providers-smtp",
        "smtp_conn_id",
        {"subject": "{{ title }}", "html_content": "<pre>{{ message | e }}</pre>"},
    ),
    "slack": Kind(
        f"{_PROVIDERS}.slack.notifications.slack.SlackNotifier",
        "apache-airflow-providers-slack",
        "slack_conn_id",
        {"text": _WORDS},
    ),
    "slack_webhook": Kind(
        f"{_PROVIDERS}.slack.notifications.slack_webhook.SlackWebhookNotifier",
        "apache-airflow-providers-slack",
        "slack_webhook_conn_id",
        {"text": _WORDS},
    ),
    "http": Kind(
        f"{_PROVIDERS}.http.notifications.http.HttpNotifier",
        "apache-airflow-providers-http",
        "http_conn_id",
        {
            "json": {
                "id": "{{ id }}",
                "title": "{{ title }}",
                "text": _WORDS,
                "link": "{{ link }}",
                "state": "{{ 'healed' if healed else 'open' }}",
            }
        },
    ),
    "pagerduty": Kind(
        f"{_PROVIDERS}.pagerduty.notifications.pagerduty.PagerdutyNotifier",
        "apache-airflow-providers-pagerduty",
        "pagerduty_events_conn_id",
        {
            "summary": "{{ title }}",
            "severity": "error",
            "source": "market-data",
            "dedup_key": "{{ id }}",
            "action": "{{ 'resolve' if healed else 'trigger' }}",
            "custom_details": _WORDS,
        },
    ),
    "opsgenie": Kind(
        f"{_PROVIDERS}.opsgenie.notifications.opsgenie.OpsgenieNotifier",
        "apache-airflow-providers-opsgenie",
        "opsgenie_conn_id",
        {"payload": {"message": "{{ title }}", "description": _WORDS, "alias": "{{ id }}"}},
    ),
}
"""Short name of a notifier -> its class."""

LOG = "log"
"""Name of the notifier that is always there."""


@dataclass(frozen=True)
class Notifier:
    """A notifier of feeds.yaml.

    :param name: tells it apart in the record of sent messages.
    :param notifier: a short name of ``KINDS``, or the path of a class.
    :param connection: id of the Airflow connection that has address and secrets; None: the class's default.
    :param args: further arguments of the class, Jinja templates; they override those of ``Kind.args``.
    """

    name: str
    notifier: str
    connection: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The path of the class."""
        return KINDS[self.notifier].path if self.notifier in KINDS else self.notifier


@dataclass(frozen=True)
class Alerts:
    """The section `alerts` of feeds.yaml."""

    thresholds: Thresholds = Thresholds()
    notifiers: tuple[Notifier, ...] = ()


LIMITS = tuple(one.name for one in fields(Thresholds))
NOTIFIER_KEYS = tuple(one.name for one in fields(Notifier))
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_SECRET = re.compile(r"passw|secret|token|authorization|api_?key|routing_?key|integration_?key", re.IGNORECASE)
_DUE = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
MOST = 1_000_000


def alert_problems(section: object) -> list[str]:
    """Return a sentence for each wrong value of the section; ``section`` is None without the key."""
    if section is None:
        return []
    if not isinstance(section, dict):
        return [f"alerts is {shown(section)}; names with values are needed"]
    known = (*LIMITS, "notifiers")
    problems = [
        f"alerts.{shown(name)[1:-1]} is unknown{suggestion(name, known)}; known names: {', '.join(known)}"
        for name in section
        if name not in known
    ]
    for name in LIMITS:
        value = section.get(name)
        if value is not None and (needed := _limit_needed(name, value)):
            problems.append(f"alerts.{name} is {shown(value)}; {needed}")
    return problems + _notifiers_problems(section.get("notifiers"))


def _limit_needed(name: str, value: object) -> str:
    """Return the allowed values of a threshold if ``value`` is not one of them."""
    if name == "pending":
        right = type(value) in (int, float) and 0 <= float(str(value)) <= 1
        return "" if right else "a share from 0 to 1 is needed"
    if name == "spend_usd":
        right = type(value) in (int, float) and 0 <= float(str(value)) <= MOST
        return "" if right else f"US dollars from 0 to {MOST:,}, or null, are needed"
    return "" if type(value) is int and 0 <= value <= MOST else f"a whole number from 0 to {MOST:,} is needed"


def _notifiers_problems(entries: object) -> list[str]:
    if entries is None:
        return []
    if not isinstance(entries, list):
        return [f"alerts.notifiers is {shown(entries)}; a list is needed"]
    problems: list[str] = []
    names: list[str] = []
    for number, entry in enumerate(entries, 1):
        where = f"alerts.notifiers {number}"
        if not isinstance(entry, dict):
            problems.append(f"{where} is {shown(entry)}; names with values are needed")
            continue
        problems += [f"{where}: {problem}" for problem in _notifier_problems(entry)]
        names.append(str(entry.get("name") or entry.get("notifier")))
    twice = sorted({name for name in names if names.count(name) > 1})
    return problems + [f"alerts.notifiers: two are named {shown(name)}; give one of them another name" for name in twice]


def _notifier_problems(entry: Mapping[Any, Any]) -> list[str]:
    problems = [
        f"unknown key {shown(key)}{suggestion(key, NOTIFIER_KEYS)}; known keys: {', '.join(NOTIFIER_KEYS)}"
        for key in entry
        if key not in NOTIFIER_KEYS
    ]
    kind, name, conn, args = (entry.get(key) for key in ("notifier", "name", "connection", "args"))
    if not isinstance(kind, str) or not (kind in KINDS or _PATH.fullmatch(kind)):
        problems.append(
            f"notifier is {shown(kind)}{suggestion(kind, KINDS)}; {', '.join(KINDS)}, or the path of a class, is needed"
        )
    path = isinstance(kind, str) and kind not in KINDS and bool(_PATH.fullmatch(kind))
    if (name is not None or path) and (not isinstance(name, str) or not _NAME.fullmatch(name) or name == LOG):
        problems.append(f"name is {shown(name)}; a-z, 0-9, _ and - are needed, at most 40, and not {LOG!r}")
    if conn is not None and not isinstance(conn, str):
        problems.append(f"connection is {shown(conn)}; the id of an Airflow connection is needed")
    if args is not None and not isinstance(args, dict):
        problems.append(f"args is {shown(args)}; names with values are needed")
    return problems + [f"args.{name} is not allowed; secrets belong in the connection" for name in _secret_names(args)]


def _secret_names(value: object) -> list[str]:
    """Return the names in ``value``, those inside too, that a secret would have."""
    if not isinstance(value, dict):
        return []
    own = [str(name) for name in value if _SECRET.search(str(name))]
    return own + [f"{name}.{inner}" for name, found in value.items() for inner in _secret_names(found)]


def read_alerts(section: Mapping[str, Any]) -> Alerts:
    """Return the section, which has no problems."""
    limits = {name: section[name] for name in LIMITS if name in section and (section[name] is not None or name == "spend_usd")}
    return Alerts(
        Thresholds(**limits),
        tuple(
            Notifier(entry.get("name") or entry["notifier"], entry["notifier"], entry.get("connection"), entry.get("args") or {})
            for entry in section.get("notifiers") or ()
        ),
    )


# -- due -----------------------------------------------------------------------------------------------------------------------------


def due_at(calendar: Calendar, session: date, due: str) -> datetime:
    """Return when a session is due, UTC: at ``due`` of the next day, in the exchange's time zone."""
    return at(session + DAY, time.fromisoformat(due), calendar.zone)


def due_problem(due: object, calendar_name: str, schedule: object) -> str:
    """Return what is wrong with ``due`` of a feed; empty if nothing is."""
    if not isinstance(due, str) or not _DUE.fullmatch(due):
        return f'due is {shown(due)}; a time of the next morning in quotes, "00:00" to "23:59", is needed'
    found = CALENDARS.get(calendar_name)
    if found is None or not isinstance(schedule, str):
        return ""
    for day in (date(2026, 1, 7), date(2026, 7, 8)):  # in winter and in summer
        try:
            begins = at(day, time.fromisoformat(schedule))
        except ValueError:
            return ""  # reported as the schedule's own problem
        if due_at(found, day, due) <= begins + timedelta(minutes=1):
            return f"due is {shown(due)}, before the schedule {schedule!r} (New York time); a later time is needed"
    return ""
