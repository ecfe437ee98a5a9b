"""Landing bars: create, leave, correct, merge; nobody's rows get lost."""

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import get_context

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.errors import LakeError, ParamError, QualityError, SchemaDrift
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.lake import merge, parquet
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.writer import land
from tests.lake.rows import D0, T0, bars, land_singly, open_lake, weekdays

LATER = T0 + timedelta(days=1)
LAYOUT = Layout()
SYMBOLS = ["AAPL", "BRK.B", "MSFT"]
YEAR_KEY = LAYOUT.object_key(OHLCV_1D, "polygon", "AAPL", D0, "year")


def put(lake, rows, grain="day", refetch=False, layout=LAYOUT):
    return land(lake, layout, OHLCV_1D, "polygon", rows, grain, refetch=refetch)


def stored(lake, symbol, session, grain="day"):
    key = LAYOUT.object_key(OHLCV_1D, "polygon", symbol, session, grain)
    found = lake.get(key)
    return found and parquet.decode(found.body, key, OHLCV_1D.schema)


def before(lake, monkeypatch, method, act, *, call=1):
    """Has ``act`` come right before the given call of the lake's ``method``, counted from 1; a list with the key of each call."""
    original, calls = getattr(lake, method), []

    def delayed(*args):
        calls.append(args[0])
        if len(calls) == call:
            act()
        return original(*args)

    monkeypatch.setattr(lake, method, delayed)
    return calls


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("refetch", [False, True])
def test_new_rows_are_created_by_key(lake, watch, grain, refetch):
    days = weekdays(date(2023, 12, 28), 4)
    rows = bars([(symbol, day) for day in days for symbol in reversed(SYMBOLS)])
    with watch.writes() as writes:
        landed = put(lake, rows, grain, refetch)
    assert landed.written == len(writes) == (12 if grain == "day" else 6)
    assert landed.unchanged == 0
    assert landed.size == sum(size for _, size in lake.list("raw"))
    assert landed.rows.equals(parquet.by_key(rows, OHLCV_1D.key))
    assert len(stored(lake, "AAPL", days[0], grain)) == (1 if grain == "day" else 2)


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("refetch", [False, True])
def test_equal_values_cause_no_write_and_keep_their_ingest_ts(lake, watch, grain, refetch):
    cells = [(symbol, day) for symbol in SYMBOLS for day in weekdays(D0, 3)]
    first = put(lake, bars(cells, volume=math.nan), grain)
    with watch.writes() as writes:
        again = put(lake, bars(cells, volume=math.nan, at=LATER), grain, refetch)
    # the first try of a create is a PUT that S3 answers with 412: no object, no version
    assert len(writes) == (0 if refetch or watch.server is None else first.written)
    assert (again.written, again.unchanged, again.size) == (0, first.written, 0)
    assert again.rows["ingest_ts"].unique().to_pylist() == [T0]
    if watch.server:
        assert len(watch.server.client.list_object_versions(Bucket=watch.server.bucket)["Versions"]) == first.written


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("refetch", [False, True])
def test_a_correction_is_one_new_version(lake, watch, grain, refetch):
    days = weekdays(D0, 3)
    cells = [(symbol, day) for symbol in SYMBOLS for day in days]
    put(lake, bars(cells), grain)
    corrected = pa.concat_tables(
        [bars([c for c in cells if c != ("AAPL", days[1])], at=LATER), bars([("AAPL", days[1])], close=10.5, at=LATER)]
    )
    with watch.writes() as writes:
        landed = put(lake, corrected, grain, refetch)
    assert (landed.written, landed.unchanged) == (1, 8 if grain == "day" else 2)
    if refetch or watch.server is None:
        assert len(writes) == 1
    seen = {(r["symbol"], r["session"]): (r["close"], r["ingest_ts"]) for r in landed.rows.to_pylist()}
    assert seen == {cell: (10.5, LATER) if cell == ("AAPL", days[1]) else (10.0, T0) for cell in cells}
    rows = stored(lake, "AAPL", days[1], grain).to_pylist()
    assert [(r["close"], r["ingest_ts"]) for r in rows if r["session"] == days[1]] == [(10.5, LATER)]
    if watch.server:
        key = "some/prefix/" + LAYOUT.object_key(OHLCV_1D, "polygon", "AAPL", days[1], grain)
        assert len(watch.server.client.list_object_versions(Bucket=watch.server.bucket, Prefix=key)["Versions"]) == 2


