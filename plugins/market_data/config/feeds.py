"""Read and validate the feeds of ``include/feeds.yaml``.

Every parse of the DAG file does this, so nothing heavy is imported.

If ``MARKET_DATA_ENV`` names an environment, say ``prod``, the file ``feeds.prod.yaml`` beside it is an overlay. Its ``defaults``
override single keys of the defaults; its feeds override single keys of the feed of the same provider, dataset and name, ``params``,
``options`` and ``retry`` key by key too. A feed without a match is added; ``enabled: false`` removes one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from market_data.config.alerts import Alerts, alert_problems, due_problem, read_alerts
from market_data.config.indices import INDEX_NAME, PREFIX
from market_data.config.param_checks import check_params
from market_data.config.retention import KINDS, retention_problems
from market_data.config.thresholds import threshold_problems
from market_data.config.universes import known
from market_data.config.yaml_file import read_yaml
from market_data.core import settings
from market_data.core.calendar import CALENDARS, EXCHANGE, FIRST, LAST, NEW_YORK
from market_data.core.dates import read_date
from market_data.core.errors import ConfigError
from market_data.core.messages import shown, suggestion
from market_data.core.paths import INCLUDE
from market_data.core.retry_policy import retry_problems
from market_data.core.run import CATCH_UP_SESSIONS
from market_data.datasets.registry import DATASETS, grains_of
from market_data.providers.registry import options_of, providers
from market_data.providers.spec import Option, ProviderSpec, option_problem, source_of

ENVIRONMENT = "MARKET_DATA_ENV"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Feed:
    """A provider and a dataset, with the defaults of its runs.

    :param name: tells feeds of one provider and dataset apart; empty for the only one, or the main one.
    :param schedule: New York time ``HH:MM`` after which a session is fetched, from its close to 23:59; None: no schedule.
    :param params: run param -> default where it differs from the project's; of JSON types.
    :param options: the provider's own settings.
    :param retry: fields of the retry policy of a call that differ from the provider's, see `RetryPolicy`.
    :param catch_up_sessions: how many of the last completed sessions get a run where they were missed; at least 1.
    :param run_timeout: how long a task may run, and how long the batches of a run may take from the start of the first one.
    :param calendar: the calendar of its schedule. Each symbol has the sessions of its own.
    :param checks: thresholds of the checkpoint that differ from the defaults, see `quality.metric_rules.Thresholds`.
    :param due: time ``HH:MM`` of the next morning, in the time zone of ``calendar``, by which a session is complete; None: never late.
    :param fallback: another provider of the dataset, whose feed runs for the cells that this one failed to fetch.
    """

    provider: str
    dataset: str
    universe: str
    schedule: str | None
    start_date: date
    conn_id: str = ""
    pool: str = ""
    provider_level: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=dict)
    fallback: str | None = None
    catch_up_sessions: int = CATCH_UP_SESSIONS
    run_timeout: timedelta = timedelta(hours=4)
    name: str = ""
    calendar: str = EXCHANGE
    checks: Mapping[str, Any] = field(default_factory=dict)
    due: str | None = None

    @property
    def dag_id(self) -> str:
        return dag_id(self.provider, self.dataset, self.name)

    @property
    def fallback_dag_id(self) -> str | None:
        """The id of the DAG of the fallback's feed; None without one."""
        return dag_id(self.fallback, self.dataset) if self.fallback else None


def dag_id(provider: str, dataset: str, name: str = "") -> str:
    """Return the id of the DAG of a feed.

    For example ``polygon_ohlcv_1d``; with the name ``etfs``, ``polygon_ohlcv_1d_etfs``.
    """
    return "_".join(filter(None, (provider, dataset.replace("-", "_"), name)))


TOP = ("defaults", "feeds", "retention", "alerts")
KEYS = (*Feed.__dataclass_fields__, "enabled")
REQUIRED = ("provider", "dataset", "universe", "start_date")
_KINDS = {
    **dict.fromkeys(("provider", "dataset", "universe", "conn_id", "pool", "fallback", "calendar", "name"), str),
    **dict.fromkeys(("provider_level", "enabled"), bool),
    **dict.fromkeys(("params", "options", "retry", "checks"), dict),
}
_SCHEDULE = re.compile(r"(1[6-9]|2[0-3]):[0-5][0-9]")  # as SessionTimetable requires; that module is too heavy to import here
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,39}", re.ASCII)
_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,200}", re.ASCII)  # as Airflow requires
_DURATION = re.compile(r"(?:(?P<hours>\d{1,3})h)?(?:(?P<minutes>\d{1,5})m)?", re.ASCII)
MOST_CAUGHT_UP = 252
_NEEDED = {str: "text is needed", bool: "true or false is needed", dict: "names with values are needed"}


