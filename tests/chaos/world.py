"""The runs of a campaign: each task in a process of its own, which is killed, stopped and retried."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from market_data import pipeline
from market_data.config.universes import Member, Universe
from market_data.core.batch import Batch
from market_data.core.run import RunInfo
from market_data.datasets.registry import dataset as find_dataset
from market_data.lake.conditional import check_conditional_put
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.pipeline.selection import Selection
from market_data.warehouse.base import Warehouse
from market_data.warehouse.schema import table as warehouse_table
from tests.chaos.calls import CallBook
from tests.chaos.draw import Campaign
from tests.chaos.hasten import hasten
from tests.chaos.mutants import MUTANTS
from tests.chaos.opening import Opening
from tests.chaos.outside import begin_outside
from tests.chaos.points import Fault, Points
from tests.chaos.processes import PATIENCE, Child, Outcome
from tests.chaos.retries import TRIES, judged, migrated_file
from tests.chaos.servers import Host
from tests.chaos.snapshot import Snapshot, take
from tests.pipeline.model_run import ModelWorld, Run
from tests.pipeline.runs import feed_of


class Calls:
    """Tells the model's steps whose responses came; here the server's log does."""

    responses: Sequence[Any] = ()

    def __init__(self, listed: Sequence[str]) -> None:
        self.listed = listed


class ChaosWorld(ModelWorld):
    """A lake, a warehouse, servers, and the runs of a campaign.

    :param now: the moment at which the campaign begins.
    :ivar faults: those that have not struck yet, in the current step.
    :ivar meanwhile: what happens while a task is stopped; each once.
    :ivar log: a line per task, for the report of a failure.
    """

    def __init__(self, campaign: Campaign, folder: Path, host: Host, now: datetime) -> None:
        self.campaign, self.folder, self.host, self.now = campaign, folder, host, now
        self.feed, self.grain = feed_of(campaign.kind.dag_id), campaign.grain
        self.feeds = (self.feed, replace(self.feed, name="second"))
        self.vendor = Calls(campaign.symbols)
        self.params: dict[str, Any] = {"batch_size": campaign.batch_size}
        self.active: list[Run] = []
        self.ended: list[Run] = []
        self.judge: Callable[[Run], None] = lambda run: None
        self.states: Callable[[], dict] = dict
        self.judge_warehouse: Callable[[], None] = lambda: None
        self.faults: list[Fault] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.struck: Counter[str] = Counter()
        self.log: list[str] = []
        self.attempts = self.ended_tries = 0
        self.stopped: list[Child] = []
        self.vendor_ahead = timedelta()
        """The vendor's clock is right when those of all hosts are set."""
        self.uncounted: set[float] = set()
        """Moments of calls that no run made."""
        self.hidden_once: set[tuple[str, date]] = set()
        self.corrections: list[tuple[str, date, float]] = []
        self.lake = None  # opened by each process for itself
        self.opening = Opening.of(campaign, folder, self.feed, host, now)
        self.book = CallBook(lambda: [moment for moment, *_ in host.calls(self.feed.provider)])
        self.stops = any(fault.kind == "stop" for step in campaign.steps for fault in step.faults)
        if campaign.engine == "duckdb":
            Path(folder, "warehouse.duckdb").write_bytes(migrated_file())
        self.must(lambda world: world.opening.prepare())

    # -- what a process opens --------------------------------------------------------------------------------------------------------

    def open_lake(self) -> Lake:
        return self.opening.lake()

    def open_warehouse(self) -> Warehouse:
        return self.opening.warehouse()

    def open_hook(self, *, limited: bool = True) -> Any:
        """Return the hook of the feed on the servers; ``limited``: the account has its limit."""
        return self.opening.hook(lambda: self.now, hurried=self.hurried, limited=limited)

    def selection(self) -> Selection:
        context = self.ended[-1].context if self.ended else self.active[-1].context
        return Selection(context.dataset, context.source, Layout())

    def universe(self) -> Universe:
        return Universe("chaos", tuple(map(Member, self.campaign.symbols)))

    def tell_vendor(self) -> None:
        """Let time pass at the vendor."""
        self.host.set_now(self.now + self.vendor_ahead)

    # -- the vendor ------------------------------------------------------------------------------------------------------------------

    def change(self, kind: str, symbol: str, session: date) -> None:
        """Let the vendor serve something else from now on: a correction, no row, a row that the gate rejects, a strange session."""
        if kind == "hide":
            self.hidden_once.add((symbol, session))
            self.host.hide(session, [symbol])
        elif kind == "bad" and self.is_daily:
            self.host.alter(symbol, session, high=0.01)
        elif kind == "strange" and self.is_daily:
            self.host.alter(None, session, multiply=10)
        elif self.feed.dataset not in ("trades", "tbbo"):  # other prices would be other trades
            self.corrections.append((symbol, session, 1 + (len(self.corrections) + 1) / 100))
            self.host.alter(symbol, session, multiply=self.corrections[-1][-1])

    def restored(self) -> None:
        """Let the vendor be right again: corrections stay."""
        self.host.restore()
        for symbol, session, factor in self.corrections:
            self.host.alter(symbol, session, multiply=factor)

    @property
    def is_daily(self) -> bool:
        return self.feed.dataset == "ohlcv-1d"

    # -- processes -------------------------------------------------------------------------------------------------------------------

    def must(self, body: Callable[["ChaosWorld"], Any]) -> Any:
        """Return what ``body`` returns in a process without faults; a cut that waits for a task's next message may take the first."""
        self.host.pause_store_faults(True)

        def work(struck: list[str]) -> Any:
            hasten(stops=self.stops)
            return body(self)

        outcome = Child(work, judged).wait()
        if outcome is not None and outcome.kind == "error" and outcome.retries:
            self._let_go_on(self.stopped)
            outcome = Child(work, judged).wait()
        self.host.pause_store_faults(False)
        if outcome is None or outcome.kind != "ok":
            raise RuntimeError(outcome.text if outcome else "a process of the test hangs")
        return outcome.value

    def attempt(self, name: str, body: Callable[[], Any], run: Run | None, number: int) -> Outcome:
        """Run ``body`` once, in a process with the faults of task ``name``."""
        mine = [fault for fault in self.faults if fault.task == name]
        self.faults = [fault for fault in self.faults if fault.task != name]  # what happens meanwhile has the others
        begin_outside(self, mine)

        def work(struck: list[str]) -> Any:
            hasten(stops=self.stops)
            if self.campaign.mutant:
                MUTANTS[self.campaign.mutant].apply()
            Points([] if number > TRIES else mine, struck).arm(self.open_warehouse())
            if self.campaign.serial:
                Lake.each = lambda lake, operation, items, *, concurrency=1: map(operation, items)  # type: ignore[assignment, method-assign]
            if run is not None:
                run.skew += sum((timedelta(seconds=fault.number) for fault in mine if fault.kind == "skew"), timedelta())
            return self._inside(body, run)

        self.attempts += 1
        of_run = run.name if run is not None else ""
        with self.book.of_try(of_run, name) as told:
            outcome = self._wait(Child(work, lambda error: judged(error, run, number)))
            told(outcome)
        self.ended_tries += 1
        if self.hurried:
            self.book.given_up.add(of_run)
        if any(fault.kind == "full" for fault in mine):
            self.book.unclear.add(of_run)
        self.faults += self._left_of(mine, outcome)
        if outcome.kind != "ok" and name in ("load", "upkeep"):
            self.judge_warehouse()
        self.log.append(f"{of_run} {name} try {number}: {outcome.kind} {outcome.text.splitlines()[-1] if outcome.text else ''}")
        return outcome

    def _left_of(self, faults: Sequence[Fault], outcome: Outcome) -> list[Fault]:
        """Count the faults that struck, and return the others."""
        left = []
        kills = [fault for fault in faults if fault.kind == "kill"] if outcome.kind == "killed" else []
        killer = min(kills, key=lambda fault: fault.number, default=None)  # the likely one of several
        for fault in faults:
            killed = fault is killer
            if self.campaign.engine != "duckdb" and fault.kind in ("held", "cut", "full") and fault.task != "fetch":
                self.struck[fault.kind] += str(fault) in outcome.struck  # the database's server counts its own
                continue
            if killed or fault.kind == "held" or str(fault) in outcome.struck:
                self.struck[fault.kind] += 1
            else:
                left.append(fault)
        return left

    @property
    def silver(self) -> str | None:
        """The table that the feed's rows are loaded into; None: they are not loaded."""
        name = find_dataset(self.feed.dataset).table
        return warehouse_table(name).silver if name else None

    def _inside(self, body: Callable[[], Any], run: Run | None) -> Any:
        """Run ``body`` with what this process opens."""
        self.lake, self.warehouse = self.open_lake(), self.open_warehouse()
        if run is None:
            return body()
        run.context = replace(run.context, lake=self.lake)
        with self.open_hook() as run.hook, self.warehouse:
            return body()

    hurried = False

    def _wait(self, child: Child) -> Outcome:
        """Wait for a process; while it is stopped, let something else happen."""
        while True:
            others = [other for other in self.stopped if other.stopped]
            outcome = child.wait(PATIENCE if others else 240.0)
            if outcome is not None:
                return outcome
            if child.stopped:
                self.stopped.append(child)
                if self.meanwhile:
                    self.meanwhile.pop(0)()
                self.stopped.remove(child)
                child.go_on()
            elif others:
                self._let_go_on(others)
            else:
                child.kill()
                return Outcome("hung", text="a task hangs")

    def _let_go_on(self, others: Sequence[Child]) -> None:
        """Let stopped processes go on: one may hold what another one waits for."""
        for other in [other for other in others if other.stopped]:
            self.book.unclear |= {run.name for run in self.active}  # from here on two of them make calls
            other.go_on()

    def task(self, run: Run, name: str, body: Callable[[], Any]) -> Any:
        """Return the result of a task, tried as Airflow does; None if it fails."""
        for number in range(1, TRIES + 1):
            self.now += timedelta(seconds=7)
            self.tell_vendor()
            outcome = self.attempt(name, body, run, number)
            if outcome.kind == "ok":
                return outcome.value
            if outcome.kind in ("crash", "hung"):
                raise AssertionError(f"{name} of {run.name}: {outcome.text}")
            if run not in self.active:  # cleared meanwhile
                break
            if not outcome.retries:
                break
            self.now += timedelta(seconds=outcome.delay)
        run.failed.append(f"{name}: {outcome.text}")
        return None

    # -- runs ------------------------------------------------------------------------------------------------------------------------

    def hook_of(self, info: RunInfo) -> Any:
        return None  # opened by each process for itself

    def _plan(self, run: Run) -> Any:
        """Return what the task hands on: summary and batches."""
        planned = super()._plan(run)
        if planned.plan.batches:
            check_conditional_put(run.context.lake)
        handed_on = json.loads(json.dumps([planned.summary, [batch.to_json() for batch in planned.plan.batches]]))
        return SimpleNamespace(summary=handed_on[0], plan=SimpleNamespace(batches=tuple(map(Batch.from_json, handed_on[1]))))

    def has_leftovers(self, run: Run) -> bool:
        """Look as the tasks `check` and `publish` do before their work: the store may fail, and Airflow tries again."""
        return bool(self.task(run, "leftovers", lambda: ModelWorld.has_leftovers(self, run)))

    def _fetch(self, run: Run, batch: Batch) -> None:
        receipt = self.task(run, "fetch", lambda: pipeline.fetch_batch(run.context, run.hook, batch, lambda: self.now + run.skew))
        if receipt is None:
            run.errors[batch.id] = run.failed[-1]
        else:
            run.receipts.append(receipt)

    def snapshot(self) -> Snapshot:
        """Return what there is."""
        dataset, source = self.selection().dataset, self.selection().source

        def read(world: "ChaosWorld") -> Snapshot:
            with world.open_warehouse() as warehouse:
                return take(world.open_lake(), warehouse, dataset, source)

        self.seen = self.must(read)
        return self.seen

    def report(self, run: Run) -> dict[str, Any]:
        return self.seen.reports.get(run.published["report"], {}) if run.published else {}

    def has_flag(self, run: Run) -> bool:
        return bool(run.published) and run.published["report"].removesuffix(".json") + ".flag" in self.seen.flags

    def end(self) -> None:
        for child in self.stopped:
            with contextlib.suppress(ProcessLookupError, ChildProcessError, OSError):
                child.kill()
