"""A run as its page shows it: batches, symbols with reasons, figures, what is left, verdict and report."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from market_data.lake.store import Lake
from market_data.views.runs import Run, Task, run_of

START = datetime(2024, 10, 1, 1, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


NOW = at(80)


def batch(number, *symbols, calls=10):
    return {
        "id": f"b{number:03d}-x",
        "label": f"b{number:03d} {symbols[0]}",
        "calls": calls,
        "blocks": [{"symbols": list(symbols)}],
    }


def receipt(number, **values):
    return {"batch_id": f"b{number:03d}-x", "calls": 10, "rows_landed": 100, "rows_quarantined": 1, **values}


BATCHES = [batch(0, "A", "B"), batch(1, "C", "D"), batch(2, "E"), batch(3, "F", "C")]
TASKS = [
    Task("plan", -1, "success", at(0), at(5), "2 sessions are pending"),
    Task("fetch", 0, "success", at(20), at(40), "B failed: not found"),
    Task("fetch", 1, "failed", at(20), at(50), "ProviderError: gone"),
    Task("fetch", 2, "running", at(50)),
    Task("fetch", 3, "scheduled"),
]
RUN = Run("mock_ohlcv_1d", "manual__x", "running", START, None, TASKS, BATCHES, {0: receipt(0, failed={"B": "not found"})})


def test_a_running_run_counts_batches_symbols_rows_and_what_is_left():
    found = run_of(RUN, None, NOW)
    assert not found["finished"]
    assert found["totals"] == {
        "batches": 4, "ended": 2, "failed": 1, "running": 1, "rows": 100, "quarantined": 1, "calls": 10, "planned_calls": 40,
        "calls_per_minute": 10.0,
    }  # fmt: skip
    assert {name: found["symbols"][name] for name in ("ok", "failed", "pending")} == {"ok": 1, "failed": 3, "pending": 2}
    reasons = {one["symbol"]: one["reason"] for one in found["symbols"]["failures"]}
    assert reasons == {"B": "not found", "C": "ProviderError: gone", "D": "ProviderError: gone"}
    assert found["elapsed_seconds"] == 80
    assert found["remaining_seconds"] == 25  # 2.5 s per planned call: the batch that runs should have ended, the last one is left
    assert [row["map_index"] for row in found["batches"]] == [1, 0, 2, 3]  # the failed one first
    json.dumps(found)


def test_what_is_left_is_shared_by_the_batches_that_run():
    two = [Task("fetch", 0, "success", at(20), at(40)), Task("fetch", 1, "running", at(75)), Task("fetch", 2, "running", at(70))]
    run = replace(RUN, tasks=two, receipts={0: receipt(0)})  # 2 s per planned call: 15, 10 and 20 s are left
    assert run_of(run, None, NOW)["remaining_seconds"] == 22.5


def test_calls_per_minute_of_a_cleared_run_count_from_the_clear():
    run = replace(RUN, started=at(30), receipts={0: receipt(0), 2: receipt(2)})
    again = [*TASKS[:3], Task("fetch", 2, "success", at(50), at(60)), TASKS[4]]
    found = run_of(replace(run, tasks=again), None, NOW)["totals"]
    assert (found["calls"], found["calls_per_minute"]) == (20, 20.0)  # the 10 calls since then, in 30 s


@pytest.mark.parametrize(
    ("state", "receipt_of"),
    [("running", receipt(0)), ("success", receipt(7)), ("failed", receipt(0)), (None, receipt(0))],
)
def test_receipts_of_an_earlier_try_or_plan_do_not_count(state, receipt_of):
    run = replace(RUN, tasks=[Task("fetch", 0, state, at(0), at(9))], batches=BATCHES[:1], receipts={0: receipt_of})
    assert run_of(run, None, NOW)["totals"]["rows"] == 0


def test_before_any_batch_ended_the_plan_tells_what_is_left():
    run = replace(RUN, tasks=[Task("fetch", 0, "running", at(20))], summary={"minutes": 2.0}, receipts={})
    assert run_of(run, None, NOW)["remaining_seconds"] == 60  # of two minutes, one is over
    assert run_of(replace(run, summary={}), None, NOW)["remaining_seconds"] is None
    assert run_of(replace(run, batches=[]), None, NOW)["remaining_seconds"] is None


@pytest.fixture
def published(tmp_path):
    lake = Lake.open(f"file://{tmp_path}")
    cell = {"symbol": "A", "session": "2024-09-30", "reason": "high below low"}
    lake.put_new(
        "logs/run.json", json.dumps({"quarantined": [cell] * 201, "pending": [], "open_cells": {"quarantined": 201}}).encode()
    )
    lake.put_new("logs/broken.json", b"<html>")
    refused = {"partition": "2024-09-30", "passed": False, "reasons": ["x"]}
    ended = [
        Task("check", -1, "success"),
        Task("publish", -1, "success"),
        Task("verdict", -1, "failed", note="the run is not complete"),
    ]
    run = replace(
        RUN, state="failed", ended=at(70), tasks=[*TASKS, *ended],
        checked={"refused": [refused], "table": "rules", "document": "quality/x.json"},
        published={"red": ["1 batch failed"], "warnings": ["1 quarantined"], "headline": "100 rows", "report": "logs/run.json"},
    )  # fmt: skip
    return lake, run


def test_a_finished_run_has_its_verdict_checkpoint_and_report(published):
    lake, run = published
    found = run_of(run, lake, NOW)
    assert (found["finished"], found["elapsed_seconds"], found["remaining_seconds"]) == (True, 70, None)
    assert found["sentences"] == {"red": ["1 batch failed"], "warnings": ["1 quarantined"], "other": ["100 rows"]}
    assert [one["partition"] for one in found["refused"]] == ["2024-09-30"]
    assert len(found["report"]["quarantined"]) == 200
    assert found["report"]["problem"] == ""


def test_results_of_a_cleared_task_are_not_shown_while_it_runs_again(published):
    lake, run = published
    again = [replace(one, state=None) if one.task_id in {"check", "publish", "verdict"} else one for one in run.tasks]
    found = run_of(replace(run, state="running", ended=None, tasks=again), lake, NOW)
    assert (found["refused"], found["checkpoint"], found["report"]["key"]) == ([], "", "")
    assert found["sentences"] == {"red": [], "warnings": [], "other": ["2 sessions are pending"]}


@pytest.mark.parametrize(("key", "words"), [("logs/none.json", "not in the lake"), ("logs/broken.json", "not JSON")])
def test_a_report_that_cannot_be_read_is_named(published, key, words):
    lake, run = published
    found = run_of(replace(run, published={**run.published, "report": key}), lake, NOW)["report"]
    assert words in found["problem"]
    assert found["quarantined"] == []


def test_a_plan_that_failed_is_the_verdict():
    run = replace(RUN, state="failed", batches=[], receipts={}, tasks=[Task("plan", -1, "failed", note="symbols are wrong")])
    assert run_of(run, None, NOW)["sentences"]["red"] == ["symbols are wrong"]
