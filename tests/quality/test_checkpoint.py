"""The whole checkpoint, Great Expectations included."""

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.core.errors import QualityError
from market_data.quality import checkpoint as module
from market_data.quality import checkpoint_result
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.quality.great_expectations import Validator
from market_data.quality.metric_rules import Thresholds, session_rules, year_rules
from market_data.quality.row_counts import RowCounts, row_rules
from market_data.quality.suites import metrics_suite, rows_suite
from tests.quality.rows import DATASET, NONE_BEFORE, landed, names, warehoused, weekdays

DAYS = weekdays(date(2024, 1, 1), 6)
S40 = names(40)
PREVIOUS = warehoused(landed(weekdays(date(2023, 12, 18), 10), S40))


def check(chunks, *, planned=None, previous=PREVIOUS, provider=None, **kwargs):
    scope = Scope(planned or dict.fromkeys(DAYS, 40), previous, provider=provider)
    return run_checkpoint(DATASET, scope, chunks, run_name="manual__1", **kwargs)


def days(bad=None, *, symbols=S40, **change):
    """A chunk a session; the one of ``bad`` is of ``symbols`` and changed."""
    return [landed([day], symbols, **change) if day == bad else landed([day], S40) for day in DAYS]


def refused(result):
    return {verdict.partition: verdict.reasons for verdict in result.verdicts if not verdict.passed}


def with_value(table, column, place, value):
    values = table[column].to_pylist()
    values[place] = value
    return table.set_column(
        table.schema.get_field_index(column), DATASET.schema.field(column), pa.array(values, table[column].type)
    )


def test_a_good_run_passes_with_nothing_to_say():
    result = check(days())
    assert result.success
    assert result.failed == []
    assert [(v.partition, v.passed, v.reasons) for v in result.verdicts] == [(str(day), True, ()) for day in DAYS]
    assert result.statistics == {
        "sessions": 6, "passed": 6, "refused": 0, "warned": 0, "rows": 240,
        "rules_evaluated": result.statistics["rules_evaluated"], "rules_broken": 0,
    }  # fmt: skip
    assert result.statistics["rules_evaluated"] > 25
    assert result.table == "checkpoint: 6 sessions, 240 rows: 6 passed (0 with a warning), 0 refused"


@pytest.mark.parametrize("previous", [PREVIOUS, NONE_BEFORE], ids=["after others", "first run"])
@pytest.mark.parametrize("bad", [DAYS[0], DAYS[2], DAYS[-1]], ids=["first", "middle", "last"])
def test_a_session_short_of_symbols_is_refused_and_only_it(bad, previous):
    result = check(days(bad, symbols=S40[:24]), previous=previous)
    assert refused(result) == {str(bad): ("row count: 24 of 40 expected symbols (60 %), at least 90 % needed",)}
    assert not result.success


@pytest.mark.parametrize("previous", [PREVIOUS, NONE_BEFORE], ids=["after others", "first run"])
@pytest.mark.parametrize("bad", [DAYS[0], DAYS[2], DAYS[-1]], ids=["first", "middle", "last"])
def test_a_session_with_prices_times_ten_is_refused_and_only_it(bad, previous):
    result = check(days(bad, price=10.0), previous=previous)
    ((partition, reasons),) = refused(result).items()
    assert partition == str(bad)
    assert reasons[0].startswith("price jump: 40 of 40 symbols (100 %) are more than 1.5 x up or down on 20")
    assert reasons[0].endswith("at most 20 % allowed")
    assert reasons[1].startswith("warning: median price: ")
    assert all(verdict.reasons == () for verdict in result.verdicts if verdict.passed)


