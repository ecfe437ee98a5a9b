"""A run without Airflow, everything else real: HTTP server, lake in files, Great Expectations, DuckDB."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest

from market_data import pipeline
from market_data.config.universes import members
from market_data.core import calendar
from market_data.core.errors import SchemaDrift, ServerError
from market_data.core.outcome import State
from market_data.lake.failures import Event, Failures, Kind, failed_batches
from market_data.lake.ledger import read_coverage
from market_data.lake.reader import read_rows
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.base import ProviderConfig
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from tests.pipeline import runs
from tests.pipeline.runs import NOW

FAST = {"plan": "sample", "calls_per_minute_per_slot": 60_000, "limits": [{"calls": 2, "seconds": 0.001}]}
FIRST, LAST = date(2013, 1, 2), date(2013, 1, 9)
WEEK = calendar.sessions(FIRST, LAST + timedelta(days=1))
SYMBOLS = members("sp500_etf")[:60]


@pytest.fixture(scope="module")
def server():
    with SampleApi() as api:
        yield api


@pytest.fixture
def api(server):
    server.faults.clear()
    server.edits.clear_changes()
    server.edits.clear_hidden()
    server.log.clear()
    return server


class World(runs.World):
    """Runs of Polygon's daily feed."""

    def __init__(self, api, folder):
        super().__init__(runs.feed_of("polygon_ohlcv_1d"), folder, self.polygon)
        self.api = api

    def polygon(self):
        hook = PolygonHook(config=ProviderConfig("polygon_default", self.api.url, password="sample", extra=FAST))
        hook.connect()
        hook._transport.sleep = lambda seconds: None
        return hook

    def run(self, context=None, sessions=WEEK, symbols=SYMBOLS, lookback=()):
        return super().run(sessions, symbols, context, lookback)


@pytest.fixture
def world(api, tmp_path):
    return World(api, tmp_path)


def test_everything_asked_is_landed_checked_loaded_and_recorded(world):
    planned, report = world.run()
    assert planned.plan.calls == len(world.api.calls) == len(WEEK)
    assert report["red"] == []
    assert report["rows_landed"] == report["rows_loaded"] == report["rows_changed"] == len(WEEK) * len(SYMBOLS)
    assert report["new_sessions"] == [s.isoformat() for s in WEEK]
    assert report["api_calls"] == len(WEEK)
    assert report["rows_written"] == report["files_written"] == len(WEEK) * len(SYMBOLS)
    assert report["successful_tickers"] == report["total_tickers"] == len(SYMBOLS)
    assert {r["files_written"] for r in report["results"]} == {len(WEEK)}
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert Counter(coverage.table["state"].to_pylist()) == {"have": len(WEEK) * len(SYMBOLS)}
    files = [key for key, _ in world.lake.list("raw")]
    assert "raw/prices/provider=polygon/symbol=AAPL/year=2013/month=01/AAPL-2013-01-02.parquet" in files
    assert len(files) == len(WEEK) * len(SYMBOLS)
    (apple,) = world.query("SELECT close_px FROM silver_prices WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '2013-01-02'")
    assert float(apple["close_px"]) == 549.03
    assert world.lake.get(report["key"].removesuffix("json") + "flag") is not None


def test_running_again_asks_nothing_and_writes_nothing(world):
    world.run()
    before = world.objects()
    world.api.log.clear()
    planned, report = world.run(world.context("r2"))
    assert planned.plan.batches == ()
    assert planned.covered == len(WEEK) * len(SYMBOLS)
    assert report is None
    assert world.api.calls == []
    assert world.objects() == before


@pytest.mark.slow
def test_only_holes_are_asked(world):
    world.run(sessions=WEEK[:2])
    world.run(world.context("r2"), sessions=WEEK[2:4], symbols=SYMBOLS[:1])
    world.api.log.clear()
    planned, _ = world.run(world.context("r3"))
    assert planned.plan.cells == len(WEEK) * len(SYMBOLS) - 2 * len(SYMBOLS) - 2
    assert [call.date for call in world.api.calls] == [s.isoformat() for s in WEEK[2:]]


