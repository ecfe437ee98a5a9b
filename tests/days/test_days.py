"""Five weeks of two feeds on a movable clock: `days.py` has what happens. Which runs there are is decided by Airflow's own scheduler."""

import json
import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from market_data.core import calendar
from market_data.core.calendar import NEW_YORK
from tests.days import days
from tests.days.days import ALPACA, DAGS, POLYGON

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PROJECT = Path(__file__).parents[2]
SESSIONS = calendar.sessions(date(2026, 10, 26), days.LAST + timedelta(days=1))


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    home = tmp_path_factory.mktemp("days")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MARKET_DATA"))}
    environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "tests/days/dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_WAREHOUSE_DEFAULT": json.dumps({"conn_type": "duckdb", "extra": {"path": f"{home}/warehouse.duckdb"}}),
        "MARKET_DATA_LAKE": f"file://{home}/lake",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}",
    }
    for arguments in (["airflow", "db", "migrate"], ["tests.days.days", str(home / "facts.json")]):
        done = subprocess.run(
            [sys.executable, "-m", *arguments], env=environ, cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return json.loads((home / "facts.json").read_text())


def scheduled(facts, dag_id):
    return [run for run in facts["runs"][dag_id] if run["run_id"].startswith("scheduled__")]


@pytest.mark.parametrize("dag_id", DAGS)
def test_each_session_since_it_was_switched_on_has_one_run_of_its_own(facts, dag_id):
    """With a holiday, an early close, two weekends a week of which differ by the end of daylight saving, and ten sessions away."""
    assert sorted(run["session"] for run in scheduled(facts, dag_id)) == [str(day) for day in SESSIONS]
    assert {run["run_id"] for run in scheduled(facts, dag_id)} == {f"scheduled__{day}" for day in SESSIONS}
    assert date(2026, 11, 26) not in SESSIONS
    assert date(2026, 11, 27) in SESSIONS


@pytest.mark.parametrize(("dag_id", "clock"), [(POLYGON, "20:30"), (ALPACA, "21:30")])
def test_runs_are_due_at_the_same_new_york_time_in_summer_and_winter(facts, dag_id, clock):
    found = [datetime.fromisoformat(run["run_after"]).astimezone(NEW_YORK) for run in scheduled(facts, dag_id)]
    assert {f"{moment:%H:%M}" for moment in found} == {clock}
    assert {str(moment.date()) for moment in found} == {run["session"] for run in scheduled(facts, dag_id)}


@pytest.mark.parametrize("dag_id", DAGS)
def test_other_runs_are_those_that_somebody_asked_for(facts, dag_id):
    others = [run for run in facts["runs"][dag_id] if not run["run_id"].startswith("scheduled__")]
    backfilled = calendar.sessions(days.BACKFILLED[0], days.BACKFILLED[1] + timedelta(days=1))
    assert sorted(run["session"] for run in others if run["type"] == "backfill") == [str(day) for day in backfilled]
    too_long = ["too_long"] if dag_id == POLYGON else []
    assert sorted(run["run_id"] for run in others if run["type"] != "backfill") == ["together_1", "together_2", *too_long]


@pytest.mark.parametrize("dag_id", DAGS)
def test_a_clear_reaches_the_run_of_its_session(facts, dag_id):
    assert facts["reached"] == {"restated": [1, 1], "refused": [1, 1]}


@pytest.mark.parametrize("dag_id", DAGS)
def test_only_the_day_when_the_vendor_failed_stays_red(facts, dag_id):
    red = {run["run_id"]: run["notes"] for run in facts["runs"][dag_id] if run["state"] != "success"}
    assert set(red) - {"too_long"} == {f"scheduled__{days.FAILED}"}


def test_a_run_that_takes_too_long_says_what_was_left_undone_and_loads_the_rest(facts):
    (run,) = [run for run in facts["runs"][POLYGON] if run["run_id"] == "too_long"]
    assert run["state"] == "failed"
    undone = "market-data: not fetched: the run's run_timeout (4h) was over before this batch started"
    assert [run["notes"][f"fetch {number}"].startswith(undone) for number in (1, 2)] == [True, True]
    assert "fetch 0" not in run["notes"]
    verdict = run["notes"]["verdict -1"]
    assert verdict.count("run_timeout (4h) was over") == 2
    assert facts["loaded_of_too_long"] == 10 * 2


@pytest.mark.parametrize("dag_id", DAGS)
def test_at_each_dawn_silver_is_what_the_server_serves_or_the_verdict_names_it(facts, dag_id):
    unnamed = []
    for dawn in facts["dawns"]:
        said = "\n".join(dawn["verdicts"])
        for symbol, session, _, _ in dawn["differ"] if dawn["dag_id"] == dag_id else ():
            away = str(days.AWAY[0]) <= session < dawn["day"] <= str(days.AWAY[1])  # nothing ran that could say something
            if not away and session not in said and symbol not in said:
                unnamed.append((dawn["day"], symbol, session))
    # Changed by the vendor in the morning, cleared by somebody the day after.
    assert unnamed == []


@pytest.mark.parametrize("dag_id", DAGS)
def test_after_each_repair_nothing_differs(facts, dag_id):
    """The dawns after which everything must be there: late bar, failed day, restatement and refusal cleared, ten days away, the end."""
    repaired = ("2026-10-29", "2026-10-31", "2026-11-07", "2026-11-21", "2026-12-02")
    differ = {dawn["day"]: dawn["differ"] for dawn in facts["dawns"] if dawn["dag_id"] == dag_id}
    assert [differ[day] for day in repaired] == [[]] * len(repaired)


@pytest.mark.parametrize("dag_id", DAGS)
def test_what_went_wrong_was_really_seen(facts, dag_id):
    """Else the tests above prove nothing."""
    differ = {dawn["day"]: {session for _, session, _, _ in dawn["differ"]} for dawn in facts["dawns"] if dawn["dag_id"] == dag_id}
    assert str(days.FAILED) in differ[str(days.FAILED + timedelta(days=1))]
    assert str(days.REFUSED) in differ[str(days.REFUSED + timedelta(days=1))]
    assert len(differ["2026-11-20"]) == 9


def test_ten_sessions_away_take_one_call_each_and_the_recheck_of_what_was_there_before(facts):
    """Although all their runs are at work at once, and each looks back a week.

    The first three of them recheck the sessions before their absence: three, two and one.
    """
    assert facts["calls"]["2026-11-20"]["polygon"] == 10 + 3 + 2 + 1