def test_two_bad_sessions_are_both_refused_and_only_they():
    chunks = days(DAYS[1], symbols=S40[:24])
    chunks[3] = landed([DAYS[3]], S40, price=10.0)
    result = check(chunks)
    assert list(refused(result)) == [str(DAYS[1]), str(DAYS[3])]
    assert {entry["rule"]: (entry["severity"], entry["unexpected_count"], entry["observed"][0]) for entry in result.failed} == {
        "present_ratio": ("critical", 1, 0.6),
        "price_jump": ("critical", 1, 1.0),
        "median_move": ("warning", 1, pytest.approx(10, rel=0.1)),
        "price_spike": ("warning", 40, pytest.approx(10, rel=0.1)),
    }
    assert result.failed[0]["kwargs"] == {"column": "present_ratio", "min_value": 0.9}


def test_the_edge_of_the_thresholds_passes():
    assert check(days(DAYS[2], symbols=S40[:36])).success
    jumped = with_values_times(landed([DAYS[2]], S40), 8, 1.6)
    result = check([*days()[:2], jumped, *days()[3:]])
    assert result.success
    assert list(refused(check(days(DAYS[2], symbols=S40[:35])))) == [str(DAYS[2])]
    jumped = with_values_times(landed([DAYS[2]], S40), 9, 1.6)
    assert list(refused(check([*days()[:2], jumped, *days()[3:]]))) == [str(DAYS[2])]


def with_values_times(table, count, factor):
    """The prices of the first ``count`` rows times ``factor``."""
    first, rest = table.slice(0, count), table.slice(count)
    for column in ("open", "high", "low", "close"):
        place = first.schema.get_field_index(column)
        first = first.set_column(place, DATASET.schema.field(column), pc.multiply(first[column], factor))
    return pa.concat_tables([first, rest])


def test_a_half_day_passes():
    assert check(days(DAYS[2], volume=0.3)).success


@pytest.mark.parametrize(("factor", "observed"), [(100.0, "100"), (0.01, "0.01")])
def test_a_wrong_volume_unit_is_refused(factor, observed):
    ((partition, (reason,)),) = refused(check(days(DAYS[2], volume=factor))).items()
    assert partition == str(DAYS[2])
    assert reason.startswith("volume: ")
    assert float(reason.split()[1]) == pytest.approx(float(observed), rel=0.2)
    assert reason.endswith("x that of the other sessions, 0.1 x to 10 x allowed")


def test_a_planned_session_without_rows_is_refused():
    chunks = days()
    del chunks[2]
    assert refused(check(chunks)) == {str(DAYS[2]): ("row count: no rows, 40 symbols planned",)}


def test_a_missing_newest_session_is_stale_too():
    assert refused(check(days()[:-1])) == {
        str(DAYS[-1]): (
            "row count: no rows, 40 symbols planned",
            f"freshness: the newest planned session has no rows, the newest with rows is {DAYS[-2]}",
        )
    }


@pytest.mark.parametrize("previous", [PREVIOUS, NONE_BEFORE], ids=["after others", "first run"])
def test_every_session_of_a_run_without_rows_is_refused(previous):
    result = check([], previous=previous)
    assert len(refused(result)) == 6
    assert "the newest with rows is none" in result.verdicts[-1].reasons[1]


def test_symbols_not_listed_yet_are_no_failure():
    new = names(48)
    chunks = [*days()[:3], *(landed([day], new) for day in DAYS[3:])]
    result = check(chunks, planned=dict.fromkeys(DAYS, 60))
    assert result.success
    assert result.failed == []


def test_few_symbols_with_a_split_pass_with_a_warning():
    few = ["AAPL", "IBM"]
    before, after = [landed([day], few) for day in DAYS[:3]], [landed([day], few) for day in DAYS[3:]]
    after = [with_values_times(table, 1, 1 / 7) for table in after]
    result = check([*before, *after], planned=dict.fromkeys(DAYS, 2), previous=NONE_BEFORE)
    assert result.success
    assert [bool(verdict.reasons) for verdict in result.verdicts] == [False, False, False, True, False, False]
    (reason,) = result.verdicts[3].reasons
    assert reason.startswith("warning: price jump: AAPL ")
    assert "IBM" not in reason
    assert f" on {DAYS[2]}" in reason
    assert result.statistics["warned"] == 1
    assert [(entry["rule"], entry["severity"]) for entry in result.failed] == [("price_jump_few", "warning")]


