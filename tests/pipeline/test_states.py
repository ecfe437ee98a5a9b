"""Green means true: cells that are not final are named, requested again when they should be, and never counted as done."""

from datetime import date, time, timedelta

import pytest

from market_data import pipeline
from market_data.core import calendar
from market_data.core.outcome import SUSPECTED_GAP, State
from market_data.lake.ledger import read_coverage
from market_data.pipeline.run_sessions import Wanted
from tests.pipeline import test_runs
from tests.pipeline.test_runs import World, api, server  # noqa: F401  fixtures

SYMBOLS = test_runs.SYMBOLS[:30]
LATE = ("AAPL", "ADBE")
DAYS = calendar.sessions(date(2012, 12, 12), date(2013, 4, 1))
HISTORY, TONIGHT = DAYS[:8], DAYS[8]


class Nights(World):
    """Scheduled runs, one a session, at 20:30 New York."""

    def evening(self, session):
        self.now = calendar.at(session, time(19, 30))  # a run adds an hour

    def history(self, symbols=SYMBOLS, sessions=HISTORY):
        self.evening(sessions[-1])
        return super().run(self.context("history"), sessions, symbols)

    def night(self, place, symbols=SYMBOLS):
        """Run the night of ``DAYS[place]`` with a lookback of five sessions."""
        self.evening(DAYS[place])
        context = self.context(f"night-{place}", run_type="scheduled")
        return super().run(context, DAYS[place : place + 1], symbols, DAYS[max(0, place - 5) : place])

    def state(self, symbol, session):
        return read_coverage(self.lake, "ohlcv-1d", "polygon").state(symbol, session)

    def reason(self, symbol, session):
        table = read_coverage(self.lake, "ohlcv-1d", "polygon").table
        return next(r["reason"] for r in table.to_pylist() if (r["symbol"], r["session"]) == (symbol, session))

    def has_flag(self, report):
        return self.lake.get(report["key"].removesuffix("json") + "flag") is not None


@pytest.fixture
def world(api, tmp_path):  # noqa: F811
    return Nights(api, tmp_path)


def test_two_of_thirty_bars_missing_tonight_are_named_and_not_done(world):
    world.history()
    world.api.hide(TONIGHT, symbols=LATE)
    _, report = world.night(8)
    assert report["red"] == []
    assert (report["total_tickers"], report["successful_tickers"]) == (30, 28)
    assert not set(LATE) & set(report["successful_tickers_list"])
    assert [(cell["symbol"], cell["session"]) for cell in report["pending"]] == [(symbol, str(TONIGHT)) for symbol in LATE]
    (said,) = [words for words in report["warnings"] if "pending" in words]
    assert said.startswith("2 of 30 cells are pending")
    assert "AAPL, ADBE" in said
    assert not world.has_flag(report)
    world.api.edits.clear_hidden()
    _, report = world.night(9)
    assert (report["red"], report["successful_tickers"]) == ([], 30)
    assert world.has_flag(report)
    assert world.state("AAPL", TONIGHT) is State.HAVE


def test_more_pending_cells_than_the_feed_tolerates_are_red(world):
    world.history()
    world.api.hide(TONIGHT, symbols=LATE)
    world.evening(TONIGHT)
    _, report = world.run(world.context("strict", tolerate={"pending": 0.05}), (TONIGHT,), SYMBOLS)
    assert report["red"] == ["6.7% of the run's cells are pending; 5.0% is tolerated (tolerate.pending)"]


def test_a_run_whose_only_row_is_quarantined_is_red_and_the_words_are_true(world):
    world.api.alter("AAPL", TONIGHT, open=None)
    world.evening(TONIGHT)
    _, report = world.run(world.context(), (TONIGHT,), ("AAPL",))
    assert report["red"] == ["100.0% of the run's cells are quarantined; 50.0% is tolerated (tolerate.quarantined)"]
    assert not any("no bar" in words for words in report["warnings"])
    assert (report["unknown"], report["successful_tickers"]) == ([], 0)
    assert [cell["symbol"] for cell in report["quarantined"]] == ["AAPL"]


def test_a_quarantined_recent_bar_that_the_vendor_mends_is_requested_by_the_next_night(world):
    world.history()
    world.api.alter("AAPL", TONIGHT, open=None)
    _, report = world.night(8)
    assert report["red"] == []
    assert any(f"1 of 30 cells are quarantined: {TONIGHT} AAPL" in words for words in report["warnings"])
    assert not world.has_flag(report)
    planned, _ = world.run(world.context("manual"), (TONIGHT,), SYMBOLS)
    assert planned.plan.cells == 0
    assert any("quarantined" in words for words in planned.standing["warnings"])
    world.api.edits.clear_changes()
    _, report = world.night(9)
    assert world.state("AAPL", TONIGHT) is State.HAVE
    assert world.has_flag(report)


