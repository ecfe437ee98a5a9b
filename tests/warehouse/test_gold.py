"""Features, adjusted prices, fundamentals, restatements and the query that reconciles providers: against what Python computes for
itself, of recorded prices where that tells more."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from bokeh_sampledata import stocks

from market_data.airflow.warehouse_connections import open_with_hooks
from market_data.core import calendar
from market_data.core.run import RunInfo
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.warehouse import WarehouseConnection, migrations
from market_data.warehouse.base import Warehouse
from tests.warehouse.rows import SEEN, bar, bars, dividend, item, later, midnight, naive, split, table

ADJUSTED = "SELECT * FROM gold_adjusted_prices ORDER BY symbol, provider, bar_time"
RECONCILE = (migrations.MIGRATIONS.parent / "queries" / "reconcile.sql").read_text("utf-8")
SCALED = {"open_px": "split_open_px", "high_px": "split_high_px", "low_px": "split_low_px", "close_px": "split_close_px"}


def load(warehouse: Warehouse, bars: list[dict[str, Any]], actions: list[dict[str, Any]]) -> pd.DataFrame:
    """The adjusted prices of ``bars`` after ``actions``, numbers as floats."""
    warehouse.load(OHLCV_1D, table(*bars), f"bars {len(bars)}")
    warehouse.load(CORPORATE_ACTIONS, table(*actions, dataset=CORPORATE_ACTIONS), f"actions {len(actions)}")
    return adjusted(warehouse)


def adjusted(warehouse: Warehouse) -> pd.DataFrame:
    found = warehouse.query(ADJUSTED).to_pandas()
    numbers = [name for name in found if name.endswith(("_px", "factor", "volume"))]
    return found.astype(dict.fromkeys(numbers, float))


def series(closes: dict[date, float], symbol: str = "AAPL", **values: Any) -> list[dict[str, Any]]:
    return [bar(symbol, midnight(day), close=close, **values) for day, close in closes.items()]


# --- features of recorded prices ------------------------------------------------------------------------------------------------

APPLE = [  # as declared: apple.com's investor relations; two for one in 2005
    split(ex_date=date(2005, 2, 28), ratio=(1, 2)),
    *(dividend(ex_date=day, amount=2.65) for day in (date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7))),
]
FEATURES = "SELECT * FROM gold_price_features ORDER BY symbol, provider, bar_time"


def recorded(symbol: str, start: str, end: str) -> pd.DataFrame:
    """What was recorded of a symbol between two dates, both inclusive, by session."""
    frame = pd.DataFrame(getattr(stocks, symbol))
    return (
        frame.assign(date=pd.to_datetime(frame["date"]).dt.date)
        .set_index("date")
        .loc[date.fromisoformat(start) : date.fromisoformat(end)]
    )


def rows_of(symbol: str, provider: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    names = ["open", "high", "low", "close", "volume"]
    rows = zip(frame.index, frame[names].to_dict("records"), strict=True)
    return [
        bar(
            symbol, midnight(day), provider=provider, **values | {"volume": None if pd.isna(values["volume"]) else values["volume"]}
        )
        for day, values in rows
    ]


def rolled(values: pd.Series, size: int, figure: Any) -> np.ndarray[Any, Any]:
    """``figure`` of each ``size`` values up to this one, each computed for itself; NaN until there are so many."""
    made = np.full(len(values), np.nan)
    if len(values) >= size:
        made[size - 1 :] = figure(np.lib.stride_tricks.sliding_window_view(values.to_numpy(float), size), axis=1)
    return made


def features(frame: pd.DataFrame, actions: list[dict[str, Any]] | None) -> pd.DataFrame:
    """The columns of gold_price_features after its key; NaN wherever a session is missing.

    :param actions: None where the provider has none.
    """
    there = frame.index
    factor = pd.Series(np.nan, there) if actions is None else by_hand(frame["close"], actions)["adj_factor"]
    frame = frame.reindex(list(calendar.sessions(there[0], there[-1] + timedelta(days=1))))
    close, log_ret = frame["close"], np.log(frame["close"].where(frame["close"] > 0)).diff()
    adjusted_close = close * factor.reindex(frame.index)
    made = pd.DataFrame(
        {
            "close_px": close,
            "volume": frame["volume"],
            "simple_ret": close / close.shift() - 1,
            "log_ret": log_ret,
            "ma_20": rolled(close, 20, np.mean),
            "ma_50": rolled(close, 50, np.mean),
            "close_stddev_20d": rolled(close, 20, lambda *a, **k: np.std(*a, **k, ddof=1)),
            "volatility_20d": rolled(log_ret, 20, lambda *a, **k: np.std(*a, **k, ddof=1)) * math.sqrt(252),
            "dollar_volume": close * frame["volume"],
            "high_52w": rolled(frame["high"], 252, np.max),
            "low_52w": rolled(frame["low"], 252, np.min),
            "adj_close_px": adjusted_close,
            "adj_simple_ret": adjusted_close / adjusted_close.shift() - 1,
        }
    )
    return made.loc[there]


def test_features_of_recorded_prices_are_what_pandas_computes(warehouse: Warehouse) -> None:
    ibm, msft = recorded("IBM", "2008-06-02", "2010-12-31"), recorded("MSFT", "2010-01-04", "2013-03-01")
    rng = np.random.default_rng(3)
    frames = {
        ("AAPL", "polygon"): recorded("AAPL", "2004-06-01", "2013-03-01"),
        ("GOOG", "mock"): recorded("GOOG", "2004-08-19", "2005-08-18").iloc[:252],  # just as many as the longest window
        ("GOOG", "polygon"): recorded("GOOG", "2004-08-19", "2005-08-18").iloc[:251],
        ("IBM", "mock"): ibm.drop(ibm.index[[19, 20, 51, 300, 301, 302]]),  # missing sessions
        ("IBM", "polygon"): 2 * ibm[["open", "high", "low", "close", "volume"]].iloc[:400],  # of the same days
        ("YOUNG", "polygon"): ibm.iloc[:20],
        ("MSFT", "polygon"): msft.assign(volume=msft["volume"].where(rng.random(len(msft)) > 0.1)),  # null volumes
        ("ONE", "polygon"): recorded("IBM", "2010-06-02", "2010-06-02"),
    }
    bars = [row for (symbol, provider), frame in frames.items() for row in rows_of(symbol, provider, frame)]
    rng.shuffle(bars)
    actions = [*APPLE, dividend("MSFT", date(2012, 11, 13), 0.23), split("IBM", date(2008, 6, 16), (1, 2))]
    load(warehouse, bars, actions)
    found = warehouse.query(FEATURES).to_pandas()
    assert len(found) == len(bars)
    assert set(found["timeframe"]) == {"1d"}
    for (symbol, provider), frame in frames.items():
        own = found[(found["symbol"] == symbol) & (found["provider"] == provider)].reset_index(drop=True)
        assert own["bar_time"].dt.date.tolist() == list(frame.index)
        of_symbol = [action for action in actions if action["symbol"] == symbol] if provider == "polygon" else []
        wanted = features(frame, of_symbol or None)  # of whose actions none is loaded, nothing is known
        assert list(own) == ["symbol", "timeframe", "provider", "bar_time", *wanted]
        for name in wanted:
            where = f"{symbol} {provider} {name}"
            np.testing.assert_allclose(own[name].astype(float), wanted[name], rtol=1e-9, atol=1e-12, err_msg=where)
    nulls = found[(found["symbol"] == "AAPL")].isna().sum().to_dict()
    firsts = {"ma_20": 19, "ma_50": 49, "close_stddev_20d": 19, "volatility_20d": 20, "high_52w": 251, "low_52w": 251}
    assert {name: count for name, count in nulls.items() if count} == firsts | dict.fromkeys(
        ("simple_ret", "log_ret", "adj_simple_ret"), 1
    )


def test_apple_is_adjusted_as_yahoo_did_it(warehouse: Warehouse) -> None:
    """The recorded prices carry Yahoo's adjusted closes as of later; over their last one, they are what they were in March 2013.

    Those are of another convention: a dividend is set against the close of the ex-date, ``1 / (1 + cash / close)``, which for these three
    comes to a sixth of a thousandth in all; without one of them it would be five thousandths.
    """
    apple = recorded("AAPL", "2004-06-01", "2013-03-01")
    load(warehouse, rows_of("AAPL", "polygon", apple), APPLE)
    found = warehouse.query(FEATURES).to_pandas()
    factor = (apple["adj_close"] / apple["close"]).to_numpy()
    np.testing.assert_allclose(found["adj_close_px"].astype(float), apple["close"] * factor / factor[-1], rtol=2e-4)
    ex_split = found.set_index(found["bar_time"].dt.date).loc[date(2005, 2, 28)]
    assert float(ex_split["simple_ret"]) < -0.49
    assert abs(float(ex_split["adj_simple_ret"])) < 0.01


VIEWS = {
    "gold_price_features": ["action_coverage", "silver_corporate_actions", "silver_prices"],
    "gold_adjusted_prices": ["action_coverage", "silver_corporate_actions", "silver_prices"],
    "gold_corporate_actions": ["silver_corporate_actions"],
    "gold_restatements": ["bronze_prices"],
}
"""The tables that hold symbols of each."""


@pytest.mark.parametrize("view", VIEWS)
def test_asked_for_one_symbol_a_view_reads_one(view: str, tmp_path: Path) -> None:
    """What DuckDB's plan shows: the filter goes down to the tables, through every window."""
    path = tmp_path / "warehouse.duckdb"
    with open_with_hooks(WarehouseConnection("duckdb", extra={"path": str(path)})) as warehouse:
        warehouse.migrate()
        rows = [row for n in range(40) for row in series(CLOSES, f"S{n:02d}")]
        load(warehouse, rows, [split(f"S{n:02d}", DAYS[2]) for n in range(40)])
    with duckdb.connect(path, read_only=True) as connection:
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {view} WHERE symbol = 'S07'"
        plan = json.loads(connection.execute(statement).fetchall()[0][1])
    scans = [node for root in plan["operator"] for node in nodes(root) if node["type"] == "TABLE_SCAN"]
    of_symbols = [scan for scan in scans if "symbol" in scan["extra_info"]["Projections"]]
    assert sorted(scan["extra_info"]["Table"].split(".")[-1] for scan in of_symbols) == VIEWS[view]
    assert max(scan["intermediate_rows"] for scan in of_symbols) <= len(CLOSES)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("children", []):
        yield from nodes(child)


