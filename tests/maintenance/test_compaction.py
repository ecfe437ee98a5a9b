"""Compaction keeps every row, at any moment, whatever it is killed at."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.core.outcome import Evidence, State
from market_data.datasets.registry import dataset
from market_data.lake import parquet
from market_data.lake.object_writer import Refetch
from market_data.lake.reader import read_request, read_rows
from market_data.lake.receipts import CellRun, RequestReceipt, StoredReceipt
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.maintenance import compaction
from market_data.maintenance.compaction import Deletes, compact, recorded_hashes
from market_data.maintenance.journal import entries
from market_data.pipeline import rebuild
from market_data.pipeline.rebuild_objects import listing_of
from tests.lake.rows import T0, bars
from tests.maintenance.lakes import (
    DAYS,
    LAYOUT,
    NOW,
    OPEN,
    SELECTION,
    SOURCE,
    SYMBOLS,
    Killed,
    contents,
    day_files,
    fill,
    landings,
    mortal,
    read,
)
from tests.maintenance.memory_lake import MemoryLake, Moving, tag
from tests.maintenance.stage import staged
from tests.tiers import tiers

MACRO = Path("include/sql/lake/prices.sql").read_text()
COLUMNS = SELECTION.dataset.schema.names


def by_duckdb(lake):
    """The rows as the SQL macro returns them."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET VARIABLE lake_prices = '{lake.root}/raw/prices/provider={SOURCE}'")
        connection.execute(MACRO)
        found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM lake_prices() ORDER BY symbol, bar_time").to_arrow_table()
    return found.cast(SELECTION.dataset.schema)


def check_kills(steps, kill, after):
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, steps)
        before = read(lake)
        assert by_duckdb(lake).equals(before)

        def looks_the_same():
            assert read(lake).equals(before)

        lake.arm(kill, after=after, between=looks_the_same)
        with suppress(Killed):
            compact(lake, SELECTION, NOW)
        assert by_duckdb(lake).equals(before)
        lake.arm(between=looks_the_same)
        compact(lake, SELECTION, NOW)
        assert by_duckdb(lake).equals(before)
        assert all((day.year, day.month) >= OPEN for day in day_files(lake))
        stored = contents(lake)
        lake.arm()
        again = compact(lake, SELECTION, NOW)
        assert (again.day_files, again.written, again.deleted, contents(lake)) == (0, 0, 0, stored)


@pytest.mark.slow
@settings(max_examples=50)
@given(landings, st.integers(1, 12), st.booleans())
def test_rows_are_the_same_at_every_step_of_a_compaction_that_is_killed(steps, kill, after):
    check_kills(steps, kill, after)


def check_every_kill(steps, moves, at_a_time, seed):
    """Fold a lake; then start again from each state in which a kill could leave it."""
    lake = MemoryLake(seed=seed)
    fill(lake, steps)
    before = read(lake)
    folded = MemoryLake(lake.objects, seed)
    with patch.object(compaction, "GROUPS", at_a_time):
        compact(folded, SELECTION, NOW)
    known = set()
    look(folded.states, before, known)
    for number, state in enumerate(folded.states):
        again = MemoryLake(state, seed + number)
        compact(again, SELECTION, NOW)
        look(again.states, before, known)
        assert raw(again.objects) == raw(folded.objects)
        assert all((day.year, day.month) >= OPEN for day in day_files(again))
        assert recorded_hashes(again, "ohlcv-1d", SOURCE).items() >= hashes(again).items() - hashes(lake).items()
    done = compact(folded, SELECTION, NOW)
    assert (done.day_files, done.written, done.deleted) == (0, 0, 0)
    for first in range(0, len(folded.states), 2):
        assert read(Moving(folded.states[first:], moves)).equals(before)


def look(states, before, known):
    """Read each state whose rows nobody has read yet."""
    for state in states:
        rows = raw(state)
        if (name := frozenset((key, tag(body)) for key, body in rows.items())) not in known:
            assert read(MemoryLake(rows)).equals(before)
            known.add(name)


