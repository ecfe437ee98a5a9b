"""The quick ways from a page to columns give what the careful ones give."""

import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from market_data.providers.alpaca.parse import AlpacaBar, Moment, TextBar, utc_moments
from market_data.providers.bar_columns import COLUMNS, EXACT, _exact_whole_numbers, floats, number_columns, numbers, trade_counts
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
KINDS = {
    PolygonBar: {"t": 7},
    GroupedBar: {"t": 7, "T": "IBM"},
    TextBar: {"t": "2012-03-01T14:30:00Z"},
    AlpacaBar: {"t": datetime(2012, 3, 1, tzinfo=UTC)},
}
"""The form of a bar, and its fields that are no numbers of the bar."""


@given(st.lists(st.lists(PRICES, min_size=6, max_size=6), max_size=6), st.sampled_from([*KINDS]))
def test_columns_of_bars_are_their_fields(rows, kind):
    bars = [kind(**dict(zip(COLUMNS.values(), row, strict=True)), **KINDS[kind]) for row in rows]
    columns = number_columns(numbers(bars))
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)
    }


def test_whole_numbers_too_large_for_a_float_are_infinite():
    assert repr(floats([10**400, None, -(10**400), 3, 1.5]).tolist()) == "[inf, nan, -inf, 3.0, 1.5]"


@given(st.lists(st.one_of(st.none(), st.integers(-(2**65), 2**65), st.floats(-1e20, 1e20)), max_size=6), st.sampled_from([*KINDS]))
@example([2**53 + 1], PolygonBar)
@example([2**53], TextBar)
@example([1.5, 2], AlpacaBar)
@example([None, 7.0], GroupedBar)
@example([10**400, 1, None], TextBar)
def test_counts_of_trades_are_exact_or_named(values, kind):
    bars = [kind(n=value, **KINDS[kind]) for value in values]
    problems, expected = {}, {}
    quick = _exact_whole_numbers(floats(values)) is not None
    assert quick == all(value is None or (value == int(value) and abs(value) < EXACT) for value in values)
    assert trade_counts(bars, numbers(bars)["n"], problems) == whole_numbers(values, "n", expected)
    assert problems == expected
