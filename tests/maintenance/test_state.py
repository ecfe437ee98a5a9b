"""State of a feed, and reset: cells are unknown again for every reader, and the next run requests exactly them."""

from datetime import date, datetime, timedelta

import pytest

from market_data.cli.main import main
from market_data.core import calendar
from market_data.core.errors import ParamError
from market_data.core.outcome import State
from market_data.lake.ledger import read_coverage
from market_data.maintenance import journal
from market_data.maintenance.person import Person
from market_data.maintenance.state import feed_state, reset, symbol_states
from market_data.pipeline import rebuild_warehouse
from market_data.pipeline.selection import EVER, Selection
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, feed_of

SYMBOLS = ["AAPL", "IBM", "SPY"]
DAYS = calendar.sessions(date(2026, 11, 2), date(2026, 11, 7))
ADA = Person("Ada", "fetched with the wrong plan")


class Deployment:
    """A lake, and no warehouse but the one that --duckdb names."""

    def __init__(self, lake):
        self.opened = lake

    def lake(self):
        return self.opened


@pytest.fixture
def world(tmp_path):
    found = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(ProviderConfig("mock_default", "")))
    found.run(DAYS, SYMBOLS)
    return found


def selection(world, symbols=None, start=EVER[0], end=EVER[1]):
    context = world.context()
    return Selection(context.dataset, context.source, context.layout, symbols, start, end)


def coverage(world):
    return read_coverage(world.lake, "ohlcv-1d", "mock")


def test_the_state_of_a_feed(world):
    found = feed_state(world.lake, selection(world))
    assert (found.symbols, found.first, found.last, found.complete) == (3, DAYS[0], DAYS[-1], DAYS[-1])
    assert (found.states, found.staging, found.last_run) == ({"have": 3 * len(DAYS)}, 0, "r1")


def test_the_states_of_symbols(world):
    rows = symbol_states(world.lake, selection(world, ("AAPL", "IBM"))).to_pylist()
    assert [(row["symbol"], row["first"], row["last"], row["last_loaded"], row["have"], row["released"]) for row in rows] == [
        (symbol, DAYS[0], DAYS[-1], DAYS[-1], len(DAYS), 0) for symbol in ("AAPL", "IBM")
    ]


def test_a_dry_run_of_a_reset_writes_nothing(world):
    before = world.objects()
    found = reset(world.lake, selection(world, ("AAPL",)), ADA, world.now)
    assert (found.cells, found.symbols, found.first, found.last, found.states) == (
        len(DAYS),
        1,
        DAYS[0],
        DAYS[-1],
        {"have": len(DAYS)},
    )
    assert world.objects() == before


def test_reset_cells_are_requested_again_and_no_others(world):
    reset(world.lake, selection(world, ("AAPL",), DAYS[1], DAYS[2]), ADA, world.now, dry_run=False)
    assert coverage(world).state("AAPL", DAYS[1]) is None
    assert coverage(world).state("AAPL", DAYS[0]) is State.HAVE
    assert coverage(world).covered(SYMBOLS, DAYS)["AAPL"] == sum(1 << n for n in range(len(DAYS)) if n not in (1, 2))
    planned, report = world.run(DAYS, SYMBOLS, world.context("r2"))
    assert planned.plan.cells == 2
    assert report["red"] == []
    assert coverage(world).state("AAPL", DAYS[1]) is State.HAVE
    assert [entry.what["cells"] for entry in journal.entries(world.lake, "reset")] == [2]


def test_a_second_reset_changes_nothing(world):
    reset(world.lake, selection(world), ADA, world.now, dry_run=False)
    before = world.objects()
    assert reset(world.lake, selection(world), ADA, world.now, dry_run=False).cells == 0
    assert world.objects() == before
    assert len(coverage(world)) == 0


def test_files_and_rows_of_reset_cells_stay_and_equal_values_change_nothing(world):
    count = world.query("SELECT COUNT(*) AS n FROM silver_prices")
    raw = {key: body for key, body in world.objects().items() if key.startswith("raw/")}
    reset(world.lake, selection(world), ADA, world.now, dry_run=False)
    assert world.query("SELECT COUNT(*) AS n FROM silver_prices") == count
    world.run(DAYS, SYMBOLS, world.context("r2"))
    assert {key: body for key, body in world.objects().items() if key.startswith("raw/")} == raw
    assert world.query("SELECT COUNT(*) AS n FROM bronze_prices") == count


