"""Rows that were not requested, rows that cannot be read and sessions that fail: what a run makes of them."""

from datetime import date

import pyarrow as pa

from market_data.core.batch import Request
from market_data.core.intervals import closed
from market_data.core.outcome import Evidence, Receipt, State
from market_data.datasets.registry import dataset
from market_data.lake.receipts import RequestReceipt
from market_data.pipeline.cell_states import cells_of_request, without_state
from market_data.pipeline.landing import Written

DAYS = [date(2013, 1, day) for day in (7, 8, 9)]
REQUEST = Request("ohlcv-1d", "bars", ("IBM", "SPY"), (closed(DAYS[0], DAYS[2]),))


def cells(unproved, have=DAYS[:1], quarantined=()):
    written = Written(pa.table({}), {"IBM": set(have)}, {"IBM": set(quarantined)}, frozenset())
    runs = cells_of_request(dataset("ohlcv-1d"), REQUEST, ["IBM", "SPY"], written, date(2013, 2, 1), {}, unproved, {})
    keys = [(symbol, day, run) for run in runs for symbol in run.symbols for day in DAYS]
    return {(symbol, day): run.state for symbol, day, run in keys if any(day in interval for interval in run.intervals)}


def test_cells_of_unproved_symbols_are_not_empty():
    usual = cells({})
    assert {state for (symbol, _), state in usual.items() if symbol == "SPY"} == {State.EMPTY}
    found = cells({"SPY": "why"})
    assert found == {key: state for key, state in usual.items() if key[0] == "IBM"}
    assert cells({"IBM": "why"}, quarantined=DAYS[1:2])["IBM", DAYS[1]] is State.QUARANTINED
    assert ("IBM", DAYS[2]) not in cells({"IBM": "why"})


def test_a_symbol_is_named_where_a_cell_of_it_has_no_state():
    written = Written(pa.table({}), {"IBM": set(DAYS)}, {}, frozenset())
    unproved = {"IBM": "why", "SPY": "why"}
    runs = cells_of_request(dataset("ohlcv-1d"), REQUEST, ["IBM", "SPY"], written, date(2013, 2, 1), {}, unproved, {})
    assert without_state(REQUEST, ["IBM", "SPY"], runs, unproved) == {"SPY": "why"}


def test_receipts_keep_what_was_left_aside():
    evidence = Evidence(1, 0, 1, 1, 5, 5, True, rows_left_aside=2)
    request = Request("ohlcv-1d", "bars", ("IBM",), (closed(DAYS[0], DAYS[2]),))
    receipt = RequestReceipt(request, evidence, {"rows_left_aside": 2}, unproved={"IBM": "why"})
    assert RequestReceipt.from_json(receipt.to_json()) == receipt
    old = {name: value for name, value in receipt.to_json().items() if name != "unproved"}
    del old["evidence"]["rows_left_aside"]
    assert RequestReceipt.from_json(old).evidence.rows_left_aside == 0
    batch = Receipt("b000", failed_sessions={"2013-01-07": "why"}, rows_left_aside=2)
    assert Receipt.from_json(batch.to_json()) == batch
