"""The dates on which a symbol belongs to the universe of a run.

A symbol is a member from its ``added_date`` (inclusive) until its ``removed_date`` (exclusive), perhaps several times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from market_data.core.intervals import Interval, IntervalSet, intersection
from market_data.core.messages import some

Membership = Mapping[str, IntervalSet]
"""Symbol -> dates of its membership; a symbol that is left out is always a member."""

EVER = (Interval(date.min, date.max),)


def member_sessions(symbols: Iterable[str], sessions: Sequence[date], membership: Membership) -> dict[str, int]:
    """Return symbol -> bit mask of the ``sessions`` (ascending) in which it is a member."""
    masks: dict[IntervalSet, int] = {}
    every = (1 << len(sessions)) - 1
    found = {}
    for symbol in symbols:
        dates = membership.get(symbol)
        if dates is not None and dates not in masks:
            masks[dates] = sum(
                (1 << bisect_left(sessions, one.end)) - (1 << bisect_left(sessions, one.start))
                for one in dates
                if one.start < one.end
            )
        found[symbol] = every if dates is None else masks[dates]
    return found


def member_cells(symbols: Sequence[str], sessions: Sequence[date], membership: Membership) -> Any:
    """Return a boolean array, symbols x sessions (ascending): true where the symbol is a member."""
    import numpy as np

    cells = np.ones((len(symbols), len(sessions)), dtype=bool)
    for row, symbol in enumerate(symbols if membership else ()):
        if symbol in membership:
            cells[row] = False
            for one in membership[symbol]:
                cells[row, bisect_left(sessions, one.start) : bisect_left(sessions, one.end)] = True
    return cells


def is_member(membership: Membership, symbol: str, day: date) -> bool:
    """Return true if the symbol is a member on ``day``."""
    dates = membership.get(symbol)
    return dates is None or any(day in interval for interval in dates)


def between(membership: Membership, span: Interval) -> dict[str, IntervalSet]:
    """Return the part of ``membership`` inside ``span``, without symbols that are members on all dates."""
    parts: dict[IntervalSet, IntervalSet] = {}
    for dates in membership.values():
        if dates not in parts:
            parts[dates] = intersection(dates, (span,))
    return {symbol: parts[dates] for symbol, dates in membership.items() if parts[dates] != (span,)}


def changes(symbols: Iterable[str], sessions: Sequence[date], membership: Membership) -> str:
    """Return sentences on the symbols that join, leave or are not members in ``sessions``, if any."""
    if not membership or not sessions:
        return ""
    first, last = sessions[0], sessions[-1]
    joining, leaving, before, after = [], [], [], []
    for symbol in symbols:
        dates = membership.get(symbol, EVER)
        inside = [one for one in dates if one.start <= last and one.end > first]
        joining += [f"{symbol} {one.start}" for one in inside if one.start > first]
        leaving += [f"{symbol} {one.end}" for one in inside if one.end <= last]
        if not inside and any(one.end <= first for one in dates):
            before.append(f"{symbol} {max(one.end for one in dates if one.end <= first)}")
        elif not inside:
            after.append(f"{symbol} {min((one.start for one in dates), default=date.max)}")
    groups = {
        "Joining the universe": joining,
        "Leaving the universe": leaving,
        "Not requested, removed before these sessions": before,
        "Not requested, added after these sessions": after,
    }
    return ". ".join(f"{head}: {some(names, 5)}" for head, names in groups.items() if names)
