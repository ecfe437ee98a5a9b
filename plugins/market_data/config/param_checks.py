"""Check the params of a run.

Airflow checks each value against its JSON schema, reports the first that is wrong and accepts unknown keys silently.
:func:`check_params` is the second stage: it looks at all of them together and reports *every* problem before any connection is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from market_data.config.indices import FROM_FILE, INDEX_NAME, PREFIX, name_of_file
from market_data.config.run_params import RunParams
from market_data.config.symbols import check_symbols
from market_data.config.trigger_form import form
from market_data.config.universes import known
from market_data.core import calendar, json_schema
from market_data.core.capabilities import Endpoint, Shape
from market_data.core.errors import ParamError
from market_data.core.messages import shortened, shown, suggestion
from market_data.core.run import GRAINS, Grain
from market_data.providers.spec import Option


def check_params(
    raw: Mapping[str, Any],
    *,
    options: Mapping[str, Option],
    endpoints: Sequence[Endpoint],
    today: date,
    grains: Sequence[Grain] = GRAINS,
) -> tuple[RunParams, list[str]]:
    """Return the params of a run, and one sentence per problem: field, value and what is allowed.

    If there are problems, use the params only to look for more: each invalid value is replaced by its default.

    :param raw: name -> value, of JSON types; a missing one has its default.
    :param options: the provider's own settings, as for :func:`form`.
    :param endpoints: the endpoints that serve the dataset, as for :func:`form`.
    :param today: the New York date, the last that can be requested.
    :param grains: of the dataset's files, as for :func:`form`.
    """
    known_params = form(options, endpoints, grains)
    unknown = shortened(
        [
            name if isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) <= 64 else shown(name)
            for name in raw
            if name not in known_params
        ]
    )
    near = suggestion(unknown[0], known_params) if len(unknown) == 1 else ""
    known_names = f"known params: {', '.join(known_params)}"
    problems = [f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown{near}; {known_names}"] if unknown else []
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
        *_cells_problems(raw),
    ]
    chosen = {name: values.pop(name) for name in options}
    return RunParams(**values, options={name: value for name, value in chosen.items() if name in raw}), problems


def read_params(
    raw: Mapping[str, Any],
    *,
    options: Mapping[str, Option],
    endpoints: Sequence[Endpoint],
    today: date,
    grains: Sequence[Grain] = GRAINS,
) -> RunParams:
    """Return the params of a run; arguments as for :func:`check_params`.

    :raises ParamError: listing every problem.
    """
    params, problems = check_params(raw, options=options, endpoints=endpoints, today=today, grains=grains)
    if problems:
        raise ParamError(problems)
    return params


def _index_problems(values: dict[str, Any]) -> list[str]:
    # Not in the schema: Airflow would refuse the trigger with a message of its own, and report nothing else.
    name, file = values["index_name"], values["tickers_path"]
    if name == FROM_FILE and not (file and name_of_file(file)):
        values["index_name"] = None
        return [
            f"index_name is {FROM_FILE!r}; that needs a tickers_path whose file name begins with the index, e.g. sp500_2024.csv"
        ]
    if name is None or INDEX_NAME.fullmatch(name):
        return []
    values["index_name"] = None
    return [f"index_name is {shown(name)}; a-z, 0-9, _ and - are allowed, the first a letter or digit, 64 at most"]


def _symbol_problems(raw: Mapping[str, Any], values: dict[str, Any]) -> list[str]:
    """Return the problems with universe and symbols.

    The tickers file is read later, over the lake's connection.
    """
    problems = []
    name = values["universe"]
    index = name.startswith(PREFIX) and INDEX_NAME.fullmatch(name.removeprefix(PREFIX))  # plan looks for it in the lake
    if "universe" in raw and not index and name not in known():
        near = suggestion(name, known())
        more = f"; {PREFIX}NAME takes an index of the lake" if name.startswith(PREFIX) else ""
        problems.append(f"universe is {shown(name)}{near}; known universes: {', '.join(known())}{more}")
        values["universe"] = ""
    found = check_symbols(values["symbols"] or ())
    if raw.get("symbols") and raw.get("tickers_path"):
        found.append("symbols and tickers_path are both given; give one of them")
    if raw.get("symbols") and raw.get("as_of"):
        found.append("symbols and as_of are both given; as_of selects members of a universe or tickers file")
    if found or not values["symbols"]:
        values["symbols"] = None
    return problems + found


def _date_problems(raw: Mapping[str, Any], values: dict[str, Any], today: date) -> list[str]:
    start, end, back = values["start_date"], values["end_date"], values["backfill_days"]
    problems = []
    for name in ("start_date", "end_date", "as_of"):
        day = values[name]
        if day and day > today:
            problems.append(f"{name} is {day}; it must not be after today, {today}")
        elif day and day < calendar.FIRST and name != "as_of":
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


def _cells_problems(raw: Mapping[str, Any]) -> list[str]:
    others = ("symbols", "tickers_path", "as_of", "index_name", "start_date", "end_date", "backfill_days")
    given = [name for name in others if raw.get(name)]
    if not raw.get("cells") or not given:
        return []
    return [f"cells and {', '.join(given)} are given; cells names symbols and sessions itself: leave out the others"]


def _grain_problems(values: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> list[str]:
    endpoint = values["endpoint"]
    by_symbol = [e.name for e in endpoints if e.shape is not Shape.MARKET]
    if values["file_grain"] != "year" or endpoint in ("auto", *by_symbol):
        return []
    return [
        f"endpoint is {shown(endpoint)}, a session per call, and file_grain is 'year', which requests by symbol; "
        f"allowed: {', '.join(['auto', *by_symbol])}"
    ]
