"""A bucket of an older tool is adopted: what fits is recorded, the rest is reported, and runs request only what is missing."""

import io
import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data.core import calendar
from market_data.core.errors import LakeError, ParamError
from market_data.core.outcome import State
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.lake.layout import Layout
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from market_data.lake.store import Lake
from market_data.maintenance import adopt as job
from market_data.maintenance import journal
from market_data.maintenance.adopt import Terms, adopt
from market_data.maintenance.old_files import NotBarsError, convert
from market_data.maintenance.old_keys import parse
from market_data.pipeline.selection import Selection
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, Scene
from tests.pipeline.runs import feed_of
from tests.pipeline.test_corporate_actions import world_of
from tests.tiers import tiers

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
PLAIN = Layout(provider_level=False)
DAILY = Selection(OHLCV_1D, "polygon", PLAIN)
MINUTES = Selection(OHLCV_1M, "polygon", PLAIN)
WRITE = Terms(dry_run=False, rewrite=True, by="Ann")
DAYS = calendar.sessions(date(2024, 9, 3), date(2024, 10, 12))
NEW_YORK = ZoneInfo("America/New_York")
BAR = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100}


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


def put(lake, key, frame, **options):
    out = io.BytesIO()
    if isinstance(frame, pa.Table):
        pq.write_table(frame, out)
    else:
        frame.to_parquet(out, **options)
    lake.put_new(key, out.getvalue())


def daily(days, **values):
    return pd.DataFrame({"date": [pd.Timestamp(day) for day in days], **{k: [v] * len(days) for k, v in (BAR | values).items()}})


def minutes(day, count=390, first=time(9, 30)):
    start = datetime.combine(day, first, NEW_YORK)
    stamps = [start + timedelta(minutes=n) for n in range(count)]
    return pd.DataFrame({"timestamp": pd.DatetimeIndex(stamps), **{k: [v] * count for k, v in BAR.items()}})


def objects(lake):
    return {key: lake.get(key).body for key, _ in lake.list("")}


def have(lake, dataset="ohlcv-1d"):
    cells = read_coverage(lake, dataset, "polygon").table
    assert {str(state) for state in cells["state"].to_pylist()} <= {str(State.HAVE)}
    return set(zip(cells["symbol"].to_pylist(), cells["session"].to_pylist(), strict=True))


def kinds(done):
    return {(problem.problem, problem.rows) for problem in done.problems}


# keys


@pytest.mark.parametrize(
    ("key", "symbol", "first", "last"),
    [
        ("raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet", "AAPL", date(2024, 1, 1), date(2024, 12, 31)),
        ("raw/prices/symbol=BRK.B/year=2024/month=02/part-0.parquet", "BRK.B", date(2024, 2, 1), date(2024, 2, 29)),
        ("equities_1min/symbol=AAPL/year=2024/month=12/data.parquet", "AAPL", date(2024, 12, 1), date(2024, 12, 31)),
        ("symbol=AAPL/year=2024/month=9/day=15/x.parquet", "AAPL", date(2024, 9, 15), date(2024, 9, 15)),
        ("raw/prices/symbol=AAPL/year=2024/month=09/AAPL-2024-09-15.parquet", "AAPL", date(2024, 9, 15), date(2024, 9, 15)),
        ("a/symbol=AAPL/date=2024-09-15/x.parquet", "AAPL", date(2024, 9, 15), date(2024, 9, 15)),
    ],
)
def test_the_path_tells_symbol_and_dates(key, symbol, first, last):
    found = parse(key)
    assert (found.symbol, found.span.start, found.span.last) == (symbol, first, last)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("raw/prices/_SUCCESS", "is not a Parquet file"),
        ("raw/prices/AAPL.parquet", "has no folder symbol="),
        ("raw/prices/symbol=AAPL/year=2024/month=13/x.parquet", "has dates that do not exist"),
        ("raw/prices/symbol=AAPL/year=2024/AAPL-2023-01-03.parquet", "has dates that do not exist, or contradict each other"),
        ("raw/prices/symbol=AAPL/sector=x/x.parquet", "has the folder 'sector=x'"),
        ("raw/prices/provider=x/symbol=AAPL/year=2024/x.parquet", "has a provider level"),
        ("raw/prices/symbol=not a symbol/year=2024/x.parquet", "symbol 'not a symbol'"),
    ],
)
def test_other_keys_are_reported(key, problem):
    assert parse(key).startswith(problem)


# columns


