import itertools
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from market_data.core.intervals import Interval, closed, coalesce, difference, intersection, split, union

ORIGIN = date(2024, 1, 1)


def day(n):
    return ORIGIN + timedelta(days=n)


intervals = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda p: Interval(day(p[0]), day(p[0] + p[1])))
interval_sets = st.lists(intervals, max_size=8)


def days(items):
    return {day(n) for n in range(60) if any(day(n) in i for i in items)}


def canonical(items):
    return all(i.start < i.end for i in items) and all(a.end < b.start for a, b in itertools.pairwise(items))


@given(interval_sets, interval_sets)
def test_algebra_is_that_of_sets_of_days(left, right):
    for result, expected in (
        (union(left + right), days(left) | days(right)),
        (difference(left, right), days(left) - days(right)),
        (intersection(left, right), days(left) & days(right)),
    ):
        assert days(result) == expected
        assert canonical(result)


@given(st.sets(st.integers(0, 50)), st.data())
def test_coalesce_holds_exactly_the_wanted_days_of_the_axis(axis, data):
    axis = [day(n) for n in sorted(axis)]
    wanted = data.draw(st.sets(st.sampled_from(axis))) if axis else set()
    result = coalesce(wanted, axis)
    assert {d for d in axis if any(d in i for i in result)} == wanted
    runs = sum(d in wanted and (i == 0 or axis[i - 1] not in wanted) for i, d in enumerate(axis))
    assert len(result) == runs


@given(intervals, st.integers(1, 20))
def test_split_covers_the_interval_in_pieces_of_at_most_the_size(interval, size):
    pieces = list(split(interval, size))
    assert days(pieces) == days([interval])
    assert all((p.end - p.start).days <= size for p in pieces)
    assert sum((p.end - p.start).days for p in pieces) == (interval.end - interval.start).days


def test_closed_includes_both_ends():
    assert day(3) in closed(day(1), day(3))
    assert day(4) not in closed(day(1), day(3))
    assert closed(day(1), day(3)).last == day(3)


@given(intervals)
def test_json_round_trip(interval):
    assert Interval.from_json(interval.to_json()) == interval