def raw(objects):
    return {key: body for key, body in objects.items() if key.startswith("raw/")}


def hashes(lake):
    return {key: hashlib.sha256(body).hexdigest()[:16] for key, body in raw(lake.objects).items() if "/month=" not in key}


@pytest.fixture(scope="module")
def decoded_once():
    """Decode equal objects once: thousands of states of a lake share them."""
    decode_rows, known = parquet.decode_rows, {}

    def once(body, key, dataset):
        if len(known) > 2_000:
            known.clear()
        if (body, key) not in known:
            known[body, key] = decode_rows(body, key, dataset)
        return known[body, key]

    with patch.object(parquet, "decode_rows", once):
        yield


MOVES = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=250)  # a thousand took nine minutes and found no more
@given(landings, MOVES, st.sampled_from([1, 2, 64]), st.integers(0, 99))
def test_rows_of_250_lakes_are_the_same_after_a_kill_at_every_write(decoded_once, steps, moves, at_a_time, seed):
    check_every_kill(steps, moves, at_a_time, seed)


@settings(max_examples=20)
@given(landings, MOVES, st.sampled_from([1, 2, 64]), st.integers(0, 99))
def test_rows_are_the_same_after_a_kill_at_every_write(decoded_once, steps, moves, at_a_time, seed):
    check_every_kill(steps, moves, at_a_time, seed)


def test_a_reader_that_is_overtaken_returns_the_value_of_the_day_file():
    """The year file has another value that is equally new, and is read before the day file goes into it."""
    cell, lake = ("A", date(2024, 1, 2)), MemoryLake()
    fill(lake, [("day", {cell: 1}, 0, True), ("year", {cell: 2}, 0, True)])
    assert len(raw(lake.objects)) == 2
    before, folded = read(lake), MemoryLake(lake.objects)
    compact(folded, SELECTION, NOW)
    for late, seed in product(range(12), range(4)):  # the whole compaction happens after that many listings and reads
        assert read(Moving(folded.states, [0] * late + [len(folded.states)], seed)).equals(before)


# -- single cases, on S3 and in a folder ------------------------------------------------------------------------------------------------

CLOSED = [day for day in DAYS if (day.year, day.month) < OPEN]


def whole(lake):
    fill(lake, [("day", {(symbol, day): 1 for symbol in SYMBOLS for day in DAYS}, 0, False)])
    return read(lake)


def test_day_files_of_closed_months_become_year_files(lake):
    before = whole(lake)
    found = compact(lake, SELECTION, NOW)
    assert (found.symbols, found.day_files, found.files, found.written, found.deleted) == (3, 18, 6, 6, 18)
    assert found.left == ("6 day files of 2024-11 are left alone: the month is not closed",)
    assert read(lake).equals(before)
    assert len(lake.list("raw")) == 12
    [entry] = entries(lake, "compact")
    assert (entry.what["written"], entry.what["deleted"]) == (6, 18)
    later = compact(lake, SELECTION, NOW.replace(year=2025, month=1))
    assert (later.files, later.deleted, len(lake.list("raw"))) == (3, 6, 6)
    assert read(lake).equals(before)


def test_a_dry_run_counts_and_changes_nothing(lake):
    whole(lake)
    before = contents(lake)
    found = compact(lake, SELECTION, NOW, dry_run=True)
    assert found.sentences() == [
        "ohlcv-1d of polygon: 18 day files of 3 symbols can be folded into 6 files; nothing was changed (dry run)",
        "6 day files of 2024-11 are left alone: the month is not closed",
    ]
    assert contents(lake) == before