def test_the_verdict_does_not_depend_on_how_the_rows_are_cut():
    chunks = days(DAYS[2], symbols=S40[:24])
    chunks[4] = landed([DAYS[4]], S40, price=10.0)
    whole = pa.concat_tables(chunks)
    by_session = check(chunks)
    by_symbol = check([whole.filter(pc.equal(whole["symbol"], symbol)) for symbol in reversed(S40)])
    assert by_symbol.verdicts == by_session.verdicts
    assert by_symbol.failed == by_session.failed
    assert by_symbol.document["sessions"] == by_session.document["sessions"]
    assert by_symbol.table == by_session.table


def test_rows_of_sessions_not_planned_are_left_aside():
    result = check([*days(), landed([date(2024, 2, 1)], S40, price=-1.0)])
    assert result.success
    assert result.statistics["rows"] == 240


# -- rows ------------------------------------------------------------------------------------------------------------------------

PLANTED = {
    "close_present": {"close": None},
    "open_present": {"open": float("nan")},
    "high_not_below_low": {"high": 1.0},
    "open_not_above_high": {"open": 1e6},
    "close_not_below_low": {"close": 0.01},
    "low_positive": {"low": -1.0},
    "high_storable": {"high": float("inf")},
    "volume_not_negative": {"volume": -1.0},
    "timeframe": {"timeframe": "1m"},
    "provider": {"provider": "alpaca"},
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_row_that_slipped_past_the_gate_refuses_its_session_and_only_it(rule):
    ((column, value),) = PLANTED[rule].items()
    chunks = days()
    chunks[2] = with_value(chunks[2], column, 5, value)
    result = check(chunks)
    ((partition, reasons),) = refused(result).items()
    assert partition == str(DAYS[2])
    assert f"{rule}: 1 row (S005)" in reasons
    assert {"rule": rule, "unexpected_count": 1}.items() <= next(entry for entry in result.failed if entry["rule"] == rule).items()


def test_a_null_close_breaks_no_order():
    chunks = days()
    chunks[2] = with_value(chunks[2], "close", 5, None)
    assert refused(check(chunks)) == {str(DAYS[2]): ("close_present: 1 row (S005)",)}


def test_a_key_stored_twice_refuses_its_session():
    chunks = days()
    chunks[2] = pa.concat_tables([chunks[2], chunks[2].slice(7, 1)])
    ((partition, reasons),) = refused(check(chunks)).items()
    assert (partition, reasons) == (str(DAYS[2]), ("unique_key: 2 rows (S007)", "unique key: 1 rows more than symbols"))


def test_a_key_stored_twice_is_seen_across_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 100)
    chunks = days()
    result = check([*chunks, chunks[2].slice(7, 1)])
    assert refused(result) == {str(DAYS[2]): ("unique key: 1 rows more than symbols",)}


def test_broken_rows_add_up_across_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 25)
    chunks = days()
    for place in (3, 30, 31, 38):
        chunks[2] = with_value(chunks[2], "volume", place, -1.0)
    result = check(chunks)
    assert refused(result) == {str(DAYS[2]): ("volume_not_negative: 4 rows (S003, S030, S031, ...)",)}
    assert (result.failed[0]["unexpected_count"], result.failed[0]["observed"]) == (4, [-1.0] * 4)
    assert [v["suite_name"] for v in result.document["validations"]] == ["bars.rows", "bars.sessions", "bars.symbols"]


def test_a_session_with_bad_rows_is_not_compared_with():
    chunks = days()
    chunks[2] = with_value(chunks[2], "volume", 5, -1.0)
    result = check(chunks)
    assert result.document["sessions"][3]["reference"] == str(DAYS[1])