def test_a_value_against_null_is_a_correction(lake):
    put(lake, bars([("AAPL", D0)], volume=None))
    assert put(lake, bars([("AAPL", D0)], volume=0.0, at=LATER), refetch=True).written == 1
    assert stored(lake, "AAPL", D0)["volume"].to_pylist() == [0.0]


@pytest.mark.parametrize("name", ["adj_close", "volume", "vwap", "trade_count"])
def test_what_an_endpoint_does_not_have_is_no_correction(lake, name):
    values = {"adj_close": 9.0, "volume": 5.0, "vwap": 10.0, "trade_count": 3}
    put(lake, bars([("AAPL", D0)], **values))
    landed = put(lake, bars([("AAPL", D0)], **{**values, name: None}, at=LATER), refetch=True)
    assert (landed.written, landed.missing) == (0, 0)
    assert landed.rows[name].to_pylist() == stored(lake, "AAPL", D0)[name].to_pylist() == [values[name]]
    changed = {**values, name: None, "close": 10.25}
    assert put(lake, bars([("AAPL", D0)], **changed, at=LATER), refetch=True).written == 1
    assert stored(lake, "AAPL", D0)[name].to_pylist() == [None]  # of another bar nothing is known


@pytest.mark.parametrize("refetch", [False, True])
def test_rows_that_stand_and_do_not_come_are_counted_even_where_others_moved(lake, refetch):
    """A statement filed again has the same key, and another session of the same file."""
    kept, moved = bars([("AAPL", D0)]), bars([("AAPL", D0 + timedelta(1))])
    put(lake, pa.concat_tables([kept, moved]), grain="year")
    assert put(lake, kept, grain="year", refetch=refetch).missing == 0
    columns = [kept[name] if name == "session" else moved[name] for name in moved.column_names]  # the key is bar_time
    back = pa.table(columns, schema=OHLCV_1D.schema)
    assert put(lake, back, grain="year", refetch=refetch).missing == 1


@pytest.mark.parametrize("refetch", [False, True])
def test_a_standing_row_of_newer_ingest_ts_is_kept(lake, refetch):
    put(lake, bars([("AAPL", D0)], close=10.5, at=LATER))
    landed = put(lake, bars([("AAPL", D0)], close=10.0, at=T0), refetch=refetch)
    assert (landed.written, landed.unchanged) == (0, 1)
    assert landed.rows["close"].to_pylist() == stored(lake, "AAPL", D0)["close"].to_pylist() == [10.5]


@pytest.mark.parametrize("refetch", [False, True])
def test_a_partial_year_is_extended_once(lake, refetch):
    days = weekdays(D0, 6)
    put(lake, bars([("AAPL", day) for day in days[:3]]), "year")
    landed = put(lake, bars([("AAPL", day) for day in days[2:]], at=LATER), "year", refetch)
    assert (landed.written, landed.unchanged) == (1, 0)
    assert landed.rows["ingest_ts"].to_pylist() == [T0, LATER, LATER, LATER]
    year = stored(lake, "AAPL", D0, "year")
    assert year["session"].to_pylist() == days
    assert year["ingest_ts"].to_pylist() == [T0] * 3 + [LATER] * 3


def test_a_part_of_a_year_again_is_no_new_version(lake, watch):
    days = weekdays(D0, 6)
    put(lake, bars([("AAPL", day) for day in days]), "year")
    before = lake.get(YEAR_KEY)
    with watch.writes() as writes:
        landed = put(lake, bars([("AAPL", day) for day in days[2:4]], at=LATER), "year", refetch=True)
    assert writes == []
    assert (landed.written, landed.unchanged, landed.size) == (0, 1, 0)
    assert landed.rows["ingest_ts"].to_pylist() == [T0, T0]
    assert lake.get(YEAR_KEY) == before


# -- repairs across grains ---------------------------------------------------------------------------------------------------------

GRAINS = [("day", "year"), ("year", "day")]


def read(lake, days, dataset=OHLCV_1D):
    """Close and ``ingest_ts`` of AAPL, asked for by key and, the same, listed."""
    found = [read_rows(lake, LAYOUT, dataset, "polygon", ["AAPL"], days[0], days[0] + timedelta(size)) for size in (7, 30)]
    assert found[0].equals(found[1])
    return [(r["close"], r["ingest_ts"]) for r in found[0].to_pylist()]


