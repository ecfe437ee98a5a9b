"""The generated data: it adds up, and it is the same for every request."""

from datetime import date, time, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.datasets import generated
from market_data.datasets.generated import Cells

SESSIONS = calendar.sessions(date(2024, 11, 25), date(2024, 12, 3))  # with a half day, 2024-11-29
KEYS = [generated.key(0, f"S{n}") for n in range(20)]
DECADE = (date(2014, 1, 1), date(2024, 1, 1))


@pytest.fixture(scope="module")
def cells():
    return generated.cells(KEYS, SESSIONS)


def by_cell(cell):
    """The first and the last entry of each cell."""
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    return starts, np.append(starts[1:], len(cell)) - 1


def assert_folds(cells, cell, opens, highs, lows, closes, volumes):
    starts, ends = by_cell(cell)
    assert cell[starts].tolist() == list(range(len(cells.sessions)))
    assert opens[starts].tolist() == cells.open.tolist()
    assert np.maximum.reduceat(highs, starts).tolist() == cells.high.tolist()
    assert np.minimum.reduceat(lows, starts).tolist() == cells.low.tolist()
    assert closes[ends].tolist() == cells.close.tolist()
    assert np.add.reduceat(volumes, starts).tolist() == cells.volume.tolist()


@pytest.mark.parametrize("size", [1, 5])
def test_minutes_fold_to_the_daily_bar(cells, size):
    bars = generated.fold(generated.minutes(cells), size)
    assert_folds(cells, bars.cell, bars.open, bars.high, bars.low, bars.close, bars.volume)
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert ((bars.low <= bars.vwap + 1e-4) & (bars.vwap <= bars.high + 1e-4)).all()
    assert (bars.volume > 0).all()


def test_minutes_lie_within_the_session_and_thin_symbols_have_gaps(cells):
    bars = generated.minutes(cells)
    for number, session in enumerate(cells.sessions):
        times = bars.time[bars.cell == number] // 1_000_000_000
        opened, closed = calendar.at(session, time(9, 30)).timestamp(), calendar.session_close(session).timestamp()
        whole = (closed - opened) / 60
        assert whole == (210 if session == date(2024, 11, 29) else 390)
        assert (times[0], times[-1]) == (opened, closed - 60)
        missing = whole - len(times)
        assert 0 < missing < whole / 15 if cells.volume[number] < generated.intraday.THIN else missing == 0
        assert (np.diff(times) > 0).all()


