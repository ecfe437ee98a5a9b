"""Page Plan without Airflow: its form, its figures, and that it makes no call."""

import json
import socket
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pyarrow as pa
import pytest

from market_data import api
from market_data.config.feed_form import form_of
from market_data.config.feeds import Feed, load_feeds
from market_data.core.errors import AuthError, ConfigError, ParamError
from market_data.core.messages import dollars
from market_data.core.outcome import State
from market_data.core.run import RunInfo
from market_data.lake.coverage import CELLS, UNKNOWN
from market_data.lake.ledger import read_coverage, write_cells
from market_data.lake.store import Lake
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider
from market_data.views import plan as views_plan
from market_data.views.current_coverage import coverage_of
from market_data.views.ledgers import Ledgers
from market_data.views.plan import by_field, plan_of, sections_of, time_text
from sandbox.http.server import SampleApi
from tests.views.staged import stage

NOW = datetime(2024, 9, 30, 12, tzinfo=UTC)
WEEK = [date(2024, 9, 16) + timedelta(n) for n in range(5)]
RUN = RunInfo("mock_ohlcv_1d", "manual", "manual", 0, NOW)
FEEDS = {feed.dag_id: feed for feed in load_feeds()}
DATES = {"start_date": "2024-09-16", "end_date": "2024-09-20"}
KEYS = {
    "databento": {"password": "db-" + "k" * 29},
    "polygon": {"password": "k", "extra": {"plan": "advanced"}},
    "ib": {"base_url": "127.0.0.1:4002"},
    "alpaca": {"login": "k", "password": "s"},
}


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def _no_network(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("a plan made a call")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def record(lake, cells, at=NOW, batch="b000"):
    rows = [{"symbol": symbol, "session": day, "state": str(state), "reason": ""} for (symbol, day), state in cells.items()]
    write_cells(lake, "ohlcv-1d", "mock", RUN, batch, pa.Table.from_pylist(rows, schema=CELLS), recorded_at=at)


def hooks_of(feed):
    fields = {"base_url": "", "password": "k", **KEYS.get(feed.provider, {})}
    return lambda options: provider(feed.provider)(ProviderConfig(feed.conn_id, **fields), options=options)


def planned(lake, feed="mock_ohlcv_1d", **params):
    feed = FEEDS[feed] if isinstance(feed, str) else feed
    return plan_of(feed, params, lake, hooks_of(feed), NOW)


def test_a_plan_says_what_is_covered_and_what_the_rest_takes(lake):
    record(lake, {("AAPL", day): State.HAVE for day in WEEK[:3]})
    found = planned(lake, symbols=["AAPL", "MSFT"], **DATES).to_json()
    assert found["sentence"].startswith(
        "2 symbols x 5 sessions, 2024-09-16 to 2024-09-20: 3 cells covered already, 7 to fetch, in "
    )
    assert found["sentence"].endswith("calls and less than a minute.")
    rows = dict(found["rows"])
    assert rows["Cells"] == "7 to fetch, 3 covered already"
    assert rows["Sessions"] == "5, 2024-09-16 to 2024-09-20"
    assert rows["Calls"].endswith("1 batch")
    assert rows["Objects"] == "7 in the lake at most"
    assert rows["Charge"] == "none, the provider does not charge for single requests"
    assert "calls per minute per pool slot" in rows["Time"]
    assert found["conf"] == {"symbols": ["AAPL", "MSFT"], **DATES}
    json.dumps(found)


def test_the_figures_are_those_of_the_command(lake):
    record(lake, {("AAPL", day): State.HAVE for day in WEEK[:2]})
    feed, params = FEEDS["mock_ohlcv_1d"], {"symbols": ["AAPL", "MSFT"], "file_grain": "year", **DATES}
    found = planned(lake, **params).estimate
    assert found == api.estimate(feed, {**feed.params, **params}, hooks_of(feed)({}), lake, now=NOW)
    assert (found.cells, found.covered, found.objects) == (8, 2, 2)


@pytest.mark.parametrize(
    ("feed", "grain", "objects"),
    [
        ("mock_ohlcv_1d", "year", 2 * 2),
        ("mock_ohlcv_1m", "year", 2 * 4),  # a file a month
        ("mock_ohlcv_1m", "day", 2 * 62),
        ("fmp_fundamentals", "day", None),
    ],
)
def test_objects_are_counted_as_files_of_the_grain(lake, feed, grain, objects):
    found = planned(lake, feed, symbols=["AAPL", "MSFT"], start_date="2023-11-15", end_date="2024-02-14", file_grain=grain)
    assert found.estimate.objects == objects


def test_a_single_session_is_named_once(lake):
    found = planned(lake, symbols=["AAPL"], start_date="2024-09-17", end_date="2024-09-17")
    assert found.sentence.startswith("1 symbol x 1 session, 2024-09-17: 0 cells covered already, 1 to fetch, in 1 call")
    assert dict(found.rows)["Sessions"] == "1, 2024-09-17"


def test_what_an_active_run_has_fetched_is_left_to_it(lake):
    stage(lake, "manual__1", "AAPL", WEEK, NOW)
    params = {"symbols": ["AAPL", "MSFT"], **DATES}
    feed = FEEDS["mock_ohlcv_1d"]
    active = plan_of(feed, params, lake, hooks_of(feed), NOW, lambda run: run.run_id == "manual__1")
    assert active.estimate.note == "Fetched by active runs, which load them: manual__1 (5 cells)"
    ended = plan_of(feed, params, lake, hooks_of(feed), NOW, lambda run: False)
    assert ended.estimate.note.startswith("Fetched and not loaded, waiting in staging for the feed's next run: manual__1")
    unknown = plan_of(feed, params, lake, hooks_of(feed), NOW)
    words = "Fetched by runs that may be active; they load them, or else the feed's next run: manual__1 (5 cells)"
    assert unknown.estimate.note == words
    assert active.estimate.cells == ended.estimate.cells == unknown.estimate.cells == 5


def test_nothing_to_do_and_closed_exchanges_are_said(lake):
    record(lake, {("AAPL", day): State.HAVE for day in WEEK})
    done = planned(lake, symbols=["AAPL"], **DATES).to_json()
    assert done["sentence"] == "1 symbol x 5 sessions, 2024-09-16 to 2024-09-20: 5 cells covered already, 0 to fetch."
    assert done["notes"] == ["Nothing to do: all 5 cells are covered"]
    closed = planned(lake, symbols=["AAPL"], start_date="2024-09-14", end_date="2024-09-15").to_json()
    assert closed["sentence"] == ""
    assert "no session on 2024-09-14 to 2024-09-15" in closed["notes"][0]


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("feed", FEEDS)
def test_no_provider_is_called(lake, feed):
    found = planned(lake, feed, symbols=["AAPL"], start_date="2024-09-17", end_date="2024-09-18")
    assert found.estimate.calls > 0
    assert bool(found.later) == found.charges == (FEEDS[feed].provider == "databento")


@pytest.mark.usefixtures("_no_network")
def test_what_only_the_provider_knows_is_named(lake):
    feed = FEEDS["databento_ohlcv_1d"]
    found = planned(lake, feed, symbols=["ES.FUT"], stype_in="parent", max_cost_usd=2.5, **DATES)
    assert found.later == [
        "The instruments of ES.FUT are known at the start of the run; each symbol counts as one here",
        "The charge is known at the start of the run; a dry run shows it",
    ]
    assert dict(found.rows)["Charge"] == (
        "known at the start of the run; above 2.50 US dollars (max_cost_usd) the run fails before its first request"
    )
    assert found.sentence.endswith("less than a minute; the charge is known at the start of the run.")
    assert found.to_json()["totals"]["cost_usd"] is None
    open_end = planned(lake, feed, symbols=["AAPL"], max_cost_usd=None, **DATES)
    assert dict(open_end.rows)["Charge"] == "known at the start of the run; no cap: max_cost_usd is empty"


def test_a_known_charge_over_the_cap_is_said_plainly(lake, monkeypatch):
    from market_data.providers.databento.hook import DatabentoHook

    monkeypatch.setattr(DatabentoHook, "cost", lambda *_: 7.5)
    found = planned(lake, "databento_ohlcv_1d", symbols=["AAPL"], max_cost_usd=2.5, **DATES)
    assert found.to_json()["over_cap"]
    assert dict(found.rows)["Charge"].startswith(
        "7.50 US dollars, over the cap of 2.50 US dollars (max_cost_usd): the run would fail"
    )
    assert "over the cap: 7.50 US dollars, max_cost_usd is 2.5" in found.to_json()["notes"][0]
    assert found.sentence.endswith(", 7.50 US dollars.")
    found.check_agreed(found.estimate.calls, 7.5)
    with pytest.raises(ParamError, match=r"7.50 US dollars now; agreed: 1 call and 7.00 US dollars: plan it again"):
        found.check_agreed(found.estimate.calls, 7.0)


def test_the_provider_is_asked_for_the_charge_on_demand(lake):
    feed, params = FEEDS["databento_ohlcv_1d"], {"symbols": ["ES.FUT"], "stype_in": "parent", **DATES}
    extra = {"calls_per_minute_per_slot": 60_000, "limits": [{"calls": 100, "seconds": 0.05}]}
    with SampleApi(vendor="databento", api_key="k" * 29) as vendor:

        def asked(ask_provider, key="db-" + "k" * 29):
            config = ProviderConfig(feed.conn_id, vendor.url, password=key, extra=extra)
            hook = partial(provider("databento"), config)
            return plan_of(feed, params, lake, lambda options: hook(options=options), NOW, ask_provider=ask_provider)

        before = asked(False).to_json()
        assert (before["askable"], before["totals"]["cost_usd"], vendor.calls) == (True, None, [])
        after = asked(True)
        with pytest.raises(AuthError):
            asked(True, key="db-" + "x" * 29)
    targets = " ".join(call.target for call in vendor.calls)
    assert "metadata.get_cost" in targets
    assert "symbology.resolve" in targets
    assert "timeseries" not in targets
    assert (after.estimate.cost_usd or 0) > 0
    assert dict(after.rows)["Charge"].startswith(dollars(after.estimate.cost_usd))
    assert (after.later, after.to_json()["askable"]) == ((), False)


def test_a_charge_that_is_shown_becomes_the_cap_and_one_of_many_calls_is_left_to_a_dry_run(lake, monkeypatch):
    from market_data.providers.databento.hook import DatabentoHook

    unknown = planned(lake, "databento_ohlcv_1d", symbols=["AAPL"], max_cost_usd=2.5, **DATES)
    assert unknown.agreed_conf(None)["max_cost_usd"] == 2.5
    assert unknown.agreed_conf(1.201)["max_cost_usd"] == 1.21
    assert unknown.agreed_conf(7.0)["max_cost_usd"] == 2.5
    unknown.check_priceable()
    many = planned(lake, "databento_trades", universe="dow30", start_date="2024-01-02", end_date="2024-06-28")
    assert (many.askable, many.to_json()["askable"]) == (True, False)
    with pytest.raises(ParamError, match="the page makes 100 at most: a dry run shows it"):
        many.check_priceable()
    monkeypatch.setattr(DatabentoHook, "cost", lambda *_: 0.0)
    free = planned(lake, "mock_ohlcv_1d", symbols=["AAPL"], **DATES)
    assert free.agreed_conf(0.0) == free.params
    with pytest.raises(ParamError, match="no charge to request"):
        free.check_priceable()


def test_a_plan_that_grew_is_not_what_was_agreed(lake):
    found = planned(lake, symbols=["AAPL"], **DATES)
    found.check_agreed(found.estimate.calls, None)
    with pytest.raises(ParamError, match="agreed: 0 calls and 0.00 US dollars"):
        found.check_agreed(0, None)


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({"batch_size": "many"}, "batch_size", "batch_size is 'many'; a whole number from 1 to 1000 is needed"),
        ({"symbols": ["<script>"]}, "symbols", "symbols: item 1: '<script>' is not a symbol"),
        ({"start_date": "soon"}, "start_date", "a date such as 2026-11-02 is needed"),
        ({"file_grain": "week"}, "file_grain", "file_grain is 'week'; allowed: day, session, year"),
        ({"universe": "sp50"}, "universe", "known universes"),
        ({"start_date": "2024-09-16", "backfill_days": 3}, "start_date", "give one of them"),
        ({"cells": "audits/x.parquet"}, "", "a list of gaps is planned by its own run"),
        ({"nope": 1}, "", "nope is unknown"),
        ({"universe": "index:none"}, "universe", "known indices"),
        ({"tickers_path": "nothing.csv"}, "tickers_path", "tickers_path is 'nothing.csv'"),
    ],
)
def test_a_wrong_value_is_named_at_its_field(lake, params, field, words):
    with pytest.raises(ParamError) as caught:
        planned(lake, **params)
    (found,) = by_field(
        caught.value.problems, [one["name"] for section in sections_of(FEEDS["mock_ohlcv_1d"]) for one in section["fields"]]
    )
    assert found["field"] == field
    assert words in found["text"]


