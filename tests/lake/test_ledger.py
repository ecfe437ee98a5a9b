"""The coverage ledger, against dictionaries."""

import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.outcome import State
from market_data.datasets.bars import UTC_MICROS
from market_data.lake.coverage import CELLS, ENCODED, SCHEMA, Coverage
from market_data.lake.ledger import read_coverage, read_objects, write_cells
from market_data.lake.store import Lake
from tests.lake.rows import D0, T0, open_lake

WHERE = ("ohlcv-1d", "polygon")


def cells(*rows):
    """(symbol, day number, state[, reason])."""
    full = [(s, D0 + timedelta(d), str(state), *(reason or [""])) for s, d, state, *reason in rows]
    return pa.table(list(zip(*full, strict=True)) or [[], [], [], []], schema=CELLS) if full else CELLS.empty_table()


def known(coverage):
    rows = coverage.table.to_pylist()
    return {(r["symbol"], (r["session"] - D0).days): (r["state"], r["reason"]) for r in rows}


def test_nothing_recorded_is_empty_coverage(lake):
    coverage = read_coverage(lake, *WHERE)
    assert len(coverage) == 0
    assert coverage.state("AAPL", D0) is None
    assert coverage.covered(["AAPL", "MSFT"], [D0]) == {"AAPL": 0, "MSFT": 0}
    some = cells(("AAPL", 0, State.HAVE))
    assert coverage.changed(some).equals(some)


def test_later_records_win(lake, run):
    other = replace(run, run_id="another")
    one, two = (
        cells(("A", 0, "have"), ("A", 1, "empty", "no trade"), ("B", 0, "pending", "late")),
        cells(("A", 1, "have"), ("B", 0, "have")),
    )
    assert write_cells(lake, *WHERE, other, "b001", two, recorded_at=T0 + timedelta(1))
    assert write_cells(lake, *WHERE, run, "b001", one, recorded_at=T0)
    coverage = read_coverage(lake, *WHERE)
    assert known(coverage) == {("A", 0): ("have", ""), ("A", 1): ("have", ""), ("B", 0): ("have", "")}
    assert coverage.state("A", D0 + timedelta(1)) is State.HAVE
    assert coverage.state("A", D0 + timedelta(2)) is None
    assert coverage.state("C", D0) is None
    assert coverage.table.column_names == SCHEMA.names
    assert set(coverage.table["run_id"].to_pylist()) == {run.run_id, "another"}


def test_ties_go_to_the_later_key(lake, run):
    write_cells(lake, *WHERE, run, "b002", cells(("A", 0, "empty", "x")), recorded_at=T0)
    write_cells(lake, *WHERE, run, "b001", cells(("A", 0, "have")), recorded_at=T0)
    assert known(read_coverage(lake, *WHERE)) == {("A", 0): ("empty", "x")}


def test_the_same_cells_are_recorded_once(lake, run, watch):
    rows = cells(("B", 0, "empty", "no trade"), ("A", 0, "have"))
    assert write_cells(lake, *WHERE, run, "b001", rows, recorded_at=T0)
    [(key, _)] = lake.list("manifest")
    assert key == f"manifest/ohlcv-1d/provider=polygon/run={run.key}/b001.parquet"
    body = lake.get(key).body
    assert not write_cells(lake, *WHERE, run, "b001", rows.take([1, 0]))
    assert not write_cells(lake, *WHERE, run, "b001", CELLS.empty_table())
    assert lake.get(key).body == body
    if watch.server:
        assert len(watch.server.client.list_object_versions(Bucket=watch.server.bucket)["Versions"]) == 1


def test_what_a_second_try_adds_joins_what_stands(lake, run):
    write_cells(lake, *WHERE, run, "b001", cells(("A", 0, "have"), ("A", 1, "have")), recorded_at=T0)
    assert write_cells(lake, *WHERE, run, "b001", cells(("A", 1, "refused", "count"), ("A", 2, "have")))
    assert known(read_coverage(lake, *WHERE)) == {("A", 0): ("have", ""), ("A", 1): ("refused", "count"), ("A", 2): ("have", "")}


def test_a_lost_reply_is_one_record(s3, run):
    lake = open_lake(f"s3://{s3.bucket}")
    s3.lose = 1
    assert write_cells(lake, *WHERE, run, "b001", cells(("A", 0, "have")))
    assert len(s3.client.list_object_versions(Bucket=s3.bucket)["Versions"]) == 1


def test_providers_and_datasets_are_apart(lake, run):
    write_cells(lake, "ohlcv-1d", "alpaca", run, "b001", cells(("A", 0, "have")))
    write_cells(lake, "ohlcv-1d", "alpaca~iex", run, "b001", cells(("A", 1, "have")))
    assert list(known(read_coverage(lake, "ohlcv-1d", "alpaca"))) == [("A", 0)]
    assert list(known(read_coverage(lake, "ohlcv-1d", "alpaca~iex"))) == [("A", 1)]
    assert len(read_coverage(lake, "ohlcv-1m", "alpaca")) == 0


def test_cells_of_another_schema_are_refused(lake, run):
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        write_cells(lake, *WHERE, run, "b001", cells(("A", 0, "have")).drop_columns(["reason"]))


# -- against dictionaries --------------------------------------------------------------------------------------------------------

