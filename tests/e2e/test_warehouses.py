"""The same runs into each warehouse: one connection is edited, and nothing else."""

import hashlib
import json
from datetime import date
from decimal import Decimal

import pytest

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.config.feeds import load_feeds
from market_data.datasets.registry import dataset
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.schema import TABLES
from tests.e2e.conftest import DAG
from tests.e2e.test_every_dag import unpause
from tests.services import oracle_server, postgres_server

pytestmark = pytest.mark.slow

RUNS = {
    DAG: {"start_date": "2012-08-01", "end_date": "2012-08-03", "symbols": ["AAPL", "BRK.B", "IBM", "MSFT", "SPY"]},
    "alpaca_ohlcv_1m": {"start_date": "2012-08-01", "end_date": "2012-08-01", "symbols": ["AAPL", "BRK.B", "IBM"]},
    "polygon_corporate_actions": {"start_date": "2012-07-02", "end_date": "2012-12-31", "symbols": ["AAPL", "IBM", "MSFT"]},
    "fmp_fundamentals": {"start_date": "2013-01-15", "end_date": "2013-02-08", "symbols": ["AAPL", "IBM", "MSFT"]},
    "databento_trades": {"start_date": "2013-01-02", "end_date": "2013-01-02", "symbols": ["AAPL", "BRK.B"]},
}
FEEDS = {feed.dag_id: feed for feed in load_feeds()}
MADE_BY_THE_LOAD = {"load_id", "loaded_at"}


@pytest.fixture
def engines(world, tmp_path):
    """An empty warehouse of each engine."""
    with postgres_server.empty_database(tmp_path / "p") as postgres, oracle_server.empty_database(tmp_path / "o") as oracle:
        duckdb = WarehouseConnection("duckdb", extra={"path": str(tmp_path / "fresh.duckdb"), "lock_timeout": 60})
        yield {"duckdb": duckdb, "postgres": postgres, "oracle": oracle}
    use(world, WarehouseConnection("duckdb", extra={"path": str(world.stack.paths.warehouse)}))


def use(world, connection):
    """What a user does in the UI."""
    fields = {name: getattr(connection, name) or None for name in ("conn_type", "host", "port", "schema", "login", "password")}
    body = {"connection_id": "warehouse_default", **fields, "extra": json.dumps(dict(connection.extra))}
    world.api("PATCH", "/connections/warehouse_default", body)


def plain(value):
    return (
        value.isoformat()
        if isinstance(value, date)
        else str(Decimal(value).normalize())
        if isinstance(value, int | Decimal)
        else value
    )


def held(connection):
    """Rows and a checksum of each table, but for what a load makes up, and for late loads of other tests' runs of `mock`."""
    found = {}
    with open_with_hooks(connection) as warehouse:
        for table in TABLES.values():
            names = [column.name for column in table.columns if column.name not in MADE_BY_THE_LOAD]
            for layer in (table.bronze, table.silver):
                rows = warehouse.query(f"SELECT {', '.join(names)} FROM {layer} WHERE provider <> 'mock'").to_pylist()
                lines = sorted(repr([plain(row[name]) for name in names]) for row in rows)
                found[layer] = (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest())
    return found


def test_every_engine_ends_with_the_same_rows(world, engines, tmp_path):
    world.control("POST", "quota", limits=[])
    for dag_id in RUNS:
        unpause(world, dag_id)
    found, loaded = {}, {}
    for engine, connection in engines.items():
        use(world, connection)
        runs = {
            dag_id: world.wait(world.trigger(dag_id=dag_id, force=True, max_retries=2, **conf)) for dag_id, conf in RUNS.items()
        }
        assert {dag_id: run["state"] for dag_id, run in runs.items()} == dict.fromkeys(RUNS, "success"), [
            world.trouble(run) for run in runs.values() if run["state"] != "success"
        ]
        found[engine] = held(connection)
        loaded[engine] = {dag_id: world.report(run)["rows_loaded"] for dag_id, run in runs.items()}
    assert found["duckdb"] == found["postgres"] == found["oracle"]
    assert loaded["duckdb"] == loaded["postgres"] == loaded["oracle"]
    assert all(rows > 0 for rows in loaded["duckdb"].values())
    for table in TABLES.values():
        given = sum(rows for dag_id, rows in loaded["duckdb"].items() if dataset(FEEDS[dag_id].dataset).table == table.name)
        assert found["duckdb"][table.silver][0] == given

    world.forget_calls()  # and from the lake again
    anew = WarehouseConnection("duckdb", extra={"path": str(tmp_path / "anew.duckdb"), "lock_timeout": 60})
    use(world, anew)
    for run in runs.values():
        world.clear(run, "check")
        assert world.wait(run)["state"] == "success", world.why(run)
    assert held(anew) == found["duckdb"]
    assert world.calls() == []