def load_feeds(path: Path | None = None) -> tuple[Feed, ...]:
    """Return all enabled feeds, in the order of the file, then those that only the overlay has.

    :param path: by default ``include/feeds.yaml``; the overlay is beside it.
    :raises ConfigError: listing every problem of the files.
    """
    path = path or INCLUDE / "feeds.yaml"
    overlay = _overlay(path)
    problems: list[str] = []
    defaults, entries = _read(path, problems)
    if overlay:
        over_defaults, over_entries = _read(overlay, problems)
        defaults, entries = _merged(defaults, over_defaults), reduce(_laid_over, over_entries, entries)
    if not entries:
        problems.append("no feeds are defined; a list under the key 'feeds' is needed")
    feeds = []
    today = datetime.now(NEW_YORK).date()
    for number, entry in enumerate((_merged(_defaults_of(entry, defaults), entry) for entry in entries), 1):
        found = _problems(entry, today)
        problems += [f"{_name(number, entry)}: {problem}" for problem in found]
        if not found and entry.pop("enabled", None) is not False:
            feeds.append(_feed(entry))
    problems += _clashes(feeds)
    if problems:
        files = f"{path.name} with {overlay.name}" if overlay else path.name
        lines = "".join(f"\n  {n}. {problem}" for n, problem in enumerate(problems, 1))
        raise ConfigError(f"{files}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}:{lines}")
    return tuple(feeds)


def load_retention(path: Path | None = None) -> dict[str, int | None]:
    """Return the age in days from which objects of each kind are deleted; None: they are kept.

    The kinds are those of `config.retention.KINDS`.

    :param path: as for `load_feeds`; the overlay overrides single ages.
    :raises ConfigError: listing every problem of the files.
    """
    ages: dict[str, int | None] = dict.fromkeys(KINDS)
    for section in read_sections("retention", path):
        ages |= section
    return ages


def load_alerts(path: Path | None = None) -> Alerts:
    """Return the thresholds and notifiers of messages; keys of the overlay override those of the file.

    :param path: as for `load_feeds`.
    :raises ConfigError: listing every problem of the files.
    """
    section: Entry = {}
    for found in read_sections("alerts", path):
        section |= found
    return read_alerts(section)


def read_sections(name: str, path: Path | None = None) -> list[Entry]:
    """Return a section of the file and that of its overlay, as written; empty where a file lacks it.

    :param path: as for `load_feeds`.
    :raises ConfigError: listing every problem of the files.
    """
    path = path or INCLUDE / "feeds.yaml"
    load_feeds(path)
    return [(read_yaml(file) or {}).get(name) or {} for file in filter(None, (path, _overlay(path)))]


# -- files ---------------------------------------------------------------------------------------------------------------------------


def _overlay(path: Path) -> Path | None:
    """Return the overlay of the environment, if one is named."""
    name = settings.value(ENVIRONMENT)
    if not name:
        return None
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ConfigError(f"{ENVIRONMENT} is {shown(name)}; a-z, 0-9, _ and - are allowed, the first a letter or digit")
    overlay = path.with_name(f"{path.stem}.{name}{path.suffix}")
    if not overlay.is_file():
        raise ConfigError(f"{ENVIRONMENT} is {name!r}, but there is no file {overlay}; create it, or unset the variable")
    return overlay


