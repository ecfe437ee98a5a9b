"""Every feed of the project from its provider's local server into lake and warehouse, without Airflow; and providers side by side."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.config.feeds import load_feeds
from market_data.config.universes import members
from market_data.core import calendar
from market_data.core.errors import NotYetAvailable
from market_data.core.outcome import State
from market_data.datasets.registry import dataset
from market_data.lake.ledger import read_coverage
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider, serving
from sandbox.stack.__main__ import SAMPLE_DATES
from sandbox.stack.environment import Paths, Ports
from sandbox.stack.settings import local_connections
from tests.pipeline.runs import World

FEEDS = {feed.dag_id: feed for feed in load_feeds()}
FIRST, LAST = (date.fromisoformat(day) for day in SAMPLE_DATES["ohlcv-1d"])
WEEK = calendar.sessions(FIRST, FIRST + timedelta(days=7))
SIDE_BY_SIDE = ("polygon_ohlcv_1d", "alpaca_ohlcv_1d", "fmp_ohlcv_1d", "databento_ohlcv_1d", "ib_ohlcv_1d")
SYMBOLS = ("AAPL", "BRK.B", "IBM", "SPY")


@pytest.fixture
def make_hook(api, gateway):
    """Makes the hook of a feed as `make run` would: from the connections of the local stack."""
    api.forget()
    ports = Ports(sample_api=api.port, gateway=gateway.port)
    connections = local_connections(Paths(Path(), Path()), ports)

    def make(feed):
        found = connections.get(feed.conn_id, {})
        host, port = found.get("conn_host", ""), found.get("conn_port")
        config = ProviderConfig(
            feed.conn_id,
            f"{host}:{port}" if port else host,
            found.get("conn_login", ""),
            found.get("conn_password", ""),
            found.get("conn_extra", {}),
        )
        return provider(feed.provider)(options=feed.options, config=config)

    return make


def world_of(dag_id, folder, make_hook):
    feed = FEEDS[dag_id]
    return World(feed, folder, lambda: make_hook(feed))


# Each provider's daily bars in the first tier; on a real scheduler all of them run in the second.
DAILY = [dag_id if dag_id.endswith("_1d") else pytest.param(dag_id, marks=pytest.mark.slow) for dag_id in FEEDS]


@pytest.mark.parametrize("dag_id", DAILY)
def test_every_feed_lands_and_loads_and_is_then_covered(dag_id, make_hook, tmp_path):
    world = world_of(dag_id, tmp_path, make_hook)
    kind = dataset(world.feed.dataset)
    # Futures that have expired are known for two years only.
    dates = ("2026-11-12", "2026-11-16") if world.feed.provider == "ib" else SAMPLE_DATES[kind.name]
    first, last = map(date.fromisoformat, dates)
    sessions = calendar.sessions(first, last + timedelta(days=1))
    symbols = ("META",) if kind.name == "symbol-changes" else members(world.feed.universe, last)[:12]
    _, report = world.run(sessions, symbols)
    assert report["red"] == []
    assert report["rows_landed"] > 0
    assert report["rows_quarantined"] == 0
    assert report["rows_loaded"] == (report["rows_landed"] if kind.table else 0)
    assert report["cells_planned"] == len(symbols) * len(sessions) == sum(report["cells"].values())
    if kind.is_bars:
        assert report["cells"]["have"] == report["cells_planned"]
    coverage = read_coverage(world.lake, kind.name, world.feed.provider)
    assert len(coverage) == report["cells_planned"]
    assert coverage.state(symbols[0], sessions[0]) in (State.HAVE, State.EMPTY)
    planned, again = world.run(sessions, symbols, world.context("r2"))
    assert (planned.plan.batches, again) == ((), None)
    _, forced = world.run(sessions, symbols, world.context("r3", force=True))
    assert forced["red"] == []
    assert (forced["files_written"], forced["rows_changed"]) == (0, 0)


RECONCILE = Path("include/sql/queries/reconcile.sql")


@pytest.mark.slow
def test_the_same_day_of_the_same_symbols_agrees_between_providers(make_hook, tmp_path):
    for dag_id in SIDE_BY_SIDE:
        world = world_of(dag_id, tmp_path, make_hook)
        _, report = world.run(WEEK, SYMBOLS)
        assert report["red"] == []
        assert report["rows_loaded"] == len(WEEK) * len(SYMBOLS)
    found = world.query(
        "SELECT COUNT(*) AS providers, MAX(close_px) - MIN(close_px) AS apart FROM silver_prices GROUP BY symbol, bar_time"
    )
    assert len(found) == len(WEEK) * len(SYMBOLS)
    assert {row["providers"] for row in found} == {len(SIDE_BY_SIDE)}
    assert max(row["apart"] for row in found) <= 0.01
    assert world.query(RECONCILE.read_text()) == []


@pytest.mark.slow
@pytest.mark.parametrize("grain", ["day", "year"])
def test_a_statement_as_it_was_filed_first_does_not_replace_the_amended_one(api, make_hook, tmp_path, grain):
    """The daily feed has seen the amendment; then somebody asks for the time before it."""
    world = world_of("fmp_fundamentals", tmp_path, make_hook)
    filed, again = date(2013, 1, 30), date(2013, 3, 1)
    held = "SELECT fiscal_period, filing_date, amount FROM silver_fundamentals WHERE item = 'netIncome' AND statement = 'income' ORDER BY 1"
    api.fault("restated", vendor="fmp", times=None, days=30)
    world.run([again], ["AAPL"], world.context(file_grain=grain))
    stands, lake = world.query(held), {key: body for key, body in world.objects().items() if key.startswith("raw/")}
    assert [(row["fiscal_period"], row["filing_date"]) for row in stands] == [("FY", again), ("Q4", again)]
    _, report = world.run([filed], ["AAPL"], world.context("r2", file_grain=grain))
    assert world.query(held) == stands
    assert {key: body for key, body in world.objects().items() if key.startswith("raw/")} == lake
    assert (report["red"], report["rows_landed"]) == ([], 0)
    api.faults.clear()


def test_where_providers_disagree_the_reconciliation_shows_it(api, make_hook, tmp_path):
    world_of("polygon_ohlcv_1d", tmp_path, make_hook).run(WEEK, SYMBOLS)
    api.alter("AAPL", WEEK[1], multiply=1.01)
    api.alter("IBM", WEEK[2], volume=1.0)
    api.hide(WEEK[3], ["SPY"])
    world = world_of("alpaca_ohlcv_1d", tmp_path, make_hook)
    world.run(WEEK, SYMBOLS)
    found = {(row["symbol"], row["session_date"], row["finding"]) for row in world.query(RECONCILE.read_text())}
    assert found == {("AAPL", WEEK[1], "close"), ("IBM", WEEK[2], "volume"), ("SPY", WEEK[3], "missing at provider_a")}


@pytest.mark.slow
def test_what_one_provider_cannot_serve_another_brings_under_its_own_name(api, make_hook, tmp_path):
    world = world_of("polygon_ohlcv_1d", tmp_path, make_hook)
    world.feed = replace(world.feed, fallback="alpaca")
    api.fault("server_error", match=str(WEEK[1]), times=None)
    _, report = world.run(WEEK[:3], SYMBOLS, world.context(max_retries=0))
    assert report["red"]
    (wanted,) = report["unserved"]
    assert (wanted["start_date"], wanted["end_date"]) == (WEEK[1].isoformat(), WEEK[1].isoformat())
    assert set(wanted["symbols"]) == set(SYMBOLS)
    api.forget()
    other = world_of("alpaca_ohlcv_1d", tmp_path, make_hook)
    _, report = other.run([WEEK[1]], wanted["symbols"])
    assert report["red"] == []
    rows = other.query("SELECT provider, COUNT(*) AS n, COUNT(DISTINCT bar_time) AS sessions FROM silver_prices GROUP BY provider")
    assert {(row["provider"], row["sessions"]) for row in rows} == {("alpaca", 1), ("polygon", 2)}


@pytest.mark.slow
def test_the_report_counts_the_files_that_were_written(make_hook, tmp_path):
    for dag_id, grain in (("fmp_fundamentals", "day"), ("polygon_ohlcv_1m", "year"), ("polygon_corporate_actions", "day")):
        world = world_of(dag_id, tmp_path / dag_id, make_hook)
        first, last = map(date.fromisoformat, SAMPLE_DATES[world.feed.dataset])
        _, report = world.run(calendar.sessions(first, last + timedelta(days=1)), ["AAPL", "IBM"], world.context(file_grain=grain))
        assert sum(result["files_written"] for result in report["results"]) == report["files_written"] > 0
        assert sum(result["rows_written"] for result in report["results"]) == report["rows_written"] == report["rows_landed"]


def test_a_parent_symbol_is_asked_as_what_it_stands_for(make_hook, tmp_path):
    feed = FEEDS["databento_ohlcv_1d"]
    feed = replace(feed, options={**feed.options, "stype_in": "parent"})
    world = World(feed, tmp_path, lambda: make_hook(feed))
    planned, report = world.run(WEEK[:2], ["ES.FUT"])
    assert planned.symbols > 1
    assert report["failures"] == []
    assert report["rows_landed"] > 0
    assert all(result["symbol"].startswith("ES") for result in report["results"])


@pytest.mark.slow
def test_statements_that_come_late_are_asked_for_until_they_are_settled(api, make_hook, tmp_path, monkeypatch):
    """Two of the three statements are shown weeks after the first."""
    world = world_of("fmp_fundamentals", tmp_path, make_hook)
    filing = next(iter(api.market.statements("AAPL", date(2013, 1, 15), date(2013, 3, 1)))).filing_date
    filed, whole = calendar.sessions(filing, filing + timedelta(days=5)), type(make_hook(world.feed)).fetch
    shown = {"statements": 1}

    def late(hook, request):
        fetched = whole(hook, request)
        names = pa.array(["income", "balance_sheet", "cash_flow"][: shown["statements"]], pa.string())
        return replace(fetched, table=fetched.table.filter(pc.is_in(fetched.table["statement"], names)))

    monkeypatch.setattr(type(make_hook(world.feed)), "fetch", late)
    world.now = calendar.session_close(filed[-1]) + timedelta(hours=10)
    _, first = world.run(filed, ["AAPL"], world.context("monday", run_type="scheduled"))
    assert first["rows_landed"] > 0
    assert set(first["cells"]) == {"pending"}
    shown["statements"] = 3
    world.now += timedelta(days=20)
    _, second = world.run([], ["AAPL"], world.context("later", run_type="scheduled"), lookback=filed)
    assert second["rows_landed"] > first["rows_landed"]
    assert second["red"] == []
    world.now += timedelta(days=60)
    _, third = world.run([], ["AAPL"], world.context("settled", run_type="scheduled"), lookback=filed)
    assert set(third["cells"]) == {"have", "empty"}
    assert world.run([], ["AAPL"], world.context("again", run_type="scheduled"), lookback=filed)[1] is None


def test_rows_of_a_session_that_no_longer_come_are_kept_and_said(make_hook, tmp_path, monkeypatch):
    world = world_of("databento_trades", tmp_path, make_hook)
    _, first = world.run(WEEK[:1], ["AAPL"])
    whole = type(make_hook(world.feed)).fetch

    def fewer(hook, request):
        fetched = whole(hook, request)
        table = fetched.table.slice(50)
        count = len(table)
        return replace(fetched, table=table, evidence=replace(fetched.evidence, rows_received=count, rows_declared=count))

    monkeypatch.setattr(type(make_hook(world.feed)), "fetch", fewer)
    _, report = world.run(WEEK[:1], ["AAPL"], world.context("r2", force=True))
    assert f"50 stored rows are missing from the responses of {world.feed.provider}; they are kept" in (report["warnings"])
    assert len(world.query("SELECT * FROM silver_trades")) == first["rows_landed"]


def test_what_is_only_not_there_yet_is_not_asked_of_another_provider(make_hook, tmp_path, monkeypatch):
    world = world_of("polygon_ohlcv_1d", tmp_path, make_hook)
    world.feed = replace(world.feed, fallback="alpaca")

    def not_yet(hook, request):
        raise NotYetAvailable("tomorrow", until=world.now)

    monkeypatch.setattr(type(make_hook(world.feed)), "fetch", not_yet)
    _, report = world.run(WEEK[:2], SYMBOLS)
    assert report["cells"] == {"pending": 2 * len(SYMBOLS)}
    assert report["unserved"] == []


def test_a_symbol_that_is_refused_in_one_request_is_loaded_from_the_others(api, make_hook, tmp_path):
    """Two requests for one symbol; the second is refused. What the first one brought is judged, loaded and covered."""
    world = world_of("polygon_ohlcv_1d", tmp_path, make_hook)
    sessions = calendar.sessions(date(2012, 3, 1), date(2012, 3, 31))
    endpoint = replace(serving("polygon", "ohlcv-1d")[1], request_rows=10)
    hook = type(make_hook(world.feed))
    original = hook._endpoints
    hook._endpoints = lambda self, dataset: (endpoint,)
    try:
        api.fault("not_found", match=f"range/1/day/{sessions[10]}", times=None)
        _, report = world.run(sessions, ["AAPL"])
    finally:
        hook._endpoints = original
    assert [failure["symbol"] for failure in report["failures"]] == ["AAPL"]
    have = report["cells"]["have"]
    assert 0 < have == report["rows_loaded"] < len(sessions)
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert coverage.state("AAPL", sessions[0]) is State.HAVE
    assert coverage.state("AAPL", sessions[10]) is None
