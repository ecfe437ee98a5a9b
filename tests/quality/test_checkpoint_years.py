"""The checkpoint of a run that asks symbol by symbol for whole years."""

import json
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.core.errors import QualityError
from market_data.quality import checkpoint as module
from market_data.quality import checkpoint_result
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.quality.metric_rules import Thresholds
from market_data.quality.verdicts import allowed
from tests.quality.rows import DATASET, NONE_BEFORE, landed, names, weekdays

pytestmark = pytest.mark.slow

DAYS = weekdays(date(2023, 11, 20), 60)  # 30 in 2023, 30 in 2024
SYMBOLS = [*names(29), "BRK/B"]
WHOLE = landed(DAYS, SYMBOLS)
BAD = DAYS[40]  # a session of 2024


def check(table=WHOLE, *, grain="year", by="symbol", previous=NONE_BEFORE, requested=None, provider=None, **kwargs):
    chunks = [table.filter(pc.equal(table[by], value)) for value in pc.unique(table[by])]
    scope = Scope(dict.fromkeys(DAYS, len(SYMBOLS)), previous, requested=requested, provider=provider, grain=grain)
    return run_checkpoint(DATASET, scope, chunks, run_name="manual__1", **kwargs)


def cell(symbol, session=BAD):
    return pc.and_(pc.equal(WHOLE["symbol"], symbol), pc.equal(WHOLE["session"], session))


def changed(where, **values):
    """The landed rows, with ``values`` where the mask says."""
    table = WHOLE
    for column, value in values.items():
        field = table.schema.field(column)
        table = table.set_column(
            table.schema.get_field_index(column), field, pc.if_else(where, pa.scalar(value, field.type), table[column])
        )
    return table


def refused(result):
    return {verdict.partition: verdict.reasons for verdict in result.verdicts if not verdict.passed}


def warned(result):
    return {verdict.partition: verdict.reasons for verdict in result.verdicts if verdict.passed and verdict.reasons}


def test_a_good_run_has_verdicts_on_its_sessions_alone():
    result = check()
    assert [(v.partition, v.passed, v.reasons) for v in result.verdicts] == [(str(day), True, ()) for day in DAYS]
    assert (result.success, result.failed) == (True, [])
    assert result.statistics.items() >= {
        "sessions": 60, "passed": 60, "refused": 0, "warned": 0, "rows": 1800,
        "symbol_years": 60, "symbol_years_passed": 60, "symbol_years_refused": 0, "symbol_years_warned": 0,
    }.items()  # fmt: skip
    assert result.table.splitlines() == [
        "checkpoint: 60 sessions, 1800 rows: 60 passed (0 with a warning), 0 refused",
        "checkpoint: 60 symbol-years: 60 passed (0 with a warning), 0 refused",
    ]


