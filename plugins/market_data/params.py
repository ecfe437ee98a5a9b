"""The run params: what the trigger form shows, and what a run makes of them.

Airflow checks each value against its JSON schema and accepts unknown keys in silence. :func:`read_params` is the second stage: it looks
at all of them together and lists *every* problem before any connection is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from market_data import calendar
from market_data.errors import ParamError
from market_data.universe import check_symbols, known

ADVANCED = "Advanced"

# name -> (default, JSON schema and form fields). Optional lists and dates are ["null", ...]: an empty field is then no error.
PARAMS: dict[str, tuple[Any, dict[str, Any]]] = {
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
            "description": "CSV with a column `symbol` or `ticker`, or text with one symbol a line; a path or s3://bucket/key.",
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
            "enum": ["day"],
            "title": "File grain",
            "description": "day: one file a symbol and session.",
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
            "description": "Show batches, calls, minutes and rows in the log of `plan`; fetch and write nothing.",
        },
    ),
    "batch_size": (
        25,
        {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "title": "Symbols a batch",
            "description": "At most, where the provider is asked symbol by symbol.",
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
            "description": "auto takes the fewest calls; or one the provider has (Polygon: grouped, range).",
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
}


@dataclass(frozen=True)
class RunParams:
    """The params of a run, read and found consistent."""

    universe: str
    symbols: tuple[str, ...] | None = None
    tickers_path: str | None = None
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
    options: Mapping[str, Any] = field(default_factory=dict)


def read_params(raw: Mapping[str, Any], *, options: Mapping[str, tuple[str, ...]], today: date) -> RunParams:
    """The params of a run.

    :param raw: name -> value, of JSON types.
    :param options: the provider's own settings: name -> allowed values.
    :param today: the New York date; nothing after it can be asked for.
    :raises ParamError: listing every problem.
    """
    names = [*PARAMS, *options]
    problems = [f"{name} is unknown; known params: {', '.join(names)}" for name in raw if name not in names]
    values = {name: raw.get(name, default) for name, (default, _) in PARAMS.items()}
    for name in ("start_date", "end_date"):
        values[name] = _date(name, values[name], problems)
    if values["symbols"] is not None:
        values["symbols"] = tuple(values["symbols"])
        problems += check_symbols(values["symbols"])
        if not values["symbols"]:
            values["symbols"] = None
    if values["symbols"] and values["tickers_path"]:
        problems.append("symbols and tickers_path are both given; give one of them")
    if not values["symbols"] and not values["tickers_path"] and values["universe"] not in known():
        problems.append(f"universe is {values['universe']!r}; known universes: {', '.join(known())}")
    problems += _date_problems(values, today)
    problems += [
        f"{name} is {raw[name]!r}; allowed: {', '.join(allowed)}"
        for name, allowed in options.items()
        if raw.get(name) is not None and raw[name] not in allowed
    ]
    problems += _range_problems(values)
    if problems:
        raise ParamError(problems)
    return RunParams(**values, options={name: raw[name] for name in options if raw.get(name) is not None})


@dataclass(frozen=True)
class Wanted:
    """The sessions a run is about, ascending.

    :param own: of the run itself: asked again by ``force`` and by a clear.
    :param lookback: before them; asked only where coverage lacks them.
    """

    own: tuple[date, ...]
    lookback: tuple[date, ...] = ()


def resolve_sessions(params: RunParams, interval: tuple[datetime, datetime] | None, *, scheduled: bool, now: datetime) -> Wanted:
    """Which sessions a run asks for: its params', else its data interval's, else the last completed one.

    :param interval: the run's data interval, UTC, or None; a session belongs to it when it starts on a date inside.
    :param scheduled: only a scheduled run looks back.
    :param now: UTC.
    """
    if interval is None:
        last = calendar.last_completed_session(now)
        own: tuple[date, ...] = (last,)
    else:
        # The interval ends when the run starts, perhaps past midnight UTC of the next day: that day's session has not begun.
        own = tuple(
            s for s in calendar.sessions(interval[0].date(), interval[1].date() + timedelta(days=1)) if _inside(s, interval)
        )
        last = own[-1] if own else calendar.last_completed_session(now)
    end = params.end_date or last
    if params.start_date is not None:
        own = calendar.sessions(params.start_date, end + timedelta(days=1))
    elif params.backfill_days is not None:
        own = calendar.sessions(end - timedelta(days=params.backfill_days), end + timedelta(days=1))
    if not scheduled or not own or params.start_date is not None or params.backfill_days is not None:
        return Wanted(own)
    return Wanted(own, calendar.sessions(own[0] - timedelta(days=params.lookback_days), own[0]))


def _inside(session: date, interval: tuple[datetime, datetime]) -> bool:
    midnight = datetime(session.year, session.month, session.day, tzinfo=interval[0].tzinfo)
    return interval[0] <= midnight and calendar.session_close(session) <= interval[1]


def _date(name: str, value: object, problems: list[str]) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        problems.append(f"{name} is {value!r}; a date such as 2026-11-02 is needed")
        return None


def _date_problems(values: Mapping[str, Any], today: date) -> list[str]:
    start, end, back = values["start_date"], values["end_date"], values["backfill_days"]
    problems = [
        f"{name} is {values[name]}; it is in the future (today is {today})"
        for name in ("start_date", "end_date")
        if values[name] and values[name] > today
    ]
    if start and end and start > end:
        problems.append(f"start_date is {start} and end_date {end}; the start must not come after the end")
    if start and back is not None:
        problems.append("start_date and backfill_days are both given; give one of them")
    if end and not start and back is None:
        problems.append(f"end_date is {end} without start_date or backfill_days; give one of them")
    return problems


def _range_problems(values: Mapping[str, Any]) -> list[str]:
    """What the form's schema checks too; a run triggered with a stale form or by a script has only this."""
    problems = []
    for name, (_, schema) in PARAMS.items():
        value = values[name]
        if "minimum" in schema and value is not None:
            low, high = schema["minimum"], schema["maximum"]
            if not isinstance(value, int | float) or not low <= value <= high:
                problems.append(f"{name} is {value!r}; {low} to {high} is allowed")
        if "enum" in schema and value not in schema["enum"]:
            problems.append(f"{name} is {value!r}; allowed: {', '.join(schema['enum'])}")
    return problems
