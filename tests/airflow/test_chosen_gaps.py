"""A run of ``maintain_coverage`` plans exactly the gaps that a person chose on page Coverage, without an audit."""

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data.core.errors import ConfigError, ParamError
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.maintenance.chosen_gaps import write_chosen
from market_data.maintenance.findings import FINDINGS
from market_data.pipeline.selection import Selection

DAY = date(2024, 9, 16)


class TaskInstance:
    def xcom_push(self, key, value):
        self.note = value


def test_chosen_gaps_are_planned_without_an_audit(tmp_path, monkeypatch):
    from market_data.airflow.maintain.coverage_tasks import run_audit, run_plan

    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW_CONN_MOCK_DEFAULT", json.dumps({"conn_type": "generic"}))
    lake = Lake.open(f"file://{tmp_path}")
    place = {"dataset": "ohlcv-1d", "source": "mock", "key": None, "detail": "x", "cause": "missing", "repair": "fetch"}
    row = {**place, "symbol": "AAPL", "first_session": DAY, "last_session": DAY + timedelta(days=1)}
    found = pa.Table.from_pylist([row], schema=FINDINGS)
    key = write_chosen(lake, "mock_ohlcv_1d", Selection(OHLCV_1D, "mock", Layout()), found, datetime(2024, 10, 1, tzinfo=UTC))
    params = {"report": key, "repair": True, "dry_run": False, "max_calls": 1, "max_cost_usd": 0}
    context = {"params": params, "ti": TaskInstance()}
    reports = run_audit(context)
    assert context["ti"].note == "1 chosen gaps of mock, found 2024-10-01 00:00 UTC"
    planned = run_plan(reports, context)
    assert (planned["fetch"], planned["calls"], planned["above"], planned["problems"]) == (True, 1, "", [])
    assert "2 cells in 1 call" in planned["text"]
    monkeypatch.setattr("market_data.config.feeds.load_feeds", list)
    with pytest.raises(ConfigError, match="feeds.yaml has no feed mock_ohlcv_1d any more"):
        run_plan(reports, context)
    with pytest.raises(ParamError, match="no such list"):
        run_audit({**context, "params": {**params, "report": "audits/x"}})