def test_a_month_is_closed_after_the_sessions_that_are_requested_again(lake):
    fill(lake, [("day", {("A", date(2024, 10, 31)): 1}, 0, False)])
    assert compact(lake, SELECTION, datetime(2024, 11, 5, 1, tzinfo=UTC)).day_files == 0
    assert compact(lake, SELECTION, datetime(2024, 11, 5, 20, tzinfo=UTC)).day_files == 0
    assert compact(lake, SELECTION, datetime(2024, 11, 6, 1, tzinfo=UTC)).day_files == 1


def test_a_late_correction_wins_and_is_folded_next(lake):
    before = whole(lake)
    compact(lake, SELECTION, NOW)
    cell = ("BRK.B", date(2024, 1, 3))
    for refetch in (Refetch(in_place=True), True):  # a recheck, and a forced run
        landed = land(
            lake, LAYOUT, SELECTION.dataset, SOURCE, bars([cell], close=1.0, at=T0 + timedelta(9)), "day", refetch=refetch
        )
        assert (landed.written, landed.unchanged) == (0, 1)  # equal values cause no write
    landed = land(lake, LAYOUT, SELECTION.dataset, SOURCE, bars([cell], close=5.0, at=T0 + timedelta(9)), "day", refetch=True)
    assert (landed.written, landed.restated.to_pylist()) == (1, [{"symbol": cell[0], "session": cell[1]}])
    corrected = read(lake)
    assert corrected.filter(pc.equal(corrected["close"], 5.0)).num_rows == 1
    assert compact(lake, SELECTION, NOW).deleted == 1
    assert read(lake).equals(corrected)
    assert not corrected.equals(before)


def test_a_correction_with_an_earlier_clock_still_wins(lake):
    whole(lake)
    compact(lake, SELECTION, NOW)
    cell = ("A", date(2024, 1, 3))
    terms = Refetch(now=lambda: T0 - timedelta(seconds=3))
    land(lake, LAYOUT, SELECTION.dataset, SOURCE, bars([cell], close=5.0, at=T0 - timedelta(seconds=3)), "day", refetch=terms)
    assert pc.sum(pc.equal(read(lake)["close"], 5.0)).as_py() == 1


def test_a_day_file_that_is_replaced_meanwhile_stays(lake, monkeypatch):
    whole(lake)
    cell, real, late = ("A", date(2024, 1, 3)), lake.delete_if, []

    def delete_if(key, etag):
        if key.endswith("/A-2024-01-03.parquet") and not late:
            late.append(1)
            land(lake, LAYOUT, SELECTION.dataset, SOURCE, bars([cell], close=5.0, at=T0 + timedelta(9)), "day", refetch=True)
        return real(key, etag)

    monkeypatch.setattr(lake, "delete_if", delete_if)
    found = compact(lake, SELECTION, NOW)
    assert found.deleted == 17
    assert "A-2024-01-03.parquet was replaced while it was folded" in found.left[-1]
    assert pc.sum(pc.equal(read(lake)["close"], 5.0)).as_py() == 1
    assert compact(lake, SELECTION, NOW).deleted == 1
    assert pc.sum(pc.equal(read(lake)["close"], 5.0)).as_py() == 1


def test_objects_that_cannot_be_read_are_left_and_named(lake):
    whole(lake)
    broken = LAYOUT.object_key(SELECTION.dataset, SOURCE, "A", date(2024, 1, 3), "day")
    foreign = LAYOUT.object_key(SELECTION.dataset, SOURCE, "A", date(2024, 1, 2), "day")
    other = lake.get(LAYOUT.object_key(SELECTION.dataset, SOURCE, "A", date(2024, 10, 31), "day")).body
    year = LAYOUT.object_key(SELECTION.dataset, SOURCE, "BRK.B", date(2024, 1, 3), "year")
    lake.update(broken, lambda _: b"no Parquet")
    lake.update(foreign, lambda _: other)
    lake.put_new(year, b"no Parquet")
    found = compact(lake, SELECTION, NOW)
    assert found.deleted == 18 - 2 - 4
    words = sorted(sentence.partition(" cannot")[0].partition(" holds")[0] for sentence in found.left if "2024-11" not in sentence)
    assert words == sorted([f"lake object {broken}", foreign, f"lake object {year}"])
    assert lake.get(broken).body == lake.get(year).body == b"no Parquet"
    assert lake.get(foreign).body == other


