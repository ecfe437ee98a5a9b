"""The feeds file and its overlay: defaults, merging, and every problem named."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
import yaml
from airflow.exceptions import AirflowTimetableInvalid

from market_data.airflow.dag import build_dag
from market_data.airflow.timetable import SessionTimetable
from market_data.config.feeds import KEYS, _date_problems, load_feeds
from market_data.config.trigger_form import PARAMS as FORM
from market_data.config.universes import known
from market_data.core import calendar
from market_data.core.capabilities import Endpoint, Shape
from market_data.core.errors import ConfigError
from market_data.datasets.registry import DATASETS, dataset
from market_data.providers.registry import provider, providers
from market_data.providers.spec import ProviderSpec

PROJECT = Path(__file__).parents[2]
GOOD = """
defaults: {universe: sp500_etf, schedule: "20:30", start_date: 2020-01-02}
feeds:
  - {provider: polygon, dataset: ohlcv-1d}
"""
TWO = GOOD + "  - {provider: mock, dataset: ohlcv-1d, universe: dow30}\n"
KNOWN = f"known keys: {', '.join(KEYS)}"
PARAMS = (
    "known params: universe, symbols, tickers_path, index_name, start_date, end_date, backfill_days, dry_run, force, "
    "file_grain, batch_size, as_of, follow_renames, cells, max_retries, retry_delay_seconds, lookback_days, "
    "recheck_sessions, endpoint, max_missing_ratio, circuit_breaker, data_docs, tolerate"
)


SUGGESTED = "22:30"
"""The schedule that ``feeds.yaml`` suggests for a feed that has none."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("MARKET_DATA_ENV", raising=False)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Feeds of a file, and of an overlay where one is given."""

    def loaded(text, overlay=None):
        (tmp_path / "feeds.yaml").write_text(text, encoding="utf-8")
        if overlay is not None:
            monkeypatch.setenv("MARKET_DATA_ENV", "prod")
            (tmp_path / "feeds.prod.yaml").write_text(overlay, encoding="utf-8")
        return load_feeds(tmp_path / "feeds.yaml")

    return loaded


def problems(load, *texts):
    with pytest.raises(ConfigError, match=r"^feeds.yaml") as caught:
        load(*texts)
    return [line.split(". ", 1)[1] for line in str(caught.value).splitlines()[1:]]


CONTRACT = (
    *("polygon_ohlcv_1d", "polygon_ohlcv_1m", "alpaca_ohlcv_1d", "alpaca_ohlcv_1m", "fmp_ohlcv_1d", "fmp_fundamentals"),
    *("databento_ohlcv_1d", "databento_ohlcv_1m", "databento_trades", "databento_tbbo", "databento_statistics"),
    *("ib_ohlcv_1d", "ib_ohlcv_5m", "ib_ohlcv_1m", "mock_ohlcv_1d", "mock_ohlcv_1m"),
)
"""DAG ids that others rely on."""


def test_the_projects_feeds_are_valid_and_have_the_dags_of_the_contract():
    assert {feed.dag_id for feed in load_feeds()} >= set(CONTRACT)


SERVED = [(name, served) for name, spec in providers().items() for served in spec.serves]


@pytest.mark.parametrize(("name", "served"), SERVED)
def test_a_feed_is_a_stanza_and_nothing_else(load, name, served):
    """Every dataset of every provider becomes a DAG by two keys; its connection and pool are in airflow_settings.yaml already."""
    (feed,) = load(GOOD.replace("provider: polygon, dataset: ohlcv-1d", f"provider: {name}, dataset: {served}"))
    assert build_dag(feed).dag_id == feed.dag_id
    settings = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]
    assert feed.conn_id in {item["conn_id"] for item in settings["connections"]}
    assert feed.pool in {item["pool_name"] for item in settings["pools"]}