@pytest.mark.slow
def test_a_cleared_run_brings_the_corrected_value_and_leaves_equal_ones_alone(world):
    world.run()
    prices = {k: v for k, v in world.objects().items() if k.startswith("raw/")}
    world.api.alter("AAPL", WEEK[1], multiply=1.01)
    world.api.log.clear()
    planned, report = world.run(world.context(clear_number=1))
    assert planned.plan.calls == len(world.api.calls) == len(WEEK)
    assert (report["rows_written"], report["rows_changed"], report["files_unchanged"]) == (1, 1, len(WEEK) * len(SYMBOLS) - 1)
    assert report["sessions_loaded"] == [s.isoformat() for s in WEEK]
    assert report["new_sessions"] == [WEEK[1].isoformat()]
    after = {k: v for k, v in world.objects().items() if k.startswith("raw/")}
    assert [k for k in prices if prices[k] != after[k]] == [
        f"raw/prices/provider=polygon/symbol=AAPL/year=2013/month=01/AAPL-{WEEK[1]}.parquet"
    ]
    where = f"WHERE symbol = 'AAPL' AND bar_time = TIMESTAMP '{WEEK[1]}'"
    versions = [float(r["close_px"]) for r in world.query(f"SELECT close_px FROM bronze_prices {where} ORDER BY ingest_ts")]
    (current,) = world.query(f"SELECT close_px FROM silver_prices {where}")
    assert len(versions) == 2
    assert float(current["close_px"]) == versions[1] != versions[0]
    assert world.query("SELECT COUNT(*) AS n FROM silver_prices")[0]["n"] == len(WEEK) * len(SYMBOLS)


@pytest.mark.parametrize("grain", ["day", "year"])
def test_of_a_response_of_many_sessions_only_those_with_new_values_are_announced(world, grain):
    terms = {"endpoint": "range", "file_grain": grain}
    _, report = world.run(world.context(**terms), symbols=SYMBOLS[:2])
    assert report["new_sessions"] == [s.isoformat() for s in WEEK]
    world.api.alter(SYMBOLS[0], WEEK[1], multiply=1.01)
    _, report = world.run(world.context("r2", force=True, **terms), symbols=SYMBOLS[:2])
    assert report["rows_changed"] == 1
    assert report["new_sessions"] == [WEEK[1].isoformat()]


def test_force_asks_the_runs_own_sessions_and_no_lookback_again(world):
    world.run()
    world.api.log.clear()
    planned, report = world.run(world.context("r2", force=True), sessions=WEEK[4:], lookback=WEEK[:4])
    assert report["new_sessions"] == []  # equal values: no downstream DAG runs again
    assert [call.date for call in world.api.calls] == [WEEK[4].isoformat(), WEEK[5].isoformat()]
    assert planned.plan.cells == 2 * len(SYMBOLS)


def test_doubtful_sessions_are_refused_and_the_rest_is_loaded(world):
    world.api.hide(WEEK[2], fraction=0.4)
    world.api.alter(None, WEEK[4], multiply=10)
    _, report = world.run()
    assert [verdict["partition"] for verdict in report["refused"]] == [WEEK[2].isoformat(), WEEK[4].isoformat()]
    assert len(report["red"]) == 2
    assert "row count" in report["red"][0]
    assert "price" in report["red"][1] or "jump" in report["red"][1]
    loaded = {r["d"] for r in world.query("SELECT DISTINCT CAST(bar_time AS DATE) AS d FROM silver_prices")}
    assert loaded == set(WEEK) - {WEEK[2], WEEK[4]}
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert {coverage.state(s, WEEK[2]) for s in SYMBOLS} == {State.REFUSED}
    assert {coverage.state(s, WEEK[3]) for s in SYMBOLS} == {State.HAVE}
    assert world.lake.get(report["key"].removesuffix("json") + "flag") is None


@pytest.mark.slow
def test_refused_sessions_are_loaded_once_they_are_right_and_cleared(world):
    world.api.alter(None, WEEK[4], multiply=10)
    world.run()
    world.api.edits.clear_changes()
    _, report = world.run(world.context(clear_number=1))
    assert report["red"] == []
    assert world.query("SELECT COUNT(*) AS n FROM silver_prices")[0]["n"] == len(WEEK) * len(SYMBOLS)
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", WEEK[4]) is State.HAVE


