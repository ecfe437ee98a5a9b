"""The metrics of symbol-years alone, without Great Expectations."""

import itertools
import math
import time
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.quality import session_bars, year_metrics
from market_data.quality.metric_rules import Thresholds, year_rules
from market_data.quality.year_metrics import measure_years, reason
from tests.quality.rows import weekdays

LIMITS = Thresholds()
DAYS = [day for day in weekdays(date(2014, 1, 1), 1100) if day.year < 2018]
YEAR = {year: [day for day in DAYS if day.year == year] for year in (2014, 2015, 2016, 2017)}


def bars(symbol, sessions, close=None, **prices):
    """A bar a session, no two alike; ``close`` and others instead, one value or one a session."""
    n = len(sessions)
    close = np.full(n, 1.0) * (close if close is not None else [50 + session.toordinal() % 97 / 100 for session in sessions])
    columns = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": np.full(n, 1000.0), **prices}
    table = pa.table(
        {
            "symbol": pa.array([symbol] * n, pa.string()),
            "session": pa.array(sessions, pa.date32()),
            **{name: pa.array(np.full(n, 1.0) * values) for name, values in columns.items()},
        }
    )
    return session_bars.bars(table)


def measured(*tables, planned=DAYS, requested=None, limits=LIMITS):
    table = pa.concat_tables([session_bars.BARS.empty_table(), *tables]).combine_chunks()
    found = measure_years(table, dict.fromkeys(planned, 3), limits, requested=requested).to_pylist()
    return {row["partition"]: row for row in found}


def broken(found):
    """Partition -> the rules it breaks."""
    names = {
        partition: [rule.name for rule in year_rules(LIMITS) if not rule.holds(row[rule.metric])]
        for partition, row in found.items()
    }
    return {partition: rules for partition, rules in names.items() if rules}


def said(found, partition, name):
    return reason(next(rule for rule in year_rules(LIMITS) if rule.name == name), found[partition])


def without(sessions, gone):
    gone = set(gone)
    return [session for session in sessions if session not in gone]


def test_complete_years_cause_no_warning():
    found = measured(bars("B/X", DAYS), bars("A", DAYS))
    assert list(found) == [f"{symbol}/{year}" for symbol in ("A", "B/X") for year in YEAR]
    assert broken(found) == {}
    row = found["B/X/2015"]
    assert (row["symbol"], row["year"]) == ("B/X", 2015)
    assert (row["expected"], row["present"], row["present_ratio"], row["rows"], row["repeated_rows"]) == (261, 261, 1.0, 261, 0)
    assert (row["hole"], row["hole_from"], row["flat"], row["flat_from"], row["spike_on"]) == (0, None, 1, None, row["spike_on"])


# -- completeness ----------------------------------------------------------------------------------------------------------------


def test_only_the_life_of_a_symbol_is_expected():
    found = measured(bars("NEW", DAYS[300:]), bars("OLD", DAYS[:300]), bars("BOTH", DAYS[300:700]), bars("ONE", DAYS[5:6]))
    assert broken(found) == {}
    assert {partition: row["expected"] for partition, row in found.items()} == {
        "BOTH/2015": 222, "BOTH/2016": 178, "NEW/2015": 222, "NEW/2016": 261, "NEW/2017": 260, "OLD/2014": 261, "OLD/2015": 39,
        "ONE/2014": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "rules"), [(90, []), (89, ["year_nearly_complete"]), (50, ["year_nearly_complete"]), (49, ["year_complete"])]
)
def test_scattered_losses_are_warned_of_and_then_refused(kept, rules):
    span = YEAR[2015][:100]
    lost = np.random.default_rng(1).permutation(98)[: 100 - kept] + 1  # first and last stay
    found = measured(bars("A", without(span, [span[n] for n in lost])))
    assert (found["A/2015"]["present"], found["A/2015"]["expected"]) == (kept, 100)
    assert [rule for rule in broken(found).get("A/2015", []) if rule != "hole"][:1] == rules[:1]


