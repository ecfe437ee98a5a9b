"""An audit of what real runs leave finds nothing; what is changed by hand afterwards is found, in every dataset and grain."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout
from market_data.maintenance.audit import audit
from market_data.maintenance.audit.scope import Scope
from market_data.maintenance.findings import Cause, Repair
from market_data.pipeline.selection import Selection
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

SYMBOLS = ["AAPL", "IBM", "SPY"]
SESSIONS = calendar.sessions(date(2026, 10, 29), date(2026, 11, 5))
"""Across the end of a month, and of summer time."""


class Audited:
    """A world of mock runs, and its audit."""

    def __init__(self, tmp_path, dag_id, **params):
        self.world = World(feed_of(dag_id), tmp_path, lambda: MockHook(ProviderConfig("mock_default", "")))
        self.world.run(SESSIONS, SYMBOLS, self.world.context(**params))

    def audit(self, *, share=1.0, warehouse=True, universe=SYMBOLS, **chosen):
        world = self.world
        selection = Selection(dataset(world.feed.dataset), "mock", Layout(), **chosen)
        opened = world.warehouse() if warehouse else None
        given = Universe("test", tuple(map(Member, universe)))
        now = world.now + timedelta(minutes=1)
        found = audit(world.lake, opened, world.feed, selection, now, given, share=share)
        self.notes = found.notes
        return [(row["symbol"], row["first_session"], row["last_session"], Cause(row["cause"]), Repair(row["repair"]))
                for row in found.findings.to_pylist()]  # fmt: skip

    def change(self, statement):
        with self.world.warehouse() as warehouse, warehouse._transaction():
            warehouse._execute("change", statement)

    def key(self, symbol, session, grain="day"):
        return Layout().object_key(dataset(self.world.feed.dataset), "mock", symbol, session, grain)


# Sessions after the last run are missing: the audits end before them.
SPAN = {"start": SESSIONS[0], "end": SESSIONS[-1]}


@pytest.fixture(
    params=[
        ("mock_ohlcv_1d", "day"),
        ("mock_ohlcv_1m", "year"),
        ("mock_ohlcv_1d", "session"),
        pytest.param(("mock_ohlcv_1d", "year"), marks=pytest.mark.slow),
        pytest.param(("mock_ohlcv_1m", "day"), marks=pytest.mark.slow),
        pytest.param(("mock_ohlcv_1m", "session"), marks=pytest.mark.slow),
    ]
)
def audited(tmp_path, request):
    dag_id, grain = request.param
    made = Audited(tmp_path, dag_id, file_grain=grain)
    made.grain = grain
    return made


def test_what_runs_leave_is_in_order(audited):
    assert audited.audit(**SPAN) == []
    assert audited.audit(**SPAN, share=0.4) == []
    assert audited.audit(**SPAN, warehouse=False) == []
    assert audited.audit(start=SESSIONS[1], end=SESSIONS[2], symbols=("IBM",)) == []


def test_a_tickers_file_on_s3_is_the_universe_of_an_audit_too(tmp_path):
    audited = Audited(tmp_path, "mock_ohlcv_1d")
    feed = replace(audited.world.feed, start_date=SESSIONS[0], params={"tickers_path": "s3://desk/mine.csv"})
    files = {"s3://desk/mine.csv": b"symbol\nAAPL\nMSFT\n"}
    selection = Selection(dataset(feed.dataset), "mock", Layout(), **SPAN)
    found = audit(audited.world.lake, None, feed, selection, audited.world.now + timedelta(days=1), open_s3=files.__getitem__)
    assert {(row["symbol"], row["cause"]) for row in found.findings.to_pylist()} == {("MSFT", "missing")}


def test_an_audit_tells_which_symbols_it_read_and_what_it_could_not_look_for(tmp_path):
    audited = Audited(tmp_path, "mock_ohlcv_1d")
    world = audited.world
    broken = replace(world.feed, params={"tickers_path": "no/such.csv"})
    selection = Selection(dataset(world.feed.dataset), "mock", Layout(), **SPAN)
    found = audit(world.lake, None, broken, selection, world.now, share=0.4)
    assert set(found.unjudged) == {"missing", "not loaded", "warehouse changed", "only in the warehouse"}
    assert len(found.read) == 2 == found.counts["objects_read"] // len(SESSIONS)
    with world.warehouse() as warehouse:
        whole = audit(world.lake, warehouse, world.feed, selection, world.now, share=1)
    assert (whole.read, whole.unjudged) == (None, ())
    assert Scope.of_report({**whole.to_json(), "start": None, "end": None}).whole
    assert not Scope.of_report({**found.to_json(), "start": None, "end": None}).whole


@pytest.mark.parametrize("span", [SPAN, {"start": SESSIONS[2], "end": SESSIONS[3]}])
def test_a_changed_value_and_a_lost_row_of_silver_are_found(audited, span):
    day = SESSIONS[2]
    of_day = f"bar_time >= TIMESTAMP '{day}' AND bar_time < TIMESTAMP '{day + timedelta(days=1)}'"
    first = f"bar_time = (SELECT min(bar_time) FROM silver_prices WHERE symbol = '{{0}}' AND {of_day})"
    audited.change(f"UPDATE silver_prices SET close_px = close_px + 0.01 WHERE symbol = 'AAPL' AND {first.format('AAPL')}")
    audited.change(f"DELETE FROM silver_prices WHERE symbol = 'IBM' AND {first.format('IBM')}")
    assert audited.audit(**span) == [
        ("AAPL", day, day, Cause.WAREHOUSE_CHANGED, Repair.LOAD),
        ("IBM", day, day, Cause.NOT_LOADED, Repair.LOAD),
    ]


def test_a_missing_object_is_found_without_reading(audited):
    day = SESSIONS[1]
    audited.world.lake.delete(audited.key("IBM", day, audited.grain))
    own = {session for session in SESSIONS if audited.key("IBM", session, audited.grain) == audited.key("IBM", day, audited.grain)}
    symbols = SYMBOLS if audited.grain == "session" else ["IBM"]
    expected = [(symbol, min(own), max(own), Cause.OBJECT_MISSING, Repair.FETCH) for symbol in symbols]
    for share in (1e-9, 1):
        assert audited.audit(**SPAN, share=share) == expected


def test_a_lost_warehouse_is_one_finding_for_each_symbol(audited, tmp_path):
    (tmp_path / "warehouse.duckdb").unlink()
    expected = [(symbol, SESSIONS[0], SESSIONS[-1], Cause.NOT_LOADED, Repair.LOAD) for symbol in SYMBOLS]
    assert audited.audit(**SPAN) == audited.audit(**SPAN, share=0.1) == expected
    with audited.world.warehouse() as warehouse:
        warehouse.migrate()
    assert audited.audit(**SPAN) == audited.audit(**SPAN, share=0.1) == expected


def test_cells_that_no_run_requested_are_missing(audited):
    (missing,) = audited.audit(**SPAN, universe=[*SYMBOLS, "MSFT"])
    assert missing == ("MSFT", SESSIONS[0], SESSIONS[-1], Cause.MISSING, Repair.FETCH)
    later = audited.audit(start=SESSIONS[0])
    assert {row[3:] for row in later} == {(Cause.MISSING, Repair.FETCH)}
    assert {row[1] for row in later} == {calendar.XNYS.next_session(SESSIONS[-1])}


def test_a_member_is_expected_only_in_its_time(tmp_path):
    audited = Audited(tmp_path, "mock_ohlcv_1d")
    world = audited.world
    members = (*map(Member, SYMBOLS), Member("MSFT", SESSIONS[3], None), Member("XRX", None, SESSIONS[1]))
    selection = Selection(dataset("ohlcv-1d"), "mock", Layout(), **SPAN)
    found = audit(world.lake, None, world.feed, selection, world.now, Universe("test", members))
    assert [(row["symbol"], row["first_session"], row["last_session"]) for row in found.findings.to_pylist()] == [
        ("MSFT", SESSIONS[3], SESSIONS[4]),
        ("XRX", SESSIONS[0], SESSIONS[0]),
    ]


def test_a_row_without_a_record_is_found_and_one_that_is_nowhere_else(tmp_path):
    audited = Audited(tmp_path, "mock_ohlcv_1d")
    lake, day = audited.world.lake, SESSIONS[2]
    for key, _ in lake.list("manifest"):
        lake.delete(key)
    found = audited.audit(**SPAN)
    assert [row[:3] for row in found] == [(symbol, session, session) for symbol in SYMBOLS for session in SESSIONS]
    assert {row[3:] for row in found} == {(Cause.NOT_RECORDED, Repair.LEDGER)}
    lake.delete(audited.key("SPY", day))
    assert ("SPY", day, day, Cause.MISSING, Repair.FETCH) in audited.audit(**SPAN, universe=SYMBOLS)
