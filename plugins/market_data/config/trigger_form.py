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
from market_data.providers.spec import Option

ADVANCED = "Advanced"

PER_CALL = {Shape.SYMBOL: "a symbol", Shape.MULTI: "many symbols", Shape.MARKET: "a session"}
"""The rows that one call of an endpoint returns, in words."""

Form = dict[str, tuple[Any, dict[str, Any]]]
"""name -> (default, JSON schema and form fields)."""

# Optional lists and dates are ["null", ...], so that an empty field is valid. `form` adds the fields that depend on the feed.
SCHEMAS: dict[str, dict[str, Any]] = {
    "universe": {
        "type": "string",
        "title": "Universe",
        "description": "A named set of symbols: a file in include/universes, or index:NAME for an index kept in the lake. Each session "
        "has the members of its date. Symbols or a tickers file take precedence.",
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
        "description": "CSV with a column `symbol` or `ticker`, or text with one symbol per line; a path or s3://bucket/key. "
        "`added_date` (inclusive) and `removed_date` (exclusive) limit a symbol to its sessions as a member.",
    },
    "as_of": {
        "type": ["null", "string"],
        "format": "date",
        "section": ADVANCED,
        "title": "Members as of",
        "description": "All sessions have the members of this date. Empty: each session has its own members.",
    },
    "follow_renames": {
        "type": "boolean",
        "section": ADVANCED,
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
        "section": ADVANCED,
        "title": "Only these gaps",
        "description": "Lake key of a list of gaps, written by maintain_coverage: the run requests exactly these cells, recorded or not. "
        "No lookback, no recheck.",
    },
    "start_date": {
        "type": ["null", "string"],
        "format": "date",
        "title": "First session",
        "description": "Inclusive. Empty: the run's own session.",
    },
    "end_date": {
        "type": ["null", "string"],
        "format": "date",
        "title": "Last session",
        "description": "Inclusive. Empty: the run's own session.",
    },
    "backfill_days": {
        "type": ["null", "integer"],
        "minimum": 1,
        "maximum": 36_600,
        "title": "Days back",
        "description": "Calendar days before the last session, instead of a first session.",
    },
    "file_grain": {
        "type": "string",
        "enum": ["day", "year"],
        "values_display": {"day": "day: a file for each symbol and session", "year": "year: a file for each symbol and year"},
        "title": "File grain",
        "description": "day suits daily runs. year writes far fewer files for a long history, and requests by symbol.",
    },
    "force": {
        "type": "boolean",
        "title": "Fetch again",
        "description": "Fetch these dates again even if covered. Corrected values replace the old ones; equal values change nothing.",
    },
    "dry_run": {
        "type": "boolean",
        "title": "Dry run",
        "description": "Show batches, calls, minutes, rows and cost in the log of `plan`; fetch and write nothing.",
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
        "section": ADVANCED,
        "title": "Retries",
        "description": "Retries of a failed batch, after the short retries inside it. The pool slot is free in between.",
    },
    "retry_delay_seconds": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3600,
        "section": ADVANCED,
        "title": "Retry delay",
        "description": "Seconds before a retry, unless the provider requires more.",
    },
    "lookback_days": {
        "type": "integer",
        "minimum": 0,
        "maximum": 366,
        "section": ADVANCED,
        "title": "Lookback",
        "description": "Scheduled runs also fetch missing cells of this many calendar days before their session.",
    },
    "recheck_sessions": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "section": ADVANCED,
        "title": "Recheck",
        "description": "Scheduled runs request this many sessions before their own again, where that costs at most one call each.",
    },
    "endpoint": {
        "type": "string",
        "section": ADVANCED,
        "title": "Endpoint",
        "description": "The provider's endpoint to use.",
    },
    "max_missing_ratio": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "section": ADVANCED,
        "title": "Tolerated missing share",
        "description": "The run fails if a greater share of the planned cells ends without a state.",
    },
    "circuit_breaker": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "section": ADVANCED,
        "title": "Circuit breaker",
        "description": "After this many consecutive failed batches, calls to the provider pause for a while.",
    },
    "data_docs": {
        "type": "boolean",
        "section": ADVANCED,
        "title": "Data docs",
        "description": "Also write Great Expectations' HTML pages of the run to the lake.",
    },
    "tolerate": {
        "type": "object",
        "properties": {name: {"type": "number", "minimum": 0, "maximum": 1} for name in TOLERATE},
        "additionalProperties": False,
        "section": ADVANCED,
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


def form(options: Mapping[str, Option], endpoints: Sequence[Endpoint]) -> Form:
    """Return every param of a feed.

    :param options: the provider's own settings.
    :param endpoints: the endpoints that serve the dataset, best first.
    """
    form = dict(PARAMS)
    default, schema = PARAMS["universe"]
    form["universe"] = default, {**schema, "examples": list(known())}
    default, schema = PARAMS["endpoint"]
    labels = {default: f"{default}: the endpoint that needs the fewest calls"}
    labels |= {endpoint.name: f"{endpoint.name}: {PER_CALL[endpoint.shape]} per call" for endpoint in endpoints}
    form["endpoint"] = default, {**schema, "enum": list(labels), "values_display": labels}
    if "max_cost_usd" in options:  # the provider charges: rechecking must be chosen
        form["recheck_sessions"] = 0, SCHEMAS["recheck_sessions"]
    for name, option in options.items():
        apart = f" Values other than {option.default} are stored separately, as a provider of their own." if option.variant else ""
        labels = {
            "title": name.replace("_", " ").capitalize(),
            "description": f"The provider's own setting. {option.description}{apart}",
        }
        form[name] = option.default, {**option.schema, "section": ADVANCED, **labels}
    return form