def test_bad_rows_are_set_aside_with_their_reasons_and_the_others_land(world):
    world.api.alter("AAPL", WEEK[0], open=None)
    world.api.alter("ADBE", WEEK[0], high=1.0)
    _, report = world.run()
    assert report["rows_quarantined"] == 2
    assert report["rows_loaded"] == len(WEEK) * len(SYMBOLS) - 2
    assert report["red"] == []
    assert "2 rows were quarantined" in report["warnings"][0]
    from market_data.lake import parquet

    (key,) = [key for key, _ in world.lake.list("quarantine")]
    assert key.startswith(f"quarantine/ohlcv-1d/provider=polygon/date={WEEK[0]}/b000-")
    rows = {row["symbol"]: row for row in parquet.decode(world.lake.get(key).body, key).to_pylist()}
    assert set(rows) == {"AAPL", "ADBE"}
    assert "open" in rows["AAPL"]["reasons"]
    assert "high" in rows["ADBE"]["reasons"]
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", WEEK[0]) is State.QUARANTINED


def test_a_failed_batch_is_named_and_repaired_alone(world):
    world.api.fault("server_error", match=f"stocks/{WEEK[2]}", times=None)
    context = world.context()
    _, report = world.run(context)
    assert report["batch_results"][1]["state"] == "failed"
    assert len(report["red"]) == 2
    assert "Internal Server Error" in report["red"][0]
    assert "33.3% of the planned cells are missing" in report["red"][1]
    assert {f["symbol"] for f in report["failures"]} == set(SYMBOLS)
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert coverage.state("AAPL", WEEK[2]) is None
    assert coverage.state("AAPL", WEEK[0]) is State.HAVE
    assert any(f"AAPL-{WEEK[3]}" in key for key, _ in world.lake.list("raw"))  # landed, and loaded by the next run
    world.api.faults.clear()
    world.api.log.clear()
    _, report = world.run(world.context("r2"))
    assert report["red"] == []
    assert [call.date for call in world.api.calls] == [WEEK[2].isoformat()]  # the batch's other session had landed


def test_a_session_of_another_form_fails_alone(world):
    world.api.fault("drifted", match=f"stocks/{WEEK[2]}", times=None)
    _, report = world.run()
    assert [batch["state"] for batch in report["batch_results"]] == ["success"] * 3
    assert list(report["batch_results"][1]["failed_sessions"]) == [WEEK[2].isoformat()]
    assert any(f"{WEEK[2]} failed: polygon: grouped" in sentence for sentence in report["red"])
    assert report["rows_loaded"] == (len(WEEK) - 1) * len(SYMBOLS)
    assert {failure["symbol"] for failure in report["failures"]} == set(SYMBOLS)
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert [coverage.state("AAPL", session) for session in WEEK] == [None if day == WEEK[2] else State.HAVE for day in WEEK]


def test_a_row_of_another_day_loses_nothing_and_is_reported(world):
    world.api.fault("out_of_range", match=f"stocks/{WEEK[2]}", times=None)
    _, report = world.run()
    assert report["red"] == []
    assert report["rows_left_aside"] == 1
    assert sum(batch["rows_left_aside"] for batch in report["batch_results"]) == 1
    assert "1 row that was not requested came and is left aside: " in " ".join(report["warnings"])
    assert report["rows_loaded"] == len(WEEK) * len(SYMBOLS)


def test_a_later_try_of_the_same_attempt_repeats_no_finished_call(world):
    context = world.context()
    with world.hook() as hook:
        (batch, *_) = pipeline.plan_run(context, hook, Wanted(WEEK), SYMBOLS, NOW).plan.batches
        world.api.fault("server_error", match=f"stocks/{WEEK[1]}", times=None)
        with pytest.raises(ServerError):
            pipeline.fetch_batch(context, hook, batch, lambda: NOW)
        world.api.faults.clear()
        world.api.log.clear()
        receipt = pipeline.fetch_batch(context, hook, batch, lambda: NOW)
        assert [call.date for call in world.api.calls] == [WEEK[1].isoformat()]
        assert (receipt.requests_resumed, receipt.rows_landed) == (1, 2 * len(SYMBOLS))
        cleared = pipeline.fetch_batch(replace(context, run=replace(context.run, clear_number=1)), hook, batch, lambda: NOW)
        assert (cleared.requests_resumed, cleared.files_written) == (0, 0)


