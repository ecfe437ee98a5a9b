"""Receipts: what a later try resumes from, and what check, load and publish read."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from market_data.core.batch import Batch, Block, Request
from market_data.core.capabilities import Shape
from market_data.core.errors import LakeError
from market_data.core.intervals import Interval, closed
from market_data.core.outcome import Evidence, State
from market_data.lake import parquet, receipts
from market_data.lake.cells import table_of
from market_data.lake.receipts import OBJECTS, CellRun, RequestReceipt
from tests.lake.rows import D0

WEEK = (closed(D0, D0 + timedelta(4)),)
BATCH = Batch("b001-ab", "ohlcv-1d", "range", Shape.SYMBOL, (Block(("AAPL", "../x", "GONE"), WEEK),), 15, 3, 15)
EVIDENCE = Evidence(2, 1, 1, 400, 5, 5, last_page_seen=True, request_ids=("r1", "r2"), source="recorded")


def receipt_of(symbol, rows_landed=0, **others):
    have = CellRun((symbol,), State.HAVE, "", WEEK, with_rows=True)
    counts = {"rows_landed": rows_landed, "ingest_us": 1}
    return RequestReceipt(Request("ohlcv-1d", "range", (symbol,), WEEK), EVIDENCE, counts, (have,), staged="staging/x", **others)


def absent(symbol):
    gaps = (Interval(D0, D0 + timedelta(1)), Interval(D0 + timedelta(2), D0 + timedelta(5)))
    runs = (CellRun((symbol, "GONE"), State.EMPTY, "unknown symbol", gaps),)
    return replace(receipt_of(symbol, unanswered=gaps, refused={"GONE": "no"}, warnings=("late",)), cells=runs)


def objects(size, symbol="AAPL"):
    noise = random.Random(1)
    hashes = [f"{noise.getrandbits(64):016x}" for _ in range(size)]
    columns = [[f"raw/{hash_}" for hash_ in hashes], [symbol] * size, [1] * size, [1] * size, hashes]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, OBJECTS, strict=True)], schema=OBJECTS)


def test_the_folder_is_that_of_run_attempt_and_batch(run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    assert folder == f"receipts/ohlcv-1d/provider=polygon/run={run.key}/{BATCH.spec_hash}"
    assert receipts.prefix("ohlcv-1d", "polygon", replace(run, clear_number=1), BATCH) != folder


def test_a_finished_request_can_be_resumed(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    assert receipts.finished(lake, folder) == {}
    some, none = receipt_of("AAPL", rows_landed=5), absent("../x")
    assert receipts.write(lake, folder, some, objects(5))
    assert receipts.write(lake, folder, none, OBJECTS.empty_table())
    assert receipts.finished(lake, folder) == {some.request.id: some, none.request.id: none}
    found = {stored.receipt.request.id: stored for stored in next(receipts.read(lake, [folder]))}
    assert found[some.request.id].receipt == some
    assert found[some.request.id].objects.equals(objects(5))
    assert found[none.request.id].objects.equals(OBJECTS.empty_table())
    one = receipts.read_one(lake, f"{folder}/{some.request.id}.parquet")
    assert (one.receipt, one.objects) == (some, objects(5))


def test_a_missing_receipt_is_an_error_that_names_it(lake):
    with pytest.raises(LakeError, match="receipts/gone"):
        receipts.read_one(lake, "receipts/gone")


def test_a_receipt_is_never_overwritten(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    assert receipts.write(lake, folder, receipt_of("AAPL", rows_landed=1), objects(1))
    assert not receipts.write(lake, folder, receipt_of("AAPL", rows_landed=2), objects(2))
    [only] = receipts.finished(lake, folder).values()
    assert only.counts["rows_landed"] == 1


def test_only_footers_are_read_to_resume(lake, run, monkeypatch):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    receipts.write(lake, folder, receipt_of("AAPL", rows_landed=20_000), objects(20_000))
    [(_, size)] = lake.list(folder)
    assert size > 2 * receipts.TAIL
    read = []
    ranged = lake.get_range
    monkeypatch.setattr(lake, "get_range", lambda key, start, end: read.append(end - start) or ranged(key, start, end))
    monkeypatch.setattr(lake, "get", lambda key: pytest.fail("reads it all"))
    [found] = receipts.finished(lake, folder).values()
    assert found.counts["rows_landed"] == 20_000
    assert read == [receipts.TAIL]


def test_a_long_footer_is_read_in_a_second_step(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    runs = tuple(CellRun((f"S{n}",), State.EMPTY, "no trade", WEEK) for n in range(2000))
    long = replace(absent("AAPL"), cells=runs)
    receipts.write(lake, folder, long, objects(1))
    [(_, size)] = lake.list(folder)
    assert size > receipts.TAIL
    assert list(receipts.finished(lake, folder).values()) == [long]


@pytest.mark.parametrize("why", ["half \ud800 of a character", "Größe ‰", "\u0000\n", ""])
def test_a_footer_is_read_as_it_was_written(why):
    receipt = replace(absent("A\ud83dB"), warnings=(why,), unproved={"GONE": why}, renewed=WEEK)
    assert receipts.from_footer(json.dumps(receipt.to_json(), sort_keys=True)) == receipt


def test_footers_with_the_same_symbols_share_them():
    one, other = (receipts.from_footer(json.dumps(receipt_of("AAPL", rows).to_json())) for rows in (1, 2))
    assert one != other
    assert one.request.symbols is one.cells[0].symbols is other.request.symbols


def test_cells_come_by_symbol_and_session():
    later = CellRun(("MSFT", "AAPL"), State.HAVE, "", (closed(D0 + timedelta(2), D0 + timedelta(2)),), with_rows=True)
    earlier = CellRun(("AAPL", "ZZ"), State.EMPTY, "halted", (closed(D0, D0),))
    assert [tuple(row.values()) for row in table_of([later, earlier]).to_pylist()] == [
        ("AAPL", D0, "empty", "halted"),
        ("AAPL", D0 + timedelta(2), "have", ""),
        ("MSFT", D0 + timedelta(2), "have", ""),
        ("ZZ", D0, "empty", "halted"),
    ]
    assert not len(table_of([]))


def test_cells_of_one_state_come_by_symbol_and_session():
    days = [D0 + timedelta(n) for n in range(3)]
    later, earlier = (CellRun(("MSFT", "AAPL"), State.EMPTY, "halted", (one,)) for one in (closed(*days[1:]), closed(D0, D0)))
    cells = [(symbol, day, "empty", "halted") for symbol in ("AAPL", "MSFT") for day in days]
    assert [tuple(row.values()) for row in table_of([later, earlier]).to_pylist()] == cells
    before = pa.total_allocated_bytes()
    table_of([replace(earlier, symbols=tuple(map(str, range(10_000))), reason="a long reason " * 5)])
    assert pa.total_allocated_bytes() - before < 100_000  # nothing of a reason stays
    assert table_of([replace(earlier, state=State.HAVE, reason="")]).to_pylist() == [
        {"symbol": symbol, "session": D0, "state": "have", "reason": ""} for symbol in ("AAPL", "MSFT")
    ]


def test_a_receipt_of_an_earlier_compression_is_read(lake, run):
    folder = receipts.prefix("ohlcv-1d", "polygon", run, BATCH)
    receipt = receipt_of("AAPL")
    lake.put_new(
        f"{folder}/{receipt.request.id}.parquet",
        parquet.encode(objects(3), {receipts.FIELD: json.dumps(receipt.to_json())}, compression="zstd"),
    )
    assert [(one.receipt, one.objects) for one in next(receipts.read(lake, [folder]))] == [(receipt, objects(3))]