@pytest.mark.parametrize(("grain", "other"), GRAINS)
def test_a_refetch_repairs_what_the_other_grain_holds(lake, watch, grain, other):
    days, repair = weekdays(D0, 4), LATER + timedelta(1)
    cells = [("AAPL", day) for day in days]
    put(lake, bars(cells), grain)
    put(lake, bars([cells[1]], close=66.0, at=LATER), other)
    put(lake, bars([cells[2]], at=LATER), other)  # newer and equal: nothing to repair
    put(lake, bars([cells[3]], close=5.0, at=T0 - timedelta(1)), other)  # different and older: it does not count
    assert read(lake, days)[1] == (66.0, LATER)
    with watch.writes() as writes:
        landed = put(lake, bars(cells, at=repair), grain, refetch=True)
    assert len(writes) == landed.written == 1
    assert landed.rows["ingest_ts"].to_pylist() == [T0, repair, T0, T0]
    assert landed.rows["close"].to_pylist() == [10.0] * 4
    assert read(lake, days) == [(10.0, T0), (10.0, repair), (10.0, LATER), (10.0, T0)]
    with watch.writes() as writes:
        again = put(lake, bars(cells, at=repair + timedelta(1)), grain, refetch=True)
    assert (writes, again.written) == ([], 0)
    assert again.rows.equals(landed.rows)


@pytest.mark.parametrize(("grain", "other"), GRAINS)
def test_a_repair_within_the_day_finds_the_month_file(lake, watch, grain, other):
    days, repair = weekdays(D0, 3), LATER + timedelta(1)
    one = partial(land, lake, LAYOUT, OHLCV_1M, "polygon")
    one(minute_bars(days), grain, refetch=False)
    one(minute_bars(days[1:2], close=66.0, at=LATER).slice(1, 1), other, refetch=False)
    with watch.writes() as writes:
        landed = one(minute_bars(days, at=repair), grain, refetch=True)
    assert len(writes) == landed.written == 1
    assert landed.rows["ingest_ts"].to_pylist() == [T0] * 4 + [repair] + [T0] * 4
    assert read(lake, days, OHLCV_1M) == [(10.0, T0)] * 4 + [(10.0, repair)] + [(10.0, T0)] * 4


@pytest.mark.parametrize(("grain", "other"), GRAINS)
def test_a_repair_and_a_correction_are_one_write_of_an_object(lake, watch, grain, other):
    days, repair = weekdays(D0, 2), LATER + timedelta(1)
    put(lake, bars([("AAPL", day) for day in days]), grain)
    put(lake, bars([("AAPL", days[0])], close=66.0, at=LATER), other)
    rows = pa.concat_tables([bars([("AAPL", days[0])], at=repair), bars([("AAPL", days[1])], close=7.0, at=repair)])
    with watch.writes() as writes:
        put(lake, rows, grain, refetch=True)
    assert len(writes) == (2 if grain == "day" else 1)
    assert read(lake, days) == [(10.0, repair), (7.0, repair)]


@pytest.mark.parametrize(("grain", "other"), GRAINS)
def test_a_repair_older_than_what_the_other_grain_holds_is_left(lake, watch, grain, other):
    put(lake, bars([("AAPL", D0)]), grain)
    put(lake, bars([("AAPL", D0)], close=66.0, at=LATER), other)
    with watch.writes() as writes:
        assert put(lake, bars([("AAPL", D0)], at=LATER - timedelta(hours=1)), grain, refetch=True).written == 0
    assert writes == []
    assert read(lake, [D0]) == [(66.0, LATER)]


@pytest.mark.parametrize(("grain", "other"), GRAINS)
def test_only_a_refetch_looks_at_the_other_grain(lake, monkeypatch, grain, other):
    day, elsewhere = weekdays(D0, 2)
    put(lake, bars([("AAPL", day)]), grain)
    put(lake, bars([("AAPL", session) for session in (day, elsewhere)], close=66.0, at=LATER), other)
    reads, lists = (before(lake, monkeypatch, method, lambda: None, call=0) for method in ("get", "list"))
    own, rival = (LAYOUT.object_key(OHLCV_1D, "polygon", "AAPL", day, kind) for kind in (grain, other))
    put(lake, bars([("AAPL", day)], at=LATER + timedelta(1)), grain)
    assert (reads, lists) == ([own], [])
    put(lake, bars([("AAPL", day)], at=LATER + timedelta(1)), grain, refetch=True)
    assert reads == [own, own, rival]
    assert len(lists) == 1 + (grain == "year")  # the year's session files; a year's day files


