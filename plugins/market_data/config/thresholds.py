"""The checkpoint's thresholds as settings of a feed: `checks` in feeds.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from market_data.core.messages import shown, suggestion
from market_data.quality.metric_rules import Thresholds

NAMES = tuple(field.name for field in fields(Thresholds))
MOST = 100_000


def thresholds_of(checks: Mapping[str, Any]) -> Thresholds:
    """Return the thresholds of a feed: its own values, which have no problems, and the defaults."""
    values: dict[str, Any] = {name: tuple(value) if name == "thin_symbols" else value for name, value in checks.items()}
    return Thresholds(**values)


def threshold_problems(checks: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each unknown name and each wrong value."""
    problems = []
    for name, value in checks.items():
        if name not in NAMES:
            problems.append(f"checks.{name} is unknown{suggestion(name, NAMES)}; checks are: {', '.join(NAMES)}")
        elif needed := _needed(name, value):
            problems.append(f"checks.{name} is {shown(value)}; {needed} is needed")
    return problems


def _needed(name: str, value: object) -> str:
    """Return what is needed in place of ``value``; empty where it is right."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "thin_symbols":
        right = isinstance(value, list) and all(isinstance(item, str) and item.strip() == item != "" for item in value)
        return "" if right else 'a list of symbols and patterns, such as [CSRA, "BRK.*"],'
    if name.endswith("_ratio"):
        return "" if number and 0 <= value <= 1 else "a number from 0 to 1"  # type: ignore[operator]
    if name.endswith("_factor"):
        return "" if number and 1 < value <= MOST else f"a number above 1, at most {MOST},"  # type: ignore[operator]
    return "" if type(value) is int and 1 <= value <= MOST else f"a whole number from 1 to {MOST}"
