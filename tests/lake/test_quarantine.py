"""Rows set aside: as received, with reasons, whole by session and batch."""

import math
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa

from market_data.datasets.bars import RECEIVED
from market_data.lake import parquet, quarantine
from tests.lake.rows import D0, T0, bars

WHERE = ("ohlcv-1d", "polygon")


def rejected(cells, reasons="close is null; high below low", **values):
    return bars(cells, **values).select(RECEIVED.names).append_column("reasons", pa.array([reasons] * len(cells)))


def stored(lake, session, batch_id="b001"):
    key = f"quarantine/ohlcv-1d/provider=polygon/date={session}/{batch_id}.parquet"
    return parquet.decode(lake.get(key).body, key)


def test_rows_are_set_aside_by_session(lake, run, watch):
    day = D0 + timedelta(1)
    rows = rejected([("../x", day), ("MSFT", D0), ("AAPL", D0)], close=math.nan)
    assert quarantine.write(lake, *WHERE, run, "b001", rows, received_at=T0) == 2
    first = stored(lake, D0)
    assert first["symbol"].to_pylist() == ["AAPL", "MSFT"]
    assert first.column_names == [*RECEIVED.names, "reasons", "batch_id", "run_id", "received_at"]
    assert first.slice(0, 1).to_pylist()[0].items() >= {
        "reasons": "close is null; high below low", "batch_id": "b001", "run_id": run.run_id, "received_at": T0,
    }.items()  # fmt: skip
    assert stored(lake, day)["symbol"].to_pylist() == ["../x"]


def test_equal_rows_are_left_whenever_they_come(lake, run):
    rows = rejected([("MSFT", D0), ("AAPL", D0), ("AAPL", D0)], close=math.nan, volume=None)
    quarantine.write(lake, *WHERE, run, "b001", rows, received_at=T0)
    again = quarantine.write(lake, *WHERE, replace(run, run_id="other"), "b001", rows.take([2, 0, 1]))
    assert again == 0
    assert stored(lake, D0)["run_id"].unique().to_pylist() == [run.run_id]


def test_other_rows_of_a_symbol_replace_its_rows_whole(lake, run):
    both = pa.concat_tables([rejected([("AAPL", D0)], "key twice", close=1.0), rejected([("AAPL", D0)], "key twice", close=2.0)])
    assert quarantine.write(lake, *WHERE, run, "b001", both) == 1
    assert quarantine.write(lake, *WHERE, run, "b001", both.slice(0, 1)) == 1
    assert stored(lake, D0)["close"].to_pylist() == [1.0]
    assert quarantine.write(lake, *WHERE, run, "b001", rejected([("AAPL", D0)], "volume below 0", close=1.0)) == 1
    assert stored(lake, D0)["reasons"].to_pylist() == ["volume below 0"]


def test_requests_of_a_batch_keep_each_others_rows(lake, run):
    one, two = rejected([("MSFT", D0)]), rejected([("AAPL", D0)])
    assert [quarantine.write(lake, *WHERE, run, "b001", rows) for rows in (one, two, one, two)] == [1, 1, 0, 0]
    assert stored(lake, D0)["symbol"].to_pylist() == ["AAPL", "MSFT"]


def test_batches_are_apart_and_no_rows_write_nothing(lake, run):
    rows = rejected([("AAPL", D0)])
    assert quarantine.write(lake, *WHERE, run, "b001", rows) == 1
    assert quarantine.write(lake, *WHERE, run, "b002", rows) == 1
    assert quarantine.write(lake, *WHERE, run, "b003", rows.slice(0, 0)) == 0
    assert len(lake.list("quarantine")) == 2