def test_a_refused_session_is_red_in_every_run_of_its_date_until_it_is_loaded(world):
    world.history()
    world.api.alter(None, TONIGHT, multiply=10)
    _, report = world.night(8)
    assert f"session {TONIGHT} was refused" in report["red"][0]
    planned, report = world.run(world.context("tuesday"), (TONIGHT,), SYMBOLS)
    assert (planned.plan.cells, report) == (0, None)
    (red,) = planned.standing["red"]
    assert red.startswith(f"session {TONIGHT} was refused on {TONIGHT + timedelta(1)} and is not loaded (30 cells): ")
    assert red.endswith("fetch it again with force")
    world.evening(DAYS[9])  # a run with something else to do
    _, report = world.run(world.context("wider"), DAYS[8:10], SYMBOLS)
    assert [words.partition(" was")[0] for words in report["red"]] == [f"session {TONIGHT}"]
    assert not world.has_flag(report)
    _, report = world.night(15)
    (older,) = [words for words in report["warnings"] if words.startswith("open in older sessions")]
    assert f"{TONIGHT}: 30 refused" in older
    assert report["open_in_older_sessions"][0]["count"] == 30
    world.api.edits.clear_changes()
    _, report = world.run(world.context("again", force=True), (TONIGHT,), SYMBOLS)
    assert report["red"] == []
    assert world.run(world.context("last"), (TONIGHT,), SYMBOLS)[0].standing["red"] == []


def test_a_cell_that_turns_empty_inside_a_life_is_a_suspected_gap_requested_at_10_30_90(world):
    world.history(sessions=DAYS[:8])
    world.api.hide(TONIGHT, symbols=["AAPL"])
    world.evening(DAYS[11])
    _, report = world.run(world.context("late"), DAYS[8:12], SYMBOLS)
    assert [(cell["symbol"], cell["session"]) for cell in report["suspected_gaps"]] == [("AAPL", str(TONIGHT))]
    assert any(words.startswith(f"1 {SUSPECTED_GAP}") and f"{TONIGHT} AAPL" in words for words in report["warnings"])
    assert not world.has_flag(report)
    assert "AAPL" not in report["successful_tickers_list"]
    assert world.reason("AAPL", TONIGHT).endswith("last requested at T+3")
    requested = []
    for place in (12, 17, 18, 19, 38, 39):
        world.evening(DAYS[place])
        context = world.context(f"gap-{place}", run_type="scheduled")
        with world.hook() as hook:
            planned = pipeline.plan_run(context, hook, Wanted(DAYS[place : place + 1]), SYMBOLS, world.now + timedelta(hours=1))
        if planned.gaps:
            requested.append(place - 8)
            world.night(place)
            assert world.reason("AAPL", TONIGHT).endswith(f"last requested at T+{place - 8}")
    assert requested == [10, 30]


def test_a_suspected_gap_that_the_vendor_fills_is_loaded(world):
    world.history(sessions=DAYS[:8])
    world.api.hide(TONIGHT, symbols=["AAPL"])
    world.evening(DAYS[11])
    world.run(world.context("late"), DAYS[8:12], SYMBOLS)
    world.api.edits.clear_hidden()
    _, report = world.night(18)
    assert world.state("AAPL", TONIGHT) is State.HAVE
    assert report["suspected_gaps"] == []
    assert report["date_range"] == {"from": str(DAYS[13]), "to": str(DAYS[18])}


def test_a_cell_at_the_end_of_a_life_is_suspected_once_later_bars_arrive(world):
    for session in DAYS[8:12]:
        world.api.hide(session, symbols=["AAPL"])
    world.history(sessions=DAYS[:8])
    world.evening(DAYS[11])
    _, report = world.run(world.context("halted"), DAYS[8:9], SYMBOLS)
    assert (report["suspected_gaps"], world.state("AAPL", TONIGHT)) == ([], State.EMPTY)
    world.api.edits.clear_hidden()
    world.evening(DAYS[12])
    _, report = world.run(world.context("back"), DAYS[9:13], SYMBOLS)
    assert [(cell["symbol"], cell["session"]) for cell in report["suspected_gaps"]] in ([], [("AAPL", str(TONIGHT))])
    assert world.reason("AAPL", TONIGHT).endswith("last requested at T+3")


def test_an_unknown_symbol_is_not_successful_and_gets_a_suggestion(world):
    world.evening(DAYS[-1])
    _, report = world.run(world.context(), DAYS[:2], ("APPL", "IBM"))
    assert report["unknown"] == [{"symbol": "APPL", "did_you_mean": "AAPL"}]
    assert (report["successful_tickers_list"], report["failed_tickers_list"]) == (["IBM"], [])
    assert any("APPL (did you mean AAPL?)" in words for words in report["warnings"])


def test_a_night_names_sessions_without_a_state_that_are_too_old_to_catch_up(world):
    world.history()
    _, report = world.night(45)
    days = DAYS[8:15]  # the 30 sessions before tonight's are caught up by runs of their own
    assert report["sessions_without_state"] == [str(session) for session in days]
    assert any(f"7 sessions older than catch_up_sessions without a state, {days[0]} to {days[-1]}" in w for w in report["warnings"])