PLANTED = {
    "close_present": {"close": None},
    "low_positive": {"low": 9e-9},
    "provider": {"provider": "alpaca"},
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_broken_row_refuses_its_symbol_year_and_no_session(rule):
    result = check(changed(cell("BRK/B"), **PLANTED[rule]), provider="polygon")
    ((partition, reasons),) = refused(result).items()
    assert partition == "BRK/B/2024"
    assert f"{rule}: 1 row ({BAD})" in reasons
    assert not result.success


def test_the_same_row_refuses_its_session_with_day_grain():
    result = check(changed(cell("BRK/B"), close=None), grain="day")
    assert refused(result) == {str(BAD): ("close_present: 1 row (BRK/B)",)}


def test_broken_rows_of_a_symbol_year_are_counted_and_three_sessions_named():
    where = pc.and_(pc.equal(WHOLE["symbol"], "S003"), pc.is_in(WHOLE["session"], pa.array(DAYS[28:35], pa.date32())))
    assert refused(check(changed(where, volume=-1.0))) == {
        "S003/2023": (f"volume_not_negative: 2 rows ({DAYS[28]}, {DAYS[29]})",),
        "S003/2024": (f"volume_not_negative: 5 rows ({DAYS[30]}, {DAYS[31]}, {DAYS[32]}, ...)",),
    }


@pytest.mark.parametrize("size", [500_000, 950], ids=["in one chunk", "across chunks"])
def test_a_key_stored_twice_refuses_its_symbol_year_and_no_session(size, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", size)
    again = WHOLE.filter(cell("S007"))
    result = check(pa.concat_tables([WHOLE, again]), by="session" if size == 950 else "symbol")
    ((partition, reasons),) = refused(result).items()
    assert (partition, reasons[-1]) == ("S007/2024", "unique key: 1 rows more than sessions")
    assert result.document["sessions"][41]["reference"] == str(BAD)


def test_a_row_without_a_symbol_refuses_its_session():
    table = changed(cell("S005"), symbol=None)
    chunks = [table.filter(pc.equal(table["session"], day)) for day in DAYS]
    planned = dict.fromkeys(DAYS, len(SYMBOLS))
    result = run_checkpoint(DATASET, Scope(planned, NONE_BEFORE, grain="year"), chunks, run_name="r")
    assert refused(result) == {str(BAD): ("symbol_present: 1 row (None)",)}
    assert allowed(table, refused(result)).num_rows == WHOLE.num_rows - len(SYMBOLS)


def test_rows_without_a_session_are_an_error():
    table = changed(cell("S005"), session=None)
    with pytest.raises(QualityError, match="rule session_present: 1 stored rows have no session"):
        run_checkpoint(DATASET, Scope(dict.fromkeys(DAYS, 30), NONE_BEFORE, grain="year"), [table], run_name="r")


def test_a_fault_of_a_session_still_refuses_the_session():
    short = WHOLE.filter(pc.invert(pc.and_(pc.equal(WHOLE["session"], BAD), pc.is_in(WHOLE["symbol"], pa.array(SYMBOLS[:10])))))
    result = check(short)
    assert refused(result) == {str(BAD): ("row count: 20 of 30 expected symbols (66.7 %), at least 90 % needed",)}
    assert result.statistics.items() >= {"refused": 1, "symbol_years_refused": 0}.items()


def test_a_symbol_year_without_half_its_sessions_is_refused_and_no_session():
    gone = pc.and_(
        pc.equal(WHOLE["symbol"], "S003"), pc.is_in(WHOLE["session"], pa.array(DAYS[32:58:2] + DAYS[33:58:4], pa.date32()))
    )
    result = check(WHOLE.filter(pc.invert(gone)))
    few = "row count: 10 of 30 sessions from its first bar to its last (33.3 %), at least 50 % needed"
    assert refused(result) == {"S003/2024": (f"{few}; if it trades rarely, add it to checks.thin_symbols of the feed",)}
    assert check(WHOLE.filter(pc.invert(gone)), thresholds=Thresholds(min_year_ratio=0.3)).success


def test_only_the_requested_symbols_are_expected():
    mine = pc.or_(pc.not_equal(WHOLE["symbol"], "S003"), pc.is_in(WHOLE["session"], pa.array(DAYS[::3], pa.date32())))
    requested = {day: frozenset(SYMBOLS) - ({"S003"} if n % 3 else set()) for n, day in enumerate(DAYS)}
    assert check(WHOLE.filter(mine), requested=requested).verdicts == check().verdicts
    assert list(refused(check(WHOLE.filter(mine)))) == ["S003/2023", "S003/2024"]


def test_one_wrong_volume_refuses_no_session():
    assert refused(check(changed(cell("S015"), volume=5e11))) == {}


def test_warnings_of_a_symbol_year_name_value_and_date():
    result = check(changed(cell("S004"), low=0.001))
    assert refused(result) == {}
    (reason,) = warned(result)["S004/2024"]
    assert reason.startswith("warning: price range: high 2")
    assert f" and low 0.001 on {BAD}, " in reason
    assert result.statistics["symbol_years_warned"] == 1


def test_bars_before_the_run_are_compared_with():
    previous = pa.table(
        {
            "symbol": ["S004"],
            "session": pa.array([date(2023, 11, 17)], pa.date32()),
            "close": [0.5],
            "volume": [1.0],
        }
    )
    ((partition, (reason,)),) = warned(check(previous=previous)).items()
    assert partition == "S004/2023"
    assert reason.startswith("warning: price level: close 2")
    assert " after 0.5 on 2023-11-17, " in reason


def test_allowed_rows_are_all_but_the_refused():
    table = changed(pc.or_(cell("BRK/B"), cell("S001", DAYS[0])), high=0.5)
    short = pc.and_(pc.equal(table["session"], DAYS[50]), pc.is_in(table["symbol"], pa.array(SYMBOLS[:10])))
    table = table.filter(pc.invert(short))
    result = check(table)
    assert list(refused(result)) == [str(DAYS[50]), "BRK/B/2024", "S001/2023"]
    kept = allowed(table, refused(result))
    assert kept.num_rows == 1800 - 30 - 30 - 30 + 1
    assert check(kept, requested=dict.fromkeys(DAYS, SYMBOLS)).statistics["symbol_years_refused"] == 0


def test_the_verdicts_do_not_depend_on_how_the_rows_are_cut(monkeypatch):
    table = changed(pc.or_(cell("BRK/B"), cell("S001", DAYS[0])), high=0.5)
    one = check(table)
    monkeypatch.setattr(module, "CHUNK_ROWS", 950)
    two = check(table.sort_by([("ingest_ts", "ascending"), ("session", "descending")]), by="session")
    assert one.verdicts == two.verdicts
    assert one.document["symbol_years"] == two.document["symbol_years"]
    assert one.table == two.table


def test_a_run_without_rows_is_refused_by_its_sessions():
    result = run_checkpoint(DATASET, Scope(dict.fromkeys(DAYS, 30), NONE_BEFORE, grain="year"), [], run_name="r")
    assert len(refused(result)) == 60
    assert result.statistics["symbol_years"] == 0


# -- what is handed on -----------------------------------------------------------------------------------------------------------


def test_the_table_has_both_kinds_of_partitions_each_within_its_limit(monkeypatch):
    monkeypatch.setattr(checkpoint_result, "TABLE_LINES", 2)
    bad = pc.or_(
        pc.and_(pc.equal(WHOLE["session"], BAD), pc.is_in(WHOLE["symbol"], pa.array(["S003", "S009", "BRK/B"]))),
        cell("S001", DAYS[0]),
    )
    lost = pc.and_(pc.equal(WHOLE["session"], DAYS[50]), pc.is_in(WHOLE["symbol"], pa.array(SYMBOLS[:10])))
    result = check(changed(bad, volume=-1.0).filter(pc.invert(lost)))
    assert result.table.splitlines() == [
        "checkpoint: 60 sessions, 1790 rows: 59 passed (0 with a warning), 1 refused",
        "checkpoint: 60 symbol-years: 56 passed (0 with a warning), 4 refused",
        "  session     verdict      symbols  reasons",
        f"  {DAYS[50]}  refused        20/30  row count: 20 of 30 expected symbols (66.7 %), at least 90 % needed",
        "  symbol/year  verdict     sessions  reasons",
        f"  BRK/B/2024   refused        30/30  volume_not_negative: 1 row ({BAD})",
        f"  S001/2023    refused        30/30  volume_not_negative: 1 row ({DAYS[0]})",
        "  ... and 2 more; all are in the checkpoint's document",
    ]


def test_the_document_has_all_suites_and_the_symbol_years_with_a_verdict():
    result = check(changed(cell("BRK/B"), low=0.001, volume=-1.0))
    text = json.dumps(result.document, allow_nan=False)
    assert json.loads(text) == result.document
    assert [v["suite_name"] for v in result.document["validations"]] == ["bars.rows", "bars.sessions", "bars.years"]
    (row,) = result.document["symbol_years"]
    assert (row["partition"], row["symbol"], row["year"]) == ("BRK/B/2024", "BRK/B", 2024)
    assert (row["expected"], row["present_ratio"], row["range_low"], row["range_on"]) == (30, 1.0, 0.001, str(BAD))
    assert [(entry["rule"], entry["severity"]) for entry in result.failed] == [
        ("volume_not_negative", "critical"),
        ("price_range", "warning"),
    ]
    assert result.document["verdicts"] == [verdict.to_json() for verdict in result.verdicts]


def test_day_grain_has_no_symbol_years():
    result = check(changed(cell("S004"), low=0.001), grain="day")
    plain = check(grain="day").verdicts
    assert [one.partition for one in result.verdicts if one not in plain] == [str(BAD)]
    assert result.success
    assert {v["suite_name"] for v in result.document["validations"]} == {"bars.rows", "bars.sessions", "bars.symbols"}
    assert result.document["symbol_years"] == []
    assert "symbol_years" not in result.statistics
    assert len(result.table.splitlines()) == 3
