"""`alerts` and `due` in feeds.yaml: values, defaults, overlay, and every problem named."""

import re
from datetime import UTC, date, datetime

import pytest
import yaml

from market_data.config.alerts import KINDS, Alerts, Notifier, Thresholds, alert_problems, due_at, due_problem
from market_data.config.feeds import load_alerts, load_feeds
from market_data.core.calendar import CALENDARS
from market_data.core.errors import ConfigError
from tests.docs.pages import DOCS

FEEDS = """
defaults: {universe: dow30, schedule: "20:30", start_date: 2020-01-02, due: "07:00"}
feeds:
  - {provider: polygon, dataset: ohlcv-1d}
  - {provider: alpaca, dataset: ohlcv-1d, due: "09:30"}
  - {provider: mock, dataset: ohlcv-1d, schedule: null}
  - {provider: databento, dataset: ohlcv-1d}
"""
MAIL = {"notifier": "smtp", "connection": "mail", "args": {"to": "desk@example.com"}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.delenv("MARKET_DATA_ENV", raising=False)

    def written(text, overlay=None):
        (tmp_path / "feeds.yaml").write_text(FEEDS + text)
        if overlay is not None:
            monkeypatch.setenv("MARKET_DATA_ENV", "prod")
            (tmp_path / "feeds.prod.yaml").write_text(overlay)
        return tmp_path / "feeds.yaml"

    return written


def test_a_default_due_time_is_that_of_feeds_with_a_schedule(write):
    assert {feed.dag_id: feed.due for feed in load_feeds(write(""))} == {
        "polygon_ohlcv_1d": "07:00",
        "alpaca_ohlcv_1d": "09:30",
        "mock_ohlcv_1d": None,
        "databento_ohlcv_1d": None,
    }


def test_alerts_are_read_and_an_overlay_replaces_single_keys(write):
    assert load_alerts(write("")) == Alerts()
    path = write(f"alerts: {{pending: 0.1, spend_usd: 5, notifiers: [{MAIL}]}}", "alerts: {spend_usd: null, restated: 0}")
    mail = Notifier("smtp", "smtp", "mail", {"to": "desk@example.com"})
    assert load_alerts(path) == Alerts(Thresholds(pending=0.1, restated=0, spend_usd=None), (mail,))
    assert mail.path == KINDS["smtp"].path


def test_problems_are_listed_with_those_of_the_feeds(write):
    with pytest.raises(ConfigError) as caught:
        load_alerts(write("alerts: {pending: 2}", 'feeds: [{provider: polygon, dataset: ohlcv-1d, due: "7"}]'))
    assert "feeds.yaml: alerts.pending is 2; a share from 0 to 1 is needed" in str(caught.value)
    assert 'due is \'7\'; a time of the next morning in quotes, "00:00" to "23:59", is needed' in str(caught.value)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ([], "alerts is []; names with values are needed"),
        ({"pendings": 1}, "alerts.pendings is unknown (did you mean pending?)"),
        ({"quarantined": True}, "alerts.quarantined is true; a whole number from 0 to 1,000,000 is needed"),
        ({"restated": -1}, "alerts.restated is -1; a whole number"),
        ({"spend_usd": "5"}, "alerts.spend_usd is '5'; US dollars from 0 to 1,000,000, or null, are needed"),
        ({"pending": float("nan")}, "alerts.pending is nan; a share from 0 to 1 is needed"),
        ({"notifiers": {}}, "alerts.notifiers is {}; a list is needed"),
        ({"notifiers": ["smtp"]}, "alerts.notifiers 1 is 'smtp'; names with values are needed"),
        ({"notifiers": [{"notifier": "slak"}]}, "notifier is 'slak' (did you mean slack?); smtp, slack, "),
        ({"notifiers": [{}]}, "notifier is null; smtp, slack, "),
        ({"notifiers": [{"notifier": "acme.desk.Notifier"}]}, "name is null; a-z, 0-9, _ and - are needed"),
        ({"notifiers": [MAIL | {"name": "log"}]}, "name is 'log'; a-z, 0-9, _ and - are needed, at most 40, and not 'log'"),
        ({"notifiers": [MAIL | {"conn": "x"}]}, "unknown key 'conn'"),
        ({"notifiers": [MAIL | {"connection": 1}]}, "connection is 1; the id of an Airflow connection is needed"),
        ({"notifiers": [MAIL | {"args": []}]}, "args is []; names with values are needed"),
        (
            {"notifiers": [MAIL | {"args": {"headers": {"Authorization": "x"}}}]},
            "args.headers.Authorization is not allowed; secrets",
        ),
        ({"notifiers": [MAIL, MAIL]}, "two are named 'smtp'; give one of them another name"),
    ],
)
def test_each_problem_names_value_and_what_is_allowed(section, problem):
    (found,) = alert_problems(section)
    assert problem in found


def test_a_session_is_due_the_next_morning_in_the_time_zone_of_its_exchange():
    assert due_at(CALENDARS["XNYS"], date(2024, 3, 8), "07:00") == datetime(2024, 3, 9, 12, tzinfo=UTC)
    assert due_at(CALENDARS["XNYS"], date(2024, 3, 9), "07:00") == datetime(2024, 3, 10, 11, tzinfo=UTC)  # summer time begins
    assert due_at(CALENDARS["24/7"], date(2024, 3, 9), "07:00") == datetime(2024, 3, 10, 7, tzinfo=UTC)


@pytest.mark.parametrize(("name", "due", "wrong"), [("24/7", "02:00", True), ("24/7", "06:00", False), ("XNYS", "00:00", False)])
def test_a_due_time_before_the_schedule_is_refused(name, due, wrong):
    assert bool(due_problem(due, name, "23:00")) is wrong
    assert "before the schedule '23:00'" in due_problem("02:00", "24/7", "23:00")


def test_the_page_shows_valid_sections():
    found = re.findall(r"^ *```yml\n(.*?)^ *```$", DOCS["docs/tasks/get-messages.md"], re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    assert [alert_problems(yaml.safe_load(text)["alerts"]) for text in found] == [[], []]
