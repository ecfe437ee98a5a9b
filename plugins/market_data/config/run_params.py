"""The run params: what the trigger form shows, and what a run makes of them.

Airflow checks each value against its JSON schema, tells the first that is wrong and accepts unknown keys in silence.
:func:`check_params` is the second stage: it looks at all of them together and lists *every* problem before any connection is touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

from market_data.config.symbols import check_symbols
from market_data.config.universes import known
from market_data.core import calendar, json_schema
from market_data.core.capabilities import Endpoint, Shape
from market_data.core.errors import ParamError
from market_data.core.messages import shortened, shown
from market_data.providers.spec import Option

ADVANCED = "Advanced"
INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

ASKS = {Shape.SYMBOL: "a symbol", Shape.MULTI: "many symbols", Shape.MARKET: "a session"}
"""What one call of an endpoint answers, for people."""

Form = dict[str, tuple[Any, dict[str, Any]]]
"""name -> (default, JSON schema and form fields)."""

# Optional lists and dates are ["null", ...]: an empty field is then no error. What depends on the feed comes in `form`.
PARAMS: Form = {
    "universe": (
        "sp500_etf",
        {
            "type": "string",
            "title": "Universe",
            "description": "A named set of symbols: a file of include/universes. Symbols or a tickers file win over it.",
        },
    ),
    "symbols": (
        None,
        {
            "type": ["null", "array"],
            "items": {"type": "string"},
            "title": "Only these symbols",
            "description": "One a line, as the exchange writes them: BRK.B, not BRK-B. Empty: the whole universe.",
        },
    ),
    "tickers_path": (
        None,
        {
            "type": ["null", "string"],
            "title": "Tickers file",
            "examples": ["include/universes/dow30.csv", "s3://my-bucket/tickers.csv"],
            "description": "CSV with a column `symbol` or `ticker`, or text with one symbol a line; a path or s3://bucket/key.",
        },
    ),
    "index_name": (
        None,
        {
            "type": ["null", "string"],
            "title": "Keep as index",
            "description": "Also keep these symbols as the members of an index of this name, e.g. sp500; who comes and goes is dated.",
        },
    ),
    "start_date": (
        None,
        {
            "type": ["null", "string"],
            "format": "date",
            "title": "First session",
            "description": "Inclusive. Empty: the run's own session.",
        },
    ),
    "end_date": (
        None,
        {
            "type": ["null", "string"],
            "format": "date",
            "title": "Last session",
            "description": "Inclusive. Empty: the run's own session.",
        },
    ),
    "backfill_days": (
        None,
        {
            "type": ["null", "integer"],
            "minimum": 1,
            "maximum": 36_600,
            "title": "Days back",
            "description": "Calendar days before the last session, instead of a first session.",
        },
    ),
    "file_grain": (
        "day",
        {
            "type": "string",
            "enum": ["day", "year"],
            "values_display": {"day": "day: a file for each symbol and session", "year": "year: a file for each symbol and year"},
            "title": "File grain",
            "description": "day suits daily runs. year makes far fewer files of a long history, and asks by symbol.",
        },
    ),
    "force": (
        False,
        {
            "type": "boolean",
            "title": "Fetch again",
            "description": "Ask for these dates again although they are covered. Equal values change nothing; corrected ones replace.",
        },
    ),
    "dry_run": (
        False,
        {
            "type": "boolean",
            "title": "Dry run",
            "description": "Show batches, calls, minutes, rows and cost in the log of `plan`; fetch and write nothing.",
        },
    ),
    "batch_size": (
        25,
        {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "title": "Symbols a batch",
            "description": "At most, where the provider is asked by symbols and not for whole sessions.",
        },
    ),
    "max_retries": (
        5,
        {
            "type": "integer",
            "minimum": 0,
            "maximum": 10,
            "section": ADVANCED,
            "title": "Retries",
            "description": "Of a failed batch, after the short retries inside it. The pool slot is free in between.",
        },
    ),
    "retry_delay_seconds": (
        60,
        {
            "type": "integer",
            "minimum": 0,
            "maximum": 3600,
            "section": ADVANCED,
            "title": "Retry delay",
            "description": "Seconds before a retry, unless the provider asks for more.",
        },
    ),
    "lookback_days": (
        7,
        {
            "type": "integer",
            "minimum": 0,
            "maximum": 366,
            "section": ADVANCED,
            "title": "Lookback",
            "description": "Scheduled runs also fetch what is missing in this many calendar days before their session.",
        },
    ),
    "endpoint": (
        "auto",
        {
            "type": "string",
            "section": ADVANCED,
            "title": "Endpoint",
            "description": "How the provider is asked.",
        },
    ),
    "max_missing_ratio": (
        0.0,
        {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "section": ADVANCED,
            "title": "Tolerated missing share",
            "description": "The run is red when a greater share of the planned cells ends without a state.",
        },
    ),
    "circuit_breaker": (
        5,
        {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "section": ADVANCED,
            "title": "Circuit breaker",
            "description": "After this many batches have failed one after another, the provider is left alone for a while.",
        },
    ),
    "data_docs": (
        False,
        {
            "type": "boolean",
            "section": ADVANCED,
            "title": "Data docs",
            "description": "Also write Great Expectations' HTML pages of the run into the lake.",
        },
    ),
}


@dataclass(frozen=True)
class RunParams:
    """The params of a run, read and found consistent."""

    universe: str
    symbols: tuple[str, ...] | None = None
    tickers_path: str | None = None
    index_name: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    backfill_days: int | None = None
    file_grain: Literal["day", "year"] = "day"
    force: bool = False
    dry_run: bool = False
    batch_size: int = 25
    max_retries: int = 5
    retry_delay_seconds: int = 60
    lookback_days: int = 7
    endpoint: str = "auto"
    max_missing_ratio: float = 0.0
    circuit_breaker: int = 5
    data_docs: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def form(options: Mapping[str, Option], endpoints: Sequence[Endpoint]) -> Form:
    """Every param of a feed.

    :param options: the provider's own settings.
    :param endpoints: those that serve the dataset, best first.
    """
    form = dict(PARAMS)
    default, schema = PARAMS["universe"]
    form["universe"] = default, {**schema, "examples": list(known())}
    default, schema = PARAMS["endpoint"]
    labels = {default: f"{default}: what takes the fewest calls"}
    labels |= {endpoint.name: f"{endpoint.name}: {ASKS[endpoint.shape]} a call" for endpoint in endpoints}
    form["endpoint"] = default, {**schema, "enum": list(labels), "values_display": labels}
    for name, option in options.items():
        apart = f" What is not {option.default} is kept apart, as a provider of its own name." if option.variant else ""
        labels = {
            "title": name.replace("_", " ").capitalize(),
            "description": f"The provider's own setting. {option.description}{apart}",
        }
        form[name] = option.default, {**option.schema, "section": ADVANCED, **labels}
    return form


def check_params(
    raw: Mapping[str, Any], *, options: Mapping[str, Option], endpoints: Sequence[Endpoint], today: date
) -> tuple[RunParams, list[str]]:
    """The params of a run, and one sentence for each problem with them: field, value and what is allowed.

    With problems, the params serve to look for more of them only: a default stands in for each value that is wrong.

    :param raw: name -> value, of JSON types; what is not given has its default.
    :param options: as :func:`form` takes them.
    :param endpoints: likewise.
    :param today: the New York date; nothing after it can be asked for.
    """
    known_params = form(options, endpoints)
    unknown = shortened(
        [
            name if name.isascii() and name.isidentifier() and len(name) <= 64 else shown(name)
            for name in raw
            if name not in known_params
        ]
    )
    known_names = f"known params: {', '.join(known_params)}"
    problems = [f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown; {known_names}"] if unknown else []
    values: dict[str, Any] = {}
    for name, (default, schema) in known_params.items():
        value = raw.get(name, default)
        if not json_schema.fits(value, schema):
            why = options[name].refused.get(value) if name in options and isinstance(value, str) else None
            problems.append(f"{name} is {shown(value)}; {json_schema.needed(schema)}" + (f" ({why})" if why else ""))
            value = default
        values[name] = json_schema.read(value, schema)
    problems += [
        *_index_problems(values),
        *_symbol_problems(raw, values),
        *_date_problems(raw, values, today),
        *_grain_problems(values, endpoints),
    ]
    chosen = {name: values.pop(name) for name in options}
    return RunParams(**values, options={name: value for name, value in chosen.items() if name in raw}), problems


def read_params(raw: Mapping[str, Any], *, options: Mapping[str, Option], endpoints: Sequence[Endpoint], today: date) -> RunParams:
    """The params of a run; takes what :func:`check_params` takes.

    :raises ParamError: listing every problem.
    """
    params, problems = check_params(raw, options=options, endpoints=endpoints, today=today)
    if problems:
        raise ParamError(problems)
    return params


def _index_problems(values: dict[str, Any]) -> list[str]:
    # Not in the schema: Airflow would refuse the trigger in words of its own, and tell nothing else.
    name = values["index_name"]
    if name is None or INDEX_NAME.fullmatch(name):
        return []
    values["index_name"] = None
    return [f"index_name is {shown(name)}; a-z, 0-9, _ and - are allowed, the first a letter or digit, 64 at most"]


def _symbol_problems(raw: Mapping[str, Any], values: dict[str, Any]) -> list[str]:
    """What is wrong with universe and symbols; the tickers file is read later, with the connection of the lake."""
    problems = []
    if "universe" in raw and values["universe"] not in known():
        problems.append(f"universe is {shown(values['universe'])}; known universes: {', '.join(known())}")
        values["universe"] = ""
    found = check_symbols(values["symbols"] or ())
    if raw.get("symbols") and raw.get("tickers_path"):
        found.append("symbols and tickers_path are both given; give one of them")
    if found or not values["symbols"]:
        values["symbols"] = None
    return problems + found


def _date_problems(raw: Mapping[str, Any], values: dict[str, Any], today: date) -> list[str]:
    start, end, back = values["start_date"], values["end_date"], values["backfill_days"]
    problems = []
    for name in ("start_date", "end_date"):
        day = values[name]
        if day and day > today:
            problems.append(f"{name} is {day}; it is in the future, today is {today}")
        elif day and day < calendar.FIRST:
            problems.append(f"{name} is {day}; the first date allowed is {calendar.FIRST}")
        else:
            continue
        values[name] = None
    if start and end and start > end:
        problems.append(f"start_date is {start} and end_date {end}; the start must not come after the end")
        values["end_date"] = None
    given = {name for name in ("start_date", "end_date", "backfill_days") if raw.get(name) is not None}
    if {"start_date", "backfill_days"} <= given:
        problems.append("start_date and backfill_days are both given; give one of them")
        values["backfill_days"] = None
    if given == {"end_date"}:
        problems.append(f"end_date is {shown(raw['end_date'])} without start_date or backfill_days; give one of them")
    first = (values["end_date"] or today) - timedelta(days=back or 0)
    if back is not None and first < calendar.FIRST:
        problems.append(f"backfill_days is {back}, back to {first}; the first date allowed is {calendar.FIRST}")
        values["backfill_days"] = None
    return problems


def _grain_problems(values: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> list[str]:
    endpoint = values["endpoint"]
    by_symbol = [e.name for e in endpoints if e.shape is not Shape.MARKET]
    if values["file_grain"] == "day" or endpoint in ("auto", *by_symbol):
        return []
    return [
        f"endpoint is {shown(endpoint)}, a session a call, and file_grain is 'year', which asks for each symbol; "
        f"allowed: {', '.join(['auto', *by_symbol])}"
    ]