def test_what_the_provider_has_not_is_empty_with_a_reason_and_not_asked_again(world):
    symbols = (*SYMBOLS, "NOSUCH")
    _, report = world.run(symbols=symbols)
    assert report["warnings"] == ["no bars for NOSUCH: not listed in these sessions, or unknown to polygon"]
    assert report["red"] == []
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert coverage.state("NOSUCH", WEEK[0]) is State.EMPTY
    assert world.run(world.context("r2"), symbols=symbols)[0].plan.batches == ()


def test_a_young_empty_cell_is_pending_and_asked_again_by_scheduled_runs_only(world):
    world.now = calendar.session_close(WEEK[-1]) + timedelta(hours=3)
    symbols = (*SYMBOLS, "NOSUCH")
    world.run(symbols=symbols)
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("NOSUCH", WEEK[-1]) is State.PENDING
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("NOSUCH", WEEK[0]) is State.EMPTY
    assert world.run(world.context("r2"), symbols=symbols)[0].plan.cells == 0
    assert world.run(world.context("r3", run_type="scheduled"), symbols=symbols)[0].plan.cells == 3


@pytest.mark.slow
def test_one_symbol_over_a_long_range_is_one_call(world):
    sessions = calendar.sessions(date(2003, 1, 2), date(2013, 1, 2))
    planned, report = world.run(symbols=("IBM",), sessions=sessions)
    assert planned.plan.calls == len(world.api.calls) == 1
    assert report["rows_loaded"] == len(sessions)
    assert report["red"] == []


def test_a_refused_young_session_is_asked_again_by_the_next_scheduled_run(world):
    sessions = calendar.sessions(date(2012, 12, 27), date(2013, 1, 3))
    world.now = calendar.session_close(sessions[-2]) + timedelta(hours=4)
    world.run(sessions=sessions[:-1])
    world.now = calendar.session_close(sessions[-1]) + timedelta(hours=4)
    world.api.hide(sessions[-1], fraction=0.5)
    _, report = world.run(world.context("monday", run_type="scheduled"), sessions=sessions[-1:])
    assert "was refused" in report["red"][0]
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", sessions[-1]) is State.REFUSED
    world.api.edits.clear_hidden()
    _, report = world.run(world.context("tuesday", run_type="scheduled"), sessions=(), lookback=sessions)
    assert report["red"] == []
    assert report["rows_loaded"] == len(SYMBOLS)


def test_an_old_pending_cell_is_asked_by_every_run(world):
    world.now = calendar.session_close(WEEK[-1]) + timedelta(hours=3)
    symbols = (*SYMBOLS, "NOSUCH")
    world.run(symbols=symbols)
    world.now = NOW
    assert world.run(world.context("r2"), symbols=symbols)[0].plan.cells == 3


@pytest.mark.slow
def test_what_was_loaded_by_an_earlier_attempt_does_not_count_for_this_one(world):
    context = world.context()
    with world.hook() as hook:
        planned = pipeline.plan_run(context, hook, Wanted(WEEK), SYMBOLS, NOW)
        batches = list(planned.plan.batches)
        old = [pipeline.fetch_batch(context, hook, batch, lambda: NOW) for batch in batches]
        again = replace(context, run=replace(context.run, clear_number=1))
        new = [*old[:2], pipeline.fetch_batch(again, hook, batches[2], lambda: NOW)]
    with world.warehouse() as warehouse:
        checked = pipeline.check_run(context, batches, old, warehouse)
        loaded = pipeline.load_run(context, checked, warehouse)
        checked_again = pipeline.check_run(again, batches, new, warehouse)
    for stale in ((None, loaded), (checked, loaded), (checked_again, loaded)):
        published = pipeline.publish_run(again, pipeline.RunResult(batches, new, {}, *stale, planned.summary), NOW)
        assert "fetched rows were not loaded" in published["red"][0]
        assert len(read_coverage(world.lake, "ohlcv-1d", "polygon")) == 0


@pytest.mark.slow
def test_a_symbol_that_is_refused_an_answer_is_named_and_the_others_are_loaded(world):
    world.api.fault("server_error", match="ABT/range", times=None, status=404)
    _, report = world.run(world.context(endpoint="range"))
    assert report["failed_tickers_list"] == ["ABT"]
    assert "ABT failed: " in report["red"][0]
    assert report["rows_loaded"] == len(WEEK) * (len(SYMBOLS) - 1)
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("ABT", WEEK[0]) is None


