"""The names of companies over time, for the views to join."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from market_data.core.symbol_changes import SymbolChange, follow

FIRST, LAST = date(1900, 1, 1), date(9999, 12, 31)
"""The first and the last date that every engine stores."""

CHANGES = "SELECT DISTINCT effective_date, old_symbol, new_symbol FROM silver_symbol_changes WHERE withdrawn IS NULL"

Name = tuple[str, date, date, str]


def symbol_names(changes: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]) -> list[Name]:
    """Return the rows of ``SYMBOL_NAMES`` that are new or differ from the ``stored`` ones.

    A stored row that no change leads to any more becomes an empty span: rows are only replaced here.

    :param changes: the rows of `CHANGES`.
    """
    known = [SymbolChange(row["effective_date"], row["old_symbol"], row["new_symbol"]) for row in changes]
    spans: dict[tuple[str, date], Name] = {}
    for change in known:
        company = follow(change.new, known, on=change.day)
        for span in company:
            start, end = max(span.start, FIRST), min(span.end, LAST)
            spans[span.symbol, start] = (span.symbol, start, end, company[-1].symbol)
    held = {(row["symbol"], row["name_from"]): tuple(row.values()) for row in stored}
    gone = [(symbol, start, start, symbol) for symbol, start in held.keys() - spans.keys()]
    return sorted(name for name in [*spans.values(), *gone] if held.get(name[:2]) != name)