def test_a_rebuild_leaves_out_reset_cells(world, tmp_path):
    reset(world.lake, selection(world, ("AAPL",)), ADA, world.now, dry_run=False)
    with world.warehouse() as warehouse:
        found = rebuild_warehouse(world.lake, warehouse, selection(world), now=world.now)
    assert found.left_out == len(DAYS)


def test_a_record_at_the_moment_of_the_reset_is_later_than_it(world):
    moment = world.now + timedelta(hours=5)
    reset(world.lake, selection(world), ADA, moment, dry_run=False)
    cells = read_coverage(world.lake, "ohlcv-1d", "other").table.select(["symbol", "session", "state", "reason"])
    assert len(cells) == 0
    world.now = moment - timedelta(hours=1)
    world.run(DAYS, SYMBOLS, world.context("r2"))
    assert coverage(world).state("AAPL", DAYS[0]) is State.HAVE


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("Ada", ""), ("Ada", "x" * 501)])
def test_who_and_why_are_needed(by, reason):
    with pytest.raises(ParamError):
        Person(by, reason)


# -- commands ------------------------------------------------------------------------------------------------------------------------


def command(world, capsys, *argv):
    code = main(list(argv), Deployment(world.lake))
    return code, capsys.readouterr()


def test_the_command_shows_first_and_then_acts(world, capsys):
    one = ("reset", "mock_ohlcv_1d", "--symbols", "AAPL", "--by", "Ada", "--reason", "wrong plan")
    code, said = command(world, capsys, *one)
    assert (code, "5 cells of 1 symbols would be unknown again" in said.out, "--yes does it" in said.out) == (0, True, True)
    assert coverage(world).state("AAPL", DAYS[0]) is State.HAVE
    code, said = command(world, capsys, *one, "--yes")
    assert (code, "are unknown again" in said.out) == (0, True)
    assert coverage(world).state("AAPL", DAYS[0]) is None
    code, said = command(world, capsys, "state", "mock_ohlcv_1d", "--json")
    assert code == 0
    assert '"have": 10' in said.out


def test_a_whole_feed_needs_a_word(world, capsys):
    code, said = command(world, capsys, "reset", "mock_ohlcv_1d", "--reason", "x")
    assert (code, "--all" in said.err) == (2, True)
    code, _ = command(world, capsys, "reset", "mock_ohlcv_1d", "--reason", "x", "--all", "--yes")
    assert (code, len(coverage(world))) == (0, 0)


def test_a_release_of_nothing_says_so(world, capsys, tmp_path):
    file = str(tmp_path / "warehouse.duckdb")
    code, said = command(world, capsys, "release", "mock_ohlcv_1d", "--all", "--reason", "x", "--duckdb", file)
    assert (code, "nothing is refused or quarantined" in said.out) == (0, True)


def test_the_dag_runs_the_same_functions(world):
    from market_data.airflow.maintain.state import run_action

    given = {"feeds": ["mock_ohlcv_1d"], "symbols": ["AAPL"], "by": "Ada", "reason": "wrong plan"}
    [line] = run_action({**given, "action": "reset"}, world.lake, world.warehouse)
    assert "cells=5" in line
    assert len(coverage(world)) == 15
    run_action({**given, "action": "reset", "dry_run": False}, world.lake, world.warehouse)
    assert len(coverage(world)) == 10
    [line] = run_action({"feeds": ["mock_ohlcv_1d"], "action": "show"}, world.lake, world.warehouse)
    assert "'have': 10" in line
    [line] = run_action({**given, "action": "release", "dry_run": False}, world.lake, world.warehouse)
    assert "nothing is refused" in line
    with pytest.raises(ParamError):
        run_action({**given, "symbols": [], "action": "reset"}, world.lake, world.warehouse)
    with pytest.raises(ParamError, match="source is 'alpaca'"):
        run_action({**given, "source": "alpaca", "action": "release"}, world.lake, world.warehouse)
    with pytest.raises(ParamError):
        run_action({**given, "reason": None, "action": "reset"}, world.lake, world.warehouse)
    assert isinstance(world.now, datetime)
