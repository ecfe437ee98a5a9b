"""Symbols of several exchanges in one run: each has cells in the sessions of its own calendar."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data import pipeline
from market_data.config.run_params import RunParams
from market_data.core.batch import Batch, Request
from market_data.core.calendar import CALENDARS, CMES, XNYS
from market_data.core.instruments import by_calendar
from market_data.core.intervals import closed
from market_data.core.outcome import State
from market_data.datasets.registry import dataset as find_dataset
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import read_coverage
from market_data.pipeline.gaps import due_gaps, find_gaps
from market_data.pipeline.open_cells import OwnCells
from market_data.pipeline.run_sessions import Wanted, resolve_sessions
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from market_data.providers.registry import calendar_of_source
from market_data.quality.gate import gate
from tests.pipeline.runs import World, feed_of

SYMBOLS = ("AAPL", "ES.c.0", "VIX", "X:BTCUSD", "C:EURUSD")
FIRST, HOLIDAY, LAST = date(2026, 1, 16), date(2026, 1, 19), date(2026, 1, 20)  # Friday, Martin Luther King Jr. Day, Tuesday
DAY = timedelta(days=1)
OWN = {
    "AAPL": [FIRST, LAST],
    "ES.c.0": [FIRST, HOLIDAY, LAST],
    "VIX": [FIRST, LAST],
    "X:BTCUSD": [FIRST + n * DAY for n in range(5)],
    "C:EURUSD": [FIRST, HOLIDAY, LAST],
}


@pytest.fixture
def world(tmp_path):
    return World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", ""), options={}))


def wanted(context, symbols, first, last, now):
    params = RunParams("dow30", start_date=first, end_date=last)
    return resolve_sessions(params, None, scheduled=False, now=now, calendars=by_calendar(symbols, context.calendar_of))


def run(world, first, last, symbols=SYMBOLS, **context):
    context = world.context(**context)
    return world.run(wanted(context, symbols, first, last, world.now).own, symbols, context)


def plan(world, day, symbols):
    context = world.context()
    with world.hook() as hook:
        return pipeline.plan_run(context, hook, wanted(context, symbols, day, day, world.now), symbols, world.now)


def stored(world, table="silver_prices"):
    found = {}
    for row in world.query(f"SELECT symbol, CAST(bar_time AS DATE) AS day FROM {table} ORDER BY symbol, bar_time"):
        found.setdefault(row["symbol"], []).append(row["day"])
    return found


def test_each_symbol_has_the_sessions_of_its_own_exchange(world):
    planned, report = run(world, FIRST, LAST)
    assert stored(world) == OWN
    assert not report["red"]
    assert planned.plan.cells == sum(map(len, OWN.values()))
    assert report["failed_tickers"] == 0
    assert report["successful_tickers"] == len(SYMBOLS)
    coverage = read_coverage(world.lake, "ohlcv-1d", "mock")
    assert {(row["symbol"], row["session"]) for row in coverage.table.to_pylist()} == {
        (symbol, day) for symbol, days in OWN.items() for day in days
    }
    assert not planned.pending


def test_a_second_run_requests_nothing(world):
    run(world, FIRST, LAST)
    planned, _ = run(world, FIRST, LAST, run_id="r2")
    assert planned.plan.batches == ()
    assert planned.covered == sum(map(len, OWN.values()))
    assert planned.standing == {"red": [], "warnings": []}


def test_a_holiday_of_stocks_does_not_split_their_requests(world):
    planned, _ = run(world, FIRST, LAST)
    requests = [request for batch in planned.plan.batches for request in batch.requests(batch.sessions)]
    assert all(len(request.intervals) == 1 for request in requests)
    assert {symbol: list(request.sessions) for request in requests for symbol in request.symbols} == OWN
    assert [batch.number for batch in planned.plan.batches] == list(range(1, len(planned.plan.batches) + 1))


def test_a_run_of_stocks_and_the_vix_is_planned_as_one(world):
    planned, _ = run(world, FIRST, LAST, ("AAPL", "VIX", "KO"))
    assert [batch.symbols for batch in planned.plan.batches] == [("AAPL", "VIX", "KO")]


@pytest.mark.parametrize("text", ["2026-04-03", "2026-01-19", "2025-11-27", "2025-01-09", "2024-06-19", "2018-12-05"])
def test_a_holiday_alone_has_a_bar_of_the_future_and_of_no_stock(world, text):
    day = date.fromisoformat(text)
    _, report = run(world, day, day, ("AAPL", "ES.c.0", "VIX"))
    assert stored(world) == {"ES.c.0": [day]}
    assert not report["red"]
    assert report["sessions_loaded"] == [text]
    planned = plan(world, day, ("AAPL", "VIX"))
    assert planned.plan.batches == ()
    assert planned.note == f"Nothing to do: no session on {text} ({XNYS.why_closed(day)})"


def test_a_day_on_which_nobody_trades_names_the_reason(world):
    planned = plan(world, date(2025, 4, 18), ("AAPL", "ES.c.0"))
    assert planned.note == "Nothing to do: no session on 2025-04-18 (Good Friday)"


def test_a_session_is_available_when_its_own_exchange_is_done(world):
    world.now = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)  # 17:30 in New York after the hour that ``run`` adds
    session = date(2026, 11, 24)
    planned, report = run(world, session, session, ("AAPL", "ES.c.0"))
    assert stored(world) == {"ES.c.0": [session]}
    assert planned.pending == (session,)
    assert not report["red"]


def test_a_scheduled_run_of_a_holiday_is_complete_with_the_futures_alone(world):
    world.now = datetime(2026, 1, 20, 1, 30, tzinfo=UTC)
    interval = (datetime(2026, 1, 19, tzinfo=UTC), world.now)
    context = world.context(run_type="scheduled")
    found = resolve_sessions(
        RunParams("dow30"), interval, scheduled=True, now=world.now, calendars=by_calendar(SYMBOLS, context.calendar_of)
    )
    assert found.own == (HOLIDAY,)
    assert {FIRST, date(2026, 1, 17), date(2026, 1, 18)} < {*found.lookback}
    _, report = world.run(found.own, SYMBOLS, context, found.lookback)
    assert HOLIDAY in stored(world)["ES.c.0"]
    assert HOLIDAY not in stored(world)["AAPL"]
    assert not report["red"]


def test_a_run_by_the_calendar_of_stocks_catches_the_holiday_up(world):
    """A feed may keep XNYS: the lookback of the session after has the futures' holiday."""
    world.now = datetime(2026, 1, 21, 1, 30, tzinfo=UTC)
    interval = (datetime(2026, 1, 20, tzinfo=UTC), world.now)
    found = resolve_sessions(RunParams("dow30"), interval, scheduled=True, now=world.now, calendars=[XNYS, CMES])
    world.run(found.own, ("AAPL", "ES.c.0"), world.context(run_type="scheduled"), found.lookback)
    assert stored(world)["ES.c.0"][-3:] == [FIRST, HOLIDAY, LAST]
    assert HOLIDAY not in stored(world)["AAPL"]


