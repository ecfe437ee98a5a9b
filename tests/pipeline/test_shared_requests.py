"""Symbols with different holes share a request: only the missing cells are written, whatever else the response holds."""

import json
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data import pipeline
from market_data.config.feeds import load_feeds
from market_data.core import calendar
from market_data.core.batch import Block, Request
from market_data.core.capabilities import Shape
from market_data.core.intervals import closed
from market_data.core.outcome import State
from market_data.core.request_rows import of_request, without_rows
from market_data.datasets.registry import dataset
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import read_coverage, write_cells
from market_data.lake.receipts import RequestReceipt
from market_data.pipeline.run_sessions import Wanted
from market_data.pipeline.unknown_symbols import CONTRADICTED, AbsenceCheck
from market_data.providers.registry import serving
from sandbox.market.edits import Change
from tests.pipeline.test_every_feed import make_hook, world_of  # noqa: F401  fixture
from tests.pipeline.test_unknown_symbols import night, saying_nothing, states

WEEK = calendar.sessions(date(2013, 1, 7), date(2013, 1, 12))
SYMBOLS = ("AAPL", "IBM", "MSFT", "SPY")
HELD = {"AAPL": (WEEK[1],), "IBM": (WEEK[0], WEEK[3]), "MSFT": WEEK[2:]}
"""What earlier runs fetched; SPY is new."""


@pytest.fixture(params=["day", "year"])
def world(request, make_hook, tmp_path, api):  # noqa: F811
    world = world_of("alpaca_ohlcv_1d", tmp_path, make_hook)
    plain = world.context
    world.context = lambda *given, **params: plain(*given, **{"file_grain": request.param, **params})
    for number, (symbol, day) in enumerate((symbol, day) for symbol, days in HELD.items() for day in days):
        _, report = world.run([day], [symbol], world.context(f"held{number}"))
        assert (report["red"], report["rows_loaded"]) == ([], 1)
    api.forget()
    yield world
    api.forget()


def held_cells(world):
    table = read_coverage(world.lake, "ohlcv-1d", "alpaca").table
    return {
        (symbol, session): state
        for symbol, session, state in zip(*(table[name].to_pylist() for name in ("symbol", "session", "state")), strict=True)
    }


def test_one_call_fetches_the_cells_that_each_symbol_lacks_and_no_other(world, api):
    for days in HELD.values():  # a change of what is stored: nobody requests it
        for day in days:
            api.edits.alter(day, Change("AAPL", multiply=1.5))
            api.edits.alter(day, Change("MSFT", multiply=1.5))
    stored = {
        (row["symbol"], row["day"]): row["px"]
        for row in world.query("SELECT symbol, CAST(bar_time AS date) AS day, close_px AS px FROM silver_prices")
    }
    api.calls.clear()
    planned, report = world.run(WEEK, SYMBOLS, world.context("rest"))
    missing = len(SYMBOLS) * len(WEEK) - sum(map(len, HELD.values()))
    assert len([call for call in api.calls if call.accepted]) == planned.plan.calls == 1
    assert (planned.plan.cells, report["rows_landed"], report["rows_loaded"]) == (missing, missing, missing)
    assert (report["red"], report["rows_quarantined"], report["rows_changed"]) == ([], 0, missing)
    assert set(held_cells(world)) == {(symbol, day) for symbol in SYMBOLS for day in WEEK}
    assert set(held_cells(world).values()) == {State.HAVE}
    now = {
        (row["symbol"], row["day"]): row["px"]
        for row in world.query("SELECT symbol, CAST(bar_time AS date) AS day, close_px AS px FROM silver_prices")
    }
    assert len(now) == len(SYMBOLS) * len(WEEK)
    assert {cell: now[cell] for cell in stored} == stored
    again, nothing = world.run(WEEK, SYMBOLS, world.context("again"))
    assert (again.plan.batches, nothing) == ((), None)


def test_a_symbol_that_is_gone_from_the_response_is_missing_in_its_own_cells_only(world, api):
    api.edits.hide(WEEK[4], ["AAPL"])
    _, report = world.run(WEEK, SYMBOLS, world.context("rest"))
    states = held_cells(world)
    assert states[("AAPL", WEEK[4])] == State.EMPTY
    assert {state for cell, state in states.items() if cell != ("AAPL", WEEK[4])} == {State.HAVE}
    assert report["rows_loaded"] == len(SYMBOLS) * len(WEEK) - sum(map(len, HELD.values())) - 1