def _read(path: Path, problems: list[str]) -> tuple[Entry, list[Entry]]:
    """Return defaults and feeds of a file as written, without unknown keys.

    :raises ConfigError: if it cannot be read, or has another structure.
    """
    try:
        document = read_yaml(path) or {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from None
    feeds, defaults = (document.get("feeds") or [], document.get("defaults") or {}) if isinstance(document, dict) else (None, {})
    if not isinstance(feeds, list):
        raise ConfigError(f"{path.name}: a list under the key 'feeds' is needed")
    if not isinstance(defaults, dict):
        raise ConfigError(f"{path.name}: defaults is {shown(defaults)}; names with values are needed")
    problems += [f"{path.name}: {_unknown(key, TOP)}" for key in document if key not in TOP]
    problems += [f"{path.name}: {problem}" for problem in retention_problems(document.get("retention"))]
    problems += [f"{path.name}: {problem}" for problem in alert_problems(document.get("alerts"))]
    entries = []
    for number, entry in enumerate(feeds, 1):
        if isinstance(entry, dict):
            entries.append(_known_keys(entry, f"{path.name}: {_name(number, entry)}", problems))
        else:
            problems.append(f"{path.name}: feed {number} is {shown(entry)}; names with values are needed")
    return _known_keys(defaults, f"{path.name}: defaults", problems), entries


def _known_keys(entry: Entry, name: str, problems: list[str]) -> Entry:
    problems += [f"{name}: {_unknown(key, KEYS)}" for key in entry if key not in KEYS]
    return {key: value for key, value in entry.items() if key in KEYS}


def _unknown(key: object, allowed: Collection[str]) -> str:
    return f"unknown key {shown(key)}{suggestion(key, allowed)}; known keys: {', '.join(allowed)}"


def _name(number: int, entry: Entry) -> str:
    provider, dataset, name = _identity(entry)
    return f"feed {number} ({_named(provider)}, {_named(dataset)}{f', {_named(name)}' if name else ''})"


def _identity(entry: Entry) -> tuple[object, object, object]:
    return entry.get("provider"), entry.get("dataset"), entry.get("name") or ""


def _named(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 64 else shown(value)


def _merged(under: Entry, over: Entry) -> Entry:
    """Return ``under`` with the keys of ``over``, inside params, options, retry and checks too."""
    inner = {
        key: {**under[key], **over[key]}
        for key in ("params", "options", "retry", "checks")
        if isinstance(under.get(key), dict) and isinstance(over.get(key), dict)
    }
    return {**under, **over, **inner}


def _laid_over(entries: list[Entry], over: Entry) -> list[Entry]:
    """Return ``entries`` with the one of the same provider, dataset and name overridden, or with one more."""
    names, name = [_identity(entry) for entry in entries], _identity(over)
    if name not in names:
        return [*entries, over]
    place = names.index(name)
    return [*entries[:place], _merged(entries[place], over), *entries[place + 1 :]]


# -- values --------------------------------------------------------------------------------------------------------------------------


def _defaults_of(entry: Entry, defaults: Entry) -> Entry:
    """Return the defaults that apply to a feed: one of a provider that charges has no schedule by default.

    Without a schedule it has no ``due`` by default either.
    """
    spec = providers().get(str(entry.get("provider")))
    if spec is not None and spec.charges:
        defaults = {key: value for key, value in defaults.items() if key != "schedule"}
    by_hand = {**defaults, **entry}.get("schedule") is None
    return {key: value for key, value in defaults.items() if not (key == "due" and by_hand)}


def _feed(entry: Entry) -> Feed:
    given = {name: value for name, value in entry.items() if value is not None}
    if "run_timeout" in given:
        given["run_timeout"] = read_duration(given["run_timeout"])
    ids = {"conn_id": f"{entry['provider']}_default", "pool": f"{entry['provider']}_api", "schedule": None}
    given["start_date"] = _date(given["start_date"])
    ids["calendar"] = _calendar_of(entry)
    return Feed(**{**ids, **given, "params": _json(given.get("params", {}))})


def _calendar_of(entry: Entry) -> str:
    """Return the calendar of the schedule: the feed's own, else that of all symbols of its source."""
    spec, options = providers().get(str(entry.get("provider"))), entry.get("options")
    if spec is None or not isinstance(options, dict):
        return str(entry.get("calendar") or EXCHANGE)
    return str(entry.get("calendar") or spec.calendar_of("", source_of(spec, options)).name)


def _problems(entry: Entry, today: date) -> list[str]:
    given = [key for key in _KINDS if entry.get(key) is not None or (key in entry and _KINDS[key] is bool)]
    wrong = [key for key in given if not isinstance(entry[key], _KINDS[key])]
    problems = [f"{key} is missing" for key in REQUIRED if entry.get(key) is None]
    problems += [f"{key} is {shown(entry[key])}; {_NEEDED[_KINDS[key]]}" for key in wrong]
    right = {key: value for key, value in entry.items() if key not in wrong and value is not None}
    provider, dataset = right.get("provider"), right.get("dataset")
    found = providers().get(str(provider), ProviderSpec("", "", {}))
    served = found.serves
    problems += _among("provider", provider, sorted(providers()))
    problems += _among("dataset", dataset, sorted(DATASETS))
    if served and dataset in DATASETS and dataset not in served:
        problems.append(f"dataset is {dataset!r}, which {provider} does not serve; it serves: {', '.join(served)}")
    if "name" in right and not _NAME.fullmatch(right["name"]):
        problems.append(f"name is {shown(right['name'])}; a-z, 0-9 and _ are allowed, the first a letter or digit, 40 at most")
    if "conn_id" in right and not _CONN_ID.fullmatch(right["conn_id"]):
        problems.append(f"conn_id is {shown(right['conn_id'])}; letters, digits and _ # ! ( ) - . : / are allowed, 200 at most")
    problems += _universe_problems(right.get("universe"))
    problems += _among("calendar", right.get("calendar"), [*CALENDARS])
    problems += _date_problems(right)
    problems += _limit_problems(entry)
    problems += threshold_problems(right.get("checks", {}))
    problems += retry_problems(right.get("retry", {}))
    params = {name: value for name, value in _json(right.get("params", {})).items() if name != "endpoint" or dataset in served}
    _, wrong_params = check_params(
        params, options={}, endpoints=served.get(str(dataset), ()), today=today, grains=grains_of(str(dataset))
    )
    problems += [f"params.{problem}" for problem in wrong_params]
    if provider in providers():
        known_options = options_of(str(provider), str(dataset))
        problems += _option_problems(
            str(provider), known_options, right.get("options", {}), apart=right.get("provider_level", True)
        )
    return problems


def _date_problems(entry: Entry) -> list[str]:
    problems = []
    schedule, start = entry.get("schedule"), entry.get("start_date")
    if schedule is not None and not (isinstance(schedule, str) and _SCHEDULE.fullmatch(schedule)):
        problems.append(f'schedule is {shown(schedule)}; a New York time in quotes, "16:00" to "23:59", or null, is needed')
    elif schedule is not None and (found := CALENDARS.get(_calendar_of(entry))) and time.fromisoformat(schedule) < found.over_by:
        problems.append(f"schedule is {shown(schedule)}; sessions of {found.name} are over by {found.over_by:%H:%M} New York time")
    if entry.get("due") is not None and (wrong := due_problem(entry["due"], _calendar_of(entry), schedule)):
        problems.append(wrong)
    first = _date(start)
    if start is not None and first is None:
        problems.append(f"start_date is {shown(start)}; a date such as 2000-01-03 is needed")
    elif first is not None and not FIRST <= first <= LAST:
        problems.append(f"start_date is {first}; {FIRST} to {LAST} is allowed")
    return problems


def _date(value: object) -> date | None:
    """Return a date of the file; None for anything else.

    YAML makes dates and timestamps of texts without quotes.
    """
    try:
        return read_date(value.isoformat() if isinstance(value, date) else value) if isinstance(value, date | str) else None
    except ValueError:
        return None


def _limit_problems(entry: Entry) -> list[str]:
    problems = []
    sessions, limit = entry.get("catch_up_sessions"), entry.get("run_timeout")
    if sessions is not None and (type(sessions) is not int or not 1 <= sessions <= MOST_CAUGHT_UP):
        problems.append(f"catch_up_sessions is {shown(sessions)}; a whole number from 1 to {MOST_CAUGHT_UP} is needed")
    if limit is not None and read_duration(limit) is None:
        problems.append(f'run_timeout is {shown(limit)}; a time such as "4h", "90m" or "1h30m", at most 7 days, is needed')
    return problems


def read_duration(value: object) -> timedelta | None:
    """Return a duration such as ``4h`` or ``1h30m``, from 1 minute to 7 days; None for anything else."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    duration = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
    return duration if timedelta(minutes=1) <= duration <= timedelta(days=7) else None


def _option_problems(name: str, known_options: Mapping[str, Option], options: Mapping[str, Any], *, apart: bool) -> list[str]:
    """Return the problems with ``options``.

    ``apart``: values that an option changes are stored separately (``provider_level``).
    """
    problems = []
    for key, value in options.items():
        option = known_options.get(key)
        if option is None:
            near = suggestion(key, known_options)
            problems.append(f"options.{key} is unknown{near}; options of {name}: {', '.join(known_options) or 'none'}")
        elif wrong := option_problem(option, value):
            problems.append(f"options.{key} is {shown(value)}; {wrong}")
        elif option.variant and value != option.default and not apart:
            problems.append(
                f"options.{key} is {shown(value)}, which changes values; without provider_level allowed: {option.default}"
            )
    return problems


def _clashes(feeds: Sequence[Feed]) -> list[str]:
    ids = [feed.dag_id for feed in feeds]
    plain = {(feed.dataset, feed.provider) for feed in feeds if not feed.provider_level}
    return [
        *(f"two feeds have the DAG id {name!r}; give one of them a name" for name in sorted(set(ids)) if ids.count(name) > 1),
        *(
            f"the fallback of {feed.dag_id} is {feed.fallback!r}; the provider of another enabled feed of {feed.dataset} is needed"
            for feed in feeds
            if feed.fallback is not None and (feed.fallback == feed.provider or feed.fallback_dag_id not in ids)
        ),
        *(
            f"two feeds of {name!r} without provider_level would mix their bars"
            for name in sorted({dataset for dataset, _ in plain})
            if len({provider for dataset, provider in plain if dataset == name}) > 1
        ),
    ]


def _json(params: Mapping[str, Any]) -> Entry:
    """Return ``params`` with JSON types, as in a triggered run: YAML reads 2026-11-02 as a date."""
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in params.items()}


def _universe_problems(value: object) -> list[str]:
    index = isinstance(value, str) and value.startswith(PREFIX) and INDEX_NAME.fullmatch(value.removeprefix(PREFIX))
    return [] if index else _among("universe", value, known())


def _among(name: str, value: object, allowed: Collection[str]) -> list[str]:
    return [] if value is None or value in allowed else [f"{name} is {shown(value)}; known: {', '.join(allowed)}"]