def test_a_fallback_is_another_enabled_feed_of_the_dataset(load):
    feed, _ = load(TWO.replace("polygon, dataset: ohlcv-1d", "polygon, dataset: ohlcv-1d, fallback: mock"))
    assert feed.fallback_dag_id == "mock_ohlcv_1d"
    assert {"unserved", "fallback"} == set(build_dag(feed).task_ids) - set(build_dag(replace(feed, fallback=None)).task_ids)


@pytest.mark.parametrize("name", ["polygon", "alpaca", "nobody"])
def test_a_fallback_that_is_none_is_named(load, name):
    text = TWO.replace("polygon, dataset: ohlcv-1d", f"polygon, dataset: ohlcv-1d, fallback: {name}")
    assert problems(load, text) == [
        f"the fallback of polygon_ohlcv_1d is '{name}'; the provider of another enabled feed of ohlcv-1d is needed"
    ]


def test_defaults_and_names_follow(load):
    (feed,) = load(GOOD)
    assert (feed.dag_id, feed.conn_id, feed.pool, feed.schedule) == ("polygon_ohlcv_1d", "polygon_default", "polygon_api", "20:30")
    assert (feed.universe, feed.provider_level, feed.params, feed.options) == ("sp500_etf", True, {}, {})


def test_a_feed_may_have_no_schedule(load):
    (feed,) = load(GOOD.replace("dataset: ohlcv-1d}", "dataset: ohlcv-1d, schedule: null}"))
    assert feed.schedule is None


PAID = GOOD + "  - {provider: databento, dataset: ohlcv-1d}\n"


def schedules(feeds):
    return {feed.dag_id: feed.schedule for feed in feeds}


def test_a_feed_that_charges_has_no_schedule_until_its_own_stanza_sets_one(load):
    by_hand = {"polygon_ohlcv_1d": "20:30", "databento_ohlcv_1d": None}
    assert schedules(load(PAID)) == by_hand
    assert schedules(load(PAID, 'defaults: {schedule: "21:00"}')) == {**by_hand, "polygon_ohlcv_1d": "21:00"}
    assert schedules(load(GOOD, "feeds: [{provider: databento, dataset: trades}]"))["databento_trades"] is None
    stanza = 'feeds: [{provider: databento, dataset: ohlcv-1d, schedule: "22:00"}]'
    assert schedules(load(PAID, stanza)) == {**by_hand, "databento_ohlcv_1d": "22:00"}
    assert schedules(load(PAID.replace("ohlcv-1d}\n", 'ohlcv-1d, schedule: "22:00"}\n')))["databento_ohlcv_1d"] == "22:00"


def test_the_projects_feeds_that_charge_have_no_schedule():
    charged = {name for name, spec in providers().items() if spec.charges}
    assert charged == {"databento"}
    assert {feed.schedule is None for feed in load_feeds() if feed.provider in charged} == {True}
    assert None not in {feed.schedule for feed in load_feeds() if feed.provider not in charged}


def test_every_provider_that_tells_a_cost_is_one_that_charges():
    from market_data.providers.base import ProviderHook

    assert {name for name in providers() if provider(name).cost is not ProviderHook.cost} == {
        name for name, spec in providers().items() if spec.charges
    }


def test_limits_of_a_feed_reach_its_dag(load):
    (feed,) = load(GOOD)
    assert (feed.catch_up_sessions, feed.run_timeout) == (30, timedelta(hours=4))
    (feed,) = load(GOOD.replace("ohlcv-1d}", "ohlcv-1d, catch_up_sessions: 5, run_timeout: 1h30m}"))
    dag = build_dag(feed)
    assert dag.timetable.catch_up_sessions == 5
    limits = {(task.partial_kwargs["execution_timeout"] if task.is_mapped else task.execution_timeout) for task in dag.tasks}
    assert limits == {timedelta(minutes=90)}


