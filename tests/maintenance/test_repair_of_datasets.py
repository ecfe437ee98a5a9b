"""In every dataset, each kind of damage is found with its cause, and repaired; the second audit finds nothing."""

import shutil
from contextlib import contextmanager
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.config.universes import Member, Universe, members
from market_data.core import calendar
from market_data.datasets.registry import dataset
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.maintenance.audit import audit
from market_data.maintenance.findings import Cause, Repair
from market_data.maintenance.repair import repair
from market_data.maintenance.repair_plan import plan_repair
from market_data.pipeline.selection import Selection
from market_data.warehouse.schema import table
from sandbox.stack.__main__ import SAMPLE_DATES
from tests.pipeline.conftest import api, gateway  # noqa: F401 - fixtures
from tests.pipeline.runs import World, ended
from tests.pipeline.test_every_feed import FEEDS, make_hook  # noqa: F401 - a fixture

VALUES = {
    "prices": "close",
    "trades": "price",
    "fundamentals": "value",
    "corporate_actions": "frequency",
    "symbol_changes": "issuer",
}


class Damaged(World):
    """The runs of a feed, what is damaged by hand, its audit and its repair."""

    def prepare(self, **params):
        self.kind = dataset(self.feed.dataset)
        dates = ("2026-11-12", "2026-11-16") if self.feed.provider == "ib" else SAMPLE_DATES[self.kind.name]
        first, last = map(date.fromisoformat, dates)
        self.symbols = ("META",) if self.kind.name == "symbol-changes" else members(self.feed.universe, last)[:4]
        self.sessions = calendar.sessions(first, last + timedelta(days=1))
        _, report = self.run(self.sessions, self.symbols, self.context(**params))
        assert report["red"] == []
        assert report["rows_landed"] > 0

    def copied(self, folder):
        shutil.copytree(self.folder, folder)
        other = Damaged(self.feed, folder, self.make_hook)
        for name in ("kind", "symbols", "sessions", "now"):
            setattr(other, name, getattr(self, name))
        return other

    @property
    def selection(self):
        source = self.make_hook().source
        return Selection(self.kind, source, Layout(), None, self.sessions[0], self.sessions[-1])

    def audited(self, share=1.0):
        universe = Universe("test", tuple(map(Member, self.symbols)))
        with self.warehouse() as opened:
            return audit(self.lake, opened, self.feed, self.selection, self.now, universe, share=share)

    def kinds(self, share=1.0):
        rows = self.audited(share).findings.to_pylist()
        return {(Cause(row["cause"]), Repair(row["repair"])) for row in rows}

    @contextmanager
    def opened(self, options=None):
        with self.hook() as hook:
            yield hook

    def repaired(self):
        found = self.audited()
        self.now += timedelta(minutes=5)
        plan = plan_repair(self.lake, self.feed, self.selection, found.findings, self.opened, self.now, self.now)
        assert plan.problem == ""
        self.now += timedelta(minutes=5)
        done = repair(plan, self.lake, self.warehouse, self.opened, lambda: self.now, is_running=ended, by="tests", reason="damage")
        self.now += timedelta(minutes=5)
        return plan, done

    def silver(self):
        """Return key and values of all rows, sorted."""
        chosen = table(self.kind.table)
        names = ", ".join(column.name for column in (*chosen.key, *chosen.values))
        key = ", ".join(column.name for column in chosen.key)
        return self.query(f"SELECT {names} FROM {chosen.silver} ORDER BY {key}")

    def raw(self):
        return [key for key, _ in self.lake.list("raw")]

    def change(self, statement):
        with self.warehouse() as warehouse, warehouse._transaction():
            warehouse._execute("change", statement)

    # -- damages ---------------------------------------------------------------------------------------------------------------------

    def first_key(self):
        """Return a condition on one row of silver."""
        chosen = table(self.kind.table)
        row, parts = self.silver()[0], []
        for column in chosen.key:
            value = row[column.name]
            kind = {"timestamp": "TIMESTAMP ", "date": "DATE "}.get(column.type, "")
            parts.append(f"{column.name} = {value}" if isinstance(value, int) else f"{column.name} = {kind}'{value}'")
        return " AND ".join(parts)

    def lose_a_row(self):
        self.change(f"DELETE FROM {table(self.kind.table).silver} WHERE {self.first_key()}")
        return Cause.NOT_LOADED, Repair.LOAD

    def alter_a_row(self):
        chosen = table(self.kind.table)
        column = next(column for column in chosen.values if column.source == VALUES[chosen.name])
        value = "'other'" if chosen.name == "symbol_changes" else f"COALESCE({column.name}, 0) + 1"
        if chosen.name == "prices":
            self.change(f"UPDATE {chosen.silver} SET high_px = high_px + 1 WHERE {self.first_key()}")
        self.change(f"UPDATE {chosen.silver} SET {column.name} = {value} WHERE {self.first_key()}")
        return Cause.WAREHOUSE_CHANGED, Repair.LOAD

    def lose_the_warehouse(self):
        (self.folder / "warehouse.duckdb").unlink()
        return Cause.NOT_LOADED, Repair.LOAD

    def lose_an_object(self):
        self.lake.delete(self.raw()[0])
        return Cause.OBJECT_MISSING, Repair.FETCH

    def truncate_an_object(self):
        path = self.folder / "lake" / self.raw()[0]
        path.write_bytes(path.read_bytes()[:-7])
        return Cause.OBJECT_UNREADABLE, Repair.FETCH

    def alter_an_object(self):
        path = self.folder / "lake" / self.raw()[0]
        rows = parquet.decode_rows(path.read_bytes(), "x", self.kind)
        name = VALUES[self.kind.table]
        kind = rows.schema.field(name).type
        other = (
            pa.repeat(pa.scalar("other"), len(rows))
            if pa.types.is_string(kind)
            else pc.add(pc.fill_null(rows[name], 0), 1).cast(kind)
        )
        path.write_bytes(parquet.encode(rows.set_column(rows.column_names.index(name), rows.schema.field(name), other)))
        return Cause.OBJECT_CHANGED, Repair.FETCH

    def lose_the_ledger(self):
        for key, _ in self.lake.list("manifest"):
            self.lake.delete(key)
        return Cause.NOT_RECORDED, Repair.LEDGER