# --- known events ---------------------------------------------------------------------------------------------------------------


def test_the_example_that_yahoo_publishes(warehouse: Warehouse) -> None:
    """Yahoo Finance Help, "What is the adjusted close?" (SLN28256): a split 2:1 on 18 February, 0.08 in cash ex 21 February."""
    closes = dict(enumerate([46.99, 48.30, 24.96, 24.91, 24.95, 24.53, 24.54], start=16))
    actions = [split(ex_date=date(2024, 2, 18), ratio=(1, 2)), dividend(ex_date=date(2024, 2, 21), amount=0.08)]
    found = load(warehouse, series({date(2024, 2, day): close for day, close in closes.items()}), actions)
    assert found["adj_close_px"].round(2).tolist() == [23.42, 24.07, 24.88, 24.83, 24.87, 24.53, 24.54]
    assert found["adj_factor"].tolist()[-2:] == found["split_factor"].tolist()[-2:] == [1.0, 1.0]


def test_the_splits_of_apple(warehouse: Warehouse) -> None:
    """645.57 of 2014-06-06 is 23.056 in shares of today, as every chart of Apple shows it."""
    closes = {date(2014, 6, 6): 645.57, date(2014, 6, 9): 93.70, date(2020, 8, 28): 499.23, date(2020, 8, 31): 129.04}
    actions = [split(ex_date=date(2014, 6, 9), ratio=(1, 7)), split(ex_date=date(2020, 8, 31), ratio=(1, 4))]
    found = load(warehouse, series(closes, volume=1000.0), actions)
    assert found["split_factor"].tolist() == pytest.approx([1 / 28, 1 / 4, 1 / 4, 1], rel=1e-14)
    assert found["split_close_px"].tolist() == pytest.approx([23.05607142857, 23.425, 124.8075, 129.04], rel=1e-10)
    assert found["adj_close_px"].tolist() == found["split_close_px"].tolist()
    assert found["split_volume"].tolist() == pytest.approx([28000, 4000, 4000, 1000], rel=1e-14)
    assert found["close_px"].tolist() == list(closes.values())
    assert found["volume"].tolist() == [1000.0] * 4