def test_the_words_have_counts_and_dates():
    found = measured(bars("A", without(YEAR[2015], YEAR[2015][40:200])), limits=Thresholds(listing_hole_sessions=1000))
    assert said(found, "A/2015", "year_complete") == (
        "row count: 101 of 261 sessions from its first bar to its last (38.7 %), at least 50 % needed; "
        "if it trades rarely, add it to checks.thin_symbols of the feed"
    )
    assert said(found, "A/2015", "hole") == (
        "hole: no bar in 160 sessions, 2015-02-26 to 2015-10-07; a halt, a change of listing, or lost"
    )


def test_a_year_without_a_bar_between_years_with_bars_counts_and_is_refused():
    found = measured(bars("A", without(DAYS, YEAR[2015])), bars("B", DAYS))
    assert broken(found) == {"A/2015": ["year_complete", "year_nearly_complete", "hole"]}
    row = found["A/2015"]
    assert (row["rows"], row["present"], row["expected"], row["present_ratio"]) == (0, 0, 261, 0.0)
    assert (row["hole"], row["hole_from"], row["hole_to"]) == (261, YEAR[2015][0], YEAR[2015][-1])


@pytest.mark.parametrize(
    ("lost", "year"),
    [(YEAR[2015][100:], "A/2015"), (YEAR[2015][:200], "A/2015"), (YEAR[2015][:1] + YEAR[2015][1:] + YEAR[2016][:90], "A/2015")],
    ids=["cut", "begins late", "a year and more"],
)
def test_a_long_hole_that_touches_the_edge_of_a_year_is_a_loss(lost, year):
    assert "year_complete" in broken(measured(bars("A", without(DAYS, lost))))[year]


def test_a_long_hole_inside_years_is_a_change_of_listing_and_causes_a_warning():
    lost = [*YEAR[2014][200:], *YEAR[2015], *YEAR[2016][:30]]
    found = measured(bars("A", without(DAYS, lost)))
    assert broken(found) == {f"A/{year}": ["hole"] for year in (2014, 2015, 2016)}
    assert {(row["hole"], row["hole_from"], row["hole_to"]) for p, row in found.items() if p != "A/2017"} == {
        (len(lost), lost[0], lost[-1])
    }
    assert [found[f"A/{year}"]["expected"] for year in YEAR] == [200, 0, 231, 260]
    assert found["A/2015"]["present_ratio"] is None


@pytest.mark.parametrize(("length", "expected"), [(60, 261), (61, 200)])
def test_a_change_of_listing_takes_longer_than_a_quarter(length, expected):
    found = measured(bars("A", without(YEAR[2015], YEAR[2015][100 : 100 + length])))
    assert found["A/2015"]["expected"] == expected


@pytest.mark.parametrize(("length", "rules"), [(20, []), (21, ["hole"])])
def test_a_hole_of_a_month_causes_a_warning(length, rules):
    assert broken(measured(bars("A", without(DAYS, YEAR[2015][100 : 100 + length])))).get("A/2015", []) == rules


def test_few_sessions_give_no_ratio():
    for count, ratio in ((19, None), (20, 2 / 20)):
        span = YEAR[2015][:count]
        assert measured(bars("A", [span[0], span[-1]]))["A/2015"]["present_ratio"] == ratio


def test_only_requested_cells_are_expected():
    requested = {day: frozenset({"A", "B"} if day in YEAR[2015][::10] else {"B"}) for day in DAYS}
    found = measured(bars("A", YEAR[2015][::10]), bars("B", YEAR[2015]), requested=requested)
    assert [(found[p]["expected"], found[p]["hole"]) for p in ("A/2015", "B/2015")] == [(27, 0), (261, 0)]
    assert broken(found) == {}


def test_sessions_that_plan_no_symbol_are_not_expected():
    table = bars("A", without(YEAR[2015], YEAR[2015][50:200]))
    planned = {day: 0 if day in YEAR[2015][50:200] else 3 for day in YEAR[2015]}
    (row,) = measure_years(table, planned, LIMITS).to_pylist()
    assert (row["expected"], row["hole"]) == (111, 0)


