"""Runs of the real thing: scheduler, pool, S3 protocol server, HTTP API, DuckDB.

In the order of the file; each test has dates of its own.
"""

import os
import signal
import time
from datetime import date, timedelta

import psutil
import pytest

from market_data.config.universes import members
from market_data.core import calendar
from sandbox.http import Call, max_in_window
from sandbox.stack.environment import BUCKET
from tests.e2e.conftest import DAG, LIMITS

pytestmark = pytest.mark.slow

UNIVERSE = members("sp500_etf")
FEW = list(UNIVERSE[:30])


def dates_called(world):
    return sorted(call["date"] for call in world.calls())


def over_quota(world):
    calls = [Call(**call) for call in world.calls()]
    return [(w, max_in_window(calls, w["seconds"])) for w in LIMITS if max_in_window(calls, w["seconds"]) > w["calls"]]


def test_a_scheduled_run_fetches_its_session_and_the_week_before(world):
    run = world.first_run
    assert run["run_type"] == "scheduled"
    assert run["dag_run_id"] == f"scheduled__{run['logical_date'][:10]}"
    assert run["state"] == "success", world.why(run)
    session = run["logical_date"][:10]
    assert run["logical_date"].startswith(f"{session}T00:00:00")
    report = world.report(run)
    first, last = (date.fromisoformat(report["date_range"][end]) for end in ("from", "to"))
    assert last.isoformat() == session
    expected = [day.isoformat() for day in calendar.sessions(first, last + timedelta(days=1))]
    assert sorted(call["date"] for call in world.first_calls) == expected
    assert len(expected) >= 4
    assert report["rows_loaded"] == len(expected) * len(UNIVERSE)


HAPPY = {"start_date": "2013-01-02", "end_date": "2013-01-07"}


def test_a_run_lands_checks_and_loads_everything(world):
    run = world.run(**HAPPY)
    assert run["state"] == "success", world.why(run)
    report = world.report(run)
    assert report["api_calls"] == len(world.calls()) == 4
    assert report["rows_landed"] == report["rows_loaded"] == 4 * len(UNIVERSE)
    assert report["rows_quarantined"] == 0
    assert world.count("bar_time BETWEEN TIMESTAMP '2013-01-02' AND TIMESTAMP '2013-01-07'") == 4 * len(UNIVERSE)
    assert len(world.versions("raw/prices/provider=polygon/symbol=AAPL/year=2013/")) == 4
    assert set(world.states(run).values()) == {"success"}
    assert world.read(world.airflow.result(DAG, run["dag_run_id"], "publish")["report"].removesuffix("json") + "flag")


def test_a_rerun_makes_no_call_and_no_put(world):
    puts = world.puts()
    run = world.run(**HAPPY)
    assert run["state"] == "success", world.why(run)
    assert world.calls() == []
    assert world.puts() == puts
    assert world.airflow.result(DAG, run["dag_run_id"], "plan") == []


def test_a_dry_run_shows_the_cost_and_does_nothing(world):
    puts = world.puts()
    run = world.run(start_date="2003-01-02", end_date="2004-12-31", dry_run=True)
    assert run["state"] == "success"
    (entry,) = [world.api("GET", f"/dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances/plan/xcomEntries/summary")]
    import json

    summary = entry["value"] if isinstance(entry["value"], dict) else json.loads(entry["value"])
    assert (summary["calls"], summary["cells"]) == (504, 504 * len(UNIVERSE))
    assert summary["minutes"] > 0
    assert world.calls() == []
    assert world.puts() == puts


def test_bad_params_fail_in_plan_before_any_call(world):
    run = world.run(start_date="2013-01-07", end_date="2013-01-02", universe="sp600", colour="red")
    assert run["state"] == "failed"
    why = world.why(run, "plan")
    assert "3 problems with the run parameters" in why
    assert "colour is unknown" in why
    assert world.calls() == []