@pytest.mark.parametrize(("text", "limit"), [("4h", 240), ("90m", 90), ("1h30m", 90), ("168h", 10_080), ("1m", 1)])
def test_a_run_timeout_is_written_in_hours_and_minutes(load, text, limit):
    (feed,) = load(GOOD.replace("ohlcv-1d}", f"ohlcv-1d, run_timeout: {text}}}"))
    assert feed.run_timeout == timedelta(minutes=limit)


@pytest.mark.parametrize("text", ["4", "'4'", "0m", "'0h'", "169h", "4:00", "'4 h'", "true", "h", "''", "-1h", "4d"])
def test_any_other_run_timeout_is_a_problem(load, text):
    (problem,) = problems(load, GOOD.replace("ohlcv-1d}", f"ohlcv-1d, run_timeout: {text}}}"))
    assert "run_timeout is " in problem
    assert problem.endswith('; a time such as "4h", "90m" or "1h30m", at most 7 days, is needed')


@pytest.mark.parametrize("text", ["0", "-1", "253", "1.5", "true", "'30'", "[]"])
def test_other_catch_up_sessions_are_a_problem(load, text):
    (problem,) = problems(load, GOOD.replace("ohlcv-1d}", f"ohlcv-1d, catch_up_sessions: {text}}}"))
    assert "catch_up_sessions is " in problem
    assert problem.endswith("; a whole number from 1 to 252 is needed")


def test_params_of_a_feed_are_merged_with_the_defaults_name_by_name(load):
    text = GOOD.replace("2020-01-02}", "2020-01-02, params: {batch_size: 5, max_retries: 1}}")
    (feed,) = load(text.replace("dataset: ohlcv-1d}", "dataset: ohlcv-1d, params: {max_retries: 2, start_date: 2024-11-04}}"))
    assert feed.params == {"batch_size": 5, "max_retries": 2, "start_date": "2024-11-04"}  # dates as a run gives them
    assert build_dag(feed).params["start_date"] == "2024-11-04"


def test_a_disabled_feed_has_no_dag_and_an_enabled_one_has(load):
    assert [feed.provider for feed in load(TWO.replace("dow30", "dow30, enabled: false"))] == ["polygon"]
    assert len(load(TWO.replace("dow30", "dow30, enabled: true"))) == 2


