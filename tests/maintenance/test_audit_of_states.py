"""Cells that are refused, quarantined, decided on or reset: what the audit finds of them, and that a repair keeps the decisions."""

from datetime import timedelta
from itertools import product

import pytest

from market_data.config.universes import Member, Universe
from market_data.core.outcome import State
from market_data.lake.decisions import Kind
from market_data.maintenance.audit import audit
from market_data.maintenance.findings import Cause, Repair
from market_data.maintenance.person import Person
from market_data.maintenance.release import decide
from market_data.maintenance.repair import repair
from market_data.maintenance.repair_plan import plan_repair
from market_data.maintenance.state import reset
from market_data.pipeline.selection import Selection
from tests.maintenance.altered import DAYS, HISTORY, SYMBOLS, TONIGHT, Nights
from tests.pipeline.runs import ended
from tests.tiers import tiers

ADA = Person("Ada", "checked with the vendor")
BAR = "symbol = 'S03' AND bar_time = TIMESTAMP '{}'"


class Audited(Nights):
    """Nights of a feed, audited over history and tonight."""

    def selection(self):
        context = self.context()
        return Selection(context.dataset, context.source, context.layout, None, DAYS[3], TONIGHT)

    def found(self):
        universe = Universe("test", tuple(map(Member, SYMBOLS)))
        with self.warehouse() as warehouse:
            return audit(self.lake, warehouse, self.feed, self.selection(), self.now, universe, share=1).findings

    def audited(self):
        """Return the number of findings by cause, repair and session."""
        found = {}
        for row in self.found().to_pylist():
            kind = (Cause(row["cause"]), Repair(row["repair"]), row["first_session"])
            found[kind] = found.get(kind, 0) + 1
        return found

    def repaired(self):
        findings = self.found()
        self.now += timedelta(minutes=1)
        plan = plan_repair(self.lake, self.feed, self.selection(), findings, lambda _: self.hook(), self.now, self.now)
        return plan, repair(
            plan, self.lake, self.warehouse, lambda _: self.hook(), lambda: self.now, is_running=ended, by="tests", reason="holes"
        )

    def change(self, statement):
        with self.warehouse() as warehouse, warehouse._transaction():
            warehouse._execute("change", statement)

    def decide(self, kind):
        with self.warehouse() as warehouse:
            return decide(self.lake, warehouse, self.selection(), kind, ADA, self.now, dry_run=False)

    def insert(self, session, like):
        names = "timeframe, provider, open_px, high_px, low_px, close_px, volume, row_hash, load_id, ingest_ts, loaded_at"
        self.change(
            f"INSERT INTO silver_prices (symbol, bar_time, {names}) SELECT symbol, TIMESTAMP '{session}', {names}"
            f" FROM silver_prices WHERE {BAR.format(like)}"
        )

    def lose_the_ledger(self):
        for key, _ in self.lake.list("manifest"):
            self.lake.delete(key)

    def records(self):
        table = self.coverage().table
        columns = (table[name].cast("string").to_pylist() for name in ("symbol", "session", "state", "reason"))
        return sorted(zip(*columns, strict=True))


@pytest.fixture
def world(tmp_path):
    world = Audited(tmp_path)
    world.history()
    return world


def refused(world):
    world.api.alter(None, TONIGHT, multiply=10)
    world.night(8)


def quarantined(world):
    world.api.alter("S03", TONIGHT, close=1000.0)
    world.night(8)
    assert world.state("S03", TONIGHT) is State.QUARANTINED


def test_refused_and_quarantined_cells_are_shown_and_nothing_else(world):
    refused(world)
    assert world.audited() == {(Cause.REFUSED, Repair.WAIT, TONIGHT): 21}
    world.now += timedelta(days=60)
    assert world.audited() == {(Cause.REFUSED, Repair.DECIDE, TONIGHT): 21}
    plan, _ = world.repaired()
    assert not plan
    assert any("21 findings left to a person: market-data release" in line for line in plan.sentences())


def test_a_quarantined_cell_is_shown(world):
    quarantined(world)
    assert world.audited() == {(Cause.QUARANTINED, Repair.WAIT, TONIGHT): 1}


def test_released_cells_are_in_order_and_are_repaired_as_any_other(world):
    refused(world)
    world.decide(Kind.RELEASE)
    assert world.audited() == {}
    silver = world.query("SELECT symbol, close_px FROM silver_prices ORDER BY symbol, bar_time")
    world.change(f"DELETE FROM silver_prices WHERE {BAR.format(TONIGHT)}")
    world.change(f"UPDATE silver_prices SET close_px = close_px + 0.5 WHERE {BAR.replace('S03', 'S04').format(TONIGHT)}")
    assert world.audited() == {(Cause.NOT_LOADED, Repair.LOAD, TONIGHT): 1, (Cause.WAREHOUSE_CHANGED, Repair.LOAD, TONIGHT): 1}
    world.repaired()
    assert world.audited() == {}
    assert world.query("SELECT symbol, close_px FROM silver_prices ORDER BY symbol, bar_time") == silver


def test_values_confirmed_wrong_are_rightly_not_in_silver(world):
    refused(world)
    world.decide(Kind.CONFIRM)
    assert world.audited() == {}


def test_a_row_put_by_hand_where_values_were_confirmed_wrong_is_removed(world):
    refused(world)
    world.decide(Kind.CONFIRM)
    world.insert(TONIGHT, HISTORY[0])
    assert world.audited() == {(Cause.ONLY_IN_WAREHOUSE, Repair.REMOVE, TONIGHT): 1}
    _, done = world.repaired()
    assert done.removed == 1
    assert world.audited() == {}
    assert world.query(f"SELECT * FROM silver_prices WHERE {BAR.format(TONIGHT)}") == []


@pytest.mark.parametrize(
    ("held", "kind"),
    tiers(product([refused, quarantined], [Kind.RELEASE, Kind.CONFIRM]), (refused, Kind.RELEASE), (quarantined, Kind.CONFIRM)),
)
def test_a_rebuilt_ledger_keeps_the_decisions(world, held, kind):
    held(world)
    world.decide(kind)
    before = world.records()
    assert world.audited() == {}
    world.lose_the_ledger()
    world.now += timedelta(days=1)  # the run of tonight has had its time
    plan, _ = world.repaired()
    assert plan.calls == 0
    assert world.records() == before
    assert world.audited() == {}


def test_reset_cells_are_requested_by_a_repair_and_not_taken_from_receipts(world):
    world.night(8)
    selection = world.selection()
    chosen = Selection(selection.dataset, selection.source, selection.layout, ("S03",), HISTORY[1], HISTORY[2])
    reset(world.lake, chosen, ADA, world.now, dry_run=False)
    assert world.audited() == {(Cause.MISSING, Repair.FETCH, HISTORY[1]): 1}
    assert [row["detail"] for row in world.found().to_pylist()] == ["reset, and not requested since"]
    calls = len(world.api.calls)
    plan, done = world.repaired()
    assert (plan.calls, len(plan.fetch), len(plan.ledger)) == (1, 2, 0)
    assert len(world.api.calls) == calls + 1
    assert done.red == []
    assert world.state("S03", HISTORY[1]) is State.HAVE
    assert world.audited() == {}


def test_a_rerun_of_the_audited_days_finds_what_was_there(world):
    world.night(8)
    assert world.audited() == {}
    assert DAYS[8] == TONIGHT
