"""Closes around known splits, dividends, a spin-off, a merger and a change of name: adjusted as published, from each provider's response.

Sources of `KNOWN`. Ratios, amounts and ex-dates: the companies' announcements. ``published``: the split-adjusted close of the session
before the ex-date, as of February 2018, in the public "S&P 500 stock data" (C. Nugent, kaggle.com/datasets/camnugent/sandp500); the
close as traded is that number times the announced ratio, rounded to a cent. ``computed``: from a close as traded, as commonly quoted, and
the announced terms: close times shares before / shares after for a split, close minus amount for a dividend (CRSP's convention). These
lines check the arithmetic, not the quote.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from market_data.core.batch import Request
from market_data.core.calendar import next_session, previous_session
from market_data.core.intervals import closed
from market_data.datasets.bars import OHLCV_1D
from market_data.datasets.corporate_actions import CORPORATE_ACTIONS
from market_data.datasets.generated import GeneratedDividend, GeneratedSplit
from market_data.warehouse import WarehouseConnection
from market_data.warehouse.registry import open_warehouse
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, Scene
from tests.pipeline.runs import feed_of
from tests.pipeline.test_corporate_actions import FEEDS
from tests.warehouse.rows import SEEN, bar, midnight, table


class Known(NamedTuple):
    """An action. ``close``: as traded in the session before ``ex_date``; ``adjusted``: the same close after the action."""

    symbol: str
    ex_date: str
    terms: tuple[float, float] | float  # shares before and after, or dollars
    close: float
    adjusted: float
    source: str = "published"


KNOWN = [
    Known("AAPL", "2014-06-09", (1, 7), 645.57, 92.2242),
    Known("NFLX", "2015-07-15", (1, 7), 702.60, 100.3713),
    Known("V", "2015-03-19", (1, 4), 267.67, 66.9175),
    Known("MA", "2014-01-22", (1, 10), 818.48, 81.848),
    Known("SBUX", "2015-04-09", (1, 2), 95.23, 47.615),
    Known("NKE", "2015-12-24", (1, 2), 128.71, 64.355),
    Known("UNP", "2014-06-09", (1, 2), 201.86, 100.93),
    Known("ROST", "2015-06-12", (1, 2), 97.86, 48.93),
    Known("GOOGL", "2014-04-03", (1000, 1998), 1135.10, 568.1176),
    Known("GOOG", "2014-04-03", (1000, 2002), 1135.134, 567.0),  # new: what a share would have been worth as traded
    Known("ISRG", "2017-10-06", (1, 3), 1089.68, 363.2263),
    Known("FISV", "2013-12-17", (1, 2), 113.38, 56.69),
    Known("APH", "2014-10-10", (1, 2), 98.68, 49.34),
    Known("MNST", "2016-11-10", (1, 3), 132.59, 44.1966),
    Known("CHD", "2016-09-02", (1, 2), 99.75, 49.875),
    Known("BF.B", "2016-08-19", (1, 2), 99.65, 49.825),
    Known("HRL", "2016-02-10", (1, 2), 82.86, 41.43),
    Known("KR", "2015-07-14", (1, 2), 76.95, 38.475),
    Known("CL", "2013-05-16", (1, 2), 124.55, 62.275),
    Known("EW", "2015-12-14", (1, 2), 159.71, 79.855),
    Known("CTSH", "2014-03-10", (1, 2), 107.22, 53.61),
    Known("EOG", "2014-04-01", (1, 2), 196.17, 98.085),
    Known("HSIC", "2017-09-15", (1, 2), 161.15, 80.575),
    Known("CMCSA", "2017-02-21", (1, 2), 75.32, 37.66),
    Known("AAPL", "2020-08-31", (1, 4), 499.23, 124.8075, "computed"),
    Known("TSLA", "2020-08-31", (1, 5), 2213.40, 442.68, "computed"),
    Known("TSLA", "2022-08-25", (1, 3), 891.29, 297.096667, "computed"),
    Known("NVDA", "2024-06-10", (1, 10), 1208.88, 120.888, "computed"),
    Known("AMZN", "2022-06-06", (1, 20), 2447.00, 122.35, "computed"),
    Known("GOOGL", "2022-07-18", (1, 20), 2235.55, 111.7775, "computed"),
    Known("GE", "2021-08-02", (8, 1), 12.95, 103.60, "computed"),  # its reverse split
    Known("BRK.B", "2010-01-21", (1, 50), 3476.00, 69.52, "computed"),
    Known("GE", "2023-01-04", (1000, 1281), 84.03, 65.597190, "computed"),  # GE HealthCare, spun off; vendors show it as a split
    Known("MSFT", "2004-11-15", 3.0, 29.97, 26.97, "computed"),  # the special dividend
    Known("META", "2024-02-21", 0.5, 471.75, 471.25, "computed"),  # the first dividend
]
MERGED = ("TWTR", "2022-10-27", 53.70)
"""A company that was taken over: the last close as traded, after which there is nothing to adjust for."""
TOLERANCE = 1e-4


@pytest.fixture
def api(monkeypatch):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        days = {known: date.fromisoformat(known.ex_date) for known in KNOWN}
        splits = [GeneratedSplit(k.symbol, days[k], *k.terms, f"E{n}") for n, k in enumerate(KNOWN) if isinstance(k.terms, tuple)]
        paid = [
            GeneratedDividend(k.symbol, days[k], k.terms, days[k], days[k], days[k] + timedelta(9), "CD", 4, f"E{n}")
            for n, k in enumerate(KNOWN)
            if isinstance(k.terms, float)
        ]

        def within(actions, start, end, symbols):
            return [a for a in actions if start <= a.ex_date < end and (symbols is None or a.symbol in symbols)]

        monkeypatch.setattr(api.market, "splits", lambda start, end, symbols=None: within(splits, start, end, symbols))
        monkeypatch.setattr(api.market, "dividends", lambda start, end, symbols=None: within(paid, start, end, symbols))
        monkeypatch.setattr("sandbox.vendors.fmp.FMP._known", {k.symbol.replace(".", "-"): k.symbol for k in KNOWN}, raising=True)
        yield api


def requests(feed, symbols):
    """The requests that a plan of all years makes, but not their number."""
    span = (closed(date(2003, 1, 2), date(2024, 12, 31)),)
    endpoint = {"polygon": "reference", "alpaca": "corporate-actions", "fmp": "actions"}[feed.provider]
    groups = [(symbol,) for symbol in symbols] if feed.provider == "fmp" else [tuple(symbols)]
    return [Request("corporate-actions", endpoint, group, span) for group in groups]


@pytest.mark.parametrize("dag_id", FEEDS)
def test_closes_are_adjusted_as_published(api, tmp_path, dag_id):
    feed = feed_of(dag_id)
    scene = Scene(tmp_path, api, SimpleNamespace(address=""))
    symbols = sorted({known.symbol for known in KNOWN} | {MERGED[0]})
    with scene.hook(replace(feed, options={})) as hook:
        rows = [row for request in requests(feed, symbols) for row in hook.fetch(request).table.to_pylist()]
    lacking = {(k.symbol, k.ex_date) for k in KNOWN} - {(row["symbol"], f"{row['ex_date']}") for row in rows}
    assert (lacking, len(rows)) == (set(), len(KNOWN))
    assert len(KNOWN) >= 30
    bars = {(MERGED[0], date.fromisoformat(MERGED[1])): MERGED[2]}
    for known in KNOWN:
        ex_date = date.fromisoformat(known.ex_date)
        bars[known.symbol, previous_session(ex_date)] = known.close
        bars.setdefault((known.symbol, ex_date), known.adjusted)
    day_after = {symbol: next_session(max(day for name, day in bars if name == symbol)) for symbol in symbols}
    connection = WarehouseConnection("duckdb", extra={"path": f"{tmp_path}/known.duckdb"})
    with open_warehouse(connection) as warehouse:
        warehouse.migrate()
        priced = [bar(symbol, midnight(day), close=close, provider=feed.provider) for (symbol, day), close in bars.items()]
        priced += [bar(s, midnight(day), close=1.0, provider=feed.provider) for s, day in day_after.items()]
        warehouse.load(OHLCV_1D, table(*priced), "bars")
        stamped = [{**row, "provider": feed.provider, "ingest_ts": SEEN} for row in rows]
        warehouse.load(CORPORATE_ACTIONS, table(*stamped, dataset=CORPORATE_ACTIONS), "actions")
        warehouse.know_actions([(MERGED[0], feed.provider, date(2003, 1, 2), date(2024, 12, 31))])
        found = warehouse.query("SELECT symbol, CAST(bar_time AS DATE) AS day, adj_factor FROM gold_adjusted_prices").to_pylist()
    factors = {(row["symbol"], row["day"]): row["adj_factor"] for row in found}
    for known in KNOWN:
        ex_date = date.fromisoformat(known.ex_date)
        # Later actions of the symbol are the business of their own lines.
        adjusted = known.close * factors[known.symbol, previous_session(ex_date)] / factors[known.symbol, ex_date]
        assert adjusted == pytest.approx(known.adjusted, rel=TOLERANCE), known
    assert factors[MERGED[0], date.fromisoformat(MERGED[1])] == 1.0