@pytest.mark.slow
def test_a_symbol_with_an_answer_of_another_form_is_named_and_the_others_are_loaded(world):
    world.api.fault("drifted", match="ABT/range", times=None)
    _, report = world.run(world.context(endpoint="range"))
    assert report["failed_tickers_list"] == ["ABT"]
    assert "ABT failed: " in report["red"][0]
    assert report["rows_loaded"] == len(WEEK) * (len(SYMBOLS) - 1)


@pytest.mark.slow
def test_what_could_not_be_served_is_named_by_its_dates_and_not_by_what_lies_between(world):
    world.feed = replace(world.feed, fallback="alpaca")
    world.run(sessions=WEEK[1:4])
    world.api.fault("server_error", times=None)
    for run, endpoint in (("r2", "auto"), ("r3", "range")):
        _, report = world.run(world.context(run, max_retries=0, endpoint=endpoint))
        spans = [(date.fromisoformat(each["start_date"]), date.fromisoformat(each["end_date"])) for each in report["unserved"]]
        asked = {session for first, last in spans for session in calendar.sessions(first, last + timedelta(1))}
        assert asked == {WEEK[0], *WEEK[4:]}


@pytest.mark.slow
def test_answers_of_another_form_one_after_another_end_the_batch(world):
    world.api.fault("drifted", match="/range/", times=None)
    with pytest.raises(SchemaDrift):
        world.run(world.context(endpoint="range"))
    assert len(world.api.calls) == 2


TODAY = date(2026, 11, 19)  # at NOW


def test_a_session_the_plan_does_not_have_yet_is_pending(world):
    world.api.fault("server_error", match="grouped", times=None, status=403)
    _, report = world.run(sessions=(TODAY,))
    assert report["red"] == []
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", TODAY) is State.PENDING
    world.api.faults.clear()
    _, report = world.run(world.context("next", run_type="scheduled"), sessions=(), lookback=(TODAY,))
    assert report["rows_loaded"] == len(SYMBOLS)


@pytest.mark.slow
def test_a_bar_that_the_provider_no_longer_has_stays_and_is_named(world):
    world.run()
    world.api.hide(WEEK[3], symbols=["AAPL"])
    _, report = world.run(world.context(clear_number=1))
    assert report["warnings"] == [f"polygon no longer has AAPL {WEEK[3]}; the stored bars are kept"]
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", WEEK[3]) is State.HAVE


def test_an_answer_without_proof_that_it_is_whole_does_not_land(world, monkeypatch):
    from market_data.core.errors import TruncatedResponse
    from market_data.providers.base import Fetched

    whole = PolygonHook.fetch

    def short(hook, request):
        fetched = whole(hook, request)
        return Fetched(fetched.table, replace(fetched.evidence, rows_declared=fetched.evidence.rows_received + 1))

    monkeypatch.setattr(PolygonHook, "fetch", short)
    with pytest.raises(TruncatedResponse, match="does not prove a complete response"):
        world.run()
    assert list(world.lake.list("raw")) == []


@pytest.mark.slow
def test_after_batches_that_fail_one_after_another_nothing_more_is_asked(world):
    world.api.fault("server_error", times=None)
    context = world.context(endpoint="range", batch_size=10, circuit_breaker=2, max_retries=0)
    _, report = world.run(context)
    assert {call.ticker for call in world.api.calls} == {*SYMBOLS[:2], *SYMBOLS[10:12]}
    assert report["api_calls"] == len(world.api.calls) == 20
    assert report["retries"] == 16
    assert len(report["failed_tickers_list"]) == len(SYMBOLS)
    assert sum("2 batches failed in a row: no more requests before" in why for why in report["red"]) == 4
    assert [event["kind"] for event in report["events"]] == ["single", "failed"] * 2
    world.api.faults.clear()
    _, report = world.run(world.context(clear_number=1, endpoint="range", batch_size=10, circuit_breaker=2))
    assert report["red"] == []