def test_no_rows_give_no_symbol_years():
    assert measured() == {}
    assert measured(planned=[]) == {}
    assert measured(bars("A", DAYS[:5]), planned=DAYS[10:]) == {}


def test_repeated_rows_are_counted_in_their_year():
    table = bars("A", DAYS)
    found = measured(table, table.slice(300, 2), table.slice(300, 1))
    assert {partition: row["repeated_rows"] for partition, row in found.items()} == {
        "A/2014": 0, "A/2015": 3, "A/2016": 0, "A/2017": 0,
    }  # fmt: skip
    assert (found["A/2015"]["rows"], found["A/2015"]["present"]) == (264, 261)
    assert broken(found) == {"A/2015": ["unique_sessions"]}
    assert said(found, "A/2015", "unique_sessions") == "unique key: 3 rows more than sessions"


# -- prices ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "rules"), [(20.1, ["price_level"]), (1 / 20.1, ["price_level"]), (19.9, []), (1 / 19.9, [])])
def test_a_jump_of_the_level_causes_a_warning(factor, rules):
    close = np.where(np.arange(len(DAYS)) < 300, 100.0, 100.0 * factor)
    assert broken(measured(bars("A", DAYS, close, open=np.arange(len(DAYS)) + 1.0))).get("A/2015", []) == rules


def test_a_jump_belongs_to_the_later_bar_and_has_both_values():
    table = pa.concat_tables(
        [bars("A", YEAR[2014], 2.0, open=np.arange(261) + 1.0), bars("A", without(YEAR[2015], YEAR[2015][:3]))]
    )
    found = measured(table)
    assert broken(found) == {"A/2015": ["price_level"]}
    assert said(found, "A/2015", "price_level") == (
        f"price level: close {50 + YEAR[2015][3].toordinal() % 97 / 100:g} on 2015-01-06 after 2 on 2014-12-31, "
        f"{(50 + YEAR[2015][3].toordinal() % 97 / 100) / 2:.3g} x; a split, another company, or a wrong unit"
    )


def test_bars_before_the_run_are_compared_with_and_not_judged():
    before = bars("A", YEAR[2014][-3:], 1.0)
    before = pa.table(
        {
            **{name: before[name] for name in before.column_names},
            **dict.fromkeys(("open", "high", "low"), pa.nulls(3, pa.float64())),
        }
    )
    found = measured(session_bars.bars(before), bars("A", YEAR[2015][10:]), bars("B", YEAR[2014][-3:]), planned=YEAR[2015])
    assert broken(found) == {"A/2015": ["price_level"]}
    assert (found["A/2015"]["level_from"], found["A/2015"]["level_before"]) == (YEAR[2014][-1], 1.0)
    assert found["A/2015"]["expected"] == 251  # the life begins with the first bar of the run


def test_a_run_that_begins_inside_a_year_does_not_judge_what_is_before():
    found = measured(bars("A", YEAR[2015]), planned=YEAR[2015][100:])
    assert (found["A/2015"]["rows"], found["A/2015"]["expected"]) == (161, 161)


@pytest.mark.parametrize("factor", [3.1, 1 / 3.1])
def test_a_close_that_comes_back_is_a_spike(factor):
    close = np.where(np.arange(len(DAYS)) == 300, factor * 50, 50.0)
    close[301] = 51.0
    found = measured(bars("A", DAYS, close, open=np.arange(len(DAYS)) + 1.0))
    assert broken(found) == {"A/2015": ["price_spike"]}
    assert said(found, "A/2015", "price_spike") == f"price spike: close {50 * factor:g} on {DAYS[300]} between 50 and 51"


@pytest.mark.parametrize("after", [160.0, 100.0, 20.0, 55.0], ids=["stays", "half way", "other side", "not far enough"])
def test_a_close_that_does_not_revert_is_not_a_spike(after):
    close = np.full(len(DAYS), 50.0)
    close[300], close[301:] = 155.0, after
    assert broken(measured(bars("A", DAYS, close, open=np.arange(len(DAYS)) + 1.0))) == {}