def test_the_provider_can_be_given():
    assert check(days(), provider="polygon").success
    assert len(refused(check(days(), provider="alpaca"))) == 6


# -- no verdict ------------------------------------------------------------------------------------------------------------------


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(QualityError, match=r"rule columns is broken: missing columns \['high'\], unexpected columns \[\]"):
        check([table.drop_columns(["high"]) for table in days()])


def test_a_missing_session_column_is_an_error_that_names_it():
    with pytest.raises(QualityError, match="column session is missing"):
        check([table.drop_columns(["session"]) for table in days()])


def test_a_rule_that_cannot_be_evaluated_is_an_error_that_names_it():
    tables = [
        table.set_column(table.schema.get_field_index("high"), "high", pc.cast(table["high"], pa.string())) for table in days()
    ]
    with pytest.raises(QualityError, match="rule high_not_below_low could not be evaluated: "):
        check(tables)


def test_rows_without_a_session_are_an_error():
    with pytest.raises(QualityError, match="rule session_present: 1 stored rows have no session"):
        check([with_value(landed([day], S40), "session", 3, None) if day == DAYS[1] else landed([day], S40) for day in DAYS])


def test_a_row_without_a_symbol_refuses_its_session():
    chunks = days()
    chunks[2] = with_value(chunks[2], "symbol", 5, None)
    assert refused(check(chunks)) == {str(DAYS[2]): ("symbol_present: 1 row (None)",)}


def test_an_expectation_over_a_missing_column_never_passes():
    import great_expectations as gx

    suite = gx.ExpectationSuite(
        "s", expectations=[gx.expectations.ExpectColumnValuesToBeBetween(column="ghost", min_value=0, meta={"rule": "ghost"})]
    )
    validator = Validator("r")
    with pytest.raises(QualityError, match="rule ghost could not be evaluated: .*ghost"):
        validator.run(validator.checkpoint(suite), pa.table({"partition": ["2024-01-02"], "a": [1.0]}))


# -- what is handed on -----------------------------------------------------------------------------------------------------------


def test_the_document_is_plain_small_json_with_everything_in_it():
    chunks = days(DAYS[2], price=-1.0)
    result = check(chunks)
    text = json.dumps(result.document, allow_nan=False)
    assert json.loads(text) == result.document
    assert result.document["verdicts"] == [verdict.to_json() for verdict in result.verdicts]
    assert [m["session"] for m in result.document["sessions"]] == [str(day) for day in DAYS]
    assert result.document["thresholds"]["min_present_ratio"] == 0.9
    assert (result.document["run_name"], result.document["dataset"], result.document["success"]) == ("manual__1", "ohlcv-1d", False)
    assert {v["suite_name"] for v in result.document["validations"]} == {"bars.rows", "bars.sessions", "bars.symbols"}
    assert '"unexpected_list"' not in text
    assert len(text) < 100_000
    assert all(len(entry["observed"]) <= 20 for entry in result.failed)


def test_the_table_tells_of_each_session_with_something_to_say():
    lines = check(days(DAYS[2], symbols=S40[:24])).table.splitlines()
    assert lines[0] == "checkpoint: 6 sessions, 224 rows: 5 passed (0 with a warning), 1 refused"
    assert lines[2].split()[:3] == [str(DAYS[2]), "refused", "24/40"]
    assert len(lines) == 3


def test_a_long_table_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(checkpoint_result, "TABLE_LINES", 2)
    lines = check([]).table.splitlines()
    assert (len(lines), lines[-1]) == (5, "  ... and 4 more; all are in the checkpoint's document")