TIME = 'a New York time in quotes, "16:00" to "23:59", or null, is needed'
BAD = [
    (("polygon", "yahoo"), f"feed 1 (yahoo, ohlcv-1d): provider is 'yahoo'; known: {', '.join(sorted(providers()))}"),
    (("ohlcv-1d", "ohlcv-1w"), f"feed 1 (polygon, ohlcv-1w): dataset is 'ohlcv-1w'; known: {', '.join(sorted(DATASETS))}"),
    (('"20:30"', '"25:00"'), f"schedule is '25:00'; {TIME}"),
    (('"20:30"', '"09:00"'), f"schedule is '09:00'; {TIME}"),
    (('"20:30"', "20:30"), f"schedule is 1230; {TIME}"),  # YAML's base 60
    (("2020-01-02", "soon"), "start_date is 'soon'; a date such as 2000-01-03 is needed"),
    (("2020-01-02", "2020-01-02 09:30:00"), "start_date is 2020-01-02T09:30:00; a date such as 2000-01-03 is needed"),
    (("2020-01-02", "1990-01-02"), "start_date is 1990-01-02; 2000-01-01 to 2040-12-31 is allowed"),
    (("universe: sp500_etf, ", ""), "universe is missing"),
    (("sp500_etf", "sp600"), f"universe is 'sp600'; known: {', '.join(known())}"),
    (("sp500_etf", "[AAPL]"), "universe is ['AAPL']; text is needed"),
    (("ohlcv-1d}", "ohlcv-1d, colour: red}"), f"feeds.yaml: feed 1 (polygon, ohlcv-1d): unknown key 'colour'; {KNOWN}"),
    (("sp500_etf", "sp500_etf, colour: red"), f"feeds.yaml: defaults: unknown key 'colour'; {KNOWN}"),
    (("defaults:", "extra: 1\ndefaults:"), "feeds.yaml: unknown key 'extra'; known keys: defaults, feeds"),
    (("ohlcv-1d}", "ohlcv-1d, pool: 7}"), "pool is 7; text is needed"),
    (("ohlcv-1d}", "ohlcv-1d, provider_level: 'no'}"), "provider_level is 'no'; true or false is needed"),
    (("ohlcv-1d}", "ohlcv-1d, enabled: 1}"), "enabled is 1; true or false is needed"),
    (("ohlcv-1d}", "ohlcv-1d, params: [batch_size]}"), "params is ['batch_size']; names with values are needed"),
    (("ohlcv-1d}", "ohlcv-1d, params: {speed: 5}}"), f"params.speed is unknown; {PARAMS}"),
    (("ohlcv-1d}", "ohlcv-1d, params: {batchsize: 5}}"), f"params.batchsize is unknown (did you mean batch_size?); {PARAMS}"),
    (
        ("ohlcv-1d}", "ohlcv-1d, scheduled: null}"),
        f"feeds.yaml: feed 1 (polygon, ohlcv-1d): unknown key 'scheduled' (did you mean schedule?); {KNOWN}",
    ),
    (
        ("ohlcv-1d}", "ohlcv-1d, options: {adjustmnt: raw}}"),
        "options.adjustmnt is unknown (did you mean adjustment?); options of polygon",
    ),
    (("ohlcv-1d}", "ohlcv-1d, params: {adjustment: raw}}"), f"params.adjustment is unknown; {PARAMS}"),  # an option
    (("ohlcv-1d}", "ohlcv-1d, params: {batch_size: 0}}"), "params.batch_size is 0; a whole number from 1 to 1000 is needed"),
    (
        ("ohlcv-1d}", "ohlcv-1d, params: {start_date: 1990-01-02}}"),
        "params.start_date is 1990-01-02; the first date allowed is 2000-01-01",
    ),
    (
        ("ohlcv-1d}", "ohlcv-1d, params: {symbols: [AAPL, ON]}}"),
        "params.symbols: item 2: true is not text; a symbol in quotes is needed",
    ),
    (("ohlcv-1d}", "ohlcv-1d, params: {endpoint: bulk}}"), "params.endpoint is 'bulk'; allowed: auto, grouped, range, flatfile"),
    (
        ("ohlcv-1d}", "ohlcv-1d, params: {endpoint: grouped, file_grain: year}}"),
        "params.endpoint is 'grouped', a session per call, and file_grain is 'year', which requests by symbol; allowed: auto, range",
    ),
    (("ohlcv-1d}", "ohlcv-1d, options: {adjustment: both}}"), "options.adjustment is 'both'; allowed: raw, split"),
    (
        ("ohlcv-1d}", "ohlcv-1d, options: {adjustment: split}, provider_level: false}"),
        "options.adjustment is 'split', which changes values; without provider_level allowed: raw",
    ),
    (
        ("ohlcv-1d}", "ohlcv-1d, options: {adjustment: both}, provider_level: false}"),
        "options.adjustment is 'both'; allowed: raw, split",
    ),
    (("ohlcv-1d}", "ohlcv-1d, options: {feed: iex}}"), "options.feed is unknown; options of polygon: adjustment"),
    (
        ("- {provider: polygon, dataset: ohlcv-1d}", "- polygon\n  - {provider: mock, dataset: ohlcv-1d}"),
        "feed 1 is 'polygon'; names with",
    ),
    (
        ("- {provider: polygon, dataset: ohlcv-1d}", "- {provider: mock, dataset: ohlcv-1d, options: {feed: iex}}"),
        "options.feed is unknown; options of mock: none",
    ),
]


@pytest.mark.parametrize(("change", "text"), BAD, ids=lambda value: ascii(value)[:60])
def test_each_problem_names_feed_field_value_and_what_is_allowed(load, change, text):
    (problem,) = problems(load, GOOD.replace(*change))
    assert text in problem
    assert "feed 1 (" in problem or "feed 1 is" in problem or problem.startswith("feeds.yaml: ")


