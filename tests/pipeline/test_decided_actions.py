"""Dates of corporate actions that a person has decided on are known in the run that fetches them again."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from market_data.core.batch import Request
from market_data.core.intervals import Interval
from market_data.core.outcome import Evidence, State
from market_data.lake.receipts import CellRun, RequestReceipt
from market_data.lake.store import Lake
from market_data.pipeline.decided import Decided, keep
from market_data.pipeline.known_actions import NEVER, known_actions

DAYS = (date(2024, 1, 2), date(2024, 1, 3))
STARTED = datetime(2024, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(("decided", "known"), [(True, DAYS), (False, NEVER)])
def test_a_released_date_of_a_refused_session_is_known(tmp_path, decided, known):
    lake = Lake.open(f"file://{tmp_path}/lake")
    dates = (Interval(DAYS[1], date(2024, 1, 4)),)
    request = Request("corporate-actions", "range", ("A",), dates)
    receipt = RequestReceipt(
        request, Evidence(1, 0, 1, 0, 1, None, last_page_seen=True), {}, (CellRun(("A",), State.HAVE, "", dates, with_rows=True),)
    )
    checked = {"refused": [{"partition": DAYS[1].isoformat()}]}
    if decided:
        cells = pa.table(
            {"symbol": ["A"], "session": [DAYS[1]], "kind": ["release"], "reason": ["released by Ada"], "rows": [True]}
        )
        checked["decided"] = keep(lake, "quality/decided.parquet", Decided(cells, cells))
    found = known_actions(lake, "mock", STARTED, [receipt], checked)
    assert found == ([("A", "mock", *known)] if decided else [])
