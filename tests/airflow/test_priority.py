"""Which run goes first in a pool."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from market_data.airflow.dag import build_dag
from market_data.airflow.plugin import MarketDataPlugin
from market_data.airflow.priority import NEWEST_SESSION_FIRST, NewestSessionFirst, weight
from market_data.airflow.timetable import SessionTimetable
from market_data.config.feeds import load_feeds
from market_data.core import calendar

SATURDAY = datetime(2026, 11, 28, 12, tzinfo=UTC)


def in_order(*run_ids, now=SATURDAY):
    return sorted(run_ids, key=lambda run_id: -weight(run_id, now))


def test_newer_sessions_go_first_whoever_made_their_runs():
    ids = ["scheduled__2026-11-27", "backfill__2026-11-26T01:30:00+00:00", "scheduled__2026-11-24", "scheduled__2012-01-03"]
    assert in_order(*reversed(ids)) == ids


@pytest.mark.parametrize("triggered", ["manual__2026-11-28T09:00:00+00:00", "make_run__2026", "fallback__abc", "nightly", ""])
def test_triggered_runs_follow_the_newest_session_and_precede_older_ones(triggered):
    assert in_order("scheduled__2026-11-25", triggered, "scheduled__2026-11-27") == [
        "scheduled__2026-11-27",
        triggered,
        "scheduled__2026-11-25",
    ]


@pytest.mark.parametrize(
    ("now", "tonight"),
    [
        (datetime(2026, 11, 27, 15, tzinfo=UTC), "2026-11-27"),  # triggered during the session
        (datetime(2026, 11, 28, 2, tzinfo=UTC), "2026-11-27"),  # after its run was due
        (datetime(2026, 11, 28, 12, tzinfo=UTC), "2026-11-30"),
    ],
)
def test_a_range_run_that_was_triggered_before_never_precedes_tonights(now, tonight):
    assert weight("manual__x", now) < weight(f"scheduled__{tonight}", now)


@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
@pytest.mark.parametrize("time", ["2026-11-28T01:30:00+00:00", "2026-11-27T21:00:00+00:00", "2026-11-28T04:59:00.123456+00:00"])
def test_run_ids_with_the_time_of_the_run_mean_the_session_before(kind, time):
    """Airflow's Backfill and earlier versions make them."""
    assert weight(f"{kind}__{time}", SATURDAY) == weight("scheduled__2026-11-27", SATURDAY)


def test_weights_fit_into_the_database():
    assert 0 < weight(f"scheduled__{calendar.LAST}", SATURDAY) < 2**31
    assert weight(f"scheduled__{date(2000, 1, 3)}", SATURDAY) > 0


def test_airflow_knows_the_strategy_and_passes_nothing_but_the_run_id():
    assert NewestSessionFirst in MarketDataPlugin.priority_weight_strategies
    ti = SimpleNamespace(run_id="scheduled__2026-11-27")
    assert NewestSessionFirst().get_weight(ti) == 2 * date(2026, 11, 27).toordinal()


def test_the_scheduler_reads_it_for_mapped_tasks_too(monkeypatch):
    timetables = {f"{SessionTimetable.__module__}.SessionTimetable": SessionTimetable}
    monkeypatch.setattr("airflow.plugins_manager.get_timetables_plugins", lambda: timetables)
    monkeypatch.setattr(
        "airflow.plugins_manager.get_priority_weight_strategy_plugins", lambda: {NEWEST_SESSION_FIRST: NewestSessionFirst}
    )
    from airflow.serialization.serialized_objects import DagSerialization

    dag = build_dag(load_feeds()[0])
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert {type(task.weight_rule) for task in read.tasks} == {NewestSessionFirst}
