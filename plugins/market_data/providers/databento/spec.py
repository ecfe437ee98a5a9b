"""Describe databento: its datasets, endpoints and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import MINUTES, ConnectionForm, Option, ProviderSpec

FUTURES = "GLBX.MDP3"


def databento_range(rows_per_session: int, chunk_days: int, **more: int) -> Endpoint:
    """Return an endpoint that streams one response of any length, so a request may have many rows."""
    return Endpoint(
        "range",
        Shape.MULTI,
        page_rows=1_000_000_000,
        rows_per_session=rows_per_session,
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
    chosen = options.get("dataset") or "auto"
    return f"databento~{FUTURES}" if chosen == "auto" and vendors_dataset(options, "") == FUTURES else None


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
    label="Databento Historical",
    form=ConnectionForm(plans=("standard",), host="https://hist.databento.com"),
)
