"""The planner against brute force on small cases, and the figures that it must reach on large ones."""

import json
import time
from datetime import date, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.errors import ParamError
from market_data.plan import make_plan
from market_data.types import Batch, Capabilities, Endpoint, Quota, Shape, Window

MARKET, SYMBOL = Endpoint("grouped", Shape.MARKET), Endpoint("range", Shape.SYMBOL)
BASIC = Capabilities((MARKET, SYMBOL), Quota(5, (Window(5, 60),)))


def axis(n):
    # every other day, so that intervals bridging the days between sessions are really bridged
    return [date(2020, 1, 1) + timedelta(days=2 * i) for i in range(n)]


def plan(missing, n, capabilities=BASIC, **options):
    return make_plan("ohlcv-1d", missing, axis(n), capabilities, **options)


def asked(plan, sessions):
    """Every cell the plan's requests want, as a list: a cell asked twice stands in it twice."""
    cells = []
    for batch in plan.batches:
        for request in batch.requests(sessions):
            days = [d for d in sessions if any(d in i for i in request.intervals)]
            cells += [(symbol, day) for symbol in request.symbols for day in days]
    return cells


def fewest_calls(missing, n):
    """The smallest set of symbols and sessions that touches every missing cell, by trying all."""
    cells = [(s, b) for s, mask in missing.items() for b in range(n) if mask >> b & 1]
    vertices = [*missing, *range(n)]
    for size in range(len(vertices) + 1):
        for chosen in combinations(vertices, size):
            if all(s in chosen or b in chosen for s, b in cells):
                return size
    raise AssertionError


small = st.integers(1, 5).flatmap(
    lambda n: st.tuples(st.just(n), st.dictionaries(st.sampled_from(["A", "B", "BRK.B", "C", "D"]), st.integers(0, (1 << n) - 1)))
)


@given(small)
def test_no_plan_takes_fewer_calls(case):
    n, missing = case
    result = plan(missing, n)
    assert result.calls == fewest_calls(missing, n)
    assert result.calls == sum(len(list(b.requests(axis(n)))) for b in result.batches)


@given(small, st.sampled_from(["auto", "grouped", "range"]), st.integers(1, 3))
def test_exactly_the_missing_cells_are_asked_once(case, endpoint, batch_size):
    n, missing = case
    result = plan(missing, n, endpoint=endpoint, batch_size=batch_size)
    expected = {(s, day) for s, mask in missing.items() for b, day in enumerate(axis(n)) if mask >> b & 1}
    cells = asked(result, axis(n))
    assert len(cells) == len(set(cells)) == result.cells
    assert set(cells) == expected


@pytest.mark.parametrize(("sessions", "calls"), [(1, 1), (504, 504), (523, 523), (2516, 523)])
def test_523_symbols(sessions, calls):
    result = plan({f"S{i}": (1 << sessions) - 1 for i in range(523)}, sessions)
    assert result.calls == calls
    assert result.cells == 523 * sessions


def test_one_cell_is_asked_by_symbol():
    (batch,) = plan({"A": 1}, 1).batches
    assert batch.endpoint == "range"


def test_a_hole_is_asked_without_what_is_covered_around_it():
    (batch,) = plan({"A": 0b0110, "B": 0b0110}, 4, endpoint="range").batches
    (request, _) = batch.requests(axis(4))
    assert (request.start, request.last) == (axis(4)[1], axis(4)[2])


def test_two_holes_of_a_symbol_are_one_request_that_wants_only_the_holes():
    (batch,) = plan({"A": 0b1001}, 4, endpoint="range").batches
    (request,) = batch.requests(axis(4))
    assert batch.calls == 1
    assert batch.cells == 2
    assert [d for d in axis(4) if any(d in i for i in request.intervals)] == [axis(4)[0], axis(4)[3]]


def test_market_batches_hold_a_quota_window_of_consecutive_sessions():
    result = plan({f"S{i}": (1 << 12) - 1 for i in range(50)}, 12)
    assert [b.calls for b in result.batches] == [5, 5, 2]
    assert [b.intervals[0].start for b in result.batches] == [axis(12)[0], axis(12)[5], axis(12)[10]]


def test_symbol_batches_hold_at_most_batch_size():
    result = plan({f"S{i}": (1 << 600) - 1 for i in range(60)}, 600, batch_size=25)
    assert [len(b.symbols) for b in result.batches] == [25, 25, 10]


