"""The lines a batch says: what people read, and the fields that tools filter."""

from datetime import date

import pytest
from structlog.testing import capture_logs

from market_data.core.batch import Batch, Block, Request
from market_data.core.capabilities import Shape
from market_data.core.errors import BadRequest
from market_data.core.intervals import closed
from market_data.pipeline.batch_log import Progress

SPAN = (closed(date(2013, 1, 2), date(2013, 12, 31)),)
SYMBOLS = ("AAPL", "IBM", "KO", "MSFT", "SPY", "XOM", "A", "B")
BATCH = Batch("b002-12345678", "ohlcv-1d", "range", Shape.SYMBOL, (Block(SYMBOLS, SPAN),), 2016, 8, 2016, of=7)
COUNTS = {"rows_landed": 252, "rows_quarantined": 0, "bytes": 30_000, "calls": 1}


def asked(symbol):
    return Request("ohlcv-1d", "range", (symbol,), SPAN)


@pytest.fixture
def lines():
    with capture_logs() as lines:
        yield lines


def progress(resumed=0, seconds=(0.0, 0.0, 2.0, 4.0, 6.0)):
    ticks = iter(seconds)
    return Progress("polygon", BATCH, 8, resumed, 2, clock=lambda: next(ticks))


def test_every_line_carries_the_fields_a_tool_filters_by(lines):
    progress().done(asked("AAPL"), COUNTS, absent=0)
    for line in lines:
        assert line["provider"] == "polygon"
        assert (line["dataset"], line["batch"], line["batch_id"], line["attempt"]) == ("ohlcv-1d", "3 of 7", "b002-12345678", 2)
    assert lines[0]["symbols"] == "AAPL, IBM, KO, MSFT, SPY and 3 more"
    done = lines[1]
    assert (done["symbols"], done["dates"]) == ("AAPL", "2013-01-02..2013-12-31")
    assert (done["rows"], done["bytes"], done["calls"], done["quarantined"], done["absent"]) == (252, 30_000, 1, 0, 0)


def test_percent_ok_failed_elapsed_remaining_and_speed(lines):
    said = progress()
    said.done(asked("AAPL"), COUNTS, absent=0)
    said.failed_one(asked("IBM"), BadRequest("no such ticker", provider="polygon", request="range IBM"))
    last = lines[-1]
    assert (last["percent"], last["ok"], last["failed"]) == (25, 1, 1)
    assert (last["elapsed_seconds"], last["remaining_seconds"], last["rows_per_second"]) == (4.0, 12.0, 63.0)
    assert last["log_level"] == "error"
    assert "2/8 25 %" in last["event"]
    assert "range IBM: no such ticker" in last["event"]
    assert "about 12 s left" in last["event"]


def test_what_an_earlier_try_finished_counts_as_done_and_not_as_speed(lines):
    said = progress(resumed=6)
    said.done(asked("AAPL"), {**COUNTS, "rows_quarantined": 3}, absent=1)
    assert (lines[-1]["percent"], lines[-1]["ok"], lines[-1]["remaining_seconds"]) == (87, 7, 2.0)
    assert "3 quarantined" in lines[-1]["event"]
