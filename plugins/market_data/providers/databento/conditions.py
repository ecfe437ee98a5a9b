"""The vendor's conditions of single days.

Source: https://databento.com/docs/api-reference-historical/metadata/metadata-get-dataset-condition. ``degraded``: data may be missing or
wrong; ``pending``: not there yet; ``missing``: there is none. ``last_modified_date`` is the UTC date of the day's last (re)issue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from market_data.core.capabilities import Condition
from market_data.core.messages import shown
from market_data.providers.responses import drift

log = logging.getLogger(__name__)

AVAILABLE = "available"
UNREADABLE = "of a condition that cannot be read"


def read_conditions(rows: Sequence[Any], where: Mapping[str, str]) -> dict[date, Condition]:
    """Return the condition of each date.

    A row that cannot be read leaves its date without one, or with the words that it could not be read; the others are kept.

    :raises SchemaDrift: if more than half of the rows are not of the known form.
    """
    found: dict[date, Condition] = {}
    problems: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            day = date.fromisoformat(row["date"])
        except (KeyError, TypeError, ValueError):
            problems[place] = f"it is {shown(row)}"
            continue
        try:
            words, modified = row["condition"], row.get("last_modified_date")
            found[day] = Condition(_words(words), date.fromisoformat(modified) if modified else None)
        except (AttributeError, KeyError, TypeError, ValueError):
            problems[place] = f"it is {shown(row)}"
            found[day] = Condition(UNREADABLE)
    if 2 * len(problems) > len(rows):
        (example, *_) = problems.values()
        raise drift(where, f"{example}, and {len(problems):,} of {len(rows):,} rows are like that", "a date's condition")
    for text in problems.values():
        log.warning("%s: %s: the condition of a date cannot be read: %s", where["provider"], where["request"], text)
    return found


def _words(condition: Any) -> str:
    """Return the vendor's word for what is wrong with a date; empty: nothing.

    :raises TypeError: if it is not a text.
    """
    if not isinstance(condition, str) or not condition:
        raise TypeError
    return "" if condition == AVAILABLE else condition[:40]
