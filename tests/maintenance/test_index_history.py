"""Memberships from today's members back through a list of changes that people wrote."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.config.universes import Member, read_members, write_members
from market_data.core.symbol_changes import SymbolChange
from market_data.maintenance.index_history import history
from market_data.maintenance.index_sources.found import Change, Constituent, Found

DAY = date(2026, 11, 29)
META = SymbolChange(date(2022, 6, 9), "FB", "META")


def on(found, day):
    return {row.symbol for row in found.members if row.on(day)}


def told(constituents, changes=(), renames=(), **terms):
    return history(Found(tuple(constituents), tuple(changes)), DAY, renames, **terms)


def test_members_of_a_past_date_include_those_that_left_since():
    found = told(
        [Constituent("AAPL", added=date(1982, 11, 30)), Constituent("NEW")],
        [Change(date(2020, 3, 2), "NEW", removed="OLD"), Change(date(2015, 3, 2), "OLD", removed="AA")],
    )
    assert on(found, date(2012, 6, 29)) == {"AAPL", "AA"}
    assert on(found, date(2016, 6, 30)) == {"AAPL", "OLD"}
    assert on(found, date(2020, 3, 2)) == on(found, DAY) == {"AAPL", "NEW"}
    assert found.sentences == (
        "1 former members have no row that says when they joined; they count as members since ever: AA (left 2015-03-02)",
    )


def test_a_change_of_symbol_in_the_lake_is_not_leave_and_join():
    found = told([Constituent("META", added=date(2013, 12, 23))], [Change(date(2013, 12, 23), "FB")], [META])
    assert found.members == (Member("FB", date(2013, 12, 23), date(2022, 6, 9)), Member("META", date(2022, 6, 9)))
    assert found.sentences == ()


@pytest.mark.parametrize(
    "row",
    [
        Change(date(2022, 6, 9), "META", "Meta Platforms", "FB", "Facebook", "Facebook changed its ticker symbol to META."),
        Change(date(2022, 6, 9), "META", "Meta Platforms", "FB", "Meta Platforms, Inc.", "New ticker"),
        Change(date(2022, 6, 9), "META", "Meta", "FB", "Facebook", "Renamed"),
    ],
)
def test_a_row_that_is_a_change_of_symbol_is_not_leave_and_join(row):
    found = told([Constituent("META", added=date(2013, 12, 23))], [row, Change(date(2013, 12, 23), "FB", removed="TER")])
    assert on(found, date(2014, 1, 2)) == {"FB"}
    assert on(found, DAY) == {"META"}
    assert found.renames == (META,)


def test_a_symbol_that_was_listed_anew_is_a_member_of_its_own():
    changed = SymbolChange(date(2014, 4, 3), "GOOG", "GOOGL")
    found = told([Constituent("GOOG", added=date(2014, 4, 3)), Constituent("GOOGL", added=date(2006, 4, 3))], (), [changed])
    assert found.members == (
        Member("GOOG", date(2006, 4, 3), date(2014, 4, 3)),
        Member("GOOG", date(2014, 4, 3)),
        Member("GOOGL", date(2014, 4, 3)),
    )


def test_a_row_of_an_acquisition_is_leave_and_join():
    row = Change(date(2022, 6, 9), "META", "A", "FB", "B", "Acquired FB and changed its name and symbol")
    assert told([Constituent("META")], [row]).renames == ()


ONCE = date(2020, 5, 1)


@pytest.mark.parametrize(
    "rows",
    [
        [Change(ONCE, "X", removed="X")],
        [Change(ONCE, "X"), Change(ONCE, removed="X")],
        [Change(ONCE, "X", removed="Y"), Change(ONCE, "Y", removed="X")],
        [Change(date(2026, 12, 21), "X", removed="X")],  # announced
    ],
)
def test_a_name_that_joined_and_left_on_one_date_is_a_member_on_no_date(rows):
    found = told([Constituent("A", added=date(1999, 1, 4))], rows)
    assert found.members == (Member("A", date(1999, 1, 4)),)
    assert f"X joined and left on {rows[0].day}; it counts as a member on no date" in found.sentences


def test_a_name_that_joined_before_leaves_on_the_date_of_a_row_that_names_it_twice():
    found = told([Constituent("A")], [Change(date(2010, 1, 4), "X"), Change(ONCE, "X", removed="X")])
    assert Member("X", date(2010, 1, 4), ONCE) in found.members


def test_a_name_that_joined_and_was_renamed_on_an_unknown_date_is_told():
    found = told([Constituent("META", added=date(2013, 12, 23))], [Change(date(2013, 12, 23), "FB", removed="TER")])
    assert on(found, date(2014, 1, 2)) == {"META"}
    assert "FB joined on 2013-12-23 and is META today" in found.sentences[0]


def test_a_member_that_left_and_came_back_has_two_memberships():
    rows = [Change(date(2010, 5, 3), removed="A"), Change(date(2015, 5, 4), "A"), Change(date(2000, 5, 1), "A")]
    found = told([Constituent("A")], rows)
    assert found.members == (Member("A", date(2000, 5, 1), date(2010, 5, 3)), Member("A", date(2015, 5, 4)))


def test_the_date_in_the_table_of_members_tells_when_it_came_back():
    found = told([Constituent("A", added=date(2015, 5, 4))], [Change(date(2010, 5, 3), removed="A")])
    assert found.members == (Member("A", None, date(2010, 5, 3)), Member("A", date(2015, 5, 4)))


def test_rows_that_contradict_others_are_reported_with_their_dates():
    rows = [Change(date(2010, 5, 3), removed="A"), Change(date(2011, 5, 3), "LOST")]
    found = told([Constituent("A", added=date(1999, 5, 4))], rows)
    assert found.members == (Member("A", date(1999, 5, 4)),)
    assert found.sentences == (
        "LOST joined on 2011-05-03; no row says when it left: this membership is left out",
        "A left on 2010-05-03 and is a member now; no row says when it came back: it counts as a member throughout",
    )


def test_a_symbol_passed_on_to_another_company_on_the_same_day_is_two_memberships():
    rows = [Change(date(2019, 6, 3), "DD", removed="DWDP"), Change(date(2017, 9, 1), "DWDP", removed="DD")]
    found = told([Constituent("DD")], rows)
    assert found.members == (
        Member("DD", None, date(2017, 9, 1)),
        Member("DD", date(2019, 6, 3)),
        Member("DWDP", date(2017, 9, 1), date(2019, 6, 3)),
    )


@pytest.mark.parametrize("edited", [False, True], ids=["before", "after"])
def test_an_announced_change_takes_effect_on_its_date(edited):
    future = DAY + timedelta(days=20)
    names = ["AAPL", "NEW"] if edited else ["AAPL", "OLD"]
    found = told(map(Constituent, names), [Change(future, "NEW", removed="OLD")])
    assert on(found, DAY) == {"AAPL", "OLD"}
    assert on(found, future) == {"AAPL", "NEW"}


def test_years_with_too_few_members_are_told():
    names = [Constituent(f"S{n}", added=date(2000 + n, 1, 3)) for n in range(5)]
    (sentence,) = told(names, expected=(3, 5)).sentences
    assert sentence.startswith("members in January by these sources, where 3 to 5 are expected: 2000: 1, 2001: 2;")


def test_memberships_count_up_to_their_last_date_and_the_list_of_changes_after_it():
    past = Found(
        memberships=(
            Member("A", date(1996, 1, 2)),
            Member("GONE", date(1996, 1, 2), date(2012, 7, 2)),
            Member("FB", date(2013, 12, 23)),
            Member("LATER", date(2019, 1, 2)),
            Member("LAST", date(2020, 5, 4)),
        )
    )
    page = Found(
        tuple(map(Constituent, ["A", "META", "LAST", "NEW"])),
        (Change(date(2024, 5, 1), "NEW", removed="LATER"), Change(date(2014, 5, 1), "A", removed="WRONG")),
    )
    found = history(page, DAY, [META], past=past)
    assert set(found.members) == {
        Member("A", date(1996, 1, 2)),
        Member("GONE", date(1996, 1, 2), date(2012, 7, 2)),
        Member("FB", date(2013, 12, 23), date(2022, 6, 9)),
        Member("META", date(2022, 6, 9)),
        Member("LATER", date(2019, 1, 2), date(2024, 5, 1)),
        Member("LAST", date(2020, 5, 4)),
        Member("NEW", date(2024, 5, 1)),
    }
    assert found.sentences == ()


def test_contradictions_between_memberships_and_page_are_told():
    past = Found(memberships=(Member("A", date(1996, 1, 2)), Member("OUT", date(2001, 1, 2)), Member("B", date(2020, 1, 2))))
    found = history(Found(tuple(map(Constituent, ["A", "B", "IN"]))), DAY, past=past)
    assert on(found, DAY) == {"A", "B", "IN"}
    assert on(found, date(2010, 1, 4)) == {"A", "OUT"}
    assert found.sentences[:2] == (
        "1 members of 2020-01-02 by the memberships are not by the page; they end on 2020-01-03: OUT",
        "1 members of 2020-01-03 by the page are not by the memberships; they begin on that date: IN",
    )


NAMES = st.sampled_from(["A", "B", "C", "D", "E.A", "FB", "META"])
DAYS = st.integers(0, 40).map(lambda n: date(2020, 1, 1) + timedelta(days=90 * n))
PAST = DAYS.filter(lambda day: day <= DAY)
ROWS = st.builds(Change, DAYS, st.just("") | NAMES, st.sampled_from(["", "X"]), st.just("") | NAMES, st.sampled_from(["", "X"]))


@given(
    st.lists(st.builds(Constituent, NAMES, added=st.none() | PAST), unique_by=lambda one: one.symbol, max_size=7),
    st.lists(ROWS, max_size=12),
    st.sampled_from([(), (META,)]),
)
def test_any_list_gives_a_valid_universe_with_todays_members(constituents, rows, renames):
    found = told(constituents, rows, renames)
    read_members(write_members(found.members), source="x")
    future = {name for row in rows if row.day > DAY for name in (row.added, row.removed)}
    renamed = {name for change in found.renames for name in (change.old, change.new)}
    today = {one.symbol for one in constituents}
    assert on(found, DAY) - future - renamed == today - future - renamed


@given(st.data())
def test_a_complete_list_gives_back_the_true_memberships(data):
    """Members join and leave at random; the list of all changes and the last members tell every membership since the first change."""
    pool, members, changes, spans = [f"S{n}" for n in range(12)], {f"S{n}" for n in range(4)}, [], {}
    since = dict.fromkeys(members)
    for n in range(data.draw(st.integers(0, 15))):
        day = date(2010, 1, 1) + timedelta(days=30 * n + data.draw(st.integers(0, 20)))
        out, new = data.draw(st.sampled_from(sorted(members))), data.draw(st.sampled_from(sorted(set(pool) - members)))
        changes.append(Change(day, new, removed=out))
        spans.setdefault(out, []).append(Member(out, since.pop(out), day))
        members = members - {out} | {new}
        since[new] = day
    truth = {row for rows in spans.values() for row in rows} | {Member(symbol, day) for symbol, day in since.items()}
    assert set(told(map(Constituent, sorted(members)), changes).members) == truth