def test_a_dataset_that_another_provider_serves_is_refused_with_those_it_serves(load, monkeypatch):
    monkeypatch.setitem(providers(), "polygon", ProviderSpec("polygon", "", {"trades": (Endpoint("ticks", Shape.SYMBOL),)}))
    (problem,) = problems(load, GOOD.replace("ohlcv-1d}", "ohlcv-1d, params: {endpoint: range}}"))
    assert problem == "feed 1 (polygon, ohlcv-1d): dataset is 'ohlcv-1d', which polygon does not serve; it serves: trades"


def test_all_problems_of_all_feeds_come_at_once(load):
    text = (
        TWO.replace("sp500_etf", "sp600, colour: red")
        .replace("polygon", "yahoo")
        .replace("dow30", "dow30, params: {batch_size: 0}")
    )
    found = problems(load, text)
    assert [problem.split(";")[0] for problem in found] == [
        "feeds.yaml: defaults: unknown key 'colour'",
        "feed 1 (yahoo, ohlcv-1d): provider is 'yahoo'",
        "feed 1 (yahoo, ohlcv-1d): universe is 'sp600'",
        "feed 2 (mock, ohlcv-1d): params.batch_size is 0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feeds: {polygon: 1}", "feeds.yaml: a list under the key 'feeds' is needed"),
        ("- 1", "feeds.yaml: a list under the key 'feeds' is needed"),
        ("", "no feeds are defined; a list under the key 'feeds' is needed"),
        ("defaults: 7\nfeeds: []", "feeds.yaml: defaults is 7; names with values are needed"),
        ("feeds: [", "feeds.yaml cannot be read: while parsing"),
        ("feeds: \x00", "feeds.yaml cannot be read: "),
    ],
)
def test_another_file_than_a_feeds_file_is_rejected(load, text, message):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"feeds.yaml cannot be read: .*No such file"):
        load_feeds(tmp_path / "feeds.yaml")


def test_two_feeds_of_one_dag_id_are_refused(load):
    assert problems(load, GOOD + "  - {provider: polygon, dataset: ohlcv-1d}\n") == [
        "two feeds have the DAG id 'polygon_ohlcv_1d'; give one of them a name"
    ]


def test_two_feeds_of_one_provider_and_dataset_have_a_name_each(load):
    main, etfs = load(
        GOOD + "  - {provider: polygon, dataset: ohlcv-1d, name: etfs, universe: sp500_etf, conn_id: polygon_second}\n"
    )
    assert (main.dag_id, etfs.dag_id) == ("polygon_ohlcv_1d", "polygon_ohlcv_1d_etfs")
    assert (etfs.conn_id, etfs.pool) == ("polygon_second", "polygon_api")
    dags = [build_dag(feed) for feed in (main, etfs)]
    assets = [outlet for dag in dags for task in dag.tasks for outlet in task.outlets]
    assert (
        len({asset.name for asset in assets}) == len({asset.uri for asset in assets}) == 4
    )  # of each: what was loaded, and sessions


@pytest.mark.parametrize("name", ["Etfs", "a-b", "../x", "_x", "x" * 41])
def test_any_other_name_is_a_problem(load, name):
    text = GOOD.replace("ohlcv-1d}", f"ohlcv-1d, name: {name}}}")
    allowed = "a-z, 0-9 and _ are allowed, the first a letter or digit, 40 at most"
    assert problems(load, text) == [f"feed 1 (polygon, ohlcv-1d, {name}): name is '{name}'; {allowed}"]


def test_an_overlay_finds_the_feed_of_its_name(load):
    text = GOOD + "  - {provider: polygon, dataset: ohlcv-1d, name: etfs, universe: sp500_etf}\n"
    over = "feeds: [{provider: polygon, dataset: ohlcv-1d, name: etfs, schedule: '23:00'}]\n"
    assert {feed.dag_id: feed.schedule for feed in load(text, over)} == {
        "polygon_ohlcv_1d": load(text)[0].schedule,
        "polygon_ohlcv_1d_etfs": "23:00",
    }


