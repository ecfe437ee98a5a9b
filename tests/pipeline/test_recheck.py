"""Restatements: scheduled runs request the last sessions again that they have, where that is cheap; equal values write nothing."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data import pipeline
from market_data.core.outcome import State
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from market_data.pipeline.run_sessions import Wanted
from sandbox.http import SampleApi
from sandbox.ib_gateway import SampleGateway
from tests.golden.scripted_runs import KEY, START, WEEK, QuickWorld, Scene, sessions
from tests.golden.scripted_runs import SYMBOLS as MANY
from tests.pipeline.runs import feed_of
from tests.tiers import tiers

SYMBOLS = ("AAPL", "IBM", "KO", "MSFT")
RESTATED = WEEK[3]
"""One of the three sessions before the last of the week."""

ONE_CALL = ("alpaca_ohlcv_1d", "fmp_ohlcv_1d", "polygon_ohlcv_1m")
"""Feeds whose endpoint returns four sessions of a symbol in one call."""
GRAINS = [*product((*ONE_CALL, "polygon_ohlcv_1d"), ("day", "session", "year"))]
EACH_SHAPE = (("alpaca_ohlcv_1d", "day"), ("fmp_ohlcv_1d", "year"), ("polygon_ohlcv_1m", "year"), ("polygon_ohlcv_1d", "session"))
"""Many symbols, a symbol, minutes, and a session per request."""


@pytest.fixture
def scene(tmp_path):
    with SampleApi(api_key=KEY, now=lambda: START) as api:
        yield Scene(tmp_path, api, SimpleNamespace(address=""))


def world_of(scene, dag_id, **params):
    feed = feed_of(dag_id)
    feed = replace(feed, params={**feed.params, **params})
    return QuickWorld(feed, scene.folder, lambda: scene.hook(feed))


def files(world):
    """Return key -> inode and time of each raw object: any write changes them."""
    root = Path(world.lake.url.removeprefix("file://"))
    found = {path.relative_to(root).as_posix(): path.stat() for path in root.rglob("raw/**/*.parquet")}
    return {key: (stat.st_ino, stat.st_mtime_ns) for key, stat in found.items()}


def night(world, session=WEEK[5], run_id="night", symbols=SYMBOLS, clear_number=0, **params):
    """A scheduled run of one session, as on that night."""
    return world.run([session], symbols, world.context(run_id, clear_number, "scheduled", **params))


@pytest.mark.parametrize(("dag_id", "grain"), tiers(GRAINS, *EACH_SHAPE))
def test_a_restated_value_replaces_the_old_one_everywhere_and_nothing_else_is_written(scene, dag_id, grain):
    world = world_of(scene, dag_id, file_grain=grain)
    world.run(WEEK[:5], SYMBOLS[:1])
    before, versions = files(world), world.query("SELECT COUNT(*) AS n FROM bronze_prices")[0]["n"]
    scene.alter(RESTATED, "AAPL", multiply=1.25)
    planned, report = night(world, symbols=SYMBOLS[:1])
    assert planned.plan.cells == 4
    assert planned.plan.calls <= 1 + 3
    [cell] = report["restated"]
    assert (cell["symbol"], cell["session"]) == ("AAPL", RESTATED.isoformat())
    assert any(f"restated AAPL {RESTATED}" in words for words in report["warnings"])
    after = files(world)
    changed = {key.rpartition("/")[2] for key in before if after[key] != before[key]}
    assert changed == {f"AAPL-{RESTATED}.parquet"} if grain == "day" else len(changed) == 1
    assert world.query("SELECT COUNT(*) AS n FROM gold_restatements") == [{"n": cell["rows"]}]
    own = report["rows_changed"] - cell["rows"]
    assert world.query("SELECT COUNT(*) AS n FROM bronze_prices") == [{"n": versions + cell["rows"] + own}]
    context = world.context()
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, ["AAPL"], WEEK[0], WEEK[5])
    [silver] = world.query("SELECT MAX(close_px) AS top FROM silver_prices")
    assert float(silver["top"]) == pytest.approx(max(rows["close"].to_pylist()), abs=1e-6)


@pytest.mark.parametrize(("dag_id", "grain"), tiers(GRAINS, *EACH_SHAPE))
def test_equal_values_write_nothing(scene, dag_id, grain):
    world = world_of(scene, dag_id, file_grain=grain)
    world.run(WEEK[:5], SYMBOLS[:1])
    before = files(world)
    _, report = night(world, symbols=SYMBOLS[:1])
    after = files(world)
    assert report["restated"] == []
    if grain != "year":
        assert {key for key in before if after[key] != before[key]} == set()
    assert world.query("SELECT COUNT(*) AS n FROM gold_restatements") == [{"n": 0}]
    assert not report["red"]


@pytest.mark.parametrize(
    ("dag_id", "stored", "nightly"),
    tiers(
        [(dag_id, *grains) for dag_id in ("polygon_ohlcv_1m", "fmp_ohlcv_1d") for grains in (("year", "day"), ("day", "year"))],
        ("polygon_ohlcv_1m", "year", "day"),
        ("fmp_ohlcv_1d", "day", "year"),
    ),
)
def test_values_in_files_of_the_other_grain_are_compared_there(scene, dag_id, stored, nightly):
    world = world_of(scene, dag_id)
    world.run(WEEK[:5], SYMBOLS[:1], world.context("range", file_grain=stored))
    before = files(world)
    _, report = night(world, symbols=SYMBOLS[:1], file_grain=nightly)
    assert report["restated"] == []
    assert report["rows_written"] == report["rows_changed"]  # only the new session
    scene.alter(RESTATED, "AAPL", multiply=1.25)
    _, report = night(world, WEEK[5], "again", SYMBOLS[:1], file_grain=nightly, recheck_sessions=3)
    assert [cell["session"] for cell in report["restated"]] == [RESTATED.isoformat()]
    assert {key for key in before if files(world)[key] != before[key]} == set()
    context = world.context()
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, ["AAPL"], WEEK[0], WEEK[5])
    [silver] = world.query("SELECT MAX(close_px) AS top FROM silver_prices")
    assert float(silver["top"]) == pytest.approx(max(rows["close"].to_pylist()), abs=1e-6)


def test_a_market_wide_endpoint_takes_one_call_more_per_session(scene):
    world = world_of(scene, "polygon_ohlcv_1d")
    world.run(WEEK[:5], SYMBOLS)
    for count in (0, 1, 2, 3):
        dry = world.context(f"dry {count}", run_type="scheduled", recheck_sessions=count)
        with world.hook() as hook:
            planned = pipeline.plan_run(dry, hook, Wanted(WEEK[5:]), SYMBOLS, world.now)
        assert planned.plan.calls == 1 + count


def test_more_calls_than_sessions_are_not_spent(scene):
    world = world_of(scene, "polygon_ohlcv_1m")  # a call per symbol
    world.run(WEEK, SYMBOLS)
    planned, report = night(world)  # its own session is covered: each symbol would be a call
    assert (planned.plan.calls, report) == (0, None)


@pytest.mark.parametrize(
    ("clear_number", "run_type", "params", "cells"),
    [
        (0, "scheduled", {}, 4),
        (0, "scheduled", {"recheck_sessions": 0}, 1),
        (0, "scheduled", {"recheck_sessions": 1}, 2),
        (0, "scheduled", {"force": True}, 1),
        (1, "scheduled", {}, 1),
        (0, "manual", {}, 1),
        (0, "backfill", {}, 1),
    ],
)
def test_only_a_scheduled_run_rechecks(scene, clear_number, run_type, params, cells):
    world = world_of(scene, "alpaca_ohlcv_1d")
    world.run(WEEK[:5], SYMBOLS[:1])
    planned, _ = world.run([WEEK[5]], SYMBOLS[:1], world.context("r", clear_number, run_type, **params))
    assert planned.plan.cells == cells


@pytest.mark.parametrize(
    ("dag_id", "params", "cells"),
    tiers(
        [
            (dag_id, *params)
            for dag_id in ("databento_ohlcv_1d", "databento_ohlcv_1m")
            for params in (({}, 1), ({"recheck_sessions": 2}, 3))
        ],
        ("databento_ohlcv_1d", {}, 1),
        ("databento_ohlcv_1m", {"recheck_sessions": 2}, 3),
    ),
)
def test_a_provider_that_charges_is_rechecked_only_where_somebody_chose_it(scene, dag_id, params, cells):
    world = world_of(scene, dag_id, **params)
    world.run(WEEK[:5], SYMBOLS[:1])
    planned, _ = night(world, symbols=SYMBOLS[:1])
    assert planned.plan.cells == cells


def test_cells_in_other_states_and_cells_that_are_missing_are_not_rechecked(scene):
    world = world_of(scene, "polygon_ohlcv_1d")
    scene.hide(WEEK[4], symbols=["KO"])
    world.run(WEEK[1:5], SYMBOLS)
    scene.restore()
    planned, _ = night(world, symbols=(*SYMBOLS, "GS"))
    assert planned.plan.cells == 5 + 3 * len(SYMBOLS) - 1  # KO is empty on one session; GS has no lookback
    assert planned.covered == 0


def test_the_gateway_serves_a_range_in_the_same_call(tmp_path):
    with SampleGateway(now=lambda: START) as gateway:
        scene = Scene(tmp_path, SimpleNamespace(url="http://127.0.0.1:9"), gateway)
        world = world_of(scene, "ib_ohlcv_1d")
        world.run(WEEK[:5], ("IBM",))
        planned, report = night(world, symbols=("IBM",))
    assert (planned.plan.cells, planned.plan.calls, report["restated"]) == (4, 1, [])


MINUTES = "polygon_ohlcv_1m"
LATER = sessions("2013-01-09", "2013-01-16")


def top(world):
    """Return the highest close in silver and in the lake."""
    context = world.context()
    rows = read_rows(world.lake, context.layout, context.dataset, context.source, MANY, WEEK[0], LATER[-1])
    [silver] = world.query("SELECT MAX(close_px) AS top FROM silver_prices")
    return float(silver["top"]), max(rows["close"].to_pylist())


def spoil(make_hook, session):
    """Return hooks whose responses have one impossible row: AAPL's first of ``session``."""

    def make():
        hook = make_hook()
        fetch = hook.fetch

        def fetch_spoilt(request):
            fetched = fetch(request)
            rows = fetched.table
            mine = pc.and_(pc.equal(rows["symbol"], "AAPL"), pc.equal(rows["session"], session)).to_pylist()
            high = [
                0.01 if at in [n for n, hit in enumerate(mine) if hit][:1] else x for at, x in enumerate(rows["high"].to_pylist())
            ]
            place = rows.schema.get_field_index("high")
            return replace(fetched, table=rows.set_column(place, rows.schema.field("high"), pa.array(high, pa.float64())))

        hook.fetch = fetch_spoilt
        return hook

    return make


