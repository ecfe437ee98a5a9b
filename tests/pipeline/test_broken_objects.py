"""An object that cannot be read never fails a whole batch or every plan of a feed; it is named."""

from itertools import product
from types import SimpleNamespace

import pyarrow as pa
import pytest

from market_data.core.errors import LakeError
from market_data.lake import parquet
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, WEEK, QuickWorld, Scene
from tests.pipeline.runs import feed_of
from tests.tiers import tiers

FOREIGN = parquet.encode(pa.table({"symbol": ["AAPL"], "price": [1.0]}))
BREAKS = {"empty": b"", "cut": b"PAR1 cut", "html": b"<html>no</html>", "foreign": FOREIGN}
PLACES = ("raw", "manifest", "receipts", "quarantine")


@pytest.fixture
def world(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        scene, feed = Scene(tmp_path, api, SimpleNamespace(address="")), feed_of("polygon_ohlcv_1d")
        yield QuickWorld(feed, tmp_path, lambda: scene.hook(feed))


# In the first tier: no Parquet at all, and a table of other columns.
FIRST_TIER = [*product(("force",), ("cut", "foreign"), PLACES), *product(("clear",), ("foreign",), PLACES[:2])]


@pytest.mark.parametrize(("again", "broken", "place"), tiers(product(("force", "clear"), BREAKS, PLACES), *FIRST_TIER))
def test_force_clear_and_plan_go_on_with_a_broken_object(world, again, broken, place):
    body = BREAKS[broken]
    world.run(WEEK[:2], ("AAPL", "KO"))
    for key, _ in world.lake.list(place)[:1]:
        world.lake.update(key, lambda _: body)
    _, report = world.run(WEEK[:2], ("AAPL", "KO"), context_of(world, again))
    assert report["red"] == []
    if place in ("raw", "manifest"):
        assert any(place in words and "cannot be read" in words for words in report["warnings"])
    if place == "raw":
        assert [world.lake.get(key).body for key, _ in world.lake.list("broken")] == [body]


def context_of(world, again):
    """Return the context of a forced second run, or of the first run, cleared."""
    return world.context("r2", force=True) if again == "force" else world.context(clear_number=1)


def test_a_foreign_object_in_the_ledger_is_named_and_ignored(world):
    world.run(WEEK[:2], ("AAPL",))
    world.lake.put_new("manifest/ohlcv-1d/provider=polygon/_SUCCESS", b"")
    planned = world.run(WEEK[:2], ("AAPL",), world.context("r2"))[0]
    assert planned.plan.cells == 0
    assert any("_SUCCESS does not belong to the coverage ledger" in words for words in planned.standing["warnings"])
    _, report = world.run(WEEK[:2], ("AAPL",), world.context("r3", force=True))
    assert any("_SUCCESS does not belong to the coverage ledger" in words for words in report["warnings"])


def test_a_failure_of_the_store_is_not_a_broken_object(world, monkeypatch):
    world.run(WEEK[:2], ("AAPL",))

    def fails(key):
        raise LakeError(f"lake get {key}: 503 Slow Down")

    monkeypatch.setattr(world.lake, "get", fails)
    with pytest.raises(LakeError, match="503"):
        world.run(WEEK[:2], ("AAPL",), world.context("r2"))
