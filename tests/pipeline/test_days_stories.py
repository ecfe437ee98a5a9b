"""Stories of one fault each, for every shape of endpoint and grain of file: what landed is loaded, what is open is named."""

from datetime import timedelta
from itertools import product

import pytest

from market_data.core import calendar
from market_data.core.capabilities import Shape
from market_data.core.outcome import State
from tests.pipeline.model_quick import quick  # noqa: F401  fixture
from tests.pipeline.model_story import FIRST, LISTED, UNKNOWN, Bar, Kind, Story
from tests.tiers import tiers

pytestmark = pytest.mark.usefixtures("quick")

FAST = [(Shape.MULTI, "day")]
WAYS = [*FAST, (Shape.SYMBOL, "day"), (Shape.MARKET, "day"), (Shape.SYMBOL, "year"), (Shape.MULTI, "year")]


@pytest.fixture(params=[pytest.param(w, marks=() if w in FAST else pytest.mark.slow, id=f"{w[0]}-{w[1]}") for w in WAYS])
def story(request):
    return Story(*request.param)


# -- point 1: what landed is loaded ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["force", "clear"])
def test_a_correction_whose_load_fails_for_good_is_loaded_by_the_next_run(story, how):
    old = story.back(8)
    before = story.run(start=old)
    story.correct("AAPL", old)
    story.warehouse.broken = True
    failed = story.run(start=old, force=True) if how == "force" else story.cleared(before)
    assert failed.green is False
    assert story.world.report(failed)["successful_tickers"] == 0
    assert story.values("AAPL", old) == (2, 1)
    story.warehouse.broken = False
    tonight = story.night()
    assert tonight.green
    assert story.values("AAPL", old) == (2, 2)
    assert story.agrees(("AAPL", old))


def test_a_correction_whose_batch_fails_later_is_loaded_by_the_next_run(story):
    old = story.back(8)
    story.correct("AAPL", old)
    story.vendor.failing = {"KO"}
    failed = story.run(start=old, force=True)
    assert failed.green is False
    story.vendor.failing = set()
    assert story.night().green
    landed, loaded = story.values("AAPL", old)
    assert landed == loaded


def test_a_fetch_cleared_without_downstream_is_loaded_by_the_next_run(story):
    old = story.back(8)
    first = story.run(start=old, force=True)
    story.correct("AAPL", old)
    again = story.cleared(first, steps=0)
    again.batches = first.batches
    for batch in again.batches:
        story.world._fetch(again, batch)
    story.world.kill(again)
    assert story.values("AAPL", old) == (2, 1)
    assert story.run().green
    assert story.values("AAPL", old) == (2, 2)


@pytest.mark.parametrize("changes", range(7))
def test_a_forced_fetch_killed_after_any_change_leaves_nothing_that_is_never_loaded(story, changes):
    """The run has no retry left: the lake may hold the corrected price, so the next night must load it or request it again."""
    old = story.back(8)
    story.correct("AAPL", old)
    story.world.lake.left = changes
    story.run(start=old, force=True)
    story.world.lake.left = None
    story.nights(2)
    landed, loaded = story.values("AAPL", old)
    assert landed == loaded
    assert story.checks.staged() == {}


def test_an_older_leftover_does_not_replace_a_value_that_was_corrected_back(story):
    old = story.back(8)
    story.correct("AAPL", old)
    story.warehouse.broken = True
    story.run(start=old, force=True)
    story.warehouse.broken = False
    story.correct("AAPL", old, version=1)
    assert story.run(start=old, force=True).green
    story.night()
    assert story.values("AAPL", old) == (1, 1)


def test_a_run_with_rows_in_the_staging_of_a_running_run_does_not_say_that_it_loads_them(story):
    story.pass_sessions(1)
    at_work = story.world.new("manual", LISTED, start_date=story.session, end_date=story.session)
    while not at_work.receipts:
        story.world.work(at_work, 1)
    while len(at_work.receipts) < len(at_work.batches):
        story.world.work(at_work, 1)
    other = story.run()
    assert story.checks.staged(), "the other run must leave the rows to the run that fetched them"
    assert "loaded from staging by this one" not in other.text
    story.world.work(at_work)
    assert at_work.green
    assert story.agrees(*((symbol, story.session) for symbol in LISTED))


# -- point 2: not published yet --------------------------------------------------------------------------------------------------------


