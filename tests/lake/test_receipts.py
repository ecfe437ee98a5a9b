"""Receipts: what a later try resumes from, and what check, load and publish read."""

import random
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from market_data.core.batch import Batch, Block, Request
from market_data.core.capabilities import Shape
from market_data.core.intervals import Interval, closed
from market_data.core.outcome import Evidence, State
from market_data.datasets.bars import OHLCV_1D
from market_data.lake import receipts
from tests.lake.rows import D0, bars, weekdays

WEEK = (closed(D0, D0 + timedelta(4)),)
BATCH = Batch("b001-ab", "ohlcv-1d", "range", Shape.SYMBOL, (Block(("AAPL", "../x", "GONE"), WEEK),), 15, 3, 15)
EVIDENCE = Evidence(2, 1, 1, 400, 5, 5, last_page_seen=True, request_ids=("r1", "r2"), source="recorded")


def detail(symbol, rows_landed=0):
    return receipts.Detail(Request("ohlcv-1d", "range", (symbol,), WEEK), EVIDENCE, {"rows_landed": rows_landed})


def absent(symbol):
    gaps = (Interval(D0, D0 + timedelta(1)), Interval(D0 + timedelta(2), D0 + timedelta(5)))
    return replace(
        detail(symbol), counts={"files_written": 2}, absent=(receipts.CellRun(symbol, State.EMPTY, "unknown symbol", gaps),)
    )


def test_the_folder_is_that_of_run_attempt_and_batch(run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    assert folder == f"receipts/ohlcv-1d/provider=polygon/run={run.key}/{BATCH.spec_hash}"
    assert receipts.prefix("ohlcv-1d", "polygon", replace(run, clear_number=1), BATCH) != folder


def test_what_is_finished_can_be_resumed(lake, run, watch):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    assert receipts.finished(lake, folder) == {}
    rows = bars([("AAPL", day) for day in weekdays(D0, 5)])
    some, none = detail("AAPL", rows_landed=5), absent("../x")
    assert receipts.write(lake, folder, some, rows)
    assert receipts.write(lake, folder, none, rows.slice(0, 0))
    assert receipts.finished(lake, folder) == {some.request.id: some, none.request.id: none}
    found = {stored.detail.request.id: stored for stored in receipts.read(lake, folder)}
    assert found[some.request.id].detail == some
    assert found[some.request.id].rows.equals(rows)
    assert found[none.request.id].rows.schema.equals(OHLCV_1D.schema, check_metadata=True)
    assert len(found[none.request.id].rows) == 0


def test_a_receipt_stands_as_written(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    rows = bars([("AAPL", D0)])
    assert receipts.write(lake, folder, detail("AAPL", rows_landed=1), rows)
    assert not receipts.write(lake, folder, detail("AAPL", rows_landed=2), rows)
    [only] = receipts.finished(lake, folder).values()
    assert only.counts["rows_landed"] == 1


def test_only_footers_are_read_to_resume(lake, run, monkeypatch):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    days = weekdays(D0, 20_000)
    rows = bars([("AAPL", day) for day in days])
    noise = random.Random(1)
    for name in ("open", "close"):
        column = pa.array([noise.random() for _ in range(len(rows))])
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    receipts.write(lake, folder, detail("AAPL", rows_landed=len(rows)), rows)
    [(_, size)] = lake.list(folder)
    assert size > 2 * receipts.TAIL
    read = []
    ranged = lake.get_range
    monkeypatch.setattr(lake, "get_range", lambda key, start, end: read.append(end - start) or ranged(key, start, end))
    monkeypatch.setattr(lake, "get", lambda key: pytest.fail("reads it all"))
    [found] = receipts.finished(lake, folder).values()
    assert found.counts["rows_landed"] == len(rows)
    assert read == [receipts.TAIL]


def test_a_long_footer_is_read_in_a_second_step(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    long = replace(absent("AAPL"), absent=tuple(receipts.CellRun(f"S{n}", State.EMPTY, "no trade", WEEK) for n in range(2000)))
    receipts.write(lake, folder, long, bars([("AAPL", D0)]))
    [(_, size)] = lake.list(folder)
    assert size > receipts.TAIL
    assert list(receipts.finished(lake, folder).values()) == [long]


def test_reading_ahead_is_bounded_by_size(lake, run, monkeypatch):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    for n in range(40):
        receipts.write(lake, folder, detail(f"S{n}"), bars([("AAPL", D0)]))
    largest = max(size for _, size in lake.list(folder))
    monkeypatch.setattr(receipts, "READ_AHEAD", 4 * largest)
    taken = []
    get = lake.get
    monkeypatch.setattr(lake, "get", lambda key: taken.append(key) or get(key))
    stream = receipts.read(lake, folder)
    next(stream)
    assert len(taken) <= 5
    assert len(list(stream)) == 39
