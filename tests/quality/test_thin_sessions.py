"""Bars within the day that were cut for every symbol alike: a run after a run, through a real warehouse, as every day brings them."""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
import pytest

from market_data.core import calendar
from market_data.datasets.base import UTC_MICROS
from market_data.datasets.registry import dataset
from market_data.quality.checkpoint import Scope, run_checkpoint
from market_data.warehouse import WarehouseConnection, open_warehouse
from tests.quality.rows import names

pytestmark = pytest.mark.slow

MINUTES = dataset("ohlcv-1m")
S24 = names(24)
FULL, HALF = 390, 210
BEFORE = calendar.sessions(date(2012, 6, 27), date(2012, 7, 3))


def minutes(day, counts):
    """A session of ``S24`` with the first so many minutes of each."""
    opened = int(calendar.at(day, time(9, 30)).timestamp()) * 10**6
    symbols = np.repeat(S24, counts)
    place = np.concatenate([np.arange(count) for count in counts])
    close = 100.0 + place % 7 / 8 + day.day / 16
    values = {
        "symbol": pa.array(symbols.tolist(), pa.string()),
        "timeframe": pa.array(["1m"] * len(symbols)),
        "bar_time": pa.array(opened + place * 60 * 10**6, UTC_MICROS),
        "session": pa.array([day] * len(symbols), pa.date32()),
        **dict.fromkeys(("open", "high", "low", "close"), pa.array(close)),
        "volume": pa.array(np.full(len(symbols), 100.0)),
        "provider": pa.array(["mock"] * len(symbols)),
        "ingest_ts": pa.array([datetime(2012, 12, 1, tzinfo=UTC)] * len(symbols), UTC_MICROS),
    }
    return pa.table([values.get(field.name, pa.nulls(len(symbols), field.type)) for field in MINUTES.schema], schema=MINUTES.schema)


@pytest.fixture
def run(tmp_path):
    """A run over one session, with so many bars a symbol; loads what passed."""
    with open_warehouse(WarehouseConnection("duckdb", extra={"path": str(tmp_path / "warehouse.duckdb")})) as warehouse:
        warehouse.migrate()

        def one(day, bars):
            rows = minutes(day, bars if isinstance(bars, list) else [bars] * len(S24))
            previous = warehouse.previous_bars(MINUTES, "mock", day, symbols=S24)
            result = run_checkpoint(
                MINUTES,
                Scope({day: len(S24)}, previous, requested={day: S24}, provider="mock"),
                [rows],
                run_name="test",
            )
            if result.success:
                warehouse.load(MINUTES, rows, str(day))
            return result.verdicts[0]

        yield one


@pytest.mark.parametrize("bars", [90, 194])
def test_a_run_with_too_few_bars_of_every_symbol_is_refused(run, bars):
    assert run(BEFORE[-2], FULL).passed
    found = run(BEFORE[-1], bars)
    assert not found.passed
    assert found.reasons[0] == (
        "few bars: 24 of 24 symbols (100 %) have less than 50 % of their usual bars (those on 2012-06-29), at most 20 % allowed"
    )


def test_half_of_the_bars_are_enough(run):
    run(BEFORE[-2], FULL)
    assert run(BEFORE[-1], 195).reasons == ()


@pytest.mark.parametrize("half", [date(2012, 7, 3), date(2012, 11, 23)])
def test_an_early_close_is_not_a_truncation(run, half):
    before, after = calendar.previous_session(half), calendar.next_session(half)
    assert run(before, FULL).reasons == ()
    assert run(half, HALF).reasons == ()
    assert run(after, FULL).reasons == ()
    assert run(calendar.next_session(after), FULL).reasons == ()


@pytest.mark.parametrize("half", [date(2012, 7, 3), date(2012, 11, 23)])
def test_an_early_close_of_illiquid_shares_passes_and_a_truncated_one_does_not(run, half):
    run(calendar.previous_session(half), FULL)
    assert not run(half, 104).passed
    assert run(half, 106).passed


def test_after_an_early_close_a_cut_session_is_refused(run):
    half = date(2012, 7, 3)
    run(half - timedelta(1), FULL)
    run(half, HALF)
    assert not run(calendar.next_session(half), 90).passed


def test_a_few_thin_symbols_cause_a_warning(run):
    run(BEFORE[-2], FULL)
    found = run(BEFORE[-1], [90] * 4 + [FULL] * 20)
    assert found.passed
    assert found.reasons[0].startswith("warning: few bars: S000 90 after 390, S001 90 after 390, S002 90 after 390, 1 more symbols")


def test_a_refused_session_is_not_compared_with(run):
    run(BEFORE[-2], FULL)
    assert not run(BEFORE[-1], 90).passed
    assert not run(date(2012, 7, 5), 90).passed
    assert run(date(2012, 7, 6), FULL).passed