def test_a_finished_request_is_not_repeated(world, api):
    context = world.context("rest")
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(WEEK), SYMBOLS, world.now)
        (batch,) = planned.plan.batches
        first = pipeline.fetch_batch(context, hook, batch, lambda: world.now)
        made = len(api.calls)
        second = pipeline.fetch_batch(context, hook, batch, lambda: world.now, attempt=2)
    assert len(api.calls) == made
    assert second == replace(first, requests_resumed=1, seconds=second.seconds)


# -- rows that a response lacks --------------------------------------------------------------------------------------------------------

PAST = calendar.sessions(date(2012, 11, 1), date(2013, 3, 1))
HELD_DAYS, LATE = PAST[:10], PAST[10:14]


def test_alpaca_alone_shares_requests_for_data_that_follows_trading():
    def shares(feed):
        kinds = serving(feed.provider, feed.dataset)
        return any(one.shape is Shape.MULTI and not one.charged for one in kinds) and dataset(feed.dataset).follows_trading

    assert {feed.provider for feed in load_feeds() if shares(feed)} == {"alpaca"}


@pytest.fixture
def ragged(make_hook, tmp_path, api):  # noqa: F811
    """A world in which IBM lacks more sessions than the others, and AAPL has an old empty cell."""
    world = world_of("alpaca_ohlcv_1d", tmp_path, make_hook)
    api.edits.hide(HELD_DAYS[6], ["AAPL"])
    night(world, PAST[40])
    world.run(HELD_DAYS[:3], SYMBOLS, world.context("all"))
    world.run(HELD_DAYS[3:], ("AAPL", "MSFT", "SPY"), world.context("without IBM"))
    night(world, PAST[41])
    yield world
    api.forget()


def fetch_rest(world, run_id, late=LATE):
    """Request what is missing up to the ``late`` sessions; return symbol -> states in these sessions."""
    planned, _ = world.run((*HELD_DAYS, *late), SYMBOLS, world.context(run_id))
    (request,) = [request for batch in planned.plan.batches for request in batch.requests(batch.sessions)]
    assert bool(request.parts) == ("IBM" in request.symbols)
    return {symbol: states(world, [symbol], late) for symbol in SYMBOLS}


def test_missing_cells_are_pending_although_rows_between_the_cells_come(ragged):
    saying_nothing(ragged, ["AAPL"], sessions=LATE)
    found = fetch_rest(ragged, "rest")
    assert found == {"AAPL": {State.PENDING}, "IBM": {State.HAVE}, "MSFT": {State.HAVE}, "SPY": {State.HAVE}}
    assert fetch_rest(ragged, "too early")["AAPL"] == {State.PENDING}
    night(ragged, PAST[42])
    assert fetch_rest(ragged, "later")["AAPL"] == {State.EMPTY}


def test_an_unexpected_symbol_may_be_the_missing_row_although_rows_between_the_cells_come(ragged, api):
    api.edits.hide(LATE[0], ["AAPL"])
    api.fault("other_symbol", vendor="alpaca", times=None)  # in place of SPY
    found = fetch_rest(ragged, "rest", LATE[:1])
    assert found == {"AAPL": {None}, "IBM": {State.HAVE}, "MSFT": {State.HAVE}, "SPY": {State.PENDING}}


def test_an_empty_cell_of_a_symbol_that_shares_the_request_does_not_settle_a_session_without_any_row(ragged):
    saying_nothing(ragged, sessions=HELD_DAYS[6:7])
    fetch_rest(ragged, "rest")
    assert states(ragged, ["IBM"], HELD_DAYS[6:7]) == {State.PENDING}


def test_a_later_response_settles_a_session_that_only_a_symbol_without_earlier_rows_lacks(ragged, api):
    symbols = ("AAPL", "MSFT", "SPY", "CVX")
    for day in HELD_DAYS[:6]:
        api.edits.hide(day, ["CVX"])
    saying_nothing(ragged, sessions=HELD_DAYS[6:7])
    ragged.run(PAST[:14], symbols, ragged.context("rest"))
    assert states(ragged, ["CVX"], HELD_DAYS[6:7]) == {State.PENDING}
    night(ragged, PAST[42])
    ragged.run(PAST[:18], symbols, ragged.context("later"))
    assert states(ragged, ["CVX"], HELD_DAYS[6:7]) == {State.EMPTY}