def test_a_reverse_split_and_a_split_into_fractions(warehouse: Warehouse) -> None:
    days = [date(2024, 3, day) for day in (4, 5, 6)]
    actions = [split(ex_date=days[1], ratio=(8, 1)), split(ex_date=days[2], ratio=(1000, 1281))]
    found = load(warehouse, series(dict(zip(days, (12.5, 100.0, 78.0), strict=True))), actions)
    assert found["split_factor"].tolist() == pytest.approx([8 * 1000 / 1281, 1000 / 1281, 1], rel=1e-14)


# --- against Python -------------------------------------------------------------------------------------------------------------


def by_hand(closes: pd.Series, actions: list[dict[str, Any]]) -> pd.DataFrame:
    """Split factor, whole factor and dividends left aside of each session, from one action after the other.

    :param closes: by session, ascending.
    """
    made = pd.DataFrame({"split_factor": 1.0, "adj_factor": 1.0, "actions_left_aside": 0}, index=closes.index)
    for day, same_day in itertools.groupby(sorted(actions, key=lambda action: action["ex_date"]), lambda action: action["ex_date"]):
        before = closes.index < day
        if not before.any() or before.all():
            continue
        previous, cash, paid = closes[before].iloc[-1], 0.0, 0
        once = {
            (action["action"], action["split_to"], action["amount"], action["currency"] or "USD"): action for action in same_day
        }
        for action in once.values():
            if action["action"] == "split":
                made.loc[before, ["split_factor", "adj_factor"]] *= action["split_from"] / action["split_to"]
            elif action["currency"] not in {None, "USD"}:
                made.loc[before, "actions_left_aside"] += 1
            else:
                cash, paid = cash + action["amount"], paid + 1
        if cash >= previous:
            made.loc[before, "actions_left_aside"] += paid
        else:
            made.loc[before, "adj_factor"] *= 1 - cash / previous
    return made


