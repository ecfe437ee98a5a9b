"""``market_data.read``, ``coverage`` and ``plan`` over a lake in a folder."""

import subprocess
import sys
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import market_data
from market_data.config.universes import members
from market_data.core.errors import ConfigError, ParamError
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from tests.lake.rows import T0, bars

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
MONDAY = date(2024, 9, 16)
WEEK = [MONDAY + timedelta(n) for n in range(5)]
RUN = RunInfo("polygon_ohlcv_1d", "manual", "manual", 0, T0)


@pytest.fixture
def lake(tmp_path):
    from market_data.lake.writer import land

    found = Lake.open(f"file://{tmp_path}/lake")
    rows = bars([(symbol, day) for symbol in ("AAPL", "MSFT") for day in WEEK])
    land(found, Layout(), OHLCV_1D, "polygon", rows, "day", refetch=True)
    cells = [("AAPL", WEEK[0], State.HAVE, ""), ("AAPL", WEEK[1], State.PENDING, "no bar yet")]
    table = pa.table(dict(zip(CELLS.names, zip(*cells, strict=True), strict=True)), schema=CELLS)
    write_cells(found, "ohlcv-1d", "polygon", RUN, "b000", table)
    return found.url


def read(lake, symbols="AAPL", start=WEEK[0], end=WEEK[-1], **more):
    return market_data.read(symbols, start, end, **{"provider": "polygon", "lake": lake, **more})


def test_both_ends_are_inclusive_and_rows_are_sorted(lake):
    found = read(lake, ["MSFT", "AAPL"], "2024-09-17", "2024-09-18", columns=["symbol", "session"])
    assert found.to_pylist() == [{"symbol": s, "session": d} for s in ("AAPL", "MSFT") for d in WEEK[1:3]]


def test_all_columns_are_those_of_the_dataset(lake):
    assert read(lake).schema.names == OHLCV_1D.schema.names


@pytest.mark.parametrize(("to", "kind"), [("arrow", pa.Table), ("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_the_result_is_of_the_kind_requested(lake, to, kind):
    found = read(lake, to=to, columns=["symbol", "close"])
    assert isinstance(found, kind)
    assert len(found) == 5


def test_a_duckdb_relation_can_be_queried(lake):
    found = read(lake, to="duckdb", columns=["close"])
    assert isinstance(found, duckdb.DuckDBPyRelation)
    assert found.aggregate("count(*), max(close)").fetchall() == [(5, 10.0)]


def test_as_of_leaves_out_what_was_not_known_then_and_says_so(lake):
    assert len(read(lake, as_of=T0)) == 5
    with pytest.warns(UserWarning, match="5 rows were first seen or corrected after"):
        assert len(read(lake, as_of=T0 - timedelta(seconds=1))) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"to": "excel"}, "to is 'excel'; allowed: arrow, pandas, polars, duckdb"),
        ({"columns": ["price"]}, "columns price are unknown"),
        ({"start": "16.9.2024"}, "start is '16.9.2024'; an ISO date is needed"),
        ({"symbols": []}, "symbols is empty"),
        ({"symbols": ["no good"]}, "no good"),
        ({"as_of": datetime(2024, 9, 17)}, "without a time zone"),  # noqa: DTZ001
    ],
)
def test_wrong_arguments_are_named(lake, wrong, message):
    with pytest.raises(ParamError, match=message):
        read(lake, **wrong)


