"""Params: every problem named, all at once, before any call; dates resolved as a table."""

import json
import logging
import math
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import example, given
from hypothesis import strategies as st

from market_data.airflow import tasks
from market_data.airflow.dag import build_params
from market_data.airflow.tasks import run_plan
from market_data.config import universes
from market_data.config.feeds import load_feeds
from market_data.config.param_checks import check_params, read_params
from market_data.config.trigger_form import form
from market_data.core.calendar import NEW_YORK
from market_data.core.errors import ConfigError, LakeError, ParamError
from market_data.datasets import registry
from market_data.datasets.registry import grains_of
from market_data.lake.store import Lake
from market_data.pipeline.run_sessions import Wanted, resolve_sessions
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import known_provider, options_of, provider, providers, serving
from sandbox.http import SampleApi

FEED = next(feed for feed in load_feeds() if feed.provider == "polygon")
ALLOWED = {"options": known_provider("polygon").options, "endpoints": serving("polygon", "ohlcv-1d")}
TODAY = date(2026, 11, 20)
BASIC = {"plan": "basic"}


def read(**raw):
    return read_params(raw, **ALLOWED, today=TODAY)


# -- the second stage, as `plan` runs it ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api():
    with SampleApi() as server:
        yield server


class Stage:
    """`plan` with real connections and a real lake, for any params."""

    def __init__(self, api, folder, monkeypatch):
        self.api, self.monkeypatch, self.pushed = api, monkeypatch, {}
        self.lake = Lake.open(f"file://{folder}/lake")
        monkeypatch.setenv("MARKET_DATA_LAKE", self.lake.url)
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps({"conn_type": "duckdb", "extra": {"path": f"{folder}/w"}}))
        self.connect()

    def connect(self, password="sample", **extra):
        connection = {"conn_type": "http", "host": self.api.url, "password": password, "extra": extra or {"plan": "sample"}}
        self.monkeypatch.setenv("AIRFLOW_CONN_POLYGON_DEFAULT", json.dumps(connection))

    def plan(self, params, feed=FEED, **context):
        defaults = {name: param.value for name, param in build_params(feed).items()}
        now = datetime.now(UTC)
        run = {"dag_id": feed.dag_id, "run_id": "r", "run_type": "manual", "clear_number": 0, "start_date": now, "run_after": now}
        ti = SimpleNamespace(xcom_push=lambda key, value: self.pushed.update({key: value}))
        return run_plan(feed, {"params": {**defaults, **params}, "dag_run": SimpleNamespace(**run), "ti": ti, **context})

    def problems(self, params, **context):
        self.api.log.clear()
        with pytest.raises(ParamError) as caught:
            self.plan(params, **context)
        assert self.api.calls == []
        assert self.lake.list("") == []
        assert len(str(caught.value)) < 5000
        return list(caught.value.problems)


@pytest.fixture
def stage(api, tmp_path, monkeypatch):
    return Stage(api, tmp_path, monkeypatch)


def today():
    return datetime.now(NEW_YORK).date()


NAMES = ", ".join(form(**ALLOWED))
DATE = "a date such as 2026-11-02 is needed"
INDEX = "a-z, 0-9, _ and - are allowed, the first a letter or digit, 64 at most"
SYMBOL = "is not a symbol; allowed: A-Z or 0-9 first (after ^ for an index), then letters, digits, . - ^ : /"
UNIVERSES = f"known universes: {', '.join(universes.known())}"
TICKERS = "the name of a file that ends in .csv or .txt and does not begin with . is needed"

