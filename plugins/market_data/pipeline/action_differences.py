"""Name the corporate actions of a run on which providers differ, and those that contradict each other."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market_data.warehouse.base import Warehouse

log = logging.getLogger(__name__)

MOST = 20
"""Sentences of a run; the view ``gold_action_differences`` has all."""

DIFFERENCES = (
    "SELECT symbol, action_type, ex_date, finding, provider_a, provider_b, value_a, value_b FROM gold_action_differences "
    "WHERE provider_a = ? OR provider_b = ? ORDER BY symbol, ex_date, action_type, provider_a, provider_b"
)


def action_differences(warehouse: Warehouse, source: str, symbols: Collection[str]) -> list[str]:
    """Return a sentence per difference of ``symbols`` that concerns the provider ``source``, and log it."""
    rows = [row for row in warehouse.query(DIFFERENCES, [source, source]).to_pylist() if row["symbol"] in symbols]
    sentences = [_sentence(row) for row in rows[:MOST]]
    if len(rows) > MOST:
        sentences.append(f"and {len(rows) - MOST:,} more differences of corporate actions; see gold_action_differences")
    for words in sentences:
        log.warning("%s", words)
    return sentences


def _sentence(row: dict[str, Any]) -> str:
    day = f"{row['ex_date']:%Y-%m-%d}"
    about = f"{row['symbol']}: {row['action_type']} of {day}"
    if row["provider_a"] == row["provider_b"]:
        return f"{about}: {row['provider_a']} has several versions; {float(row['value_a']):g} is applied"
    sides = (f"{_value(row[f'value_{side}'])} at {row[f'provider_{side}']}" for side in "ab")
    return f"{about}: {', '.join(sides)}"


def _value(value: Any) -> str:
    return "none" if value is None else f"{float(value):g}"
