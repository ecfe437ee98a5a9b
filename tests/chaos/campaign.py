"""Run a campaign: its steps in turn, the invariants after each, and a closing run without faults."""

import os
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from market_data.core.run import RunInfo
from market_data.maintenance.audit import audit, write_report
from market_data.maintenance.compaction import compact
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.maintenance.person import Person
from market_data.maintenance.repair import repair
from market_data.maintenance.repair_plan import plan_repair
from market_data.maintenance.state import reset
from market_data.pipeline.rebuild import rebuild_warehouse
from tests.chaos.checks import ChaosChecks
from tests.chaos.draw import CLOCK, UPKEEP, VENDOR, Campaign, Step
from tests.chaos.servers import Host
from tests.chaos.world import ChaosWorld
from tests.pipeline.model_run import Run
from tests.pipeline.runs import ended


class Failed(Exception):
    """An invariant does not hold.

    :param lines: what happened before.
    """

    def __init__(self, what: str, lines: list[str]) -> None:
        super().__init__(what)
        self.lines = lines


@dataclass
class Result:
    """What a campaign did.

    :param struck: faults by kind.
    """

    steps: int = 0
    tasks: int = 0
    calls: int = 0
    struck: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Result") -> None:
        self.steps += other.steps
        self.tasks += other.tasks
        self.calls += other.calls
        self.struck += other.struck


class Play:
    """A campaign that is being run."""

    def __init__(self, campaign: Campaign, host: Host, folder: str) -> None:
        self.campaign, self.host = campaign, host
        self.world = ChaosWorld(campaign, folder, host, campaign.start)
        self.checks = ChaosChecks(self.world)
        self.result = Result()

    def run(self) -> Result:
        """Run all steps and the closing.

        :raises Failed: as soon as an invariant does not hold.
        """
        number = -1
        try:
            self.checks.truth()
            for number, step in enumerate(self.campaign.steps):
                self.world.log.append(f"-- step {number}: {step}")
                self._step(number, step)
                self.result.steps += 1
            self.world.log.append("-- closing")
            self._close()
        except AssertionError as error:
            raise Failed(f"step {number}: {error}", self.world.log) from error
        except Exception as error:
            raise Failed(f"step {number}: the test itself failed:\n{traceback.format_exc()}", self.world.log) from error
        finally:
            self.world.end()
        self.result.tasks = self.world.attempts
        self.result.calls = self.host.count(self.world.feed.provider)
        self.result.struck = self.world.struck
        return self.result

    def _step(self, number: int, step: Step) -> None:
        world = self.world
        world.now += timedelta(minutes=10)
        world.tell_vendor()
        if step.kind in VENDOR:
            self._change(step)
            self.checks.truth()
            return
        if step.kind in CLOCK:
            self._set_clocks(step)
            return
        world.faults, world.hurried = list(step.faults), bool(step.vendor)
        self.host.vendor_faults(world.feed.provider, step.vendor, f"{self.campaign.seed}/{number}/vendor")
        self.host.store_faults(self.campaign.store_kinds, step.store, f"{self.campaign.seed}/{number}/store")
        world.grain, world.feed = step.grain or world.grain, world.feeds[step.second]
        try:
            if step.kind in UPKEEP:
                self._upkeep(step)
            else:
                getattr(self, f"_{step.kind}")(step)
        finally:
            self.host.calm()
            world.faults, world.hurried, world.meanwhile, world.feed = [], False, [], world.feeds[0]
        world.struck += Counter(self.host.struck())
        if world.active or world.ended:
            self.checks.after_step()
            self.checks.windows()

    # -- runs --------------------------------------------------------------------------------------------------------------------------

    def _dates(self, step: Step) -> dict[str, Any]:
        chosen = self.campaign.sessions[step.start : step.start + step.count]
        return {"start_date": chosen[0], "end_date": chosen[-1]}

    def _symbols(self, step: Step) -> tuple[str, ...]:
        return self.campaign.symbols[: step.universe or None]

    def _manual(self, step: Step, **params: Any) -> Run:
        return self.world.new("manual", self._symbols(step), **self._dates(step), **params)

    def _run(self, step: Step, **params: Any) -> None:
        """Make a run; what happens while it is stopped is a run of all sessions, which changes the same objects."""
        run, whole = self._manual(step, **params), replace(step, start=0, count=len(self.campaign.sessions))
        self.world.meanwhile = [lambda: self.world.work(self._manual(whole, force=True))]
        self.world.work(run)

    def _force(self, step: Step) -> None:
        self._run(step, force=True)

    def _night(self, step: Step) -> None:
        """Make the scheduled run of a session, which requests the sessions before it again."""
        run = self.world.new("scheduled", self._symbols(step), self.campaign.sessions[step.start])
        self.world.meanwhile = [lambda: self.world.work(self._manual(step))]
        self.world.work(run)

    def _pair(self, step: Step) -> None:
        """Make two runs of the same dates, task by task in turn; the other one is the first feed's."""
        first = self._manual(step, force=True)
        self.world.feed = self.world.feeds[0]
        second = self._manual(step)
        self.world.meanwhile = [lambda: self.world.work(second, 3)]
        while first in self.world.active or second in self.world.active:
            self.world.work(first, step.tasks)
            self.world.work(second, step.tasks)

    def _clear(self, step: Step) -> None:
        """Clear the last run that ended; without one, make it first."""
        ended = [run for run in self.world.ended if run.info.run_type == "manual" and run.wanted.own]
        if not ended:
            self._run(step)
            return
        self._again(ended[-1])

    def _clear_mid(self, step: Step) -> None:
        """Clear a run in its middle."""
        run = self._manual(step)
        self.world.work(run, step.tasks)
        if run in self.world.active:
            self.world.kill(run)
        self._again(run)

    def _again(self, run: Run) -> None:
        info = RunInfo(run.info.dag_id, run.info.run_id, run.info.run_type, run.info.clear_number + 1, run.info.started)
        params = {name: getattr(run.context.params, name) for name in ("start_date", "end_date", "force")}
        self.world.now += timedelta(minutes=1)
        self.world.feed = run.context.feed
        self.world.work(self.world.make(info, run.symbols, None, **params))

    # -- the vendor --------------------------------------------------------------------------------------------------------------------

    def _change(self, step: Step) -> None:
        session, symbol = self.campaign.sessions[step.start], self.campaign.symbols[step.symbol]
        told, world = self.checks.told, self.world
        world.change(step.kind, symbol, session)
        if step.kind == "bad":
            told.bad.add((symbol, session))

    def _set_clocks(self, step: Step) -> None:
        """Set the clock of all hosts, the vendor's apart; never back to before the last session's end."""
        world, before = self.world, self.world.now
        world.now = max(before + timedelta(seconds=step.seconds), self.campaign.start - timedelta(hours=3))
        world.vendor_ahead += before - world.now
        world.struck["clock set"] += 1

    # -- upkeep ------------------------------------------------------------------------------------------------------------------------

    def _upkeep(self, step: Step) -> None:
        if not self.world.ended:
            return
        for number in (1, 2, 3):
            outcome = self.world.attempt("upkeep", lambda: UPKEEP_JOBS[step.kind](self.world, step), None, number)
            if outcome.kind in ("crash", "hung"):
                raise AssertionError(f"{step.kind}: {outcome.text}")
            if outcome.kind == "ok":
                return

    def _close(self) -> None:
        world = self.world
        for run in list(world.active):
            world.kill(run)
        world.restored()
        self.checks.truth()
        world.now += timedelta(days=40)  # every cell is final by now
        world.tell_vendor()
        first, last = self.campaign.sessions[0], self.campaign.sessions[-1]
        run = world.new("manual", self.campaign.symbols, start_date=first, end_date=last, force=True)
        world.work(run)
        self.checks.after_step()
        self.checks.windows()
        self.checks.closing(run)