# -- several writers of one year ---------------------------------------------------------------------------------------------------


def test_concurrent_writers_to_one_year_lose_nothing(lake):
    days = weekdays(D0, 16)

    def one(number):
        return put(lake, bars([("AAPL", days[number])], close=float(number)), "year", refetch=bool(number % 2))

    with ThreadPoolExecutor(16) as pool:
        landed = list(pool.map(one, range(16)))
    assert sum(result.written for result in landed) == 16
    year = stored(lake, "AAPL", D0, "year")
    assert year["session"].to_pylist() == days
    assert year["close"].to_pylist() == [float(n) for n in range(16)]


def test_of_concurrent_corrections_the_newest_stands(lake):
    days = weekdays(D0, 9)
    put(lake, bars([("AAPL", day) for day in days]), "year")

    def one(number):
        rows = bars([("AAPL", days[0]), ("AAPL", days[number])], close=float(number), at=T0 + timedelta(number))
        return put(lake, rows, "year", refetch=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [5, 1, 8, 3, 7, 2, 6, 4]))
    year = stored(lake, "AAPL", D0, "year")
    assert year["session"].to_pylist() == days
    assert year["close"].to_pylist() == [8.0, *(float(n) for n in range(1, 9))]


def test_concurrent_processes_extend_one_year_of_a_folder(tmp_path):
    url, days = f"file://{tmp_path}/lake", weekdays(D0, 30)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(land_singly, [url] * 2, [days[0::2], days[1::2]]))
    assert stored(open_lake(url), "AAPL", D0, "year")["session"].to_pylist() == days


@pytest.mark.parametrize(
    ("session", "at", "closes"),
    [
        (1, LATER, [10.0, 7.0, 12.0]),  # another session: both are kept
        (2, LATER + timedelta(1), [10.0, 7.0]),  # a newer correction of the same session: it stays
        (2, T0 + timedelta(hours=1), [10.0, 12.0]),  # an older one: it is replaced
    ],
)
def test_a_writer_between_read_and_write_is_taken_in(lake, monkeypatch, session, at, closes):
    days = weekdays(D0, 3)
    put(lake, bars([("AAPL", days[0])]), "year")
    calls = before(lake, monkeypatch, "put_if", lambda: put(lake, bars([("AAPL", days[session])], close=7.0, at=at), "year"))
    landed = put(lake, bars([("AAPL", days[2])], close=12.0, at=LATER), "year", refetch=True)
    assert calls == [YEAR_KEY] * (2 + landed.written)  # ours, refused; the other's; ours again, if there is still something to say
    assert stored(lake, "AAPL", D0, "year")["close"].to_pylist() == closes
    assert landed.rows["close"].to_pylist() == closes[-1:]
    assert landed.written == (closes[-1] == 12.0)


def test_a_writer_that_creates_the_year_first_is_taken_in(lake, monkeypatch):
    days = weekdays(D0, 2)
    before(lake, monkeypatch, "put_new", lambda: put(lake, bars([("AAPL", days[0])]), "year"))
    assert put(lake, bars([("AAPL", days[1])]), "year", refetch=True).written == 1
    assert stored(lake, "AAPL", D0, "year")["session"].to_pylist() == days


@pytest.mark.parametrize("grain", ["day", "year"])
@pytest.mark.parametrize("refetch", [False, True])
@pytest.mark.parametrize("standing", [False, True])
def test_a_lost_reply_counts_as_written_once(s3, grain, refetch, standing):
    lake = open_lake(f"s3://{s3.bucket}")
    if standing:
        put(lake, bars([("AAPL", D0)], close=9.5), grain)
    s3.lose = 2
    landed = put(lake, bars([("AAPL", D0)], at=LATER), grain, refetch=refetch)
    assert s3.lose == 0
    assert (landed.written, landed.unchanged) == (1, 0)
    assert landed.rows["close"].to_pylist() == stored(lake, "AAPL", D0, grain)["close"].to_pylist() == [10.0]
    assert len(s3.client.list_object_versions(Bucket=s3.bucket)["Versions"]) == 1 + standing


