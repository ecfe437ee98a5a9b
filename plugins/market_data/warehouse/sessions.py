"""The counted sessions of each calendar, and the calendar of each symbol: tables that the views join.

A return or a window over a missing session is null. To see that in SQL, `market_sessions` counts the sessions of each calendar: two bars
whose numbers differ by one are neighbours, two that differ by more have a gap between them. `symbol_calendars` names the calendar of
the symbols that do not follow New York's; calendars that no symbol follows are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_data.core.calendar import CALENDARS, DAY, EXCHANGE, FIRST, LAST
from market_data.core.instruments import CalendarOf

Row = tuple[Any, ...]


def counted_sessions(name: str) -> Mapping[tuple[str, date], int]:
    """Return (calendar, session) -> number of the session, from 1."""
    sessions = CALENDARS[name].sessions(FIRST, LAST + DAY)
    return {(name, session): number for number, session in enumerate(sessions, 1)}


def changed_sessions(stored: pa.Table, followed: Iterable[str]) -> list[Row]:
    """Return the rows that bring ``market_sessions`` up to date, columns in order.

    A date that stopped being a session, by an extra closure, loses its number and keeps its row.

    :param stored: the table's rows.
    :param followed: names of calendars that symbols follow; New York's is always one, and unknown ones are left as they are.
    """
    names = {EXCHANGE, *(name for name in followed if name in CALENDARS)}
    # Seldom has one of them changed, and this is called before each load.
    changed = sorted(name for name in names if not _is_counted(stored, name))
    if not changed:
        return []
    known = {(row["calendar"], row["session_date"]): row["session_no"] for row in stored.to_pylist()}
    wanted: dict[tuple[str, date], int | None] = dict.fromkeys(key for key in known if key[0] in changed)
    for name in changed:
        wanted |= counted_sessions(name)
    return [(*key, number) for key, number in wanted.items() if key not in known or known[key] != number]


def _is_counted(stored: pa.Table, name: str) -> bool:
    """Return True if the numbered rows of a calendar are its sessions of today, from 1."""
    numbered = stored.filter((pc.field("calendar") == name) & pc.field("session_no").is_valid()).sort_by("session_no")
    sessions = pa.array(CALENDARS[name].sessions(FIRST, LAST + DAY), pa.date32())
    wanted = pa.table({"session_date": sessions, "session_no": pa.array(range(1, len(sessions) + 1), pa.int64())})
    return bool(numbered.select(wanted.column_names).cast(wanted.schema).equals(wanted))


def changed_calendars(stored: pa.Table, rows: pa.Table, calendar_of: CalendarOf) -> list[Row]:
    """Return the rows that bring ``symbol_calendars`` up to date for some symbols, columns in order.

    :param stored: the table's rows.
    :param rows: has the ``symbol`` and ``provider`` of each.
    """
    known = {(row["symbol"], row["provider"]): row["calendar"] for row in stored.to_pylist()}
    pairs = [tuple(pair.values()) for pair in rows.group_by(["symbol", "provider"]).aggregate([]).to_pylist()]
    named = ((*pair, calendar_of(pair[0]).name) for pair in pairs)
    return [row for row in named if known.get(row[:2], EXCHANGE) != row[2]]
