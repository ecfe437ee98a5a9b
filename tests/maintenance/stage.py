"""Put rows into staging that no run has loaded."""

from datetime import UTC, datetime, timedelta

from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.core.outcome import Evidence, State
from market_data.core.run import RunInfo
from market_data.lake import staging
from market_data.lake.receipts import CellRun, RequestReceipt
from market_data.lake.staging import StagedInfo
from tests.lake.rows import bars
from tests.maintenance.lakes import SOURCE

STARTED = datetime(2024, 11, 20, tzinfo=UTC)


def staged(lake, cells, name="b"):
    """Stage the rows of some cells as a request that no run has loaded."""
    symbols = tuple(sorted({symbol for symbol, _ in cells}))
    sessions = sorted({day for _, day in cells})
    intervals = (Interval(sessions[0], sessions[-1] + timedelta(1)),)
    request = Request("ohlcv-1d", "range", symbols, intervals)
    evidence = Evidence(1, 0, 1, 0, len(cells), None, last_page_seen=True)
    receipt = RequestReceipt(request, evidence, {"ingest_us": 0}, (CellRun(symbols, State.HAVE, "", intervals, with_rows=True),))
    run = RunInfo("polygon_ohlcv_1d", "r", "manual", 0, STARTED)
    with staging.Rows() as rows:
        rows.add(bars(cells))
        return staging.write(lake, "ohlcv-1d", SOURCE, f"{name:0>16}", StagedInfo(run, "b1", "day", receipt), rows)