def random_actions(rng: np.random.Generator, symbol: str, provider: str, count: int) -> list[dict[str, Any]]:
    """Actions on any day of 2022 to 2025, some on the same, some before the first or after the last bar of the test."""
    days = [date(2022, 1, 1) + timedelta(days=int(n)) for n in rng.integers(0, 1400, count)]
    made: list[dict[str, Any]] = []
    for number, any_day in enumerate(days):
        day = days[number - 1] if number % 5 == 4 else any_day
        names = {"provider": provider, "action_id": f"{number:03d}"}
        if rng.random() < 0.2 and not any(a["action"] == "split" and a["ex_date"] == day for a in made):  # one a day can be true
            made.append(split(symbol, day, (float(rng.integers(1, 9)), float(rng.integers(1, 9))), **names))
        else:
            amount = float(rng.choice([0.0, 0.01, 0.24, 1.5, 7.0, 90.0]))
            currency = rng.choice(np.array(["USD", "USD", "USD", None, "CAD"], dtype=object))
            made.append(dividend(symbol, day, amount, currency=currency, **names))
    return made


def test_adjusted_prices_are_what_python_computes(warehouse: Warehouse) -> None:
    rng = np.random.default_rng(11)
    sessions = [day for day in calendar.sessions(date(2023, 1, 3), date(2024, 12, 31)) if rng.random() > 0.05]  # with gaps
    bars, actions, closes = [], [], {}
    for symbol, provider, count in [("AAPL", "polygon", 40), ("BRK.B", "polygon", 25), ("AAPL", "mock", 60), ("CALM", "mock", 0)]:
        walk = np.round(80 * np.exp(rng.normal(0, 0.03, len(sessions)).cumsum()), 4)
        closes[symbol, provider] = pd.Series(walk, index=sessions)
        for day, close in zip(sessions, walk, strict=True):
            prices = {"open": close * 0.99, "high": close * 1.02, "low": close * 0.97, "close": close}
            volume = None if rng.random() < 0.05 else float(rng.integers(1, 10**9))
            bars.append(bar(symbol, midnight(day), provider=provider, volume=volume, **prices))
        actions += random_actions(rng, symbol, provider, count)
    actions.append(dividend("UNPRICED", date(2023, 6, 1), provider="mock"))
    assert len({(a["symbol"], a["provider"], a["ex_date"]) for a in actions}) < len(actions)
    rng.shuffle(bars)
    warehouse.migrate()
    warehouse.know_actions([("CALM", "mock", sessions[0], sessions[-1])])  # loaded, and there are none
    found = load(warehouse, bars, actions)
    assert len(found) == len(bars)
    for (symbol, provider), walk in closes.items():
        own = found[(found["symbol"] == symbol) & (found["provider"] == provider)].reset_index(drop=True)
        wanted = by_hand(walk, [a for a in actions if (a["symbol"], a["provider"]) == (symbol, provider)]).reset_index(drop=True)
        assert own["bar_time"].dt.date.tolist() == list(walk.index)
        assert own["actions_left_aside"].tolist() == wanted["actions_left_aside"].tolist()
        for name in ("split_factor", "adj_factor"):
            np.testing.assert_allclose(own[name], wanted[name], rtol=1e-9, err_msg=f"{symbol} {provider} {name}")
        for raw, scaled in SCALED.items():
            np.testing.assert_allclose(own[scaled], own[raw] * wanted["split_factor"], rtol=1e-9)
        np.testing.assert_allclose(own["split_volume"], own["volume"] / wanted["split_factor"], rtol=1e-9)
        np.testing.assert_allclose(own["adj_close_px"], walk.to_numpy() * wanted["adj_factor"], rtol=1e-9)
        assert (own[["split_factor", "adj_factor"]].iloc[-1] == 1).all()
    assert found.groupby(["symbol", "provider"])["actions_left_aside"].max().to_dict()["AAPL", "polygon"] > 0