ROWS = [date(2024, 1, 2), date(2024, 7, 2)]
STAMPS = {
    "naive": [datetime.combine(day, time()) for day in ROWS],
    "dates": ROWS,
    "UTC midnight": [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in ROWS],
    "New York midnight": [datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) for day in ROWS],
    "New York close": [datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK) for day in ROWS],
    "texts": [str(day) for day in ROWS],
    "numbers": [int(f"{day:%Y%m%d}") for day in ROWS],
    "epoch ms of New York midnight": [int(datetime(d.year, d.month, d.day, tzinfo=NEW_YORK).timestamp() * 1000) for d in ROWS],
    "epoch ns": [int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp() * 10**9) for d in ROWS],
    "texts with a zone": ["2024-01-02T00:00:00-05:00", "2024-07-02T00:00:00-0400"],
}


@pytest.mark.parametrize("name", STAMPS)
@pytest.mark.parametrize("column", ["timestamp", "date", "Datetime", "ts"])
def test_daily_times_of_every_kind_are_the_session(name, column):
    table = pa.table({column: pa.array(STAMPS[name]), **{key: [value, value] for key, value in BAR.items()}})
    found = convert(table, "AAPL", OHLCV_1D, calendar.XNYS).rows
    assert found["session"].to_pylist() == ROWS
    assert [moment.date() for moment in found["bar_time"].to_pylist()] == ROWS
    assert found["volume"].to_pylist() == [100.0, 100.0]


@pytest.mark.parametrize("zone", ["UTC", "exchange"])
@pytest.mark.parametrize(("count", "first"), [(390, time(9, 30)), (960, time(4))], ids=["regular", "extended"])
@pytest.mark.parametrize("day", ROWS, ids=["winter", "summer"])
def test_times_without_a_zone_are_read_as_the_hours_show(zone, count, first, day):
    frame = minutes(day, count, first)
    aware = frame["timestamp"].dt.tz_convert("UTC" if zone == "UTC" else NEW_YORK)
    naive = pa.Table.from_pandas(frame.assign(timestamp=aware.dt.tz_localize(None)))
    found = convert(naive, "AAPL", OHLCV_1M, calendar.XNYS)
    assert found.zone == zone
    assert found.rows["bar_time"].to_pylist() == [moment.to_pydatetime() for moment in frame["timestamp"].dt.tz_convert("UTC")]
    assert set(found.rows["session"].to_pylist()) == {day}


def test_times_that_may_be_either_zone_need_to_be_told():
    table = pa.table({"ts": [datetime.combine(ROWS[0], time(14, 45))], **{key: [value] for key, value in BAR.items()}})
    with pytest.raises(NotBarsError, match="times have no zone"):
        convert(table, "AAPL", OHLCV_1M, calendar.XNYS)
    (moment,) = convert(table, "AAPL", OHLCV_1M, calendar.XNYS, "UTC").rows["bar_time"].to_pylist()
    assert moment == datetime(2024, 1, 2, 14, 45, tzinfo=UTC)
    (moment,) = convert(table, "AAPL", OHLCV_1M, calendar.XNYS, "exchange").rows["bar_time"].to_pylist()
    assert moment == datetime(2024, 1, 2, 19, 45, tzinfo=UTC)


def test_a_pandas_index_is_the_time_and_columns_may_have_capitals(lake):
    frame = daily(DAYS[:2]).set_index("date").rename(columns=str.capitalize)
    frame.index.name = None
    put(lake, "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet", frame)
    assert adopt(lake, DAILY, NOW, WRITE).cells == 2


# adoption


def test_a_dry_run_writes_nothing(lake):
    put(lake, "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet", daily(DAYS))
    before = objects(lake)
    done = adopt(lake, DAILY, NOW, replace(WRITE, dry_run=True))
    assert (done.cells, done.other, done.rewritten, done.rows) == (len(DAYS), 1, 0, len(DAYS))
    assert "would be recorded (dry run)" in done.lines()[0]
    json.dumps(done.to_json())
    assert objects(lake) == before


def test_without_rewrite_files_of_another_form_are_left_and_not_recorded(lake):
    put(lake, "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet", daily(DAYS))
    before = objects(lake)
    done = adopt(lake, DAILY, NOW, replace(WRITE, rewrite=False))
    assert (done.cells, done.other, done.fitting) == (0, 1, 0)
    assert any("not adopted without --rewrite" in line for line in done.lines())
    assert objects(lake) == before


