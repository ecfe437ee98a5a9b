"""A lake and a warehouse with whatever page Prices can show."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from market_data.core.calendar import XNYS
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.warehouse import WarehouseConnection, open_warehouse
from tests.pipeline.runs import migrated
from tests.warehouse.rows import bar, dividend, later, midnight, split, table

DAYS = XNYS.sessions(date(2024, 7, 1), date(2024, 11, 9))  # clocks change on 2024-11-03
NOW = midnight(DAYS[-1]) + timedelta(days=1)
SPLIT, PAID, HELD, REFUSED, RESTATED = DAYS[30], DAYS[40], DAYS[-2], DAYS[-3], DAYS[-4]
SCRIPT = "<script>alert(1)</script>"
CLOSES = {day: 400.0 + n if day < SPLIT else 100.0 + n for n, day in enumerate(DAYS)}


def seconds(day, hour=0, minute=0):
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC).timestamp())


def candle(day, more=0.0):
    """The prices of a day; they rise on odd days of the month."""
    close = CLOSES[day] + more
    return {"open": close - 1 if day.day % 2 else close + 1, "high": close + 2, "low": close - 2, "close": close}


def daily(provider="polygon", days=DAYS, more=0.0, **values):
    return [bar("AAPL", midnight(day), provider=provider, **candle(day, more), **values) for day in days]


def actions(provider):
    found = [dividend(ex_date=PAID, amount=2.0, provider=provider)]
    gone = dividend(ex_date=DAYS[10], amount=9.0, provider=provider, withdrawn=True)
    found += [split(ex_date=SPLIT, ratio=(1, 4), provider=provider), gone] if provider == "polygon" else []
    return CORPORATE_ACTIONS.identified(table(*found, dataset=CORPORATE_ACTIONS))


def minutes(day, first, count):
    opened = XNYS.session_open(day) + first
    moments = [opened + timedelta(minutes=n) for n in range(count)]
    return [bar("AAPL", moment, timeframe="1m", session=day, close=10.0 + n) for n, moment in enumerate(moments)]


MINUTES = minutes(DAYS[-7], timedelta(), 3), minutes(DAYS[-1], -timedelta(hours=1), 3)
"""Bars within the day, before and after the change of clocks."""


def seed(folder):
    """Write a lake of two sources, with what can be marked, and a warehouse that has loaded the first, into ``folder``."""
    lake = Lake.open(f"file://{folder}/lake")

    def put(dataset, provider, rows):
        rows = rows if isinstance(rows, pa.Table) else table(*rows, dataset=dataset)
        land(lake, Layout(), dataset, provider, rows, "year", refetch=True)
        return rows

    bars = put(OHLCV_1D, "polygon", daily(days=[day for day in DAYS if day != HELD]))
    put(OHLCV_1D, "fmp", [*daily("fmp", DAYS[-40:-1], 0.5), *daily("fmp", DAYS[-1:], float("nan"))])
    put(OHLCV_1M, "polygon", [*minutes(DAYS[10], timedelta(), 2), *MINUTES[0], *MINUTES[1]])
    known = put(CORPORATE_ACTIONS, "polygon", actions("polygon"))
    put(CORPORATE_ACTIONS, "fmp", actions("fmp"))
    states = {("AAPL", day): (State.HAVE, "") for day in DAYS}
    states["AAPL", HELD] = (State.QUARANTINED, "high 1 below low 2")
    states["AAPL", REFUSED] = (State.REFUSED, "")
    states[SCRIPT, DAYS[0]] = (State.HAVE, "")
    rows = [{"symbol": s, "session": d, "state": str(state), "reason": why} for (s, d), (state, why) in states.items()]
    run = RunInfo("polygon_ohlcv_1d", "nightly", "manual", 0, NOW)
    write_cells(lake, "ohlcv-1d", "polygon", run, "b000", pa.Table.from_pylist(rows, schema=CELLS), recorded_at=NOW)
    report = {
        "run_id": "nightly", "dag_id": "polygon_ohlcv_1d", "provider": "polygon", "dataset": "ohlcv-1d", "end_time": "", "refused": [],
        "start_time": NOW.isoformat(), "warnings": [], "rows_quarantined": 1, "api_calls": 1,
        "restated": [{"symbol": name, "session": RESTATED.isoformat(), "rows": 1} for name in ("AAPL", "MSFT")],
    }  # fmt: skip
    lake.put_new(f"logs/ingest/date={NOW:%Y-%m-%d}/run-1.json", json.dumps(report).encode())
    path = Path(folder, "warehouse.duckdb")
    path.write_bytes(migrated())

    def warehouse():
        return open_warehouse(WarehouseConnection("duckdb", extra={"path": str(path)}))

    with warehouse() as opened:
        opened.load(OHLCV_1D, bars, "bars")
        again = [*daily(days=[RESTATED], more=1.0, ingest_ts=later(60)), *daily(days=DAYS[5:6], more=1.0, ingest_ts=later(60))]
        opened.load(OHLCV_1D, table(*again), "again", run)
        opened.load(CORPORATE_ACTIONS, known, "actions")
        first = [minutes(day, timedelta(), 1)[0] for day in DAYS[-2:]]
        opened.load(OHLCV_1M, table(*first), "minutes")
        opened.load(OHLCV_1M, table(*({**one, "high": 12.0, "ingest_ts": later(60)} for one in first)), "minutes again")
    return SimpleNamespace(lake=lake, warehouse=warehouse)