# --- odd actions ----------------------------------------------------------------------------------------------------------------

DAYS = [date(2024, 2, 27), date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
CLOSES = dict(zip(DAYS, (100.0, 101.0, 98.0, 99.0), strict=True))


@pytest.mark.parametrize(
    ("actions", "factors", "left_aside"),
    [
        ([dividend(ex_date=DAYS[2], amount=2.02)], [0.98, 0.98, 1, 1], [0, 0, 0, 0]),
        ([dividend(ex_date=DAYS[2], amount=2.02, currency=None)], [0.98, 0.98, 1, 1], [0, 0, 0, 0]),
        # two of one date are one amount: not 0.99 * 0.99
        (
            [
                dividend(ex_date=DAYS[2], amount=1.01, action_id="a"),
                dividend(ex_date=DAYS[2], amount=1.01, action_id="b", kind="SC"),
            ],
            [0.98, 0.98, 1, 1],
            [0, 0, 0, 0],
        ),
        # with a split of that date it is paid on the shares before it
        ([dividend(ex_date=DAYS[2], amount=2.02), split(ex_date=DAYS[2], ratio=(1, 2))], [0.49, 0.49, 1, 1], [0, 0, 0, 0]),
        # an ex-date without a bar: the next bar is the first without the dividend
        ([dividend(ex_date=date(2024, 2, 26), amount=5.0)], [1, 1, 1, 1], [0, 0, 0, 0]),
        ([dividend(ex_date=DAYS[0], amount=5.0), split(ex_date=DAYS[0])], [1, 1, 1, 1], [0, 0, 0, 0]),
        ([dividend(ex_date=date(2024, 3, 2), amount=5.0), split(ex_date=date(2024, 3, 4))], [1, 1, 1, 1], [0, 0, 0, 0]),
        ([dividend(ex_date=DAYS[2], amount=2.02, currency="CAD")], [1, 1, 1, 1], [1, 1, 0, 0]),
        ([dividend(ex_date=DAYS[2], amount=101.0)], [1, 1, 1, 1], [1, 1, 0, 0]),
        ([dividend(ex_date=DAYS[2], amount=0.0)], [1, 1, 1, 1], [0, 0, 0, 0]),
        # similar amounts of one kind are versions of one dividend: the one seen last holds
        (
            [dividend(ex_date=DAYS[2], amount=2.0), dividend(ex_date=DAYS[2], amount=2.02, action_id="b", ingest_ts=later(1))],
            [0.98, 0.98, 1, 1],
            [0, 0, 0, 0],
        ),
        (
            [dividend(ex_date=DAYS[2], amount=0.02, action_id="a"), dividend(ex_date=DAYS[2], amount=2.0, action_id="b")],
            [0.98, 0.98, 1, 1],
            [0, 0, 0, 0],
        ),
        (
            [split(ex_date=DAYS[2], ingest_ts=later(1)), split(ex_date=DAYS[2], ratio=(1, 5), action_id="b")],
            [0.25, 0.25, 1, 1],
            [0, 0, 0, 0],
        ),
        # withdrawn by the vendor
        ([split(ex_date=DAYS[2], withdrawn=True), dividend(ex_date=DAYS[2], amount=2.02)], [0.98, 0.98, 1, 1], [0, 0, 0, 0]),
    ],
)
def test_odd_actions(warehouse: Warehouse, actions: list[dict[str, Any]], factors: list[float], left_aside: list[int]) -> None:
    found = load(warehouse, series(CLOSES), actions)
    assert found["adj_factor"].tolist() == pytest.approx(factors, rel=1e-14)
    assert found["actions_left_aside"].tolist() == left_aside


@pytest.mark.parametrize(
    "actions",
    [[], [split(ex_date=DAYS[2], provider="polygon")], [split("AAPL.WS", DAYS[2], provider="polygon~split")]],
    ids=["of nobody", "of another provider", "of another symbol"],
)
def test_of_a_provider_without_actions_nothing_looks_adjusted(warehouse: Warehouse, actions: list[dict[str, Any]]) -> None:
    found = load(warehouse, series(CLOSES, provider="polygon~split") + series(CLOSES), actions)
    found = found[found["provider"] == "polygon~split"]
    made = [name for name in found if name.startswith("split_") or name in {"adj_factor", "adj_close_px"}]
    assert len(made) == 8
    assert found[made].isna().all().all()
    assert found["close_px"].tolist() == list(CLOSES.values())
    assert found["volume"].tolist() == [1000.0] * 4


def test_an_ex_date_between_bars_takes_the_close_before_it(warehouse: Warehouse) -> None:
    closes = {date(2024, 2, 27): 100.0, date(2024, 3, 1): 90.0}
    found = load(warehouse, series(closes, "BRK.B"), [dividend("BRK.B", date(2024, 2, 29), 10.0)])
    assert found["adj_close_px"].tolist() == pytest.approx([90.0, 90.0], rel=1e-14)


def test_a_corrected_or_new_action_changes_what_is_before_it(warehouse: Warehouse) -> None:
    load(warehouse, series(CLOSES), [dividend(ex_date=DAYS[2], amount=1.01)])
    corrected = dividend(ex_date=DAYS[2], amount=2.02, ingest_ts=later(60))
    warehouse.load(CORPORATE_ACTIONS, table(corrected, split(ex_date=DAYS[3]), dataset=CORPORATE_ACTIONS), "two")
    assert adjusted(warehouse)["adj_factor"].tolist() == pytest.approx([0.245, 0.245, 0.25, 1], rel=1e-14)


def test_only_daily_bars_are_adjusted(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1M, table(bar(timeframe="1m"), dataset=OHLCV_1M), "one")
    assert len(load(warehouse, series(CLOSES), [])) == len(CLOSES)


# --- fundamentals ---------------------------------------------------------------------------------------------------------------


def test_fundamentals_of_a_period_are_one_row(warehouse: Warehouse) -> None:
    balance = {"statement": "balance_sheet", "filing_date": date(2024, 2, 5)}
    rows = [
        item(item="revenue", value=119_575_000_000.0),
        item(item="eps", value=2.19),
        item(item="netIncome", value=None),
        item(
            item="netIncome", statement="cash_flow", value=1.0
        ),  # cash flow statements begin with it; the income statement's counts
        item(item="operatingCashFlow", statement="cash_flow", value=39_895_000_000.0),
        item(item="totalAssets", value=353_514_000_000.0, **balance),
        item(item="costOfRevenue", value=64_720_000_000.0),
        item("BRK.B", item="revenue", value=93_376_000_000.0, currency=None),
        item(item="revenue", value=383_285_000_000.0, period="FY", period_end=date(2023, 9, 30), fiscal_year=2023),
        item(item="revenue", value=7.0, provider="mock"),
    ]
    warehouse.load(FUNDAMENTALS, table(*rows, dataset=FUNDAMENTALS), "one")
    found = warehouse.query("SELECT * FROM gold_fundamentals ORDER BY symbol, provider, period_end").to_pylist()
    assert [(row["symbol"], row["provider"], row["fiscal_period"], row["revenue"]) for row in found] == [
        ("AAPL", "fmp", "FY", 383_285_000_000),
        ("AAPL", "fmp", "Q1", 119_575_000_000),
        ("AAPL", "mock", "Q1", 7),
        ("BRK.B", "fmp", "Q1", 93_376_000_000),
    ]
    quarter = found[1]
    assert (quarter["period_end"], quarter["fiscal_year"], quarter["currency"]) == (date(2023, 12, 30), 2024, "USD")
    assert quarter["known_on"] == date(2024, 2, 5)
    assert (float(quarter["eps"]), quarter["total_assets"]) == (2.19, 353_514_000_000)
    assert quarter["operating_cash_flow"] == 39_895_000_000
    assert quarter["net_income"] is None


# --- reconciliation -------------------------------------------------------------------------------------------------------------


def found_by_hand(bars: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    by_symbol: dict[tuple[str, str], dict[date, dict[str, Any]]] = {}
    for row in bars:
        by_symbol.setdefault((row["symbol"], row["provider"]), {})[row["session"]] = row
    found = set()
    for ((symbol, a), of_a), ((other, b), of_b) in itertools.permutations(by_symbol.items(), 2):
        if symbol != other or a >= b:
            continue
        start, end = max(min(of_a), min(of_b)), min(max(of_a), max(of_b))
        for day in (of_a.keys() | of_b.keys()) & {start + timedelta(days=n) for n in range((end - start).days + 1)}:
            one, two = of_a.get(day), of_b.get(day)
            if one is None or two is None:
                finding = "missing at provider_a" if one is None else "missing at provider_b"
            elif abs(Decimal(str(one["close"])) - Decimal(str(two["close"]))) > Decimal("0.01"):
                finding = "close"
            elif None not in (one["volume"], two["volume"]) and abs(one["volume"] - two["volume"]) > 0.01 * max(
                one["volume"], two["volume"]
            ):
                finding = "volume"
            else:
                continue
            found.add((symbol, day, finding, a, b))
    return found


def test_reconciling_finds_what_python_finds(warehouse: Warehouse) -> None:
    rng = np.random.default_rng(5)
    bars = []
    for symbol, provider in itertools.product(["AAPL", "BRK.B", "MSFT"], ["alpaca", "alpaca~iex", "fmp", "polygon"]):
        start = date(2024, 2, 1) + timedelta(days=int(rng.integers(0, 20)))
        for day in calendar.sessions(start, start + timedelta(days=45)):
            if rng.random() < 0.9:
                close = round(100 + float(rng.choice([0, 0, 0, 0, 0.01, 0.0101, 5])), 4)
                volume = [1000.0, 1000.0, 1000.0, 1010.0, 1011.0, 1020.0, 0.0, None][int(rng.integers(0, 8))]
                bars.append(bar(symbol, midnight(day), close=close, volume=volume, provider=provider))
    bars.append(bar("ALONE"))
    warehouse.load(OHLCV_1D, table(*bars), "one")
    warehouse.load(OHLCV_1M, table(bar(timeframe="1m", close=1.0), bar(timeframe="1m", provider="fmp"), dataset=OHLCV_1M), "two")
    found = warehouse.query(RECONCILE).to_pylist()
    names = ("symbol", "session_date", "finding", "provider_a", "provider_b")
    rows = [tuple(row[name] for name in names) for row in found]
    wanted = found_by_hand(bars)
    assert {row[2] for row in wanted} == {"missing at provider_a", "missing at provider_b", "close", "volume"}
    assert len(rows) == len(set(rows))
    assert set(rows) == wanted
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)


def test_a_finding_shows_both_sides(warehouse: Warehouse) -> None:
    rows = [
        bar("BRK.B", provider=provider, close=close, volume=volume)
        for provider, close, volume in [("fmp", 1.0, 2.0), ("ib", 3.0, 4.0)]
    ]
    warehouse.load(OHLCV_1D, table(*rows), "one")
    assert [list(row.values()) for row in warehouse.query(RECONCILE).to_pylist()] == [
        ["BRK.B", datetime(2024, 1, 2, tzinfo=UTC).date(), "close", "fmp", "ib", 1, 3, 2, 4]
    ]


def test_providers_that_agree_are_not_named(warehouse: Warehouse) -> None:
    pairs = [(100.0, 100.01), (100.0, 99.99), (0.01, 0.02)]
    rows = []
    for n, closes in enumerate(pairs):
        for provider, close, volume in zip(("alpaca", "polygon"), closes, (990.0, 1000.0), strict=True):
            rows.append(bar(f"S{n}", close=close, volume=volume, provider=provider))
    warehouse.load(OHLCV_1D, table(*rows), "one")
    assert warehouse.query(RECONCILE).num_rows == 0


# --- restatements ---------------------------------------------------------------------------------------------------------------

RESTATED = "SELECT * FROM gold_restatements ORDER BY symbol, provider, bar_time, new_ingest_ts, restated_at"
RUN = RunInfo("polygon_ohlcv_1d", "scheduled__2024-01-03T00:00:00+00:00", "scheduled", 0, SEEN)
VALUES = ("open_px", "high_px", "low_px", "close_px", "adj_close_px", "volume", "vwap", "trade_count")


def test_a_restatement_shows_both_sides_and_the_run(warehouse: Warehouse) -> None:
    old = bar("BRK.B", open=10, high=12, low=9, close=11, adj_close=5, volume=None, vwap=10, trade_count=7)
    new = bar(
        "BRK.B",
        open=10.5,
        high=12.5,
        low=9.5,
        close=11.5,
        adj_close=None,
        volume=100,
        vwap=10.5,
        trade_count=8,
        ingest_ts=later(60),
    )
    warehouse.load(OHLCV_1D, table(old, bar("AAPL")), "one")
    warehouse.load(OHLCV_1D, table(new, bar("AAPL", ingest_ts=later(60))), "two", RUN)
    (found,) = warehouse.query(RESTATED).to_pylist()
    (loaded_at,) = warehouse.query("SELECT loaded_at FROM load_audit WHERE load_id = 'two'")["loaded_at"].to_pylist()
    where = {"symbol": "BRK.B", "timeframe": "1d", "provider": "polygon", "bar_time": naive(midnight(date(2024, 1, 2)))}
    sides = {}
    for name, source in zip(VALUES, ("open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count"), strict=True):
        sides |= {f"old_{name}": old[source], f"new_{name}": new[source]}
    when = {"old_ingest_ts": naive(SEEN), "new_ingest_ts": naive(later(60)), "old_load_id": "one", "new_load_id": "two"}
    assert found == where | sides | when | {"restated_at": loaded_at, "dag_id": RUN.dag_id, "run_id": RUN.run_id}
    assert list(found) == [*where, *sides, *when, "restated_at", "dag_id", "run_id"]


@pytest.mark.parametrize("value", ["open", "high", "low", "close", "adj_close", "volume", "vwap", "trade_count"])
def test_any_value_that_changes_is_a_restatement(warehouse: Warehouse, value: str) -> None:
    whole = bar(open=10, high=12, low=9, close=11, adj_close=5, volume=100, vwap=10, trade_count=7)
    warehouse.load(OHLCV_1D, table(whole), "one")
    warehouse.load(OHLCV_1D, table(whole | {value: whole[value] + (-1 if value == "low" else 1), "ingest_ts": later(1)}), "two")
    assert warehouse.query(RESTATED).num_rows == 1


def test_versions_follow_each_other_however_they_arrive(warehouse: Warehouse) -> None:
    """A there and back again, two of one moment, one that came late, and one as it was seen before."""
    for number, (close, seen) in enumerate([(100, 0), (101, 10), (100, 20), (102, 20), (99, 5), (99, 7), (100, 0)]):
        warehouse.load(OHLCV_1D, table(bar(close=close, ingest_ts=later(seen))), f"load {number}")
    found = warehouse.query(RESTATED).to_pylist()
    steps = [(row["old_close_px"], row["new_close_px"], row["old_load_id"], row["new_load_id"]) for row in found]
    assert steps == [
        (100, 99, "load 0", "load 4"),
        (99, 101, "load 5", "load 1"),
        (101, 100, "load 1", "load 2"),
        (100, 102, "load 2", "load 3"),
    ]
    assert warehouse.query("SELECT close_px FROM silver_prices")["close_px"].to_pylist() == [102]


def test_the_runs_of_loads_are_kept(warehouse: Warehouse) -> None:
    warehouse.load(OHLCV_1D, bars("AAPL", 2), "by hand")
    warehouse.load(OHLCV_1D, bars("MSFT", 2), "of a run", RUN)
    warehouse.load(OHLCV_1D, bars("MSFT", 2), "of a run", replace(RUN, run_id="another"))  # already: the first one's it stays
    longest = replace(RUN, dag_id="d" * 250, run_id="手" * 250)
    warehouse.load(OHLCV_1D, bars("IBM", 2), "of the longest", longest)
    found = warehouse.query("SELECT load_id, dag_id, run_id FROM load_audit ORDER BY load_id").to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("by hand", None, None),
        ("of a run", RUN.dag_id, RUN.run_id),
        ("of the longest", longest.dag_id, longest.run_id),
    ]


