"""The metrics alone, without Great Expectations: what is compared with what."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from market_data.quality.bars_by_session import BarsBySession
from market_data.quality.metric_rules import Thresholds, session_rules
from market_data.quality.session_walk import measure
from tests.quality.rows import SLIM, landed, names, slim, weekdays

DAYS = weekdays(date(2024, 1, 1), 12)
S30 = names(30)
LIMITS = Thresholds()


def metrics(tables, planned=None, **kwargs):
    bars = BarsBySession(pa.concat_tables([slim(table).cast(SLIM) for table in tables]))
    return measure(bars, planned if planned is not None else dict.fromkeys(bars.sessions, 30), LIMITS, **kwargs)


def refused(found):
    rules = [rule for rule in session_rules(LIMITS) if rule.severity == "critical"]
    return [m.session for m in found if not all(rule.holds(getattr(m, rule.metric)) for rule in rules)]


def test_a_plain_run_measures_one_everywhere():
    found = metrics([landed(DAYS, S30)])
    assert [m.present_ratio for m in found] == [1.0] * 12
    assert [m.reference for m in found[1:]] == [str(day) for day in DAYS[:-1]]
    assert all(0.5 < m.volume_ratio < 2 and 0.9 < m.median_ratio < 1.1 and m.jumped == 0 for m in found)


def test_ratios_are_what_they_say():
    one = landed(DAYS[:1], S30)
    close, volume = (one[name].to_numpy().copy() for name in ("close", "volume"))
    close[:3] *= 1.6
    close[3:9] /= 1.6
    two = landed(DAYS[1:2], S30[:28])
    place = two.schema.get_field_index
    two = two.set_column(place("close"), "close", pa.array(close[:28])).set_column(
        place("volume"), "volume", pa.array(volume[:28] * 3)
    )
    second = metrics([one, two])[1]
    assert (second.present, second.expected, second.present_ratio) == (28, 30, 28 / 30)
    assert (second.compared, second.jumped, second.jumped_ratio) == (28, 9, 9 / 28)
    assert second.median_ratio == pytest.approx(1)
    assert second.volume_ratio == pytest.approx(3)


@pytest.mark.parametrize(("factor", "jumped"), [(1.49, 0), (1.51, 30), (1 / 1.49, 0), (1 / 1.51, 30)])
def test_a_jump_is_the_factor_up_or_down(factor, jumped):
    one = slim(landed(DAYS[:1], S30)).cast(SLIM)
    two = one.set_column(1, "session", pa.array([DAYS[1]] * 30, pa.date32()))
    two = two.set_column(2, "close", pa.array(np.array(one["close"]) * factor))
    assert measure(BarsBySession(pa.concat_tables([one, two.cast(SLIM)])), dict.fromkeys(DAYS[:2], 30), LIMITS)[1].jumped == jumped


@pytest.mark.parametrize("bad", range(4))
def test_a_differing_session_is_found_at_any_place_without_earlier_ones(bad):
    tables = [landed([day], S30, price=10.0 if n == bad else 1.0) for n, day in enumerate(DAYS[:4])]
    assert refused(metrics(tables)) == [str(DAYS[bad])]


@pytest.mark.parametrize("bad", range(4))
def test_a_differing_volume_is_found_at_any_place_without_earlier_ones(bad):
    tables = [landed([day], S30, volume=0.01 if n == bad else 1.0) for n, day in enumerate(DAYS[:4])]
    assert refused(metrics(tables)) == [str(DAYS[bad])]


@pytest.mark.parametrize("change", [{"price": 10.0}, {"volume": 50.0}], ids=["price", "volume"])
def test_without_sessions_before_the_first_is_held_against_most_of_those_after_it(change):
    tables = [landed([day], S30, **(change if n in (0, 3) else {})) for n, day in enumerate(DAYS[:7])]
    assert refused(metrics(tables)) == [str(DAYS[0]), str(DAYS[3])]


def test_sessions_before_with_other_symbols_are_no_measure():
    previous = landed(DAYS[:1], S30[:5])
    found = metrics([previous, landed(DAYS[1:2], S30[:15]), landed(DAYS[2:4], S30)], planned=dict.fromkeys(DAYS[1:4], 30))
    assert (found[0].present, found[0].expected) == (15, 30)
    assert refused(found) == [str(DAYS[1])]


def test_the_later_of_two_differing_sessions_is_refused():
    assert refused(metrics([landed(DAYS[:1], S30), landed(DAYS[1:2], S30, price=10.0)])) == [str(DAYS[1])]


def test_a_refused_session_is_compared_with_nothing_after_it():
    found = metrics([landed(DAYS, S30)], refused={DAYS[4]})
    assert [m.reference for m in found[4:7]] == [str(DAYS[3]), str(DAYS[3]), str(DAYS[5])]


@pytest.mark.parametrize(("grain", "reference"), [("day", DAYS[0]), ("year", DAYS[1])])
def test_a_session_with_repeated_rows_is_compared_with_where_they_are_laid_to_their_symbols(grain, reference):
    found = metrics([landed(DAYS[:3], S30), landed(DAYS[1:2], S30[:1])], grain=grain)
    assert (found[1].repeated_rows, found[2].reference) == (1, str(reference))


def test_nothing_is_compared_across_a_hole():
    early, late = DAYS[:2], weekdays(date(2026, 1, 5), 3)
    found = metrics([landed(early, S30), landed(late, S30, price=3.0, volume=50.0)])
    assert refused(found) == []
    assert found[2].reference in {str(day) for day in late[1:]}


def test_sessions_before_a_hole_do_not_count_either():
    previous = landed(weekdays(date(2023, 6, 1), 5), S30, price=5.0, volume=30.0)
    assert refused(metrics([previous, landed(DAYS[:3], S30)], planned=dict.fromkeys(DAYS[:3], 30))) == []


def test_ten_days_are_no_hole():
    previous = landed([date(2023, 12, 22)], S30, price=5.0)
    assert refused(metrics([previous, landed(DAYS[:1], S30)], planned={DAYS[0]: 30})) == [str(DAYS[0])]


def test_a_symbol_absent_before_and_here_is_not_expected():
    found = metrics([landed(DAYS[:3], S30)], planned=dict.fromkeys(DAYS[:3], 300))
    assert [m.present_ratio for m in found] == [1.0, 1.0, 1.0]


def test_a_session_alone_is_compared_with_the_requested_symbols():
    assert metrics([landed(DAYS[:1], S30)], planned={DAYS[0]: 40})[0].present_ratio == 0.75
    assert metrics([landed(DAYS[:1], S30[:9])], planned={DAYS[0]: 19})[0].present_ratio is None


def test_requested_symbols_narrow_the_expected_ones():
    previous, repaired = landed(DAYS[:1], S30), landed(DAYS[1:2], S30[:22])
    asked = {DAYS[1]: frozenset(S30[:24])}
    (found,) = metrics([previous, repaired], planned={DAYS[1]: 24}, requested=asked)
    assert (found.present, found.expected) == (22, 24)
    (unknown,) = metrics([previous, repaired], planned={DAYS[1]: 24})
    assert (unknown.present, unknown.expected) == (22, 24)


def test_a_repaired_session_with_few_symbols_is_not_compared_with():
    previous, repaired = landed(DAYS[:1], S30), landed(DAYS[1:2], S30[:3])
    asked = {DAYS[1]: frozenset(S30[:3]), DAYS[2]: frozenset(S30)}
    found = metrics([previous, repaired, landed(DAYS[2:3], S30[:18])], planned={DAYS[1]: 3, DAYS[2]: 30}, requested=asked)
    assert (found[1].reference, found[1].present, found[1].expected) == (str(DAYS[0]), 18, 30)
    assert refused(found) == [str(DAYS[2])]


def test_cells_requested_again_may_stay_empty_in_a_stored_session():
    previous = landed(DAYS[:1], S30)
    planned = {DAYS[1]: 4, DAYS[2]: 30}
    asked = {DAYS[1]: frozenset([*S30[:2], "DELISTED", "HALTED"]), DAYS[2]: frozenset(S30)}
    assert refused(metrics([previous, landed(DAYS[2:3], S30)], planned=planned, requested=asked)) == []
    many, whole = {**planned, DAYS[1]: 20}, {**asked, DAYS[1]: frozenset(S30[:20])}
    assert refused(metrics([previous, landed(DAYS[2:3], S30)], planned=many, requested=whole)) == [str(DAYS[1])]
    assert refused(metrics([previous, landed(DAYS[2:3], S30)], planned=many)) == [str(DAYS[1])]


def test_a_handful_of_symbols_may_have_no_bar_at_all_where_nothing_else_is_known():
    not_listed_yet = {DAYS[0]: 1, DAYS[1]: 1, DAYS[2]: 1}
    assert refused(metrics([landed(DAYS[2:3], S30[:1])], planned=not_listed_yet)) == []


def test_volume_is_that_of_symbols_in_both():
    fewer = landed(DAYS[1:2], S30[:28])
    assert 0.8 < metrics([landed(DAYS[:1], S30), fewer])[1].volume_ratio < 1.25


def test_volume_is_compared_with_at_most_twenty_sessions():
    days = weekdays(date(2024, 1, 1), 46)
    tables = [landed(days[:25], S30), landed(days[25:], S30, volume=5.0)]
    assert metrics(tables)[-1].volume_ratio == pytest.approx(1, rel=0.2)
    assert metrics([landed(days[:19], S30), landed(days[19:28], S30, volume=5.0)])[-1].volume_ratio == pytest.approx(5, rel=0.2)


def test_unknown_volumes_are_not_compared():
    table = landed(DAYS[:3], S30)
    empty = table.set_column(table.schema.get_field_index("volume"), "volume", pa.nulls(table.num_rows, pa.float64()))
    assert {m.volume_ratio for m in metrics([empty])} == {None}


def test_a_session_without_any_volume_is_out_of_range():
    quiet = landed(DAYS[1:2], S30, volume=0.0)
    assert refused(metrics([landed(DAYS[:1], S30), quiet])) == [str(DAYS[1])]


def test_few_symbols_give_no_ratio():
    few = names(19)
    found = metrics(
        [landed(DAYS[:1], few), landed(DAYS[1:2], few[:10], price=10.0, volume=1000.0)], planned=dict.fromkeys(DAYS[:2], 19)
    )
    assert (found[1].present_ratio, found[1].jumped_ratio, found[1].volume_ratio) == (None, None, None)
    assert found[1].jumped_if_few == 10


def test_twenty_symbols_give_a_ratio():
    twenty = names(20)
    found = metrics([landed(DAYS[:1], twenty), landed(DAYS[1:2], twenty)], planned=dict.fromkeys(DAYS[:2], 20))
    assert (found[1].present_ratio, found[1].jumped_ratio, found[1].jumped_if_few) == (1.0, 0.0, None)
    assert found[1].volume_ratio is not None


def test_an_invalid_close_is_not_compared():
    one = slim(landed(DAYS[:2], S30)).cast(SLIM)
    close = one["close"].to_pylist()
    close[30:34] = [0.0, -5.0, float("nan"), None]
    found = metrics([one.set_column(2, "close", pa.array(close))])
    assert (found[1].compared, found[1].jumped, found[1].present) == (26, 0, 30)


def test_no_planned_sessions_give_no_metrics():
    assert metrics([landed(DAYS[:1], S30)], planned={}) == []


def test_a_session_that_plans_no_symbol_is_not_judged():
    found = metrics([landed(DAYS[:1], S30)], planned={DAYS[0]: 30, DAYS[1]: 0})
    assert refused(found) == []


def copied(count, symbols=S30, **change):
    """Two sessions; ``count`` symbols of the second have their bars of the first again."""
    one, two = (slim(landed([day], symbols)).cast(SLIM) for day in DAYS[:2])
    for name in ("close", "volume"):
        values = [*one[name].to_pylist()[:count], *two[name].to_pylist()[count:]]
        two = two.set_column(SLIM.get_field_index(name), SLIM.field(name), pa.array(values, pa.float64()))
    for name, value in change.items():
        place, field = SLIM.get_field_index(name), SLIM.field(name)
        one, two = (
            table.set_column(place, field, pa.array([value] * count + table[name].to_pylist()[count:], pa.float64()))
            for table in (one, two)
        )
    return measure(BarsBySession(pa.concat_tables([one, two])), dict.fromkeys(DAYS[:2], len(symbols)), LIMITS)[1]


@pytest.mark.parametrize(
    ("count", "rules"),
    [(3, []), (4, ["copied_bars_some"]), (15, ["copied_bars_some"]), (16, ["copied_bars", "copied_bars_some"])],
)
def test_bars_of_the_session_before_are_known_again(count, rules):
    found = copied(count)
    assert found.copied_ratio == count / 30
    assert [r.name for r in session_rules(LIMITS) if not r.holds(getattr(found, r.metric))] == rules


@pytest.mark.parametrize("change", [{"volume": 0.0}, {"volume": None}, {"close": None}], ids=["no trade", "no volume", "no close"])
def test_bars_without_trades_are_no_copies(change):
    found = copied(10, **change)
    assert found.copied_ratio == 0.0
    assert copied(11, **change).copied_ratio is None


def test_a_repeated_close_or_volume_alone_is_not_a_copy():
    assert copied(20, close=12.5).copied_ratio == 20 / 30
    one, two = (slim(landed([day], S30)).cast(SLIM) for day in DAYS[:2])
    for name in ("close", "volume"):
        half = two.set_column(SLIM.get_field_index(name), SLIM.field(name), one[name])
        assert measure(BarsBySession(pa.concat_tables([one, half])), dict.fromkeys(DAYS[:2], 30), LIMITS)[1].copied_ratio == 0.0


def test_the_later_of_two_copies_is_refused():
    again = landed(DAYS[:1], S30)
    again = again.set_column(again.schema.get_field_index("session"), "session", pa.array([DAYS[1]] * 30, pa.date32()))
    assert refused(metrics([landed(DAYS[:1], S30), again, landed(DAYS[2:4], S30)])) == [str(DAYS[1])]


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("volume", [1e11, 0.0])
def test_one_wrong_volume_does_not_affect_a_session(volume, bad):
    tables = [landed([day], S30) for day in DAYS[:4]]
    place = tables[bad].schema.get_field_index("volume")
    tables[bad] = tables[bad].set_column(place, "volume", pa.array([volume, *tables[bad]["volume"].to_pylist()[1:]]))
    found = metrics(tables)
    assert refused(found) == []
    assert all(0.5 < m.volume_ratio < 2 for m in found if m.volume_ratio)