def test_a_missing_bar_is_pending_named_and_not_successful(story):
    tonight = calendar.next_session(story.session)
    story.serve("KO", tonight, None)
    run = story.night()
    report = story.world.report(run)
    assert "KO" in run.text
    assert tonight.isoformat() in run.text
    assert "pending" in run.text
    assert (report["successful_tickers"], report["total_tickers"]) == (2, 3)
    assert not story.world.has_flag(run)


def test_a_bar_that_comes_late_is_requested_each_night_until_it_is_there(story):
    tonight = calendar.next_session(story.session)
    story.serve("KO", tonight, None)
    story.night()
    story.serve("KO", tonight, Bar(), sessions_later=2)
    story.nights(2)
    assert story.agrees(("KO", tonight))


def test_an_unknown_symbol_is_named_with_the_symbol_that_was_meant_and_is_not_successful(story):
    run = story.night((*LISTED, UNKNOWN))
    report = story.world.report(run)
    assert "APPL" in run.text
    assert "did you mean AAPL" in run.text
    assert (report["successful_tickers"], report["total_tickers"]) == (3, 4)


def test_a_suspected_gap_is_named_once_and_requested_at_its_times_only(story):
    gap = calendar.next_session(story.session)
    story.serve("KO", gap, None)
    runs = story.nights(12)
    story.pass_sessions(17)
    later = story.nights(3)  # 29, 30 and 31 sessions after the gap
    asked = [number for number, run in enumerate([*runs, *later]) if ("KO", gap) in story.requested(run)]
    assert asked == [0, 1, 2, 3, 10, 13]
    named = [number for number, run in enumerate(runs) if "suspected gap" in run.text and "trades before and after" in run.text]
    assert named == [3]
    assert not any(story.world.has_flag(run) for run in runs[:1])


def test_a_suspected_gap_inside_a_long_lookback_is_requested_at_its_times(story):
    """A lookback of 30 days reaches further back than the first two times at which the gap is due."""
    story.world.params = {"lookback_days": 30}
    gap = calendar.next_session(story.session)
    story.serve("KO", gap, None)
    runs = story.nights(12)
    assert [number for number, run in enumerate(runs) if ("KO", gap) in story.requested(run)] == [0, 1, 2, 3, 10]


@pytest.mark.parametrize("at", [10, 30, 90])
def test_a_late_bar_of_a_suspected_gap_is_found_when_the_gap_is_due(story, at):
    gap = calendar.next_session(story.session)
    story.serve("KO", gap, None)
    story.nights(5)
    story.serve("KO", gap, Bar())
    story.pass_sessions(at - story.passed(gap) - 1)
    story.night()
    assert story.agrees(("KO", gap))


def test_a_gap_in_an_old_range_is_suspected_at_once(story):
    older = FIRST
    for _ in range(6):
        older = calendar.previous_session(older)
    start = older
    for _ in range(3):
        start = calendar.previous_session(start)
    story.serve("IBM", older, None)
    run = story.run(start=start, end=calendar.previous_session(FIRST))
    assert "IBM" in run.text
    assert older.isoformat() in run.text
    assert "suspected gap" in run.text
    assert not story.world.has_flag(run)


def test_a_symbol_without_earlier_bars_is_no_suspected_gap(story):
    story.vendor.listed = (*LISTED, "NEW")
    first = story.session
    for _ in range(6):
        first = calendar.next_session(first)
    session = story.session
    while session < first:
        session = calendar.next_session(session)
        if session < first:
            story.serve("NEW", session, None)
    runs = story.nights(12, (*LISTED, "NEW"))
    assert not any("suspected gap" in run.text and "NEW" in run.text.split("suspected gap")[1] for run in runs)


# -- point 3: restatements -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [1, 2, 3])
def test_a_corrected_close_is_seen_by_the_next_night(story, age):
    story.nights(4)
    session = story.back(age - 1)
    story.correct("IBM", session)
    run = story.night()
    assert story.values("IBM", session) == (2, 2)
    assert run.green
    assert "restate" in (run.text + str(story.world.report(run))).lower()


def test_a_recheck_of_equal_values_writes_nothing_to_the_raw_layer(story):
    story.nights(4)
    before = {key: body for key, body in story.world.lake.objects().items() if key.startswith("raw/")}
    story.night()
    after = story.world.lake.objects()
    known = {key for key in before if after[key] != before[key]}
    years = {key for key in before if "/month=" not in key}
    assert known <= years


