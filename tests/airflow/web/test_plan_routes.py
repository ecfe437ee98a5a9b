"""The routes of page Plan without a server: permissions come before look-ups, and plans take turns."""

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from market_data.airflow.web import access
from market_data.airflow.web.routes import plan
from market_data.lake.store import Lake

FEED = "mock_ohlcv_1d"
BODY = {"feed": FEED, "params": {"symbols": ["AAPL"]}, "calls": 1000}


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A client of a user with the ``allowed`` methods on the DAGs."""
    app = FastAPI()
    app.include_router(plan.router)
    app.dependency_overrides[get_user] = object
    found = TestClient(app)
    found.allowed = {"GET", "POST"}
    monkeypatch.setattr(access, "_may", lambda method, *_: method in found.allowed)
    monkeypatch.setenv("AIRFLOW_CONN_MOCK_DEFAULT", '{"conn_type": "generic"}')
    monkeypatch.setattr(plan.deployment, "lake", lambda: Lake.open(f"file://{tmp_path}/lake"))
    monkeypatch.setattr(plan.deployment, "is_running", lambda _: False)
    monkeypatch.setattr(plan.deployment, "paused", lambda _: [])
    return found


def calls(client, feed=FEED, **params):
    body = {**BODY, "feed": feed, "params": {**BODY["params"], **params}}
    return [
        client.get("/api/plan/form", params={"feed": feed}).status_code,
        client.post("/api/plan/ask", json=body).status_code,
        client.post("/api/plan/price", json=body).status_code,
        client.post("/api/plan/start", json=body).status_code,
    ]


@pytest.mark.parametrize("feed", [FEED, "nothing"])
def test_permission_comes_before_look_ups(client, monkeypatch, feed):
    monkeypatch.setattr(plan, "feed_called", lambda _: pytest.fail("a feed was looked up"))
    client.allowed = set()
    assert calls(client, feed) == [403, 403, 403, 403]


def test_a_reader_plans_and_starts_nothing(client):
    client.allowed = {"GET"}
    assert calls(client) == [200, 200, 403, 403]
    assert calls(client, tickers_path="x.csv") == [200, 403, 403, 403]
    assert not client.get("/api/plan/form", params={"feed": FEED}).json()["may_start"]
    client.allowed = {"GET", "POST"}
    assert calls(client) == [200, 200, 200, 200]


def test_who_may_trigger_and_not_read_gets_nothing(client):
    client.allowed = {"POST"}
    assert calls(client) == [403, 403, 403, 403]


def test_plans_take_turns(client, monkeypatch):
    monkeypatch.setattr(plan, "PATIENCE", 0)
    for _ in range(plan.AT_ONCE):
        assert plan._TURNS.acquire(timeout=0)
    try:
        found = client.post("/api/plan/ask", json=BODY)
        assert (found.status_code, found.json()["detail"]) == (503, "others are planning or requesting a charge: try again")
    finally:
        plan._TURNS.release(plan.AT_ONCE)
    for _ in range(plan.AT_ONCE + 1):  # a plan gives its turn back, a wrong one too
        assert client.post("/api/plan/ask", json={**BODY, "params": {"symbols": ["no good"]}}).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"feed": FEED}, {"feed": FEED, "params": []}, {"feed": FEED, "params": {str(n): n for n in range(101)}}]
)
def test_other_bodies_are_refused(client, body):
    assert client.post("/api/plan/ask", json=body).status_code == 422
