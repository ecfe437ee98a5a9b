"""The planner against brute force on small cases, and the figures that it must reach on large ones."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.batch import Batch
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape, Window
from market_data.core.errors import ParamError
from market_data.pipeline.planner import make_plan
from market_data.providers.registry import serving

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
            for block in request.blocks:
                days = [d for d in sessions if any(d in i for i in block.intervals)]
                cells += [(symbol, day) for symbol in block.symbols for day in days]
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


def test_a_window_that_holds_all_calls_slows_none():
    quota = Quota(300, (Window(250, 86_400), Window(100, 60)))
    assert [quota.calls_per_minute(calls) for calls in (30, 100, 101, 251)] == [300, 300, 100, pytest.approx(250 / 1440)]


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


# -- every provider: the figures of the table of minimum calls -----------------------------------------------------------------------

YEARS = {1: 1, 2: 504, 10: 2516}  # sessions


def served(provider, dataset, *without):
    return Capabilities(tuple(e for e in serving(provider, dataset) if e.name not in without), Quota(200))


@pytest.mark.parametrize(
    ("provider", "without", "calls"),
    [
        ("polygon", ("flatfile",), (1, 504, 523)),
        ("alpaca", (), (1, 27, 132)),
        ("fmp", (), (1, 504, 523)),
        ("fmp", ("bulk",), (523, 523, 523)),
        ("databento", (), (1, 1, 1)),
        ("ib", (), (523, 523, 523)),
    ],
)
def test_523_symbols_take_the_fewest_calls_of_every_provider(provider, without, calls):
    for sessions, expected in zip(YEARS.values(), calls, strict=True):
        missing = {f"S{i}": (1 << sessions) - 1 for i in range(523)}
        result = plan(missing, sessions, served(provider, "ohlcv-1d", *without), batch_size=1000)
        assert result.calls == expected
        assert result.cells == 523 * sessions


@pytest.mark.parametrize(
    ("provider", "without", "calls"),
    [
        ("polygon", (), 252),  # flat files
        ("polygon", ("flatfile",), 500 * 5),  # 960 minutes a session, 50,000 a page
        ("alpaca", (), 12_096),  # 960 minutes a session at most, 10,000 a page; 4,914 if only the regular ones have a trade
        ("databento", (), 63),  # monthly or larger slices would be 12 or 1; these fit into memory
        ("ib", (), 500 * 12),  # a month a request
    ],
)
def test_a_year_of_minutes_of_500_symbols(provider, without, calls):
    missing = {f"S{i}": (1 << 252) - 1 for i in range(500)}
    result = plan(missing, 252, served(provider, "ohlcv-1m", *without), batch_size=1000)
    assert result.calls == calls
    assert result.cells == 500 * 252


def test_statements_are_three_in_two_periods_and_in_bulk_by_period():
    missing = {f"S{i}": 1 for i in range(523)}
    assert plan(missing, 1, served("fmp", "fundamentals", "bulk")).calls == 523 * 6
    assert plan(missing, 1, served("fmp", "fundamentals")).calls == 51
    (batch,) = plan(missing, 1, served("polygon", "corporate-actions")).batches
    assert (batch.calls, len(batch.symbols)) == (2, 523)


# -- requests of many symbols --------------------------------------------------------------------------------------------------------

many = st.builds(
    Endpoint,
    st.just("bars"),
    st.just(Shape.MULTI),
    page_rows=st.integers(1, 12),
    rows_per_session=st.integers(1, 3),
    request_rows=st.integers(1, 20),
    max_symbols=st.none() | st.integers(1, 3),
    chunk_days=st.none() | st.integers(1, 9),
    max_days=st.none() | st.integers(1, 9),
)


@given(small, many, st.integers(1, 4), st.sampled_from(["day", "year"]))
def test_requests_of_many_symbols_ask_exactly_the_missing_cells_once_within_bounds(case, endpoint, batch_size, grain):
    n, missing = case
    result = plan(missing, n, Capabilities((endpoint,), Quota(5)), batch_size=batch_size, file_grain=grain)
    expected = {(s, day) for s, mask in missing.items() for b, day in enumerate(axis(n)) if mask >> b & 1}
    cells = asked(result, axis(n))
    assert len(cells) == len(set(cells)) == result.cells
    assert set(cells) == expected
    for batch in result.batches:
        assert len(batch.symbols) <= batch_size
        for request in batch.requests(axis(n)):
            span = [day for day in axis(n) if request.start <= day <= request.last]
            rows = len(request.symbols) * len(span) * endpoint.rows_per_session
            assert rows <= endpoint.request_rows or len(request.symbols) == len(span) == 1
            assert len(request.symbols) <= (endpoint.max_symbols or 5)
            assert len(span) <= max(1, (endpoint.max_days or 99) * 5 // 7)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 30))
def test_the_cut_leaves_the_fewest_pages_half_full(symbols, sessions, page_rows, request_rows):
    endpoint = Endpoint("bars", Shape.MULTI, page_rows=page_rows, request_rows=request_rows)
    missing = {f"S{i}": (1 << sessions) - 1 for i in range(symbols)}
    found = plan(missing, sessions, Capabilities((endpoint,), Quota(5)), batch_size=99).calls

    def calls(wide, long):
        parts = [
            (min(wide, symbols - s), min(long, sessions - d)) for s in range(0, symbols, wide) for d in range(0, sessions, long)
        ]
        return sum(-(-some * days // page_rows) for some, days in parts)

    possible = [(w, d) for w in range(1, symbols + 1) for d in range(1, sessions + 1) if w * d <= request_rows or w == d == 1]
    assert found == min(calls(w, d) for w, d in possible) or symbols * sessions <= request_rows


def test_equal_holes_are_asked_together_and_small_requests_share_a_batch():
    endpoint = Endpoint("bars", Shape.MULTI, charged=True)
    result = plan({"A": 0b110, "B": 0b001, "C": 0b110}, 3, Capabilities((endpoint,), Quota(5)))
    (batch,) = result.batches
    assert [(request.symbols, request.start) for request in batch.requests(axis(3))] == [
        (("A", "C"), axis(3)[1]),
        (("B",), axis(3)[0]),
    ]
    assert batch.calls == 2
    assert batch.label == f"b000 A +2 {axis(3)[0]}..{axis(3)[2]}"


def test_more_requests_than_airflow_maps_share_batches():
    endpoint = Endpoint("bars", Shape.MULTI, request_rows=1)
    result = plan({f"S{i}": 0b11111 for i in range(1000)}, 5, Capabilities((endpoint,), Quota(5)), batch_size=1000)
    assert len(result.batches) <= 1024
    assert result.cells == result.calls == 5000


def test_the_cheaper_kind_of_endpoint_wins_and_of_equal_ones_the_first():
    one, several = Endpoint("one", Shape.SYMBOL), Endpoint("several", Shape.MULTI, page_rows=2)
    for endpoints, names in (((one, several), {"one"}), ((several, one), {"several"})):
        assert {b.endpoint for b in plan({"A": 1}, 1, Capabilities(endpoints, Quota(5))).batches} == names
    assert {b.endpoint for b in plan({"A": 1, "B": 1}, 1, Capabilities((one, several), Quota(5))).batches} == {"several"}


def test_sessions_that_the_market_wide_endpoint_does_not_have_yet_are_asked_by_symbol():
    late = Endpoint("flatfile", Shape.MARKET, available_after=40 * 3600)
    capabilities = Capabilities((late, SYMBOL), Quota(5))
    missing = {f"S{i}": 0b1111 for i in range(9)}
    morning = datetime(2020, 1, 8, 12, tzinfo=UTC)  # of the 7th there will be one at four in the afternoon
    result = plan(missing, 4, capabilities, now=morning)
    by_name = {b.endpoint: b for b in result.batches}
    assert by_name["flatfile"].intervals[-1].last == axis(4)[2]
    assert by_name["range"].intervals[0].start == axis(4)[3]
    assert {b.endpoint for b in plan(missing, 4, capabilities, now=morning + timedelta(hours=5)).batches} == {"flatfile"}


def test_a_long_request_of_one_symbol_is_cut_at_whole_pages():
    minutes = Endpoint("range", Shape.SYMBOL, rows_per_session=960)
    result = plan({"A": (1 << 1000) - 1}, 1000, Capabilities((minutes,), Quota(5)))
    requests = [request for batch in result.batches for request in batch.requests(axis(1000))]
    spans = [sum(request.start <= day <= request.last for day in axis(1000)) for request in requests]
    assert spans == [416, 416, 168]
    assert result.calls == -(-1000 // 52)  # 52 sessions a page: not a call more than uncut
