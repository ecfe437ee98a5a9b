from datetime import timedelta
from io import StringIO

from rich.console import Console

from sandbox.market import recorded_prices
from sandbox.stack.__main__ import RECORDED
from sandbox.stack.progress import Snapshot
from sandbox.stack.summary import Places, places, reasons, sources, summary
from tests.sandbox.rest_payloads import receipt

DONE = Snapshot(
    "success", "done", batches=10, batches_done=10, symbols=523, symbols_ok=523, rows=5230, elapsed=timedelta(seconds=64)
)
REPORT = {
    "date_range": {"from": "2013-01-02", "to": "2013-01-15"},
    "failed_tickers": 0,
    "rows_landed": 5230,
    "rows_quarantined": 12,
    "rows_loaded": 5218,
    "files_written": 5230,
    "files_unchanged": 0,
    "api_calls": 10,
    "errors": [],
    "red": [],
}


def shown(renderable):
    console = Console(file=StringIO(), width=150)
    console.print(renderable)
    return console.file.getvalue()


def test_what_came_and_what_it_cost():
    text = shown(summary(DONE, {}, REPORT, [receipt(0)], {"MSFT", "AAPL"}))
    for words in (
        "2013-01-02 to 2013-01-15",
        "10 of 10 done, in 1 min 04 s",
        "523, of which 0 failed",
        "5,230 rows; 5,230 files written",
        "12 rows",
        "5,218 rows",
        "10; a client with one call per symbol makes 523",
        "recorded prices for AAPL, MSFT; all others are generated",
    ):
        assert words in text


def test_what_saved_no_call_is_not_compared():
    text = shown(summary(DONE, {}, {**REPORT, "api_calls": 523}, [receipt(0)], set()))
    assert "523" in text
    assert "one call per symbol" not in text


def test_nothing_to_do_is_reported():
    assert "Nothing to do" in shown(summary(Snapshot("success", "done", batches=0), {"dry_run": False}, {}, [], []))


def test_a_run_that_failed_without_batches_does_not_claim_that_all_is_covered():
    assert "Nothing to do" not in shown(summary(Snapshot("failed", "failed", batches=0), {}, {}, [], []))
    assert "No batch was planned" in shown(summary(Snapshot("failed", "failed"), {}, {}, [], []))


def test_a_dry_run_shows_what_it_would_take():
    estimate = {"batches": 5, "cells": 2615, "calls": 5, "rows": 2615, "minutes": 1.5, "covered": 7, "dry_run": True}
    text = shown(summary(Snapshot("success", "done", batches=0), estimate, {}, [], []))
    assert "5 batches, 5 calls, 1.5 minutes" in text
    assert "Nothing to do" not in text


def test_a_dry_run_over_the_cap_says_so():
    estimate = {"batches": 1, "cells": 2, "calls": 1, "rows": 2, "minutes": 0, "covered": 0, "dry_run": True, "cost_usd": 0.0041}
    text = shown(
        summary(Snapshot("success", "done", batches=1), estimate | {"note": "over the cap: 0.0041 US dollars"}, {}, [], [])
    )
    assert text.count("0.0041 US dollars") == 2
    assert "over the cap" in text


def test_a_run_with_nothing_to_do_says_why():
    reported = "Nothing to do: no session on 2013-01-01 (New Year's Day)"
    text = shown(summary(Snapshot("success", "done", batches=0), {"note": reported}, {}, [], []))
    assert f"{reported}. No call was made." in text


def test_warnings_of_a_green_run_are_shown():
    text = shown(summary(DONE, {}, {**REPORT, "warnings": ["no bars for NOSUCH"]}, [], []))
    assert "Look at" in text
    assert "no bars for NOSUCH" in text


def test_without_a_report_the_receipts_count():
    assert "5,230 rows" in shown(summary(DONE, {}, {}, [], []))


def test_sources_are_told_apart():
    assert sources([receipt(0, sources=["recorded+generated"]), receipt(1, sources=["generated"]), receipt(2, sources=[])]) == {
        "recorded",
        "generated",
    }
    assert "Source" not in shown(summary(DONE, {}, REPORT, [receipt(0, sources=[])], {"AAPL"}))
    assert "file" in shown(summary(DONE, {}, REPORT, [receipt(0, sources=["file"])], {"AAPL"}))


def test_the_recorded_symbols_are_the_sample_apis():
    assert set(recorded_prices.RECORDED) == RECORDED


def test_a_red_run_says_why():
    report = {"red": ["session 2013-01-03 was refused: too few rows"], "errors": ["later"]}
    text = shown(reasons(report, ["check: log"], ["verdict"]))
    assert "Failed: verdict" in text
    assert "session 2013-01-03 was refused" in text
    assert "later" not in text
    assert "plan: 2 problems" in shown(reasons({}, ["plan: 2 problems"], ["plan"]))


def test_many_reasons_are_cut():
    text = shown(reasons({"red": [f"reason {number}" for number in range(50)]}, [], []))
    assert "reason 9" in text
    assert "reason 10" not in text
    assert "and 40 more" in text


def test_places_names_what_there_is():
    text = shown(places(Places("http://127.0.0.1:8080", "secret", "s3://market-data", None, "logs/r.json", None, "/logs")))
    assert "user admin, password secret" in text
    assert "s3://market-data/logs/r.json" in text
    assert "served at" not in text
    assert "Warehouse" not in text