def test_a_recheck_that_finds_no_bar_keeps_the_stored_one_and_names_it(story):
    story.nights(4)
    session = story.back(0)
    story.serve("IBM", session, None)
    run = story.night()
    assert story.values("IBM", session) == (1, 1)
    assert "IBM" in run.text
    assert session.isoformat() in run.text


# -- point 6: refused and quarantined --------------------------------------------------------------------------------------------------


def test_a_refused_session_is_red_in_every_run_of_its_dates_until_it_is_loaded(story):
    bad = calendar.next_session(story.session)
    story.serve("KO", bad, Bar(1, Kind.STRANGE))
    assert story.night().green is False
    for _ in range(6):
        assert story.run(start=bad).green is False
        story.pass_sessions(1)
    for night in story.nights(4):
        assert bad.isoformat() in night.text or night.green is False
    story.serve("KO", bad, Bar())
    assert story.run(start=bad, force=True).green
    assert story.agrees(("KO", bad), ("IBM", bad))
    assert story.run(start=bad).green


def test_a_quarantined_bar_that_is_mended_is_requested_again_while_recent(story):
    bad = calendar.next_session(story.session)
    story.serve("KO", bad, Bar(1, Kind.ODD))
    run = story.night()
    assert "quarantined" in run.text
    assert "KO" in run.text
    assert "unknown to" not in run.text
    assert story.world.report(run)["successful_tickers"] == 2
    assert not story.world.has_flag(run)
    story.serve("KO", bad, Bar())
    story.night()
    assert story.agrees(("KO", bad))


def test_an_old_quarantined_bar_stands_on_the_list_and_is_not_counted_as_done(story):
    bad = calendar.next_session(story.session)
    story.serve("KO", bad, Bar(1, Kind.ODD))
    runs = story.nights(7)
    assert "KO" in runs[-1].text
    assert bad.isoformat() in runs[-1].text
    manual = story.run(start=bad)
    assert "KO" in manual.text
    assert "quarantined" in manual.text


def test_a_recheck_with_a_refused_response_keeps_the_stored_values_and_says_so(story):
    story.nights(4)
    session = story.back(0)
    story.serve("KO", session, Bar(1, Kind.STRANGE))
    run = story.night()
    assert run.green is False
    assert story.values("IBM", session)[1] == 1
    story.serve("KO", session, Bar())
    story.nights(1)
    assert story.agrees(("KO", session), ("IBM", session))


# -- point 8: clocks -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-4, 4])
def test_the_newest_response_wins_whatever_the_clock_of_a_worker_within_the_limit(story, seconds):
    session = story.back(5)
    for version, skew in ((2, seconds), (3, -seconds), (1, seconds)):
        story.correct("IBM", session, version)
        run = story.world.new("manual", LISTED, start_date=session, end_date=session, force=True, skew=timedelta(seconds=skew))
        story.world.now -= timedelta(seconds=58)  # the runs follow each other within seconds
        story.world.work(run)
        assert story.values("IBM", session) == (version, version)


def test_a_response_that_waited_for_the_quota_wins_over_one_that_arrived_before_it(story):
    session = story.back(5)
    slow = story.world.new("manual", LISTED, start_date=session, end_date=session, force=True)
    fast = story.world.new("manual", LISTED, start_date=session, end_date=session, force=True)

    def meanwhile():
        story.correct("AAPL", session, 2)
        story.world.now += timedelta(minutes=1)
        story.world.work(fast)
        story.correct("AAPL", session, 3)
        story.world.now += timedelta(minutes=1)

    slow.hook.waiting = meanwhile
    story.world.work(slow)
    assert story.values("AAPL", session) == (3, 3)


def test_a_response_that_is_written_late_loses_to_one_that_arrived_after_it(story):
    session = story.back(5)
    story.correct("AAPL", session, 3)
    slow = story.world.new("manual", LISTED, start_date=session, end_date=session, force=True)
    fast = story.world.new("manual", LISTED, start_date=session, end_date=session, force=True)

    def meanwhile():
        story.correct("AAPL", session, 2)
        story.world.now += timedelta(minutes=1)
        story.world.work(fast)
        story.world.now += timedelta(minutes=1)

    story.world.lake.interruption = meanwhile
    story.world.work(slow)
    assert story.values("AAPL", session) == (2, 2)