DAMAGES = [name for name in vars(Damaged) if name.startswith(("lose_", "alter_", "truncate_"))]
CHOSEN = [
    ("fmp_fundamentals", "day"),
    *(
        pytest.param(chosen, marks=pytest.mark.slow)
        for chosen in [
            ("databento_trades", "day"),
            ("polygon_corporate_actions", "year"),
            ("polygon_symbol_changes", "day"),
            ("polygon_ohlcv_1m", "year"),
            ("ib_ohlcv_1d", "day"),
        ]
    ),
]
"""Feed and grain: the year files of bars within the day are month files."""


@pytest.fixture(params=CHOSEN, ids=lambda one: f"{one[0]}-{one[1]}")
def healthy(request, make_hook, tmp_path):  # noqa: F811
    dag_id, grain = request.param
    (tmp_path / "healthy").mkdir()
    world = Damaged(FEEDS[dag_id], tmp_path / "healthy", lambda: make_hook(FEEDS[dag_id]))
    world.prepare(file_grain=grain)
    return world


@pytest.mark.timeout(1800)
def test_every_damage_is_found_and_repaired(healthy, tmp_path):
    assert healthy.audited().findings.to_pylist() == []
    assert healthy.audited(0.3).findings.to_pylist() == []
    silver = healthy.silver()
    for name in DAMAGES:
        world = healthy.copied(tmp_path / name)
        expected = getattr(world, name)()
        assert world.kinds() >= {expected}, name
        _, done = world.repaired()
        assert done.red == [], name
        assert world.silver() == silver, name
        assert world.audited().findings.to_pylist() == [], name
