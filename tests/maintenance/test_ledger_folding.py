"""Folding the ledger keeps every record, at any moment, whatever it is killed at."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.run import RunInfo
from market_data.lake import parquet
from market_data.lake.coverage import CELLS, SCHEMA
from market_data.lake.layout import manifest_prefix
from market_data.lake.ledger import FOLDED_FOLDER, read_coverage, sources, write_cells
from market_data.lake.store import Lake
from market_data.maintenance.ledger_folding import fold_ledger
from tests.maintenance.lakes import Killed, mortal

NOW = datetime(2024, 11, 20, 12, tzinfo=UTC)
PLACE = ("ohlcv-1d", "polygon")
FOLDER = manifest_prefix(*PLACE)
RUN = RunInfo("polygon_ohlcv_1d", "scheduled__1", "scheduled", 0, datetime(2024, 9, 16, tzinfo=UTC))


def cells(states, reason=""):
    rows = [{"symbol": s, "session": d, "state": state, "reason": reason} for (s, d), state in states.items()]
    return pa.Table.from_pylist(rows, schema=CELLS)


def record(lake, run_number, batch, states, at, **options):
    run = replace(RUN, run_id=f"scheduled__{run_number}")
    return write_cells(lake, *PLACE, run, batch, cells(states), recorded_at=at, **options)


def current(lake):
    """The current records as a set of rows."""
    table = read_coverage(lake, *PLACE).table
    return {tuple(row.values()) for row in table.cast(SCHEMA).to_pylist()}


def records(lake):
    """All records, sorted."""
    found = []
    for key, _ in lake.list(FOLDER):
        found += [tuple(row.values()) for row in parquet.decode(lake.get(key).body, key, SCHEMA).to_pylist()]
    return sorted(found)


def own(lake):
    return [key for key, _ in lake.list(FOLDER) if FOLDED_FOLDER not in key]


CELLS_OF = st.dictionaries(
    st.tuples(st.sampled_from("AB"), st.sampled_from([date(2024, 1, 2), date(2024, 1, 3), date(2024, 9, 16)])),
    st.sampled_from(["have", "empty", "refused", "unknown"]), min_size=1,
)  # fmt: skip
RUNS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["b1", "b2"]), CELLS_OF, st.integers(0, 60)), min_size=1, max_size=6)


@settings(max_examples=25)
@given(RUNS, st.integers(1, 8), st.booleans(), RUNS)
def test_the_coverage_is_the_same_at_every_step_of_a_folding_that_is_killed(steps, kill, after, later):
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        lake, unfolded = mortal(f"file://{folder}/lake"), Lake.open(f"file://{other}/lake")
        for number, (run, batch, states, days) in enumerate(steps):
            at = NOW - timedelta(days=2 + days) + timedelta(seconds=number)  # no two at the same moment
            for one in (lake, unfolded):
                record(one, run, batch, states, at)
        before, all_records = current(lake), records(lake)

        def looks_the_same():
            assert current(lake) == before

        lake.arm(kill, after=after, between=looks_the_same)
        with suppress(Killed):
            fold_ledger(lake, *PLACE, NOW)
        lake.arm(between=looks_the_same)
        fold_ledger(lake, *PLACE, NOW)
        assert own(lake) == []
        assert records(lake) == all_records
        lake.arm()
        again = fold_ledger(lake, *PLACE, NOW)
        assert (again.objects, again.months, lake.writes) == (0, 0, 0)
        # batches that run again after that record what they would have recorded otherwise
        for number, (run, batch, states, _) in enumerate(later):
            at = NOW - timedelta(days=1, hours=1) + timedelta(seconds=number)
            assert record(lake, run, batch, states, at) == record(unfolded, run, batch, states, at)
            assert current(lake) == current(unfolded)
        fold_ledger(lake, *PLACE, NOW)
        assert current(lake) == current(unfolded)


@pytest.fixture
def lake(tmp_path):
    return mortal(f"file://{tmp_path}/lake")


DAY = date(2024, 9, 16)
OLD = NOW - timedelta(days=40)


def test_a_batch_that_runs_again_writes_nothing_twice(lake):
    record(lake, 1, "b1", {("A", DAY): "have", ("B", DAY): "empty"}, OLD)
    fold_ledger(lake, *PLACE, NOW)
    stored = records(lake)
    assert not record(lake, 1, "b1", {("A", DAY): "have", ("B", DAY): "empty"}, NOW)
    assert records(lake) == stored
    assert record(lake, 1, "b1", {("A", DAY): "refused", ("B", DAY): "empty"}, NOW)
    assert len(records(lake)) == 3  # the record of A that changed, beside the two folded ones
    assert read_coverage(lake, *PLACE).state("A", DAY) == "refused"


def test_a_cell_that_was_reset_stays_unknown_and_its_records_are_kept(lake):
    record(lake, 1, "b1", {("A", DAY): "have", ("B", DAY): "have"}, OLD)
    record(lake, 2, "reset", {("A", DAY): "unknown"}, OLD + timedelta(days=1))
    fold_ledger(lake, *PLACE, NOW)
    assert own(lake) == []
    coverage = read_coverage(lake, *PLACE)
    assert (coverage.state("A", DAY), coverage.state("B", DAY)) == (None, "have")
    assert sorted(row[2] for row in records(lake)) == ["have", "have", "unknown"]


def test_a_record_that_is_written_while_its_object_is_folded_is_kept(lake):
    record(lake, 1, "b1", {("A", DAY): "have"}, OLD)
    lake.arm()

    def write_late():
        if lake.writes == 2 and not late:  # the folded object is there, the object is about to be deleted
            late.append(True)
            record(Lake.open(lake.url), 1, "b1", {("B", DAY): "have"}, NOW)

    late = []
    lake.between = write_late
    found = fold_ledger(lake, *PLACE, NOW)
    assert late
    assert found.deleted == 0
    assert "was replaced while it was folded" in found.left[0]
    coverage = read_coverage(lake, *PLACE)
    assert (coverage.state("A", DAY), coverage.state("B", DAY)) == ("have", "have")
    lake.arm()
    fold_ledger(lake, *PLACE, NOW + timedelta(days=3))
    assert own(lake) == []
    assert len(records(lake)) == 2


def test_what_cannot_be_folded_is_left_and_named(lake):
    record(lake, 1, "old", {("A", DAY): "have"}, OLD)
    record(lake, 2, "recent", {("B", DAY): "have"}, NOW - timedelta(hours=1))
    lake.put_new(f"{FOLDER}/run=x/broken.parquet", b"no Parquet")
    lake.put_new(f"{FOLDER}/note.txt", b"foreign")
    found = fold_ledger(lake, *PLACE, NOW)
    assert (found.objects, found.deleted, found.records) == (1, 1, 1)
    assert ["broken.parquet cannot be read" in found.left[0], "1 objects are left alone" in found.left[1]] == [True, True]
    assert sources(lake, "ohlcv-1d") == ["polygon"]
    assert {key.rpartition("/")[2] for key in own(lake)} == {"recent.parquet", "broken.parquet", "note.txt"}
    assert len(read_coverage(lake, *PLACE)) == 2


def test_a_month_that_cannot_be_read_keeps_its_objects(lake):
    record(lake, 1, "a", {("A", DAY): "have"}, OLD)
    month = f"{FOLDER}/{FOLDED_FOLDER}/{OLD:%Y-%m}.parquet"
    lake.put_new(month, b"no Parquet")
    found = fold_ledger(lake, *PLACE, NOW)
    assert (found.objects, found.deleted) == (0, 0)
    assert f"{month} cannot be read" in found.left[0]
    assert lake.get(month).body == b"no Parquet"
    assert len(own(lake)) == 1


def test_a_dry_run_changes_nothing(lake):
    record(lake, 1, "a", {("A", DAY): "have"}, OLD)
    lake.arm()
    assert fold_ledger(lake, *PLACE, NOW, dry_run=True).sentences() == [
        "coverage ledger of ohlcv-1d, polygon: 1 objects can be folded; nothing was changed (dry run)"
    ]
    assert lake.writes == 0
