"""A lake folded by compaction, a folded ledger and PostgreSQL as the warehouse: damage is found and repaired there too."""

from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.config.universes import Member, Universe
from market_data.core import calendar
from market_data.datasets.registry import dataset
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.maintenance.audit import audit
from market_data.maintenance.compaction import compact
from market_data.maintenance.findings import Cause, Repair
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.maintenance.repair import repair
from market_data.maintenance.repair_plan import plan_repair
from market_data.pipeline.selection import Selection
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from tests.pipeline.runs import World, ended, feed_of
from tests.services import postgres_server

SYMBOLS = ["AAPL", "IBM"]
FIRST, SECOND = calendar.sessions(date(2026, 7, 1), date(2026, 7, 4)), calendar.sessions(date(2026, 8, 3), date(2026, 8, 5))
SILVER = "SELECT symbol, bar_time, open_px, close_px, volume FROM silver_prices ORDER BY 1, 2"


class Folded(World):
    """Two runs into PostgreSQL; their day files and ledger objects are folded."""

    def __init__(self, folder, connection):
        self.connection = connection
        super().__init__(feed_of("mock_ohlcv_1d"), folder, lambda: MockHook(ProviderConfig("mock_default", "")))
        with self.warehouse() as warehouse:
            warehouse.migrate()
        for number, sessions in enumerate((FIRST, SECOND)):
            self.run(sessions, SYMBOLS, self.context(f"r{number}"))
        self.now += timedelta(days=3)
        assert compact(self.lake, self.selection(), self.now).written > 0
        assert fold_ledger(self.lake, "ohlcv-1d", "mock", self.now).objects > 0
        assert not [key for key in self.keys("raw") if key.endswith(f"{FIRST[0]}.parquet")]
        assert self.keys("manifest") == [key for key in self.keys("manifest") if "/run=folded/" in key]
        self.now += timedelta(hours=1)

    def warehouse(self):
        return open_with_hooks(self.connection)

    def selection(self):
        # The dates between the runs are missing: they are left out.
        return Selection(dataset("ohlcv-1d"), "mock", Layout(), None, FIRST[0], FIRST[-1])

    def keys(self, prefix):
        return [key for key, _ in self.lake.list(prefix)]

    def findings(self, share=1.0):
        universe = Universe("test", tuple(map(Member, SYMBOLS)))
        with self.warehouse() as warehouse:
            return audit(self.lake, warehouse, self.feed, self.selection(), self.now, universe, share=share).findings

    def found(self, share=1.0):
        rows = self.findings(share).to_pylist()
        return [
            (row["symbol"], row["first_session"], row["last_session"], Cause(row["cause"]), Repair(row["repair"])) for row in rows
        ]

    @contextmanager
    def opened(self, options=None):
        with self.hook() as hook:
            yield hook

    def repaired(self):
        findings = self.findings()
        self.now += timedelta(minutes=5)
        plan = plan_repair(self.lake, self.feed, self.selection(), findings, self.opened, self.now, self.now)
        self.now += timedelta(minutes=5)
        return repair(plan, self.lake, self.warehouse, self.opened, lambda: self.now, is_running=ended, by="tests", reason="damage")

    def change(self, statement):
        with self.warehouse() as warehouse, warehouse._transaction():
            warehouse._execute("change", statement)


@pytest.fixture
def world(tmp_path):
    with postgres_server.empty_database(tmp_path) as connection:
        yield Folded(tmp_path, connection)


def test_what_is_folded_is_in_order_and_each_damage_is_repaired(world):
    assert world.found() == world.found(0.3) == []
    healthy = world.query(SILVER)
    day = FIRST[1]
    (key,) = [key for key in world.keys("raw") if key.endswith("/IBM-2026.parquet")]
    path = Path(world.folder, "lake", key)
    body = path.read_bytes()

    world.change(f"DELETE FROM silver_prices WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '{day}'")
    world.change(f"UPDATE silver_prices SET close_px = close_px + 0.01 WHERE symbol = 'IBM' AND bar_time = TIMESTAMP '{day}'")
    assert world.found() == [
        ("AAPL", day, day, Cause.NOT_LOADED, Repair.LOAD),
        ("IBM", day, day, Cause.WAREHOUSE_CHANGED, Repair.LOAD),
    ]
    world.repaired()
    assert world.found() == []

    path.unlink()
    assert world.found(1e-9) == world.found() == [("IBM", FIRST[0], FIRST[-1], Cause.OBJECT_MISSING, Repair.FETCH)]
    world.repaired()
    assert world.found() == []

    for one in FIRST:  # as fetched again; folded before
        world.lake.delete(Layout().object_key(dataset("ohlcv-1d"), "mock", "IBM", one, "day"))
    path.write_bytes(body)
    rows = parquet.decode_rows(body, "x", dataset("ohlcv-1d"))
    close = pc.if_else(pc.equal(rows["session"], pa.scalar(day)), pc.add(rows["close"], 0.1), rows["close"])
    path.write_bytes(parquet.encode(rows.set_column(rows.column_names.index("close"), rows.schema.field("close"), close)))
    assert world.found() == [("IBM", day, day, Cause.OBJECT_CHANGED, Repair.FETCH)]
    assert world.repaired().red == []
    assert world.found() == []
    assert world.query(SILVER) == healthy


@pytest.mark.parametrize("deleted", [True, False])
def test_a_lost_folded_ledger_is_rebuilt_without_calls(world, deleted):
    (key,) = world.keys("manifest")
    path = Path(world.folder, "lake", key)
    if deleted:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    cause = Cause.NOT_RECORDED if deleted else Cause.LEDGER_UNREADABLE
    cells = [(symbol, FIRST[0], FIRST[-1], cause, Repair.LEDGER) for symbol in SYMBOLS]
    assert [row for row in world.found() if row[0]] == cells
    done = world.repaired()
    assert done.published is None
    assert world.found() == []
