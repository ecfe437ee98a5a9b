"""Measure loading 1.3 million daily bars into each warehouse twice, beside what others write.

``python -m benchmarks.warehouse_load [duckdb] [postgres] [oracle]`` starts the servers of the tests: a real PostgreSQL, and for Oracle the
wire double. The double's SQL engine is PostgreSQL, so its seconds describe the client, not Oracle. Each way loads into a database of its
own, by a process of its own; ``again`` is the second load of the same rows, which changes nothing.

Prints a line of JSON per way: rows per second, seconds, CPU seconds of client and server, peak memory of the client, size of the database.
Also the time per row as a ratio to ours. ``warehouse_peers`` has the peers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.measurement import PROJECT, Timer
from benchmarks.warehouse_peers import bulk_insert_rows, plain_copy_merge, plain_merge, to_sql

SYMBOLS, SESSIONS = 523, 2_520
ROWS_AT_ONCE = 250_000
Way = Callable[[Any, Callable[[int], Iterator[Any]], int], int]


@cache
def moments_of_sessions() -> Any:
    import numpy as np

    from market_data.core import calendar

    return np.array(calendar.sessions(date(2006, 1, 3), date(2016, 1, 12))[:SESSIONS], "datetime64[us]")


def symbol_bars(first: int, last: int) -> Any:
    """Daily bars of the symbols ``first`` to ``last`` (exclusive): a dataset's table."""
    import numpy as np
    import pyarrow as pa

    from market_data.datasets.registry import dataset

    days = moments_of_sessions()
    count = last - first
    close = np.round(100 * np.exp(np.random.default_rng(first).normal(0, 0.01, (count, SESSIONS)).cumsum(axis=1)), 4).ravel()
    moments = np.tile(days, count)
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


def chunks(rows_at_once: int) -> Iterator[Any]:
    """Yield all bars, of one symbol after the other, in tables of ``rows_at_once`` rows."""
    from market_data.pipeline.load import in_chunks

    return in_chunks((symbol_bars(n, n + 1) for n in range(SYMBOLS)), rows_at_once)


def ours(connection: Any, chunks: Callable[[int], Iterator[Any]], rows_at_once: int) -> int:  # noqa: ARG001  the warehouse knows
    """Load as the task ``load`` does: chunks of ``chunk_rows``, a transaction each."""
    from market_data.airflow.warehouse_connections import open_with_hooks
    from market_data.core.without_pandas import leave_pandas_out
    from market_data.datasets.registry import dataset

    leave_pandas_out()
    with open_with_hooks(connection) as warehouse:
        loads = (warehouse.load(dataset("ohlcv-1d"), rows, uuid4().hex) for rows in chunks(warehouse.chunk_rows))
        return sum(loaded.rows_in for loaded in loads)


PEERS: dict[str, list[Way]] = {"duckdb": [plain_merge], "postgres": [plain_copy_merge, to_sql], "oracle": [bulk_insert_rows]}
ONCE = {"to_sql", "bulk_insert_rows"}
"""They append the rows again."""
WAYS = {way.__name__: way for way in (ours, *(peer for peers in PEERS.values() for peer in peers))}


def measure(way: str, connection: Any) -> dict[str, Any]:
    """Measure one way, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "AIRFLOW_HOME": tempfile.mkdtemp()}
    given = json.dumps({**asdict(connection), "extra": dict(connection.extra)})
    command = [sys.executable, "-m", "benchmarks.warehouse_load", "--child", way]
    before = server_cpu(connection)
    done = subprocess.run(command, input=given, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "server_cpu": round(server_cpu(connection) - before, 1), "size_mb": size_mb(connection)}


def server_cpu(connection: Any) -> float:
    """Return the CPU seconds of PostgreSQL's processes for ended connections; 0 for the other engines."""
    if connection.conn_type != "postgres":
        return 0.0
    from tests.services import postgres_server

    assert not postgres_server.left_open(connection.schema)
    postmaster = (postgres_server.server().data / "postmaster.pid").read_text().split()[0]
    of_children = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[13:15]
    return sum(map(int, of_children)) / os.sysconf("SC_CLK_TCK")


def size_mb(connection: Any) -> int:
    """Return the size of the database; 0 where it is not the engine's own, as for Oracle's double."""
    if connection.conn_type == "duckdb":
        return round(Path(connection.extra["path"]).stat().st_size / 1e6)
    if connection.conn_type != "postgres":
        return 0
    from tests.services import postgres_server

    with postgres_server.server().admin(connection.schema) as admin:
        return round(admin.execute("SELECT pg_database_size(current_database())").fetchall()[0][0] / 1e6)


def child(way: str) -> None:
    from market_data.warehouse import WarehouseConnection

    connection = WarehouseConnection(**json.loads(sys.stdin.read()))
    timer = Timer()
    rows = WAYS[way](connection, chunks, ROWS_AT_ONCE)
    print(json.dumps({"rows": rows, **timer.figures()}))


def figures(engine: str) -> Iterator[dict[str, Any]]:
    """Yield the figures of each way of an engine, ours first."""
    from market_data.airflow.warehouse_connections import open_with_hooks
    from tests.warehouse.engines import CONNECTIONS

    for way in [ours, *PEERS[engine]]:
        name = way.__name__
        with tempfile.TemporaryDirectory() as folder, CONNECTIONS[engine](Path(folder)) as connection:
            if way is ours:
                with open_with_hooks(connection) as warehouse:
                    warehouse.migrate()
            yield {"engine": engine, "way": name, **measure(name, connection)}
            if name not in ONCE:
                yield {"engine": engine, "way": f"{name}, again", **measure(name, connection)}


def main(engines: list[str]) -> None:
    sys.path.insert(0, str(PROJECT / "plugins"))
    for engine in engines:
        first = 0.0
        for found in figures(engine):
            a_row = found["seconds"] / found["rows"]
            first = first or a_row
            print(
                json.dumps({**found, "rows_per_second": round(1 / a_row), "time_per_row_to_ours": round(a_row / first, 2)}),
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main(sys.argv[1:] or list(PEERS))
