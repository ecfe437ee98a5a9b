"""Odd prices of single symbols with grain ``day``, negative prices, and symbols that trade rarely: what the checkpoint decides."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.core import calendar
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.quality.checkpoint_result import CheckpointResult
from market_data.quality.metric_rules import Thresholds
from tests.quality.rows import DATASET, NONE_BEFORE, landed, names, warehoused, weekdays

DAYS = weekdays(date(2024, 3, 4), 40)
SYMBOLS = [*names(24), "BRK/B"]
WHOLE = landed(DAYS, SYMBOLS)
BAD = DAYS[20]


def check(table: pa.Table, days: list[date] = DAYS, symbols: list[str] = SYMBOLS, **given: Any) -> CheckpointResult:
    """A run over ``days``, with every symbol requested in each."""
    grain, previous = given.pop("grain", "day"), given.pop("previous", NONE_BEFORE)
    planned, requested = dict.fromkeys(days, len(symbols)), dict.fromkeys(days, frozenset(symbols))
    scope = Scope(planned, previous, requested=requested, provider="polygon", grain=grain)
    return run_checkpoint(DATASET, scope, [table], run_name="manual__1", thresholds=Thresholds(**given))


def changed(symbol: str, session: date, **values: float | None) -> pa.Table:
    where = pc.and_(pc.equal(WHOLE["symbol"], symbol), pc.equal(WHOLE["session"], session))
    table = WHOLE
    for name, value in values.items():
        field = table.schema.field(name)
        column = pc.if_else(where, pa.scalar(value, field.type), table[name])
        table = table.set_column(table.column_names.index(name), field, column)
    return table


def said(result: CheckpointResult) -> dict[str, tuple[str, ...]]:
    return {verdict.partition: verdict.reasons for verdict in result.verdicts if verdict.reasons}


ODD = {
    "price_range": ({"high": 72.0, "close": 10.0, "open": 10.0, "low": 9.9}, "BRK/B: price range: high 72 and low 9.9 on "),
    "price_spike": ({"high": 90.0, "close": 90.0, "open": 90.0, "low": 90.0, "volume": None}, "BRK/B: price spike: close 90 on "),
}


@pytest.mark.parametrize("rule", ODD)
def test_odd_prices_of_one_symbol_are_reported_with_either_grain(rule: str) -> None:
    values, words = ODD[rule]
    reference = changed("BRK/B", BAD, **values)
    scale = 10.0 / 44.0  # its prices are near 44; for a close of 10 beside a high of 72 all of them are scaled
    of_symbol = pc.equal(reference["symbol"], "BRK/B")
    for name in ("open", "high", "low", "close"):
        there = pc.and_(of_symbol, pc.not_equal(reference["session"], BAD))
        column = pc.if_else(there, pc.multiply(reference[name], scale), reference[name])
        reference = reference.set_column(reference.column_names.index(name), reference.schema.field(name), column)
    by_day, by_year = check(reference), check(reference, grain="year")
    assert by_day.success
    assert by_year.success
    found = said(by_day)[str(BAD)]
    assert any(reason.startswith(f"warning: {words}{BAD}") for reason in found)
    assert any(words.removeprefix("BRK/B: ") in reason for reason in said(by_year)["BRK/B/2024"])
    assert {entry["rule"] for entry in by_day.failed} >= {rule}


def test_odd_prices_of_tonights_session_are_reported() -> None:
    """A scheduled run: one session, the ones before it from the warehouse."""
    last = DAYS[-1]
    table = changed("S000", last, high=72.0)
    before = warehoused(WHOLE.filter(pc.less(WHOLE["session"], pa.scalar(last))))
    result = check(table.filter(pc.equal(table["session"], pa.scalar(last))), [last], previous=before)
    (reason,) = said(result)[str(last)]
    assert reason.startswith("warning: S000: price range: high 72 and low ")
    assert result.success


def test_many_odd_symbols_are_counted() -> None:
    table = WHOLE
    high = pc.if_else(pc.equal(table["session"], pa.scalar(BAD)), pc.multiply(table["high"], 5.0), table["high"])
    table = table.set_column(table.column_names.index("high"), table.schema.field("high"), high)
    (reason,) = said(check(table))[str(BAD)]
    assert reason.endswith("; 22 more symbols likewise")


# --- prices below zero ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grain", ["day", "year"])
def test_negative_prices_of_a_future_pass(grain: str) -> None:
    """Crude oil in April 2020: no rule of bars, sessions or years stumbles over -37.63 after 18.27 and before 10.01."""
    days = list(calendar.sessions(date(2020, 4, 1), date(2020, 5, 1)))
    table = landed(days, ["CL.c.0", *names(24)])
    for name, value in {"open": 17.73, "high": 17.85, "low": -40.32, "close": -37.63}.items():
        where = pc.and_(pc.equal(table["symbol"], "CL.c.0"), pc.equal(table["session"], pa.scalar(date(2020, 4, 20))))
        column = pc.if_else(where, value, table[name])
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    result = check(table, days, ["CL.c.0", *names(24)], grain=grain)
    assert result.success
    assert said(result) == {}


def test_negative_prices_of_a_share_refuse_its_session() -> None:
    result = check(changed("S003", BAD, low=-40.32, close=-37.63))
    (reason,) = [verdict.reasons for verdict in result.verdicts if not verdict.passed]
    assert set(reason) >= {"low_positive: 1 row (S003)", "close_positive: 1 row (S003)"}


# --- symbols that trade rarely --------------------------------------------------------------------------------------------------


def rare(symbol: str, days: list[date], bars: list[int]) -> pa.Table:
    """The bars of a symbol in some of ``days`` alone."""
    return landed([days[n] for n in bars], [symbol])


CSRA = list(calendar.sessions(date(2018, 1, 2), date(2018, 3, 31)))  # 61 sessions and one; 17 have a bar
TRADED = [0, 3, 9, 11, 14, 20, 22, 27, 30, 33, 38, 41, 45, 50, 52, 57, 60]


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ({}, False),
        ({"min_year_ratio": 0.3}, False),
        ({"min_year_ratio": 0.2}, True),
        ({"thin_symbols": ("CSRA",)}, True),
        ({"thin_symbols": ("IBM", "CS*")}, True),
        ({"thin_symbols": ("CSR",)}, False),
    ],
)
def test_a_thin_year_is_loaded_where_the_feed_says_so(given: dict[str, Any], passed: bool) -> None:
    result = check(rare("CSRA", CSRA, TRADED), CSRA, ["CSRA"], grain="year", **given)
    years = {verdict.partition: verdict for verdict in result.verdicts if "/" in verdict.partition}
    assert ("CSRA/2018" not in years or years["CSRA/2018"].passed) is passed
    if not passed:
        assert years["CSRA/2018"].reasons[0].startswith("row count: 17 of 61 sessions from its first bar to its last (27.9 %)")
        assert "checks.thin_symbols" in years["CSRA/2018"].reasons[0]
    if given.get("thin_symbols") and passed:
        assert years == {}


def test_thin_symbols_are_not_missed_in_a_session() -> None:
    """Twenty-five shares that trade each session, thirty warrants that trade in four of ten."""
    warrants = [f"W{n:02d}+" for n in range(30)]
    rarely = [landed([day for m, day in enumerate(DAYS) if (m * 7 + n) % 10 < 4], [symbol]) for n, symbol in enumerate(warrants)]
    table, symbols = pa.concat_tables([WHOLE, *rarely]), [*SYMBOLS, *warrants]
    assert not check(table, symbols=symbols).success
    assert check(table, symbols=symbols, thin_symbols=("W*+",)).success
    lost = table.filter(pc.or_(pc.not_equal(table["session"], pa.scalar(BAD)), pc.less(table["symbol"], "S015")))
    refused = [v.partition for v in check(lost, symbols=symbols, thin_symbols=("W*+",)).verdicts if not v.passed]
    assert refused == [str(BAD)]


def test_a_session_in_which_thin_symbols_alone_are_planned_may_be_empty() -> None:
    warrants = [f"W{n:02d}+" for n in range(30)]
    nothing = landed([], [])
    assert not check(nothing, DAYS[:1], warrants).success
    assert check(nothing, DAYS[:1], warrants, thin_symbols=("W*",)).success


def test_a_share_of_present_symbols_can_be_lowered() -> None:
    table = WHOLE.filter(pc.or_(pc.not_equal(WHOLE["session"], pa.scalar(BAD)), pc.less(WHOLE["symbol"], "S012")))
    assert [v.partition for v in check(table).verdicts if not v.passed] == [str(BAD)]
    assert check(table, min_present_ratio=0.4).success
