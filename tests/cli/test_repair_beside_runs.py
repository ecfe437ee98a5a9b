"""``market-data repair`` in a shell while runs of the feed are active: their requests are theirs, and never reported as left."""

import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from market_data import pipeline
from market_data.cli.main import main
from market_data.core.errors import LakeError
from market_data.core.outcome import State
from market_data.lake import begun, clock, staging
from market_data.lake.at_work import LASTS, at_work
from market_data.lake.ledger import read_coverage
from market_data.maintenance.repair_plan import repair_context
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.cli.test_repair import ARGUMENTS, DAYS, Deployment, delete
from tests.pipeline.runs import World, feed_of
from tests.pipeline.test_staging import Killed, is_below, kill_after
from tests.quick_runs import _quick_validator  # noqa: F401 - a fixture

PLACE = ("ohlcv-1d", "mock")
UNKNOWN = "whether it is active is not known"


@pytest.fixture
def world(tmp_path):
    hook = MockHook(config=ProviderConfig("mock_default", ""), options={})
    found = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: hook)
    found.run(DAYS, ["AAPL", "MSFT"])
    return found


class Shell(Deployment):
    """A shell beside one run, which stages a request of IBM: before the repair, or between its check and its publish.

    :param active: what Airflow's database says of that run; None: it cannot be used.
    """

    def __init__(self, world, active):
        super().__init__(world.folder)
        self.world, self.active, self.asked = world, active, set()

    def is_running(self, run):
        self.asked.add((run.dag_id, run.run_id))
        return self.active

    def stage(self, context=None, symbols=("IBM",)):
        """Fetch as a run of the feed does, and nothing downstream."""
        context = context or self.world.context("tonight", force=True)
        with self.world.hook() as hook:
            planned = pipeline.plan_run(context, hook, Wanted(tuple(DAYS)), list(symbols), self.world.now)
            receipts = [pipeline.fetch_batch(context, hook, batch, lambda: self.world.now) for batch in planned.plan.batches]
        return context, planned, receipts

    def staged(self):
        return [item.key for item in staging.waiting(self.lake(), *PLACE)]

    def marks(self):
        return list(begun.marks(self.lake(), *PLACE)[0])

    def after_the_load(self, monkeypatch, act):
        """Let ``act`` happen between the repair's load and its publish."""
        load = pipeline.load_run

        def loading(*args):
            found = load(*args)
            act()
            return found

        monkeypatch.setattr("market_data.pipeline.run_in_process.load_run", loading)


@pytest.mark.parametrize("active", [True, None], ids=["active", "not known"])
def test_what_a_run_has_staged_is_left_to_it_and_its_mark_too(world, monkeypatch, active):
    shell = Shell(world, active)
    context, planned, receipts = shell.stage()
    with monkeypatch.context() as patch:
        kill_after(patch, world.lake, "update", is_below("raw"))
        with pytest.raises(Killed):
            shell.stage(world.context("second", force=True))
    before = shell.staged(), shell.marks()
    assert all(before)
    delete(shell)
    assert main(ARGUMENTS, shell) == 0
    assert (shell.staged(), shell.marks()) == before
    assert {("mock_ohlcv_1d", "tonight"), ("mock_ohlcv_1d", "second")} <= shell.asked
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    result = pipeline.RunResult(batches, receipts, {}, checked, loaded, planned.summary)
    assert pipeline.publish_run(context, result, world.now)["red"] == []
    assert read_coverage(world.lake, *PLACE).state("IBM", DAYS[0]) is State.HAVE


@pytest.mark.parametrize(("active", "code"), [(True, 0), (None, 0), (False, 1)], ids=["active", "not known", "ended"])
def test_what_a_run_stages_after_the_check_is_left_if_it_has_ended_and_told_if_that_is_not_known(
    world, monkeypatch, capsys, active, code
):
    shell = Shell(world, active)
    delete(shell)
    shell.after_the_load(monkeypatch, shell.stage)
    assert main(ARGUMENTS, shell) == code
    said = capsys.readouterr().out
    assert ("1 requests of tonight wait in staging and were not loaded" in said) == (active is False)
    assert (f"1 requests of tonight wait in staging: {UNKNOWN}" in said) == (active is None)
    assert len(shell.staged()) == 1


