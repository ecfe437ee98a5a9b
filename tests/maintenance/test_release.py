"""A person lets refused and quarantined values pass, or confirms that they are wrong: each decision holds for exactly these values."""

from datetime import UTC, datetime

import pytest

from market_data.airflow.maintain.state import run_action
from market_data.core.errors import DataError
from market_data.core.outcome import CONFIRMED_WRONG, State
from market_data.lake.decisions import Kind
from market_data.maintenance import journal
from market_data.maintenance.person import Person
from market_data.maintenance.release import decide
from market_data.pipeline.selection import Selection
from tests.maintenance.altered import DAYS, SYMBOLS, TONIGHT, Nights

ADA = Person("Ada", "the vendor stands by it")


@pytest.fixture
def world(tmp_path):
    return Nights(tmp_path)


def selection(world, *, symbols=None, start=TONIGHT, end=TONIGHT):
    context = world.context()
    return Selection(context.dataset, context.source, context.layout, symbols, start, end)


def settle(world, kind=Kind.RELEASE, *, dry_run=False, only=None, **where):
    with world.warehouse() as warehouse:
        return decide(world.lake, warehouse, selection(world, **where), kind, ADA, world.now, only=only, dry_run=dry_run)


def states(world, session=TONIGHT):
    table = world.coverage().table
    found = [state for state, day in zip(table["state"].to_pylist(), table["session"].to_pylist(), strict=True) if day == session]
    return {state: found.count(state) for state in set(found)}


def silver(world, session=TONIGHT):
    return world.query(f"SELECT COUNT(*) AS n FROM silver_prices WHERE bar_time = TIMESTAMP '{session}'")[0]["n"]


def refused_night(world):
    world.history()
    world.api.alter(None, TONIGHT, multiply=10)
    _, report = world.night(8)
    assert f"session {TONIGHT} was refused" in report["red"][0]


def test_a_dry_run_counts_and_writes_nothing(world):
    refused_night(world)
    before = world.objects()
    found = settle(world, dry_run=True)
    assert (found.cells, found.rows, found.states, found.first, found.last) == (21, 21, {"refused": 21}, TONIGHT, TONIGHT)
    assert world.objects() == before
    assert silver(world) == 0


def test_a_released_session_is_loaded_without_a_call_and_named_with_who_and_why(world):
    refused_night(world)
    calls = len(world.api.calls)
    found = settle(world)
    assert (found.loaded, found.changed) == (21, 21)
    assert states(world) == {"released": 21}
    assert silver(world) == 21
    assert len(world.api.calls) == calls
    assert world.reason("S00", TONIGHT) == "released by Ada: the vendor stands by it"
    [entry] = journal.entries(world.lake)
    assert (entry.job, entry.by, entry.reason, entry.what["cells"]) == ("release", "Ada", "the vendor stands by it", 21)
    log = world.query("SELECT event, decided_by, cells, reason FROM gold_quality_log ORDER BY event DESC")
    assert [(row["event"], row["decided_by"], row["cells"]) for row in log] == [("released", "Ada", 21), ("refused", None, 21)]


def test_a_second_release_changes_nothing(world):
    refused_night(world)
    settle(world)
    before = world.objects()
    assert settle(world).cells == 0
    assert world.objects() == before


def test_the_released_values_are_not_refused_again_when_fetched_again(world):
    refused_night(world)
    settle(world)
    planned, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert planned.plan.cells == 21
    assert report["red"] == []
    assert states(world) == {"released": 21}
    assert any("21 of 21 cells were released by a person" in words for words in report["warnings"])
    assert world.has_flag(report)


def test_the_next_session_is_compared_with_the_released_level(world):
    refused_night(world)
    settle(world)
    world.api.alter(None, DAYS[9], multiply=10)
    _, report = world.night(9)
    assert report["red"] == []
    assert states(world, DAYS[9]) == {"have": 21}
    assert states(world) == {"released": 21}


def test_a_session_at_the_old_level_passes_too_after_a_release(world):
    refused_night(world)
    settle(world)
    _, report = world.night(9)
    assert report["red"] == []
    assert states(world, DAYS[9]) == {"have": 21}