def test_two_named_feeds_of_one_provider_may_do_without_a_provider_level(load):
    text = GOOD.replace("ohlcv-1d}", "ohlcv-1d, provider_level: false}")
    assert len(load(text + "  - {provider: polygon, dataset: ohlcv-1d, name: etfs, provider_level: false}\n")) == 2


def test_the_retry_policy_of_a_feed_is_merged_field_by_field(load):
    text = GOOD.replace("ohlcv-1d}", "ohlcv-1d, retry: {attempts: 8, jitter: 0}}")
    (feed,) = load(text, "feeds: [{provider: polygon, dataset: ohlcv-1d, retry: {attempts: 2}}]\n")
    assert feed.retry == {"attempts": 2, "jitter": 0}
    (feed,) = load(GOOD, "defaults: {retry: {longest_delay: 60}}\n")
    assert feed.retry == {"longest_delay": 60}
    assert "retry.attempts is 99; a whole number from 1 to 20 is needed" in problems(load, text.replace("8", "99"))[0]


def test_two_feeds_without_a_provider_level_are_refused(load):
    text = TWO.replace("2020-01-02}", "2020-01-02, provider_level: false}")
    assert problems(load, text) == ["two feeds of 'ohlcv-1d' without provider_level would mix their bars"]


def test_options_that_change_nothing_need_no_provider_level(load):
    (feed,) = load(GOOD.replace("ohlcv-1d}", "ohlcv-1d, options: {adjustment: raw}, provider_level: false}"))
    assert (feed.options, feed.provider_level) == ({"adjustment": "raw"}, False)


@pytest.mark.parametrize(
    "schedule", ["00:00", "15:59", "16:00", "20:30", "23:59", "24:00", "16:60", "16:0\u0660", "16:00\n", "4:30"]
)
def test_a_schedule_is_good_where_the_timetable_takes_it(schedule):
    try:
        SessionTimetable(run_at=schedule).validate()
    except AirflowTimetableInvalid:
        assert _date_problems({"schedule": schedule}) != []
    else:
        assert _date_problems({"schedule": schedule}) == []


def test_a_feed_has_the_calendar_that_it_names(load):
    (feed,) = load(GOOD)
    assert feed.calendar == "XNYS"
    (feed,) = load(GOOD.replace("ohlcv-1d}", "ohlcv-1d, calendar: CMES}"))
    assert build_dag(feed).timetable.exchange == feed.calendar == "CMES"


def test_a_feed_of_a_dataset_of_futures_has_their_calendar(load):
    feed = "{provider: databento, dataset: ohlcv-1d, options: {stype_in: continuous}%s}"
    assert load(GOOD.replace("{provider: polygon, dataset: ohlcv-1d}", feed % ""))[0].calendar == "CMES"
    assert load(GOOD.replace("{provider: polygon, dataset: ohlcv-1d}", feed % ", calendar: XNYS"))[0].calendar == "XNYS"


def test_an_unknown_calendar_is_named(load):
    assert problems(load, GOOD.replace("ohlcv-1d}", "ohlcv-1d, calendar: XLON}")) == [
        "feed 1 (polygon, ohlcv-1d): calendar is 'XLON'; known: XNYS, CMES, CFE, 24/5, 24/7"
    ]


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [("XNYS", "15:59", "16:00"), ("CMES", "16:30", "17:00"), ("CFE", "16:00", "16:15"), ("24/7", "19:59", "20:00")],
)
def test_a_schedule_before_the_close_of_its_calendar_is_refused(load, name, early, late):
    text = GOOD.replace("ohlcv-1d}", f'ohlcv-1d, calendar: {name}, schedule: "{late}"}}')
    assert load(text)[0].schedule == late
    (problem,) = problems(load, text.replace(late, early))
    assert f"schedule is '{early}'" in problem
    SessionTimetable(late, name).validate()
    with pytest.raises(AirflowTimetableInvalid, match=f"run_at is '{early}'"):
        SessionTimetable(early, name).validate()