states = st.sampled_from([("have", ""), ("empty", "no trade"), ("empty", "closed"), ("pending", "late"), ("refused", "count")])
some_cells = st.dictionaries(st.tuples(st.sampled_from(["A", "B", "../x"]), st.integers(-3, 70)), states, max_size=12)
ledgers = st.lists(st.tuples(st.integers(0, 3), some_cells), max_size=5)


def as_table(found):
    return cells(*((s, d, state, reason) for (s, d), (state, reason) in found.items()))


def coverage_of(ledger):
    records = [pa.Table.from_batches([], SCHEMA)]
    for number, (at, found) in enumerate(ledger):
        rows = as_table(found)
        added = [
            pa.array([T0 + timedelta(at)] * len(rows), UTC_MICROS),
            [f"run{number}"] * len(rows),
            ["b"] * len(rows),
        ]
        records.append(pa.table([*rows.columns, *added], schema=SCHEMA))
    return Coverage(pa.concat_tables([record.cast(ENCODED) for record in records]))


def folded(ledger):
    result = {}
    for _, found in sorted(ledger, key=lambda item: item[0]):
        result |= found
    return result


@given(ledgers)
def test_folding_is_that_of_a_dictionary(ledger):
    coverage, expected = coverage_of(ledger), folded(ledger)
    assert known(coverage) == expected
    assert len(coverage) == len(expected)
    for symbol in ("A", "../x", "Z"):
        for day in range(-4, 72, 5):
            state = coverage.state(symbol, D0 + timedelta(day))
            assert state == expected.get((symbol, day), (None,))[0]


@given(
    ledgers,
    st.lists(st.sampled_from(["A", "B", "../x", "Z"])),
    st.lists(st.integers(-3, 70), unique=True),
    st.sets(st.sampled_from(State)),
)
def test_masks_are_those_of_brute_force(ledger, symbols, days, wanted):
    coverage, expected = coverage_of(ledger), folded(ledger)

    def brute(allowed):
        return {s: sum(1 << i for i, d in enumerate(days) if expected.get((s, d), ("", ""))[0] in allowed) for s in symbols}

    sessions = [D0 + timedelta(day) for day in days]
    assert coverage.covered(symbols, sessions, states=wanted) == brute({str(state) for state in wanted})
    assert coverage.covered(symbols, sessions) == brute({str(state) for state in State})


@given(ledgers, some_cells)
def test_changed_cells_are_those_of_a_dictionary(ledger, found):
    expected = folded(ledger)
    changed = coverage_of(ledger).changed(as_table(found))
    assert changed.schema.equals(CELLS)
    rows = [((r["symbol"], (r["session"] - D0).days), (r["state"], r["reason"])) for r in changed.to_pylist()]
    assert rows == [(cell, value) for cell, value in found.items() if expected.get(cell) != value]


def test_sessions_long_past_are_cells_too():
    old = pa.table([["A"], [date(1962, 1, 2)], ["have"], [""]], schema=CELLS)
    stamp = pa.array([T0], UTC_MICROS)
    coverage = Coverage(pa.table([*old.columns, stamp, ["r"], ["b"]], schema=SCHEMA).cast(ENCODED))
    assert coverage.state("A", date(1962, 1, 2)) is State.HAVE
    assert coverage.covered(["A"], [date(1962, 1, 3), date(1962, 1, 2)]) == {"A": 2}
    assert len(coverage.changed(old)) == 0


def test_objects_are_read_in_order_whatever_they_hold(lake, run):
    keys = []
    for number in range(150):
        write_cells(lake, "ohlcv-1d", "polygon", run, f"b{number:03d}", cells((f"S{number}", 0, State.HAVE)), recorded_at=T0)
        keys.append(f"manifest/ohlcv-1d/provider=polygon/run={run.key}/b{number:03d}.parquet")
    lake.update(keys[70], lambda _: b"no Parquet")
    found = list(read_objects(lake, [*keys, "manifest/none"]))
    assert [one.key for one in found] == [*keys, "manifest/none"]
    assert [number for number, one in enumerate(found) if one.problem] == [70]
    assert (found[-1].etag, found[-1].records) == (None, None)
    for number, one in enumerate(found[:-1]):
        if number != 70:
            assert (one.etag, one.records["symbol"].to_pylist()) == (lake.get(one.key).etag, [f"S{number}"])


def test_small_objects_are_compressed_for_quick_reading_and_large_ones_for_size(lake, run, monkeypatch):
    monkeypatch.setattr("market_data.lake.ledger.SMALL", 2)
    for batch, count in (("small", 2), ("large", 3)):
        write_cells(lake, "ohlcv-1d", "polygon", run, batch, cells(*((f"S{n}", 0, State.HAVE) for n in range(count))))
    found = {}
    for key, _ in lake.list("manifest"):
        group = pq.ParquetFile(pa.BufferReader(lake.get(key).body)).metadata.row_group(0)
        found[key.rpartition("/")[2]] = {group.column(column).compression for column in range(group.num_columns)}
    assert found == {"large.parquet": {"ZSTD"}, "small.parquet": {"SNAPPY"}}


def test_a_page_reads_the_ledger_without_pandas(tmp_path, run):
    lake = Lake.open(f"file://{tmp_path}")
    write_cells(lake, "ohlcv-1d", "polygon", run, "b1", cells(("A", 0, State.HAVE)), recorded_at=T0)
    code = (
        "import sys; from market_data.lake.store import Lake; from market_data.views.ledgers import records_of\n"
        f"assert len(records_of(Lake.open({lake.url!r}), 'ohlcv-1d', 'polygon')) == 1; assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
