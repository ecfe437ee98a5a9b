"""Rows in session files that no run recorded: an audit finds them as it finds day files, and blames no other symbol for them."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data.datasets.registry import dataset
from market_data.lake import session_files
from market_data.lake.layout import Layout
from market_data.lake.reader import read_rows
from market_data.lake.writer import land
from market_data.maintenance.audit import reading
from market_data.maintenance.findings import Cause, Repair
from tests.maintenance.test_audit import SESSIONS, SPAN, SYMBOLS, Audited

NOT_RECORDED = Cause.NOT_RECORDED, Repair.LEDGER
CHANGED = Cause.OBJECT_CHANGED, Repair.FETCH


def every_session(symbols, *finding):
    return [(symbol, day, day, *finding) for symbol in symbols for day in SESSIONS]


@pytest.fixture(params=["day", "session"])
def grain(request):
    return request.param


def audited_with(tmp_path, grain, dag_id="mock_ohlcv_1d"):
    return Audited(tmp_path, dag_id, file_grain=grain)


def lose_ledger(lake, keep=()):
    for key, _ in lake.list("manifest"):
        if key not in keep:
            lake.delete(key)


@pytest.mark.parametrize("options", [{}, {"warehouse": False}, {"share": 1e-9}], ids=str)
def test_a_lost_record_of_an_ad_hoc_symbol_is_mended_by_the_ledger(tmp_path, grain, options):
    audited = audited_with(tmp_path, grain)
    world = audited.world
    before = {key for key, _ in world.lake.list("manifest")}
    world.run(SESSIONS, ["MSFT"], world.context("two", file_grain=grain))
    assert audited.audit(**SPAN, **options) == []
    lose_ledger(world.lake, before)
    assert audited.audit(**SPAN, **options) == every_session(["MSFT"], *NOT_RECORDED)
    assert audited.audit(**SPAN, **options, symbols=("MSFT",), universe=[]) == every_session(["MSFT"], *NOT_RECORDED)
    assert audited.audit(**SPAN, **options, symbols=("IBM",)) == []
    chosen = {"start": SESSIONS[1], "end": SESSIONS[1]}
    assert audited.audit(**chosen, **options) == [("MSFT", SESSIONS[1], SESSIONS[1], *NOT_RECORDED)]


@pytest.mark.parametrize("warehouse", [True, False])
@pytest.mark.parametrize("universe", [[], ["AAPL"]], ids=len)
def test_a_lost_ledger_is_found_for_symbols_outside_the_universe_too(tmp_path, grain, warehouse, universe):
    audited = audited_with(tmp_path, grain)
    lose_ledger(audited.world.lake)
    assert audited.audit(**SPAN, warehouse=warehouse, universe=universe) == every_session(SYMBOLS, *NOT_RECORDED)


def test_the_symbol_column_of_a_large_session_file_is_enough(tmp_path, monkeypatch):
    audited = audited_with(tmp_path, "session", "mock_ohlcv_1m")
    lake, size = audited.world.lake, {}
    monkeypatch.setattr(session_files, "TAIL", 64)
    fetched, part = [], lake.get_part
    monkeypatch.setattr(lake, "get_part", lambda key, start, end, etag: fetched.append(end - start) or part(key, start, end, etag))
    for key, bytes_ in lake.list("raw"):
        size[key] = bytes_
        assert sorted(session_files.symbols_in(lake, key, None)) == SYMBOLS
        assert session_files.symbols_in(lake, key, ["IBM", "XRX"]) == ["IBM"]
    footer = min(fetched[::2])
    assert max(fetched[1::2]) < 200 < footer < min(size.values())
    lose_ledger(lake)
    assert audited.audit(**SPAN, universe=[], warehouse=False) == every_session(SYMBOLS, *NOT_RECORDED)


def test_session_files_are_read_once_for_many_symbols(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "AT_A_TIME", 2)
    audited = audited_with(tmp_path, "session")
    fetched, get = [], audited.world.lake.get
    monkeypatch.setattr(audited.world.lake, "get", lambda key: fetched.append(key) or get(key))
    assert audited.audit(**SPAN) == []
    assert sorted(key for key in fetched if key.startswith("raw/")) == [key for key, _ in audited.world.lake.list("raw")]


def as_msft(audited, **other):
    """The rows of AAPL as those of MSFT."""
    rows = read_rows(audited.world.lake, Layout(), dataset("ohlcv-1d"), "mock", ["AAPL"], SESSIONS[0], SESSIONS[-1], **other)
    names = pa.array(["MSFT"] * len(rows), rows.schema.field("symbol").type)
    return rows.set_column(rows.schema.get_field_index("symbol"), rows.schema.field("symbol"), names)


@pytest.mark.parametrize("warehouse", [True, False])
def test_a_writer_without_a_receipt_leaves_the_cells_of_other_symbols_in_order(tmp_path, grain, warehouse):
    audited = audited_with(tmp_path, grain)
    rows = as_msft(audited)
    land(audited.world.lake, Layout(), dataset("ohlcv-1d"), "mock", rows, grain, refetch=False)
    days = rows["session"].to_pylist()
    assert audited.audit(**SPAN, warehouse=warehouse) == [("MSFT", day, day, *NOT_RECORDED) for day in days]


def rewrite(audited, day, change, grain="session"):
    """Replace a session file by hand."""
    lake, data = audited.world.lake, dataset(audited.world.feed.dataset)
    key = Layout().session_key(data, "mock", day)
    rows = change(session_files.read_symbols(lake, key, data, None))
    lake.delete(key)
    land(lake, Layout(), data, "mock", rows, grain, refetch=False)


@pytest.mark.parametrize("dag_id", ["mock_ohlcv_1d", pytest.param("mock_ohlcv_1m", marks=pytest.mark.slow)])
def test_a_value_changed_in_a_session_file_is_found_by_the_warehouse(tmp_path, dag_id):
    audited, day = audited_with(tmp_path, "session", dag_id), SESSIONS[2]

    def changed(rows):
        close = pc.if_else(pc.equal(rows["symbol"], "IBM"), pc.add(rows["close"], 0.1), rows["close"])
        return rows.set_column(rows.schema.get_field_index("close"), rows.schema.field("close"), close)

    rewrite(audited, day, changed)
    assert (audited.audit(**SPAN), audited.notes) == ([("IBM", day, day, *CHANGED)], ())
    assert audited.audit(**SPAN, warehouse=False) == []
    (note,) = audited.notes
    assert note.startswith("1 session files have another hash than their receipts, e.g. raw/")


@pytest.mark.parametrize("warehouse", [True, False])
def test_rows_that_a_session_file_lost_are_found_by_its_receipts(tmp_path, warehouse):
    audited, day = audited_with(tmp_path, "session", "mock_ohlcv_1m"), SESSIONS[2]
    rewrite(audited, day, lambda rows: rows.slice(1))
    assert audited.audit(**SPAN, warehouse=warehouse) == [("AAPL", day, day, *CHANGED)]
    rewrite(audited, day, lambda rows: rows.filter(pc.not_equal(rows["symbol"], "AAPL")))
    assert audited.audit(**SPAN, warehouse=warehouse) == [("AAPL", day, day, *CHANGED)]


def test_a_session_file_without_the_symbol_is_not_blamed_for_a_changed_row_of_silver(tmp_path):
    audited, day = audited_with(tmp_path, "day"), SESSIONS[2]
    world = audited.world
    world.run(SESSIONS, ["XRX"], world.context("two", file_grain="session"))
    rows = as_msft(audited)
    land(world.lake, Layout(), dataset("ohlcv-1d"), "mock", rows, "session", refetch=False)
    audited.change(f"UPDATE silver_prices SET close_px = close_px + 0.01 WHERE symbol = 'IBM' AND bar_time = TIMESTAMP '{day}'")
    found = [row for row in audited.audit(**SPAN) if row[0] != "MSFT"]
    assert found == [("IBM", day, day, Cause.WAREHOUSE_CHANGED, Repair.LOAD)]
