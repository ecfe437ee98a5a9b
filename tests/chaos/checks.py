"""What must hold after each step of a campaign, and after its closing run without faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from market_data import pipeline
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.store import Lake
from market_data.maintenance.audit import audit
from market_data.maintenance.ledger_rebuild import rebuild_ledger
from sandbox.call_log import most_in
from tests.chaos.snapshot import Print, Snapshot, lake_rows, loads_without_audit, prints
from tests.chaos.world import ChaosWorld
from tests.pipeline.model_checks import Checks, cells_of, recorded_states, some
from tests.pipeline.model_run import Run
from tests.pipeline.model_vendor import Cell


@dataclass
class Told:
    """What the vendor served at any time of the campaign.

    :param ever: cell -> all its prints. ``now``: cell -> the current one of each endpoint. ``best``: that of the last endpoint, which has
        all values. ``reached``: cells of which the lake had it, once.
    :param bad: cells that ever had a row which the gate rejects; ``spoilt``: sessions that the checkpoint ever had to refuse.
    """

    ever: dict[Cell, set[Print]] = field(default_factory=dict)
    now: dict[Cell, set[Print]] = field(default_factory=dict)
    best: dict[Cell, Print] = field(default_factory=dict)
    reached: set[Cell] = field(default_factory=set)
    bad: set[Cell] = field(default_factory=set)
    spoilt: set[Any] = field(default_factory=set)


class ChaosChecks(Checks):
    """The invariants of the model, of what real processes left in real stores."""

    world: ChaosWorld

    def __init__(self, world: ChaosWorld) -> None:
        super().__init__(world, world.campaign.symbols)
        self.told = Told()
        self.seen = Snapshot()
        self._at = -1
        world.judge = self.judge
        world.states = dict
        world.judge_warehouse = self.whole_loads

    # -- what there is -----------------------------------------------------------------------------------------------------------------

    def look(self) -> Snapshot:
        """Read everything, unless nothing happened since."""
        if self._at != self.world.ended_tries:
            self.seen, self._at = self.world.snapshot(), self.world.ended_tries
        return self.seen

    def silver(self) -> dict[Cell, Any]:
        return dict(self.look().silver)

    def lake(self) -> dict[Cell, Any]:
        return dict(self.look().lake)

    def ledger(self) -> dict[Cell, tuple[State, str]]:
        return self.look().ledger

    def staged(self) -> dict[Cell, list[str]]:
        return self.look().staged

    def truth(self) -> None:
        """Learn what the vendor serves now, by a run into an empty lake; by one for each endpoint that serves other values."""
        world = self.world
        before, best = world.host.calls(world.feed.provider), self.told.best
        self.told.now = {}
        for endpoint in world.campaign.kind.endpoints:
            self.told.best = world.must(partial(_served, endpoint=endpoint))
            for cell, found in self.told.best.items():
                self.told.now.setdefault(cell, set()).add(found)
        self.told.reached = {cell for cell in self.told.reached if self.told.best.get(cell) == best[cell]}
        for cell, served in self.told.now.items():
            self.told.ever.setdefault(cell, set()).update(served)
        world.uncounted |= {moment for moment, *_ in world.host.calls(world.feed.provider)} - {moment for moment, *_ in before}

    # -- after each step ---------------------------------------------------------------------------------------------------------------

    def judge(self, run: Run) -> None:
        """Check the verdict of a run that ended, that it has what it requested, and that its calls are explained."""
        self.look()
        if self._has_table:
            self.verdict(run)
        self.requested_again(run)
        document = self.world.report(run)
        if document:
            trouble = self.world.book.explained(run.name, document, sum(batch.calls for batch in run.batches))
            self.demand(not trouble, "the calls are not explained", run.name, trouble)

    def requested_again(self, run: Run) -> None:
        """A green run that requests everything again (forced, cleared) leaves what the vendor has now, a correction included."""
        if not run.green or not (run.context.params.force or run.info.clear_number):
            return
        # Where clocks were set back, its sessions may not be over.
        waits = "Not available yet" in run.text and all(str(session) in run.text for _, session in run.own)
        self.demand(
            waits or self.world.book.of_run(run.name).made > 0, "a run that requests everything again made no call", run.name
        )
        allowed = self._allowed(run)
        for cell in run.own:
            state, _ = self.seen.ledger.get(cell, (None, ""))
            if state is State.HAVE and cell in self.told.now:
                found, right = self.seen.lake.get(cell), allowed[cell]
                self.demand(found in right, "requested again, and the lake has not what the vendor has", cell, found, right)

    def _allowed(self, run: Run) -> dict[Cell, set[Print]]:
        """Return what the lake may have of each cell that ``run`` requested again: with all values, if its endpoint has all."""
        last = self.world.campaign.kind.endpoints[-1]
        whole = {cell for batch in run.batches if batch.endpoint == last for cell in cells_of(batch)}
        return {cell: {self.told.best[cell]} if cell in whole and cell in self.told.best else found
                for cell, found in self.told.now.items()}  # fmt: skip

    def whole_loads(self) -> None:
        """After a load that did not end well: all of it is in the warehouse, or nothing."""
        if self._has_table:
            found = self.world.must(_loads_without_audit)
            self.demand(not found, "a part of a load is in the warehouse", found)

    @property
    def _has_table(self) -> bool:
        return bool(self.world.selection().dataset.table)

    def after_step(self) -> None:
        """Check what holds at any time."""
        seen = self.look()
        self.demand(not seen.twice, "rows are stored twice", seen.twice[:3])
        self.demand(not seen.strays, "silver has rows that the lake lacks", seen.strays)
        for cell, found in seen.lake.items():
            self.demand(found in self.told.ever.get(cell, ()), "the lake has what the vendor never served", cell, found)
        for cell, best in self.told.best.items():
            if seen.lake.get(cell) == best:
                self.told.reached.add(cell)
            kept = cell not in self.told.reached or seen.lake.get(cell) == best
            self.demand(kept, "the lake had what the vendor has, and lost a value", cell, seen.lake.get(cell), best)
        if self._has_table:
            self.loaded()
        for cell, (state, reason) in seen.ledger.items():
            empty = state is State.EMPTY and cell in self.told.now and not self._was_hidden(cell)
            self.demand(not empty, "empty, and the vendor has rows", cell, reason)
        twice = () if self.world.struck["vendor duplicated"] else seen.copies
        self.demand(not twice, "copies are in quarantine, and the vendor sent none", some(dict.fromkeys(twice, "quarantined")))
        wrong = seen.quarantined - self.told.bad
        self.demand(not wrong, "good rows are in quarantine", some(dict.fromkeys(wrong, "quarantined")))

    def _was_hidden(self, cell: Cell) -> bool:
        return cell in self.world.hidden_once

    def windows(self) -> None:
        """No window of the account's limit has too many calls, on the server's log."""
        calls, seconds = self.world.campaign.limit
        moments = [moment for moment, _, _ in self.world.host.calls(self.world.feed.provider) if moment not in self.world.uncounted]
        most = most_in(moments, seconds)
        self.demand(most <= calls, "a window of the limit is over", f"{most} calls in {seconds} s, {calls} are allowed")

    # -- at the end --------------------------------------------------------------------------------------------------------------------

    def closing(self, run: Run) -> None:
        """After a run of everything without faults: the lake, silver and the ledger have what the vendor has, and nothing else is left."""
        seen, now = self.look(), self._allowed(run)
        self.demand(run.green is True, "the closing run is red", repr(run.text))
        for cell, found in now.items():
            if cell in run.own:
                self.demand(seen.lake.get(cell) in found, "the lake has not what the vendor has", cell, seen.lake.get(cell), found)
                if self._has_table:
                    self.demand(
                        seen.silver.get(cell) == seen.lake[cell],
                        "silver has not what the vendor has",
                        cell,
                        seen.silver.get(cell),
                        found,
                    )
        for cell in run.own:
            state = seen.ledger.get(cell, (None, ""))[0]
            right = (State.HAVE,) if cell in now or cell in seen.lake else (State.EMPTY,)
            self.demand(state in right, "a wrong state after the closing run", cell, state, seen.ledger.get(cell))
        self.demand(not seen.staging_objects, "staging is not empty after the closing run", seen.staging_objects[:3])
        self.demand(self.world.has_flag(run), "the closing run has no completion flag", repr(run.text))
        found = self.world.must(_audited)
        self.demand(not found, "the audit finds something after the closing run", found)
        rebuilt = self.world.must(_rebuilt)
        own = set(run.own)
        differing = {cell: f"{state} by the ledger, {rebuilt.get(cell)} by receipts" for cell, (state, _) in seen.ledger.items()
                     if cell in own and rebuilt.get(cell) is not state}  # fmt: skip
        self.demand(not differing, "the ledger rebuilt from receipts differs", some(differing))


def _served(world: ChaosWorld, endpoint: str) -> dict[Cell, Print]:
    """Return the prints of what a run without faults writes into an empty lake."""
    with TemporaryDirectory() as folder:
        lake = Lake.open(f"file://{folder}/lake")
        info = RunInfo(world.feed.dag_id, "served", "manual", 0, world.now)
        first, last = world.campaign.sessions[0] - timedelta(days=14), world.campaign.sessions[-1]  # nights look back
        world.lake = lake
        grain = world.grain if endpoint == "auto" else "day"  # files of a year are not written from bulk files
        dates = {"start_date": first, "end_date": last}
        run = world.make(info, world.campaign.symbols, **dates, batch_size=25, endpoint=endpoint, file_grain=grain)
        with world.open_hook(limited=False) as hook:
            planned = pipeline.plan_run(run.context, hook, run.wanted, run.symbols, world.now)
            for batch in planned.plan.batches:
                pipeline.fetch_batch(run.context, hook, batch, lambda: world.now)
        return prints(lake_rows(lake, run.context.dataset, []), run.context.dataset)


def _loads_without_audit(world: ChaosWorld) -> list[str]:
    with world.open_warehouse() as warehouse:
        return loads_without_audit(warehouse, world.selection().dataset)


def _audited(world: ChaosWorld) -> list[str]:
    """Return the findings of an audit of everything."""
    first, last = world.campaign.sessions[0], world.campaign.sessions[-1]
    selection = replace(world.selection(), start=first, end=last)
    with world.open_warehouse() as warehouse:
        found = audit(
            world.open_lake(), warehouse, world.feed, selection, world.now + timedelta(minutes=1), world.universe(), share=1.0
        )
    columns = ("symbol", "first_session", "last_session", "cause", "detail", "repair", "key")
    return [str({name: row[name] for name in columns if row.get(name)}) for row in found.findings.to_pylist()][:5]


def _rebuilt(world: ChaosWorld) -> Mapping[Cell, State]:
    """Return the states of a ledger made from the receipts alone, in a copy of the lake."""
    selection, lake = world.selection(), world.open_lake()
    states = recorded_states(lake, selection.dataset.name, selection.source)
    with TemporaryDirectory() as folder, world.open_warehouse() as warehouse:
        copy = Lake.open(f"file://{folder}/lake")
        for key, _ in lake.list(""):
            stored = lake.get(key)
            if stored is not None and not key.startswith("manifest/"):
                copy.put_new(key, stored.body)
        cells = sorted(states)
        schema = pa.schema([CELLS.field("symbol"), CELLS.field("session")])
        table = pa.table([[symbol for symbol, _ in cells], [session for _, session in cells]], schema=schema)
        rebuild_ledger(copy, warehouse, selection, table)
        return {cell: state for cell, (state, _) in recorded_states(copy, selection.dataset.name, selection.source).items()}
