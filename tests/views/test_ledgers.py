"""The cache of ledgers has exactly the records that the lake has, whatever is written, folded, reset, broken or deleted in between."""

import weakref
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.errors import LakeError
from market_data.core.outcome import SUSPECTED_GAP
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS, SCHEMA
from market_data.lake.layout import manifest_prefix
from market_data.lake.ledger import read_coverage, write_cells
from market_data.lake.store import Lake
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.views.ledgers import Ledgers
from market_data.views.records import NEVER

START = datetime(2024, 9, 16, tzinfo=UTC)
PLACE = ("ohlcv-1d", "polygon")
FOLDER = manifest_prefix(*PLACE)
RUN = RunInfo("polygon_ohlcv_1d", "scheduled__1", "scheduled", 0, START)
DAYS = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 9, 16)]


def write(lake, number, batch, states, at, reason=""):
    rows = [{"symbol": s, "session": d, "state": state, "reason": reason} for (s, d), state in states.items()]
    run = replace(RUN, run_id=f"scheduled__{number}")
    write_cells(lake, *PLACE, run, batch, pa.Table.from_pylist(rows, schema=CELLS), recorded_at=at)


def current(records):
    """The current records as a set of rows, read as the pages read them."""
    return {tuple(records.record(row)[name] for name in SCHEMA.names) for row in records.latest.tolist()}


def expected(lake):
    coverage = read_coverage(lake, *PLACE)
    return {tuple(row.values()) for row in coverage.table.cast(SCHEMA).to_pylist()}, list(coverage.unreadable)


CELLS_OF = st.dictionaries(
    st.tuples(st.sampled_from("AB"), st.sampled_from(DAYS)), st.sampled_from(["have", "empty", "refused", "unknown"]), min_size=1
)
WRITE = st.tuples(st.just("write"), st.integers(1, 3), st.sampled_from(["b1", "b2"]), CELLS_OF, st.integers(0, 4))
STEPS = st.lists(
    st.one_of(WRITE, WRITE, st.sampled_from([("fold",), ("break",), ("delete",), ("foreign",), ("look",)])), max_size=9
)


@settings(max_examples=60)
@given(STEPS)
def test_a_refreshed_ledger_equals_the_lake(steps):
    with TemporaryDirectory() as folder:
        lake, ledgers = Lake.open(f"file://{folder}"), Ledgers(guard=0)
        for step, *rest in [*steps, ("look",)]:
            keys = [key for key, _ in lake.list(FOLDER) if "folded" not in key]
            if step == "write":
                number, batch, states, hours = rest
                write(lake, number, batch, states, START + timedelta(hours=hours))
            elif step == "fold":
                fold_ledger(lake, *PLACE, START + timedelta(days=30))
            elif step == "break" and keys:
                lake.update(keys[0], lambda _: b"no Parquet")
            elif step == "delete" and keys:
                lake.delete(keys[-1])
            elif step == "foreign":
                lake.put_new(f"{FOLDER}/notes.txt", b"mine")
            elif step == "look":
                records = ledgers.get(lake, *PLACE)
                rows, unreadable = expected(lake)
                assert current(records) == rows
                assert sorted(records.unreadable) == sorted(unreadable)
                symbols = ["A", "B", "C"]
                states = {(symbol, day): state for symbol, day, state, *_ in rows}
                found = records.rows_of(symbols, DAYS)
                for place, symbol in enumerate(symbols):
                    for row, day in zip(found[place].tolist(), DAYS, strict=True):
                        assert (records.record(row)["state"] if row >= 0 else None) == states.get((symbol, day))


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}")


class Counted:
    """A lake that counts what is read."""

    def __init__(self, lake):
        self._lake, self.url = lake, lake.url
        self.listings, self.reads = 0, []

    def listed(self, prefix):
        self.listings += 1
        return self._lake.listed(prefix)

    def get_many(self, keys):
        self.reads += keys
        return self._lake.get_many(keys)

    def each(self, *given, **named):
        return self._lake.each(*given, **named)


def test_only_new_objects_are_read_and_listings_are_rare(lake):
    now = [0.0]
    counted, ledgers = Counted(lake), Ledgers(guard=2, clock=lambda: now[0])
    for number in range(3):
        write(lake, number, "b1", {("A", DAYS[number]): "have"}, START + timedelta(hours=number))
    first = ledgers.get(counted, *PLACE)
    assert (len(counted.reads), len(first.latest)) == (3, 3)
    write(lake, 9, "b1", {("A", DAYS[0]): "refused"}, START + timedelta(hours=9))
    listings = counted.listings
    now[0] = 1.9
    assert ledgers.get(counted, *PLACE) is first
    assert counted.listings == listings
    now[0] = 2.0
    second = ledgers.get(counted, *PLACE)
    assert len(counted.reads) == 4
    assert second.version != first.version
    assert [second.record(row)["state"] for row in second.history("A", DAYS[0]).tolist()] == ["have", "refused"]
    now[0] = 5.0
    assert ledgers.get(counted, *PLACE) is second
    assert len(counted.reads) == 4