def test_the_first_and_last_bar_of_another_symbol_are_no_neighbours():
    risen = np.where(np.arange(261) == 260, 5.0, 1.0)
    found = measured(bars("A", YEAR[2015], risen, open=np.arange(261) + 1.0), bars("B", YEAR[2015][:1], 1.0), bars("C", YEAR[2015]))
    assert [pytest.approx(row["level"]) for row in found.values()] == [5.0, 1.0, pytest.approx(found["C/2015"]["level"])]
    assert broken(found) == {}


def test_a_stray_high_or_low_causes_a_warning():
    low = np.where(np.arange(len(DAYS)) == 300, 5.0, 49.0)
    found = measured(bars("A", DAYS, low=low))
    assert broken(found) == {"A/2015": ["price_range"]}
    high = found["A/2015"]["range_high"]
    assert (
        said(found, "A/2015", "price_range")
        == f"price range: high {high:g} and low 5 on {DAYS[300]}, {high / 5:.3g} x; a stray print"
    )


@pytest.mark.parametrize(("length", "rules"), [(30, []), (31, ["stale"])])
def test_bars_that_do_not_change_are_stale(length, rules):
    close = 50 + np.arange(len(DAYS)) % 7 / 10
    close[300 : 300 + length] = 60.0
    found = measured(bars("A", DAYS, close))
    assert found["A/2015"]["flat"] == length
    assert broken(found).get("A/2015", []) == rules
    assert said(found, "A/2015", "stale") == (
        f"stale: the same open, high, low and close in {length} bars, {DAYS[300]} to {DAYS[299 + length]}"
    )


@pytest.mark.parametrize("price", ["open", "high", "low"])
def test_bars_that_change_in_one_price_are_not_stale(price):
    assert measured(bars("A", YEAR[2015], 50.0))["A/2015"]["flat"] == 261
    change = {"open": 50.0, "high": 51.0, "low": 49.0}[price] + np.arange(261) % 2 / 10
    assert measured(bars("A", YEAR[2015], 50.0, **{price: change}))["A/2015"]["flat"] == 1


def test_a_stale_feed_over_the_end_of_a_year_counts_whole_in_both():
    close = 50 + np.arange(len(DAYS)) % 7 / 10
    close[250:290] = 60.0
    found = measured(bars("A", DAYS, close))
    assert broken(found) == {"A/2014": ["stale"], "A/2015": ["stale"]}
    assert {(row["flat"], row["flat_from"], row["flat_to"]) for row in found.values() if row["flat"] > 1} == {
        (40, DAYS[250], DAYS[289])
    }


def test_invalid_prices_are_not_compared():
    close = 50 + np.arange(len(DAYS)) % 7 / 10
    close[300:304] = [0.0, -5.0, math.nan, math.inf]
    found = measured(bars("A", DAYS, close, high=close * 1.01, low=close * 0.99, open=np.arange(len(DAYS)) + 1.0))
    assert (found["A/2015"]["present"], broken(found)) == (261, {})


# -- against plain Python --------------------------------------------------------------------------------------------------------

AXIS = [*weekdays(date(2014, 12, 25), 8), *weekdays(date(2015, 12, 28), 8)]  # three years, two of them by a few sessions
RAGGED = Thresholds(min_year_sessions=2, listing_hole_sessions=2)