@pytest.mark.parametrize(
    ("dag_id", "grain", "state"),
    tiers(
        [("polygon_ohlcv_1d", "day", state) for state in (State.REFUSED, State.QUARANTINED)]
        + [*product(("alpaca_ohlcv_1d", MINUTES), ("day", "year"), (State.REFUSED, State.QUARANTINED))],
        ("polygon_ohlcv_1d", "day", State.REFUSED),
        ("alpaca_ohlcv_1d", "year", State.QUARANTINED),
    ),
)
def test_a_rejected_recheck_keeps_the_loaded_value_and_is_repeated_until_it_is_right(scene, dag_id, grain, state):
    world = world_of(scene, dag_id, file_grain=grain)
    _, report = world.run(WEEK[2:5], MANY)
    assert report["red"] == []
    (good, _), make_hook = top(world), world.make_hook
    bad = WEEK[2]  # three sessions before the night's own: the next night is too late for a recheck
    if state is State.REFUSED:
        scene.alter(bad, multiply=10)
    else:
        world.make_hook = spoil(make_hook, bad)
    for number, session in enumerate(LATER[:2]):
        planned, report = night(world, session, f"night-{number}", MANY)
        assert planned.rejected == (number > 0) * (len(MANY) if state is State.REFUSED else 1)
        assert bool(report["red"]) is (state is State.REFUSED)
        text = " ".join([*report["red"], *report["warnings"]])
        assert bad.isoformat() in text
        assert "restated" not in text
        coverage = read_coverage(world.lake, world.feed.dataset, world.context().source)
        assert coverage.state("AAPL", bad) is state
        assert top(world)[0] == pytest.approx(good, rel=0.2)
        planned, report = world.run([bad], MANY, world.context(f"manual-{number}"))
        assert report is None
        assert bool(planned.standing["red"]) is (state is State.REFUSED)
        assert bad.isoformat() in " ".join([*planned.standing["red"], *planned.standing["warnings"]])
    scene.restore()
    world.make_hook = make_hook
    _, report = night(world, LATER[2], "mended", MANY)
    assert report["red"] == []
    coverage = read_coverage(world.lake, world.feed.dataset, world.context().source)
    assert {coverage.state(symbol, session) for symbol in MANY for session in (*WEEK[2:5], *LATER[:3])} == {State.HAVE}
    silver, lake = top(world)
    assert silver == pytest.approx(lake, abs=1e-6)
    planned, report = world.run([bad], MANY, world.context("manual"))
    assert (report, planned.standing["red"]) == (None, [])
