"""Splits and dividends that a vendor reports again, corrects, withdraws and restores, from its API to adjusted prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from types import SimpleNamespace

import pytest

from market_data.core import calendar
from market_data.core.errors import TruncatedResponse
from market_data.core.outcome import State
from market_data.datasets.generated import GeneratedDividend, GeneratedSplit
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, QuickWorld, Scene
from tests.pipeline.runs import feed_of
from tests.tiers import tiers

WEEKS = calendar.sessions(date(2013, 1, 2), date(2013, 2, 2))
EX = WEEKS[10]
SYMBOLS = ("AAPL", "IBM")


def split(before: float = 1, after: float = 4, *, symbol: str = "AAPL", ex_date: date = EX, action_id: str | None = "E1"):
    return GeneratedSplit(symbol, ex_date, before, after, action_id)


def dividend(amount: float = 1.0, *, kind: str = "CD", symbol: str = "AAPL", ex_date: date = EX, action_id: str | None = "E1"):
    day = ex_date - timedelta(days=20)
    return GeneratedDividend(symbol, ex_date, amount, day, ex_date, ex_date + timedelta(days=9), kind, 4, action_id)


@pytest.fixture
def scene(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        yield Scene(tmp_path, api, SimpleNamespace(address=""))


@pytest.fixture
def vendor(scene, monkeypatch):
    """What the vendor has of splits and dividends; the test changes it."""
    held = SimpleNamespace(splits=[], dividends=[])

    def within(actions, start, end, symbols):
        return [a for a in actions if start <= a.ex_date < end and (symbols is None or a.symbol in symbols)]

    market = scene.api.market
    monkeypatch.setattr(market, "splits", lambda start, end, symbols=None: within(held.splits, start, end, symbols))
    monkeypatch.setattr(market, "dividends", lambda start, end, symbols=None: within(held.dividends, start, end, symbols))
    return held


def world_of(scene, dag_id, **params):
    feed = feed_of(dag_id)
    feed = replace(feed, params={**feed.params, **params})
    return QuickWorld(feed, scene.folder, lambda: scene.hook(feed))


class Story:
    """A feed of actions whose runs follow one another."""

    def __init__(self, scene, dag_id="polygon_corporate_actions", **params):
        self.world, self.number = world_of(scene, dag_id, **params), 0

    def run(self, sessions=WEEKS, symbols=SYMBOLS, how="force", **params):
        self.number += 1
        context = {
            "force": lambda: self.world.context(f"r{self.number}", force=True, **params),
            "clear": lambda: self.world.context("r1", self.number, **params),
            "recheck": lambda: self.world.context(f"r{self.number}", 0, "scheduled", **params),
            "plain": lambda: self.world.context(f"r{self.number}", **params),
        }[how]()
        # A scheduled run requests the three sessions before its own again.
        return self.world.run(WEEKS[12:13] if how == "recheck" else sessions, symbols, context)[1]

    def applied(self):
        """The actions that hold, as (symbol, ratio or amount)."""
        rows = self.world.query(
            "SELECT symbol, action_type, COALESCE(cash_amount, split_to / split_from) AS worth FROM gold_corporate_actions ORDER BY ALL"
        )
        return [(row["symbol"], row["action_type"], round(float(row["worth"]), 6)) for row in rows]

    def versions(self):
        return self.world.query("SELECT COUNT(*) AS n FROM bronze_corporate_actions")[0]["n"]


FEEDS = ("polygon_corporate_actions", "alpaca_corporate_actions", "fmp_corporate_actions")


@pytest.mark.parametrize(
    ("dag_id", "grain"), tiers(product(FEEDS, ("day", "year")), (FEEDS[0], "day"), (FEEDS[1], "year"), (FEEDS[2], "day"))
)
def test_the_same_split_without_an_id_with_one_and_with_another_is_one(scene, vendor, dag_id, grain):
    story = Story(scene, dag_id, file_grain=grain)
    for action in (split(action_id=None), split(action_id="E1"), split(action_id="E2")):
        vendor.splits = [action]
        assert story.run()["red"] == []
        assert story.applied() == [("AAPL", "split", 4.0)]
    assert story.versions() == 1
    for ratio in ((2, 8), (0.25, 1)):
        vendor.splits = [split(*ratio)]
        story.run()
        assert story.applied() == [("AAPL", "split", 4.0)]


@pytest.mark.parametrize("dag_id", FEEDS)
def test_one_action_under_two_ids_in_one_response_applies_once(scene, vendor, dag_id):
    story = Story(scene, dag_id)
    vendor.splits = [split(action_id="E1"), split(2, 8, action_id="E2"), split(action_id=None)]
    vendor.dividends = [dividend(0.24), dividend(0.2400001, action_id="E2"), dividend(0.24, kind=None, action_id=None)]
    report = story.run()
    assert (report["red"], report["rows_quarantined"]) == ([], 0)
    assert [(symbol, kind) for symbol, kind, _ in story.applied()] == [("AAPL", "dividend"), ("AAPL", "split")]


@pytest.mark.parametrize("special", [0.25, 0.4, 15.0])
@pytest.mark.parametrize("dag_id", FEEDS)
def test_a_regular_and_a_special_dividend_of_a_day_both_apply(scene, vendor, dag_id, special):
    story = Story(scene, dag_id)
    vendor.dividends = [dividend(0.25), dividend(special, kind="SC", action_id="E2")]
    report = story.run()
    assert story.applied() == [("AAPL", "dividend", 0.25), ("AAPL", "dividend", special)]
    assert not any("contradicts" in words for words in report["warnings"])


WAYS = [(FEEDS[0], how, grain) for how in ("force", "clear", "recheck") for grain in ("day", "year")]
WAYS += [(FEEDS[1], "force", "year"), (FEEDS[1], "recheck", "year")]
WAYS += [
    (FEEDS[2], "force", "year"),
    (FEEDS[2], "clear", "year"),
]  # a call per symbol is not cheap: its final cells are not rechecked


EACH_ONCE = ((FEEDS[0], "recheck", "day"), (FEEDS[0], "force", "year"), (FEEDS[1], "force", "year"), (FEEDS[2], "clear", "year"))


@pytest.mark.parametrize(("dag_id", "how", "grain"), tiers(WAYS, *EACH_ONCE))
def test_a_withdrawn_action_goes_and_comes_back(scene, vendor, dag_id, how, grain):
    story = Story(scene, dag_id, file_grain=grain)
    vendor.splits, vendor.dividends = [split()], [dividend(symbol="IBM")]
    story.run(how="plain")
    both = [("AAPL", "split", 4.0), ("IBM", "dividend", 1.0)]
    assert story.applied() == both
    vendor.splits = []
    report = story.run(how=how)
    assert report["red"] == []
    assert story.applied() == both[1:]
    assert any("withdrawn by the vendor: AAPL" in words for words in report["warnings"])
    assert story.versions() == 3
    silver = story.world.query("SELECT symbol, withdrawn FROM silver_corporate_actions ORDER BY symbol")
    assert [tuple(row.values()) for row in silver] == [("AAPL", 1), ("IBM", None)]
    again = story.run(how=how)
    assert story.versions() == 3
    assert not any("withdrawn" in words for words in (again or {"warnings": []})["warnings"])
    vendor.splits = [split(action_id="E9")]
    story.run(how=how)
    assert story.applied() == both
    assert story.versions() == 4


def test_a_corrected_amount_replaces_the_old_one(scene, vendor):
    story = Story(scene)
    vendor.dividends = [dividend(0.24)]
    story.run()
    vendor.dividends = [dividend(0.25)]
    story.run()
    assert story.applied() == [("AAPL", "dividend", 0.25)]


@pytest.mark.parametrize(
    ("kind", "options"), [("server_error", {}), ("truncated", {"fraction": 0.5, "clean": True}), ("no_results", {})]
)
def test_a_failed_or_truncated_response_withdraws_nothing(scene, vendor, kind, options):
    story = Story(scene)
    vendor.splits = [split()]
    story.run()
    vendor.splits = []
    scene.fault(kind, "polygon", **options)
    if kind == "server_error":
        assert story.run()["red"] != []
    else:
        with pytest.raises(TruncatedResponse):
            story.run()
    assert story.applied() == [("AAPL", "split", 4.0)]


def test_a_response_on_other_dates_or_symbols_withdraws_nothing(scene, vendor):
    story = Story(scene)
    vendor.splits, vendor.dividends = [split()], [dividend(symbol="IBM", ex_date=WEEKS[2])]
    story.run()
    vendor.splits, vendor.dividends = [], []
    story.run(sessions=WEEKS[5:9])
    story.run(symbols=("IBM",), sessions=WEEKS[4:])
    assert story.applied() == [("AAPL", "split", 4.0), ("IBM", "dividend", 1.0)]


def test_a_rejected_row_withdraws_nothing_of_its_cell(scene, vendor):
    story = Story(scene)
    vendor.splits = [split()]
    story.run()
    vendor.splits = [split(1, 0)]
    assert story.run()["rows_quarantined"] == 1
    assert story.applied() == [("AAPL", "split", 4.0)]


def test_a_response_that_lacks_nearly_all_of_many_actions_is_truncated(scene, vendor):
    story = Story(scene)
    vendor.dividends = [dividend(0.1 + n, ex_date=day) for n, day in enumerate(WEEKS[:12])]
    story.run(how="plain")
    vendor.dividends = vendor.dividends[:1]
    with pytest.raises(TruncatedResponse, match="lacks 11 of 12 stored rows"):
        story.run(how="clear")
    assert len(story.applied()) == 12
    story.run()
    assert len(story.applied()) == 1


def test_contradictory_splits_are_named_and_applied_once(scene, vendor):
    story = Story(scene)
    vendor.splits = [split(), split(1, 5, action_id="E2")]
    report = story.run()
    assert any("AAPL: split of 2013-01-16 contradicts itself" in words for words in report["warnings"]), report["warnings"]
    assert len(story.applied()) == 1
    found = story.world.query("SELECT finding, provider_a, provider_b FROM gold_action_differences")
    assert found == [{"finding": "contradicts itself", "provider_a": "polygon", "provider_b": "polygon"}]


def test_providers_are_compared(scene, vendor):
    vendor.splits, vendor.dividends = [split()], [dividend(symbol="IBM")]
    stories = [Story(scene, dag_id) for dag_id in FEEDS]
    for story in stories:
        story.run()
    differences = "SELECT symbol, finding, provider_a, provider_b, value_a, value_b FROM gold_action_differences ORDER BY ALL"
    assert story.world.query(differences) == []
    vendor.splits = [split(1, 5)]
    stories[2].run()
    vendor.dividends = []
    report = stories[1].run()
    found = [tuple(row.values()) for row in story.world.query(differences)]
    assert found == [
        ("AAPL", "value", "alpaca", "polygon", 5.0, 4.0),
        ("AAPL", "value", "fmp", "polygon", 5.0, 4.0),
        ("IBM", "missing at provider_a", "alpaca", "fmp", None, 1.0),
        ("IBM", "missing at provider_a", "alpaca", "polygon", None, 1.0),
    ]
    assert any("AAPL: split of 2013-01-16: 5 at alpaca, 4 at polygon" in words for words in report["warnings"]), report["warnings"]


def test_prices_are_adjusted_only_where_actions_are_loaded(scene, vendor):
    prices, story = world_of(scene, "polygon_ohlcv_1d"), Story(scene)
    prices.run(WEEKS, SYMBOLS)
    vendor.splits = [split()]
    adjusted = (
        "SELECT CAST(bar_time AS DATE) AS day, split_factor AS factor FROM gold_adjusted_prices WHERE symbol = 'AAPL' ORDER BY day"
    )
    story.run(sessions=WEEKS[8:15], symbols=("AAPL",))
    found = {row["day"]: row["factor"] for row in story.world.query(adjusted)}
    known = {day: factor for day, factor in found.items() if factor is not None}
    assert list(known) == list(WEEKS[7:15])
    assert [known[day] for day in WEEKS[7:10]] == pytest.approx([0.25] * 3)
    assert [known[day] for day in WEEKS[10:15]] == pytest.approx([1.0] * 5)
    assert story.world.query("SELECT COUNT(adj_close_px) AS n FROM gold_adjusted_prices WHERE symbol = 'IBM'") == [{"n": 0}]
    story.run(sessions=WEEKS[:4], symbols=("AAPL",))
    assert {row["day"]: row["factor"] for row in story.world.query(adjusted)} == found, "a hole before the known dates"
    story.run(sessions=WEEKS, how="plain")
    assert all(row["factor"] is not None for row in story.world.query(adjusted))
    assert read_coverage(story.world.lake, "corporate-actions", "polygon").state("IBM", WEEKS[0]) is State.EMPTY


def test_a_quarantined_action_leaves_prices_before_it_unadjusted(scene, vendor):
    prices, story = world_of(scene, "polygon_ohlcv_1d"), Story(scene)
    prices.run(WEEKS, ("AAPL",))
    vendor.splits = [split(1, 0)]
    story.run(symbols=("AAPL",))
    found = story.world.query(
        "SELECT COUNT(adj_close_px) AS n, MIN(CASE WHEN adj_close_px > 0 THEN bar_time END) AS first FROM gold_adjusted_prices"
    )
    assert found[0]["first"].date() == EX


def test_the_lake_is_read_without_withdrawn_actions(scene, vendor):
    story = Story(scene)
    vendor.splits = [split()]
    story.run()
    vendor.splits = []
    story.run()
    context = story.world.context()
    rows = read_rows(story.world.lake, context.layout, context.dataset, "polygon", ["AAPL"], WEEKS[0], WEEKS[-1])
    assert rows["withdrawn"].to_pylist() == [True]
