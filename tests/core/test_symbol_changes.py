"""A company followed through its changes of symbol."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.symbol_changes import HasBars, NamedSpan, SymbolChange, company_of, follow, name_on

# As announced: FB became META on 2022-06-09 (Meta's release of 2022-05-31), PCLN became BKNG on 2018-02-27.
META = SymbolChange(date(2022, 6, 9), "FB", "META")
BOOKING = SymbolChange(date(2018, 2, 27), "PCLN", "BKNG")
BEGIN, END = date.min, date.max


def spans(symbol: str, *changes: SymbolChange, on: date | None = None) -> list[tuple[str, date, date]]:
    return [(span.symbol, span.start, span.end) for span in follow(symbol, changes, on)]


@pytest.mark.parametrize("symbol", ["FB", "META"])
def test_both_names_lead_to_one_company(symbol: str) -> None:
    assert spans(symbol, BOOKING, META, META) == [("FB", BEGIN, META.day), ("META", META.day, END)]


def test_a_symbol_without_changes_is_one_span() -> None:
    assert follow("AAPL", [META]) == (NamedSpan("AAPL", BEGIN, END),)


def test_a_chain_of_names_is_followed_both_ways() -> None:
    first, second = SymbolChange(date(2010, 1, 4), "A", "B"), SymbolChange(date(2015, 1, 5), "B", "C")
    wanted = [("A", BEGIN, first.day), ("B", first.day, second.day), ("C", second.day, END)]
    assert spans("A", second, first) == spans("B", first, second) == spans("C", second, first) == wanted


def test_a_symbol_that_another_company_took_means_its_last_bearer_or_that_of_the_date() -> None:
    gone, taken = SymbolChange(date(2010, 1, 4), "X", "Y"), SymbolChange(date(2015, 1, 5), "Z", "X")
    assert spans("X", gone, taken) == [("Z", BEGIN, taken.day), ("X", taken.day, END)]
    assert spans("X", gone, taken, on=date(2009, 1, 5)) == [("X", BEGIN, gone.day), ("Y", gone.day, END)]
    assert spans("Y", gone, taken) == [("X", BEGIN, gone.day), ("Y", gone.day, END)]


def test_two_companies_swap_names() -> None:
    day = date(2020, 1, 6)
    swap = (SymbolChange(day, "A", "B"), SymbolChange(day, "B", "A"))
    assert spans("A", *swap) == [("B", BEGIN, day), ("A", day, END)]
    assert spans("A", *swap, on=day - timedelta(days=1)) == [("A", BEGIN, day), ("B", day, END)]
    assert spans("B", *swap, on=day - timedelta(days=1)) == [("B", BEGIN, day), ("A", day, END)]


def test_a_symbol_passes_from_one_company_to_another_on_one_day() -> None:
    day = date(2020, 1, 6)
    passed = (SymbolChange(day, "A", "B"), SymbolChange(day, "B", "C"))
    assert spans("B", *passed, on=day - timedelta(days=1)) == spans("C", *passed) == [("B", BEGIN, day), ("C", day, END)]
    assert spans("B", *passed) == spans("A", *passed) == [("A", BEGIN, day), ("B", day, END)]


def test_bars_long_after_a_symbol_was_given_up_are_of_a_new_listing() -> None:
    google = SymbolChange(date(2014, 4, 3), "GOOG", "GOOGL")  # Google's release of 2014-03-27
    one = (NamedSpan("GOOG", BEGIN, google.day), NamedSpan("GOOGL", google.day, END))
    new = (NamedSpan("GOOG", google.day, END),)

    def last_bar(*day: int) -> HasBars:
        return lambda symbol, since: symbol == "GOOG" and since <= date(*day)

    assert company_of("GOOG", [google], has_bars=last_bar(2015, 1, 2)) == new
    assert company_of("GOOG", [google], date(2016, 1, 4), last_bar(2015, 1, 2)) == new
    assert company_of("GOOGL", [google], has_bars=last_bar(2015, 1, 2)) == one
    assert company_of("GOOG", [google], date(2014, 4, 2), last_bar(2015, 1, 2)) == one
    assert company_of("GOOG", [google], has_bars=last_bar(2014, 4, 7)) == company_of("GOOG", [google]) == one


def test_a_name_and_back_again() -> None:
    there, back = SymbolChange(date(2020, 1, 6), "A", "B"), SymbolChange(date(2021, 1, 4), "B", "A")
    wanted = [("A", BEGIN, there.day), ("B", there.day, back.day), ("A", back.day, END)]
    assert spans("A", there, back) == spans("B", there, back) == wanted


def test_the_name_on_a_day() -> None:
    assert [name_on("META", day, [META]) for day in (date(2022, 6, 8), date(2022, 6, 9))] == ["FB", "META"]
    assert name_on("META", END, [META]) == "META"
    chain = [SymbolChange(date(2010, 1, 4), "A", "B"), SymbolChange(date(2015, 1, 5), "B", "C")]
    assert [name_on("C", change.day - timedelta(days=n), chain) for change in chain for n in (1, 0)] == ["A", "B", "B", "C"]


DAYS = st.integers(0, 20).map(lambda n: date(2020, 1, 1) + timedelta(days=n))
CHANGES = st.lists(st.builds(SymbolChange, DAYS, st.sampled_from("ABCD"), st.sampled_from("ABCD")), max_size=8)


@given(CHANGES, st.sampled_from("ABCD"), st.one_of(st.none(), DAYS))
def test_spans_always_join_and_end(changes: list[SymbolChange], symbol: str, on: date | None) -> None:
    found = follow(symbol, changes, on)
    assert symbol in {span.symbol for span in found}
    assert found == follow(symbol, reversed(changes + changes), on)
    assert all(one.end == two.start and one.start < one.end for one, two in itertools.pairwise(found))
