"""A mistyped param of a maintenance DAG is an error that names field, value and what is allowed, before anything is done."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from market_data.airflow.maintain import coverage_tasks
from market_data.airflow.maintain import lake as lake_job
from market_data.airflow.maintain.state import run_action
from market_data.core.errors import ParamError
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from tests.maintenance.lakes import contents

DAY = date(2024, 1, 2)
EMPTY = {"feeds": [], "symbols": [], "start_date": None, "end_date": None}
AGREED = {"by": "Ada", "reason": "wrong", "dry_run": False, "everything": True}


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}")
    found = Lake.open(f"file://{tmp_path}")
    for source in ("mock", "alpaca", "alpaca~iex"):
        run = RunInfo("mock_ohlcv_1d", "r", "manual", 0, datetime(2024, 9, 17, tzinfo=UTC))
        cells = pa.Table.from_pylist([{"symbol": "AAPL", "session": DAY, "state": "have", "reason": ""}], schema=CELLS)
        write_cells(found, "ohlcv-1d", source, run, "b1", cells)
    return found


def state(lake, params):
    return run_action({**EMPTY, **AGREED, "action": "reset", **params}, lake, lambda: pytest.fail("the warehouse was opened"))


def audit(lake, params):
    return coverage_tasks.run_audit({"params": {**EMPTY, "report": None, "whole": False, **params}})


def fold(lake, params):
    return list(lake_job.run_part("ledger", {**EMPTY, "retention": True, **params}, dry_run=False, by="Ada"))


SELECTION = [
    (
        {"feeds": ["mock_ohlcv_1d", "mock_ohlcv_1dd"]},
        r"feeds has mock_ohlcv_1dd \(did you mean mock_ohlcv_1d\?\); feeds: .*polygon_ohlcv_1d",
    ),
    ({"symbols": ["aapl"]}, "symbols: 'aapl' .*is 'AAPL' meant"),
    ({"start_date": "2024-13-01"}, "start_date is '2024-13-01'; a date such as"),
    ({"start_date": "2024-02-01", "end_date": "2024-01-01"}, "start_date is 2024-02-01 and end_date 2024-01-01"),
]


@pytest.mark.parametrize("run", [state, audit, fold])
@pytest.mark.parametrize(("params", "words"), SELECTION)
def test_a_wrong_selection_is_an_error_before_anything_is_done(lake, run, params, words):
    before = contents(lake)
    with pytest.raises(ParamError, match=words):
        run(lake, params)
    assert contents(lake) == before


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"source": "alpaca~ie"}, r"source is 'alpaca~ie' \(did you mean alpaca~iex\?\); sources of .*: alpaca, alpaca~iex, mock"),
        ({"source": "alpaca", "feeds": ["alpaca_ohlcv_1d", "mock_ohlcv_1d"]}, "source is 'alpaca'; sources of mock_ohlcv_1d .*: mock"),
        ({"symbols": ["APPL"]}, r"symbols has 'APPL' \(did you mean AAPL\?\); the ledgers of the selected feeds have no record of it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("action", ["show", "reset", "release"])
def test_a_mistyped_source_or_symbol_changes_no_cell(lake, action, params, words):
    before = contents(lake)
    with pytest.raises(ParamError, match=words):
        state(lake, {**params, "action": action})
    assert contents(lake) == before


def test_a_source_of_some_feeds_selects_these(lake):
    (line,) = state(lake, {"source": "alpaca~iex", "action": "show"})
    assert line.startswith("alpaca_ohlcv_1d: ")