def test_feeds_of_futures_run_on_holidays_on_which_these_trade():
    feeds = {feed.dag_id: feed.calendar for feed in load_feeds()}
    assert {name for name, found in feeds.items() if found == "CMES"} == {"ib_ohlcv_1d", "ib_ohlcv_5m", "ib_ohlcv_1m"}


def test_a_default_date_in_the_future_is_refused(load):
    ahead = datetime.now(UTC).date() + timedelta(days=3)
    (problem,) = problems(load, GOOD.replace("ohlcv-1d}", f"ohlcv-1d, params: {{start_date: {ahead}}}}}"))
    assert f"params.start_date is {ahead}; it must not be after today," in problem


# -- overlays ------------------------------------------------------------------------------------------------------------------------


def test_an_overlay_overrides_single_keys_and_leaves_the_others(load):
    base = TWO.replace("ohlcv-1d}", "ohlcv-1d, params: {batch_size: 5, max_retries: 1}, options: {adjustment: split}}", 1)
    overlay = """
    defaults: {schedule: "21:00"}
    feeds:
      - {provider: polygon, dataset: ohlcv-1d, conn_id: polygon_prod, params: {max_retries: 9}}
    """
    polygon, mock = load(base, overlay)
    assert (polygon.conn_id, polygon.pool, polygon.universe, polygon.schedule) == (
        "polygon_prod",
        "polygon_api",
        "sp500_etf",
        "21:00",
    )
    assert (polygon.params, polygon.options) == ({"batch_size": 5, "max_retries": 9}, {"adjustment": "split"})
    assert (mock.conn_id, mock.universe, mock.schedule, mock.start_date) == ("mock_default", "dow30", "21:00", date(2020, 1, 2))


def test_a_key_of_a_feed_wins_over_a_default_of_the_overlay(load):
    (feed,) = load(GOOD.replace("ohlcv-1d}", "ohlcv-1d, universe: dow30}"), "defaults: {universe: etf20}")
    assert feed.universe == "dow30"


def test_an_overlay_adds_a_feed_and_drops_one(load):
    overlay = (
        "feeds: [{provider: polygon, dataset: ohlcv-1d, enabled: false}, {provider: mock, dataset: ohlcv-1d, universe: etf20}]"
    )
    (feed,) = load(GOOD, overlay)
    assert (feed.dag_id, feed.universe, feed.start_date) == ("mock_ohlcv_1d", "etf20", date(2020, 1, 2))


def test_an_overlay_enables_what_the_file_disables(load):
    base = TWO.replace("dow30", "dow30, enabled: false")
    assert len(load(base)) == 1
    assert len(load(base, "feeds: [{provider: mock, dataset: ohlcv-1d, enabled: true}]")) == 2


def test_an_empty_overlay_changes_nothing(load):
    assert load(TWO) == load(TWO, "")


def test_problems_of_an_overlay_name_its_file_and_the_feed(load):
    overlay = (
        "feeds: [{provider: polygon, dataset: ohlcv-1d, colour: red, params: {batch_size: 0}}, {provider: mock, dataset: ohlcv-1w}]"
    )
    found = problems(load, GOOD, overlay)
    assert [problem.split(";")[0] for problem in found] == [
        "feeds.prod.yaml: feed 1 (polygon, ohlcv-1d): unknown key 'colour'",
        "feed 1 (polygon, ohlcv-1d): params.batch_size is 0",
        "feed 2 (mock, ohlcv-1w): dataset is 'ohlcv-1w'",
    ]