@pytest.mark.parametrize(("active", "code"), [(True, 0), (None, 0), (False, 1)], ids=["active", "not known", "ended"])
def test_a_request_that_had_only_begun_is_not_said_to_wait_in_staging(world, monkeypatch, capsys, active, code):
    world.run(DAYS, ["IBM"], world.context("first"))
    shell = Shell(world, active)

    def killed():
        with monkeypatch.context() as patch:
            kill_after(patch, world.lake, "put_new", lambda key, *_: key.endswith(".begun.json"))
            with pytest.raises(Killed):
                shell.stage(world.context("second", force=True))

    delete(shell)
    shell.after_the_load(monkeypatch, killed)
    capsys.readouterr()
    assert main(ARGUMENTS, shell) == code
    said = capsys.readouterr().out
    assert "in staging" not in said
    assert ("1 requests of second were interrupted while their rows were written to the lake" in said) == (active is False)
    assert (f"1 requests of second had begun to write their rows: {UNKNOWN}" in said) == (active is None)
    assert len(shell.marks()) == 1


# -- runs of Airflow beside a repair ---------------------------------------------------------------------------------------------------


def at_work_objects(lake):
    return [key for key, _ in lake.list("staging") if key.endswith("at-work.json")]


@pytest.fixture
def repairing(world):
    """The context of a repair in a shell that has staged IBM, and begun to write MSFT."""
    context = repair_context(world.lake, world.feed, "mock", {}, world.now, is_running=lambda _: True)
    return replace(context, params=replace(context.params, force=True))


def leave(shell, context, monkeypatch):
    """Stage a request and begin another, as a repair does; return what waits."""
    shell.stage(context)
    with monkeypatch.context() as patch:
        kill_after(patch, shell.world.lake, "update", is_below("raw"))
        with pytest.raises(Killed):
            shell.stage(replace(context, params=replace(context.params, batch_size=1)), ["MSFT"])
    left = shell.staged(), shell.marks()
    assert all(left)
    return left


def test_what_a_repair_at_work_has_fetched_is_left_to_it(world, repairing, monkeypatch):
    shell = Shell(world, True)
    with at_work(world.lake, *PLACE, repairing.run):
        left = leave(shell, repairing, monkeypatch)
        _, report = world.run(DAYS, ["AAPL"], world.context("mine", force=True))
        assert (shell.staged(), shell.marks()) == left
        assert report["red"] == []
        assert not [text for text in report["warnings"] if "requests of" in text]


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_what_an_ended_repair_has_left_is_loaded_by_the_next_run(world, repairing, monkeypatch, killed):
    shell = Shell(world, True)
    with ExitStack() as resources:
        working = resources.enter_context(ExitStack())
        working.enter_context(at_work(world.lake, *PLACE, repairing.run))
        leave(shell, repairing, monkeypatch)
        if killed:
            (key,) = at_work_objects(world.lake)
            old = (clock.worker_clock() - LASTS).timestamp()
            os.utime(world.lake.root / key, (old, old))
        else:
            working.close()
        _, report = world.run(DAYS, ["AAPL"], world.context("next", force=True))
    assert report["red"] == []
    assert (shell.staged(), shell.marks()) == ([], [])
    assert read_coverage(world.lake, *PLACE).state("IBM", DAYS[0]) is State.HAVE


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_a_repair_shows_that_it_is_at_work_until_it_ends(world, monkeypatch, fails):
    shell, seen = Shell(world, True), []
    delete(shell)

    def look():
        seen.extend(at_work_objects(shell.lake()))
        if fails:
            raise LakeError("the disk is gone")

    shell.after_the_load(monkeypatch, look)
    assert main(ARGUMENTS, shell) == (1 if fails else 0)
    assert len(seen) == 1
    assert at_work_objects(shell.lake()) == []