def test_all_wrong_values_are_named_at_once_before_the_connection_is_used(lake):
    feed = FEEDS["mock_ohlcv_1d"]
    with pytest.raises(ParamError) as caught:
        plan_of(feed, {"batch_size": 0, "force": "yes"}, lake, lambda _: pytest.fail("a hook was opened"), NOW)
    assert len(caught.value.problems) == 2


def test_a_wrong_connection_is_named(lake):
    feed = FEEDS["databento_ohlcv_1d"]
    with pytest.raises(ConfigError, match="password is empty"):
        plan_of(feed, {}, lake, lambda options: provider("databento")(ProviderConfig(feed.conn_id, ""), options=options), NOW)


def test_options_that_the_feed_cannot_store_apart_are_refused(lake):
    feed = Feed("alpaca", "ohlcv-1d", "dow30", None, WEEK[0], conn_id="alpaca_default", provider_level=False)
    with pytest.raises(ParamError, match="a feed without provider_level stores those of alpaca only"):
        planned(lake, feed, symbols=["AAPL"], adjustment="split", **DATES)


def test_the_ledger_comes_from_memory(lake, monkeypatch):
    record(lake, {("AAPL", day): State.HAVE for day in WEEK[:2]})
    monkeypatch.setattr("market_data.lake.ledger.read_coverage", lambda *_: pytest.fail("the ledger was read from the lake"))
    assert planned(lake, symbols=["AAPL"], **DATES).estimate.covered == 2


