"""Staging is the to-do list of the warehouse: whatever kills a run, the next one loads what it left."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from market_data import pipeline
from market_data.core.errors import DataError, WarehouseError
from market_data.core.outcome import State
from market_data.lake import ledger, staging
from market_data.lake.layout import Layout
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from market_data.pipeline.run_sessions import Wanted
from market_data.warehouse.base import Warehouse
from tests.lake.test_staging import without_footer
from tests.pipeline import test_runs
from tests.pipeline.runs import NOW
from tests.pipeline.test_runs import WEEK, World, api, server  # noqa: F401  fixtures

SYMBOLS = ("AAPL", "IBM", "MSFT")
DAYS = WEEK[:2]
MANY = test_runs.SYMBOLS


@pytest.fixture
def world(api, tmp_path):  # noqa: F811
    return Few(api, tmp_path)


class Few(World):
    """Runs of three symbols and two sessions: two requests in one batch."""

    def run(self, context=None, sessions=DAYS, symbols=SYMBOLS, lookback=()):
        return super().run(context, sessions, symbols, lookback)

    def fetch_only(self, context, sessions=DAYS):
        """Plan and fetch, and nothing downstream: as a clear of ``fetch`` without downstream does."""
        self.now += timedelta(hours=1)
        with self.hook() as hook:
            planned = pipeline.plan_run(context, hook, Wanted(sessions), SYMBOLS, self.now)
            return planned, [pipeline.fetch_batch(context, hook, batch, lambda: self.now) for batch in planned.plan.batches]

    def staged(self):
        return [item.key for item in staging.waiting(self.lake, "ohlcv-1d", "polygon")]

    def agree(self, symbols=SYMBOLS, sessions=DAYS):
        """Assert that every cell is ``have`` and silver has what the lake has; nothing waits in staging."""
        coverage = read_coverage(self.lake, "ohlcv-1d", "polygon")
        assert {coverage.state(symbol, session) for symbol in symbols for session in sessions} == {State.HAVE}
        rows = read_rows(self.lake, Layout(), self.context().dataset, "polygon", symbols, sessions[0], sessions[-1] + timedelta(1))
        lake = {(r["symbol"], r["session"]): r["close"] for r in rows.to_pylist()}
        found = self.query("SELECT symbol, CAST(bar_time AS DATE) AS session, close_px FROM silver_prices")
        assert {(r["symbol"], r["session"]): float(r["close_px"]) for r in found} == lake
        assert len(lake) == len(symbols) * len(sessions)
        assert self.staged() == []


class Killed(BaseException):
    """The process ends here."""


def kill_after(monkeypatch, owner, name, wanted=lambda *args: True):
    """Let the first call of ``owner.name`` for which ``wanted`` holds do its work, and end the process after it."""
    original, done = getattr(owner, name), []

    def killing(*args, **kwargs):
        result = original(*args, **kwargs)
        if not done and wanted(*args):
            done.append(True)
            raise Killed
        return result

    monkeypatch.setattr(owner, name, killing)
    return done


def is_below(folder):
    return lambda key, *_, **__: key.startswith(f"{folder}/")


STEPS = {
    # step: how it is killed, and how many calls the next run makes more than an undisturbed one
    "raw put": (lambda world: (world.lake, "put_new", is_below("raw")), 1),
    "staging put": (lambda world: (world.lake, "put_new", is_below("staging")), 0),
    "receipt put": (lambda world: (world.lake, "put_new", is_below("receipts")), 0),
    "check": (lambda world: (world.lake, "update", is_below("quality")), 0),
    "load commit": (lambda world: (Warehouse, "_load"), 0),
    "ledger write": (lambda world: (ledger, "write_cells"), 0),
    "staging delete": (lambda world: (world.lake, "delete"), 0),
    "report": (lambda world: (world.lake, "put_new", is_below("logs")), 0),
}


FAST = ("staging put", "ledger write")


@pytest.mark.parametrize("step", [step if step in FAST else pytest.param(step, marks=pytest.mark.slow) for step in STEPS])
def test_whatever_step_a_run_dies_after_the_next_run_completes_it(world, monkeypatch, step):
    how, more = STEPS[step]
    with monkeypatch.context() as patch:
        died = kill_after(patch, *how(world))
        with pytest.raises(Killed):
            world.run()
        assert died
    _, report = world.run(world.context("r2"))
    if report is not None:
        assert report["red"] == []
    world.agree()
    assert len(world.api.calls) == len(DAYS) + more
    planned, report = world.run(world.context("r3"))
    assert (planned.plan.batches, report) == ((), None)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["raw put", "staging put", "receipt put"])
def test_a_retry_of_a_killed_fetch_loads_everything_once(world, monkeypatch, step):
    context = world.context()
    with monkeypatch.context() as patch:
        kill_after(patch, *STEPS[step][0](world))
        with pytest.raises(Killed):
            world.fetch_only(context)
    _, report = world.run(context)
    assert report["red"] == []
    world.agree()
    assert world.query("SELECT COUNT(*) AS n FROM bronze_prices")[0]["n"] == len(SYMBOLS) * len(DAYS)


def test_a_fetch_cleared_without_downstream_is_loaded_by_the_next_run(world):
    world.run()
    world.api.alter("AAPL", DAYS[1], multiply=1.01)
    world.fetch_only(world.context(clear_number=1))
    assert len(world.staged()) == len(DAYS)
    calls = len(world.api.calls)
    planned, report = world.run(world.context("r2"))
    assert planned.plan.batches == ()
    assert len(world.api.calls) == calls
    assert (report["red"], report["rows_changed"]) == ([], 1)
    assert any("requests that r1 had left in staging" in words for words in report["warnings"])
    world.agree()


def test_a_check_before_the_first_load_compares_with_nothing_and_leaves_the_warehouse_to_the_load(world):
    Path(world.folder, "warehouse.duckdb").unlink()
    context = world.context()
    planned, receipts = world.fetch_only(context)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, list(planned.plan.batches), receipts, warehouse)
        assert (checked["statistics"]["rows"], checked["refused"]) == (len(SYMBOLS) * len(DAYS), [])
        assert not warehouse.exists()
        assert pipeline.load_run(context, checked, warehouse)["rows"] == len(SYMBOLS) * len(DAYS)
        assert warehouse.exists()


@pytest.mark.slow
def test_a_load_that_fails_for_good_is_red_and_left_to_the_next_run(world, monkeypatch):
    world.run()
    world.api.alter("IBM", DAYS[0], multiply=1.01)
    context = world.context("forced", force=True)
    planned, receipts = world.fetch_only(context)
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
    published = pipeline.publish_run(context, pipeline.RunResult(batches, receipts, {}, checked, None, planned.summary), NOW)
    assert "fetched rows were not loaded" in published["red"][0]
    assert len(world.staged()) == len(DAYS)
    _, report = world.run(world.context("r2"))
    assert report["red"] == []
    world.agree()


@pytest.mark.slow
@pytest.mark.parametrize("error", [DataError("x"), WarehouseError("x", retriable=False)], ids=["data", "warehouse"])
def test_leftovers_that_cannot_be_loaded_do_not_stop_tonights_rows_and_make_the_run_red(world, monkeypatch, error):
    world.fetch_only(world.context("old"))
    load = Warehouse.load

    def failing(warehouse, dataset, rows, *rest):
        if "IBM" in rows["symbol"].to_pylist():
            raise error
        return load(warehouse, dataset, rows, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "load", failing)
        _, report = world.run(world.context("tonight"), sessions=WEEK[2:3], symbols=("AAPL", "MSFT"))
    (red,) = report["red"]
    assert red.startswith(f"rows that old left in staging were not loaded: {type(error).__name__}")
    assert report["rows_loaded"] == 2
    assert len(world.staged()) == len(DAYS)
    _, report = world.run(world.context("r3"))
    assert report["red"] == []
    assert world.staged() == []
    assert world.query("SELECT COUNT(*) AS n FROM silver_prices")[0]["n"] == 2 + len(SYMBOLS) * len(DAYS)


def test_finished_requests_of_a_failed_batch_are_loaded_by_the_next_run_and_not_requested_again(world):
    world.api.fault("server_error", match=f"stocks/{DAYS[1]}", times=None)
    _, report = world.run()
    assert "failed" in report["red"][0]
    assert len(world.staged()) == 1
    world.api.faults.clear()
    world.api.log.clear()
    _, report = world.run(world.context("r2"))
    assert report["red"] == []
    assert [call.date for call in world.api.calls] == [DAYS[1].isoformat()]
    world.agree()


@pytest.mark.slow
def test_what_a_run_that_is_still_at_work_has_staged_is_left_to_it(world):
    context = world.context("other")
    planned, receipts = world.fetch_only(context)
    mine = replace(world.context("mine"), is_running=lambda run: run.run_id == "other")
    assert not pipeline.has_leftovers(mine, ())
    _, report = world.run(mine, sessions=WEEK[2:3])
    assert report["red"] == []
    assert len(world.staged()) == len(DAYS)
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    assert (
        pipeline.publish_run(context, pipeline.RunResult(batches, receipts, {}, checked, loaded, planned.summary), NOW)["red"] == []
    )
    assert world.staged() == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_active_run_with_newer_values_of_covered_cells_is_named(world, dry_run):
    world.run()
    world.api.alter("AAPL", DAYS[1], multiply=1.01)
    world.fetch_only(world.context("forced", force=True))
    mine = replace(world.context("mine", dry_run=dry_run), is_running=lambda run: run.run_id == "forced")
    with world.hook() as hook:
        planned = pipeline.plan_run(mine, hook, Wanted(DAYS), SYMBOLS, world.now)
    assert planned.plan.batches == ()
    count = len(DAYS) * len(SYMBOLS)
    assert planned.note == (
        f"Nothing to do: all {count} cells are covered. Fetched by active runs, which load them: forced ({count} cells)"
    )


def test_two_runs_that_load_the_same_staging_objects_do_no_harm(world):
    """Another run takes up what this one staged, between its check and its load."""
    context = world.context()
    planned, receipts = world.fetch_only(context)
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
    _, report = world.run(world.context("other"))
    assert report["red"] == []
    with world.warehouse() as warehouse:
        loaded = pipeline.load_run(context, checked, warehouse)
    assert loaded["rows"] == len(SYMBOLS) * len(DAYS)
    assert loaded["changed"] == 0
    result = pipeline.RunResult(batches, receipts, {}, checked, loaded, planned.summary)
    assert pipeline.publish_run(context, result, world.now)["red"] == []
    world.agree()


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["staged", "written"])
def test_what_another_run_fetches_after_the_check_and_leaves_is_red_and_its_symbols_are_not_successful(world, monkeypatch, killed):
    """Campaign 5034. The other run has ended, before its rows were loaded, or even before they were staged."""
    context = world.context()
    planned, receipts = world.fetch_only(context)
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    world.api.alter("AAPL", DAYS[0], multiply=1.01)
    with monkeypatch.context() as patch:
        if killed:
            kill_after(patch, world.lake, "update", is_below("raw"))
        with pytest.raises(Killed) if killed else nullcontext():
            world.fetch_only(world.context("other", force=True))
    published = pipeline.publish_run(context, pipeline.RunResult(batches, receipts, {}, checked, loaded, planned.summary), NOW)
    words = (
        "1 requests of other were interrupted while their rows were written to the lake; the feed's next run loads these rows"
        if killed
        else f"{len(DAYS)} requests of other wait in staging and were not loaded; the feed's next run loads them"
    )
    assert published["red"] == [words]
    report = json.loads(world.lake.get(published["report"]).body)
    assert (report["successful_tickers"], report["not_loaded"]) == (0, list(SYMBOLS))
    assert world.run(world.context("next"))[1]["red"] == []
    world.agree()


def test_what_another_run_leaves_of_other_sessions_leaves_the_symbols_of_a_run_successful(world):
    context = world.context(force=True)
    world.run(sessions=WEEK[2:3])
    planned, receipts = world.fetch_only(context)
    batches = list(planned.plan.batches)
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    world.fetch_only(world.context("other", force=True), WEEK[2:3])
    published = pipeline.publish_run(context, pipeline.RunResult(batches, receipts, {}, checked, loaded, planned.summary), NOW)
    assert published["red"] == ["1 requests of other wait in staging and were not loaded; the feed's next run loads them"]
    report = json.loads(world.lake.get(published["report"]).body)
    assert (report["successful_tickers_list"], report["not_loaded"]) == (list(SYMBOLS), [])


@pytest.mark.slow
def test_a_refused_leftover_is_recorded_deleted_and_named(world):
    world.run(sessions=WEEK, symbols=MANY)
    world.api.alter(None, WEEK[4], multiply=10)
    context = world.context("forced", force=True)
    with world.hook() as hook:
        batches = pipeline.plan_run(context, hook, Wanted(WEEK), MANY, world.now).plan.batches
        for batch in batches:
            pipeline.fetch_batch(context, hook, batch, lambda: world.now)
    _, report = world.run(world.context("r2"), sessions=WEEK, symbols=MANY)
    assert [red.partition(" was refused")[0] for red in report["red"]] == [f"session {WEEK[4]}, left in staging by forced,"]
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert {coverage.state(symbol, WEEK[4]) for symbol in MANY} == {State.REFUSED}
    assert {coverage.state(symbol, WEEK[3]) for symbol in MANY} == {State.HAVE}
    assert world.staged() == []


@pytest.mark.slow
def test_an_older_leftover_changes_no_newer_record(world):
    """The first response lacks a bar that a later run has loaded."""
    world.api.hide(DAYS[1], symbols=["IBM"])
    world.fetch_only(world.context("old"))
    kept = {key: world.lake.get(key).body for key in world.staged()}
    world.api.edits.clear_hidden()
    _, report = world.run(world.context("new", force=True))
    assert report["red"] == []
    for key, body in kept.items():  # as if only now somebody found them
        world.lake.put_new(key, body)
    _, report = world.run(world.context("r3"))
    assert report["red"] == []
    world.agree()


def test_an_unreadable_staging_object_is_named_and_blocks_nothing_else(world):
    world.fetch_only(world.context("old"))
    broken = world.staged()[0].rpartition("-")[0] + f"-{16 * 'f'}.parquet"
    world.lake.put_new(broken, b"no Parquet")
    _, report = world.run(world.context("r2"))
    assert len(report["red"]) == 1
    assert f"staging object cannot be read: {broken}" in report["red"][0]
    assert world.staged() == [broken]
    world.lake.delete(broken)
    world.agree()


def test_a_clear_from_check_on_with_an_empty_warehouse_loads_the_same_rows_from_the_lake(world):
    world.run()
    columns = "symbol, bar_time, open_px, high_px, low_px, close_px, volume, ingest_ts"
    select = f"SELECT {columns} FROM silver_prices ORDER BY symbol, bar_time"
    before, calls = world.query(select), len(world.api.calls)
    for path in world.folder.glob("warehouse.duckdb*"):
        path.unlink()
    context = world.context(clear_number=1)
    receipts = world.receipts
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, world.batches, receipts, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
    published = pipeline.publish_run(context, pipeline.RunResult(world.batches, receipts, {}, checked, loaded, {}), world.now)
    assert published["red"] == []
    assert world.query(select) == before
    assert len(world.api.calls) == calls
    world.agree()


def test_the_receipts_hold_no_rows_and_staging_is_empty_after_a_run(world):
    world.run()
    assert world.staged() == []
    keys = [key for key, _ in world.lake.list("receipts")]
    assert len(keys) == len(DAYS)
    from market_data.lake import parquet, receipts

    for key in keys:
        assert parquet.decode(world.lake.get(key).body, key).column_names == receipts.OBJECTS.names
        stored = receipts.read_one(world.lake, key)
        assert len(stored.objects) == len(SYMBOLS)
        assert all(world.lake.get(name) is not None for name in stored.objects["key"].to_pylist())


@pytest.mark.parametrize(("grain", "endpoint", "requests"), [("year", "range", 3), ("session", "grouped", 1)])
def test_rows_that_are_all_of_one_new_object_are_encoded_once(world, monkeypatch, grain, endpoint, requests):
    """What is staged begins with the bytes of the lake object; the second run finds the rows in the lake and stages them by itself.

    The lake objects are compressed as large ones, so that the bytes differ then.
    """
    monkeypatch.setattr("market_data.lake.object_writer.SMALL", 0)
    for run_id, reused in (("r1", True), ("r2", False)):
        context = world.context(run_id, file_grain=grain, endpoint=endpoint, force=not reused)
        world.fetch_only(context, DAYS[:1])
        beginnings = [without_footer(world.lake.get(key).body) for key, _ in world.lake.list("raw")]
        staged = [world.lake.get(key).body for key in world.staged() if context.run.key in key]
        assert [any(map(body.startswith, beginnings)) for body in staged] == requests * [reused]


@pytest.mark.slow
def test_an_object_hash_in_a_receipt_is_that_of_the_lake_object(world):
    import hashlib

    from market_data.lake import receipts

    world.run()
    world.run(world.context("r2", force=True))
    for key, _ in world.lake.list("receipts"):
        for row in receipts.read_one(world.lake, key).objects.to_pylist():
            assert row["sha256"] == hashlib.sha256(world.lake.get(row["key"]).body).hexdigest()[:16]
            assert row["rows"] == 1


def test_a_damaged_leftover_is_red_and_kept_and_does_not_stop_the_run(world):
    """Its footer is fine: the object is known, its rows are not."""
    world.fetch_only(world.context("r1"))
    key = world.staged()[0]
    body = world.lake.get(key).body
    footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    world.lake.update(key, lambda _: body[:4] + bytes(footer - 4) + body[footer:])
    for name in ("r2", "r3"):
        _, report = world.run(world.context(name))
        assert any(key in reason and "cannot be read" in reason for reason in report["red"])
        assert world.staged() == [key, *world.staged()[1:]]


def test_an_unreadable_mark_is_named_and_does_not_stop_the_run(world):
    mark = "staging/ohlcv-1d/provider=polygon/run=gone/0123456789abcdef/0123456789abcdef.begun.json"
    world.lake.put_new(mark, b"")
    _, report = world.run(world.context("r1"))
    assert report["rows_loaded"] == len(SYMBOLS) * len(DAYS)
    assert any(mark in reason and "cannot be read" in reason for reason in report["red"])
    world.lake.delete(mark)
    assert world.run(world.context("r2", force=True))[1]["red"] == []
