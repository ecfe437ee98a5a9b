"""What a provider says of the quality of days: degraded ones are named, re-issued ones requested again, never above the cap."""

from datetime import date, time, timedelta

import pytest

from market_data.core import calendar
from market_data.core.errors import ParamError, SchemaDrift, ServerError
from market_data.providers.databento.conditions import read_conditions
from tests.pipeline.test_every_feed import make_hook, world_of  # noqa: F401  fixture

SESSIONS = calendar.sessions(date(2012, 12, 12), date(2013, 1, 8))
SYMBOLS = ("AAPL", "ADBE", "AMZN")


@pytest.fixture
def world(api, make_hook, tmp_path):  # noqa: F811
    found = world_of("databento_ohlcv_1d", tmp_path, make_hook)
    found.conditions = api.vendors["databento"].conditions
    yield found
    found.conditions.clear()


def night(world, place, **params):
    """Run the night of a session, by its schedule, two days later."""
    world.now = calendar.at(SESSIONS[place] + timedelta(days=2), time(16))
    context = world.context(f"night-{place}", run_type="scheduled", **params)
    return world.run(SESSIONS[place : place + 1], SYMBOLS, context)


def history(world, places):
    for place in places:
        _, report = night(world, place)
        assert (report["red"], report["rows_loaded"]) == ([], 3)


def test_a_degraded_session_is_named_in_note_and_report(world):
    world.conditions[SESSIONS[0]] = "degraded", str(SESSIONS[0] + timedelta(days=1))
    planned, report = night(world, 0)
    assert f"the provider calls {SESSIONS[0]} degraded" in planned.note
    assert f"the provider calls {SESSIONS[0]} degraded" in report["warnings"]
    _, report = night(world, 1)
    assert not any("degraded" in words for words in report["warnings"])


def test_a_session_re_issued_after_it_was_fetched_is_requested_again_once(world):
    history(world, range(5))
    world.conditions[SESSIONS[1]] = "available", str(SESSIONS[4] + timedelta(days=4))
    planned, report = night(world, 8)
    assert planned.reissued == 3
    assert "re-issued by the provider: 3 cells" in planned.note
    assert {interval.start for batch in planned.plan.batches for interval in batch.intervals} >= {SESSIONS[1]}
    assert report["red"] == []
    planned, _ = night(world, 9)
    assert planned.reissued == 0


def test_a_run_by_hand_names_re_issued_sessions_and_buys_nothing_twice(world):
    history(world, range(3))
    world.conditions[SESSIONS[1]] = "available", str(SESSIONS[2] + timedelta(days=9))
    planned, _ = world.run(SESSIONS[:3], SYMBOLS, world.context("by-hand"))
    assert planned.plan.batches == ()
    assert f"not requested again (force does): {SESSIONS[1]}" in planned.note
    planned, _ = world.run(SESSIONS[:3], SYMBOLS, world.context("forced", force=True))
    assert planned.plan.cells == 9
    assert "not requested again" not in planned.note


def test_re_issued_sessions_never_take_a_run_above_its_cap(world):
    history(world, range(3))
    tonight, _ = night(world, 8)
    for place in range(3):
        world.conditions[SESSIONS[place]] = "available", str(SESSIONS[8] + timedelta(days=9))
    world.make_hook = capped(world.make_hook, tonight.cost * 1.5)
    world.now = calendar.at(SESSIONS[9] + timedelta(days=30), time(16))
    planned, report = world.run(SESSIONS[9:10], SYMBOLS, world.context("late", run_type="scheduled"))
    assert (planned.reissued, planned.plan.cells) == (0, 3)
    assert f"not requested again (force does): {', '.join(map(str, SESSIONS[:3]))}" in report["warnings"][0]
    world.make_hook = capped(world.make_hook, tonight.cost * 0.5)
    with pytest.raises(ParamError, match="max_cost_usd"):
        world.run(SESSIONS[10:11], SYMBOLS, world.context("later", run_type="scheduled"))


def capped(make, cap):
    """Make hooks with another ``max_cost_usd``."""

    def made():
        hook = make()
        hook.options["max_cost_usd"] = cap
        return hook

    return made


def test_conditions_that_are_not_told_stop_no_run(world, monkeypatch):
    def refuse(*_):
        raise ServerError("no", provider="databento", request="the conditions")

    monkeypatch.setattr("market_data.providers.databento.client.Client.conditions", refuse)
    _, report = night(world, 0)
    assert (report["red"], report["rows_loaded"]) == ([], 3)


@pytest.mark.parametrize(
    "rows", [[{"date": "soon", "condition": "available"}], [{"condition": "degraded"}], ["x"], [{"date": 3, "condition": None}]]
)
def test_conditions_of_another_form_are_typed(rows):
    with pytest.raises(SchemaDrift, match="condition is not of the known form"):
        read_conditions(rows, {"provider": "databento", "request": "the conditions"})