def test_a_session_at_neither_level_is_still_refused(world):
    refused_night(world)
    settle(world)
    world.api.alter(None, DAYS[9], multiply=100)
    _, report = world.night(9)
    assert f"session {DAYS[9]} was refused" in report["red"][0]


def test_a_new_level_of_volume_is_accepted_after_its_release(world):
    world.history()
    for day in DAYS[8:11]:
        world.api.alter(None, day, volume=100)
    _, report = world.night(8)
    assert "volume" in report["red"][0]
    settle(world)
    for place in (9, 10):
        _, report = world.night(place)
        assert report["red"] == []


def test_neighbours_that_were_refused_against_the_old_level_pass_when_fetched_again(world):
    world.history()
    for day in DAYS[8:11]:
        world.api.alter(None, day, multiply=10)
    world.evening(DAYS[10])
    _, report = world.run(world.context("range"), DAYS[8:11], SYMBOLS)
    assert len(report["refused"]) == 3
    settle(world)
    _, report = world.run(world.context("again", force=True), DAYS[8:11], SYMBOLS)
    assert report["red"] == []
    assert [states(world, day) for day in DAYS[8:11]] == [{"released": 21}, {"have": 21}, {"have": 21}]


def test_a_correction_of_one_symbol_replaces_its_released_value(world):
    refused_night(world)
    settle(world)
    world.api.edits.clear_changes()
    world.api.alter(None, TONIGHT, multiply=10)
    world.api.alter("S00", TONIGHT, multiply=11)
    _, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert report["red"] == []
    assert states(world) == {"released": 20, "have": 1}
    assert world.state("S00", TONIGHT) is State.HAVE


def test_a_correction_of_the_whole_session_replaces_the_released_values(world):
    refused_night(world)
    settle(world)
    world.api.edits.clear_changes()
    _, report = world.night(9)  # rechecks the sessions before
    assert report["red"] == []
    assert states(world) == {"have": 21}
    assert {cell["session"] for cell in report["restated"]} == {TONIGHT.isoformat()}


def test_the_bad_value_that_returns_after_a_correction_is_the_released_one(world):
    refused_night(world)
    settle(world)
    world.api.edits.clear_changes()
    world.run(world.context("good", force=True), (TONIGHT,), SYMBOLS)
    assert states(world) == {"have": 21}
    world.api.alter(None, TONIGHT, multiply=10)
    _, report = world.run(world.context("bad", force=True), (TONIGHT,), SYMBOLS)
    assert report["red"] == []
    assert states(world) == {"released": 21}


def test_confirmed_values_are_final_not_loaded_and_stay_so_when_fetched_again(world):
    refused_night(world)
    found = settle(world, Kind.CONFIRM)
    assert (found.cells, found.rows, found.loaded) == (21, 21, 0)
    assert world.reason("S00", TONIGHT).startswith(CONFIRMED_WRONG)
    for number, context in enumerate((world.context("forced", force=True), world.context("again", force=True))):
        planned, report = world.run(context, (TONIGHT,), SYMBOLS)
        assert (number, planned.plan.cells, report["red"]) == (number, 21, [])
        assert silver(world) == 0
        assert states(world) == {"empty": 21}
        assert world.reason("S00", TONIGHT).startswith(CONFIRMED_WRONG)
    planned, report = world.run(world.context("plain"), (TONIGHT,), SYMBOLS)
    assert (planned.plan.cells, report) == (0, None)
    assert planned.standing["red"] == []
    _, report = world.night(9)
    assert report["open_in_older_sessions"] == []
    assert len(report["suspected_gaps"]) == 0
    assert states(world) == {"empty": 21}


def test_a_correction_replaces_a_confirmation(world):
    refused_night(world)
    settle(world, Kind.CONFIRM)
    world.api.edits.clear_changes()
    _, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert report["red"] == []
    assert states(world) == {"have": 21}
    assert silver(world) == 21


def test_a_release_overrules_a_confirmation_after_the_same_values_are_refused(world):
    refused_night(world)
    assert settle(world, Kind.CONFIRM).cells == 21
    assert settle(world).cells == 0  # nothing is held any more