def test_a_warehouse_of_an_earlier_version_is_brought_up(connection: WarehouseConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    first = "INSERT INTO load_audit (load_id, table_name, rows_in, rows_changed, loaded_at) VALUES (?, ?, ?, ?, ?)"
    with open_with_hooks(connection) as warehouse, monkeypatch.context() as patch:
        patch.setattr(migrations, "_ALL", tuple(migration for migration in migrations._ALL if migration.version <= 21))
        patch.setattr(Warehouse, "_count_sessions", lambda _: None)  # its table is younger
        assert warehouse.migrate()[-1] == "0021_gold_fundamentals"
        with warehouse._transaction():
            warehouse._execute("insert audit row", first, ["old", "silver_prices", 1, 1, naive(SEEN)])
    with open_with_hooks(connection) as warehouse:
        added = [str(migration) for migration in migrations.migrations(warehouse.dialect) if migration.version > 21]
        assert warehouse.migrate() == added
        assert warehouse.load(OHLCV_1D, bars("AAPL", 2), "new", RUN).rows_changed == 2
        found = warehouse.query("SELECT load_id, run_id FROM load_audit ORDER BY load_id").to_pylist()
        assert [tuple(row.values()) for row in found] == [("new", RUN.run_id), ("old", None)]
        assert warehouse.query("SELECT high_52w FROM gold_price_features")["high_52w"].to_pylist() == [None, None]