def test_a_write_whose_reply_was_lost_stands_under_the_next_one(s3, monkeypatch):
    days, lake = weekdays(D0, 3), open_lake(f"s3://{s3.bucket}")
    put(lake, bars([("AAPL", days[0])]), "year")
    s3.lose = 1  # our write is done and seems refused; another writer extends it before we look again
    other = partial(put, open_lake(f"s3://{s3.bucket}"), bars([("AAPL", days[1])], at=LATER), "year")
    calls = before(lake, monkeypatch, "get", other, call=2)
    landed = put(lake, bars([("AAPL", days[2])], at=LATER), "year", refetch=True)
    assert len(calls) == 2
    assert stored(lake, "AAPL", D0, "year")["session"].to_pylist() == days
    assert landed.rows["session"].to_pylist() == days[2:]
    assert len(s3.client.list_object_versions(Bucket=s3.bucket)["Versions"]) == 3


# -- month files -------------------------------------------------------------------------------------------------------------------


def minute_bars(days, **values):
    """Three bars a day, from 23:59 UTC on: two of them on the next date."""
    rows = bars([("AAPL", day) for day in days for _ in range(3)], **values)
    times = [datetime(d.year, d.month, d.day, 23, 59, tzinfo=UTC) + timedelta(minutes=n) for d in days for n in range(3)]
    return rows.set_column(2, rows.schema.field(2), pa.array(times, rows.schema.field(2).type))


def test_month_files_hold_a_month_of_bars_within_the_day(lake):
    days = [date(2024, 9, 30), date(2024, 10, 1)]
    rows = minute_bars(days)
    landed = land(lake, LAYOUT, OHLCV_1M, "polygon", rows, "year", refetch=False)
    assert landed.written == 2
    folder = "raw/equities_1min/provider=polygon/symbol=AAPL/year=2024"
    assert [key for key, _ in lake.list(folder)] == [f"{folder}/month=09/data.parquet", f"{folder}/month=10/data.parquet"]
    assert landed.rows["bar_time"].to_pylist() == rows["bar_time"].to_pylist()


def test_month_files_are_extended_and_read_with_day_files(lake):
    days = weekdays(D0, 4)
    month, more, single = minute_bars(days[:2]), minute_bars(days[2:3], at=LATER), minute_bars(days[1:2], close=7.0, at=LATER)
    for rows, grain in ((month, "year"), (more, "year"), (single, "day"), (minute_bars(days[3:]), "day")):
        land(lake, LAYOUT, OHLCV_1M, "polygon", rows, grain, refetch=False)
    assert len(lake.list("raw")) == 3
    for end in (days[3] + timedelta(1), days[3] + timedelta(30)):  # asked for by key, listed
        found = read_rows(lake, LAYOUT, OHLCV_1M, "polygon", ["AAPL"], days[0], end)
        assert found["bar_time"].to_pylist() == minute_bars(days)["bar_time"].to_pylist()
        assert found["close"].to_pylist() == [10.0] * 3 + [7.0] * 3 + [10.0] * 6


# -- symbols and columns -----------------------------------------------------------------------------------------------------------


HOSTILE = [
    "../../x",
    "..",
    ".",
    "a",
    "a/b",
    "A",
    "BRK.B",
    "brk.b",
    "^GSPC",
    "X:BTC-USD",
    "A B",
    "é",
    "%2E",
    "字",
    "symbol=A",
    "?x#y&z",
]


@pytest.mark.parametrize("grain", ["day", "year"])
def test_hostile_symbols_get_objects_of_their_own(lake, grain):
    put(lake, bars([("SAFE", D0)]), grain)
    before = {key: lake.get(key).body for key, _ in lake.list("raw")}
    assert put(lake, bars([(symbol, D0) for symbol in HOSTILE]), grain).written == len(HOSTILE)
    for symbol in HOSTILE:
        assert stored(lake, symbol, D0, grain)["symbol"].to_pylist() == [symbol]
    assert {key: lake.get(key).body for key in before} == before
    assert {LAYOUT.parse(key).symbol for key, _ in lake.list("raw")} == {*HOSTILE, "SAFE"}
    put(lake, bars([(symbol, D0 + timedelta(1)) for symbol in HOSTILE]), grain, refetch=True)
    found = read_rows(lake, LAYOUT, OHLCV_1D, "polygon", HOSTILE, D0, D0 + timedelta(30))
    assert sorted(found["symbol"].to_pylist()) == sorted(HOSTILE * 2)


