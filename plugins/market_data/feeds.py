"""The feeds of ``include/feeds.yaml``, validated. Light: every parse of the DAG file loads them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from market_data.datasets import DATASETS
from market_data.errors import ConfigError
from market_data.hooks import PROVIDERS
from market_data.params import PARAMS

INCLUDE = Path(os.environ.get("MARKET_DATA_INCLUDE") or Path(__file__).parents[2] / "include")
"""The project's ``include`` folder."""


@dataclass(frozen=True)
class Feed:
    """A provider and a dataset, and the defaults of its runs.

    :param schedule: New York time ``HH:MM`` after which a session is fetched, or None.
    :param params: run param -> default, where it is not the project's.
    :param options: the provider's own settings.
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

    @property
    def dag_id(self) -> str:
        return f"{self.provider}_{self.dataset.replace('-', '_')}"


def load_feeds(path: Path | None = None) -> tuple[Feed, ...]:
    """All feeds, in the order of the file.

    :raises ConfigError: listing every problem of the file.
    """
    path = path or INCLUDE / "feeds.yaml"
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("feeds"), list):
        raise ConfigError(f"{path.name}: a list under the key 'feeds' is needed")
    defaults = document.get("defaults") or {}
    feeds, problems = [], []
    for number, entry in enumerate(document["feeds"], 1):
        merged = {**defaults, **entry} if isinstance(entry, dict) else {}
        name = f"feed {number} ({merged.get('provider')}, {merged.get('dataset')})"
        found = _problems(merged)
        problems += [f"{name}: {problem}" for problem in found]
        if not found:
            feeds.append(_feed(merged))
    ids = [feed.dag_id for feed in feeds]
    problems += [f"two feeds have the DAG id {dag_id!r}" for dag_id in sorted({i for i in ids if ids.count(i) > 1})]
    plain = [feed.dataset for feed in feeds if not feed.provider_level]
    problems += [
        f"two feeds of {name!r} without provider_level would mix their bars"
        for name in sorted({n for n in plain if plain.count(n) > 1})
    ]
    if problems:
        raise ConfigError(f"{path.name}: " + "; ".join(problems))
    return tuple(feeds)


def _feed(entry: Mapping[str, Any]) -> Feed:
    named = {name: value for name, value in entry.items() if value is not None or name == "schedule"}
    feed = Feed(**named)
    return Feed(
        **{
            **named,
            "conn_id": feed.conn_id or f"{feed.provider}_default",
            "pool": feed.pool or f"{feed.provider}_api",
        }
    )


def _problems(entry: Mapping[str, Any]) -> list[str]:
    known = Feed.__dataclass_fields__
    problems = [f"unknown key {key!r}; known keys: {', '.join(known)}" for key in entry if key not in known]
    problems += [f"{key} is missing" for key in ("provider", "dataset", "universe", "start_date") if not entry.get(key)]
    problems += _among("provider", entry.get("provider"), sorted(PROVIDERS))
    problems += _among("dataset", entry.get("dataset"), sorted(DATASETS))
    schedule = entry.get("schedule")
    if schedule is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(schedule)):
        problems.append(f'schedule is {schedule!r}; a New York time in quotes such as "20:30", or null, is needed')
    if entry.get("start_date") is not None and type(entry["start_date"]) is not date:
        problems.append(f"start_date is {entry['start_date']!r}; a date such as 2000-01-03 is needed")
    for key in ("params", "options"):
        if not isinstance(entry.get(key, {}), dict):
            problems.append(f"{key} is {entry[key]!r}; names with values are needed")
    if isinstance(entry.get("params", {}), dict):
        problems += [
            f"params.{name} is unknown; known params: {', '.join(PARAMS)}" for name in entry.get("params", {}) if name not in PARAMS
        ]
    return problems


def _among(name: str, value: object, known: Sequence[str]) -> list[str]:
    return [] if value is None or value in known else [f"{name} is {value!r}; known: {', '.join(known)}"]
