"""Clocks: the newest response wins, whatever the clocks; a wrong clock is an error that names both times and the host."""

import socket
from datetime import timedelta
from itertools import product
from types import SimpleNamespace

import pytest

from market_data.core.errors import ClockError
from market_data.lake import clock
from market_data.lake.clock import check_clock
from market_data.lake.reader import read_rows
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from sandbox.http import SampleApi
from sandbox.s3 import S3Server
from tests.golden.scripted_runs import KEY, START, WEEK, QuickWorld, Scene
from tests.pipeline.runs import feed_of
from tests.tiers import tiers


@pytest.fixture
def scene(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        yield Scene(tmp_path, api, SimpleNamespace(address=""))


@pytest.fixture
def world(scene):
    feed = feed_of("polygon_ohlcv_1d")
    return QuickWorld(feed, scene.folder, lambda: scene.hook(feed))


def closes(world):
    context = world.context()
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, ["AAPL"], WEEK[0], WEEK[1])
    [silver] = world.query("SELECT close_px FROM silver_prices WHERE symbol = 'AAPL'")
    return rows["close"][0].as_py(), pytest.approx(float(silver["close_px"]), abs=1e-6)


BACK = (timedelta(0), timedelta(microseconds=1), timedelta(seconds=3), timedelta(seconds=5))


@pytest.mark.parametrize(
    ("back", "grain"),
    tiers(product(BACK, ("day", "year")), (BACK[1], "day"), (BACK[1], "year"), (BACK[2], "day"), (BACK[3], "year")),
)
def test_a_clock_set_back_a_little_does_not_drop_the_newer_response(scene, world, grain, back):
    for number, factor in enumerate((1, 2, 3, 1)):  # the last one returns to the first value
        scene.restore()
        scene.alter(WEEK[0], "AAPL", multiply=factor)
        world.now -= back + timedelta(hours=1) if number else timedelta(0)
        if number == 2:
            world.now += back  # in all, never more than 5 s behind a stored stamp
        world.run(WEEK[:1], ("AAPL",), world.context(f"r{number}", force=True, file_grain=grain))
        lake, silver = closes(world)
        assert lake == silver
        if number == 0:
            first = lake
        assert lake == pytest.approx(first * factor)
        if number == 1 and back > timedelta(seconds=2):
            break  # a third step would be further back than is tolerated


@pytest.mark.parametrize("grain", ["day", "year"])
def test_a_stored_stamp_in_the_future_is_an_error_that_names_object_times_and_host(scene, world, grain):
    world.run(WEEK[:1], ("AAPL",), world.context(file_grain=grain))
    before = world.objects()
    scene.alter(WEEK[0], "AAPL", multiply=2)
    world.now -= timedelta(hours=3)
    with pytest.raises(ClockError, match="raw/prices.*2026-11-20 13:00:01 UTC, in the future.*2026-11-20 11:00:01") as caught:
        world.run(WEEK[:1], ("AAPL",), world.context("r2", force=True, file_grain=grain))
    assert socket.gethostname() in str(caught.value)
    assert {key: body for key, body in world.objects().items() if key in before} == before


def test_the_stamp_is_taken_when_the_response_has_arrived(world):
    times = []
    make = world.make_hook

    def slow():
        hook = make()
        fetch = hook.fetch

        def waited(request):
            world.now += timedelta(minutes=7)  # for the quota
            times.append(world.now)
            return fetch(request)

        hook.fetch = waited
        return hook

    world.make_hook = slow
    world.run(WEEK[:1], ("AAPL",))
    context = world.context()
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, ["AAPL"], WEEK[0], WEEK[1])
    assert rows["ingest_ts"].to_pylist() == times


@pytest.fixture(params=["file", "s3"])
def lake(request, tmp_path, monkeypatch):
    if request.param == "file":
        yield Lake.open(f"file://{tmp_path}/lake")
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    server = S3Server()
    yield Lake.open("s3://bucket", S3Access(server.endpoint))
    server.stop()


@pytest.mark.parametrize("seconds", [-3600, -7, 7, 86400])
def test_a_worker_whose_clock_differs_from_the_object_stores_is_told(lake, seconds):
    with pytest.raises(ClockError, match=f"clock of host {socket.gethostname()} differs from that of the object store by"):
        check_clock(lake, lambda: clock.worker_clock() + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-3, 0, 3])
def test_a_small_difference_is_tolerated(lake, seconds):
    check_clock(lake, lambda: clock.worker_clock() + timedelta(seconds=seconds))
    if lake.root:
        assert list(lake.root.iterdir()) == []


def test_an_object_store_that_does_not_tell_its_time_is_not_compared(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    check_clock(Lake.open("s3://bucket", S3Access("http://127.0.0.1:9")))


def test_a_batch_makes_no_call_and_writes_nothing_with_a_wrong_clock(scene, world, monkeypatch):
    right = clock.worker_clock
    monkeypatch.setattr(clock, "worker_clock", lambda: right() - timedelta(minutes=10))
    with pytest.raises(ClockError, match="differs from that of the object store by 600 s"):
        world.run(WEEK[:1], ("AAPL",))
    assert scene.api.calls == []
    assert world.objects() == {}
