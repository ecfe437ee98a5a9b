"""One contract for the three grains of files: land, again, correct, extend, two writers, killed in between, read, mixed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_data.core.batch import Block, Request
from market_data.core.errors import ConfigError, LakeError, ParamError
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence, State
from market_data.core.run import GRAINS
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.lake import parquet, session_files
from market_data.lake.layout import Layout
from market_data.lake.object_writer import Refetch
from market_data.lake.reader import read_request, read_rows
from market_data.lake.receipts import CellRun, RequestReceipt, StoredReceipt
from market_data.lake.store import Lake
from market_data.lake.writer import land
from tests.lake.rows import D0, T0, bars, weekdays
from tests.tiers import tiers

LAYOUT = Layout()
LATER, LATEST = T0 + timedelta(1), T0 + timedelta(2)
DAYS = weekdays(D0, 4)
SYMBOLS = ["AAPL", "BRK.B", "X:BTC-USD", "z"]
CELLS = [(symbol, day) for symbol in SYMBOLS for day in DAYS]
OBJECTS = {"day": 16, "session": 4, "year": 4}
HOLDING = {"day": 1, "session": 1, "year": 4}  # objects that hold a session of one symbol in every session
WAYS = {"first": False, "again": True, "in place": Refetch(in_place=True)}


def put(lake, rows, grain, refetch=False, dataset=OHLCV_1D):
    return land(lake, LAYOUT, dataset, "polygon", rows, grain, refetch=refetch)


def read(lake, symbols=SYMBOLS, days=DAYS, dataset=OHLCV_1D):
    """Symbol, session, close and day of ``ingest_ts``: by key, and listed the same."""
    found = [read_rows(lake, LAYOUT, dataset, "polygon", symbols, days[0], days[0] + timedelta(n)) for n in (7, 40)]
    assert found[0].equals(found[1])
    return {(r["symbol"], r["session"]): (r["close"], (r["ingest_ts"] - T0).days) for r in found[0].to_pylist()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grain", GRAINS)
def test_rows_are_created_again_without_a_write_and_corrected_by_one(lake, watch, grain, way):
    with watch.writes() as writes:
        first = put(lake, bars(list(reversed(CELLS))), grain, WAYS[way])
    assert first.written == len(writes) == len(lake.list("raw")) == OBJECTS[grain]
    assert first.rows.equals(parquet.by_key(bars(CELLS), OHLCV_1D.key))
    assert first.size == sum(size for _, size in lake.list("raw"))
    with watch.writes() as writes:
        again = put(lake, bars(CELLS, at=LATER), grain, WAYS[way])
    assert (again.written, again.unchanged, again.missing) == (0, OBJECTS[grain], 0)
    assert len(writes) == (0 if WAYS[way] or watch.server is None else OBJECTS[grain])  # a create that S3 answers with 412
    assert again.rows.equals(first.rows)
    wrong = [("BRK.B", DAYS[1])]
    rows = pa.concat_tables([bars([c for c in CELLS if c not in wrong], at=LATER), bars(wrong, close=7.0, at=LATER)])
    corrected = put(lake, rows, grain, WAYS[way])
    assert (corrected.written, corrected.restated.to_pylist()) == (1, [{"symbol": "BRK.B", "session": DAYS[1]}])
    assert read(lake) == {cell: (7.0, 1) if cell in wrong else (10.0, 0) for cell in CELLS}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grain", GRAINS)
def test_a_correction_of_one_symbol_keeps_the_others(lake, grain, way):
    put(lake, bars(CELLS), grain)
    landed = put(lake, bars([("z", day) for day in DAYS[1:3]], close=7.0, at=LATER), grain, WAYS[way])
    assert (landed.written, landed.missing) == ({"day": 2, "session": 2, "year": 1}[grain], 0)
    assert read(lake) == {cell: (7.0, 1) if cell[0] == "z" and cell[1] in DAYS[1:3] else (10.0, 0) for cell in CELLS}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grain", GRAINS)
def test_another_symbol_and_another_session_extend(lake, grain, way):
    old, new = [c for c in CELLS if c[0] != "AAPL" and c[1] != DAYS[3]], [c for c in CELLS if c[0] == "AAPL" or c[1] == DAYS[3]]
    put(lake, bars(old), grain)
    landed = put(lake, bars(new, at=LATER), grain, WAYS[way])
    assert landed.missing == 0
    assert len(lake.list("raw")) == OBJECTS[grain]
    assert read(lake) == {cell: (10.0, 0 if cell in old else 1) for cell in CELLS}


@pytest.mark.parametrize("grain", GRAINS)
def test_rows_that_a_response_lacks_are_counted_for_its_symbols_only(lake, grain):
    rows = minutes(["A", "B"], DAYS[:1], 3)
    put(lake, rows, grain, dataset=OHLCV_1M)
    assert put(lake, rows.slice(0, 2), grain, True, OHLCV_1M).missing == 1
    assert put(lake, pa.concat_tables([rows.slice(0, 3), rows.slice(4, 2)]), grain, True, OHLCV_1M).missing == 1


@pytest.mark.parametrize("grain", GRAINS)
def test_objects_are_named_by_symbol_with_their_rows(lake, grain):
    put(lake, bars(CELLS[:8]), grain)
    landed = put(lake, bars(CELLS[4:], at=LATER), grain)  # BRK.B is stored
    found = landed.objects.group_by("symbol").aggregate([("rows", "sum"), ("new_rows", "sum"), ("key", "count_distinct")])
    new = {"BRK.B": 0, "X:BTC-USD": 4, "z": 4}
    keys = 1 if grain == "year" else 4
    assert sorted(tuple(row.values()) for row in found.to_pylist()) == [(name, 4, new[name], keys) for name in sorted(new)]
    stored = {key: lake.get(key) for key, _ in lake.list("raw")}
    assert set(landed.objects["key"].to_pylist()) <= set(stored)


@pytest.mark.parametrize("refetch", [False, True])
@pytest.mark.parametrize("grain", GRAINS)
def test_concurrent_writers_lose_nothing(lake, grain, refetch):
    symbols = [f"S{n:02d}" for n in range(12)]

    def one(symbol):
        return put(lake, bars([(symbol, day) for day in DAYS[:2]], close=float(symbol[1:])), grain, refetch)

    with ThreadPoolExecutor(12) as pool:
        landed = list(pool.map(one, symbols))
    assert all(result.written for result in landed)
    assert read(lake, symbols) == {(symbol, day): (float(symbol[1:]), 0) for symbol in symbols for day in DAYS[:2]}


@pytest.mark.parametrize("grain", GRAINS)
def test_a_writer_between_read_and_write_is_taken_in(lake, monkeypatch, grain):
    put(lake, bars(CELLS[:4]), grain)
    original, calls = lake.put_if, []

    def between(*args):
        calls.append(args[0])
        if len(calls) == 1:
            put(lake, bars([("AAPL", DAYS[0]), ("z", DAYS[0])], close=6.0, at=LATER), grain)
        return original(*args)

    monkeypatch.setattr(lake, "put_if", between)
    landed = put(lake, bars([("AAPL", DAYS[0])], close=7.0, at=LATEST), grain, refetch=True)
    assert landed.rows["close"].to_pylist() == [7.0]
    assert read(lake) == dict.fromkeys(CELLS[:4], (10.0, 0)) | {("AAPL", DAYS[0]): (7.0, 2), ("z", DAYS[0]): (6.0, 1)}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", tiers(range(4), 0, 3))
@pytest.mark.parametrize("grain", GRAINS)
def test_a_killed_writer_leaves_whole_objects_and_its_next_try_ends_the_same(lake, monkeypatch, grain, at):
    put(lake, bars([(symbol, DAYS[0]) for symbol in SYMBOLS]), grain)
    calls = []

    def killed(method):
        original = getattr(lake, method)

        def call(*args):
            calls.append(args[0])
            if len(calls) == at + 1:
                raise Killed
            return original(*args)

        monkeypatch.setattr(lake, method, call)

    for method in ("put_new", "put_if"):
        killed(method)
    rows = bars(CELLS, close=11.0, at=LATER)
    with pytest.raises(Killed):
        put(lake, rows, grain)
    assert {value for cell, value in read(lake).items() if cell[1] != DAYS[0]} <= {(11.0, 1)}
    assert len(read(lake)) >= len(SYMBOLS)
    put(lake, rows, grain)
    assert read(lake) == dict.fromkeys(CELLS, (11.0, 1))
    assert put(lake, bars(CELLS, close=11.0, at=LATEST), grain).written == 0


@pytest.mark.parametrize("grain", GRAINS)
def test_a_symbol_that_cannot_be_a_key_lands_nothing(lake, grain):
    with pytest.raises(ParamError, match="symbol is"):
        put(lake, bars([("AAPL", D0), ("A\n", D0)]), grain)
    assert lake.list("raw") == []


@pytest.mark.parametrize("dataset", [CORPORATE_ACTIONS, FUNDAMENTALS], ids=lambda dataset: dataset.name)
def test_other_datasets_have_no_session_files(lake, dataset):
    with pytest.raises(ConfigError, match=f"file_grain is 'session'; for {dataset.name} allowed: day, year"):
        land(lake, LAYOUT, dataset, "polygon", dataset.schema.empty_table(), "session", refetch=False)


# -- mixed grains ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("day", "session", "year"), ("year", "session", "day"), ("session", "day", "session")])
def test_a_feed_whose_grain_changed_reads_right_and_is_corrected(lake, order):
    for number, grain in enumerate(order):
        put(lake, bars([(symbol, DAYS[number]) for symbol in SYMBOLS]), grain)
    for grain in GRAINS:  # covered values in another grain: nothing is written
        assert put(lake, bars([c for c in CELLS if c[1] != DAYS[3]], at=LATER), grain, WAYS["in place"]).written == 0
    assert read(lake) == {cell: (10.0, 0) for cell in CELLS if cell[1] != DAYS[3]}
    for number, grain in enumerate(GRAINS):
        cell = ("BRK.B", DAYS[number])
        assert put(lake, bars([cell], close=7.0, at=LATER), grain, WAYS["in place"]).written == 1
        assert read(lake)[cell] == (7.0, 1)
    expected = {cell: (7.0, 1) if cell[0] == "BRK.B" else (10.0, 0) for cell in CELLS if cell[1] != DAYS[3]}
    assert read(lake) == expected


@pytest.mark.parametrize(("grain", "other"), [(a, b) for a in GRAINS for b in GRAINS if a != b])
def test_a_refetch_repairs_what_another_grain_holds(lake, grain, other):
    put(lake, bars(CELLS), grain)
    put(lake, bars([("z", DAYS[1])], close=66.0, at=LATER), other)
    assert read(lake)["z", DAYS[1]] == (66.0, 1)
    assert put(lake, bars(CELLS, at=LATEST), grain, True).written == 1
    assert read(lake) == {cell: (10.0, 2) if cell == ("z", DAYS[1]) else (10.0, 0) for cell in CELLS}
    assert put(lake, bars(CELLS, at=LATEST + timedelta(1)), grain, True).written == 0


@pytest.mark.parametrize("symbols", [["A"], [f"S{n}" for n in range(20)]], ids=["one", "many"])
@pytest.mark.parametrize("grains", [("day", "session"), ("session", "year")])
def test_of_equally_new_rows_the_finer_grain_counts(lake, symbols, grains):
    for close, grain in enumerate(reversed(grains)):
        put(lake, bars([(symbol, DAYS[0]) for symbol in symbols], close=float(close)), grain)
    assert set(read(lake, symbols).values()) == {(1.0, 0)}


@pytest.mark.parametrize("other", ["day", "year"])
def test_a_forced_run_writes_only_news_into_a_session_file_that_holds_a_correction(lake, other):
    """As after the switch to session files: they hold the symbols that were corrected, older files the others."""
    day = DAYS[0]
    put(lake, bars([(symbol, day) for symbol in "ABC"]), other)
    put(lake, bars([("B", day)], close=10.5, at=LATER), "session", WAYS["in place"])
    rows = [bars([(symbol, day)], close=close, at=LATEST) for symbol, close in zip("ABCD", (10.0, 10.5, 10.7, 4.0), strict=True)]
    landed = put(lake, pa.concat_tables(rows), "session", True)
    assert landed.restated.to_pylist() == [{"symbol": "C", "session": day}]
    assert landed.missing == 0
    assert dict(zip("ABCD", landed.objects["new_rows"].to_pylist(), strict=True)) == {"A": 0, "B": 0, "C": 1, "D": 1}
    stored = {"A": (10.0, 0), "B": (10.5, 1), "C": (10.7, 2), "D": (4.0, 2)}
    assert read(lake, list("ABCD")) == {(symbol, day): value for symbol, value in stored.items()}
    assert [(row["close"], (row["ingest_ts"] - T0).days) for row in landed.rows.to_pylist()] == list(stored.values())
    held = session_files.read_symbols(lake, LAYOUT.session_key(OHLCV_1D, "polygon", day), OHLCV_1D, None)
    assert held["symbol"].to_pylist() == ["B", "C", "D"]


def test_a_minute_that_a_forced_response_lacks_is_counted_though_another_grain_holds_it(lake):
    rows = minutes(["A", "B"], DAYS[:1], 3)
    put(lake, rows, "year", dataset=OHLCV_1M)
    corrected = minutes(["A"], DAYS[:1], 1, close=7.0, at=LATER)
    put(lake, corrected, "session", WAYS["in place"], OHLCV_1M)
    again = pa.concat_tables([corrected, rows.slice(1, 1), rows.slice(3)])  # without the last minute of A
    landed = put(lake, again, "session", True, OHLCV_1M)
    assert (landed.written, landed.missing, len(landed.rows)) == (0, 1, 5)
    assert landed.rows["close"].to_pylist() == [7.0, 10.0, 10.0, 10.0, 10.0]


span = [date(2021, 12, 29) + timedelta(n) for n in range(6)]
bar_values = st.tuples(st.integers(0, 3).map(float), st.sampled_from([None, 1.0, 2.0]))
cells = st.dictionaries(st.tuples(st.sampled_from(["A", "z", "m"]), st.sampled_from(span)), bar_values, max_size=6)
WHOLE, LACKING = {("A", span[0]): (1.0, 2.0)}, {("A", span[0]): (1.0, None)}
landings = st.lists(st.tuples(st.sampled_from(GRAINS), cells, st.booleans()), max_size=6)


@settings(max_examples=25)
@given(landings)
@example([("day", WHOLE, True), ("year", LACKING, False)])  # there is no year file yet
@example([("year", {("A", span[1]): (1.0, None)}, True), ("day", WHOLE, True), ("year", LACKING, False)])  # it lacks the session
@example([("day", LACKING, True), ("year", WHOLE, False), ("day", LACKING, False)])  # the other file has the newest bar
@example([("day", WHOLE, True), ("year", {("A", span[0]): (3.0, None)}, False), ("day", LACKING, False)])  # of another price
def test_the_newest_response_is_read_and_equal_values_write_nothing(steps):
    """Any sequence of responses, each newer than the last and into any grain, as runs that request covered cells write them.

    A response without ``adj_close`` leaves that of an equal bar as it is. Of another bar nothing is known.
    """
    current: dict[tuple[str, date], tuple[float, float | None]] = {}
    with TemporaryDirectory() as folder:
        lake = Lake.open(f"file://{folder}/lake")
        for number, (grain, values, in_place) in enumerate(steps):
            at = T0 + timedelta(number)
            rows = [bars([cell], close=close, adj_close=adjusted, at=at) for cell, (close, adjusted) in values.items()]
            terms = Refetch(in_place=in_place)
            landed = land(lake, LAYOUT, OHLCV_1D, "polygon", pa.concat_tables([bars([]), *rows]), grain, refetch=terms)
            before = dict(current)
            for cell, (close, adjusted) in values.items():
                kept = adjusted is None and cell in current and current[cell][0] == close
                current[cell] = current[cell] if kept else (close, adjusted)
            if in_place:
                assert (landed.written > 0) == (current != before)
            found = read_rows(lake, LAYOUT, OHLCV_1D, "polygon", ["z", "A", "m"], span[0], span[-1] + timedelta(1))
            listed = read_rows(lake, LAYOUT, OHLCV_1D, "polygon", ["z", "A", "m"], span[0], span[-1] + timedelta(60))
            assert found.equals(listed)
            assert {(r["symbol"], r["session"]): (r["close"], r["adj_close"]) for r in found.to_pylist()} == current
            assert {(r["symbol"], r["session"]): (r["close"], r["adj_close"]) for r in landed.rows.to_pylist()} == {
                cell: current[cell] for cell in values
            }


# -- session files -----------------------------------------------------------------------------------------------------------------


def minutes(symbols, days, size, **values):
    rows = bars([(symbol, day) for symbol in symbols for day in days for _ in range(size)], **values)
    times = [
        datetime(d.year, d.month, d.day, 14, 30, tzinfo=UTC) + timedelta(minutes=n)
        for _ in symbols
        for d in days
        for n in range(size)
    ]
    return rows.set_column(2, rows.schema.field(2), pa.array(times, rows.schema.field(2).type))


@pytest.fixture
def large(lake, monkeypatch):
    """A session file of 64 row groups, of which a tail of 4,096 bytes holds the footer in part."""
    monkeypatch.setattr(session_files, "ROW_GROUP", 100)
    monkeypatch.setattr(session_files, "TAIL", 4096)
    monkeypatch.setattr(session_files, "NEAR", 64)
    rows = minutes([f"S{n:02d}" for n in range(64)], DAYS[:1], 100)
    noise = pa.array([(n * 7919) % 104729 / 7 for n in range(len(rows))])
    rows = rows.set_column(rows.schema.get_field_index("close"), rows.schema.field("close"), noise)
    put(lake, rows, "session", dataset=OHLCV_1M)
    return rows


def test_one_symbol_of_a_session_file_fetches_its_row_groups_only(lake, large, monkeypatch):
    [(_, size)] = lake.list("raw")
    fetched, part = [], lake.get_part
    monkeypatch.setattr(lake, "get_part", lambda key, start, end, etag: fetched.append(end - start) or part(key, start, end, etag))
    for symbol in ("S00", "S31", "S63"):
        fetched.clear()
        expected = large.filter(pc.equal(large["symbol"], symbol))
        assert read_rows(lake, LAYOUT, OHLCV_1M, "polygon", [symbol], DAYS[0], DAYS[1]).equals(expected)
        footer, *groups = fetched
        assert sum(groups) < 3 * size / 64 < footer
    everything = read_rows(lake, LAYOUT, OHLCV_1M, "polygon", [f"S{n:02d}" for n in range(64)], DAYS[0], DAYS[1])
    assert everything.equals(parquet.by_key(large, OHLCV_1M.key))
    assert len(read_rows(lake, LAYOUT, OHLCV_1M, "polygon", ["T"], DAYS[0], DAYS[1])) == 0


def test_a_session_file_replaced_while_it_is_read_is_read_again(lake, large, monkeypatch):
    replaced, part = [], lake.get_part

    def get_part(*args):
        if len(replaced) < 2:
            replaced.append(
                put(lake, minutes(["S31"], DAYS[:1], 100, close=float(len(replaced)), at=LATER), "session", True, OHLCV_1M)
            )
        return part(*args)

    monkeypatch.setattr(lake, "get_part", get_part)
    found = read_rows(lake, LAYOUT, OHLCV_1M, "polygon", ["S31"], DAYS[0], DAYS[1])
    assert found["close"].unique().to_pylist() == [1.0]
    monkeypatch.setattr(lake, "get_part", lambda *args: None)
    with pytest.raises(LakeError, match=r"session-.*\.parquet was replaced 8 times while it was read"):
        read_rows(lake, LAYOUT, OHLCV_1M, "polygon", ["S31"], DAYS[0], DAYS[1])


def test_a_session_file_that_is_no_parquet_is_named(lake):
    key = LAYOUT.session_key(OHLCV_1D, "polygon", D0)
    lake.put_new(key, b"<html>")
    with pytest.raises(LakeError, match=f"object {key} cannot be read"):
        read(lake)
    assert put(lake, bars(CELLS), "session", True).broken[0].startswith(f"lake object {key} cannot be read")
    assert read(lake) == dict.fromkeys(CELLS, (10.0, 0))


@pytest.mark.parametrize(("source", "target"), tiers([("session", "year"), ("day", "session")], ("session", "year")))
def test_rows_that_move_between_grains_while_they_are_read_are_found(lake, monkeypatch, source, target):
    """As compaction moves them: written to the coarser file, then deleted, between any two operations of the reader."""
    for step in range(12):
        folder = f"raw{step}"
        layout = Layout(folder)
        rows = bars([(f"S{n}", day) for n in range(20) for day in DAYS[:2]])
        land(lake, layout, OHLCV_1D, "polygon", rows, source, refetch=False)
        operations = []

        def moved(method, layout=layout, rows=rows, operations=operations, folder=folder, step=step):
            original = getattr(Lake, method)

            def call(*args):
                operations.append(method)
                if len(operations) == step + 1:
                    old = [key for key, _ in Lake.list(lake, folder)]
                    land(lake, layout, OHLCV_1D, "polygon", rows, target, refetch=False)
                    for key in old:
                        lake.delete(key)
                return original(lake, *args)

            return call

        with monkeypatch.context() as patch:
            for method in ("list", "folders", "get_tail"):
                patch.setattr(lake, method, moved(method))
            found = read_rows(lake, layout, OHLCV_1D, "polygon", [f"S{n}" for n in range(20)], DAYS[0], DAYS[0] + timedelta(40))
        assert len(found) == 40, step


# a request that is read again

WHOLE = (Block(("A",), (closed(DAYS[0], DAYS[1]),)), Block(("B",), (closed(DAYS[1], DAYS[1]),)))
QUARANTINED = (Block(("A", "B"), (closed(DAYS[0], DAYS[1]),)),)


@pytest.mark.parametrize("blocks", [WHOLE, QUARANTINED], ids=["other cell of a symbol", "quarantined symbol"])
@pytest.mark.parametrize("grain", ["day", "session"])
def test_a_request_is_read_whole_although_other_rows_fill_its_object(lake, grain, blocks):
    """A's first row is equal in the year file and stays there; the object of its session has one of B."""
    put(lake, bars([("A", DAYS[0])]), "year")
    put(lake, bars([("B", DAYS[0])]), grain)
    runs = [
        CellRun(("A",), State.HAVE, "", WHOLE[0].intervals, with_rows=True),
        CellRun(("B",), State.HAVE, "", WHOLE[1].intervals, with_rows=True)
        if blocks == WHOLE
        else CellRun(("B",), State.QUARANTINED, "why", QUARANTINED[0].intervals),
    ]
    own = [(symbol, day) for run in runs if run.with_rows for symbol in run.symbols for day in run.sessions]
    landed = put(lake, bars(own, at=LATER), grain, Refetch(in_place=True))
    receipt = RequestReceipt(
        Request.of("ohlcv-1d", "bars", blocks), Evidence(1, 0, 1, 1, 3, None, last_page_seen=True), {}, tuple(runs)
    )
    [found] = read_request(lake, LAYOUT, OHLCV_1D, "polygon", StoredReceipt(receipt, landed.objects))
    assert [(row["symbol"], row["session"]) for row in found.to_pylist()] == own
