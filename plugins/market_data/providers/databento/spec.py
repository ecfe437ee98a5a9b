"""Describe databento: its datasets, endpoints and options."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from typing import Any

from market_data.core.capabilities import Endpoint, Shape
from market_data.core.instruments import Kind, kind_of
from market_data.providers.spec import MINUTES, ConnectionForm, Option, ProviderSpec

FUTURES = "GLBX.MDP3"
ALL_HOURS = "all"
_TIME = r"(?:[01]\d|2[0-3])[0-5]\d"


def databento_range(rows_per_session: int, chunk_days: int, **more: int) -> Endpoint:
    """Return an endpoint that streams one response of any length, so a request may have many rows."""
    return Endpoint(
        "range",
        Shape.MULTI,
        page_rows=1_000_000_000,
        rows_per_session=rows_per_session,
        charged=True,
        **{"request_rows": 2_000_000, "max_symbols": 2000, "chunk_days": chunk_days, **more},
    )


def vendors_dataset(options: Mapping[str, Any], dataset: str) -> str:
    """Return the vendor's dataset that serves ``dataset`` with these options."""
    chosen = options.get("dataset") or "auto"
    if chosen != "auto":
        return str(chosen)
    if options.get("stype_in") in ("continuous", "parent"):
        return FUTURES
    return "EQUS.SUMMARY" if dataset in ("ohlcv-1d", "statistics") else "EQUS.MINI"


def own_source(options: Mapping[str, Any]) -> str | None:
    """Return ``databento~GLBX.MDP3`` where ``auto`` means futures: ESH4 may be a share elsewhere."""
    chosen, hours = options.get("dataset") or "auto", options.get("hours") or ALL_HOURS
    if chosen != "auto" or vendors_dataset(options, "") != FUTURES:
        return None
    return "~".join(["databento", FUTURES, *([] if hours == ALL_HOURS else [hours])])


def read_hours(hours: str) -> tuple[time, time] | None:
    """Return the New York times of the first tick and, exclusive, the last; None: all of the session.

    :raises ValueError: if the end is not after the start.
    """
    if hours == ALL_HOURS:
        return None
    start, end = (time(int(text[:2]), int(text[2:])) for text in hours.split("-"))
    if start >= end:
        raise ValueError(hours)
    return start, end


def kind_in(symbol: str, source: str) -> Kind:
    """Return the kind of a symbol: in a dataset of futures even a number is one."""
    return Kind.FUTURE if source.endswith(f"~{FUTURES}") else kind_of(symbol)


SPEC = ProviderSpec(
    "databento",
    "market_data.providers.databento.hook:DatabentoHook",
    {
        "ohlcv-1d": (databento_range(1, 30),),
        "ohlcv-1m": (databento_range(MINUTES, 7),),
        "trades": (databento_range(50_000, 1, max_days=1, request_rows=1_000_000),),
        "tbbo": (databento_range(50_000, 1, max_days=1, request_rows=1_000_000),),
        "statistics": (databento_range(20, 1),),
    },
    {
        "stype_in": Option(
            "raw_symbol",
            {"type": "string", "enum": ["raw_symbol", "continuous", "parent", "instrument_id"]},
            "How symbols are meant: AAPL; ES.c.0 (continuous); ES.FUT (parent); 15144 (instrument_id).",
            variant=False,
        ),
        "dataset": Option(
            "auto",
            {"type": "string", "pattern": r"auto|[A-Z]{4}\.[A-Z0-9]{2,16}", "examples": ["auto", "EQUS.MINI", "XNAS.ITCH"]},
            "auto: EQUS.SUMMARY for daily bars and statistics, GLBX.MDP3 for continuous and parent symbols, EQUS.MINI for the rest.",
        ),
        "hours": Option(
            ALL_HOURS,
            {"type": "string", "pattern": rf"{ALL_HOURS}|{_TIME}-{_TIME}", "examples": [ALL_HOURS, "0930-1600"]},
            "Only ticks of these New York hours of the session's date, the end exclusive: 0930-1600. all: the whole session.",
            datasets=("trades", "tbbo"),
        ),
        "chunk_days": Option(
            None,
            {"type": ["null", "integer"], "minimum": 1, "maximum": 366},
            "Most calendar days of a request. Empty: only where it would bring too much at once.",
            variant=False,
        ),
        "max_cost_usd": Option(
            None,
            {"type": ["null", "number"], "minimum": 0, "maximum": 1_000_000},
            "The run fails before it fetches anything if it would be charged more. Empty: no limit.",
            variant=False,
        ),
    },
    charges=True,
    own_source=own_source,
    kind_of=kind_in,
    label="Databento Historical",
    form=ConnectionForm(plans=("standard",), host="https://hist.databento.com"),
)
