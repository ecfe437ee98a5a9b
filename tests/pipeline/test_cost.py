"""The cap on the cost: a dry run shows what is over it and is green; a real run stops before its first paid call."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from market_data import api as public
from market_data import pipeline
from market_data.core.errors import ParamError
from market_data.pipeline.run_sessions import Wanted
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, WEEK, QuickWorld, Scene
from tests.pipeline.runs import feed_of

FREE = {"get_cost", "get_record_count", "get_dataset_range", "get_dataset_condition", "list_datasets", "resolve"}
CHARGED = ("databento_ohlcv_1d", "databento_ohlcv_1m", "databento_trades", "databento_tbbo", "databento_statistics")


@pytest.fixture
def scene(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        yield Scene(tmp_path, api, SimpleNamespace(address=""))


def world_of(scene, dag_id, cap):
    feed = feed_of(dag_id)
    feed = replace(feed, options={**feed.options, "max_cost_usd": cap})
    return QuickWorld(feed, scene.folder, lambda: scene.hook(feed))


def plan(world, **params):
    with world.hook() as hook:
        return pipeline.plan_run(world.context(**params), hook, Wanted(WEEK), ("AAPL", "KO"), world.now)


def paid(scene):
    return [call for call in scene.api.calls if call.endpoint not in FREE]


@pytest.mark.parametrize("dag_id", CHARGED)
def test_a_dry_run_over_the_cap_is_green_and_shows_everything(scene, dag_id):
    planned = plan(world_of(scene, dag_id, 0.00000001), dry_run=True)
    assert planned.note.startswith("over the cap: ")
    assert planned.note.endswith(" US dollars, max_cost_usd is 1e-08")
    summary = planned.summary
    assert min(summary["batches"], summary["calls"], summary["rows"], summary["cost_usd"]) > 0
    assert "The provider will charge" in planned.explain()
    assert re.fullmatch(
        r"The run would request \d+ cells, \d batch(es)?, \d+ calls?, [\d.]+ minutes, at most [\d,]+ rows, \S+ US dollars",
        summary["figures"],
    )
    assert paid(scene) == []


@pytest.mark.parametrize("dag_id", CHARGED)
def test_a_real_run_over_the_cap_stops_before_its_first_paid_call(scene, dag_id):
    with pytest.raises(ParamError, match="max_cost_usd is 1e-08; the run would cost"):
        world_of(scene, dag_id, 0.00000001).run(WEEK, ("AAPL", "KO"))
    assert paid(scene) == []


@pytest.mark.parametrize("params", [{"force": True}, {"clear_number": 1}, {"run_type": "scheduled"}, {"run_type": "backfill"}])
def test_every_way_to_start_a_real_run_keeps_to_the_cap(scene, params):
    with pytest.raises(ParamError, match="max_cost_usd"):
        plan(world_of(scene, "databento_ohlcv_1d", 0), **params)
    assert paid(scene) == []


def test_amounts_in_the_note_have_two_decimals(scene):
    world = world_of(scene, "databento_ohlcv_1d", 10)
    with world.hook() as hook:
        hook.cost = lambda requests: 23.4
        planned = pipeline.plan_run(world.context(dry_run=True), hook, Wanted(WEEK), ("AAPL",), world.now)
    assert planned.note == "over the cap: 23.40 US dollars, max_cost_usd is 10"


@pytest.mark.parametrize("cap", [None, 10])
def test_below_the_cap_or_without_one_nothing_is_said(scene, cap):
    assert plan(world_of(scene, "databento_ohlcv_1d", cap), dry_run=True).note == ""


def test_a_price_requested_from_a_notebook_is_shown_above_the_cap(scene):
    account = {"base_url": f"{scene.api.url}/databento", "password": f"db-{KEY}", "extra": {"plan": "sample"}}
    (scene.folder / "lake").mkdir()
    found = public.plan(
        ["AAPL"], WEEK[0], WEEK[-1], provider="databento", account=account, lake=f"file://{scene.folder}/lake", max_cost_usd=0
    )
    assert "over the cap" in found.note
    assert found.cost_usd > 0