@pytest.mark.slow
def test_the_breaker_counts_only_what_fails_in_a_row(world):
    for symbol in (SYMBOLS[3], SYMBOLS[13], SYMBOLS[23]):
        world.api.fault("server_error", match=f"ticker/{symbol}/", times=None)
    _, report = world.run(world.context(endpoint="range", batch_size=10, circuit_breaker=2, max_retries=0))
    assert report["api_calls"] == len(world.api.calls) == len(SYMBOLS) + 3 * 4
    assert [b["unanswered"] for b in report["batch_results"][:3]] == [[SYMBOLS[3]], [SYMBOLS[13]], [SYMBOLS[23]]]
    assert len(report["failed_tickers_list"]) == 30
    assert report["rows_loaded"] == len(WEEK) * (len(SYMBOLS) - 30)
    assert [event["kind"] for event in report["events"]] == ["single", "failed", "recovered"] * 3


def test_a_day_without_a_session_does_nothing_and_says_why(world):
    with world.hook() as hook:
        wanted = Wanted((), dates=(date(2013, 1, 1), date(2013, 1, 1)))
        planned = pipeline.plan_run(world.context(), hook, wanted, SYMBOLS, NOW)
    assert planned.plan.batches == ()
    assert planned.explain() == planned.summary["note"] == "Nothing to do: no session on 2013-01-01 (New Year's Day)"


def test_a_batch_in_trouble_still_brings_its_other_symbols_and_a_later_try_asks_only_what_is_left(world):
    context = world.context(endpoint="range")
    world.api.fault("server_error", match=f"ticker/{SYMBOLS[2]}/", times=5)
    with world.hook() as hook:
        (batch, *_) = pipeline.plan_run(context, hook, Wanted(WEEK), SYMBOLS[:8], NOW).plan.batches
        with pytest.raises(ServerError):
            pipeline.fetch_batch(context, hook, batch, lambda: NOW)
        world.api.log.clear()
        receipt = pipeline.fetch_batch(context, hook, batch, lambda: NOW, attempt=2)
    assert [call.ticker for call in world.api.calls] == [SYMBOLS[2]]
    assert (receipt.requests_resumed, receipt.rows_landed) == (7, 8 * len(WEEK))


def test_requests_that_go_well_keep_the_breaker_closed_whichever_batch_makes_them(world):
    context = world.context(endpoint="range", batch_size=30, circuit_breaker=2)
    failures = Failures.of(world.lake, "ohlcv-1d", "polygon", context.run)

    def now():
        # between two requests of this batch, two others fail
        for n in (7, 8):
            failures.record(Event(Kind.FAILED, f"b{n:03d}", NOW))
        return NOW

    with world.hook() as hook:
        (batch, *_) = pipeline.plan_run(context, hook, Wanted(WEEK), SYMBOLS[:3], NOW).plan.batches
        pipeline.fetch_batch(replace(context, params=replace(context.params, circuit_breaker=9)), hook, batch, now)
    assert len(failures.read()) > 6
    assert failed_batches(failures.read()) == frozenset()


@pytest.mark.parametrize("status", [401, 404])
def test_what_spoils_every_batch_is_not_asked_of_every_batch(world, status):
    world.api.fault("unauthorized" if status == 401 else "not_found", times=None)
    context = world.context(endpoint="range", batch_size=10, circuit_breaker=2)
    _, report = world.run(context)
    assert len(world.api.calls) == (2 if status == 401 else 10)
    assert len(report["failed_tickers_list"]) == len(SYMBOLS)


@pytest.mark.slow
def test_a_tolerated_share_of_unanswered_symbols_is_a_warning(world):
    world.api.fault("not_found", match="ABT/range", times=None)
    _, report = world.run(world.context(endpoint="range", max_missing_ratio=0.1))
    assert report["red"] == []
    assert "ABT failed: " in " ".join(report["warnings"])
    assert report["failed_tickers_list"] == ["ABT"]


@pytest.mark.slow
def test_symbols_without_an_answer_do_not_spoil_what_the_others_brought(world):
    for symbol in SYMBOLS[5:25:3]:
        world.api.fault("not_found", match=f"ticker/{symbol}/", times=None)
    _, report = world.run(world.context(endpoint="range"), sessions=WEEK[:1])
    assert report["rows_loaded"] == len(SYMBOLS) - 7
    assert report["refused"] == []