LAYOUTS = {
    "year": lambda symbol, day: f"raw/prices/symbol={symbol}/year={day:%Y}/{symbol}-{day:%Y}.parquet",
    "day": lambda symbol, day: f"raw/prices/symbol={symbol}/year={day:%Y}/month={day:%m}/{symbol}-{day}.parquet",
    "month": lambda symbol, day: f"raw/prices/symbol={symbol}/year={day:%Y}/month={day:%m}/data.parquet",
    "other name": lambda symbol, day: f"raw/prices/symbol={symbol}/year={day:%Y}/part-0.parquet",
    "one file": lambda symbol, day: f"raw/prices/symbol={symbol}/all.parquet",
    "other folder": lambda symbol, day: f"prices/symbol={symbol}/year={day:%Y}/month={day:%m}/day={day:%d}/0.parquet",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_old_layouts_are_readable_afterwards_and_kept(lake, name):
    days = calendar.sessions(date(2023, 12, 20), date(2024, 1, 12))
    groups = {}
    for symbol in ("AAPL", "BRK.B"):
        for place, day in enumerate(days):
            groups.setdefault(LAYOUTS[name](symbol, day), []).append((day, 20.0 + place))
    for key, rows in groups.items():
        frame = daily([day for day, _ in rows])
        frame["close"] = [close for _, close in rows]
        put(lake, key, frame.assign(high=200.0))
    before = objects(lake)
    prefix = "prices" if name == "other folder" else None
    done = adopt(lake, DAILY, NOW, WRITE, prefix)
    assert (done.cells, done.unfit, done.rewritten) == (2 * len(days), 0, len(groups))
    assert have(lake) == {(symbol, day) for symbol in ("AAPL", "BRK.B") for day in days}
    rows = read_rows(lake, PLAIN, OHLCV_1D, "polygon", ["AAPL", "BRK.B"], days[0], days[-1] + timedelta(1))
    assert len(rows) == 2 * len(days)
    assert rows["close"].to_pylist()[: len(days)] == [20.0 + n for n in range(len(days))]
    short = read_rows(lake, PLAIN, OHLCV_1D, "polygon", ["AAPL"], days[3], days[4])  # by key, without a listing
    assert short["close"].to_pylist() == [23.0]
    after = objects(lake)
    assert all(after[f"adopted/{key}"] == body for key, body in before.items())
    assert all(
        pq.read_schema(io.BytesIO(body)).names == OHLCV_1D.schema.names for key, body in after.items() if key.startswith("raw/")
    )
    again = adopt(lake, DAILY, NOW + timedelta(days=1), WRITE)
    assert (again.cells, again.rewritten, again.known) == (0, 0, 2 * len(days))
    assert objects(lake) == after
    (entry,) = journal.entries(lake, "adopt")
    assert (entry.by, entry.what["cells"], entry.what["rewritten"]) == ("Ann", 2 * len(days), len(groups))


def test_minutes_at_the_root_of_the_bucket_are_adopted(lake):
    days = [date(2024, 9, 30), date(2024, 10, 1)]
    for day in days:
        frame = minutes(day)
        frame["timestamp"] = frame["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None)
        put(lake, f"equities_1min/symbol=AAPL/year={day:%Y}/month={day:%m}/data.parquet", frame, index=False)
    done = adopt(lake, MINUTES, NOW, WRITE, "equities_1min")
    assert (done.cells, done.rows, done.rewritten) == (2, 780, 2)
    rows = read_rows(lake, PLAIN, OHLCV_1M, "polygon", ["AAPL"], days[0], days[1] + timedelta(1))
    assert len(rows) == 780
    assert rows["bar_time"][0].as_py() == datetime(2024, 9, 30, 13, 30, tzinfo=UTC)
    assert {key.rpartition("/")[0] for key, _ in lake.list("raw")} == {
        "raw/equities_1min/symbol=AAPL/year=2024/month=09",
        "raw/equities_1min/symbol=AAPL/year=2024/month=10",
    }


def test_everything_that_does_not_fit_is_reported_and_not_recorded(lake):
    def key(symbol, name="x"):
        return f"raw/prices/symbol={symbol}/year=2024/{name}.parquet"

    put(lake, key("GOOD"), daily(DAYS).assign(Dividends=0.0))
    put(lake, key("WRONG"), daily(DAYS[:2]).assign(symbol=["WRONG", "OTHER"]))
    put(lake, key("PATH"), daily([date(2023, 9, 5), *DAYS[:2]]))
    put(lake, key("TWICE"), pd.concat([daily(DAYS[:3]), daily(DAYS[:1]), daily(DAYS[1:2], close=9.5)]))
    put(lake, key("HOLIDAY"), daily([date(2024, 9, 7), *DAYS[:1]]))
    put(lake, key("PRICE"), pd.concat([daily(DAYS[:1], high=1.0), daily(DAYS[1:2], close=None), daily(DAYS[2:3])]))
    put(lake, key("TIME"), daily(DAYS[:3]).assign(date=["2024-09-03", "soon", "2024-06-31"]))
    put(lake, key("OTHER"), pd.DataFrame({"a": [1]}))
    put(lake, key("NONE"), daily([]))
    put(lake, key("TEXT"), daily(DAYS[:1]).assign(volume=["many"]))
    lake.put_new(key("BROKEN"), b"PAR1 and then not")
    lake.put_new("raw/prices/_SUCCESS", b"")
    lake.put_new("raw/prices/symbol=CSV/year=2024/x.csv", b"date,close\n")
    before = objects(lake)
    done = adopt(lake, DAILY, NOW, WRITE)
    found = {}
    for problem in done.problems:
        symbol = problem.key.partition("symbol=")[2].partition("/")[0] or problem.key.rpartition("/")[2]
        found.setdefault(symbol, set()).add((problem.problem, problem.rows))
    assert found == {
        "GOOD": {("unknown columns", None)},
        "WRONG": {("wrong symbol", 1)},
        "PATH": {("session outside the path", 1)},
        "TWICE": {("duplicates", 1), ("conflicting duplicates", 2)},
        "HOLIDAY": {("not a session", 1)},
        "PRICE": {("rejected by the gate", 1), ("unreadable value", 1)},
        "TIME": {("unreadable value", 2)},
        "OTHER": {("not bars", None)},
        "NONE": {("empty", 0)},
        "TEXT": {("not bars", None)},
        "BROKEN": {("unreadable", None)},
        "_SUCCESS": {("other file", None)},
        "CSV": {("other file", None)},
    }
    assert have(lake) == {
        *(("GOOD", day) for day in DAYS),
        ("WRONG", DAYS[0]),
        *(("PATH", day) for day in DAYS[:2]),
        ("TWICE", DAYS[0]),
        ("TWICE", DAYS[2]),
        ("HOLIDAY", DAYS[0]),
        ("PRICE", DAYS[2]),
        ("TIME", DAYS[0]),
    }
    assert done.unfit == 6
    after = objects(lake)
    assert all(body in (after.get(name), after.get(f"adopted/{name}")) for name, body in before.items())
    assert done.table().num_rows == len(done.problems)


def test_minutes_out_of_hours_and_lost_times_spoil_their_cells(lake):
    folder = "raw/equities_1min/symbol=AAPL/year=2024"
    early = minutes(date(2024, 9, 3), 3, time(3, 58))
    put(lake, f"{folder}/month=09/data.parquet", pd.concat([early, minutes(date(2024, 9, 4))]))
    lost = minutes(date(2024, 10, 1))
    lost["timestamp"] = lost["timestamp"].astype(str)
    lost.loc[3, "timestamp"] = "?"
    put(lake, f"{folder}/month=10/data.parquet", lost)
    done = adopt(lake, MINUTES, NOW, WRITE)
    assert kinds(done) == {("out of hours", 2), ("unreadable value", 1)}
    assert have(lake, "ohlcv-1m") == {("AAPL", date(2024, 9, 4))}


@pytest.mark.parametrize(("hour", "known"), [(19, False), (21, True)])
def test_a_session_that_was_not_over_when_its_file_was_written_is_not_recorded(lake, hour, known):
    key = "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet"
    put(lake, key, daily(DAYS))
    moment = datetime(DAYS[-1].year, DAYS[-1].month, DAYS[-1].day, hour, 30, tzinfo=ZoneInfo("UTC")).timestamp()
    os.utime(lake.root / key, (moment, moment))
    done = adopt(lake, DAILY, NOW, WRITE)
    assert ("session not over", None) in kinds(done) or known
    assert have(lake) == {("AAPL", day) for day in (DAYS if known else DAYS[:-1])}
    assert len(read_rows(lake, PLAIN, OHLCV_1D, "polygon", ["AAPL"], DAYS[0], DAYS[-1] + timedelta(1))) == len(DAYS)
    assert adopt(lake, DAILY, NOW + timedelta(days=1), WRITE).cells == 0


def test_recorded_cells_keep_their_record(lake):
    import tests.pipeline.test_rebuild as rebuild

    rebuild.record(lake, [("AAPL", DAYS[0])], State.REFUSED, "row count")
    put(lake, "raw/prices/symbol=AAPL/year=2024/x.parquet", daily(DAYS))
    done = adopt(lake, DAILY, NOW, WRITE)
    assert (done.cells, done.known) == (len(DAYS) - 1, 1)
    assert read_coverage(lake, "ohlcv-1d", "polygon").state("AAPL", DAYS[0]) is State.REFUSED


def test_newer_rows_of_a_run_are_kept(lake):
    from market_data.lake.writer import land
    from tests.lake.rows import bars

    later = datetime(2090, 1, 1, tzinfo=UTC)
    land(lake, PLAIN, OHLCV_1D, "polygon", bars([("AAPL", DAYS[0])], close=10.25, at=later), "year", refetch=False)
    put(lake, "raw/prices/symbol=AAPL/year=2024/old.parquet", daily(DAYS[:2]))
    adopt(lake, DAILY, NOW, WRITE)
    rows = read_rows(lake, PLAIN, OHLCV_1D, "polygon", ["AAPL"], DAYS[0], DAYS[2])
    assert rows["close"].to_pylist() == [10.25, 10.5]


class Killed:
    """Ends a process at one of the lake's writes.

    :param left: writes that still succeed.
    """

    def __init__(self, lake, left):
        self.left, self.real = left, {name: getattr(lake, name) for name in ("put_new", "put_if", "delete")}
        for name in self.real:
            setattr(lake, name, lambda *args, name=name, **options: self.write(name, *args, **options))

    def write(self, name, *args, **options):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.real[name](*args, **options)


def test_killed_at_any_write_the_next_call_goes_on(tmp_path):
    expected = None
    for kill in range(40):
        url = f"file://{tmp_path}/lake{kill}"
        lake = Lake.open(url)
        put(lake, "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet", daily(DAYS[:3]))
        put(lake, "raw/prices/symbol=AAPL/year=2024/month=09/data.parquet", daily(DAYS[3:5]))
        put(lake, "raw/prices/symbol=IBM/year=2024/all.parquet", daily(DAYS[:5]))
        Killed(lake, kill)
        try:
            adopt(lake, DAILY, NOW, WRITE)
            finished = True
        except KeyboardInterrupt:
            finished = False
        lake = Lake.open(url)
        adopt(lake, DAILY, NOW + timedelta(days=1), WRITE)
        rows = read_rows(lake, PLAIN, OHLCV_1D, "polygon", ["AAPL", "IBM"], DAYS[0], DAYS[5])
        state = rows.drop_columns(["ingest_ts"]).to_pylist(), have(lake), sorted(key for key, _ in lake.list("adopted"))
        expected = expected or state
        assert state == expected
        assert len(rows) == len(expected[1]) == 10
        if finished:
            assert kill > 8
            return
    raise AssertionError("never finished")


def test_a_file_that_changes_meanwhile_is_not_overwritten(lake, monkeypatch):
    key = "raw/prices/symbol=AAPL/year=2024/AAPL-2024.parquet"
    put(lake, key, daily(DAYS[:3]))
    monkeypatch.setattr(lake, "put_if", lambda *_: False)
    with pytest.raises(LakeError, match="was changed while it was adopted"):
        adopt(lake, DAILY, NOW, WRITE)
    assert pq.read_schema(io.BytesIO(lake.get(key).body)).names[0] == "date"


def test_only_bars_of_feeds_with_the_plain_layout_are_adopted():
    with pytest.raises(ParamError, match="provider_level: false"):
        job.selection_of(feed_of("polygon_ohlcv_1d"))
    with pytest.raises(ParamError, match="only bars"):
        job.selection_of(replace(feed_of("fmp_fundamentals"), provider_level=False))


# runs afterwards


@pytest.mark.parametrize(
    ("dag_id", "grain"),
    tiers(
        product(["polygon_ohlcv_1d", "polygon_ohlcv_1m"], ["year", "day"]),
        ("polygon_ohlcv_1d", "day"),
        ("polygon_ohlcv_1m", "year"),
    ),
)
def test_a_run_extends_the_bucket_and_requests_only_what_is_missing(tmp_path, dag_id, grain):
    """Two old layouts hold the first days that the vendor serves; the run fetches the other days, and all values are the vendor's."""
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        (tmp_path / "whole").mkdir()
        (tmp_path / "old").mkdir()
        days, symbols = calendar.sessions(date(2012, 6, 25), date(2012, 7, 7)), ("AAPL", "IBM")
        whole = world_of(Scene(tmp_path / "whole", api, SimpleNamespace(address="")), dag_id)
        assert whole.run(days, symbols, whole.context(file_grain=grain))[1]["red"] == []
        dataset = whole.context().dataset
        vendor = read_rows(whole.lake, Layout(), dataset, "polygon", symbols, days[0], days[-1] + timedelta(1))
        world = world_of(Scene(tmp_path / "old", api, SimpleNamespace(address="")), dag_id)
        for symbol in symbols:
            rows = vendor.filter(
                pa.compute.and_(pa.compute.equal(vendor["symbol"], symbol), pa.compute.less(vendor["session"], days[5]))
            )
            for month in (6, 7):
                part = rows.filter(pa.compute.equal(pa.compute.month(rows["session"]), month)).to_pandas()
                kept = part[["bar_time", "open", "high", "low", "close", "volume", "vwap", "trade_count"]]
                if symbol == "IBM":  # another tool: other names, times without a zone
                    kept = kept.rename(columns={"bar_time": "ts", "vwap": "vw", "trade_count": "n"})
                    kept["ts"] = kept["ts"].dt.tz_localize(None)
                    folder = "month=06/data" if month == 6 else "month=07/data"
                else:
                    kept = kept.rename(columns={"bar_time": "timestamp"}).set_index("timestamp")
                    folder = f"part-{month}"
                if len(kept):
                    put(world.lake, f"raw/{dataset.folder}/symbol={symbol}/year=2012/{folder}.parquet", kept)
        selection = Selection(dataset, "polygon", PLAIN)
        done = adopt(world.lake, selection, NOW, WRITE)
        assert (done.cells, done.unfit) == (2 * 5, 0)
        world.layout = PLAIN
        context = replace(world.context(file_grain=grain), layout=PLAIN)
        api.forget()
        _, report = world.run(days, symbols, context)
        assert report["red"] == []
        asked = {day for batch in world.batches for request in batch.requests(batch.sessions) for day in request.sessions}
        assert asked == set(days[5:])
        assert len(api.calls) == report["api_calls"] <= 2 * len(days[5:])
        found = read_rows(world.lake, PLAIN, dataset, "polygon", symbols, days[0], days[-1] + timedelta(1))
        assert found.drop_columns(["ingest_ts"]).equals(vendor.drop_columns(["ingest_ts"]))
        rerun = replace(world.context("r2", file_grain=grain), layout=PLAIN)
        planned, _ = world.run(days, symbols, rerun)
        assert planned.plan.batches == ()
        rebuilt(world, selection, vendor)


def rebuilt(world, selection, vendor):
    from market_data.pipeline.rebuild import rebuild_warehouse

    with world.warehouse() as warehouse:
        rebuild_warehouse(world.lake, warehouse, selection)
    rows = world.query("SELECT symbol, bar_time, close_px FROM silver_prices ORDER BY symbol, bar_time")
    expected = vendor.sort_by([("symbol", "ascending"), ("bar_time", "ascending")])
    assert [(row["symbol"], float(row["close_px"])) for row in rows] == list(
        zip(expected["symbol"].to_pylist(), expected["close"].to_pylist(), strict=True)
    )


def test_the_task_reports_and_returns_totals(tmp_path, monkeypatch, caplog):
    from market_data.airflow.maintain.adopt import adopt_feed, maintain_adopt

    lake = Lake.open(f"file://{tmp_path}/lake")
    put(lake, "raw/prices/symbol=AAPL/year=2024/x.parquet", daily(DAYS).assign(extra=1))
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    monkeypatch.setattr("market_data.cli.arguments.feed_of", lambda _: replace(feed_of("polygon_ohlcv_1d"), provider_level=False))
    params = {**maintain_adopt().params.dump(), "feed": "polygon_ohlcv_1d", "rewrite": True}
    assert params["dry_run"] is True
    with caplog.at_level("INFO"):
        found = adopt_feed(params)
    assert (found["cells"], found["kinds"]) == (len(DAYS), {"unknown columns": 1})
    assert "unknown columns" in caplog.text
    assert have(lake) == set()
    adopt_feed({**params, "dry_run": False})
    assert len(have(lake)) == len(DAYS)
    for wrong, words in (({"prefix": "raw/price"}, "prefix is 'raw/price'"), ({"symbols": ["APPL"]}, "no file of APPL there")):
        with pytest.raises(ParamError, match=words):
            adopt_feed({**params, **wrong})
