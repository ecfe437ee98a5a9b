"""Runs that meet faults, odd days and each other, on the real thing; each test has dates of its own."""

import time

import pytest

from market_data.config.universes import members
from sandbox.stack.environment import BUCKET

pytestmark = pytest.mark.slow

UNIVERSE = members("sp500_etf")
FEW = list(UNIVERSE[:12])


def between(first, last):
    return f"bar_time BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"


def notes(world, run):
    """(task id, map index) -> note. The scheduler writes them when it ends the run."""
    instances = world.airflow.task_instances(run["dag_id"], run["dag_run_id"])
    return {(t["task_id"], t["map_index"]): t["note"] for t in instances if t["note"]}


def task_log(world, run, task_id, map_index=-1, attempt=1):
    path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task_id}/logs/{attempt}?map_index={map_index}"
    return world.api("GET", path)["content"]


def test_a_failed_symbol_is_named_with_its_reason_in_log_report_and_note(world):
    world.control(
        "POST", "faults", kind="server_error", status=404, message="Ticker not found.", match=f"/{FEW[3]}/range", times=None
    )
    run = world.run(symbols=FEW, start_date="2011-03-01", end_date="2011-03-31", endpoint="range", batch_size=6)
    assert run["state"] == "failed"
    report = world.report(run)
    assert report["failed_tickers_list"] == [FEW[3]]
    (failure,) = report["failures"]
    assert f"range {FEW[3]} 2011-03-01..2011-03-31: Ticker not found. (HTTP 404)" in failure["reason"]
    assert "To do: " in failure["reason"]
    written = notes(world, run)
    assert f"{FEW[3]} failed: polygon: range {FEW[3]}" in written["fetch", 0]
    assert FEW[3] in written["verdict", -1]
    assert ("fetch", 1) not in written
    lines = [line for line in task_log(world, run, "fetch", 0) if isinstance(line, dict) and line.get("batch_id")]
    assert {(line["provider"], line["dataset"], line["batch"], line["attempt"]) for line in lines} == {
        ("polygon", "ohlcv-1d", "1 of 2", 1)
    }
    (told,) = [line for line in lines if line["level"] == "error"]
    assert (told["symbols"], told["failed"]) == (FEW[3], 1)
    assert [line["percent"] for line in lines] == [0, 16, 33, 50, 66, 83, 100]
    assert world.count(between("2011-03-01", "2011-03-31")) == 11 * 23

    world.control("DELETE", "faults")
    world.clear(run, ["fetch", 0])
    assert world.wait(run)["state"] == "success", world.why(run)
    written = notes(world, run)
    assert set(written) == {("verdict", -1)}  # the note on the failed batch is gone
    assert "Report: s3://" in written["verdict", -1]
    assert world.api("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}")["note"] == written["verdict", -1]


def test_after_too_many_failures_in_a_row_the_provider_is_left_alone(world):
    world.control("POST", "faults", kind="server_error", status=503, times=None)
    run = world.run(symbols=FEW, start_date="2011-04-01", end_date="2011-04-29", endpoint="range", batch_size=2, circuit_breaker=2)
    assert run["state"] == "failed"
    assert len(world.calls()) == 20  # two batches, two symbols each, five tries each
    report = world.report(run)
    assert report["api_calls"] == 20
    assert report["failed_tickers"] == len(FEW)
    assert "2 batches failed in a row: no more requests before" in world.why(run)


def test_a_holiday_does_nothing_and_says_so(world):
    puts = world.puts()
    run = world.run(start_date="2013-01-01", end_date="2013-01-01")
    assert run["state"] == "success"
    assert world.calls() == []
    assert world.puts() == puts
    said = "Nothing to do: no session on 2013-01-01 (New Year's Day)"
    assert any(said in str(line) for line in task_log(world, run, "plan"))
    assert any(said in str(line) for line in task_log(world, run, "verdict"))
    written = notes(world, run)
    assert said in written["plan", -1]
    assert said in written["verdict", -1]


def test_unknown_and_delisted_symbols_are_empty_with_a_reason_and_the_run_is_green(world):
    run = world.run(symbols=["AAPL", "NOSUCH"], start_date="2011-05-02", end_date="2011-05-06")
    assert run["state"] == "success", world.why(run)
    assert world.report(run)["warnings"] == ["no bars for NOSUCH: not listed in these sessions, or unknown to polygon"]
    assert "NOSUCH" in notes(world, run)["verdict", -1]
    world.forget_calls()
    assert world.run(symbols=["AAPL", "NOSUCH"], start_date="2011-05-02", end_date="2011-05-06")["state"] == "success"
    assert world.calls() == []


