"""The cells of a run are those of its universe of each session, for every shape of request."""

from datetime import date

import pytest

from market_data.core.batch import Batch
from market_data.core.capabilities import Capabilities, Endpoint, Quota, Shape
from market_data.core.intervals import Interval
from market_data.core.membership import between, changes, member_sessions
from market_data.pipeline import plan_run
from market_data.pipeline.open_cells import OwnCells, survey
from market_data.pipeline.planner import make_plan
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

DAYS = tuple(date(2022, 6, day) for day in (6, 7, 8, 9, 10))
WEEK = DAYS[1:]
JOIN = date(2022, 6, 9)
MEMBERS = {"FB": (Interval(date.min, JOIN),), "META": (Interval(JOIN, date.max),)}
NAMES = ("AAPL", "FB", "META")
CELLS = {
    *(("AAPL", day) for day in WEEK),
    *(("FB", day) for day in WEEK[:2]),
    *(("META", day) for day in WEEK[2:]),
}


def requested(batches):
    """The requested cells, as a list."""
    cells = []
    for batch in (Batch.from_json(batch.to_json()) for batch in batches):
        for request in batch.requests(batch.sessions):
            cells += [(symbol, day) for block in request.blocks for symbol in block.symbols for day in block.sessions]
    return cells


SHAPES = {
    "market": Endpoint("all", Shape.MARKET),
    "symbol": Endpoint("range", Shape.SYMBOL),
    "multi": Endpoint("bars", Shape.MULTI),
    "whole": Endpoint("bulk", Shape.MULTI, market_rows=1),
}


@pytest.mark.parametrize("endpoint", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("grain", ["day", "year"])
def test_no_request_covers_a_cell_outside_the_membership(endpoint, grain):
    if endpoint.shape is Shape.MARKET and grain == "year":
        return
    members = member_sessions(NAMES, WEEK, MEMBERS)
    plan = make_plan("ohlcv-1d", members, WEEK, Capabilities((endpoint,), Quota(100)), file_grain=grain, members=members)
    assert sorted(requested(plan.batches)) == sorted(CELLS)
    assert plan.cells == len(CELLS)


@pytest.mark.parametrize("endpoint", SHAPES.values(), ids=SHAPES)
def test_a_symbol_that_left_and_came_back_is_not_requested_in_between(endpoint):
    members = {"BACK": 0b10011, "AAPL": 0b11111}
    missing = {"BACK": 0b10011, "AAPL": 0b11111}
    plan = make_plan("ohlcv-1d", missing, DAYS, Capabilities((endpoint,), Quota(100)), members=members)
    assert len(requested(plan.batches)) == plan.cells == 8
    spans = [
        (request.start, request.last)
        for batch in plan.batches
        for request in batch.requests(DAYS)
        if "BACK" in request.symbols and len(request.symbols) == 1
    ]
    assert all(last < DAYS[2] or start > DAYS[3] for start, last in spans)
    if endpoint.shape is Shape.SYMBOL:
        assert spans == [(DAYS[0], DAYS[1]), (DAYS[4], DAYS[4])]
        assert plan.calls == 3


@pytest.fixture
def world(tmp_path):
    from market_data.providers.base import ProviderConfig

    return World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(ProviderConfig("mock_default", ""), options={}))


def planned(world, days=WEEK, lookback=(), names=NAMES, membership=MEMBERS, **context):
    with world.hook() as hook:
        return plan_run(world.context(**context), hook, Wanted(days, lookback), names, world.now, membership)


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("force", [False, True])
def test_a_run_requests_fb_until_june_8_and_meta_from_june_9(world, grain, force):
    plan = planned(world, file_grain=grain, force=force)
    assert sorted(requested(plan.plan.batches)) == sorted(CELLS)
    assert plan.changes == "Joining the universe: META 2022-06-09. Leaving the universe: FB 2022-06-09"
    assert plan.changes in plan.explain()
    assert plan.symbols == 3


def test_a_scheduled_run_looks_back_at_former_members(world):
    plan = planned(world, WEEK[2:3], WEEK[:2], run_type="scheduled")
    assert sorted(requested(plan.plan.batches)) == sorted(cell for cell in CELLS if cell[1] != WEEK[3])
    assert plan.own.symbols == ("AAPL", "META")


def test_a_symbol_removed_before_the_run_is_left_out_and_named(world):
    plan = planned(world, WEEK[3:])
    assert {symbol for symbol, _ in requested(plan.plan.batches)} == {"AAPL", "META"}
    assert plan.changes == "Not requested, removed before these sessions: FB 2022-06-09"


def test_a_run_before_the_first_member_has_nothing_to_do(world):
    plan = planned(world, WEEK[:1], names=("META",))
    assert plan.plan.batches == ()
    assert plan.note == "Nothing to do: no symbol of the universe is a member in these sessions"
    assert plan.standing == {"red": [], "warnings": []}


def test_a_universe_that_has_ended_is_refused(world):
    from market_data.core.errors import ParamError

    with pytest.raises(ParamError, match="no members from 2022-06-10 on: the last one was removed on 2022-06-09"):
        planned(world, WEEK[3:], names=("FB",))


def test_a_run_is_complete_without_the_cells_outside_and_a_second_one_requests_nothing(world):
    import market_data.pipeline as pipeline

    context = world.context()
    plan = planned(world)
    with world.hook() as hook:
        receipts = [pipeline.fetch_batch(context, hook, batch, lambda: world.now) for batch in plan.plan.batches]
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, list(plan.plan.batches), receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    found = pipeline.publish_run(
        context, pipeline.RunResult(list(plan.plan.batches), receipts, {}, checked, loaded, plan.summary), world.now
    )
    assert found["red"] == []
    rows = world.query("select symbol, cast(bar_time as date) as day from silver_prices")
    assert {(row["symbol"], row["day"]) for row in rows} == CELLS
    again = planned(world)
    assert again.plan.batches == ()
    assert again.covered == len(CELLS)
    assert again.standing["red"] == []
    assert sorted(requested(planned(world, clear_number=1).plan.batches)) == sorted(CELLS)


def test_own_cells_survive_the_xcom(world):
    own = planned(world).own
    restored = OwnCells.of({"own": own.to_json()}, ())
    assert (
        restored.is_cell().tolist()
        == own.is_cell().tolist()
        == [[True] * 4, [True, True, False, False], [False, False, True, True]]
    )
    from market_data.lake.ledger import read_coverage

    found = survey(read_coverage(world.lake, "ohlcv-1d", "mock"), restored, world.context().dataset)
    assert (found.total, found.missing) == (len(CELLS), len(CELLS))


def test_always_members_need_no_dates():
    span = Interval(DAYS[0], date(2022, 6, 11))
    assert between({"A": (Interval(date(2020, 1, 1), date.max),), **MEMBERS}, span) == {
        "FB": (Interval(DAYS[0], JOIN),),
        "META": (Interval(JOIN, span.end),),
    }
    assert changes(["A"], WEEK, {}) == ""


def test_a_universe_of_dated_symbols_is_planned_in_seconds():
    import time

    from market_data.core.calendar import XNYS

    days = XNYS.sessions(date(2000, 1, 3), date(2026, 1, 3))
    every = (1 << len(days)) - 1
    members = {f"S{n}": every >> n % 3000 << n % 3000 + n % 7 & every for n in range(3000)}
    endpoints = (SHAPES["market"], SHAPES["symbol"])
    began = time.process_time()
    plan = make_plan("ohlcv-1d", members, days, Capabilities(endpoints, Quota(300)), members=members)
    assert plan.calls <= 3000
    assert time.process_time() - began < 30