def test_trades_fold_to_the_daily_bar_and_to_the_minutes_volume(cells):
    trades, bars = generated.trades(cells), generated.minutes(cells)
    assert_folds(cells, trades.cell, trades.price, trades.price, trades.price, trades.price, trades.size)
    minute = np.searchsorted(bars.cell * 10**15 + bars.time // 10**6, trades.cell * 10**15 + trades.time // 10**6, side="right") - 1
    assert (np.bincount(minute, trades.size) == bars.volume).all()
    assert ((bars.low[minute] <= trades.price) & (trades.price <= bars.high[minute])).all()
    later = (np.diff(trades.time) > 0) & (np.diff(trades.sequence) > 0)
    fills = (np.diff(trades.time) == 0) & (np.diff(trades.sequence) == 0)
    assert (later | fills | (np.diff(trades.cell) > 0)).all()
    assert 0 < fills.sum() < len(fills) / 10


def test_quotes_lie_around_the_trades(cells):
    trades = generated.trades(cells)
    assert (trades.bid_px < trades.ask_px).all()
    assert (trades.price == np.where(trades.side == "A", trades.bid_px, trades.price)).all()
    assert (trades.price == np.where(trades.side == "B", trades.ask_px, trades.price)).all()
    assert set(trades.side) == {"A", "B", "N"}
    assert min(trades.bid_sz.min(), trades.ask_sz.min(), trades.bid_ct.min(), trades.ask_ct.min()) > 0


def test_statistics_are_the_daily_bars(cells):
    found = generated.statistics(cells)
    rows = {name: found.kind == number for number, name in enumerate(generated.STATISTICS)}
    assert found.price[rows["opening_price"]].tolist() == cells.open.tolist()
    assert found.price[rows["close_price"]].tolist() == cells.close.tolist()
    assert found.quantity[rows["cleared_volume"]].tolist() == cells.volume.tolist()
    assert (np.isnan(found.price) != np.isnan(found.quantity)).all()


@given(st.lists(st.sampled_from(range(len(KEYS) * len(SESSIONS))), max_size=6))
def test_what_is_inside_a_bar_is_the_same_whatever_else_is_requested(chosen):
    whole = generated.cells(KEYS, SESSIONS)
    some = Cells(*([column[n] for n in chosen] if isinstance(column, list) else column[chosen] for column in whole))
    for make in (generated.minutes, generated.trades, generated.statistics):
        everything, part = make(whole), make(some)
        for place, number in enumerate(chosen):
            for one, other in zip(everything[1:], part[1:], strict=True):
                np.testing.assert_array_equal(one[everything.cell == number], other[part.cell == place])


@given(st.floats(0.3, 3000))
def test_little_volume_is_kept_to_the_last_share(volume):
    cell = Cells(np.array([7], np.uint64), [SESSIONS[0]], *(np.array([price]) for price in (10.0, 10.5, 9.5, 10.2, volume)))
    minutes, trades = generated.minutes(cell), generated.trades(cell)
    for sizes in (minutes.volume, trades.size):
        assert sizes.sum() == pytest.approx(volume)
        assert (sizes > 0).all()
    assert (minutes.open[0], minutes.high.max(), minutes.low.min(), minutes.close[-1]) == (10.0, 10.5, 9.5, 10.2)


def test_dividends_come_each_quarter_and_splits_every_few_years():
    keys = {f"S{n}": generated.key(0, f"S{n}") for n in range(200)}
    dividends, splits = generated.dividends(keys, *DECADE), generated.splits(keys, *DECADE)
    payers = {dividend.symbol for dividend in dividends}
    assert 0.6 < len(payers) / len(keys) < 0.9
    regular = [dividend for dividend in dividends if dividend.kind == "CD"]
    assert len(regular) == 40 * len(payers)
    special = {(d.symbol, d.ex_date) for d in dividends if d.kind == "SC"}
    assert special
    assert special < {(d.symbol, d.ex_date) for d in regular}
    for found in dividends:
        assert found.declaration_date < found.ex_date <= found.record_date < found.pay_date
        assert calendar.is_session(found.ex_date)
        assert found.amount >= 0.01
    assert 0.1 < len(splits) / 10 / len(keys) < 0.3
    assert all(calendar.is_session(split.ex_date) and split.split_from != split.split_to for split in splits)
    assert len({action.action_id for action in (*dividends, *splits)}) == len(dividends) + len(splits)


@pytest.mark.parametrize("make", [generated.splits, generated.dividends])
def test_actions_of_a_decade_are_those_of_its_parts(make):
    keys = {symbol: generated.key(3, symbol) for symbol in ("A", "B", "C")}
    whole = make(keys, *DECADE)
    ends = sorted({*DECADE, *(action.ex_date for action in whole)})  # an end is not in a part, a start is
    parts = {start: make(keys, start, end) for start, end in pairwise(ends)}
    assert all(action.ex_date == start for start, part in parts.items() for action in part)
    assert sorted(action for part in parts.values() for action in part) == sorted(whole) != []


def test_statements_add_up():
    for symbol in ("AAPL", "SPY", "XOM"):
        found = generated.statements(symbol, generated.key(0, symbol), *DECADE)
        assert len(found) == 3 * 50  # forty quarters, ten years
        by_kind = {(row.statement, row.fiscal_year, row.period): row.values for row in found}
        for (kind, year, period), row in by_kind.items():
            if kind == "income":
                assert row["grossProfit"] == row["revenue"] - row["costOfRevenue"]
                assert row["operatingIncome"] == row["revenue"] - row["costAndExpenses"]
                assert row["netIncome"] == by_kind["cash_flow", year, period]["netIncome"]
            if kind == "balance_sheet":
                assert row["totalAssets"] == row["totalLiabilities"] + row["totalStockholdersEquity"]
            if kind == "cash_flow":
                assert row["cashAtEndOfPeriod"] == row["cashAtBeginningOfPeriod"] + row["netChangeInCash"]
                assert row["cashAtEndOfPeriod"] == by_kind["balance_sheet", year, period]["cashAndCashEquivalents"]
        (year,) = {year for _, year, _ in by_kind if year == 2019}
        quarters = [by_kind["income", year, f"Q{n}"]["revenue"] for n in range(1, 5)]
        assert sum(quarters) == by_kind["income", year, "FY"]["revenue"]


def test_statements_are_filed_about_35_days_later_and_are_the_same_whatever_is_requested():
    key = generated.key(0, "AAPL")
    found = generated.statements("AAPL", key, *DECADE)
    assert all(timedelta(30) <= row.filing_date - row.period_end <= timedelta(45) for row in found)
    assert all(row.accepted.astimezone(calendar.NEW_YORK).date() == row.filing_date for row in found)
    years = [date(year, 1, 1) for year in range(2014, 2025)]
    assert [row for start, end in pairwise(years) for row in generated.statements("AAPL", key, start, end)] == [*found]
    assert {row.period_end.month for n in range(30) for row in generated.statements("", n, *DECADE) if row.period == "FY"} > {12}


def test_all_years_of_the_calendar_have_data():
    first, beyond = calendar.FIRST, calendar.LAST + timedelta(days=1)
    keys = {"A": generated.key(0, "A")}
    assert generated.splits(keys, first, beyond)
    assert generated.dividends(keys, first, beyond)
    assert len(generated.statements("A", keys["A"], first, beyond)) > 600


def test_nothing_is_made_of_nothing():
    cells = generated.cells([], [])
    assert [len(make(cells).cell) for make in (generated.minutes, generated.trades, generated.statistics)] == [0, 0, 0]
    assert len(generated.fold(generated.minutes(cells), 5).cell) == 0