BAD = [
    # unknown keys
    ({"start_dat": "2024-11-04"}, f"start_dat is unknown (did you mean start_date?); known params: {NAMES}"),
    ({"": 1}, f"'' is unknown; known params: {NAMES}"),
    ({"colour": "red", "x\n{": 1}, f"colour, 'x\\n{{' are unknown; known params: {NAMES}"),
    # types
    ({"universe": 7}, "universe is 7; text is needed"),
    ({"universe": None}, "universe is null; text is needed"),
    ({"symbols": "AAPL"}, "symbols is 'AAPL'; a list of symbols is needed"),
    ({"symbols": {"AAPL": 1}}, "symbols is {'AAPL': 1}; a list of symbols is needed"),
    ({"tickers_path": ["t.csv"]}, "tickers_path is ['t.csv']; text is needed"),
    ({"force": "yes"}, "force is 'yes'; true or false is needed"),
    ({"force": 1}, "force is 1; true or false is needed"),
    ({"dry_run": None}, "dry_run is null; true or false is needed"),
    ({"data_docs": "true"}, "data_docs is 'true'; true or false is needed"),
    ({"backfill_days": "5"}, "backfill_days is '5'; a whole number from 1 to 36600 is needed"),
    ({"batch_size": True}, "batch_size is true; a whole number from 1 to 1000 is needed"),
    ({"batch_size": 2.5}, "batch_size is 2.5; a whole number from 1 to 1000 is needed"),
    ({"max_missing_ratio": "0"}, "max_missing_ratio is '0'; a number from 0 to 1 is needed"),
    ({"endpoint": ["range"]}, "endpoint is ['range']; allowed: auto, grouped, range, flatfile"),
    # dates
    ({"start_date": "2024-11-31"}, f"start_date is '2024-11-31'; {DATE}"),
    ({"start_date": "04.11.2024"}, f"start_date is '04.11.2024'; {DATE}"),
    ({"start_date": "20241104"}, f"start_date is '20241104'; {DATE}"),
    ({"start_date": "2024-11-04T09:30:00"}, f"start_date is '2024-11-04T09:30:00'; {DATE}"),
    ({"start_date": "\u0662\u0660\u0662\u0664-11-04"}, f"start_date is '\\u0662\\u0660\\u0662\\u0664-11-04'; {DATE}"),
    ({"start_date": ""}, f"start_date is ''; {DATE}"),
    ({"start_date": 20241104}, f"start_date is 20241104; {DATE}"),
    ({"start_date": "{tomorrow}"}, "start_date is {tomorrow}; it must not be after today, {today}"),
    ({"start_date": "2024-11-04", "end_date": "{tomorrow}"}, "end_date is {tomorrow}; it must not be after today, {today}"),
    ({"start_date": "1899-12-29"}, "start_date is 1899-12-29; the first date allowed is 2000-01-01"),
    ({"start_date": "0001-01-01"}, "start_date is 0001-01-01; the first date allowed is 2000-01-01"),
    (
        {"backfill_days": 36_600, "end_date": "2024-11-04"},
        "backfill_days is 36600, back to 1924-08-21; the first date allowed is 2000-01-01",
    ),
    (
        {"start_date": "2024-11-05", "end_date": "2024-11-04"},
        "start_date is 2024-11-05 and end_date 2024-11-04; the start must not come after the end",
    ),
    ({"end_date": "2024-11-04"}, "end_date is '2024-11-04' without start_date or backfill_days; give one of them"),
    ({"start_date": "2024-11-04", "backfill_days": 5}, "start_date and backfill_days are both given; give one of them"),
    # ranges
    ({"backfill_days": 0}, "backfill_days is 0; a whole number from 1 to 36600 is needed"),
    ({"batch_size": 0}, "batch_size is 0; a whole number from 1 to 1000 is needed"),
    ({"batch_size": 1001}, "batch_size is 1001; a whole number from 1 to 1000 is needed"),
    ({"max_retries": 11}, "max_retries is 11; a whole number from 0 to 10 is needed"),
    ({"retry_delay_seconds": -1}, "retry_delay_seconds is -1; a whole number from 0 to 3600 is needed"),
    ({"lookback_days": 367}, "lookback_days is 367; a whole number from 0 to 366 is needed"),
    ({"circuit_breaker": 0}, "circuit_breaker is 0; a whole number from 1 to 1000 is needed"),
    ({"max_missing_ratio": 1.5}, "max_missing_ratio is 1.5; a number from 0 to 1 is needed"),
    ({"max_missing_ratio": float("nan")}, "max_missing_ratio is nan; a number from 0 to 1 is needed"),
    # symbols
    ({"symbols": ["../x"]}, f"symbols: item 1: '../x' {SYMBOL}"),
    ({"symbols": ["AAPL", "aapl"]}, f"symbols: item 2: 'aapl' {SYMBOL}; symbols are case sensitive, is 'AAPL' meant?"),
    ({"symbols": ["AAPL", "IBM", "AAPL"]}, "symbols: item 3: 'AAPL' occurs twice, first at symbols: item 1"),
    ({"symbols": ["AAPL", 7]}, "symbols: item 2: 7 is not text; a symbol in quotes is needed"),
    ({"symbols": ["A" * 33]}, f"symbols: item 1: '{'A' * 33}' has 33 characters; at most 32 are allowed"),
    (
        {"symbols": ["AAPL"], "tickers_path": "include/universes/dow30.csv"},
        "symbols and tickers_path are both given; give one of them",
    ),
    (
        {"tickers_path": "no/such/file.csv"},
        "tickers_path is 'no/such/file.csv'; there is no such file; relative paths start at the project's folder",
    ),
    ({"tickers_path": ".env"}, f"tickers_path is '.env'; {TICKERS}"),
    ({"tickers_path": ""}, f"tickers_path is ''; {TICKERS}"),
    ({"universe": "sp600"}, f"universe is 'sp600'; {UNIVERSES}"),
    ({"universe": "../universes/dow30"}, f"universe is '../universes/dow30'; {UNIVERSES}"),
    ({"universe": "x" * 500, "symbols": ["AAPL"]}, f"universe is '{'x' * 55}...'; {UNIVERSES}"),
    # names
    ({"index_name": "../sp500"}, f"index_name is '../sp500'; {INDEX}"),
    ({"index_name": "SP500"}, f"index_name is 'SP500'; {INDEX}"),
    ({"index_name": "sp500\n"}, f"index_name is 'sp500\\n'; {INDEX}"),
    ({"index_name": "x" * 65}, f"index_name is '{'x' * 55}...'; {INDEX}"),
    ({"file_grain": "week"}, "file_grain is 'week'; allowed: day, session, year"),
    ({"endpoint": "bulk"}, "endpoint is 'bulk'; allowed: auto, grouped, range, flatfile"),
    (
        {"file_grain": "year", "endpoint": "grouped"},
        "endpoint is 'grouped', a session per call, and file_grain is 'year', which requests by symbol; allowed: auto, range",
    ),
    ({"adjustment": "dividend"}, "adjustment is 'dividend'; allowed: raw, split"),
    ({"adjustment": None}, "adjustment is null; allowed: raw, split"),
]


