"""The load runs: what is triggered, and what must be there afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data.config.universes import members
from market_data.core import calendar
from market_data.datasets import generated

POLYGON = "polygon_ohlcv_1d"
DAY = date(2024, 3, 4)
SHARES = 50_000_000.0
"""Volume per bar: so large that every minute of a session has trades."""
TICKERS = "tickers.txt"
"""File of the stack's folder with the symbols of a case."""
LOOKBACK = timedelta(days=7)
"""A scheduled run also fetches what is missing in the week before."""


@dataclass(frozen=True)
class Rows:
    """Rows of a dataset that the runs of a case leave.

    :param count: rows; None where the case does not know it: then lake, warehouse and report must agree.
    :param objects: of the lake; None likewise.
    """

    provider: str
    dataset: str
    count: int | None = None
    objects: int | None = None


@dataclass(frozen=True)
class Case:
    """A load run.

    :param runs: DAG id and params of each run; all are triggered at once.
    :param scheduled: sessions of scheduled runs of `POLYGON`, made one after another.
    :param prices: symbols and sessions that the sample API serves, instead of its own.
    :param slots: pool -> slots.
    :param calls_may_be_fewer: pages are planned at the maximum of rows.
    :param peak_mb: bound for every task process; ``page_seconds``: bound for the page Run.
    :param scheduler_mb: bound for the growth of the scheduler.
    """

    title: str
    rows: Sequence[Rows]
    runs: Sequence[tuple[str, Mapping[str, Any]]] = ()
    scheduled: Sequence[date] = ()
    prices: tuple[Sequence[str], Sequence[date]] | None = None
    slots: Mapping[str, int] = field(default_factory=dict)
    calls_may_be_fewer: bool = False
    peak_mb: int = 600
    scheduler_mb: int = 60
    page_seconds: float = 3.0

    def write_prices(self, file: Path) -> None:
        """Write the Parquet file that the sample API serves."""
        symbols, sessions = self.prices or ((), ())
        keys = np.array([[generated.key(0, symbol)] for symbol in symbols], np.uint64)
        columns = generated.columns(keys, np.array([day.toordinal() for day in sessions], np.int64))
        values = dict(zip(("open", "high", "low", "close"), (column.ravel() for column in columns), strict=False))
        names = np.repeat(np.array(symbols, dtype=object), len(sessions))
        days = np.tile(np.array(sessions, "datetime64[D]"), len(symbols))
        pq.write_table(pa.table({"symbol": names, "date": days, **values, "volume": np.full(len(names), SHARES)}), file)


