"""Loading 1.3 million daily bars into each warehouse, beside what Airflow users reach for first.

``python -m benchmarks.warehouse_load [duckdb] [postgres] [oracle]`` starts the servers of the tests: a real PostgreSQL, and for Oracle the
wire double. The double's SQL engine is DuckDB, so its figures describe the client, not Oracle. Each way loads the same rows in a process of
its own. Prints a line of JSON per way: rows per second, peak memory of the process, and the time per row as a ratio to ours.

The peers: ``OracleHook.bulk_insert_rows`` and ``pandas.DataFrame.to_sql`` with ``method="multi"``. They append to a plain table: no
check, no versions, no second run without duplicates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measurement import PROJECT, Timer

SYMBOLS, SESSIONS = 523, 2_520
PART = 50
PEERS = {"duckdb": [], "postgres": ["to_sql"], "oracle": ["bulk_insert_rows"]}


def symbol_bars(first: int, last: int) -> Any:
    """Daily bars of the symbols ``first`` to ``last`` (exclusive): a dataset's table."""
    import numpy as np
    import pyarrow as pa

    from market_data.core import calendar
    from market_data.datasets.registry import dataset

    days = calendar.sessions(datetime(2006, 1, 3).date(), datetime(2016, 1, 12).date())[:SESSIONS]  # noqa: DTZ001  dates
    count = last - first
    close = np.round(100 * np.exp(np.random.default_rng(first).normal(0, 0.01, (count, SESSIONS)).cumsum(axis=1)), 4).ravel()
    moments = np.tile(np.array(days, "datetime64[us]"), count)
    rows = len(close)
    values = {
        "symbol": np.repeat([f"S{n:04d}" for n in range(first, last)], SESSIONS),
        "timeframe": ["1d"] * rows,
        "bar_time": moments,
        "session": moments.astype("datetime64[D]"),
        "open": close,
        "high": close + 0.25,
        "low": close - 0.25,
        "close": close,
        "volume": np.arange(rows, dtype=float),
        "vwap": close,
        "trade_count": np.arange(rows),
        "provider": ["benchmark"] * rows,
        "ingest_ts": np.full(rows, np.datetime64("2026-11-02T22:00:00", "us")),
    }
    schema = dataset("ohlcv-1d").schema
    arrays = [
        pa.array(values[field.name]).cast(field.type) if field.name in values else pa.nulls(rows, field.type) for field in schema
    ]
    return pa.table(arrays, schema=schema)


def ours(connection: Any) -> int:
    """Load as the task ``load`` does: chunks of ``chunk_rows``, a transaction each."""
    from market_data.airflow.warehouse_connections import open_with_hooks
    from market_data.datasets.registry import dataset

    done = 0
    with open_with_hooks(connection) as warehouse:
        step = max(1, warehouse.chunk_rows // SESSIONS)
        for first in range(0, SYMBOLS, step):
            loaded = warehouse.load(dataset("ohlcv-1d"), symbol_bars(first, min(first + step, SYMBOLS)), f"{first}{time.time()}")
            done += loaded.rows_in
    return done


def unchanged(connection: Any) -> int:
    """Once more, with nothing new: what a cleared run costs."""
    return ours(connection)


def to_sql(connection: Any) -> int:
    """Into a table of PostgreSQL's by pandas, in the usual way. A part of the rows, as it takes so long."""
    from sqlalchemy import URL, create_engine

    url = URL.create(
        "postgresql+psycopg", connection.login, connection.password, connection.host, connection.port, connection.schema
    )
    frame = symbol_bars(0, PART).to_pandas()
    with create_engine(url).begin() as session:
        frame.to_sql("peer_prices", session, if_exists="append", index=False, method="multi", chunksize=2_000)
    return len(frame)


def bulk_insert_rows(connection: Any) -> int:
    """Into a plain table by Airflow's hook: tuples, a commit every 5,000 rows."""
    from airflow.providers.oracle.hooks.oracle import OracleHook

    os.environ["AIRFLOW_CONN_PEER"] = json.dumps(
        {
            "conn_type": "oracle",
            "host": connection.host,
            "port": connection.port,
            "login": connection.login,
            "password": connection.password,
            "extra": dict(connection.extra),
        }
    )
    hook, done, step = OracleHook("peer", log_sql=False), 0, 99
    names = ("symbol", "bar_time", "open", "high", "low", "close", "volume", "trade_count")
    with hook.get_conn() as opened, opened.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE peer_prices (symbol VARCHAR2(32), bar_time TIMESTAMP(6), open_px NUMBER(20,8), high_px NUMBER(20,8), "
            "low_px NUMBER(20,8), close_px NUMBER(20,8), volume NUMBER(20,8), trade_count NUMBER(19))"
        )
    for first in range(0, SYMBOLS, step):
        frame = symbol_bars(first, min(first + step, SYMBOLS)).select(list(names)).to_pandas()
        frame["bar_time"] = frame["bar_time"].dt.tz_localize(None)
        rows = [tuple(row) for row in zip(*(frame[name].astype(object).tolist() for name in names), strict=True)]
        hook.bulk_insert_rows("peer_prices", rows, commit_every=5_000)
        done += len(rows)
    return done


WAYS: dict[str, Callable[[Any], int]] = {way.__name__: way for way in (ours, unchanged, to_sql, bulk_insert_rows)}


def measure(way: str, connection: Any) -> dict[str, Any]:
    """Measure one way, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": tempfile.mkdtemp()}
    given = json.dumps({**asdict(connection), "extra": dict(connection.extra)})
    command = [sys.executable, "-m", "benchmarks.warehouse_load", "--child", way]
    done = subprocess.run(command, input=given, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(way: str) -> None:
    from market_data.warehouse import WarehouseConnection

    connection = WarehouseConnection(**json.loads(sys.stdin.read()))
    timer = Timer()
    rows = WAYS[way](connection)
    print(json.dumps({"rows": rows, **timer.figures()}))


def main(engines: list[str]) -> None:
    sys.path[:0] = [str(PROJECT / "tests" / "warehouse"), str(PROJECT / "plugins")]
    from engines import CONNECTIONS  # type: ignore[import-not-found]

    from market_data.airflow.warehouse_connections import open_with_hooks

    for engine in engines:
        with tempfile.TemporaryDirectory() as folder, CONNECTIONS[engine](Path(folder)) as connection:
            with open_with_hooks(connection) as warehouse:
                warehouse.migrate()
            first = None
            for way in ["ours", "unchanged", *PEERS[engine]]:
                found = measure(way, connection)
                a_row = found["seconds"] / found["rows"]
                first = first or a_row
                figures = {"rows_per_second": round(1 / a_row), "time_per_row_to_ours": round(a_row / first, 1)}
                print(json.dumps({"engine": engine, "way": way, **found, **figures}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main(sys.argv[1:] or list(PEERS))
