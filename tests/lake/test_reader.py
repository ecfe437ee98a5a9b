"""Reading bars back, whatever the files' grain."""

from datetime import date, timedelta
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.errors import LakeError
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import parquet
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.lake.writer import land
from tests.lake.rows import T0, bars, weekdays

LAYOUT = Layout()
DAYS = weekdays(date(2021, 11, 1), 600)


def put(lake, rows, grain, layout=LAYOUT):
    land(lake, layout, OHLCV_1D, "polygon", rows, grain, refetch=False)


def read(lake, symbols, start, end, layout=LAYOUT):
    return read_rows(lake, layout, OHLCV_1D, "polygon", symbols, start, end)


@pytest.mark.parametrize("layout", [LAYOUT, Layout("plain", provider_level=False)])
def test_mixed_grains_are_one_table(lake, layout):
    old, recent = bars([(s, d) for s in ("A", "B") for d in DAYS[:-10]]), bars([(s, d) for s in ("A", "B") for d in DAYS[-10:]])
    put(lake, old, "year", layout)
    put(lake, recent, "day", layout)
    for start, end in [
        (DAYS[0], DAYS[-1] + timedelta(1)),  # all years
        (DAYS[-15], DAYS[-5]),  # both grains, listed
        (DAYS[-12], DAYS[-8]),  # both grains, asked for by key
        (DAYS[3], DAYS[4]),
        (date(2021, 12, 30), date(2022, 1, 5)),
    ]:
        expected = [(s, d) for s in ("A", "B") for d in DAYS if start <= d < end]
        found = read(lake, ["B", "A", "none", "A"], start, end, layout)
        assert list(zip(found["symbol"].to_pylist(), found["session"].to_pylist(), strict=True)) == expected
        assert found.schema.equals(OHLCV_1D.schema)


@pytest.mark.parametrize("days", [1, 30])
@pytest.mark.parametrize("newer", ["day", "year"])
def test_the_newest_row_of_a_key_counts(lake, days, newer):
    older = "year" if newer == "day" else "day"
    put(lake, bars([("A", DAYS[0])], close=1.0, at=T0), older)
    put(lake, bars([("A", DAYS[0])], close=2.0, at=T0 + timedelta(1)), newer)
    assert read(lake, ["A"], DAYS[0], DAYS[0] + timedelta(days))["close"].to_pylist() == [2.0]


@pytest.mark.parametrize("days", [1, 30])
@pytest.mark.parametrize("symbol", ["A", "z"])  # in a listing, before and after "month="
@pytest.mark.parametrize("first", ["day", "year"])
def test_of_equally_new_rows_the_day_file_counts(lake, days, symbol, first):
    for grain in (first, "year" if first == "day" else "day"):
        put(lake, bars([(symbol, DAYS[0])], close=1.0 if grain == "day" else 2.0), grain)
    assert read(lake, [symbol], DAYS[0], DAYS[0] + timedelta(days))["close"].to_pylist() == [1.0]


def test_nothing_is_an_empty_table(lake):
    for symbols, end in ((["A"], DAYS[1]), ([], DAYS[1]), (["A"], DAYS[0]), (["A"], DAYS[100])):
        found = read(lake, symbols, DAYS[0], end)
        assert len(found) == 0
        assert found.schema.equals(OHLCV_1D.schema)


def test_other_objects_in_the_folder_are_left_aside(lake):
    put(lake, bars([("A", DAYS[0])]), "day")
    folder = LAYOUT.symbol_prefix(OHLCV_1D, "polygon", "A")
    lake.put_new(f"{folder}/year=2021/_SUCCESS", b"")
    assert len(read(lake, ["A"], DAYS[0], DAYS[40])) == 1


def test_rows_folded_while_being_read_are_found(lake, monkeypatch):
    put(lake, bars([("A", d) for d in DAYS[:3]]), "day")
    listed = lake.list

    def seen(prefix):
        found = listed(prefix)
        return [*found, (f"{prefix}/month=11/A-2021-11-05.parquet", 1)][: 3 + folding.pop()] if "/symbol=A" in prefix else found

    monkeypatch.setattr(lake, "list", seen)
    folding = [0, 0, 1]  # the first listing names an object that is gone by the time it is read; each try lists twice
    assert len(read(lake, ["A"], DAYS[0], DAYS[20])) == 3
    assert folding == []


def test_rows_that_a_listing_misses_while_they_are_folded_are_found(lake, monkeypatch):
    """The year file is written after its part of the listing, the day file deleted before its part."""
    put(lake, bars([("A", d) for d in DAYS[:3]]), "year")
    listed, calls = lake.list, []
    monkeypatch.setattr(lake, "list", lambda prefix: calls.append(prefix) or ([] if len(calls) == 1 else listed(prefix)))
    assert len(read(lake, ["A"], DAYS[0], DAYS[20])) == 3


def test_objects_that_keep_going_away_are_an_error(lake, monkeypatch):
    monkeypatch.setattr(lake, "list", lambda prefix: [(f"{prefix}/month=11/A-2021-11-05.parquet", 1)])
    with pytest.raises(LakeError, match="objects of A were deleted 5 times"):
        read(lake, ["A"], DAYS[0], DAYS[20])


def test_an_object_without_a_required_column_is_named(lake):
    put(lake, bars([("A", DAYS[0])]), "day")
    [(key, _)] = lake.list("raw")
    lake.update(key, lambda body: parquet.encode(parquet.decode(body, key).drop_columns(["session"])))
    with pytest.raises(LakeError, match=f"{key} cannot be read: column session is missing"):
        read(lake, ["A"], DAYS[0], DAYS[1])


# -- any sequence of landings, against a dictionary --------------------------------------------------------------------------------

SPAN = [date(2021, 12, 20) + timedelta(n) for n in range(24)]
cells = st.dictionaries(st.tuples(st.sampled_from(["A", "z"]), st.sampled_from(SPAN)), st.integers(0, 3), max_size=6)
landings = st.lists(st.tuples(st.sampled_from(["day", "year"]), cells, st.integers(0, 3), st.booleans()), max_size=6)


@settings(max_examples=40)
@given(landings, st.sampled_from(SPAN), st.integers(0, 30))
def test_reading_gives_the_newest_row_of_either_grain(steps, start, days):
    files = {"day": {}, "year": {}}
    with TemporaryDirectory() as folder:
        lake = Lake.open(f"file://{folder}/lake")
        for grain, values, at, refetch in steps:
            rows = [bars([cell], close=float(close), at=T0 + timedelta(at)) for cell, close in values.items()]
            land(lake, LAYOUT, OHLCV_1D, "polygon", pa.concat_tables([bars([]), *rows]), grain, refetch=refetch)
            for cell, close in values.items():
                stood, rival = files[grain].get(cell), files["year" if grain == "day" else "day"].get(cell)
                repaired = refetch and stood and rival and stood[1] == close != rival[1] and stood[0] < rival[0] < at
                if stood is None or (stood[1] != close and stood[0] <= at) or repaired:
                    files[grain][cell] = (at, close)
        found = read(lake, ["A", "z"], start, start + timedelta(days))
    expected = {}
    for cell in sorted({*files["day"], *files["year"]}):
        if start <= cell[1] < start + timedelta(days):
            versions = [files[grain][cell] for grain in ("day", "year") if cell in files[grain]]
            expected[cell] = max(versions, key=lambda version: version[0])  # the first of equals: the day file's
    assert [((r["symbol"], r["session"]), ((r["ingest_ts"] - T0).days, r["close"])) for r in found.to_pylist()] == [
        (cell, (at, float(close))) for cell, (at, close) in expected.items()
    ]
