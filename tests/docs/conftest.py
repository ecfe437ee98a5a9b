"""A lake for the pages: both grains, corrections in both, a symbol that needs escaping; in a folder or on S3."""

import json
import logging
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.lake.writer import land
from sandbox.s3 import S3Server

SEEN = datetime(2024, 2, 1, tzinfo=UTC)
CORRECTED = SEEN + timedelta(days=1)
LAST = date(2024, 1, 31)


def weekdays(start, end):
    """Return the weekdays from ``start`` to ``end``, both inclusive."""
    days = (start + timedelta(n) for n in range((end - start).days + 1))
    return [day for day in days if day.weekday() < 5]


def bars(symbol, days, close, at=SEEN, provider="polygon"):
    """Return daily bars of a symbol; ``close`` is the first close, each following one is 1 more."""
    rows = [
        {
            "symbol": symbol, "timeframe": "1d", "bar_time": datetime(day.year, day.month, day.day, tzinfo=UTC), "session": day,
            "open": 1.0, "high": 900.0, "low": 1.0, "close": close + n, "volume": 100.5, "provider": provider, "ingest_ts": at,
        }
        for n, day in enumerate(days)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=OHLCV_1D.schema)


def fill(lake):
    """Fill the lake; return AAPL's bars of 2024 as session -> close."""

    def put(rows, grain, provider="polygon"):
        land(lake, Layout(), OHLCV_1D, provider, rows, grain, refetch=False)

    old, early, late = (
        weekdays(date(2023, 12, 1), date(2023, 12, 29)),
        weekdays(date(2024, 1, 2), date(2024, 1, 15)),
        weekdays(date(2024, 1, 12), date(2024, 1, 31)),  # two sessions are in both
    )
    for symbol in ("AAPL", "X:BTC-USD"):
        put(bars(symbol, [*old, *early], 100.0), "year")
        put(bars(symbol, late, 300.0, SEEN - timedelta(hours=1)), "day")  # in both, but older
    put(bars("AAPL", early[3:4], 500.0, CORRECTED), "day")
    put(bars("AAPL", late[5:6], 600.0, CORRECTED), "year")
    put(bars("AAPL", late[-1:], 700.0, provider="mock"), "day", "mock")
    in_year = {day: 100.0 + len(old) + n for n, day in enumerate(early)}
    in_days = {day: 300.0 + n for n, day in enumerate(late)}
    return in_days | in_year | {early[3]: 500.0, late[5]: 600.0}


def fill_others(lake):
    """Fill the lake with some rows of every other dataset that the page queries."""

    def put(name, provider, rows):
        found = dataset(name)
        defaults = {"timeframe": found.timeframe, "provider": provider, "ingest_ts": SEEN, "symbol": "AAPL", "session": LAST}
        schema = pa.schema([pa.field(f.name, f.type) for f in found.schema])
        table = pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=schema)
        land(lake, Layout(), found, provider, pa.table(table.columns, schema=found.schema), "day", refetch=False)

    opens = datetime(2024, 1, 31, 14, 30, tzinfo=UTC)
    minute = [{"open": 10.0 + n, "high": 12.0 + n, "low": 9.0 + n, "close": 11.0 + n, "volume": 5.0} for n in range(20)]
    put("ohlcv-1m", "alpaca", [{**bar, "bar_time": opens + timedelta(minutes=n)} for n, bar in enumerate(minute)])
    trades = [
        {"ts_event": opens, "sequence": n, "ordinal": 0, "price": price, "size": size, "side": side}
        for n, (price, size, side) in enumerate([(10.0, 100.0, "A"), (11.0, 10.0, "B"), (10.0, 1.0, "A")])
    ]
    put("trades", "databento", trades)
    quotes = [(9.0, 11.0), (10.5, 10.5), (None, 10.0)]  # the second is locked, the third has no bid
    put("tbbo", "databento", [{**t, "bid_px": bid, "ask_px": ask} for t, (bid, ask) in zip(trades, quotes, strict=True)])
    settled = [("settlement_price", 4900.0, "new"), ("settlement_price", 4901.25, "new"), ("settlement_price", None, "delete")]
    put(
        "statistics",
        "databento",
        [
            {
                "symbol": "ES.c.0",
                "ts_event": opens,
                "sequence": n,
                "ordinal": 0,
                "stat_type": kind,
                "price": price,
                "update_action": a,
            }
            for n, (kind, price, a) in enumerate([*settled, ("open_interest", None, "new")])
        ],
    )
    quarter = {"statement": "income", "fiscal_year": 2023, "currency": "USD"}
    put(
        "fundamentals",
        "fmp",
        [
            {**quarter, "period": period, "period_end": end, "filing_date": filed, "session": filed, "item": item, "value": value}
            for period, end, filed in [
                ("Q2", date(2023, 7, 1), date(2023, 8, 4)),
                ("Q3", date(2023, 9, 30), date(2023, 11, 3)),
                ("Q4", date(2023, 12, 30), date(2024, 2, 2)),
            ]
            for item, value in [("revenue", 1e9), ("netIncome", 1e8)]
        ],
    )
    put(
        "corporate-actions",
        "polygon",
        [
            {"action": "split", "session": day, "ex_date": day, "action_id": str(day), "split_from": 1.0, "split_to": to}
            for day, to in [(date(2024, 1, 30), 4.0), (date(2024, 1, 31), 2.0)]
        ],
    )


@pytest.fixture
def folder_lake(tmp_path):
    """The root's path, and AAPL's closes of 2024."""
    return str(tmp_path / "lake"), fill(Lake.open(f"file://{tmp_path}/lake"))


@pytest.fixture
def s3_lake(monkeypatch):
    """AAPL's closes of 2024 in the bucket ``market-data`` of an S3 server, configured through the environment."""
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = S3Server()
    endpoint = server.endpoint
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
            {"conn_type": "aws", "extra": {"region_name": "us-east-1", "endpoint_url": endpoint}}
        ),
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="market-data")
    yield fill(Lake.open("s3://market-data"))
    server.stop()