def test_an_overlay_that_is_not_there_is_named_with_its_path(load, tmp_path, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_ENV", "staging")
    with pytest.raises(ConfigError, match=f"MARKET_DATA_ENV is 'staging', but there is no file {tmp_path}/feeds.staging.yaml"):
        load(GOOD)


@pytest.mark.parametrize("name", ["../prod", "Prod", "a b", "prod\n"])
def test_an_environment_is_a_plain_name(load, monkeypatch, name):
    monkeypatch.setenv("MARKET_DATA_ENV", name)
    with pytest.raises(ConfigError, match="MARKET_DATA_ENV is .*; a-z, 0-9, _ and - are allowed"):
        load(GOOD)


def test_the_example_in_the_files_header_is_a_good_overlay(load):
    lines = (PROJECT / "include" / "feeds.yaml").read_text().splitlines()
    example = "\n".join(
        line.removeprefix("#").removeprefix("   ")
        for line in lines
        if (line.startswith("#   ") and "{" in line) or line == "#   feeds:"
    )
    assert set(yaml.safe_load(example[example.index("defaults:") :])) == {"defaults", "feeds"}
    feeds = {
        feed.dag_id: feed for feed in load((PROJECT / "include" / "feeds.yaml").read_text(), example[example.index("defaults:") :])
    }
    assert "mock_ohlcv_1d" not in feeds
    feed = feeds["polygon_ohlcv_1d"]
    assert (feed.conn_id, feed.params) == ("polygon_prod", {"max_retries": 8, "lookback_days": 14})


YARDSTICK = 1.2


def test_parsing_the_dags_takes_less_than_a_third_of_a_second_of_its_own():
    """On a machine on which Airflow's own imports take ``YARDSTICK`` seconds of CPU; on a slower one so much longer."""
    script = (
        "import time\n"
        "started = time.process_time()\n"
        "import airflow.sdk, airflow.timetables.base, airflow.sdk.definitions.retry_policy, market_data_plugin\n"
        "airflow.sdk.Asset(uri='s3://b/k')\n"  # Airflow loads its S3 provider here
        "began = time.process_time()\n"
        "import dags.ingest\n"
        "print(time.process_time() - began, began - started)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # the first process may have to compile the modules, those after it do not

    def measure():
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        return map(float, done.stdout.split()[-2:])

    measure()
    # The best of some: beside other processes, caches and clock rates are not the same for both parts of a measurement.
    assert any(took < 0.3 * max(1, yardstick / YARDSTICK) for took, yardstick in (measure() for _ in range(4)))


@pytest.mark.parametrize("session", [date(2026, 1, 15), date(2026, 7, 15)], ids=["winter", "summer"])
@pytest.mark.parametrize("feed", load_feeds(), ids=lambda feed: feed.dag_id)
def test_a_scheduled_run_finds_its_session_available_on_every_plan(feed, session):
    hour, minute = map(int, (feed.schedule or SUGGESTED).split(":"))
    starts = datetime.combine(session, time(hour, minute), calendar.NEW_YORK)
    midnight = datetime(session.year, session.month, session.day, tzinfo=UTC)
    for plan in provider(feed.provider).plans.values():
        assert midnight + timedelta(seconds=plan.available_after) <= starts


@pytest.mark.parametrize("feed", load_feeds(), ids=lambda feed: feed.dag_id)
def test_scheduled_runs_look_back_until_a_session_is_settled(feed):
    back = feed.params.get("lookback_days", FORM["lookback_days"][0])
    for session in calendar.sessions(date(2026, 1, 2), date(2026, 12, 31)):
        looked = calendar.sessions(session - timedelta(days=back), session)
        assert len(looked) >= dataset(feed.dataset).settle_sessions


def test_an_option_is_offered_only_for_datasets_that_it_changes(load):
    actions = GOOD.replace("ohlcv-1d}", "corporate-actions, options: {adjustment: split}}")
    assert problems(load, actions) == [
        "feed 1 (polygon, corporate-actions): options.adjustment is unknown; options of polygon: none"
    ]
