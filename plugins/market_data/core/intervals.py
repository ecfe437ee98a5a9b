"""Half-open date intervals and operations on sets of them.

An interval set is a tuple of disjoint, non-empty intervals in ascending order, none adjacent to the next: the canonical form, so that
equal sets compare equal. Every function here takes any iterable of intervals and returns the canonical form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

DAY = timedelta(days=1)


class Interval(NamedTuple):
    """Calendar dates from ``start`` (inclusive) to ``end`` (exclusive)."""

    start: date
    end: date

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.start <= day < self.end

    @property
    def last(self) -> date:
        """The last date inside."""
        return self.end - DAY

    def to_json(self) -> list[str]:
        return [self.start.isoformat(), self.end.isoformat()]

    @classmethod
    def from_json(cls, value: Sequence[str]) -> Interval:
        return cls(date.fromisoformat(value[0]), date.fromisoformat(value[1]))


IntervalSet = tuple[Interval, ...]


def closed(first: date, last: date) -> Interval:
    """Return the interval of all dates from ``first`` to ``last``, both inclusive."""
    return Interval(first, last + DAY)


def union(intervals: Iterable[Interval]) -> IntervalSet:
    """Return the dates in at least one of ``intervals``; adjacent ones are joined."""
    result: list[Interval] = []
    for interval in sorted(interval for interval in intervals if interval.start < interval.end):
        if result and interval.start <= result[-1].end:
            result[-1] = Interval(result[-1].start, max(result[-1].end, interval.end))
        else:
            result.append(interval)
    return tuple(result)


def difference(intervals: Iterable[Interval], minus: Iterable[Interval]) -> IntervalSet:
    """Return the dates in ``intervals`` that are in none of ``minus``."""
    result: list[Interval] = []
    holes = union(minus)
    for interval in union(intervals):
        start = interval.start
        for hole in holes:
            if hole.end <= start:
                continue
            if hole.start >= interval.end:
                break
            if hole.start > start:
                result.append(Interval(start, hole.start))
            start = max(start, hole.end)
        if start < interval.end:
            result.append(Interval(start, interval.end))
    return union(result)


def intersection(left: Iterable[Interval], right: Iterable[Interval]) -> IntervalSet:
    """Return the dates in both."""
    left = union(left)
    return difference(left, difference(left, right))


def coalesce(days: Iterable[date], axis: Sequence[date]) -> IntervalSet:
    """Return the fewest intervals that contain ``days`` and no other date of ``axis``.

    :param days: some of the dates in ``axis``.
    :param axis: all relevant dates (sessions), ascending. Dates between two neighbours are irrelevant, so consecutive sessions become
        one interval across weekends and holidays.
    """
    wanted = set(days)
    result: list[Interval] = []
    start: date | None = None
    previous: date | None = None
    for day in axis:
        if day in wanted:
            start = day if start is None else start
            previous = day
        elif start is not None and previous is not None:
            result.append(closed(start, previous))
            start = None
    if start is not None and previous is not None:
        result.append(closed(start, previous))
    return tuple(result)


def split(interval: Interval, days: int) -> Iterator[Interval]:
    """Yield pieces of ``interval`` of at most ``days`` calendar days, in order.

    :raises ValueError: if ``days`` is below 1.
    """
    if days < 1:
        raise ValueError(f"days is {days}; at least 1 is needed")
    start = interval.start
    while start < interval.end:
        end = min(start + timedelta(days=days), interval.end)
        yield Interval(start, end)
        start = end