def _chosen(world: ChaosWorld, step: Step) -> Any:
    sessions = world.campaign.sessions[step.start : step.start + step.count]
    return replace(world.selection(), start=sessions[0], end=sessions[-1])


def _compact(world: ChaosWorld, step: Step) -> None:
    compact(world.lake, world.selection(), world.now)


def _fold(world: ChaosWorld, step: Step) -> None:
    selection = world.selection()
    fold_ledger(world.lake, selection.dataset.name, selection.source, world.now + timedelta(days=2))


def _reset(world: ChaosWorld, step: Step) -> None:
    reset(world.lake, _chosen(world, step), Person("test", "chaos"), world.now, dry_run=False)


def _rebuild(world: ChaosWorld, step: Step) -> None:
    if world.selection().dataset.table:
        rebuild_warehouse(world.lake, world.warehouse, world.selection(), now=world.now)


def _audit(world: ChaosWorld, step: Step) -> None:
    """Audit and repair what the runs left."""
    found = audit(world.lake, world.warehouse, world.feed, _chosen(world, step), world.now, world.universe(), share=1.0)
    write_report(world.lake, found, world.now)
    plan = plan_repair(
        world.lake, world.feed, found.selection, found.findings, lambda options: world.open_hook(), world.now, world.now
    )
    repair(
        plan,
        world.lake,
        world.open_warehouse,
        lambda options: world.open_hook(),
        lambda: world.now,
        is_running=ended,
        by="test",
        reason="chaos",
    )


UPKEEP_JOBS = {"compact": _compact, "fold": _fold, "reset": _reset, "rebuild": _rebuild, "audit": _audit}


def play(campaign: Campaign, host: Host) -> Result:
    """Run a campaign in a folder of its own.

    :raises Failed: an invariant does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        os.environ["MARKET_DATA_LIMITS"] = f"{folder}/limits"
        try:
            made = Play(campaign, host, folder)
        except Exception as error:
            raise Failed(f"the campaign cannot begin:\n{traceback.format_exc()}", []) from error
        return made.run()