@pytest.mark.slow
def test_a_refetch_that_is_refused_leaves_a_young_session_to_be_asked_again(world):
    world.now = calendar.session_close(WEEK[-1]) + timedelta(hours=4)
    world.run()
    world.api.alter(None, WEEK[-1], multiply=10)
    _, report = world.run(world.context(clear_number=1), sessions=WEEK)
    assert f"session {WEEK[-1]} was refused" in report["red"][0]
    assert not any("no longer has" in warning for warning in report["warnings"])
    assert read_coverage(world.lake, "ohlcv-1d", "polygon").state("AAPL", WEEK[-1]) is State.REFUSED
    assert world.run(world.context("night", run_type="scheduled"), sessions=WEEK)[0].plan.cells == len(SYMBOLS)


@pytest.mark.slow
def test_a_run_with_nothing_to_do_tells_of_what_is_refused(world):
    world.api.hide(WEEK[3], fraction=0.5)
    _, report = world.run()
    assert "was refused" in report["red"][0]
    planned, _ = world.run(world.context("r2"))
    assert planned.plan.batches == ()
    said = f"{len(SYMBOLS)} refused among them; force (Fetch again) requests them"
    assert said in planned.note
    assert said in planned.explain()
    assert world.run(world.context("r3", force=True))[0].note == ""


@pytest.mark.slow
def test_what_the_checkpoint_warns_of_is_a_warning_of_the_run(world):
    world.run()
    world.api.alter(None, WEEK[3], multiply=1.3)
    _, report = world.run(world.context(clear_number=1))
    assert any(f"session {WEEK[3]}: warning: median price" in warning for warning in report["warnings"])


def test_a_session_that_is_not_over_is_left_for_later(world):
    noon = calendar.session_close(WEEK[-1]) - timedelta(hours=4)
    with world.hook() as hook:
        planned = pipeline.plan_run(world.context(), hook, Wanted(WEEK), SYMBOLS, noon)
    assert planned.pending == (WEEK[-1],)
    assert planned.sessions == WEEK[:-1]
    assert f"Not available yet, left for a later run: {WEEK[-1]}" in planned.explain()


@pytest.mark.slow
def test_only_the_young_end_of_a_long_range_is_pending_where_the_plan_refuses_it(world):
    sessions = calendar.sessions(date(2026, 10, 1), TODAY + timedelta(days=1))
    world.api.fault("server_error", match=f"/{TODAY}[?]", times=None, status=403)
    _, report = world.run(world.context(endpoint="range"), sessions=sessions)
    assert report["red"] == []
    assert report["rows_loaded"] == len(SYMBOLS) * (len(sessions) - 1)
    assert report["api_calls"] == 2 * len(SYMBOLS)
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert {coverage.state("AAPL", s) for s in sessions[:-1]} == {State.HAVE}
    assert coverage.state("AAPL", TODAY) is State.PENDING


YEARS = calendar.sessions(date(2010, 7, 1), date(2011, 7, 1))


def test_with_year_grain_a_symbol_and_year_is_a_file_and_the_rest_is_the_same(world):
    planned, report = world.run(world.context(file_grain="year"), sessions=YEARS, symbols=SYMBOLS[:25])
    assert planned.plan.calls == len(world.api.calls) == 25
    assert report["red"] == []
    assert report["rows_loaded"] == 25 * len(YEARS)
    assert [key for key, _ in world.lake.list("raw") if "=AAPL" in key] == [
        "raw/prices/provider=polygon/symbol=AAPL/year=2010/AAPL-2010.parquet",
        "raw/prices/provider=polygon/symbol=AAPL/year=2011/AAPL-2011.parquet",
    ]
    assert report["files_written"] == 50
    assert {r["files_written"] for r in report["results"]} == {2}
    before = world.objects()
    assert world.run(world.context("r2", file_grain="year"), sessions=YEARS, symbols=SYMBOLS[:25])[0].plan.cells == 0
    assert world.run(world.context("r3"), sessions=YEARS, symbols=SYMBOLS[:25])[0].plan.cells == 0  # nor does the other grain
    assert world.objects() == before


