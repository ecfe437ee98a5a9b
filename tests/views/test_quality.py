"""What the page Quality shows after real nights: refusals, quarantined rows, restatements, disagreements, the latest audit."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from market_data.config.feeds import load_feeds
from market_data.core.errors import WarehouseError
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import quarantine
from market_data.lake.coverage import CELLS
from market_data.lake.decisions import Kind
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.maintenance.audit import audit, write_report
from market_data.maintenance.person import Person
from market_data.maintenance.release import decide
from market_data.pipeline.selection import Selection
from market_data.views.cell import cell_of
from market_data.views.coverage import grid_of
from market_data.views.places import Place
from market_data.views.quality import held_cells, held_rows, latest_audit, quality_of
from tests.maintenance.altered import HISTORY, SYMBOLS, TONIGHT, Nights

LAST = HISTORY[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A night that is refused; its recheck of the session before finds a row to quarantine and a corrected value."""
    world = Nights(tmp_path_factory.mktemp("world"))
    world.history()
    world.api.alter(None, TONIGHT, multiply=10)
    world.api.alter("S03", LAST, low=10_000.0)
    world.api.alter("S05", LAST, volume=2)
    world.night(8)
    return world


@pytest.fixture(scope="module")
def place(world):
    context = world.context()
    return Place(world.lake, world.feed, Selection(context.dataset, context.source, context.layout), (context.source,))


@pytest.fixture(scope="module")
def found(world, place):
    return quality_of(place, world.warehouse, world.now)


def test_held_cells_are_grouped_and_rows_have_their_values(found):
    (refused,) = found["refused"]
    assert (refused["session"], refused["symbols"]) == (TONIGHT.isoformat(), sorted(SYMBOLS))
    (quarantined,) = found["quarantined"]
    assert quarantined["symbols"] == ["S03"]
    (row,) = found["rows"]
    assert (row["symbol"], row["session"], row["low"]) == ("S03", LAST.isoformat(), 10_000.0)
    assert row["reasons"]
    assert (found["cells_left_out"], found["notes"]) == (0, [])
    json.dumps(found)


def test_a_group_names_all_its_cells_and_none_of_a_reason_that_begins_alike(tmp_path):
    lake, now = Lake.open(f"file://{tmp_path}"), datetime(2024, 9, 30, tzinfo=UTC)
    reasons = {f"S{n:02}": "too high" for n in (7, 3, 5, 1, 6, 2)} | {"S04": "too high; an earlier value is stored", "S08": ""}
    state = {"session": LAST, "state": "quarantined"}
    rows = [{**state, "symbol": symbol, "reason": reason} for symbol, reason in reasons.items()]
    run = RunInfo("mock_ohlcv_1d", "manual__1", "manual", 0, now)
    write_cells(lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=now)
    quarantine.write(
        lake, "ohlcv-1d", "mock", run, "b000", pa.Table.from_pylist([{"symbol": "S04", "session": LAST, "reasons": "x"}])
    )
    place = Place(lake, load_feeds()[0], Selection(OHLCV_1D, "mock", Layout()), ("mock",))
    groups = held_cells(place.records(), State.QUARANTINED)
    assert {one["reason"]: one["symbols"] for one in groups} == {
        "too high": ["S01", "S02", "S03", "S05", "S06", "S07"],
        "too high; an earlier value is stored": ["S04"],
        "no reason is recorded": ["S08"],
    }
    assert {(one["session"], one["run_id"], one["at"]) for one in groups} == {(LAST.isoformat(), "manual__1", now.isoformat())}
    assert held_cells(place.records(), State.REFUSED) == []
    rows, left_out = held_rows(place, place.records())
    assert ([row["symbol"] for row in rows], left_out) == (["S04"], 7)


def test_a_corrected_value_is_a_restatement_of_its_cell(found, place, world):
    (one,) = [row for row in found["restatements"] if row["symbol"] == "S05"]
    assert one["session"] == LAST.isoformat()
    cell = cell_of(place, grid_of(place, world.now), "S05", LAST, world.now)
    assert cell["restatements"] == [one]


def test_closes_of_another_provider_that_differ_are_named(world, place):
    with duckdb.connect(f"{world.folder}/warehouse.duckdb") as opened:
        columns = [row[0] for row in opened.execute("DESCRIBE silver_prices").fetchall()]
        other = ", ".join({"provider": "'other'", "close_px": "close_px * 1.05"}.get(name, name) for name in columns)
        where = f"symbol = 'S01' AND CAST(bar_time AS DATE) = DATE '{HISTORY[0]}'"
        opened.execute(f"INSERT INTO silver_prices SELECT {other} FROM silver_prices WHERE {where}")
    (one,) = quality_of(place, world.warehouse, world.now)["disagreements"]
    assert (one["symbol"], one["session"], one["what"]) == ("S01", HISTORY[0].isoformat(), "close")
    assert {one["provider_a"], one["provider_b"]} == {"mock", "other"}


def test_a_warehouse_that_cannot_be_read_is_a_note(place, world):
    class Busy:
        def query(self, *_):
            raise WarehouseError("the file is locked")

    found = quality_of(place, lambda: nullcontext(Busy()), world.now)
    assert found["notes"] == ["disagreements of providers are not known: the file is locked"]
    assert found["rows"]


def test_the_latest_audit_is_summarised(place, world):
    assert latest_audit(place) is None
    write_report(world.lake, audit(world.lake, None, world.feed, place.selection, world.now), world.now)
    found = latest_audit(place)
    assert found["causes"]["quarantined"] == 1
    assert found["at"] == world.now.isoformat()


def test_a_decision_is_part_of_the_story_of_its_cell(place, world):
    selection = Selection(place.selection.dataset, place.source, place.selection.layout, ("S03",), LAST, LAST)
    with world.warehouse() as warehouse:
        decide(world.lake, warehouse, selection, Kind.CONFIRM, Person("Ada", "typo"), world.now, dry_run=False)
    cell = cell_of(place, grid_of(place, world.now), "S03", LAST, world.now)
    assert [(one["by"], one["reason"], one["kind"]) for one in cell["decisions"]] == [("Ada", "typo", "confirm")]