@pytest.mark.parametrize(("grain", "endpoint"), [("day", "auto"), ("year", "range")])
def test_two_runs_of_the_same_dates_at_once_end_right(world, grain, endpoint):
    dates = {"start_date": "2011-06-01", "end_date": "2011-06-30"} if grain == "day" else {
        "start_date": "2011-07-01", "end_date": "2011-07-29",
    }  # fmt: skip
    world.resize("polygon_api", 4)
    try:
        conf = {**dates, "symbols": FEW, "endpoint": endpoint, "file_grain": grain, "batch_size": 4, "max_retries": 3}
        runs = [world.trigger(force=True, **conf) for _ in range(2)]
        for run in runs:
            assert world.wait(run)["state"] == "success", world.why(run)
    finally:
        world.resize("polygon_api", 1)
    sessions = 22 if grain == "day" else 20
    where = between(*dates.values())
    assert world.count(where) == len(FEW) * sessions
    assert world.query(f"SELECT COUNT(*) AS n FROM bronze_prices WHERE {where}")[0]["n"] == len(FEW) * sessions
    prefix = "month=06/" if grain == "day" else "AAPL-2011.parquet"
    versions = {k: n for k, n in world.versions("raw/prices/provider=polygon/symbol=AAPL/year=2011/").items() if prefix in k}
    assert set(versions.values()) == {1}
    assert len(versions) == (sessions if grain == "day" else 1)
    assert sorted(report["rows_landed"] for report in map(world.report, runs)) == [len(FEW) * sessions] * 2


def test_a_year_is_a_file_and_grows(world):
    conf = {"symbols": FEW, "file_grain": "year"}
    run = world.run(start_date="2009-11-02", end_date="2010-02-26", **conf)
    assert run["state"] == "success", world.why(run)
    assert len(world.calls()) == len(FEW)
    apple = "raw/prices/provider=polygon/symbol=AAPL/"
    keys = [f"{apple}year=2009/AAPL-2009.parquet", f"{apple}year=2010/AAPL-2010.parquet"]
    assert {k: n for k, n in world.versions(apple).items() if "2009" in k or "2010" in k} == dict.fromkeys(keys, 1)
    world.forget_calls()
    run = world.run(start_date="2010-01-04", end_date="2010-03-31", **conf)
    assert run["state"] == "success", world.why(run)
    assert len(world.calls()) == len(FEW)
    assert world.report(run)["rows_landed"] == 23 * len(FEW)
    assert {k: n for k, n in world.versions(apple).items() if k in keys} == dict(zip(keys, (1, 2), strict=True))
    assert world.count(between("2009-11-02", "2010-03-31")) == 103 * len(FEW)
    puts = world.puts()
    world.forget_calls()
    assert world.run(start_date="2009-11-02", end_date="2010-03-31", **conf)["state"] == "success"
    assert (world.calls(), world.puts()) == ([], puts)


def test_an_index_and_the_pages_of_great_expectations_are_written_on_request(world):
    conf = {"symbols": FEW[:3], "start_date": "2011-08-01", "end_date": "2011-08-02", "index_name": "my_three", "data_docs": True}
    run = world.run(**conf)
    assert run["state"] == "success", world.why(run)
    lines = world.read("metadata/indices/my_three.csv").decode().splitlines()
    assert lines[0] == "symbol,added_date,removed_date"
    assert [line.split(",")[0] for line in lines[1:]] == sorted(FEW[:3])
    assert all(len(line.split(",")[1]) == 10 for line in lines[1:])
    listed = world.s3.list_objects_v2(Bucket=BUCKET, Prefix="quality/ohlcv-1d/provider=polygon/").get("Contents", [])
    assert [item["Key"] for item in listed if item["Key"].endswith("/docs/index.html")]


def test_a_dry_run_with_an_index_writes_nothing(world):
    puts = world.puts()
    run = world.run(symbols=FEW[:3], start_date="2011-08-03", end_date="2011-08-03", index_name="not_written", dry_run=True)
    assert run["state"] == "success"
    assert world.puts() == puts


def test_every_problem_with_the_params_is_said_at_once(world):
    conf = {
        "symbols": ["../x", "AAPL"], "tickers_path": "nowhere.csv", "start_date": "2013-01-07", "end_date": "2013-01-02",
        "endpoint": "grouped", "file_grain": "year", "colour": "red", "index_name": "No Such!",
    }  # fmt: skip
    run = world.run(**conf)
    assert run["state"] == "failed"
    why = world.why(run, "plan")
    for word in ("'../x'", "tickers_path", "start_date is 2013-01-07", "file_grain", "colour is unknown", "index_name"):
        assert word in why
    assert world.calls() == []
    written = notes(world, run)
    assert "colour is unknown" in written["plan", -1]
    assert "the plan failed: " in written["verdict", -1]
    assert world.api("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}")["note"] == written["verdict", -1]


def test_a_retried_batch_waits_frees_its_slot_and_repeats_no_finished_call(world):
    world.control("POST", "faults", kind="server_error", match=f"/{FEW[4]}/range", times=5)
    run = world.trigger(
        symbols=FEW[:6], start_date="2011-09-01", end_date="2011-09-30", endpoint="range", max_retries=1, retry_delay_seconds=20
    )
    until = time.time() + 120
    while world.states(run).get(("fetch", 0)) != "up_for_retry":
        assert time.time() < until, world.states(run)
        time.sleep(0.2)
    assert world.api("GET", "/pools/polygon_api")["running_slots"] == 0
    assert world.wait(run)["state"] == "success", world.why(run)
    tickers = [call["ticker"] for call in world.calls()]
    assert tickers == [*FEW[:4], *[FEW[4]] * 5, FEW[5], FEW[4]]
    report = world.report(run)
    assert (report["api_calls"], report["retries"]) == (11, 4)
    assert "ServerError" in report["errors"][0]