def test_a_symbol_that_cannot_be_a_key_lands_nothing(lake):
    with pytest.raises(ParamError, match="symbol is"):
        put(lake, bars([("AAPL", D0), ("A\n", D0)]))
    assert lake.list("raw") == []


def test_plain_layout_and_other_writers_columns(lake):
    layout = Layout("plain", provider_level=False)
    put(lake, bars([("AAPL", D0)]), "year", layout=layout)
    key = layout.object_key(OHLCV_1D, "any", "AAPL", D0, "year")
    lake.update(
        key,
        lambda body: parquet.encode(
            parquet.decode(body, key).drop_columns(["vwap", "adj_close"]).append_column("x", pa.array([1]))
        ),
    )
    landed = put(lake, bars([("AAPL", D0)], at=LATER), "year", refetch=True, layout=layout)
    assert (landed.written, landed.unchanged) == (0, 1)


def test_no_rows_land_nothing(lake):
    landed = put(lake, OHLCV_1D.schema.empty_table())
    assert (len(landed.rows), landed.written, landed.unchanged, landed.size) == (0, 0, 0, 0)


def test_wrong_columns_are_refused(lake):
    with pytest.raises(SchemaDrift, match=r"rows for ohlcv-1d have columns symbol string.*allowed"):
        put(lake, bars([("AAPL", D0)]).drop_columns(["vwap"]))


def test_a_key_twice_is_refused(lake):
    with pytest.raises(QualityError, match=r"1 keys occur twice, the first is {'symbol': 'AAPL'"):
        put(lake, bars([("AAPL", D0), ("MSFT", D0), ("AAPL", D0)]))
    assert lake.list("raw") == []


def test_an_object_that_is_no_parquet_is_named(lake):
    key = LAYOUT.object_key(OHLCV_1D, "polygon", "AAPL", D0, "day")
    lake.put_new(key, b"<html>")
    with pytest.raises(LakeError, match=f"object {key} cannot be read"):
        put(lake, bars([("AAPL", D0)]))
    assert lake.get(key).body == b"<html>"


def test_parquet_is_deterministic_small_and_typed():
    rows = bars([("AAPL", day) for day in weekdays(D0, 262)])
    assert parquet.encode(rows) == parquet.encode(pa.concat_tables([rows.slice(0, 100), rows.slice(100)]))
    assert parquet.decode(parquet.encode(rows), "k").schema.equals(OHLCV_1D.schema)
    assert len(parquet.encode(rows.slice(0, 1))) < 4000


# -- merging against a dictionary ------------------------------------------------------------------------------------------------

versions = st.dictionaries(
    st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 3)),
    st.tuples(st.sampled_from([None, 0.1, 0.2, math.nan, math.inf]), st.integers(0, 2)),
)


def rows_of(state):
    parts = [bars([(s, D0 + timedelta(d))], close=close, at=T0 + timedelta(at)) for (s, d), (close, at) in state.items()]
    return pa.concat_tables([OHLCV_1D.schema.empty_table(), *parts])


@given(versions, versions)
def test_merge_is_that_of_a_dictionary(standing, new):
    found = merge.merge_rows(
        rows_of(standing), parquet.by_key(rows_of(new), OHLCV_1D.key), key=OHLCV_1D.key, values=OHLCV_1D.values, stamp="ingest_ts"
    )
    expected = dict(standing)
    for cell, (close, at) in new.items():
        if cell not in standing or (repr(standing[cell][0]) != repr(close) and standing[cell][1] <= at):
            expected[cell] = (close, at)

    def plain(state):
        return [(*cell, repr(close), at) for cell, (close, at) in sorted(state.items())]

    def read(table):
        return [(r["symbol"], (r["session"] - D0).days, repr(r["close"]), (r["ingest_ts"] - T0).days) for r in table.to_pylist()]

    assert read(found.rows) == plain(expected)
    assert read(found.current) == plain({cell: expected[cell] for cell in new})
    assert found.changed == (plain(expected) != plain(standing))
