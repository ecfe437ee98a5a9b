from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from sandbox.stack.follow import bar
from sandbox.stack.progress import Snapshot, line, observe, seconds, symbols
from tests.sandbox.rest_payloads import INSTANCES, PLAN, RUN, instance, receipt

NOW = datetime(2026, 11, 20, 21, 33, 30, tzinfo=UTC)


def look(run=RUN, instances=INSTANCES, plan=PLAN, receipts=None, now=NOW):
    return observe(run, instances, plan, {0: receipt(0)} if receipts is None else receipts, now)


def shown(renderable):
    console = Console(file=StringIO(), width=120, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def test_batches_rows_and_calls_are_counted():
    found = look(receipts={0: receipt(0, rows=7, quarantined=3, calls=2)})
    assert (found.batches, found.batches_done, found.batches_failed) == (4, 2, 1)
    assert (found.rows, found.quarantined, found.calls) == (7, 3, 2)
    assert found.stage == "fetching"
    assert not found.is_over


def test_a_symbol_of_a_failed_batch_failed_even_where_another_batch_brought_it():
    found = look()
    assert (found.symbols, found.symbols_ok, found.symbols_failed) == (4, 0, 2)


def test_a_symbol_that_its_receipt_calls_failed_failed():
    found = look(receipts={0: receipt(0), 2: receipt(2, failed={"QQQ": "no such symbol"})}, instances=INSTANCES[:6])
    assert (found.symbols_ok, found.symbols_failed) == (3, 1)


def test_time_left_is_that_of_the_batches_done():
    found = look()
    assert found.elapsed == timedelta(seconds=18.007456)
    assert found.remaining == timedelta(seconds=10)  # two batches in ten seconds, two to go


def test_nothing_is_known_of_the_time_left_before_a_batch_is_done():
    waiting = [instance("plan", "success"), instance("fetch", "running", 0, "2026-11-20T21:33:20Z")]
    assert look(instances=waiting, receipts={}).remaining is None


def test_a_finished_run_no_longer_ages():
    over = {**RUN, "state": "success", "end_date": "2026-11-20T21:33:37.992544Z"}
    assert look(run=over, now=NOW + timedelta(hours=1)).elapsed == timedelta(seconds=26)


@pytest.mark.parametrize(
    ("state", "instances", "stage"),
    [
        ("queued", [], "waiting"),
        ("running", [instance("plan", "running"), instance("check", None)], "planning"),
        ("running", [instance("plan", "success"), instance("fetch", "skipped"), instance("check", "queued")], "checking"),
        ("running", [instance("plan", "success"), instance("verdict", "success")], "ending"),
        ("success", [], "done"),
        ("failed", [instance("plan", "failed")], "failed"),
    ],
)
def test_the_stage_is_the_first_task_that_is_open(state, instances, stage):
    assert look(run={**RUN, "state": state}, instances=instances, receipts={}).stage == stage


def test_a_run_that_waits_for_long_is_behind_another():
    queued = {**RUN, "state": "queued", "start_date": None, "queued_at": "2026-11-20T21:33:29Z"}
    assert line(look(run=queued, instances=[], plan=None, receipts={})) == "waiting, 0 s"
    later = look(run=queued, instances=[], plan=None, receipts={}, now=NOW + timedelta(seconds=20))
    assert line(later) == "waiting, an earlier run of the DAG goes first, 0 s"


def test_no_plan_yet_and_an_empty_plan_are_not_the_same():
    assert look(plan=None, instances=[], receipts={}).batches is None
    assert look(plan=[], instances=[], receipts={}).batches == 0


def test_failed_tasks_are_named_by_their_batch():
    assert look().failed_tasks == ("fetch[b001 AAPL +1]",)


def test_a_line_says_it_all():
    words = line(look())
    assert words.startswith(
        "fetching 2/4 batches, 0 of 4 symbols fetched, 2 failed, 2 rows, 1 calls, 1 batches failed, 18 s, about 10 s left"
    )


def test_a_line_before_the_plan_is_short():
    assert line(Snapshot("queued", "waiting")) == "waiting, 0 s"


def test_the_bar_shows_the_same_figures_as_the_line():
    text = shown(bar(look()))
    for words in ("fetching", "2/4 batches", "18 s", "about 10 s left", "0 of 4 symbols fetched", "2 failed", "2 rows", "1 calls"):
        assert words in text


def test_the_bar_is_full_at_the_end_of_a_run_without_batches():
    text = shown(bar(Snapshot("success", "done", batches=0)))
    assert "╸" not in text


def test_retries_are_told():
    again = replace(look(), batches_retrying=1)
    assert "1 batches to be tried again" in line(again)


@pytest.mark.parametrize(
    ("span", "words"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_spans_are_short(span, words):
    assert seconds(timedelta(seconds=span)) == words


def test_symbols_are_those_of_all_blocks():
    assert symbols(PLAN) == {"AAPL", "IBM", "SPY", "QQQ"}