def plainly(cells, requested):
    """``measure_years`` the slow way.

    :param cells: symbol -> session -> list of closes.
    """
    result = {}
    for symbol in sorted(cells):
        mine = {day: closes for day, closes in cells[symbol].items() if closes}
        landed = [day for day in AXIS if day in mine]
        if not landed:
            continue
        axis = [day for day in AXIS if day in mine or (symbol in requested[day] and landed[0] < day < landed[-1])]
        years = {year: [day for day in axis if day.year == year] for year in sorted({day.year for day in axis})}
        holes = [[day for _, day in run] for bar, run in itertools.groupby([(day in mine, day) for day in axis], _first) if not bar]
        firsts, lasts = {days[0] for days in years.values()}, {days[-1] for days in years.values()}
        unlisted = {day for h in holes if len(h) > 2 and h[0] not in firsts and h[-1] not in lasts for day in h}
        for year, days in years.items():
            steps = [mine[b][0] / mine[a][0] for a, b in itertools.pairwise(landed) if b.year == year]
            expected, present = len(set(days) - unlisted), len([day for day in days if day in mine])
            result[f"{symbol}/{year}"] = {
                "expected": expected,
                "present": present,
                "present_ratio": present / expected if expected >= 2 else None,
                "repeated_rows": sum(len(mine[day]) - 1 for day in days if day in mine),
                "hole": max([len(h) for h in holes if set(h) & set(days)], default=0),
                "level": pytest.approx(max([1.0, *steps, *(1 / step for step in steps)])),
            }
    return result


def _first(pair):
    return pair[0]


@given(st.data())
def test_the_metrics_are_those_of_plain_python(data):
    symbols = ["A", "B", "A/B"]
    count = st.integers(0, 2).map(lambda n: n if n < 2 else data.draw(st.sampled_from([1, 1, 2])))
    close = st.sampled_from([1.0, 2.0, 3.0, 50.0])
    cells = {
        symbol: {day: [data.draw(close)] * data.draw(count) for day in AXIS}
        for symbol in data.draw(st.sets(st.sampled_from(symbols)))
    }
    requested = {day: frozenset(data.draw(st.sets(st.sampled_from(symbols), min_size=1))) for day in AXIS}
    tables = [bars(s, [day] * len(closes), closes[0]) for s, days in cells.items() for day, closes in days.items() if closes]
    order = data.draw(st.permutations(range(len(tables))))
    found = measured(*(tables[n] for n in order), planned=AXIS, requested=requested, limits=RAGGED)
    expected = plainly(cells, requested)
    assert {p: {name: row[name] for name in expected.get(p, row)} for p, row in found.items()} == expected


def test_half_a_million_bars_take_a_fraction_of_a_second():
    names, days = [f"S{n:03d}" for n in range(500)], np.array(DAYS, dtype="datetime64[D]")
    close = 50 + np.random.default_rng(1).random(500 * len(days))
    prices = {"close": close, "volume": close, "open": close, "high": close * 1.01, "low": close * 0.99}
    table = pa.table({"symbol": np.repeat(names, len(days)), "session": np.tile(days, 500), **prices})
    table = session_bars.bars(table)
    start = time.perf_counter()
    found = measure_years(table, dict.fromkeys(DAYS, 500), LIMITS)
    assert time.perf_counter() - start < 5  # about 0.2 s here; the rest is for a busy machine
    assert (table.num_rows, found.num_rows, found["present_ratio"].to_pylist()) == (521_500, 2000, [1.0] * 2000)


@given(st.data())
def test_symbols_measured_apart_are_measured_as_together(data):
    days = DAYS[: data.draw(st.integers(1, 40))]
    tables = [
        bars(symbol, held, close=data.draw(st.sampled_from([50.0, 0.0, None])))
        for symbol in data.draw(st.lists(st.sampled_from("ABCDEFG"), unique=True))
        if (held := [day for day in days if data.draw(st.booleans())])
    ]
    requested = data.draw(st.none() | st.just(dict.fromkeys(days, ("A", "B", "Z"))))
    table = pa.concat_tables([session_bars.BARS.empty_table(), *tables, *tables[:1]])  # some rows twice
    table = table.take(pa.array(data.draw(st.permutations(range(len(table)))), pa.int64()))
    found = []
    for rows in (1, 10, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(year_metrics, "PART_ROWS", rows)
            found.append(measure_years(table, dict.fromkeys(days[len(days) // 3 :], 3), LIMITS, requested=requested))
    assert found[0].equals(found[2])
    assert found[1].equals(found[2])