def test_thresholds_are_taken_from_the_caller():
    chunks = days(DAYS[2], symbols=S40[:24])
    assert check(chunks, thresholds=Thresholds(min_present_ratio=0.6)).success
    ((_, (reason,)),) = refused(check(chunks, thresholds=Thresholds(min_present_ratio=0.7))).items()
    assert reason.endswith("at least 70 % needed")


def test_every_metric_rule_is_an_expectation_with_the_same_bounds():
    limits = replace(Thresholds(), max_jumped_ratio=0.3)
    for rules in (session_rules(limits), year_rules(limits)):
        suite = metrics_suite("any", rules)
        assert [(e.meta["rule"], e.column, e.min_value, e.max_value, e.severity.value) for e in suite.expectations] == [
            (rule.name, rule.metric, rule.low, rule.high, rule.severity) for rule in rules
        ]
        assert len({rule.name for rule in rules}) == len(rules)


def test_every_row_rule_is_an_expectation_of_no_broken_rows():
    rules, counts = row_rules(DATASET, "polygon"), counted(days())
    covered, *none_broken = rows_suite(DATASET, counts).expectations
    assert (covered.column, covered.min_value, covered.max_value) == ("rows_checked", 240, 240)
    assert [(e.meta["rule"], e.column, e.value_set, e.severity.value) for e in none_broken] == [
        (rule.name, rule.name, [0], "critical") for rule in rules
    ]
    assert [e.description for e in none_broken] == [f"{rule.name}: {rule.demand}. No row breaks it." for rule in rules]
    assert len({rule.name for rule in rules}) == len(rules)


def counted(tables):
    counts = RowCounts(DATASET, row_rules(DATASET, "polygon"))
    for table in tables:
        counts.add(table)
    return counts


def test_rows_that_were_not_counted_are_an_error():
    counts, validator = counted(days()), Validator("r")
    counts.rows += 1
    with pytest.raises(QualityError, match="rule rows_checked is broken: 240"):
        validator.run(validator.checkpoint(rows_suite(DATASET, counts)), counts.table())


def test_counts_do_not_depend_on_the_gates_functions():
    """A rule whose function finds nothing, as a defect in the gate might, changes no count."""
    blind = replace(DATASET, rules=tuple(replace(rule, broken=None) for rule in DATASET.rules))
    counts = RowCounts(blind, row_rules(blind, "polygon"))
    counts.add(with_value(landed([DAYS[0]], S40), "volume", 5, -1.0))
    assert str(counts.broken("volume_not_negative", str(DAYS[0]))) == "1 row (S005)"


@pytest.mark.parametrize("grain", ["day", "year"])
def test_counts_are_those_of_a_plain_loop_over_rows(grain):
    whole = pa.concat_tables(days())
    rng = np.random.default_rng(7)
    for column, value in (("volume", -1.0), ("close", None), ("symbol", None), ("low", math.nan), ("provider", "other")):
        for place in rng.choice(len(whole), 30, replace=False):
            whole = with_value(whole, column, int(place), value)
    counts = RowCounts(DATASET, row_rules(DATASET, "polygon"), grain)
    for start in range(0, len(whole), 37):
        counts.add(whole.slice(start, 37))
    broken = {
        "volume_not_negative": lambda row: row["volume"] < 0,
        "close_present": lambda row: row["close"] is None,
        "low_present": lambda row: math.isnan(row["low"]),
        "symbol_present": lambda row: row["symbol"] is None,
        "provider": lambda row: row["provider"] != "polygon",
    }
    expected, checked = Counter(), Counter()
    for row in whole.to_pylist():
        session = str(row["session"])
        partition = session if grain == "day" or row["symbol"] is None else f"{row['symbol']}/{session[:4]}"
        checked[partition] += 1
        expected.update((rule, partition) for rule, is_broken in broken.items() if is_broken(row))
    table = counts.table().to_pylist()
    assert {row["partition"]: row["rows_checked"] for row in table} == checked
    assert {(rule, row["partition"]): row[rule] for row in table for rule in broken if row[rule]} == expected