def test_the_ledger_that_was_not_used_for_longest_is_dropped(lake, tmp_path_factory):
    ledgers, other = Ledgers(most_bytes=1, guard=1e9), Lake.open(f"file://{tmp_path_factory.mktemp('other')}")
    for place in (lake, other):
        write(place, 1, "b1", {("A", DAYS[0]): "have"}, START)
    first = ledgers.get(lake, *PLACE)
    assert ledgers.get(lake, *PLACE) is first
    ledgers.get(other, *PLACE)
    assert ledgers.get(lake, *PLACE) is not first


class Made:
    nbytes = 1_000


def test_what_is_made_of_a_ledger_counts_and_goes_with_its_records(lake, tmp_path_factory):
    write(lake, 1, "b1", {("A", DAYS[0]): "have"}, START)
    ledgers = Ledgers(guard=0)
    first = ledgers.get(lake, *PLACE)
    before, made = ledgers.nbytes, Made()
    ledgers.keep(first, "grid", made)
    assert ledgers.recall(first, "grid") is made
    assert ledgers.nbytes == before + 1_000
    first.cells  # noqa: B018 - a column that pages compute
    assert ledgers.nbytes == before + 1_000 + first.latest.nbytes + sum(column.nbytes for column in first.cells)
    write(lake, 2, "b1", {("B", DAYS[0]): "have"}, START)
    second = ledgers.get(lake, *PLACE)
    kept = weakref.ref(made)
    del made
    ledgers.keep(first, "late", Made())  # made of outdated records: it would keep them in memory
    assert (kept(), ledgers.recall(first, "late"), ledgers.recall(second, "grid")) == (None, None, None)


def test_the_bound_holds_for_ledgers_and_what_is_made_of_them(lake, tmp_path_factory):
    other = Lake.open(f"file://{tmp_path_factory.mktemp('other')}")
    for place in (lake, other):
        write(place, 1, "b1", {("A", DAYS[0]): "have"}, START)
    ledgers = Ledgers(most_bytes=3_000, guard=1e9)
    first, second = ledgers.get(lake, *PLACE), ledgers.get(other, *PLACE)
    for name in ("a", "b"):
        ledgers.keep(second, name, Made())
    assert ledgers.get(lake, *PLACE) is first
    ledgers.keep(first, "c", Made())
    assert ledgers.nbytes <= 3_000
    assert ledgers.recall(second, "a") is None  # its ledger was not used for longest
    for name in ("d", "e", "f"):
        ledgers.keep(first, name, Made())
    assert [ledgers.recall(first, name) is not None for name in "cdef"] == [False, False, True, True]


def test_records_that_are_folded_but_not_yet_deleted_occur_once_in_a_history(lake):
    write(lake, 1, "b1", {("A", DAYS[0]): "empty"}, START, f"{SUSPECTED_GAP}: x")
    (key,) = [key for key, _ in lake.list(FOLDER)]
    body = lake.get(key).body
    fold_ledger(lake, *PLACE, START + timedelta(days=30))
    lake.put_new(key, body)
    records = Ledgers().get(lake, *PLACE)
    assert len(records) == 2
    rows = records.history("A", DAYS[0])
    assert len(rows) == 1
    assert records.suspected[rows].all()
    assert records.first_days_of(["A", "B"]).tolist() == [(DAYS[0] - date(1970, 1, 1)).days, NEVER]
    assert not len(records.history("B", DAYS[0]))
    assert not records.suspected[np.array([-1])].any()


def test_records_in_use_stay_valid_when_a_later_version_has_further_symbols(lake):
    ledgers = Ledgers(guard=0)
    write(lake, 1, "b1", {("A", DAYS[0]): "have"}, START)
    first = ledgers.get(lake, *PLACE)
    days = first.first_days_of(["A", "B", "C"]).tolist()
    write(lake, 2, "b1", {("B", DAYS[0]): "have", ("B", DAYS[1]): "have", ("C", DAYS[0]): "have"}, START)
    second = ledgers.get(lake, *PLACE)
    assert first.first_days_of(["A", "B", "C"]).tolist() == days == [(DAYS[0] - date(1970, 1, 1)).days, NEVER, NEVER]
    assert first.rows_of(["B", "A"], DAYS).tolist() == [[-1] * 3, [0, -1, -1]]
    assert first.current(["A", "B", "A"], [DAYS[0], DAYS[0], DAYS[1]]).tolist() == [0, -1, -1]
    assert (first.last_stamps.keys(), second.last_stamps.keys()) == ({"A"}, {"A", "B", "C"})
    assert second.current(["B", "A"], [DAYS[1], DAYS[0]]).tolist() == [2, 0]
    assert Ledgers().get(lake, PLACE[0], "other").current(["A"], [DAYS[0]]).tolist() == [-1]


def test_a_failure_is_told_to_all_who_wait_and_forgotten_after_a_moment(lake):
    class Down:
        url, listings = lake.url, 0

        def listed(self, prefix):
            self.listings += 1
            now[0] += 60  # a client's retries
            raise LakeError("the store is down")

    now, down = [0.0], Down()
    ledgers = Ledgers(guard=2, clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(LakeError, match="is down"):
            ledgers.get(down, *PLACE)
    assert down.listings == 1
    now[0] += 2
    write(lake, 1, "b1", {("A", DAYS[0]): "have"}, START)
    assert len(ledgers.get(lake, *PLACE)) == 1
