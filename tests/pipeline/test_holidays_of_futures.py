"""Whole runs over holidays on which the stock exchange is closed and futures trade, against the doubles of the vendors."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from market_data.config.run_params import RunParams
from market_data.core.calendar import CMES, XNYS
from market_data.core.instruments import by_calendar
from market_data.pipeline.run_sessions import resolve_sessions
from market_data.providers.base import ProviderConfig
from market_data.providers.databento.hook import DatabentoHook
from sandbox.http.server import SampleApi
from sandbox.ib_gateway import SampleGateway
from sandbox.vendors.databento_instruments import number
from tests.pipeline.runs import NOW, World, feed_of
from tests.providers.test_ib import quick

KEY = "a-key"
EXTRA = {"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.05}]}
HOLIDAYS = [date(2026, 1, 19), date(2026, 4, 3), date(2026, 6, 19)]
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def gateway():
    with SampleGateway(now=lambda: NOW) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def databento():
    with SampleApi(vendor="databento", api_key=KEY) as api:
        yield api


def ib(gateway, tmp_path, name):
    config = ProviderConfig("ib_default", gateway.address, extra={"plan": "sample", "calls_per_minute_per_slot": 60_000})
    return World(feed_of(name), tmp_path, lambda: quick()(config=config))


def run(world, first, last, symbols, run_id="r1"):
    params = RunParams("dow30", start_date=first, end_date=last)
    context = world.context(run_id)
    calendars = by_calendar(symbols, context.calendar_of)
    wanted = resolve_sessions(params, None, scheduled=False, now=world.now, calendars=calendars)
    return world.run(wanted.own, symbols, context)


def stored(world):
    found = {}
    for row in world.query("SELECT DISTINCT symbol, CAST(bar_time AS DATE) AS day FROM silver_prices ORDER BY symbol, day"):
        found.setdefault(row["symbol"], []).append(row["day"])
    return found


@pytest.mark.parametrize("holiday", HOLIDAYS)
def test_a_run_of_ib_has_the_holiday_of_the_futures_alone(gateway, tmp_path, holiday):
    world = ib(gateway, tmp_path, "ib_ohlcv_1d")
    days = (XNYS.previous_session(holiday), XNYS.next_session(holiday))
    symbols = ("ES.c.0", "MES.c.0", "VIX", "AAPL")
    _, report = run(world, *days, symbols)
    futures, stocks = [days[0], holiday, days[1]], [*days]
    assert stored(world) == {"AAPL": stocks, "ES.c.0": futures, "MES.c.0": futures, "VIX": stocks}
    assert not report["red"]
    assert report["rows_quarantined"] == 0
    planned, _ = run(world, *days, symbols, run_id="r2")
    assert planned.plan.batches == ()


def test_bars_within_the_day_of_ib_belong_to_the_holiday(gateway, tmp_path):
    world = ib(gateway, tmp_path, "ib_ohlcv_5m")
    _, report = run(world, date(2026, 1, 16), date(2026, 1, 20), ("ES.c.0", "AAPL"))
    assert not report["red"]
    assert report["rows_quarantined"] == 0
    found = world.query("SELECT MIN(bar_time) AS first, COUNT(*) AS bars FROM silver_prices WHERE symbol = 'ES.c.0'")
    assert found[0]["bars"] == (23 + 19 + 23) * 12  # the holiday ends at 13:00
    assert {tuple(row.values()) for row in world.query("SELECT symbol, COUNT(*) FROM silver_prices GROUP BY symbol")} == {
        ("ES.c.0", 780),
        ("AAPL", 156),
    }


@pytest.mark.parametrize("holiday", [*HOLIDAYS, date(2025, 1, 9), date(2024, 6, 19)])
@pytest.mark.parametrize("name", ["databento_ohlcv_1d", "databento_ohlcv_1m"])
def test_a_run_of_databento_has_the_holiday_of_the_futures(databento, tmp_path, holiday, name):
    options = {"stype_in": "continuous"}
    world = world_of(databento, tmp_path, name, options)
    days = (XNYS.previous_session(holiday), XNYS.next_session(holiday))
    planned, report = run(world, *days, ("ES.c.0", "NQ.c.0"))
    assert planned.plan.cells == 6
    assert report["sessions_loaded"] == [str(day) for day in (days[0], holiday, days[1])]
    assert not report["red"]
    assert report["rows_quarantined"] == 0


def test_numbers_of_instruments_have_the_sessions_of_futures(databento, tmp_path):
    """Nothing in the spelling of a number tells that it is a future: the batch carries the calendar."""
    world = world_of(databento, tmp_path, "databento_ohlcv_1m", {"stype_in": "instrument_id", "dataset": "GLBX.MDP3"})
    symbol = str(number("ESH2026"))
    _, report = run(world, date(2026, 1, 16), date(2026, 1, 20), (symbol,))
    assert report["sessions_loaded"] == ["2026-01-16", "2026-01-19", "2026-01-20"]
    assert not report["red"]
    assert report["rows_quarantined"] == 0
    planned, _ = run(world, date(2026, 1, 16), date(2026, 1, 20), (symbol,), run_id="r2")
    assert planned.plan.batches == ()


def test_a_good_friday_without_a_session_has_no_cell(databento, tmp_path):
    world = world_of(databento, tmp_path, "databento_ohlcv_1d", {"stype_in": "continuous"})
    planned, report = run(world, date(2025, 4, 17), date(2025, 4, 21), ("ES.c.0",))
    assert planned.plan.cells == 2
    assert report["sessions_loaded"] == ["2025-04-17", "2025-04-21"]
    assert CMES.why_closed(date(2025, 4, 18)) == "Good Friday"


def world_of(databento, tmp_path, name, options):
    config = ProviderConfig("databento_default", databento.url, password=f"db-{KEY}", extra=EXTRA)
    feed = replace(feed_of(name), options=options)
    world = World(feed, tmp_path, lambda: DatabentoHook(config=config, options=options))
    world.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    return world