def test_cells_that_wait_in_staging_are_left_and_named(lake):
    before = whole(lake)
    key = staged(lake, [("A", date(2024, 1, 3))])
    found = compact(lake, SELECTION, NOW)
    assert (found.deleted, len([line for line in found.left if "A-2024-01-03.parquet is left alone: its cell waits" in line])) == (
        17,
        1,
    )
    assert read(lake).equals(before)
    lake.delete(key)
    assert compact(lake, SELECTION, NOW).deleted == 1


def test_nothing_is_folded_while_a_staging_object_cannot_be_read(lake):
    whole(lake)
    key = staged(lake, [("A", date(2024, 1, 3))])
    lake.update(key, lambda _: b"no Parquet")
    found = compact(lake, SELECTION, NOW)
    assert (found.day_files, found.deleted) == (0, 0)
    assert "nothing of polygon is folded" in found.left[0]


def test_a_store_that_ignores_the_condition_of_a_delete_keeps_its_day_files(lake, monkeypatch):
    before = whole(lake)
    monkeypatch.setattr("market_data.lake.conditional.honours_conditional_delete", lambda _: False)
    found = compact(lake, SELECTION, NOW)
    assert (found.written, found.deleted) == (6, 0)
    assert "ignores conditions of a DELETE" in found.left[0]
    assert read(lake).equals(before)


@pytest.mark.parametrize("name", ["trades", "fundamentals"])
def test_datasets_with_a_file_per_day_only_are_left(lake, name):
    found = compact(lake, replace(SELECTION, dataset=dataset(name)), NOW)
    assert "there is nothing to fold" in found.left[0]
    assert found.files == 0


def test_minutes_are_folded_by_month_and_a_request_is_read_in_whole(lake):
    minutes, days = dataset("ohlcv-1m"), [date(2024, 1, 2), date(2024, 1, 3)]
    selection = replace(SELECTION, dataset=minutes)

    def rows(day, count, close=1.0, at=T0):
        found = bars([("A", day)] * count, close=close, at=at, timeframe="1m")
        start = datetime(day.year, day.month, day.day, 15, tzinfo=UTC)
        return found.set_column(
            found.schema.get_field_index("bar_time"), found.schema.field("bar_time"),
            pa.array([start + timedelta(minutes=n) for n in range(count)], found.schema.field("bar_time").type),
        )  # fmt: skip

    landed = [land(lake, LAYOUT, minutes, SOURCE, rows(day, 30), "day", refetch=False) for day in days]
    before = read_rows(lake, LAYOUT, minutes, SOURCE, ["A"], days[0], days[-1] + timedelta(1))
    found = compact(lake, selection, NOW)
    assert (found.files, found.deleted) == (1, 2)
    [(key, _)] = lake.list("raw")
    assert key.endswith("symbol=A/year=2024/month=01/data.parquet")
    # one minute is corrected: the new day file has that row only
    land(lake, LAYOUT, minutes, SOURCE, rows(days[0], 1, 2.0, T0 + timedelta(9)), "day", refetch=Refetch(in_place=True))
    interval = (Interval(days[0], days[0] + timedelta(1)),)
    receipt = RequestReceipt(
        Request("ohlcv-1m", "range", ("A",), interval), Evidence(1, 0, 1, 0, 30, None, last_page_seen=True), {},
        (CellRun(("A",), State.HAVE, "", interval, with_rows=True),),
    )  # fmt: skip
    [again] = read_request(lake, LAYOUT, minutes, SOURCE, StoredReceipt(receipt, landed[0].objects))
    assert (len(again), again["close"].to_pylist()[:2]) == (30, [2.0, 1.0])
    assert compact(lake, selection, NOW).deleted == 1
    after = read_rows(lake, LAYOUT, minutes, SOURCE, ["A"], days[0], days[-1] + timedelta(1))
    assert after.drop_columns(["close", "ingest_ts"]).equals(before.drop_columns(["close", "ingest_ts"]))