# -- quarantined rows --------------------------------------------------------------------------------------------------------------


def quarantined_night(world, **change):
    world.history()
    world.api.alter("S00", TONIGHT, **change)
    _, report = world.night(8)
    assert [cell["symbol"] for cell in report["quarantined"]] == ["S00"]


def test_a_released_row_leaves_quarantine_and_is_not_rejected_again(world):
    quarantined_night(world, close=1.0)
    found = settle(world)
    assert (found.cells, found.rows, found.changed, found.impossible) == (1, 1, 1, {})
    assert states(world) == {"have": 20, "released": 1}
    assert silver(world) == 21
    _, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert (report["red"], report["rows_quarantined"], report["quarantined"]) == ([], 0, [])
    assert states(world) == {"have": 20, "released": 1}
    _, report = world.night(9)
    assert (report["red"], report["rows_quarantined"]) == ([], 0)
    assert states(world) == {"have": 20, "released": 1}


def test_a_row_that_no_table_could_hold_is_not_released_and_named(world):
    quarantined_night(world, open=None)
    found = settle(world)
    assert (found.rows, found.loaded, sum(found.impossible.values())) == (0, 0, 1)
    assert states(world) == {"have": 20, "quarantined": 1}
    given = {"feeds": ["mock_ohlcv_1d"], "symbols": ["S00"], "by": "Ada", "reason": "checked", "action": "release"}
    assert "1 rows cannot be released" in run_action(given, world.lake, world.warehouse)[-1]  # a dry run only says so
    with pytest.raises(DataError, match="1 rows cannot be released: .*open"):
        run_action({**given, "dry_run": False}, world.lake, world.warehouse)


def test_only_rows_of_one_reason_are_released(world):
    world.history()
    world.api.alter("S00", TONIGHT, close=1.0)
    world.api.alter("S01", TONIGHT, open=None)
    world.night(8)
    assert settle(world, only="no such reason").cells in (0, 2)
    assert states(world) == {"have": 19, "quarantined": 2}
    settle(world, only="close")
    assert world.state("S00", TONIGHT) is State.RELEASED
    assert world.state("S01", TONIGHT) is State.QUARANTINED


def test_a_confirmed_row_is_not_counted_again_until_the_vendor_corrects_it(world):
    quarantined_night(world, open=None)
    found = settle(world, Kind.CONFIRM)
    assert (found.cells, found.rows) == (1, 1)
    assert states(world) == {"have": 20, "empty": 1}
    _, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert (report["red"], report["rows_quarantined"], report["quarantined"], report["unknown"]) == ([], 0, [], [])
    assert world.reason("S00", TONIGHT).startswith(CONFIRMED_WRONG)
    world.api.edits.clear_changes()
    _, report = world.run(world.context("mended", force=True), (TONIGHT,), SYMBOLS)
    assert states(world) == {"have": 21}
    assert silver(world) == 21


def test_other_bad_values_are_rejected_anew(world):
    quarantined_night(world, close=1.0)
    settle(world)
    world.api.alter("S00", TONIGHT, close=2.0)
    _, report = world.run(world.context("forced", force=True), (TONIGHT,), SYMBOLS)
    assert [cell["symbol"] for cell in report["quarantined"]] == ["S00"]
    assert silver(world) == 21


def test_a_killed_release_goes_on_with_the_rest(world, monkeypatch):
    refused_night(world)

    def dies(*_, **__):
        raise KeyboardInterrupt

    from market_data.lake import ledger

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "write_cells", dies)
        with pytest.raises(KeyboardInterrupt):
            settle(world)
    assert states(world) == {"refused": 21}
    assert settle(world).cells == 21
    assert states(world) == {"released": 21}
    assert silver(world) == 21


def test_decisions_have_their_moment(world):
    refused_night(world)
    settle(world)
    [entry] = journal.entries(world.lake, "release")
    assert datetime(2012, 12, 20, tzinfo=UTC) < entry.at < datetime(2013, 1, 10, tzinfo=UTC)
