"""An object that cannot be read never fails a whole batch or every plan of a feed; it is named."""

from types import SimpleNamespace

import pytest

from market_data.core.errors import LakeError
from sandbox.http import SampleApi
from tests.golden.scripted_runs import KEY, START, WEEK, QuickWorld, Scene
from tests.pipeline.runs import feed_of

BREAKS = (b"", b"PAR1 cut", b"<html>no</html>")


@pytest.fixture
def world(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        scene, feed = Scene(tmp_path, api, SimpleNamespace(address="")), feed_of("polygon_ohlcv_1d")
        yield QuickWorld(feed, tmp_path, lambda: scene.hook(feed))


@pytest.mark.parametrize("place", ["raw", "manifest", "receipts", "quarantine"])
@pytest.mark.parametrize("body", BREAKS)
def test_force_and_plan_go_on_with_a_broken_object(world, place, body):
    world.run(WEEK[:2], ("AAPL", "KO"))
    for key, _ in world.lake.list(place)[:1]:
        world.lake.update(key, lambda _: body)
    _, report = world.run(WEEK[:2], ("AAPL", "KO"), world.context("r2", force=True))
    assert report["red"] == []
    if place in ("raw", "manifest"):
        assert any(place in words and "cannot be read" in words for words in report["warnings"])
    if place == "raw":
        assert [world.lake.get(key).body for key, _ in world.lake.list("broken")] == [body]


def test_a_foreign_object_in_the_ledger_is_named_and_ignored(world):
    world.run(WEEK[:2], ("AAPL",))
    world.lake.put_new("manifest/ohlcv-1d/provider=polygon/_SUCCESS", b"")
    assert world.run(WEEK[:2], ("AAPL",), world.context("r2"))[0].plan.cells == 0
    _, report = world.run(WEEK[:2], ("AAPL",), world.context("r3", force=True))
    assert any("_SUCCESS does not belong to the coverage ledger" in words for words in report["warnings"])


def test_a_failure_of_the_store_is_not_a_broken_object(world, monkeypatch):
    world.run(WEEK[:2], ("AAPL",))

    def fails(key):
        raise LakeError(f"lake get {key}: 503 Slow Down")

    monkeypatch.setattr(world.lake, "get", fails)
    with pytest.raises(LakeError, match="503"):
        world.run(WEEK[:2], ("AAPL",), world.context("r2"))
