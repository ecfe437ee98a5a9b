"""Load bars as others do, for `benchmarks.warehouse_load`.

``plain_merge`` and ``plain_copy_merge`` are the fair ones: the same rows into bronze and silver tables with the same columns, and keys
where ours have keys, but without hashes and audit rows. Bronze takes the rows that it lacks, a MERGE brings silver up to date.
``to_sql`` and ``bulk_insert_rows`` are what Airflow users reach for first. They append to a plain table: no check, no versions, no
second run without duplicates.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

KEY = ("symbol", "timeframe", "provider", "bar_time")
PRICES = ("open_px", "high_px", "low_px", "close_px", "adj_close_px", "volume", "vwap")
COLUMNS = (*KEY, *PRICES, "trade_count", "ingest_ts")
CHANGEABLE = COLUMNS[len(KEY) :]
DEFINITIONS = (
    *(f"{name} VARCHAR(64) NOT NULL" for name in KEY[:3]),
    "bar_time TIMESTAMP NOT NULL",
    *(f"{name} DECIMAL(20,8){'' if name in ('adj_close_px', 'volume', 'vwap') else ' NOT NULL'}" for name in PRICES),
    "trade_count BIGINT",
    "ingest_ts TIMESTAMP NOT NULL",
)
SAME_BAR = " AND ".join(f"t.{name} = s.{name}" for name in KEY)
DIFFERS = " OR ".join(f"t.{name} IS DISTINCT FROM s.{name}" for name in CHANGEABLE)
SELECTED = ", ".join(
    [
        "symbol, timeframe, provider, CAST(bar_time AS TIMESTAMP) AS bar_time",
        *(f"CAST({name.removesuffix('_px')} AS DECIMAL(20,8)) AS {name}" for name in PRICES),
        "trade_count, CAST(ingest_ts AS TIMESTAMP) AS ingest_ts",
    ]
)
PLAIN_TABLES = tuple(f"CREATE TABLE IF NOT EXISTS peer_{name} ({', '.join(DEFINITIONS)})" for name in ("bronze", "silver"))
KEYED_TABLES = tuple(
    f"{create[:-1]}, PRIMARY KEY ({', '.join(key)}))" for create, key in zip(PLAIN_TABLES, ((*KEY, "ingest_ts"), KEY), strict=True)
)
INTO_BRONZE = (
    f"INSERT INTO peer_bronze ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM peer_stage s"
    f" WHERE NOT EXISTS (SELECT 1 FROM peer_bronze t WHERE {SAME_BAR} AND t.ingest_ts = s.ingest_ts)"
)
INTO_SILVER = (
    f"MERGE INTO peer_silver t USING peer_stage s ON ({SAME_BAR})"
    f" WHEN MATCHED AND ({DIFFERS}) THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in CHANGEABLE)}"
    f" WHEN NOT MATCHED THEN INSERT ({', '.join(COLUMNS)}) VALUES ({', '.join(f's.{name}' for name in COLUMNS)})"
)


def plain_merge(connection: Any, chunks: Callable[[int], Any], rows_at_once: int) -> int:
    """Into DuckDB by one connection, a transaction per chunk."""
    import duckdb

    done = 0
    with duckdb.connect(connection.extra["path"]) as opened:
        opened.execute("SET TimeZone = 'UTC'")
        for statement in PLAIN_TABLES:
            opened.execute(statement)
        for rows in chunks(rows_at_once):
            opened.register("given", rows)
            opened.execute("BEGIN")
            opened.execute(f"CREATE TEMPORARY TABLE peer_stage AS SELECT {SELECTED} FROM given")
            for statement in (INTO_BRONZE, INTO_SILVER, "DROP TABLE peer_stage", "COMMIT"):
                opened.execute(statement)
            done += rows.num_rows
    return done


def plain_copy_merge(connection: Any, chunks: Callable[[int], Any], rows_at_once: int) -> int:
    """Into PostgreSQL by one connection, a transaction per chunk: Arrow's CSV by COPY, analysed."""
    import psycopg
    import pyarrow as pa
    from pyarrow import csv

    done = 0
    where = {"host": connection.host, "port": connection.port, "user": connection.login, "dbname": connection.schema}
    with psycopg.connect(**where, password=connection.password) as opened:
        for statement in ("SET TimeZone = 'UTC'", "SET DateStyle = 'ISO'", *KEYED_TABLES):
            opened.execute(statement)
        opened.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        opened.commit()
        for rows in chunks(rows_at_once):
            names = [name.removesuffix("_px") for name in COLUMNS]
            sink = pa.BufferOutputStream()
            csv.write_csv(rows.select(names), sink, csv.WriteOptions(include_header=False))
            opened.execute(f"CREATE TEMPORARY TABLE peer_stage ({', '.join(DEFINITIONS)}) ON COMMIT DROP")
            with opened.cursor().copy(f"COPY peer_stage ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv)") as copy:
                copy.write(memoryview(sink.getvalue()))
            for statement in ("ANALYZE peer_stage", INTO_BRONZE, INTO_SILVER):
                opened.execute(statement)
            opened.commit()
            done += rows.num_rows
    return done


def to_sql(connection: Any, chunks: Callable[[int], Any], rows_at_once: int) -> int:  # noqa: ARG001  pandas has its own
    """Into a table of PostgreSQL's by pandas, in the usual way. A part of the rows, as it takes so long."""
    from sqlalchemy import URL, create_engine

    url = URL.create(
        "postgresql+psycopg", connection.login, connection.password, connection.host, connection.port, connection.schema
    )
    frame = next(iter(chunks(126_000))).to_pandas()
    with create_engine(url).begin() as session:
        frame.to_sql("peer_prices", session, if_exists="append", index=False, method="multi", chunksize=2_000)
    return len(frame)


def bulk_insert_rows(connection: Any, chunks: Callable[[int], Any], rows_at_once: int) -> int:
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
    hook, done = OracleHook("peer", log_sql=False), 0
    names = ("symbol", "bar_time", "open", "high", "low", "close", "volume", "trade_count")
    with hook.get_conn() as opened, opened.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE peer_prices (symbol VARCHAR2(32), bar_time TIMESTAMP(6), open_px NUMBER(20,8), high_px NUMBER(20,8), "
            "low_px NUMBER(20,8), close_px NUMBER(20,8), volume NUMBER(20,8), trade_count NUMBER(19))"
        )
    for chunk in chunks(rows_at_once):
        frame = chunk.select(list(names)).to_pandas()
        frame["bar_time"] = frame["bar_time"].dt.tz_localize(None)
        rows = [tuple(row) for row in zip(*(frame[name].astype(object).tolist() for name in names), strict=True)]
        hook.bulk_insert_rows("peer_prices", rows, commit_every=5_000)
        done += len(rows)
    return done