def test_the_record_of_a_compaction_has_the_hashes_of_its_files(lake):
    whole(lake)
    compact(lake, SELECTION, NOW)
    stored = {key: hashlib.sha256(body).hexdigest()[:16] for key, body in contents(lake, "raw").items() if "/month=" not in key}
    assert recorded_hashes(lake, "ohlcv-1d", SOURCE) == stored


def test_a_correction_by_year_wins_over_a_day_file_that_is_folded_while_it_is_written(lake, monkeypatch):
    """The run reads the year file, which equals its value; then the day file with another value goes into it."""
    cell = ("A", date(2024, 1, 3))
    fill(lake, [("year", {cell: 1}, 0, False), ("day", {cell: 2}, 1, False)])
    other, listed, folded = Lake.open(lake.url, lake._access), lake.list, []

    def fold_first(prefix):
        if not folded:
            folded.append(compact(other, SELECTION, NOW))
        return listed(prefix)

    monkeypatch.setattr(lake, "list", fold_first)
    rows = bars([cell], close=1.0, at=T0 + timedelta(9))
    land(lake, LAYOUT, SELECTION.dataset, SOURCE, rows, "year", refetch=Refetch(in_place=True))
    assert folded[0].deleted == 1
    assert read(lake)["close"].to_pylist() == [1.0]


def test_a_rebuild_finds_what_is_folded_after_it_has_counted(lake):
    class All:
        def broken(self, error, key):
            raise error

        def __call__(self, rows):
            return rows

    before = whole(lake)
    keys_of = listing_of(lake, SELECTION, None)
    counts = rebuild._counts(lake, SELECTION, keys_of)
    assert counts == dict.fromkeys(SYMBOLS, len(DAYS))
    compact(lake, SELECTION, NOW)
    [found] = rebuild._tables(lake, SELECTION, None, counts, All())
    assert found.equals(before)


CELL = ("BRK.B", date(2024, 1, 3))


def write_corrections(lake):
    for number in range(8):
        rows = bars([CELL], close=2.0 + number, at=T0 + timedelta(days=1, seconds=number))
        land(lake, LAYOUT, SELECTION.dataset, SOURCE, rows, "day", refetch=True)


def look_until(lake, stop, expected, errors):
    columns = ["close", "ingest_ts"]
    while not stop.is_set():
        found = read(lake)
        if not found.drop_columns(columns).equals(expected.drop_columns(columns)):
            errors.append(found)


@pytest.mark.parametrize("deletes", tiers([Deletes.ALL, Deletes.EARLIER], Deletes.ALL))
def test_two_compactions_at_once_with_a_late_writer_and_readers(lake, deletes):
    before, errors, stop = whole(lake), [], threading.Event()

    def fold():
        for _ in range(2):
            compact(lake, SELECTION, NOW, deletes=deletes)

    with ThreadPoolExecutor(4) as pool:
        looking = pool.submit(look_until, lake, stop, before, errors)
        for done in [pool.submit(fold), pool.submit(fold), pool.submit(write_corrections, lake)]:
            done.result()
        stop.set()
        looking.result()
    assert errors == []
    for _ in range(2):
        compact(lake, SELECTION, NOW, deletes=deletes)
    found = read(lake)
    corrected = found.filter(pc.equal(found["close"], 9.0)).select(["symbol", "session"])
    assert corrected.to_pylist() == [dict(zip(corrected.column_names, CELL, strict=True))]
    assert {(day.year, day.month) for day in day_files(lake)} == {OPEN}
