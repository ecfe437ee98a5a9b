"""Adjusted prices, fundamentals and the query that reconciles providers: against what Python computes for itself."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from warehouse_rows import bar, dividend, item, later, midnight, split, table

from market_data import calendar
from market_data.datasets.bars import OHLCV_1D, OHLCV_1M
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.fundamentals import FUNDAMENTALS
from market_data.warehouse import sql
from market_data.warehouse.base import Warehouse

ADJUSTED = "SELECT * FROM gold_adjusted_prices ORDER BY symbol, provider, bar_time"
RECONCILE = (sql.MIGRATIONS.parent / "queries" / "reconcile.sql").read_text("utf-8")
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
        for action in same_day:
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
        if rng.random() < 0.2:
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
        ([dividend("MSFT", ex_date=DAYS[2])], [1, 1, 1, 1], [0, 0, 0, 0]),
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
        ([split("AAPL.WS", ex_date=DAYS[2])], [1, 1, 1, 1], [0, 0, 0, 0]),
        ([split(ex_date=DAYS[2], provider="polygon~split"), dividend("MSFT")], [1, 1, 1, 1], [0, 0, 0, 0]),
    ],
)
def test_odd_actions(warehouse: Warehouse, actions: list[dict[str, Any]], factors: list[float], left_aside: list[int]) -> None:
    found = load(warehouse, series(CLOSES), actions)
    assert found["adj_factor"].tolist() == pytest.approx(factors, rel=1e-14)
    assert found["actions_left_aside"].tolist() == left_aside


@pytest.mark.parametrize("actions", [[], [split(ex_date=DAYS[2], provider="polygon")]], ids=["of nobody", "of another provider"])
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
    assert (quarter["eps"], quarter["total_assets"]) == (Decimal("2.19"), 353_514_000_000)
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