def test_a_recheck_with_an_odd_bar_is_named_and_the_mended_bar_is_loaded(story):
    story.nights(4)
    session = story.back(0)
    story.serve("IBM", session, Bar(2, Kind.ODD))
    run = story.night()
    assert "IBM" in run.text
    assert session.isoformat() in run.text
    assert story.values("IBM", session) == (1, 1)
    story.correct("IBM", session, 3)
    story.night()
    assert story.agrees(("IBM", session))


@pytest.mark.parametrize(
    ("age", "nights", "kind"),
    tiers(
        product((1, 2, 3), (1, 3), (Kind.STRANGE, Kind.ODD)),
        *((1, 1, Kind.STRANGE), (2, 3, Kind.ODD), (3, 1, Kind.ODD), (3, 3, Kind.STRANGE)),
    ),
)
def test_a_recheck_that_is_rejected_is_repeated_until_the_provider_is_right_again(story, age, nights, kind):
    """The last session that a night rechecks is three sessions old: the next night it is older than any recheck."""
    story.nights(4)
    session = story.back(age - 1)
    story.serve("KO", session, Bar(2, kind))
    refused = f"KO/{session.year} was refused" if story.world.grain == "year" else f"session {session} was refused"
    named = refused if kind is Kind.STRANGE else f"{session}: 1 quarantined (KO)"
    for run in story.nights(nights):
        assert ("KO", session) in story.requested(run)
        assert named in run.text
        assert run.green is (kind is Kind.ODD)
        assert story.values("KO", session)[1] == 1
        assert story.state("KO", session) is (State.REFUSED if kind is Kind.STRANGE else State.QUARANTINED)
        if kind is Kind.STRANGE:
            assert story.run(start=session).green is False
        else:
            assert "KO" in story.run(start=session).text
    story.serve("KO", session, Bar())
    run = story.night()
    assert run.green
    assert story.agrees(("KO", session), ("IBM", session))
    assert story.run(start=session).green
    assert ("KO", session) not in story.requested(story.night()) or story.passed(session) <= 4


@pytest.mark.parametrize("kind", [Kind.STRANGE, Kind.ODD])
def test_a_rejected_recheck_is_repeated_for_seven_sessions_and_stays_on_the_list(story, kind):
    story.nights(4)
    session = story.back(0)
    story.serve("KO", session, Bar(2, kind))
    runs = story.nights(13)
    assert [story.requested(run) >= {("KO", session)} for run in runs] == [True] * 10 + [False] * 3
    assert all(session.isoformat() in run.text or "KO" in run.text for run in runs)
    assert story.values("KO", session)[1] == 1


@pytest.mark.parametrize("kind", [Kind.STRANGE, Kind.ODD])
def test_a_rejected_recheck_keeps_its_state_while_the_bar_is_missing_from_the_response(story, kind):
    story.nights(4)
    session = story.back(0)
    story.serve("KO", session, Bar(2, kind))
    story.night()
    state = story.state("KO", session)
    story.serve("KO", session, None)
    for run in story.nights(4):
        assert story.state("KO", session) is state
        assert f"KO {session}" in run.text or session.isoformat() in run.text
    story.serve("KO", session, Bar(3))
    assert story.night().green
    assert story.agrees(("KO", session))
    assert story.values("KO", session) == (3, 3)


def test_a_refused_recheck_is_not_reported_as_a_restatement(story):
    story.nights(4)
    session = story.back(0)
    story.serve("KO", session, Bar(2, Kind.STRANGE))
    run = story.night()
    assert "restated" not in run.text
    assert story.world.report(run)["restated"] == []


def test_a_request_with_a_hole_changes_no_state_in_the_hole(story):
    gap = calendar.next_session(story.session)
    story.serve("KO", gap, None)
    bad = calendar.next_session(calendar.next_session(gap))
    story.serve("KO", bad, Bar(1, Kind.ODD))
    story.nights(9)
    before = story.state("KO", bad)
    story.serve("KO", gap, Bar())
    run = story.nights(2)[-1]
    assert ("KO", gap) in story.requested(run)
    assert ("KO", bad) not in story.requested(run)
    assert (before, story.state("KO", bad)) == (State.QUARANTINED, State.QUARANTINED)
    assert bad.isoformat() in run.text