def test_a_manual_run_without_dates_has_the_last_session_of_each_exchange():
    sunday = datetime(2026, 11, 22, 12, tzinfo=UTC)
    found = resolve_sessions(RunParams("dow30"), None, scheduled=False, now=sunday, calendars=[XNYS, CALENDARS["24/7"]])
    assert found.own == (date(2026, 11, 20), date(2026, 11, 21))


def test_minutes_of_every_calendar_pass_the_gate(tmp_path):
    world = World(feed_of("mock_ohlcv_1m"), tmp_path, lambda: MockHook(config=ProviderConfig("mock_default", ""), options={}))
    _, report = run(world, FIRST, LAST)
    assert not report["red"]
    assert report["rows_quarantined"] == 0
    found = world.query("SELECT symbol, COUNT(*) AS bars FROM silver_prices GROUP BY symbol")
    bars = {row["symbol"]: row["bars"] for row in found}
    assert bars["ES.c.0"] > bars["AAPL"]


def test_a_gap_of_a_future_is_counted_in_its_own_sessions(world):
    """Three sessions after Good Friday 2026 it is Wednesday for a future: the Friday counts."""
    days = CMES.sessions(date(2026, 3, 2), date(2026, 4, 9))
    run(world, days[0], days[-1], ("ES.c.0", "AAPL"))
    gone = date(2026, 3, 20)
    coverage = read_coverage(world.lake, "ohlcv-1d", "mock")
    table = coverage.table
    cells = table.filter(
        [
            symbol == "ES.c.0" and day == gone
            for symbol, day in zip(table["symbol"].to_pylist(), table["session"].to_pylist(), strict=True)
        ]
    ).select(["symbol", "session", "state", "reason"])
    cells = cells.set_column(2, "state", pa.array([str(State.EMPTY)])).set_column(
        3, "reason", pa.array(["the provider has nothing"])
    )
    recorded = cells.cast(CELLS)
    after = coverage.updated([recorded], world.now)
    at = datetime(2026, 4, 3, 23, tzinfo=UTC)  # the evening of Good Friday
    (gap,) = find_gaps(after, [recorded], at).to_pylist()
    assert gap["reason"].endswith(f"T+{len(CMES.sessions(gone, date(2026, 4, 4))) - 1}")
    assert CMES.sessions_count(gone, date(2026, 4, 4)) == XNYS.sessions_count(gone, date(2026, 4, 4)) + 1
    assert due_gaps(after, ["ES.c.0"], at) == {}


