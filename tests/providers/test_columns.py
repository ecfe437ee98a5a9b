"""The quick ways from a page to columns give what the careful ones give."""

import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from market_data.providers.alpaca.parse import Moment, utc_moments
from market_data.providers.bar_columns import bar_columns, exact_whole_numbers, number_columns, numbers
from market_data.providers.polygon.parse import GroupedBar, PolygonBar
from market_data.providers.unexpected import LARGEST_COUNT, whole_numbers

ODD_MOMENTS = (
    "2012-13-01T14:30:00Z",
    "2012-02-30T14:30:00Z",
    "2012-03-01T24:00:00Z",
    "2012-03-01T23:59:60Z",
    "0000-03-01T14:30:00Z",
    "2012-03-01T14:30:00+",
    "2012-03-01 14:30:00Z",
    "+012-03-01T14:30:00Z",
    "2012-03-01T14:30:0\u0660Z",
)


@given(st.lists(st.datetimes().map(lambda moment: moment.replace(microsecond=0)), min_size=1, max_size=5))
def test_moments_are_those_of_the_decoder(moments):
    texts = [f"{moment:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0") for moment in moments]
    assert utc_moments(texts).to_pylist() == [moment.replace(tzinfo=UTC) for moment in moments]


@pytest.mark.parametrize("text", ODD_MOMENTS)
def test_a_moment_of_another_form_is_left_to_the_decoder(text):
    assert utc_moments(["2012-03-01T14:30:00Z", text]) is None


def test_moments_of_other_lengths_do_not_make_up_for_each_other():
    assert utc_moments(["2012-03-01T14:30:00", "2012-03-01T14:30:00ZZ"]) is None
    assert utc_moments([]) is None
    assert msgspec.convert("2012-03-01T14:30:00.5Z", Moment) == datetime(2012, 3, 1, 14, 30, 0, 500_000, UTC)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**65), 2**65), st.floats()), max_size=6))
@example([2**63])
@example([-(2**63), 1])
@example([LARGEST_COUNT, -LARGEST_COUNT, None])
@example([1.5, 2])
def test_whole_numbers_are_exact_or_named(values):
    problems = {}
    found = whole_numbers(values, "n", problems).to_pylist()
    for place, (value, whole) in enumerate(zip(values, found, strict=True)):
        fits = value is not None and math.isfinite(value) and value == int(value) and abs(value) <= LARGEST_COUNT
        assert whole == (int(value) if fits else None)
        assert (place in problems) == (value is not None and not fits)


PRICES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.lists(PRICES, min_size=6, max_size=6), max_size=6), st.sampled_from([PolygonBar, GroupedBar]))
def test_numbers_of_bars_are_those_of_their_fields(rows, kind):
    ticker = {"T": "IBM"} if kind is GroupedBar else {}
    bars = [
        kind(t=place, **dict(zip(("o", "h", "l", "c", "v", "vw"), row, strict=True)), **ticker) for place, row in enumerate(rows)
    ]
    found = numbers(bars, PolygonBar)
    assert number_columns(found) == bar_columns(bars)
    assert found["t"].tolist() == [*range(len(rows))]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53) - 1, 2**53 + 1), st.floats(-1e20, 1e20)), max_size=6))
@example([2**53 + 1])
@example([1.5, 2])
@example([None, 7.0])
@example([10**400, 1, None])
def test_whole_numbers_that_are_exact_as_floats_are_those_numbers(values):
    found = exact_whole_numbers(numbers([PolygonBar(t=0, n=value) for value in values], PolygonBar)["n"])
    exact = all(value is None or (value == int(value) and abs(value) < 2**53) for value in values)
    assert (found is not None) == exact
    assert not exact or found.to_pylist() == values
