"""Metrics: the packets that a StatsD server receives while the tasks of a run work."""

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from market_data.airflow import metrics, tasks
from market_data.http.client import Counters
from market_data.http.rate_limit import Pacer
from tests.docs.pages import DOCS, PROJECT
from tests.pipeline.runs import feed_of

FEED = replace(feed_of("mock_ohlcv_1d"), universe="dow30")
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
REPORT = {
    "rows_landed": 30, "rows_loaded": 29, "rows_quarantined": 1, "cost_usd": 0.25,
    "restated": [{"rows": 2, "attempt": 1}, {"rows": 1, "attempt": 1}, {"rows": 9, "attempt": 0}],
    "cells_own": 40, "open_cells": {"pending": 1, "quarantined": 1, "refused": 0, "missing": 2, "suspected gap": 5},
    "clear_number": 1, "attempts": [{"attempt": 0, "cost_usd": 7.5}, {"attempt": 1, "cost_usd": 0.25}],
    "date_range": {"from": "2024-03-06", "to": "2024-03-06"}, "complete": True, "end_time": "2024-03-06T22:00:00+00:00",
}  # fmt: skip


class StatsServer:
    """A StatsD server: ``packets`` returns name -> (value, type) of what arrived so far."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2)
        self.port = self.socket.getsockname()[1]

    def packets(self, last):
        found = {}
        while last not in found:
            for line in self.socket.recv(65_536).decode().splitlines():
                name, _, rest = line.partition(":")
                value, kind = rest.split("|")[:2]
                found[name] = (float(value), kind)
        return found


@pytest.fixture
def server(monkeypatch):
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

    found = StatsServer()
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(found.port))
    stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
    yield found
    found.socket.close()
    monkeypatch.undo()
    stats.initialize(factory=get_stats_factory(), export_legacy_names=False)


class Instance:
    """A task instance outside Airflow, for all tasks of a run."""

    try_number, map_index, dag_id, run_id = 1, 0, FEED.dag_id, "r1"

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids, key, **_):
        return self.pushed.get(key)


def test_a_statsd_server_receives_the_metrics_of_a_run(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    monkeypatch.setenv("AIRFLOW_CONN_MOCK_DEFAULT", json.dumps({"conn_type": "http"}))
    warehouse = {"conn_type": "duckdb", "extra": {"path": f"{tmp_path}/warehouse.duckdb"}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(warehouse))
    monkeypatch.setattr(Pacer, "gap", 0.0)
    monkeypatch.setattr(tasks, "now", lambda: NOW)
    monkeypatch.setattr(tasks, "_today", NOW.date)
    run = {"run_id": "r1", "run_type": "manual", "start_date": NOW, "run_after": NOW, "clear_number": 0}
    params = {"symbols": ["AAPL", "MSFT"], "start_date": "2024-03-05", "end_date": "2024-03-06"}
    assets = (object(), object())
    context = {
        "ti": Instance(), "dag_run": SimpleNamespace(dag_id=FEED.dag_id, **run), "params": params,
        "outlet_events": {asset: SimpleNamespace(add_partitions=list) for asset in assets},
    }  # fmt: skip
    (batch,) = tasks.run_plan(FEED, context)
    receipt = tasks.run_fetch(FEED, batch, context)
    tasks.run_publish(FEED, [batch], [receipt], None, None, assets, context)
    name = "airflow.market_data.mock_ohlcv_1d."
    found = {key.removeprefix(name): value for key, value in server.packets(f"{name}coverage").items()}
    assert found["calls"] == (receipt["calls"], "c")
    assert found["bytes"] == (receipt["bytes"], "c")
    assert found["rows"] == (4, "c")
    assert found["wait"][1] == "ms"
    assert found["coverage"] == (0, "g")  # nothing was loaded


def test_the_calls_of_a_batch_that_fails_are_sent_too(server):
    def fail():
        with metrics.of_calls(FEED, SimpleNamespace(counters=Counters(3, 2, 100, 1, 1.5))):
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        fail()
    name = "airflow.market_data.mock_ohlcv_1d."
    assert {key.removeprefix(name): value for key, value in server.packets(f"{name}wait").items()} == {
        "calls": (3, "c"), "throttled": (1, "c"), "retries": (2, "c"), "bytes": (100, "c"), "wait": (1500, "ms"),
    }  # fmt: skip


def test_figures_of_a_run():
    found = metrics.figures(FEED, REPORT, "scheduled")
    assert found == {
        "rows": 30, "rows_loaded": 29, "quarantined": 1, "restated": 3, "spend_micro_usd": 250_000,
        "coverage": 0.775, "lag_seconds": 3600,
    }  # fmt: skip
    assert set(found) == set(metrics.RUN)
    assert "lag_seconds" not in metrics.figures(FEED, REPORT, "manual")
    assert "lag_seconds" not in metrics.figures(FEED, {**REPORT, "complete": False}, "scheduled")


def test_what_metrics_lack_never_fails_a_task(caplog):
    with metrics.of_calls(FEED, None):
        pass
    assert "metrics are not sent" in caplog.text


def test_each_metric_is_documented_and_on_the_dashboard():
    names = [*metrics.CALLS, *metrics.RUN]
    dashboard = (PROJECT / "docs" / "reference" / "grafana.json").read_text()
    shown = [target["target"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]]
    for name in names:
        assert f"| `{name}` |" in DOCS["docs/reference/metrics.md"]
        assert any(f".{name}" in target for target in shown), name
