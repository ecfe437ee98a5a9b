"""Holes at random are all repaired with the fewest calls, and nothing but the gaps is touched."""

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data.maintenance import journal
from market_data.maintenance.audit import audit
from market_data.maintenance.findings import Cause, Repair
from market_data.maintenance.repair import repair
from market_data.maintenance.repair_plan import plan_repair
from tests.maintenance.holes import Holes, expanded
from tests.maintenance.vendors import WorldHook
from tests.maintenance.worlds import NOW, make_world
from tests.pipeline.runs import ended

SILVER = "SELECT symbol, bar_time, open_px, high_px, low_px, close_px, volume, vwap, trade_count FROM silver_prices ORDER BY 1, 2"
LATER = NOW + timedelta(hours=1)


class Repairs:
    """A world, what is found in it, and repairs."""

    def __init__(self, world):
        self.world, self.calls = world, []

    def found(self, now=NOW):
        world = self.world
        return audit(world.lake, world.warehouse, world.feed, world.selection, now, world.universe, share=1).findings

    def plan(self, findings):
        return plan_repair(self.world.lake, self.world.feed, self.world.selection, findings, self.hook, NOW, LATER)

    def hook(self, options=None):
        return WorldHook(self.world.rows, LATER, self.calls)

    @contextmanager
    def opened(self):
        yield self.world.warehouse

    def repair(self, plan):
        return repair(plan, self.world.lake, self.opened, self.hook, lambda: LATER, is_running=ended, by="tests", reason="holes")

    def raw(self):
        return {key: hashlib.sha256(self.world.lake.get(key).body).digest() for key, _ in self.world.lake.list("raw")}

    def silver(self):
        return self.world.warehouse.query(SILVER)


def check(world, holes, healthy):
    """Repair a world with holes, and compare everything with the healthy world and with itself before.

    :param healthy: silver before the holes.
    """
    repairs = Repairs(world)
    findings = repairs.found()
    before, cells = repairs.raw(), dict(expanded(findings))
    of_fetch = {cell for cell, (_, what) in cells.items() if what is Repair.FETCH}
    plan = repairs.plan(findings)
    assert set(zip(plan.fetch["symbol"].to_pylist(), plan.fetch["session"].to_pylist(), strict=True)) == of_fetch
    assert repairs.calls == []
    done = repairs.repair(plan)
    assert done.red == []
    assert len(repairs.calls) == plan.calls
    requested = {(s, d) for symbols, intervals in repairs.calls
                 for d in world.sessions if any(d in one for one in intervals) for s in symbols}  # fmt: skip
    assert requested == of_fetch
    # The runs of a feed find suspected gaps, of which this world has records without their reason.
    again = {cell: what for cell, what in expanded(repairs.found(LATER)) if what[0] is not Cause.SUSPECTED_GAP}
    assert not again, list(again.items())[:5]
    assert repairs.silver().equals(healthy)
    touched = {world.key(*cell) for cell in of_fetch}
    after = repairs.raw()
    written = {key for key in after if after[key] != before.get(key)}
    foreign = [key for key in written if not holds_one_of(key, of_fetch)]
    assert not foreign, foreign[:3]
    assert {key for key in before if key not in after} <= touched
    (entry,) = journal.entries(world.lake, "repair")
    assert (entry.by, entry.reason, entry.what["calls"]) == ("tests", "holes", plan.calls)
    return repairs, plan


def holds_one_of(key, cells):
    return any(
        f"symbol={symbol}/" in key and key.endswith((f"{day}.parquet", f"{symbol}-{day.year}.parquet")) for symbol, day in cells
    )


@pytest.mark.timeout(900)
def test_every_kind_of_hole_is_repaired_and_nothing_else_is_touched(tmp_path):
    world = make_world(tmp_path, 10, 1)
    healthy = Repairs(world).silver()
    holes = Holes(world, 1)
    holes.make(len(holes._kinds), ledger_objects=2)
    repairs, plan = check(world, holes, healthy)
    assert plan.calls == fewest(world, plan)
    assert not repairs.plan(repairs.found(LATER))
    added = [pq.read_table(pa.BufferReader(body)) for body in removed(world.lake)]
    assert [(len(rows), rows["volume"][0].as_py() is not None) for rows in added] == [(1, True)]


def removed(lake):
    """Return the copies of the rows that repairs removed from the warehouse."""
    return [lake.get(key).body for key, _ in lake.list("repairs") if "/removed-" in key]


def fewest(world, plan):
    """The calls of the cheapest cover of the cells by symbols and sessions: as many as the largest matching (Koenig)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    pairs = list(zip(plan.fetch["symbol"].to_pylist(), plan.fetch["session"].to_pylist(), strict=True))
    symbols, sessions = sorted({s for s, _ in pairs}), sorted({d for _, d in pairs})
    rows, columns = [symbols.index(s) for s, _ in pairs], [sessions.index(d) for _, d in pairs]
    graph = csr_matrix(([1] * len(pairs), (rows, columns)), shape=(len(symbols), len(sessions)))
    return int((maximum_bipartite_matching(graph) >= 0).sum())


@pytest.mark.slow
def test_five_hundred_holes_in_two_years_of_505_symbols(tmp_path):
    """They are repaired in year files: as day files, the years among the holes take ten minutes."""
    world = make_world(tmp_path, 505)
    healthy = Repairs(world).silver()
    holes = Holes(world, 3)
    holes.make(500, ledger_objects=4)
    plan = Repairs(world).plan(Repairs(world).found())
    assert plan.calls == fewest(world, plan)
    world.feed = replace(world.feed, params={**world.feed.params, "file_grain": "year"})
    check(world, holes, healthy)
