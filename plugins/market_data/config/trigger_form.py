"""The fields of the trigger form: title, description and JSON schema of every run param.

The defaults are those of `RunParams`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from market_data.config.run_params import RECHECK_SESSIONS, TOLERATE, RunParams
from market_data.config.universes import known
from market_data.core.capabilities import Endpoint, Shape
from market_data.core.run import GRAINS, Grain
from market_data.providers.spec import Option

TUNING = "Tuning"
"""The section of rare params. Airflow's form opens only the params without a section; opening one section closes the others."""

GRAIN_LABELS: Mapping[Grain, str] = {
    "day": "day: a file for each symbol and session",
    "session": "session: a file for each session, with all symbols",
    "year": "year: a file for each symbol and year",
}

GROUPS: dict[str, tuple[str, ...]] = {
    "What": ("universe", "symbols", "tickers_path", "index_name"),
    "When": ("start_date", "end_date", "backfill_days"),
    "How": ("dry_run", "force", "file_grain", "batch_size"),
}
"""Everyday params in the order of use. They have no section, so their titles name the group; the provider's options follow."""

PROVIDER = "This provider"
"""The group of the provider's own options, limits of the cost first."""

KEPT_INDICES = ("sp500", "nasdaq100", "dow30", "listed")
"""The indices that ``maintain_universes`` can keep in the lake."""

PER_CALL = {Shape.SYMBOL: "a symbol", Shape.MULTI: "many symbols", Shape.MARKET: "a session"}
"""The rows that one call of an endpoint returns, in words."""

LABELS = {"max_cost_usd": "Maximum cost (US dollars)", "chunk_days": "Days per request", "adj_close": "Adjusted close"}
"""Titles of options whose names do not read well."""

Form = dict[str, tuple[Any, dict[str, Any]]]
"""name -> (default, JSON schema and form fields)."""

# Optional lists and dates are ["null", ...], so that an empty field is valid. `form` adds the fields that depend on the feed.
SCHEMAS: dict[str, dict[str, Any]] = {
    "universe": {
        "type": "string",
        "title": "Universe",
        "description": "A file in include/universes, or an index kept in the lake; each session has the members of its date. Symbols or a "
        "tickers file take precedence. Another index is index:NAME.",
    },
    "symbols": {
        "type": ["null", "array"],
        "items": {"type": "string"},
        "title": "Only these symbols",
        "description": "One per line, as the exchange writes them: BRK.B, not BRK-B. Empty: the whole universe.",
    },
    "tickers_path": {
        "type": ["null", "string"],
        "title": "Tickers file",
        "examples": ["include/universes/dow30.csv", "s3://my-bucket/tickers.csv"],
        "description": "CSV with a column symbol or ticker, or text with one symbol per line; a path or s3://bucket/key. Not together "
        "with symbols. The columns added_date (inclusive) and removed_date (exclusive) limit a symbol to its sessions as a member.",
    },
    "as_of": {
        "type": ["null", "string"],
        "format": "date",
        "title": "Members as of",
        "description": "All sessions have the members of this date. Empty: each session has its own members.",
    },
    "follow_renames": {
        "type": "boolean",
        "title": "Follow changes of symbol",
        "description": "Request each company by the symbol that it had in a session: FB until 2022-06-08, META from then on. "
        "Needs the dataset symbol-changes in the lake.",
    },
    "index_name": {
        "type": ["null", "string"],
        "title": "Keep as index",
        "description": "Also store these symbols as the members of an index of this name, e.g. sp500, with the dates they joined and left. "
        "auto: the name of the tickers file, sp500_2024.csv is sp500.",
    },
    "cells": {
        "type": ["null", "string"],
        "title": "Only these gaps",
        "description": "Lake key of a list of gaps, written by maintain_coverage: the run requests exactly these cells, recorded or not. "
        "No lookback, no recheck.",
    },
    "start_date": {
        "type": ["null", "string"],
        "format": "date",
        "title": "First session",
        "description": "Inclusive. Empty: the run's own session. Leave it empty in a Backfill: each of its runs has its own session, and "
        "a date given here takes precedence over the Backfill's dates.",
    },
    "end_date": {
        "type": ["null", "string"],
        "format": "date",
        "title": "Last session",
        "description": "Inclusive. Empty: the run's own session. Takes precedence over a Backfill's dates too.",
    },
    "backfill_days": {
        "type": ["null", "integer"],
        "minimum": 1,
        "maximum": 36_600,
        "title": "Days back",
        "description": "Calendar days before the last session, instead of a first session. Leave it empty in a Backfill.",
    },
    "file_grain": {
        "type": "string",
        "enum": list(GRAINS),
        "values_display": GRAIN_LABELS,
        "title": "File grain",
        "description": "session suits daily runs of many symbols. year suits a long history of few symbols, and requests by symbol.",
    },
    "force": {
        "type": "boolean",
        "title": "Fetch again",
        "description": "Fetch these dates again even if covered. Corrected values replace the old ones; equal values change nothing.",
    },
    "dry_run": {
        "type": "boolean",
        "title": "Dry run",
        "description": "Show batches, calls, minutes, rows and cost in the log of plan; fetch and write nothing.",
    },
    "batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "title": "Symbols per batch",
        "description": "At most, where requests are by symbol and not for whole sessions.",
    },
    "max_retries": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10,
        "title": "Retries",
        "description": "Retries of a failed batch, after the short retries inside it. The pool slot is free in between.",
    },
    "retry_delay_seconds": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3600,
        "title": "Retry delay",
        "description": "Seconds before a retry, unless the provider requires more.",
    },
    "lookback_days": {
        "type": "integer",
        "minimum": 0,
        "maximum": 366,
        "title": "Lookback",
        "description": "Scheduled runs also fetch missing cells of this many calendar days before their session.",
    },
    "recheck_sessions": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "title": "Recheck",
        "description": "Scheduled runs request this many sessions before their own again, where that costs at most one call each.",
    },
    "endpoint": {
        "type": "string",
        "title": "Endpoint",
        "description": "The provider's endpoint to use.",
    },
    "max_missing_ratio": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "title": "Tolerated missing share",
        "description": "The run fails if a greater share of the planned cells ends without a state.",
    },
    "circuit_breaker": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "title": "Circuit breaker",
        "description": "After this many consecutive failed batches, calls to the provider pause for a while.",
    },
    "data_docs": {
        "type": "boolean",
        "title": "Data docs",
        "description": "Also write Great Expectations' HTML pages of the run to the lake.",
    },
    "tolerate": {
        "type": "object",
        "properties": {name: {"type": "number", "minimum": 0, "maximum": 1} for name in TOLERATE},
        "additionalProperties": False,
        "title": "Tolerated open cells",
        "description": "The run fails if a greater share of its own cells is pending or quarantined. For bars only.",
    },
}

