"""Runs that overlap: each session is fetched by one of them."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

from market_data.airflow.overlap import without_active_runs

DAYS = [date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)]


class Instance:
    def __init__(self, active):
        self.active = active

    def get_dr_count(self, dag_id, logical_dates, states):
        assert (dag_id, states) == ("d", ["queued", "running"])
        return sum(moment in self.active for moment in logical_dates)


def left(*active):
    context = {"ti": Instance([datetime(2026, 11, day, tzinfo=UTC) for day in active]), "dag_run": SimpleNamespace(dag_id="d")}
    return without_active_runs(context, DAYS)


def test_sessions_with_an_active_run_of_their_own_are_left_to_it():
    assert left(24) == (DAYS[0], DAYS[2])
    assert left(23, 24, 25) == ()


def test_other_sessions_of_the_lookback_stay():
    assert left() == tuple(DAYS)
    assert left(20, 27) == tuple(DAYS)