def test_the_work_of_one_plan_is_bounded(lake, monkeypatch):
    monkeypatch.setattr(views_plan, "MOST_CELLS", 9)
    with pytest.raises(ParamError, match="2 symbols x 5 sessions are 10 cells; at most 9 are allowed here"):
        planned(lake, symbols=["AAPL", "MSFT"], **DATES)
    assert planned(lake, symbols=["AAPL"], **DATES).estimate.cells == 5


@pytest.mark.parametrize("feed", FEEDS)
def test_the_form_has_every_param_of_the_trigger_form_once(feed):
    fields = [(section["name"], one) for section in sections_of(FEEDS[feed]) for one in section["fields"]]
    names = [one["name"] for _, one in fields]
    known = form_of(FEEDS[feed])
    assert sorted([*names, "cells"]) == sorted(known)
    assert [name for name, one in fields if ": " in one["title"]] == []
    for _, one in fields:
        default, schema = known[one["name"]]
        assert (one["default"], one["help"]) == (default, schema["description"])
        assert [value for value, _ in one["choices"]] == list(schema.get("enum", ()))
        assert one["kind"] in {"string", "array", "date", "integer", "number", "boolean", "object"}


def test_coverage_from_memory_is_that_of_the_lake(lake):
    record(lake, {("AAPL", WEEK[0]): State.PENDING, ("MSFT", WEEK[0]): State.HAVE, ("MSFT", WEEK[1]): State.EMPTY})
    record(lake, {("AAPL", WEEK[0]): State.HAVE, ("MSFT", WEEK[1]): UNKNOWN}, NOW + timedelta(1), "b001")
    found, stored = coverage_of(Ledgers().get(lake, "ohlcv-1d", "mock")), read_coverage(lake, "ohlcv-1d", "mock")
    names = found.table.schema.names
    order = [("symbol", "ascending"), ("session", "ascending")]
    text = {name: pa.string() for name in ("symbol", "state", "reason", "run_id", "batch_id")}
    plain = [
        pa.table({name: one.table[name].cast(text.get(name, one.table[name].type)) for name in names}).sort_by(order)
        for one in (found, stored)
    ]
    assert plain[0].to_pylist() == plain[1].to_pylist() != []
    assert found.covered(["AAPL", "MSFT"], WEEK, states={State.HAVE}) == {"AAPL": 1, "MSFT": 1}
    assert coverage_of(Ledgers().get(lake, "ohlcv-1d", "alpaca")).table.num_rows == 0


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.2, "less than a minute"),
        (1, "about 1 minute"),
        (59.4, "about 59 minutes"),
        (61, "about 1 h 1 min"),
        (4000, "about 3 days"),
    ],
)
def test_times_are_said_as_people_do(minutes, text):
    assert time_text(minutes) == text