def test_a_failed_batch_fails_alone_and_is_repaired_by_clearing_its_map_index(world):
    world.control("POST", "faults", kind="server_error", match=f"/{FEW[7]}/range", times=None)
    run = world.run(symbols=FEW, start_date="2012-05-01", end_date="2012-05-31", endpoint="range", batch_size=5)
    assert run["state"] == "failed"
    states = world.states(run)
    assert [states["fetch", n] for n in range(6)] == ["success", "failed", "success", "success", "success", "success"]
    report = world.report(run)
    assert sorted(report["failed_tickers_list"]) == sorted(FEW[5:10])
    assert "Internal Server Error" in world.why(run)
    assert world.count("bar_time BETWEEN TIMESTAMP '2012-05-01' AND TIMESTAMP '2012-05-31'") == 22 * 25
    world.control("DELETE", "faults")
    world.forget_calls()
    world.clear(run, ["fetch", 1])
    assert world.wait(run)["state"] == "success", world.why(run)
    assert sorted(call["ticker"] for call in world.calls()) == sorted(FEW[5:10])
    assert world.count("bar_time BETWEEN TIMESTAMP '2012-05-01' AND TIMESTAMP '2012-05-31'") == 22 * 30


def test_a_clear_after_a_changed_price_replaces_it_in_silver_and_keeps_both_in_bronze(world):
    dates = {"start_date": "2012-06-04", "end_date": "2012-06-05"}
    run = world.run(**dates)
    assert run["state"] == "success", world.why(run)
    some = "raw/prices/provider=polygon/symbol=I"  # 20 symbols: to list all takes the S3 server a minute
    before, puts = world.versions(some), world.puts("raw/")
    world.control("POST", "prices", session="2012-06-05", symbol="IBM", replace={"close": 190.0, "high": 200.0, "low": 180.0})
    world.forget_calls()
    world.clear(run)
    assert world.wait(run)["state"] == "success", world.why(run)
    assert dates_called(world) == ["2012-06-04", "2012-06-05"]
    where = "symbol = 'IBM' AND bar_time = TIMESTAMP '2012-06-05'"
    assert [float(r["close_px"]) for r in world.query(f"SELECT close_px FROM silver_prices WHERE {where}")] == [190.0]
    bronze = [float(r["close_px"]) for r in world.query(f"SELECT close_px FROM bronze_prices WHERE {where} ORDER BY ingest_ts")]
    assert len(bronze) == 2
    assert bronze[1] == 190.0
    assert world.puts("raw/") == puts + 1  # of all symbols
    after = world.versions(some)
    assert {key for key in after if after[key] != before[key]} == {
        "raw/prices/provider=polygon/symbol=IBM/year=2012/month=06/IBM-2012-06-05.parquet"
    }


def test_a_fetch_cleared_alone_makes_the_run_red_until_the_rest_is_cleared_too(world):
    run = world.run(symbols=FEW[:3], start_date="2012-06-11", end_date="2012-06-11", endpoint="range")
    assert run["state"] == "success", world.why(run)
    assert world.has_flag(run)
    world.control("POST", "prices", session="2012-06-11", symbol=FEW[1], replace={"close": 580.0})
    world.clear(run, ["fetch", 0], downstream=False)
    assert world.wait(run)["state"] == "failed"
    note = world.api("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}")["note"]
    assert "fetched again, but `check`, `load`, `publish`, `verdict` were not cleared" in note
    assert not world.has_flag(run)
    world.clear(run, "check")
    assert world.wait(run)["state"] == "success", world.why(run)
    where = f"symbol = '{FEW[1]}' AND bar_time = TIMESTAMP '2012-06-11'"
    assert [float(r["close_px"]) for r in world.query(f"SELECT close_px FROM silver_prices WHERE {where}")] == [580.0]
    assert world.has_flag(run)


def test_tasks_clear_over_four_sessions_asks_for_exactly_those(world):
    sessions = ["2012-08-01", "2012-08-02", "2012-08-03", "2012-08-06", "2012-08-07", "2012-08-08"]
    runs = [world.trigger(logical_date=f"{session}T00:00:00Z", symbols=FEW) for session in sessions]
    for run in runs:
        assert world.wait(run)["state"] == "success", world.why(run)
    assert sorted(dates_called(world)) == sessions
    world.forget_calls()
    world.cli("tasks", "clear", "-y", "-s", "2012-08-02", "-e", "2012-08-07", DAG)
    for run in runs:
        assert world.wait(run)["state"] == "success", world.why(run)
    assert dates_called(world) == sessions[1:5]


