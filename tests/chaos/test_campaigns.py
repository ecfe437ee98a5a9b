"""Some campaigns of a fixed seed in each tier; and that a broken invariant is found, told with its seed, and made small."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from market_data.core.batch import Block
from market_data.core.intervals import closed
from market_data.core.outcome import State
from market_data.datasets.registry import grains_of
from sandbox.http import faults as http_faults
from sandbox.ib_gateway import faults as gateway_faults
from sandbox.vendors import alpaca_faults, databento_faults, fmp_faults, polygon_faults
from tests.chaos import processes
from tests.chaos import shrink as shrinking
from tests.chaos.calls import CallBook
from tests.chaos.campaign import Failed
from tests.chaos.checks import ChaosChecks, Told
from tests.chaos.draw import KINDS, draw
from tests.chaos.mutants import MUTANTS
from tests.chaos.processes import Child, Outcome
from tests.chaos.servers import Servers
from tests.chaos.snapshot import Snapshot
from tests.chaos.vendor_faults import LEFT_OUT, OWN, REFUSALS, TRANSFER
from tests.pipeline.runs import feed_of
from tests.services import oracle_server, postgres_server

PROJECT = Path(__file__).parents[2]
CELL = ("AAPL", date(2026, 10, 26))
GOOD, OTHER = (1, "good"), (1, "other")


def campaigns(*words, folder):
    """Run campaigns as `make chaos` does; return exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words],
        cwd=PROJECT,
        env={**os.environ, "AIRFLOW_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr[-4000:]


@pytest.mark.timeout(900)
def test_a_short_campaign_holds(tmp_path):
    code, output = campaigns("--campaigns", "1", "--seed", "726", "--engines", "duckdb", "--stores", "file", folder=tmp_path)
    assert code == 0, output
    assert "kill" in output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [100, 200])
def test_campaigns_hold(seed, tmp_path):
    code, output = campaigns("--campaigns", "2", "--seed", str(seed), folder=tmp_path)
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_campaigns_find_each_defect(tmp_path):
    code, output = campaigns("--mutants", "all", folder=tmp_path)
    assert code == 0, output
    assert output.count(": found: ") == len(MUTANTS)


def test_a_seed_stands_for_one_campaign():
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert len({str(draw(seed)) for seed in range(50)}) == 50


def test_each_feed_can_have_its_grains():
    for kind in KINDS:
        dataset = feed_of(kind.dag_id).dataset
        assert set(kind.grains) <= set(grains_of(dataset)), kind.dag_id


def test_a_campaign_without_some_parts_keeps_the_others():
    whole = draw(4)
    number = next(n for n, step in enumerate(whole.steps) if step.faults)
    less = whole.without([f"{number}.0"])
    assert len(less.steps) == len(whole.steps)
    assert less.steps[number].faults == whole.steps[number].faults[1:]
    assert len(whole.without([str(number)]).steps) == len(whole.steps) - 1


def test_a_failing_campaign_shrinks_to_what_fails(monkeypatch):
    """It fails while its second step and the first fault of the fourth are there."""
    whole = next(found for found in map(draw, range(100)) if len(found.steps) > 4 and found.steps[3].faults)
    needed = whole.steps[1].kind, whole.steps[3].faults[0]

    def play(campaign, host):
        faults = [fault for step in campaign.steps for fault in step.faults]
        if needed[0] in [step.kind for step in campaign.steps] and needed[1] in faults:
            raise Failed("broken", [])

    monkeypatch.setattr(shrinking, "play", play)
    least, _ = shrinking.shrink(whole, Failed("broken", []), None)
    assert len(least.steps) <= 2
    assert [fault for step in least.steps for fault in step.faults] == [needed[1]]


def ended_by(number):
    """What became of a process that a signal ended."""
    return Child(lambda struck: os.kill(os.getpid(), number), lambda error: (True, 0.0)).wait()