def test_own_cells_keep_the_calendars_of_their_symbols(world):
    context = world.context()
    days = wanted(context, SYMBOLS, FIRST, LAST, world.now).own
    own = OwnCells.on(SYMBOLS, days, context.calendar_of)
    assert {
        symbol: [day for day, cell in zip(days, row, strict=True) if cell]
        for symbol, row in zip(SYMBOLS, own.is_cell(), strict=True)
    } == OWN
    again = OwnCells.of({"own": json.loads(json.dumps(own.to_json()))}, ())
    assert (again.symbols, again.sessions, again.calendars) == (own.symbols, own.sessions, own.calendars)
    stocks = OwnCells.on(("AAPL",), days, context.calendar_of)
    assert stocks.to_json() == {"symbols": ["AAPL"], "intervals": [["2026-01-16", "2026-01-21"]]}


def test_what_a_number_means_is_known_by_the_dataset_of_futures():
    futures, stocks = calendar_of_source("databento~GLBX.MDP3"), calendar_of_source("databento")
    assert [futures(symbol).name for symbol in ("15144", "ES.c.0", "CL:BF F0-G0-H0")] == ["CMES"] * 3
    assert [stocks(symbol).name for symbol in ("15144", "AAPL")] == ["XNYS"] * 2
    assert calendar_of_source("ib")("VIX").name == "CFE"
    assert calendar_of_source("nobody")("ES.c.0").name == "CMES"


def test_batches_carry_the_calendar_of_symbols_that_do_not_tell_it(world):
    from market_data.pipeline.plan_by_calendar import plan_by_calendar
    from market_data.pipeline.planner import make_plan

    with world.hook() as hook:
        capabilities = hook.capabilities("ohlcv-1d")
    days = CMES.sessions(FIRST, LAST + DAY)
    plan = plan_by_calendar(
        {"15144": 7}, days, capabilities, lambda _: CMES, lambda cells, axis: make_plan("ohlcv-1d", cells, axis, capabilities)
    )
    (batch,) = [Batch.from_json(json.loads(json.dumps(batch.to_json()))) for batch in plan.batches]
    (request,) = batch.requests(batch.sessions)
    assert (request.sessions, request.calendar) == (days, CMES)
    assert batch.id.endswith(batch.spec_hash[:8])


def test_a_plan_of_stocks_only_is_what_it_was(world):
    """The ids of batches and requests of stocks stay: a retry across an update finds its receipts."""
    context = world.context()
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted((FIRST, LAST)), ("AAPL", "KO"), world.now)
    (batch,) = planned.plan.batches
    assert [block.to_json() for block in batch.blocks] == [{"symbols": ["AAPL", "KO"], "intervals": [["2026-01-16", "2026-01-21"]]}]


@pytest.mark.parametrize(
    ("symbol", "moment", "session", "accepted"),
    [
        ("ES.c.0", "2026-01-19T15:00", "2026-01-19", True),
        ("ES.c.0", "2026-01-18T23:00", "2026-01-19", True),  # Sunday, 18:00 New York
        ("ES.c.0", "2026-01-19T15:00", "2026-01-20", False),  # it belongs to the holiday
        ("ES.c.0", "2026-01-19T23:00", "2026-01-20", True),
        ("AAPL", "2026-01-19T15:00", "2026-01-19", False),  # no session of stocks
        ("X:BTCUSD", "2026-01-17T00:30", "2026-01-17", True),  # a Saturday, by the UTC day
        ("X:BTCUSD", "2026-01-18T00:30", "2026-01-17", False),
    ],
)
def test_the_gate_knows_the_trading_day_of_each_calendar(symbol, moment, session, accepted):
    dataset = find_dataset("ohlcv-1m")
    request = Request("ohlcv-1m", "range", (symbol,), (closed(FIRST, LAST),))
    row = {
        "symbol": symbol,
        "session": date.fromisoformat(session),
        "bar_time": datetime.fromisoformat(moment).replace(tzinfo=UTC),
        **dict.fromkeys(("open", "high", "low", "close"), 100.0),
        "volume": 10.0,
    }
    rows = pa.table({field.name: pa.array([row.get(field.name)], field.type) for field in dataset.received})
    assert len(gate(dataset, rows, request, request.sessions).good) == accepted
