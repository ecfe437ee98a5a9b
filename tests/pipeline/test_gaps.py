"""Suspected gaps and suggestions, without a lake."""

import time
import tracemalloc
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import read_coverage
from market_data.lake.store import Lake
from market_data.pipeline.gaps import find_gaps, inside_a_life, last_requested, next_request, reason
from market_data.pipeline.unknown_symbols import did_you_mean


def suspected(life):
    """Places of the suspected gaps in a life: ``x`` bar, ``.`` empty, space unknown."""
    cells = np.array([list(life)])
    return np.flatnonzero(inside_a_life(cells == "x", cells == ".")[0]).tolist()


@pytest.mark.parametrize(
    ("life", "places"),
    [
        ("xxxx.xxxx", [4]),
        ("xx.xx", [2]),
        ("x.xx", []),  # too little is known
        ("xx   .xx", [5]),
        (".xxxxx", []),  # not listed yet
        ("xxxxx..", []),  # delisted
        ("xxxxx..   x", []),  # two of eight: it does not trade nearly every session
        ("xxxxx..xxx", [5, 6]),
        ("x.x.x.x.x.x.x.x", []),
        ("." * 10, []),
        ("", []),
    ],
)
def test_a_gap_is_suspected_inside_the_life_of_a_symbol_that_trades_nearly_daily(life, places):
    assert suspected(life) == places


def recorded(symbols, states):
    """Cells of all symbols: one session for each state."""
    days = calendar.sessions(date(2024, 3, 4), date(2024, 4, 4))[: len(states)]
    names, repeated = np.repeat(symbols, len(days)), np.tile(days, len(symbols))
    return pa.table([names, repeated, np.tile(states, len(symbols)), [""] * len(names)], schema=CELLS)


def peak_mb(symbols, tmp_path):
    """Most memory that the search takes, in MB."""
    cells, now = recorded([f"S{number:05}" for number in range(symbols)], ["have"]), datetime(2024, 6, 3, tzinfo=UTC)
    after = read_coverage(Lake.open(f"file://{tmp_path}"), "ohlcv-1d", "polygon").updated([cells], now)
    tracemalloc.start()
    try:
        assert len(find_gaps(after, [cells], now)) == 0
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_the_search_takes_no_more_memory_for_ten_times_the_symbols(tmp_path):
    assert peak_mb(10_000, tmp_path) < 2 * peak_mb(1_000, tmp_path)


def test_gaps_of_all_parts_are_found(tmp_path, monkeypatch):
    cells, now = (
        recorded([f"S{number}" for number in range(7)], [*["have"] * 5, "empty", *["have"] * 5]),
        datetime(2024, 6, 3, tzinfo=UTC),
    )
    after = read_coverage(Lake.open(f"file://{tmp_path}"), "ohlcv-1d", "polygon").updated([cells], now)
    whole = find_gaps(after, [cells], now)
    monkeypatch.setattr("market_data.pipeline.gaps.AT_ONCE", 1500)  # two symbols
    assert find_gaps(after, [cells], now).equals(whole)
    assert whole["symbol"].to_pylist() == [f"S{number}" for number in range(7)]


@pytest.mark.parametrize(("before", "count"), [(250, 1), (251, 0)])
def test_a_bar_within_250_sessions_before_the_recorded_ones_begins_a_life(tmp_path, before, count):
    days = calendar.sessions(date(2023, 1, 3), date(2024, 6, 1))
    place = days.index(date(2024, 3, 4))
    states = {place - before: "have", place: "empty", **dict.fromkeys(range(place + 1, place + 6), "have")}
    cells = pa.table([["S"] * 7, [days[at] for at in states], [*states.values()], [""] * 7], schema=CELLS)
    now = datetime(2024, 6, 3, tzinfo=UTC)
    after = read_coverage(Lake.open(f"file://{tmp_path}"), "ohlcv-1d", "polygon").updated([cells], now)
    assert find_gaps(after, [cells.slice(1)], now)["session"].to_pylist() == [days[place]] * count


def test_only_the_year_around_a_cell_tells_how_often_a_symbol_trades():
    rarely, daily = "x..." * 100, "x" * 300
    found = suspected(f"{rarely}{daily}.{daily}")
    assert found == [700]


def test_ten_years_of_523_symbols_take_less_than_three_seconds():
    have = np.random.default_rng(1).random((523, 2520)) > 0.02
    began = time.process_time()
    assert inside_a_life(have, ~have).any()
    assert time.process_time() - began < 3


@pytest.mark.parametrize(("last", "due"), [(3, 10), (5, 10), (10, 30), (29, 30), (30, 90), (90, None), (400, None)])
def test_requests_of_a_suspected_gap_follow_the_schedule(last, due):
    assert last_requested(reason(last)) == last
    assert next_request(reason(last)) == due


KNOWN = ("AAPL", "APP", "PPL", "AMZN", "BRK.B", "GOOGL", "IBM", "MSFT", "TSLA", "V", "VZ", "ESH6")


@pytest.mark.parametrize(
    ("symbol", "meant"),
    [
        ("APPL", "AAPL"),
        ("MSTF", "MSFT"),
        ("TSAL", "TSLA"),
        ("BRK-B", "BRK.B"),
        ("BRKB", "BRK.B"),
        ("aapl", "AAPL"),
        ("GOGL", "GOOGL"),
        ("AMZ", "AMZN"),
        ("ESH7", "ESH6"),
        ("NOSUCH", None),
        ("ZZ", None),
        ("X", None),
    ],
)
def test_the_closest_known_symbol_is_suggested(symbol, meant):
    assert did_you_mean(symbol, KNOWN) == meant