def tickers(count: int) -> list[str]:
    """Return ``count`` different symbols of five letters that no universe has."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [f"Q{''.join(letters[number // 26**place % 26] for place in (3, 2, 1, 0))}" for number in range(count)]


def wide(symbols: int = 10_000) -> Case:
    """Return one session of many symbols, in one response."""
    names = tickers(symbols)
    conf = {"symbols": names, "start_date": str(DAY), "end_date": str(DAY)}
    rows = Rows("polygon", "ohlcv-1d", symbols, symbols)
    return Case(f"{symbols:,} symbols x 1 session", [rows], [(POLYGON, conf)], prices=(names, [DAY]))


def batches(count: int = 1024) -> Case:
    """Return one session in as many mapped tasks as Airflow allows.

    The symbols are in a file: Airflow's scheduler reads the configuration of a run again for each of its tasks.
    """
    names = tickers(count)
    conf = {"tickers_path": TICKERS, "start_date": str(DAY), "end_date": str(DAY), "endpoint": "range", "batch_size": 1}
    rows = Rows("polygon", "ohlcv-1d", count, count)
    return Case(f"{count:,} batches", [rows], [(POLYGON, conf)], prices=(names, [DAY]), slots={"polygon_api": 8})


def minutes(symbols: int = 100, first: date = date(2024, 1, 1), last: date = date(2024, 12, 31)) -> Case:
    """Return a year of minutes in month files."""
    names, sessions = tickers(symbols), calendar.sessions(first, last + timedelta(days=1))
    conf = {"symbols": names, "start_date": str(first), "end_date": str(last), "file_grain": "year"}
    each = sum(210 if calendar.is_early_close(session) else 390 for session in sessions)
    months = len({(day.year, day.month) for day in sessions})
    return Case(
        f"{symbols} symbols x {len(sessions)} sessions of minutes",
        [Rows("polygon", "ohlcv-1m", symbols * each, symbols * months)],
        [("polygon_ohlcv_1m", conf)],
        prices=(names, sessions),
        slots={"polygon_api": 2},
        calls_may_be_fewer=True,
    )


def years(symbols: int = 523, first: date = date(2015, 1, 1), last: date = date(2024, 12, 31)) -> Case:
    """Return ten years of daily bars in year files."""
    names, sessions = tickers(symbols), calendar.sessions(first, last + timedelta(days=1))
    conf = {"symbols": names, "start_date": str(first), "end_date": str(last), "file_grain": "year"}
    rows = Rows("polygon", "ohlcv-1d", symbols * len(sessions), symbols * (last.year - first.year + 1))
    title = f"{symbols} symbols x {len(sessions):,} sessions"
    return Case(title, [rows], [(POLYGON, conf)], prices=(names, sessions), slots={"polygon_api": 2})


def feeds(symbols: int = 20) -> Case:
    """Return ten feeds of five providers at once."""
    names = [name for name in sorted(members("dow30")) if name not in ("AAPL", "IBM", "MSFT")][:symbols]
    sessions = calendar.sessions(date(2024, 3, 1), date(2024, 3, 9))
    dates = {"start_date": str(sessions[0]), "end_date": str(sessions[-1]), "symbols": names}
    daily, few = ("polygon", "alpaca", "fmp", "databento", "mock"), {**dates, "end_date": str(sessions[0])}
    bars = len(names) * len(sessions)
    runs = [(f"{provider}_ohlcv_1d", dates) for provider in daily]
    runs += [(f"{provider}_ohlcv_1m", few) for provider in ("polygon", "alpaca", "databento", "mock")]
    filings = {"start_date": "2024-01-15", "end_date": "2024-02-28", "symbols": names}
    return Case(
        f"{len(runs) + 1} feeds at once",
        [
            *(Rows(provider, "ohlcv-1d", bars, bars) for provider in daily),
            *(Rows(provider, "ohlcv-1m", objects=len(names)) for provider in ("polygon", "alpaca", "databento", "mock")),
            Rows("fmp", "fundamentals"),
        ],
        [*runs, ("fmp_fundamentals", filings)],
        calls_may_be_fewer=True,
    )


def month(sessions: int = 21) -> Case:
    """Return the scheduled runs of the last sessions of the S&P 500."""
    last = calendar.last_completed_session(datetime.now(UTC), time(20, 30))
    days = calendar.sessions(last - timedelta(days=2 * sessions + 10), last + timedelta(days=1))[-sessions:]
    with_lookback = calendar.sessions(days[0] - LOOKBACK, last + timedelta(days=1))
    count = len(members("sp500_etf")) * len(with_lookback)
    return Case(f"{sessions} scheduled runs", [Rows("polygon", "ohlcv-1d", count, count)], scheduled=days)


CASES = {"wide": wide, "batches": batches, "minutes": minutes, "feeds": feeds, "years": years, "month": month}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "wide": {"symbols": 500},
    "batches": {"count": 12},
    "minutes": {"symbols": 5, "last": date(2024, 2, 29)},
    "feeds": {"symbols": 2},
    "years": {"symbols": 10, "first": date(2023, 1, 1)},
    "month": {"sessions": 2},
}
"""Sizes at which a case takes less than a minute; memory of tasks is compared with them."""