def test_unknown_places_are_named(lake, tmp_path):
    with pytest.raises(ConfigError, match="provider is 'nope'; known providers"):
        read(lake, provider="nope")
    with pytest.raises(ConfigError, match=r"provider is missing; feeds of ohlcv-1d: .*polygon"):
        read(lake, provider=None)
    with pytest.raises(ConfigError, match="there is no such folder"):
        read(f"file://{tmp_path}/nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_coverage_has_every_cell_with_state_and_reason(lake):
    found = market_data.coverage("AAPL", WEEK[0], WEEK[2], provider="polygon", lake=lake).to_pylist()
    assert [(cell["session"], cell["state"], cell["reason"]) for cell in found] == [
        (WEEK[0], "have", ""),
        (WEEK[1], "pending", "no bar yet"),
        (WEEK[2], "missing", ""),
    ]
    assert found[0]["recorded_at"].tzinfo is not None
    assert found[2]["recorded_at"] is None


def test_plan_counts_what_is_missing_and_writes_nothing(lake, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = market_data.plan(
        ["AAPL"],
        WEEK[0],
        WEEK[-1],
        provider="polygon",
        lake=lake,
        account={"password": "k", "extra": {"plan": "starter"}},
        endpoint="range",
    )
    assert (found.cells, found.covered, found.calls, found.cost_usd) == (
        4,
        1,
        1,
        None,
    )  # a bar that was pending so long is fetched again
    assert "1 batches" in str(found)
    assert sorted(tmp_path.rglob("*")) == before


def test_coverage_has_the_sessions_of_each_symbols_exchange(lake):
    found = market_data.coverage(["AAPL", "ES.c.0"], "2026-01-16", "2026-01-20", provider="ib", lake=lake).to_pylist()
    cells = {(cell["symbol"], str(cell["session"])) for cell in found}
    assert cells == {
        *(("AAPL", day) for day in ("2026-01-16", "2026-01-20")),
        *(("ES.c.0", day) for day in ("2026-01-16", "2026-01-19", "2026-01-20")),
    }


@pytest.mark.parametrize(("day", "cells"), [("2026-04-03", 1), ("2026-01-19", 1), ("2025-04-18", 0), ("2026-01-20", 3)])
def test_plan_has_a_holiday_for_the_symbols_that_trade_on_it(lake, day, cells):
    found = market_data.plan(["ES.c.0", "AAPL", "VIX"], day, day, provider="mock", lake=lake)
    assert (found.cells, found.sessions) == (cells, min(cells, 1))
    assert ("no session on" in found.note) == (cells == 0)


def test_a_plan_without_symbols_takes_the_universe_of_its_feed(lake):
    found = market_data.plan(None, WEEK[0], WEEK[0], provider="mock", lake=lake)
    assert found.symbols == len(members("dow30")) < len(members("sp500_etf"))


def test_plan_names_unknown_account_fields(lake):
    with pytest.raises(ParamError, match=r"account has the unknown fields key; known fields: base_url"):
        market_data.plan("AAPL", WEEK[0], WEEK[-1], provider="mock", lake=lake, account={"key": "k"})


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import sys; before = set(sys.modules); import market_data; print(*{n.split('.')[0] for n in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(PLUGINS)}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & {"airflow", "numpy", "pyarrow", "obstore", "yaml", "pandas", "requests"} == set()


def test_every_public_name_exists():
    assert {getattr(market_data, name) is not None for name in market_data.__all__} == {True}
    with pytest.raises(AttributeError):
        market_data.nope  # noqa: B018


def test_read_coverage_and_plan_import_no_airflow(lake):
    script = (
        "import sys, market_data\n"
        "place = {'provider': 'polygon', 'lake': sys.argv[1]}\n"
        "market_data.read('AAPL', '2024-09-16', '2024-09-20', **place)\n"
        "market_data.coverage('AAPL', '2024-09-16', '2024-09-20', **place)\n"
        "market_data.plan('AAPL', '2024-09-16', '2024-09-20', **place, account={'extra': {'plan': 'starter'}})\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'airflow']\n"
    )
    subprocess.run([sys.executable, "-c", script, lake], env={"PYTHONPATH": str(PLUGINS)}, check=True)


def test_s3_takes_the_usual_variables(monkeypatch):
    from market_data import api

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    config = api.open_lake("s3://bucket/prefix")._store.config
    assert (config["endpoint"], config["region"]) == ("http://127.0.0.1:1", "eu-west-1")


def test_dates_may_be_timestamps_at_midnight(lake):
    """pandas has no dates."""
    midnight = datetime.combine(WEEK[0], time())
    assert read(lake, start=midnight, end=f"{WEEK[-1]}T00:00:00Z").num_rows == read(lake).num_rows > 0
    with pytest.raises(ParamError, match="start is datetime"):
        read(lake, start=midnight.replace(hour=9))
