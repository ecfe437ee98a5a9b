"""Alpaca's corporate actions: splits, cash dividends and changes of names, in common pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from market_data.datasets.generated import GeneratedDividend, GeneratedSplit
from sandbox.market.market import Market
from sandbox.vendors.base import BadParameterError

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
DAY = timedelta(days=1)
LATEST = timedelta(days=120)
"""How long before its date of processing an action of this market may have its ex-date."""
GROUPS = {
    "forward_split": "forward_splits",
    "reverse_split": "reverse_splits",
    "stock_dividend": "stock_dividends",
    "cash_dividend": "cash_dividends",
    "name_change": "name_changes",
}

Row = dict[str, Any]


def page(market: Market, query: Mapping[str, str]) -> Row:
    """Return a response: actions by type, and the token of the next page."""
    symbols = set(filter(None, query.get("symbols", "").split(","))) or None
    types = query.get("types", ",".join(GROUPS)).split(",")
    if unknown := [name for name in types if name not in GROUPS]:
        raise BadParameterError(f"invalid type: {unknown[0]}")
    today = market.now().date()
    start, end = _day(query, "start", today), _day(query, "end", today)
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
        raise BadParameterError(f"invalid limit: {limit}; 1 to {MAX_LIMIT} are allowed")
    found = [
        *(_split(split) for split in market.splits(start, end + DAY, symbols)),
        *(_dividend(paid) for paid in market.dividends(start - LATEST, end + DAY, symbols)),
        *_changes(market, symbols),
    ]
    rows = sorted(
        ((kind, row) for kind, row in found if kind in types and start <= date.fromisoformat(row["process_date"]) <= end),
        key=lambda item: (item[1]["process_date"], item[1]["id"]),
    )
    token = query.get("page_token", "0")
    if not token.isdecimal():
        raise BadParameterError("invalid page token")
    begin, stop = int(token), int(token) + int(limit)
    groups: dict[str, list[Row]] = {}
    for kind, row in rows[begin:stop]:
        groups.setdefault(GROUPS[kind], []).append(row)
    return {"corporate_actions": groups, "next_page_token": str(stop) if rows[stop:] else None}


def _split(split: GeneratedSplit) -> tuple[str, Row]:
    day = split.ex_date.isoformat()
    rates = {"new_rate": split.split_to, "old_rate": split.split_from}
    kind = "forward_split" if split.split_to >= split.split_from else "reverse_split"
    return kind, {"id": f"{split.action_id}", "symbol": split.symbol, **rates, "process_date": day, "ex_date": day}


def _dividend(paid: GeneratedDividend) -> tuple[str, Row]:
    dates = {
        "process_date": paid.pay_date.isoformat(),
        "ex_date": paid.ex_date.isoformat(),
        "record_date": paid.record_date.isoformat(),
        "payable_date": paid.pay_date.isoformat(),
    }
    rate = {"rate": paid.amount, "special": paid.kind == "SC", "foreign": False}
    return "cash_dividend", {"id": f"{paid.action_id}", "symbol": paid.symbol, **rate, **dates}


def _changes(market: Market, symbols: set[str] | None) -> list[tuple[str, Row]]:
    return [
        (
            "name_change",
            {"id": f"{old}-{new}", "old_symbol": old, "new_symbol": new, "process_date": day.isoformat()},
        )
        for day, old, new in market.symbol_changes(symbols)
    ]


def _day(query: Mapping[str, str], name: str, default: date) -> date:
    try:
        return date.fromisoformat(query[name]) if name in query else default
    except ValueError:
        raise BadParameterError(f"invalid {name}: {query[name]}") from None