PARAMS: Form = {
    field.name: (dict(TOLERATE) if field.default is MISSING else field.default, SCHEMAS[field.name])
    for field in fields(RunParams)
    if field.name in SCHEMAS
}
"""The params that every feed has."""
PARAMS["recheck_sessions"] = RECHECK_SESSIONS, SCHEMAS["recheck_sessions"]


def form(options: Mapping[str, Option], endpoints: Sequence[Endpoint], grains: Sequence[Grain] = GRAINS) -> Form:
    """Return every param of a feed in the order of use: what, when, how, the provider's options, tuning.

    :param options: the provider's own settings.
    :param endpoints: the endpoints that serve the dataset, best first.
    :param grains: of the dataset's files.
    """
    found = {
        name: (default, {**schema, "description": described(schema["description"], schema)})
        for name, (default, schema) in PARAMS.items()
    }
    default, schema = found["universe"]
    labels = {name: name for name in known()}
    labels |= {f"index:{name}": f"index:{name} (kept in the lake by maintain_universes)" for name in KEPT_INDICES}
    found["universe"] = default, {**schema, "examples": list(labels), "values_display": labels}
    default, schema = found["endpoint"]
    labels = {default: f"{default}: the endpoint that needs the fewest calls"}
    labels |= {endpoint.name: f"{endpoint.name}: {PER_CALL[endpoint.shape]} per call" for endpoint in endpoints}
    found["endpoint"] = default, {**schema, "enum": list(labels), "values_display": labels}
    default, schema = found["file_grain"]
    labels = {grain: GRAIN_LABELS[grain] for grain in grains}
    found["file_grain"] = default, {**schema, "enum": list(labels), "values_display": labels}
    if "max_cost_usd" in options:  # the provider charges: rechecking must be chosen
        found["recheck_sessions"] = 0, found["recheck_sessions"][1]
    everyday = [(group, name) for group, names in GROUPS.items() for name in names]
    ordered: Form = {name: _titled(group, *found.pop(name)) for group, name in everyday}
    caps_first = sorted(options.items(), key=lambda item: not item[0].startswith("max_"))
    ordered |= {name: _titled(PROVIDER, option.default, _option_schema(name, option)) for name, option in caps_first}
    return ordered | {name: (default, {**schema, "section": TUNING}) for name, (default, schema) in found.items()}


def described(description: str, schema: Mapping[str, Any]) -> str:
    """Return the help text of a number with its allowed range; other texts as they are.

    The form shows plain text, no markdown.
    """
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None:
        return description
    return f"{description} Allowed: {least:,} or more." if most is None else f"{description} Allowed: {least:,} to {most:,}."


def _titled(group: str, default: Any, schema: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    return default, {**schema, "title": f"{group}: {schema['title']}"}


def _option_schema(name: str, option: Option) -> dict[str, Any]:
    apart = f" Values other than {option.default} are stored separately, as a provider of their own." if option.variant else ""
    return {
        **option.schema,
        "title": LABELS.get(name) or name.replace("_", " ").capitalize(),
        "description": described(f"{option.description}{apart}".replace("`", ""), option.schema),
    }