def test_with_session_grain_a_session_is_a_file_written_once_by_a_market_wide_request(world):
    terms = {"file_grain": "session"}
    planned, report = world.run(world.context(**terms), sessions=WEEK)
    assert planned.plan.calls == len(world.api.calls) == len(WEEK)
    assert (report["red"], report["rows_loaded"]) == ([], len(WEEK) * len(SYMBOLS))
    assert [key for key, _ in world.lake.list("raw")] == [
        f"raw/prices/provider=polygon/year={day:%Y}/month={day:%m}/session-{day}.parquet" for day in WEEK
    ]
    assert report["files_written"] == len(WEEK)
    assert {(r["symbol"], r["files_written"], r["rows_written"]) for r in report["results"]} == {
        (symbol, len(WEEK), len(WEEK)) for symbol in SYMBOLS
    }
    before = world.objects()
    assert world.run(world.context("r2", **terms), sessions=WEEK)[0].plan.cells == 0
    assert world.run(world.context("r3"), sessions=WEEK)[0].plan.cells == 0  # nor does another grain
    assert world.objects() == before
    world.run(world.context("r4", force=True, **terms), sessions=WEEK)
    assert {key: value for key, value in world.objects().items() if key in before and key.startswith("raw")} == {
        key: value for key, value in before.items() if key.startswith("raw")
    }


def test_with_session_grain_a_clear_and_a_correction_of_one_symbol_keep_the_others(world):
    terms = {"file_grain": "session", "endpoint": "range"}
    world.run(world.context(**terms), sessions=WEEK, symbols=SYMBOLS[:4])
    world.api.alter(SYMBOLS[0], WEEK[1], multiply=1.01)
    _, report = world.run(world.context("r2", force=True, **terms), sessions=WEEK[1:2], symbols=SYMBOLS[:1])
    assert (report["rows_changed"], report["files_written"]) == (1, 1)
    context = world.context(**terms)
    found = read_rows(world.lake, context.layout, context.dataset, context.source, SYMBOLS[:4], WEEK[0], TODAY)
    assert len(found) == 4 * len(WEEK)
    assert len(world.lake.list("raw")) == len(WEEK)


def test_a_symbols_year_that_lacks_most_of_its_bars_is_refused_alone(world):
    hole = [s for n, s in enumerate(YEARS) if s.year == 2010 and n % 3]
    for session in hole:
        world.api.hide(session, symbols=["AAPL"])
    _, report = world.run(world.context(file_grain="year"), sessions=YEARS, symbols=SYMBOLS[:25])
    (red,) = report["red"]
    assert red.startswith("AAPL/2010 was refused: ")
    first = len([s for s in YEARS if s.year == 2010])
    assert report["rows_loaded"] == 25 * len(YEARS) - first
    coverage = read_coverage(world.lake, "ohlcv-1d", "polygon")
    assert coverage.state("AAPL", YEARS[0]) is State.REFUSED
    assert coverage.state("AAPL", hole[0]) is State.REFUSED
    assert coverage.state("AAPL", YEARS[-1]) is State.HAVE
    assert coverage.state("ABT", YEARS[0]) is State.HAVE
    assert world.query("SELECT COUNT(*) AS n FROM silver_prices WHERE symbol = 'AAPL'") == [{"n": len(YEARS) - first}]


def test_a_plan_of_year_grain_says_what_day_grain_would_cost(world):
    with world.hook() as hook:
        planned = pipeline.plan_run(world.context(file_grain="year"), hook, Wanted(WEEK), SYMBOLS, NOW)
    assert planned.plan.calls == len(SYMBOLS)
    assert f"file_grain day would take {len(WEEK)} calls" in planned.explain()


def test_pages_of_great_expectations_are_kept_on_request_only(world):
    world.run(sessions=WEEK[:1])
    assert [key for key, _ in world.lake.list("quality") if "docs" in key] == []
    world.run(world.context("r2", data_docs=True), sessions=WEEK[1:2])
    (index,) = [key for key, _ in world.lake.list("quality") if key.endswith("/docs/index.html")]
    assert b"bars.rows" in world.lake.get(index).body


def test_a_session_is_not_asked_before_the_evenings_trading_has_ended(world):
    world.now = calendar.session_close(WEEK[-1]) + timedelta(hours=2)
    planned, _ = world.run(sessions=WEEK[-2:])
    assert planned.pending == WEEK[-1:]
    world.now += timedelta(hours=1)
    assert world.run(world.context("r2"), sessions=WEEK[-2:])[0].pending == ()