def test_a_signal_that_no_campaign_sends_is_a_crash():
    assert ended_by(signal.SIGKILL).kind == "killed"
    crashed = ended_by(signal.SIGSEGV)
    assert crashed.kind == "crash"
    assert "in ended_by" in crashed.text or "in <lambda>" in crashed.text
    assert crashed.text.endswith("killed by SIGSEGV")


def test_a_process_that_ends_between_two_looks_has_ended(monkeypatch):
    """The first look at its pipe finds nothing; then it ends, before the look whether it is stopped."""
    child, looks = Child(lambda struck: "done", lambda error: (True, 0.0)), []

    def look(*args):
        looks.append(args)
        if len(looks) > 1:
            return select(*args)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return [], [], []

    select = processes.select.select
    monkeypatch.setattr(processes.select, "select", look)
    assert child.wait().value == "done"


class Seen(ChaosChecks):
    """The checks of a snapshot that is given."""

    def __init__(self, seen, told, **world):
        self.seen, self.told = seen, told
        self.world = SimpleNamespace(**{"campaign": SimpleNamespace(kind=SimpleNamespace(endpoints=("history", "bulk")))} | world)
        vars(self.world).update(
            hidden_once=set(),
            struck=Counter(),
            selection=lambda: SimpleNamespace(dataset=SimpleNamespace(table="prices")),
            has_flag=lambda run: True,
            must=lambda body: {CELL: State.HAVE} if "rebuilt" in body.__name__ else [],
        )

    def look(self):
        return self.seen


def held(**other):
    return Snapshot(**{"lake": {CELL: GOOD}, "silver": {CELL: GOOD}, "ledger": {CELL: (State.HAVE, "")}, **other})