def test_doubtful_sessions_are_refused_and_the_rest_is_loaded(world):
    world.control("POST", "missing", session="2012-09-06", fraction=0.4)
    world.control("POST", "prices", session="2012-09-10", multiply=10)
    run = world.run(start_date="2012-09-04", end_date="2012-09-12")
    assert run["state"] == "failed"
    why = world.why(run)
    assert "session 2012-09-06 was refused" in why
    assert "session 2012-09-10 was refused" in why
    assert why.count("was refused") == 2
    loaded = world.query(
        "SELECT CAST(bar_time AS DATE) AS d, COUNT(*) AS n FROM silver_prices "
        "WHERE bar_time BETWEEN TIMESTAMP '2012-09-04' AND TIMESTAMP '2012-09-12' GROUP BY 1 ORDER BY 1"
    )
    assert [(r["d"].isoformat(), r["n"]) for r in loaded] == [(f"2012-09-{day:02d}", len(UNIVERSE)) for day in (4, 5, 7, 11, 12)]


# -- the pool and the quota ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "year"), [(1, 2001), (3, 2002), (8, 2003)])
def test_the_servers_log_shows_no_window_over_quota(world, slots, year):
    world.resize("polygon_api", slots)
    try:
        run = world.run(symbols=FEW[:16], start_date=f"{year}-03-01", end_date=f"{year}-03-29", endpoint="range", batch_size=2)
    finally:
        world.resize("polygon_api", 1)
    assert run["state"] == "success", world.why(run)
    assert over_quota(world) == []
    assert {call["status"] for call in world.calls()} == {200}
    assert len(world.calls()) == 16


def test_more_slots_are_faster(world):
    seconds = {}
    for slots, year in ((1, 2004), (3, 2005)):
        world.resize("polygon_api", slots)
        world.forget_calls()
        run = world.run(symbols=FEW[:18], start_date=f"{year}-03-01", end_date=f"{year}-03-29", endpoint="range", batch_size=6)
        assert run["state"] == "success", world.why(run)
        times = [call["time"] for call in world.calls()]
        seconds[slots] = max(times) - min(times)
    world.resize("polygon_api", 1)
    assert seconds[3] < seconds[1]


def test_two_runs_429s_a_resize_and_a_killed_worker_stay_within_quota_and_lose_nothing(world):
    world.resize("polygon_api", 1)
    dates = {"start_date": "2006-03-01", "end_date": "2006-03-31", "endpoint": "range", "batch_size": 3, "max_retries": 5}
    world.control("POST", "faults", kind="throttled", match="range", times=3, retry_after=1)
    runs = [world.trigger(symbols=FEW[:15], **dates), world.trigger(symbols=FEW[15:], **dates)]
    await_calls(world, 4)
    world.resize("polygon_api", 8)
    await_calls(world, 9)
    killed = kill_a_running_fetch(world)
    for run in runs:
        found = world.wait(run)
        assert found["state"] == "success", world.why(found)
    world.resize("polygon_api", 1)
    assert killed
    assert over_quota(world) == []
    assert world.count("bar_time BETWEEN TIMESTAMP '2006-03-01' AND TIMESTAMP '2006-03-31'") == 23 * 30


def await_calls(world, count):
    until = time.time() + 300
    while len(world.calls()) < count:
        assert time.time() < until, world.calls()
        time.sleep(0.2)


def kill_a_running_fetch(world):
    """SIGKILL the supervisor of a fetch task that runs: what the kernel does when memory is short."""
    scheduler = psutil.Process(world.stack.registry.records()["scheduler"].pid)
    until = time.time() + 120
    while time.time() < until:
        path = f"/dags/{DAG}/dagRuns/~/taskInstances?state=running&task_id=fetch&limit=50"
        running = {instance["id"] for instance in world.api("GET", path)["task_instances"]}
        for process in scheduler.children(recursive=True):
            try:
                if any(instance in " ".join(process.cmdline()) for instance in running):
                    os.kill(process.pid, signal.SIGKILL)
                    return True
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.1)
    return False


def test_the_key_is_nowhere_but_in_the_connection(world):
    import sqlite3

    key = b"sample-key"
    home = world.stack.paths.airflow_home
    logs = [path for path in (home / "logs").rglob("*") if path.is_file()]
    assert len(logs) > 50
    assert [path for path in logs if key in path.read_bytes()] == []
    assert [path for path in world.stack.paths.logs.iterdir() if path.is_file() and key in path.read_bytes()] == []
    keys = [obj["Key"] for page in world.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET) for obj in page["Contents"]]
    assert [name for name in keys if not name.startswith("raw/") and key in world.read(name)] == []
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True) as database:
        found = database.execute("SELECT COUNT(*) FROM xcom WHERE CAST(value AS TEXT) LIKE '%sample-key%'").fetchone()
    assert found == (0,)
