"""Runs that are larger than Airflow is set for are reported by `plan`."""

from types import SimpleNamespace

import pytest

from benchmarks.load_runs.cases import tickers
from market_data.airflow import tasks
from market_data.airflow.large_runs import large_conf, slow_publish
from market_data.airflow.task_notes import KEY


@pytest.mark.parametrize(("symbols", "batches"), [(0, 1024), (1024, 1024), (10_000, 100), (25_000, 1)])
def test_a_usual_configuration_is_not_reported(symbols, batches):
    assert large_conf({"symbols": tickers(symbols)} if symbols else None, batches) == ""


@pytest.mark.parametrize("dry_run", [True, False])
def test_plan_reports_many_symbols_in_many_batches(monkeypatch, caplog, dry_run):
    monkeypatch.setattr("market_data.lake.conditional.check_conditional_put", lambda _: None)
    batch = SimpleNamespace(to_json=dict)
    plan = SimpleNamespace(batches=[batch] * 1024)
    planned = SimpleNamespace(plan=plan, sessions=range(2516), note="A note", summary={}, explain=lambda: "explained")
    run = SimpleNamespace(key="k", started=SimpleNamespace(isoformat=str))
    run_context = SimpleNamespace(params=SimpleNamespace(dry_run=dry_run), run=run, lake=None)
    pushed = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    context = {"ti": ti, "dag_run": SimpleNamespace(conf={"symbols": tickers(10_000)})}
    assert len(tasks._announce(run_context, planned, context)) == (0 if dry_run else 1024)
    assert "90,013 bytes again for each of 1,024 batches" in caplog.text
    assert pushed[KEY].startswith("Airflow's scheduler reads")
    assert (
        "publish will report 2,516 sessions to Airflow in one call, which may take 18 s. After 5 s it is made again" in caplog.text
    )
    assert "set AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT=60" in pushed[KEY]
    assert pushed[KEY].endswith("A note")


@pytest.mark.parametrize(("sessions", "timeout"), [(0, 5), (504, 5), (2516, 30), (6000, 60)])
def test_what_is_reported_in_time_needs_no_other_setting(sessions, timeout):
    assert slow_publish(sessions, timeout) == ""