TOLD = Told(ever={CELL: {GOOD, OTHER}}, now={CELL: {GOOD}})
BROKEN = {
    "rows are stored twice": held(twice=["silver has 2 rows"]),
    "silver has rows that the lake lacks": held(strays=["one"]),
    "the lake has what the vendor never served": held(lake={CELL: (1, "never")}),
    "silver differs from the lake": held(silver={CELL: OTHER}),
    "have without an object": held(lake={}, silver={}),
    "empty, and the vendor has rows": held(lake={}, silver={}, ledger={CELL: (State.EMPTY, "")}),
    "good rows are in quarantine": held(quarantined={CELL}),
    "copies are in quarantine": held(copies={CELL}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_invariant_is_found_after_a_step(what):
    Seen(held(), TOLD).after_step()
    with pytest.raises(AssertionError, match=what):
        Seen(BROKEN[what], TOLD).after_step()


def test_a_value_that_the_lake_had_and_that_only_one_endpoint_has_may_not_be_lost():
    told = replace(TOLD, now={CELL: {GOOD, OTHER}}, best={CELL: GOOD}, reached=set())
    lacking = held(lake={CELL: OTHER}, silver={CELL: OTHER})
    Seen(lacking, told).after_step()
    Seen(held(), told).after_step()
    with pytest.raises(AssertionError, match="lost a value"):
        Seen(lacking, told).after_step()


@pytest.mark.parametrize(("endpoint", "right"), [("history", {GOOD, OTHER}), ("bulk", {GOOD})])
def test_a_run_by_the_endpoint_with_all_values_leaves_all(endpoint, right):
    told = replace(TOLD, now={CELL: {GOOD, OTHER}}, best={CELL: GOOD})
    block = Block((CELL[0],), (closed(CELL[1], CELL[1]),))
    run = SimpleNamespace(batches=[SimpleNamespace(endpoint=endpoint, blocks=[block])])
    assert Seen(held(), told)._allowed(run) == {CELL: right}


def test_a_copy_that_the_vendor_sent_may_be_in_quarantine():
    checks = Seen(held(copies={CELL}), TOLD)
    checks.world.struck["vendor duplicated"] = 1
    checks.after_step()
    checks.seen = held(copies={CELL}, quarantined={CELL})
    with pytest.raises(AssertionError, match="good rows are in quarantine"):
        checks.after_step()


RUN = SimpleNamespace(green=True, own=[CELL], text="", batches=[])
LEFT = {
    "the lake has not what the vendor has": held(lake={CELL: OTHER}),
    "silver has not what the vendor has": held(silver={CELL: OTHER}),
    "a wrong state after the closing run": held(ledger={CELL: (State.PENDING, "")}),
    "staging is not empty": held(staging_objects=["one"]),
}


@pytest.mark.parametrize("what", LEFT)
def test_a_broken_invariant_is_found_at_the_end(what):
    Seen(held(), TOLD).closing(RUN)
    with pytest.raises(AssertionError, match=what):
        Seen(LEFT[what], TOLD).closing(RUN)


def test_a_window_over_the_limit_is_found():
    moments = [n / 100 for n in range(9)]
    world = {
        "host": SimpleNamespace(calls=lambda name: [(one, "", "") for one in moments]),
        "feed": SimpleNamespace(provider="polygon"),
        "campaign": SimpleNamespace(limit=(8, 0.5)),
    }
    with pytest.raises(AssertionError, match="9 calls in 0.5 s, 8 are allowed"):
        Seen(held(), TOLD, uncounted=set(), **world).windows()
    Seen(held(), TOLD, uncounted={0.0}, **world).windows()


class Log:
    """A server's log, and a clock that goes on with each look and each call."""

    def __init__(self):
        self.now, self.moments = 0.0, []
        self.book = CallBook(lambda: self.moments, self.look)

    def look(self):
        self.now += 1
        return self.now

    def calls(self, number):
        self.moments += [self.look() for _ in range(number)]


def book_of(*tries):
    """The book of a run's tries: (calls on the server's log, outcome)."""
    log = Log()
    for calls, kind in tries:
        with log.book.of_try("r1", "fetch") as told:
            log.calls(calls)
            told(Outcome(kind))
    return log.book


@pytest.mark.parametrize(
    ("tries", "reported", "retries", "wrong"),
    [
        ([(4, "ok")], 4, 0, ""),
        ([(6, "ok")], 6, 2, ""),
        ([(3, "killed"), (2, "ok")], 2, 0, ""),
        ([(3, "killed"), (2, "ok")], 5, 0, ""),
        ([(3, "error"), (4, "ok")], 7, 0, ""),
        ([(5, "ok")], 4, 1, "the server saw 5 calls, 0 of them by killed tries; the report has 4"),
        ([(3, "killed"), (2, "ok")], 0, 0, "the report has 0"),
        ([(4, "ok")], 5, 1, "the report has 5"),
        ([(9, "ok")], 9, 2, "4 planned, 2 repeated and 6 in all are explained"),
        ([(3, "killed"), (6, "ok")], 6, 0, "8 in all are explained"),
    ],
)
def test_calls_are_planned_repeated_or_of_tries_that_ended(tries, reported, retries, wrong):
    trouble = book_of(*tries).explained("r1", {"api_calls": reported, "retries": retries}, 4)
    assert wrong in trouble
    assert bool(wrong) == bool(trouble)


SERVERS_KINDS = {
    "http": http_faults.KINDS,
    "polygon": polygon_faults.KINDS,
    "alpaca": alpaca_faults.KINDS,
    "fmp": fmp_faults.KINDS,
    "databento": databento_faults.KINDS,
    "ib": gateway_faults.KINDS,
}


@pytest.mark.parametrize("server", SERVERS_KINDS)
def test_each_fault_of_a_server_is_drawn_or_left_out_for_a_reason(server):
    drawn = {name for name, _ in ((*TRANSFER, *REFUSALS) if server == "http" else OWN[server])}
    assert drawn.isdisjoint(LEFT_OUT[server])
    assert drawn | LEFT_OUT[server].keys() == SERVERS_KINDS[server].keys()


@pytest.mark.parametrize("engine", ["postgres", "oracle"])
def test_another_session_holds_a_table_for_a_while_and_is_counted(engine):
    servers = Servers()
    try:
        servers._database(engine)
        make = f"CREATE TABLE rows_of_a_feed ({'x int' if engine == 'postgres' else 'x NUMBER(10)'})"
        if engine == "postgres":
            with closing(postgres_server.server().admin(servers._given.schema)) as admin:
                admin.execute(make)
        else:
            with oracle_server.session_of(servers._double) as session:
                session.cursor().execute(make)
        servers.hold_database(1.0, "rows_of_a_feed")
        servers.hold_database(1.0, "rows_of_a_feed")  # it is held already
        assert servers._database_struck() == {"held": 1}
        until = time.monotonic() + 30
        while not (found := servers._database_struck()):
            assert time.monotonic() < until, "the table is never free again"
            time.sleep(0.05)
            servers.hold_database(0.0, "rows_of_a_feed")
        assert found == {"held": 1}
    finally:
        servers._databases.close()


@pytest.mark.parametrize(("made", "reported", "wrong"), [(5, 7, ""), (9, 9, ""), (5, 4, "the report has 4")])
def test_of_a_client_that_gives_calls_up_the_report_has_what_the_server_saw(made, reported, wrong):
    book = book_of((made, "ok"))
    book.given_up.add("r1")
    trouble = book.explained("r1", {"api_calls": reported, "retries": 0}, 4)
    assert wrong in trouble
    assert bool(wrong) == bool(trouble)


def test_calls_of_a_try_in_between_are_its_own():
    log = Log()
    with log.book.of_try("stopped", "fetch"):
        log.calls(2)
        with log.book.of_try("other", "fetch"):
            log.calls(5)
        log.calls(1)
    assert (log.book.of_run("stopped").made, log.book.of_run("other").made) == (3, 5)


def requested(calls=3, clear_number=0, *, force=True, green=True, text=""):
    """A run that requested its cell again, and the book of its calls."""
    params, info = SimpleNamespace(force=force), SimpleNamespace(clear_number=clear_number)
    context = SimpleNamespace(params=params)
    run = SimpleNamespace(name="r1", green=green, own=[CELL], text=text, info=info, context=context, batches=[])
    return run, {"book": book_of((calls, "ok"))}


@pytest.mark.parametrize("again", [{"force": True}, {"force": False, "clear_number": 1}])
def test_a_green_run_that_requests_again_has_made_calls_and_has_the_correction(again):
    run, book = requested(**again)
    Seen(held(), TOLD, **book).requested_again(run)
    with pytest.raises(AssertionError, match="requested again, and the lake has not what the vendor has"):
        Seen(held(lake={CELL: OTHER}), TOLD, **book).requested_again(run)
    run, book = requested(calls=0, **again)
    with pytest.raises(AssertionError, match="made no call"):
        Seen(held(), TOLD, **book).requested_again(run)
    run, book = requested(calls=0, text=f"Not available yet, left for a later run: {CELL[1]}", **again)
    Seen(held(), TOLD, **book).requested_again(run)
    with pytest.raises(AssertionError, match="requested again, and the lake has not what the vendor has"):
        Seen(held(lake={CELL: OTHER}), TOLD, **book).requested_again(run)
    run, book = requested(calls=0, text="Not available yet, left for a later run: 2026-10-28", **again)
    with pytest.raises(AssertionError, match="made no call"):
        Seen(held(), TOLD, **book).requested_again(run)


@pytest.mark.parametrize("other", [{"green": False}, {"force": False}])
def test_a_red_run_and_one_that_requests_nothing_again_may_lack_a_correction(other):
    run, book = requested(**other)
    Seen(held(lake={CELL: OTHER}), TOLD, **book).requested_again(run)
