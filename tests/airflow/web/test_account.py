"""The state of a feed's connection on page Feeds: without a call, an open client or a secret."""

import json
import sys

import pytest

from market_data.airflow.web import account as accounts
from market_data.config.feeds import Feed
from market_data.core.messages import dollars

KEY = "db-" + "s" * 29


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr("market_data.providers.databento.hook.DatabentoHook.connect", lambda _: pytest.fail("a client was opened"))
    monkeypatch.setenv("AIRFLOW_CONN_DATABENTO_DEFAULT", json.dumps({"conn_type": "generic", "password": KEY}))
    return accounts.account


def feed(provider="databento", conn_id="databento_default", **options):
    return Feed(provider, "ohlcv-1d", "dow30", None, None, conn_id=conn_id, options=options)


def test_a_ready_connection_tells_quota_and_cap(account):
    found = account(feed(max_cost_usd=2.5))
    assert (found["problem"], found["charges"], found["cap"]) == ("", True, dollars(2.5))
    assert "calls per minute per pool slot" in found["quota"]
    assert KEY not in json.dumps(found)


def test_what_is_missing_is_named_without_the_secret(account, monkeypatch):
    assert "'none' cannot be read" in account(feed(conn_id="none"))["problem"]
    monkeypatch.setenv("AIRFLOW_CONN_DATABENTO_DEFAULT", json.dumps({"conn_type": "generic", "password": "hunter2"}))
    problem = account(feed())["problem"]
    assert "password" in problem
    assert "hunter2" not in problem
    for name in ("hook", "client", "vendor_library"):
        monkeypatch.delitem(sys.modules, f"market_data.providers.databento.{name}")
    monkeypatch.setitem(sys.modules, "databento", None)
    assert account(feed())["problem"] == "provider databento: package databento is not installed on this machine"