def dated(value):
    dates = {"{today}": str(today()), "{tomorrow}": str(today() + timedelta(days=1))}
    for name, day in dates.items():
        value = value.replace(name, day) if isinstance(value, str) else value
    return value


@pytest.mark.parametrize(("params", "problem"), BAD, ids=lambda value: ascii(value)[:60])
def test_each_problem_names_field_value_and_what_is_allowed(stage, params, problem):
    assert stage.problems({name: dated(value) for name, value in params.items()}) == [dated(problem)]


def test_all_problems_come_at_once_and_none_hides_another(stage, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("symbol\nAAPL\nmsft\n")
    stage.connect(**BASIC)
    said = stage.problems(
        {
            "colour": "red",
            "universe": "sp600",
            "symbols": ["../x"],
            "tickers_path": str(file),
            "start_date": "2012-01-03",
            "end_date": "2011-01-03",
            "backfill_days": 7,
            "batch_size": 0,
            "file_grain": "year",
            "endpoint": "grouped",
            "index_name": "SP 500",
            "adjustment": "both",
        }
    )
    begins = [
        *("colour is unknown", "batch_size is 0", "adjustment is 'both'", "index_name is 'SP 500'", "universe is 'sp600'"),
        *("symbols: item 1: '../x'", "symbols and tickers_path are both", "start_date is 2012-01-03 and end_date 2011-01-03"),
        *(
            "start_date and backfill_days",
            "endpoint is 'grouped'",
            "start_date is 2012-01-03; the plan 'basic'",
            f"'{file}', line 3: 'msft'",
        ),
    ]
    assert [s[: len(b)] for s, b in zip(said, begins, strict=True)] == begins


def test_the_error_numbers_its_problems(stage):
    with pytest.raises(
        ParamError, match=r"^2 problems with the run parameters:\n  1. batch_size is 0; .*\n  2. end_date is '2024"
    ) as caught:
        stage.plan({"end_date": "2024-11-04", "batch_size": 0})
    assert len(str(caught.value).splitlines()) == 3


def test_sessions_before_the_plans_history_are_refused_with_its_first_date(stage):
    stage.connect(**BASIC)
    start = datetime.now(UTC).date() - relativedelta(years=2)
    text = f"; the plan 'basic' of connection 'polygon_default' has sessions from {start} on"
    assert stage.problems({"start_date": "2012-01-03"}) == [f"start_date is 2012-01-03{text}"]
    (problem,) = stage.problems({"backfill_days": 1000})
    assert problem.startswith("backfill_days is 1000, back to 20")
    assert problem.endswith(text)
    day = datetime(2012, 1, 3, tzinfo=UTC)
    interval = {"data_interval_start": day, "data_interval_end": day + timedelta(hours=25)}
    assert stage.problems({}, **interval) == [f"the run's session is 2012-01-03{text}"]


def test_an_invalid_connection_is_reported_with_invalid_params(stage):
    stage.connect(password="", plan="gold", colour="red")
    first, second = stage.problems({"batch_size": 0})
    assert first.startswith("batch_size is 0")
    for part in ("extra has the unknown key 'colour'", "extra.plan is 'gold'; known plans: basic", "password is empty"):
        assert part in second


WRONG_WAREHOUSES = [
    ({"conn_type": "duckdb"}, "warehouse connection: extra.path is None; an absolute path of a DuckDB file is needed"),
    ({"conn_type": "sqlite"}, "warehouse connection: conn_type is 'sqlite'; engines in this version: duckdb, oracle, postgres"),
    (
        {"conn_type": "postgres", "host": "db", "login": "me"},
        "warehouse connection: schema is empty; the name of a database is needed",
    ),
    ({"conn_type": "oracle", "host": "db", "login": "me", "password": "x", "schema": "XE"}, "extra.service_name is missing"),
    ({"conn_type": "duckdb", "extra": "{"}, "connection 'warehouse_default': extra is not a JSON object"),
    (None, "connection 'warehouse_default' cannot be read"),
]


@pytest.mark.parametrize(("connection", "words"), WRONG_WAREHOUSES)
def test_an_invalid_warehouse_is_reported_before_any_fetch(stage, monkeypatch, connection, words):
    name = "AIRFLOW_CONN_WAREHOUSE_DEFAULT"
    monkeypatch.delenv(name) if connection is None else monkeypatch.setenv(name, json.dumps(connection))
    with pytest.raises(ConfigError, match=re.escape(words)):
        stage.plan({"start_date": "2024-11-04", "end_date": "2024-11-04", "symbols": ["AAPL"]})
    assert stage.api.calls == []


@pytest.mark.parametrize("extra", ["{", "[]", "7"])
def test_an_extra_that_is_not_an_object_is_not_read_as_empty(stage, monkeypatch, extra):
    monkeypatch.setenv("AIRFLOW_CONN_POLYGON_DEFAULT", json.dumps({"conn_type": "http", "password": "x", "extra": extra}))
    with pytest.raises(ConfigError, match="connection 'polygon_default': extra is not a JSON object"):
        stage.plan({})


def test_an_invalid_connection_alone_is_a_config_error(stage):
    stage.connect(password="")
    with pytest.raises(ConfigError, match="connection 'polygon_default': password is empty"):
        stage.plan({})


def test_an_unreachable_lake_is_retried_but_hides_no_other_problem(stage, monkeypatch):
    extra = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1", "config_kwargs": {"retries": {"max_attempts": 0}}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "login": "A", "password": "b", "extra": extra}))
    with pytest.raises(LakeError, match="cannot be read: EndpointConnectionError"):
        stage.plan({"tickers_path": "s3://b/t.csv"})
    first, second = stage.problems({"tickers_path": "s3://b/t.csv", "batch_size": 0})
    assert (first[:15], second) == ("batch_size is 0", "'s3://b/t.csv' cannot be read: EndpointConnectionError")


def test_other_prices_in_a_lake_without_providers_are_refused_beside_other_problems(stage):
    feed = replace(FEED, provider_level=False)
    first, second = stage.problems({"adjustment": "split", "batch_size": 0}, feed=feed)
    assert first.startswith("batch_size is 0")
    assert "a feed without provider_level stores those of polygon only" in second


def test_a_million_symbols_and_a_million_keys_are_refused_in_few_words(stage):
    many = [f"bad{n}" for n in range(1_000_000)]
    assert stage.problems({"symbols": many}) == ["symbols has 1,000,000 symbols; at most 25,000 are allowed"]
    (problem,) = stage.problems(dict.fromkeys(many[:100_000]))
    assert problem.startswith("bad0, bad1, ")
    assert problem.endswith(f", bad19, and 99,980 more are unknown; known params: {NAMES}")


def test_too_much_work_comes_alone(stage):
    params = {"start_date": "2012-01-03", "end_date": "2012-01-04", "endpoint": "range", "batch_size": 1}
    assert stage.plan({**params, "dry_run": True, "symbols": [f"S{n}" for n in range(1024)]}) == []
    (problem,) = stage.problems({**params, "symbols": [f"S{n}" for n in range(1025)]})
    assert problem.startswith("the run needs 1,025 batches; at most 1,024 fit into one run")


def test_a_missing_universe_is_named_at_plan_with_the_known_ones(stage):
    assert stage.problems({}, feed=replace(FEED, universe="gone")) == [f"universe is 'gone'; {UNIVERSES}"]


def test_good_params_plan_and_ask_nothing(stage, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("symbol,removed_date\nAAPL,\nGONE,2020-01-02\n")
    (batch,) = stage.plan({"tickers_path": str(file), "start_date": "2012-01-03", "end_date": "2012-01-04", "batch_size": 25.0})
    assert [block["symbols"] for block in batch["blocks"]] == [["AAPL", "GONE"]]  # a member until 2020
    assert stage.api.calls == []


def test_symbols_are_kept_as_an_index_unless_it_is_a_dry_run(stage, caplog):
    params = {"symbols": ["IBM", "AAPL"], "start_date": "2012-01-03", "end_date": "2012-01-04", "index_name": "mine"}
    stage.plan({**params, "dry_run": True})
    assert stage.lake.list("metadata") == []
    with caplog.at_level(logging.INFO):
        stage.plan(params)
    assert "metadata/indices/mine.csv: 2 members; new: AAPL, IBM; gone: none" in caplog.messages
    day = today()
    assert stage.lake.get("metadata/indices/mine.csv").body.decode() == (
        f"symbol,added_date,removed_date\nAAPL,{day},\nIBM,{day},\n"
    )


def test_no_index_is_kept_of_a_run_that_cannot_be_planned(stage):
    names = [f"S{n}" for n in range(1025)]
    dates = {"start_date": "2024-11-04", "end_date": "2024-11-04"}  # else there is nothing to plan for some hours after each close
    (problem,) = stage.problems({"symbols": names, **dates, "endpoint": "range", "batch_size": 1, "index_name": "mine"})
    assert problem.startswith("the run needs 1,025 batches; at most 1,024 fit into one run")


# -- properties ----------------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARAM_NAMES = sorted(form(**ALLOWED))


@example({"backfill_days": math.inf})
@example({"backfill_days": math.nan})
@given(st.dictionaries(st.sampled_from(PARAM_NAMES) | st.text(max_size=8), json_values, max_size=6))
def test_any_json_gives_params_and_short_sentences(raw):
    params, problems = check_params(raw, **ALLOWED, today=TODAY)
    assert all(problem.isprintable() and len(problem) < 600 for problem in problems)
    assert resolve_sessions(params, None, scheduled=True, now=at("2026-11-20T12:00")).own is not None  # good enough to go on with


@given(st.sampled_from(PARAM_NAMES), json_values)
def test_values_that_the_form_rejects_are_rejected_by_check_params(name, value):
    from airflow.sdk.exceptions import ParamValidationError

    try:
        build_params(FEED)[name].resolve(value)
    except ParamValidationError:
        assert check_params({name: value}, **ALLOWED, today=TODAY)[1] != []


# -- the form ------------------------------------------------------------------------------------------------------------------------

EVERYDAY = [
    *("universe", "symbols", "tickers_path", "index_name", "start_date", "end_date", "backfill_days"),
    *("dry_run", "force", "file_grain", "batch_size"),
]


@pytest.mark.parametrize("feed", load_feeds(), ids=lambda feed: feed.dag_id)
def test_the_form_accepts_its_own_defaults_and_so_does_the_second_stage(feed):
    params = build_params(feed)
    values = {name: param.resolve() for name, param in params.items()}
    read = read_params(
        values, options=known_provider(feed.provider).options, endpoints=serving(feed.provider, feed.dataset), today=TODAY
    )
    assert read.universe == feed.universe
    in_view = [name for name, param in params.items() if "section" not in param.schema]
    options = options_of(feed.provider, feed.dataset)
    assert in_view == [*EVERYDAY, *sorted(options, key=lambda name: not name.startswith("max_"))] == list(params)[: len(in_view)]
    assert {param.schema["section"] for param in list(params.values())[len(in_view) :]} == {"Tuning"}
    groups = [params[name].schema["title"].partition(": ")[0] for name in in_view]
    assert list(dict.fromkeys(groups)) == ["What", "When", "How", *(["This provider"] if options else [])]
    for name, param in params.items():
        assert param.schema["title"], name
        assert param.description.endswith("."), name
        assert "`" not in param.description, name  # the form shows plain text
        if "minimum" in param.schema:
            assert f"Allowed: {param.schema['minimum']:,} " in param.description, name


def test_the_form_proposes_universes_and_lets_choose_endpoints():
    params = build_params(FEED)
    from airflow.sdk.exceptions import ParamValidationError

    listed = params["universe"].schema["enum"]
    assert {*universes.known(), "index:sp500"} <= set(listed)
    assert build_params(replace(FEED, universe="index:mine"))["universe"].schema["enum"] == ["index:mine", *listed]
    assert params["universe"].resolve("index:mine") == "index:mine"  # a list of proposals: any other text is accepted
    with pytest.raises(ParamValidationError):
        params["universe"].resolve(7)
    assert params["endpoint"].schema["enum"] == ["auto", "grouped", "range", "flatfile"]
    assert params["endpoint"].schema["values_display"]["grouped"] == "grouped: a session per call"
    assert (
        set(params["file_grain"].schema["values_display"]) == set(params["file_grain"].schema["enum"]) == {"day", "session", "year"}
    )
    assert "examples" not in params["symbols"].schema  # they would make a select of it, which takes nothing else


def test_a_feeds_own_defaults_stand_in_its_form():
    feed = replace(FEED, params={"batch_size": 7}, options={"adjustment": "split"})
    assert build_params(feed)["batch_size"].value == 7
    assert build_params(feed)["adjustment"].value == "split"


@pytest.mark.parametrize("name", sorted(providers()))
def test_a_hook_has_no_endpoint_that_the_form_does_not_offer(name):
    hook = provider(name)(config=ProviderConfig("c", ""))
    for dataset, served in known_provider(name).serves.items():
        assert {endpoint.name for endpoint in hook.capabilities(dataset).endpoints} <= {endpoint.name for endpoint in served}
        assert set(form(known_provider(name).options, served)["endpoint"][1]["enum"]) == {"auto", *(e.name for e in served)}


def test_options_pass_only_where_given():
    assert read(adjustment="split").options == {"adjustment": "split"}
    assert read().options == {}
    assert read().batch_size == 25


# -- dates ---------------------------------------------------------------------------------------------------------------------------


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MONDAY = (at("2026-11-16T00:00"), at("2026-11-17T01:30"))  # 20:30 in New York
SUMMER = (at("2026-07-06T00:00"), at("2026-07-07T00:30"))


def days(*dates):
    return tuple(date.fromisoformat(d) for d in dates)


DATES = [
    # params, interval, scheduled, now -> own, lookback
    ({}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ("2026-11-09", "2026-11-10", "2026-11-11", "2026-11-12", "2026-11-13")),
    ({"lookback_days": 0}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ()),
    ({"lookback_days": 3}, MONDAY, True, "2026-11-17T01:31", ("2026-11-16",), ("2026-11-13",)),
    (
        {},
        SUMMER,
        True,
        "2026-07-07T00:31",
        ("2026-07-06",),
        ("2026-06-29", "2026-06-30", "2026-07-01", "2026-07-02"),
    ),  # 3 July: closed
    ({}, MONDAY, False, "2026-11-20T12:00", ("2026-11-16",), ()),  # a backfill or manual run looks nowhere else
    ({}, None, False, "2026-11-20T12:00", ("2026-11-19",), ()),
    ({}, None, False, "2026-11-20T21:00", ("2026-11-20",), ()),  # the close, 16:00 in New York
    ({}, None, False, "2026-11-22T12:00", ("2026-11-20",), ()),  # a Sunday
    ({"start_date": "2026-11-12"}, None, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13", "2026-11-16"), ()),
    ({"start_date": "2026-11-12", "end_date": "2026-11-13"}, MONDAY, True, "2026-11-17T12:00", ("2026-11-12", "2026-11-13"), ()),
    ({"start_date": "2026-11-14", "end_date": "2026-11-15"}, None, False, "2026-11-17T12:00", (), ()),  # a weekend
    # from today on, which is not over: what the session before it left as interval does not turn the dates round
    (
        {"start_date": "2026-11-16"},
        (at("2026-11-13T00:00"), at("2026-11-14T01:30")),
        False,
        "2026-11-16T15:00",
        ("2026-11-16",),
        (),
    ),
    ({"start_date": "2026-11-16"}, None, False, "2026-11-16T15:00", ("2026-11-16",), ()),
    ({"start_date": "2026-11-15"}, None, False, "2026-11-15T15:00", (), ()),  # a Sunday
    ({"backfill_days": 4}, MONDAY, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13", "2026-11-16"), ()),
    ({"backfill_days": 1, "end_date": "2026-11-13"}, MONDAY, False, "2026-11-17T12:00", ("2026-11-12", "2026-11-13"), ()),
]


@pytest.mark.parametrize(("raw", "interval", "scheduled", "now", "own", "lookback"), DATES)
def test_dates(raw, interval, scheduled, now, own, lookback):
    wanted = resolve_sessions(read(**raw), interval, scheduled=scheduled, now=at(now))
    assert wanted == Wanted(days(*own), days(*lookback))
    assert wanted.dates[0] <= wanted.dates[1]


@pytest.mark.parametrize("midnight", ["2024-11-04T00:00:00", "2024-11-04T00:00:00Z", "2024-11-04 00:00:00-05:00"])
def test_a_timestamp_at_midnight_is_a_date(midnight):
    assert read(start_date=midnight, end_date="2024-11-05").start_date == date(2024, 11, 4)


def test_only_datasets_with_session_files_offer_them():
    """The names are kept apart from the datasets, so that a DAG file need not import them."""
    for name in registry.DATASETS:
        assert grains_of(name) == registry.dataset(name).files.grains
        problems = check_params({"file_grain": "session"}, options={}, endpoints=(), today=TODAY, grains=grains_of(name))[1]
        allowed = [] if registry.dataset(name).has_session_files else ["file_grain is 'session'; allowed: day, year"]
        assert problems == allowed
    fundamentals = next(feed for feed in load_feeds() if feed.dataset == "fundamentals")
    assert build_params(fundamentals)["file_grain"].schema["enum"] == ["day", "year"]
    assert tasks.allowed(fundamentals)["grains"] == ("day", "year")