def test_pages_count_as_calls():
    minutes = Capabilities((Endpoint("range", Shape.SYMBOL, page_rows=50_000, rows_per_session=960),), Quota(5))
    result = plan({"A": (1 << 252) - 1}, 252, minutes)
    assert result.calls == 5  # 252 x 960 = 241,920 bars
    assert result.rows == 241_920


def test_minutes_are_calls_at_the_rate_of_the_account():
    assert plan({f"S{i}": (1 << 504) - 1 for i in range(523)}, 504).minutes == pytest.approx(100.8)


def test_more_batches_than_airflow_maps_is_an_error_that_says_what_to_do():
    with pytest.raises(ParamError, match=r"1,100 batches; at most 1,024 .*batch_size"):
        plan({f"S{i}": (1 << 2000) - 1 for i in range(1100)}, 2000, batch_size=1)


def test_market_batches_grow_rather_than_overflow():
    one_by_one = Capabilities((MARKET,), Quota(5, (Window(1, 12),)))
    result = plan({"A": (1 << 3000) - 1}, 3000, one_by_one)
    assert len(result.batches) <= 1024
    assert result.cells == 3000


def test_an_unknown_endpoint_is_named_with_the_known_ones():
    with pytest.raises(ParamError, match="endpoint is 'bulk'; allowed: auto, grouped, range"):
        plan({"A": 1}, 1, endpoint="bulk")


@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.integers(1, 7))
def test_sessions_are_asked_of_exactly_the_symbols_that_miss_them_in_their_order(columns, window):
    symbols = ("C", "A", "B")
    missing = {symbol: sum((column >> k & 1) << bit for bit, column in enumerate(columns)) for k, symbol in enumerate(symbols)}
    result = plan(missing, len(columns), Capabilities((MARKET,), Quota(5, (Window(window, 1),))))
    requests = [request for batch in result.batches for request in batch.requests(axis(len(columns)))]
    assert {request.start: request.symbols for request in requests} == {
        axis(len(columns))[bit]: tuple(symbol for k, symbol in enumerate(symbols) if column >> k & 1)
        for bit, column in enumerate(columns)
        if column
    }


@pytest.mark.parametrize(
    ("endpoint", "mask"), [("grouped", (1 << 2516) - 1), ("range", int("01" * 1258, 2))], ids=["market", "holes"]
)
def test_ten_years_of_5000_symbols_are_planned_in_seconds(endpoint, mask):
    missing = {f"S{i}": mask for i in range(5000)}
    began = time.process_time()
    result = plan(missing, 2516, Capabilities((MARKET, SYMBOL), Quota(600, (Window(1, 0.01),))), endpoint=endpoint)
    assert result.cells == 5000 * mask.bit_count()
    assert time.process_time() - began < 2.5


def test_nothing_missing_is_an_empty_plan():
    assert plan({"A": 0}, 3).batches == ()


@given(small)
def test_batches_pass_through_an_xcom(case):
    n, missing = case
    for batch in plan(missing, n, refetch=True).batches:
        assert Batch.from_json(json.loads(json.dumps(batch.to_json()))) == batch


def test_batch_ids_are_equal_where_the_same_is_asked():
    first, second = plan({"A": 3}, 2), plan({"A": 3}, 2)
    assert [b.id for b in first.batches] == [b.id for b in second.batches]
    assert [b.id for b in plan({"B": 3}, 2).batches] != [b.id for b in first.batches]


def test_year_grain_asks_symbol_by_symbol_whatever_it_costs():
    days = axis(1)
    plan = make_plan("ohlcv-1d", dict.fromkeys(("A", "B", "C"), 1), days, BASIC, file_grain="year")
    assert {batch.endpoint for batch in plan.batches} == {"range"}
    assert plan.calls == 3
    assert [batch.of for batch in plan.batches] == [1]


@pytest.mark.parametrize("endpoint", ["grouped", "nothing"])
def test_year_grain_refuses_an_endpoint_that_serves_a_session_a_call(endpoint):
    with pytest.raises(ParamError, match=f"endpoint is '{endpoint}'; allowed with file_grain 'year': auto, range"):
        make_plan("ohlcv-1d", {"A": 1}, axis(1), BASIC, file_grain="year", endpoint=endpoint)
