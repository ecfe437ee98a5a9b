"""One odd row of a response, from each provider's local server through a run: quarantined with its reason, and the rest is loaded."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from market_data.core import calendar
from market_data.core.outcome import State
from market_data.datasets.generated import GeneratedDividend
from market_data.lake.ledger import read_coverage
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider
from sandbox.stack.environment import Paths, Ports
from sandbox.stack.settings import local_connections
from tests.pipeline.runs import World, feed_of

JANUARY = calendar.sessions(date(2013, 1, 7), date(2013, 1, 12))
DAY = JANUARY[1]
SYMBOLS = ("AAPL", "IBM", "SPY")


@pytest.fixture
def world(api, gateway, tmp_path):
    """Makes the world of a feed, with the connections of the local stack."""
    api.forget()
    gateway.forget()
    connections = local_connections(Paths(Path(), Path()), Ports(sample_api=api.port, gateway=gateway.port))

    def make(dag_id):
        feed = feed_of(dag_id)
        found = connections[feed.conn_id]
        host, port = found.get("conn_host", ""), found.get("conn_port")
        fields = (found.get(name, "") for name in ("conn_login", "conn_password"))
        config = ProviderConfig(feed.conn_id, f"{host}:{port}" if port else host, *fields, found.get("conn_extra", {}))
        return World(feed, tmp_path, lambda: provider(feed.provider)(options=feed.options, config=config))

    return make


def quarantined(world):
    """The rows in quarantine, as (symbol, session, reasons)."""
    files = Path(world.folder, "lake", "quarantine").rglob("*.parquet")
    rows = [row for file in sorted(files) for row in pq.ParquetFile(file).read().to_pylist()]
    return [(row["symbol"], row["session"], row["reasons"]) for row in rows]


def coverage(world):
    return read_coverage(world.lake, world.feed.dataset, world.feed.provider)


FMP_OPEN = {"pattern": rf'(?s)("date": ?"{DAY}"[^{{}}]*?"adjOpen": ?)[0-9.]+', "text": r'\g<1>"x"', "match": "symbol=IBM"}


@pytest.mark.parametrize("feed", ["fmp_ohlcv_1d", "ib_ohlcv_1d"])
def test_an_odd_bar_is_quarantined_and_the_rest_is_loaded(world, api, gateway, feed):
    run = world(feed)
    days = JANUARY
    if feed == "fmp_ohlcv_1d":
        api.fault("substituted", vendor="fmp", times=None, **FMP_OPEN)
    else:
        gateway.fault("odd", match="IBM", times=None, field=1, value="x")
    _, report = run.run(days, SYMBOLS)
    found = quarantined(run)
    assert [(symbol, day) for symbol, day, _ in found] == [("IBM", DAY)]
    assert found[0][2].startswith("open is 'x'" if feed.startswith("ib") else 'adjOpen is "x"')
    assert (report["rows_quarantined"], report["rows_loaded"]) == (1, len(days) * len(SYMBOLS) - 1)
    states = coverage(run)
    assert states.state("IBM", DAY) is State.QUARANTINED
    assert {states.state(symbol, day) for symbol in SYMBOLS for day in days} == {State.HAVE, State.QUARANTINED}


ACTIONS = {
    "polygon_corporate_actions": (r'("cash_amount": ?)[0-9.]+', "/dividends", "cash_amount"),
    "alpaca_corporate_actions": (r'("rate": ?)[0-9.]+', "corporate-actions", "rate"),
    "fmp_corporate_actions": (r'("dividend": ?)[0-9.]+', "/dividends", "dividend"),
}


@pytest.mark.parametrize("feed", ACTIONS)
def test_an_odd_action_is_quarantined_and_the_rest_is_loaded(world, api, monkeypatch, feed):
    pattern, match, field = ACTIONS[feed]

    def paid(symbol, day):
        return GeneratedDividend(symbol, day, 0.5, day, day, day + timedelta(days=9), "CD", 4, f"{symbol}{day}")

    held = [paid("IBM", day) for day in JANUARY[1:4]]
    within = lambda start, end, symbols=None: [  # noqa: E731
        one for one in held if start <= one.ex_date < end and (symbols is None or one.symbol in symbols)
    ]
    monkeypatch.setattr(api.market, "dividends", within)
    monkeypatch.setattr(api.market, "splits", lambda *_: [])
    run = world(feed)
    api.fault("substituted", vendor=run.feed.provider, match=match, times=None, pattern=pattern, text=r'\g<1>"x"')
    _, report = run.run(JANUARY, ("IBM",))
    ((symbol, day, reasons),) = quarantined(run)
    assert (symbol, day in JANUARY[1:4]) == ("IBM", True)
    assert reasons.startswith(f'{field} is "x"')
    assert (report["rows_quarantined"], report["rows_loaded"]) == (1, 2)
    states = coverage(run)
    assert states.state("IBM", day) is State.QUARANTINED
    others = {states.state("IBM", other) for other in JANUARY[1:4] if other != day}
    assert others == {State.HAVE}
    # The next whole response brings the row, and nothing was taken for withdrawn meanwhile.
    run.run(JANUARY, ("IBM",), run.context("r2", force=True))
    assert run.query("SELECT COUNT(*) AS n FROM silver_corporate_actions WHERE withdrawn") == [{"n": 0}]
    api.faults.clear()
    _, report = run.run(JANUARY, ("IBM",), run.context("r3", force=True))
    assert coverage(run).state("IBM", day) is State.HAVE
    assert run.query("SELECT COUNT(*) AS n FROM silver_corporate_actions") == [{"n": 3}]


CHANGES = {
    "polygon_symbol_changes": (
        r'(?s)("events": ?\[)',
        r'\g<1>{"type": "ticker_change", "date": "2022-06-08", "ticker_change": {"ticker": 7}}, ',
    ),
    "alpaca_symbol_changes": (
        r'("name_changes": ?\[)',
        r'\g<1>{"old_symbol": "META", "new_symbol": 7, "process_date": "2022-06-13"}, ',
    ),
}


@pytest.mark.parametrize("feed", CHANGES)
def test_an_odd_change_of_a_symbol_is_quarantined(world, api, feed):
    pattern, text = CHANGES[feed]
    days = calendar.sessions(date(2022, 6, 6), date(2022, 6, 15))
    run = world(feed)
    match = "/events" if feed.startswith("polygon") else None
    api.fault("substituted", vendor=run.feed.provider, match=match, times=None, pattern=pattern, text=text)
    _, report = run.run(days, ("META",))
    assert report["rows_quarantined"] >= 1
    states = coverage(run)
    assert {day for _, day, _ in quarantined(run)} == {day for day in days if states.state("META", day) is State.QUARANTINED}
    assert State.EMPTY in {states.state("META", day) for day in days}
    if feed.startswith("alpaca"):
        assert states.state("META", date(2022, 6, 9)) is State.HAVE


def test_an_odd_item_of_a_statement_is_quarantined_and_the_rest_is_loaded(world, api):
    run = world("fmp_fundamentals")
    day = date(2013, 1, 30)
    pattern = rf'(?s)("filingDate": ?"{day}"[^{{}}]*"netIncome": ?)[-0-9.]+'
    _, whole = run.run([day], ["AAPL"])
    api.fault(
        "substituted", vendor="fmp", match="/income-statement.*period=(annual|FY)", times=None, pattern=pattern, text=r'\g<1>"x"'
    )
    _, report = run.run([day], ["AAPL"], run.context("r2", force=True))
    found = quarantined(run)
    assert [(symbol, session) for symbol, session, _ in found] == [("AAPL", day)] * len(found) != []
    assert found[0][2].startswith("netIncome is not of the known form")
    assert report["rows_landed"] == whole["rows_landed"] - len(found)
    assert coverage(run).state("AAPL", day) is State.QUARANTINED


def test_a_row_whose_date_cannot_be_read_leaves_no_empty_cell(world, gateway):
    run = world("ib_ohlcv_1d")
    gateway.fault("odd", match="IBM", times=None, field=0, value="soon")
    _, report = run.run(JANUARY, SYMBOLS)
    states = coverage(run)
    assert states.state("IBM", DAY) is None
    assert quarantined(run) == [("IBM", None, "date is 'soon'")]
    assert report["rows_loaded"] == len(JANUARY) * len(SYMBOLS) - 1
    assert report["red"] != []