def test_old_empty_cells_between_the_cells_do_not_settle_symbols_that_are_reported_as_unknown(make_hook, tmp_path):  # noqa: F811
    world = world_of("alpaca_ohlcv_1d", tmp_path, make_hook)
    context, early, late = world.context(), PAST[:3], PAST[4:7]
    rows = [(symbol, day, str(State.EMPTY), "") for symbol, day in (("A", late[1]), ("B", early[1]), ("C", early[1]))]
    cells = pa.table(list(map(pa.array, zip(*rows, strict=True))), names=CELLS.names).cast(CELLS)
    night(world, PAST[40])
    write_cells(world.lake, "ohlcv-1d", context.source, context.run, "b", cells, recorded_at=world.now)
    night(world, PAST[41])
    blocks = Block(("A",), (closed(early[0], early[-1]),)), Block(("B", "C"), (closed(late[0], late[-1]),))
    check = AbsenceCheck(context, symbols=("A", "B", "C"))
    assert check.is_uncertain(Request.of("ohlcv-1d", "bars", blocks), world.now)
    swapped = Block(("B", "C"), blocks[0].intervals), Block(("A",), blocks[1].intervals)
    assert not check.is_uncertain(Request.of("ohlcv-1d", "bars", swapped), world.now)


def test_a_symbol_of_which_the_stored_rows_are_gone_too_stays_pending(ragged):
    saying_nothing(ragged, ["AAPL"])
    assert fetch_rest(ragged, "rest")["AAPL"] == {State.PENDING}
    reasons = read_coverage(ragged.lake, "ohlcv-1d", "alpaca").table.filter(pc.field("symbol") == "AAPL")["reason"].to_pylist()
    assert reasons.count(CONTRADICTED) == len(LATE)


# -- the request -----------------------------------------------------------------------------------------------------------------------

PARTS = (Block(("A",), (closed(WEEK[0], WEEK[0]), closed(WEEK[3], WEEK[3]))), Block(("B", "C"), (closed(WEEK[2], WEEK[3]),)))
SHARED = Request.of("ohlcv-1d", "bars", PARTS)


def test_a_request_of_parts_is_told_by_them():
    assert SHARED.symbols == ("A", "B", "C")
    assert (SHARED.start, SHARED.last) == (WEEK[0], WEEK[3])
    assert SHARED.id != replace(SHARED, parts=()).id
    assert Request.of("ohlcv-1d", "bars", PARTS[:1]) == Request("ohlcv-1d", "bars", ("A",), PARTS[0].intervals)


def test_a_receipt_keeps_the_parts():
    from market_data.core.outcome import Evidence

    receipt = RequestReceipt(SHARED, Evidence(1, 0, 1, 1, 1, None, last_page_seen=True), {})
    assert RequestReceipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


def test_the_symbols_of_each_part_without_a_row_in_its_cells():
    cells = [("A", WEEK[1]), ("B", WEEK[3]), ("C", WEEK[0]), ("X", WEEK[2]), (None, None)]
    rows = pa.table({"symbol": [s for s, _ in cells], "session": pa.array([day for _, day in cells], pa.date32())})
    assert without_rows(rows, SHARED) == [(PARTS[0], ("A",)), (PARTS[1], ("C",))]
    assert without_rows(rows, replace(SHARED, intervals=(closed(WEEK[0], WEEK[1]),))) == [(PARTS[0], ("A",))]
    one = Request("ohlcv-1d", "bars", ("A", "B"), (closed(WEEK[0], WEEK[0]), closed(WEEK[3], WEEK[3])))
    assert without_rows(rows, one) == [(one.blocks[0], ("A",))]


def test_a_request_under_other_names_has_them_in_its_parts():
    other = SHARED.renamed({"A": "a/b", "B": "B"})
    assert (other.symbols, other.intervals) == (("a/b", "B"), SHARED.intervals)
    assert other.parts == (replace(PARTS[0], symbols=("a/b",)), replace(PARTS[1], symbols=("B",)))
    assert SHARED.renamed({"B": "B"}).symbols == ("B",)
    assert SHARED.renamed({"B": "B"}).parts == (replace(PARTS[1], symbols=("B",)),)


def test_rows_between_the_cells_are_left_out_and_unexpected_ones_kept():
    cells = [(symbol, day) for symbol in ("A", "B", "X", None) for day in (*WEEK, None)]
    rows = pa.table({"symbol": [s for s, _ in cells], "session": pa.array([day for _, day in cells], pa.date32())})
    kept = of_request(rows, SHARED).to_pylist()
    own = {symbol: {row["session"] for row in kept if row["symbol"] == symbol} for symbol in ("A", "B", "X", None)}
    assert own["A"] == {WEEK[0], WEEK[3], WEEK[4], None}  # the last is outside of the request: the gate rejects it
    assert own["B"] == {WEEK[2], WEEK[3], WEEK[4], None}
    assert own["X"] == own[None] == {*WEEK, None}
