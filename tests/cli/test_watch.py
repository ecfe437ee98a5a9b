"""``market-data watch`` and the notifiers in ``check-config``: output and exit code."""

import json
from types import SimpleNamespace

import pytest

from market_data.cli import setup
from market_data.cli.main import main
from market_data.config.alerts import Alerts, Notifier
from market_data.core.errors import ConfigError
from market_data.lake.store import Lake
from tests.alerts.desk import FEED


class Deployment:
    """A lake in files and a notifier; ``inbox`` has what it got."""

    def __init__(self, folder):
        self.folder, self.inbox, self.error = folder, [], None

    def lake(self):
        return Lake.open(f"file://{self.folder}/lake")

    def open_s3(self, address):
        raise AssertionError(address)

    def notifiers(self, alerts):
        def send(message):
            if self.error:
                raise self.error
            self.inbox.append(message)

        return {"desk": send}, "http://airflow"


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    monkeypatch.setattr("market_data.config.feeds.load_feeds", lambda: (FEED,))
    monkeypatch.setattr("market_data.config.feeds.load_alerts", Alerts)
    return Deployment(tmp_path)


def test_watch_sends_once_and_ends_with_1_while_something_is_wrong(deployment, capsys):
    assert main(["watch", "--dry-run"], deployment) == 1
    assert deployment.inbox == []
    deployment.error = ConfigError("slack needs a package")
    assert main(["watch"], deployment) == 1
    assert "(slack needs a package)" in capsys.readouterr().out
    deployment.error = None
    for _ in range(2):
        assert main(["watch"], deployment) == 1
    (message,) = deployment.inbox
    assert message.title.startswith("polygon_ohlcv_1d ")
    assert message.link == "http://airflow/market-data/coverage?feed=polygon_ohlcv_1d"
    out = capsys.readouterr().out
    assert out.count("sent desk: polygon_ohlcv_1d") == 1
    assert out.count("To do: check that the scheduler is up") == 2
    assert main(["watch", "--json"], deployment) == 1
    assert [cause["title"] for cause in json.loads(capsys.readouterr().out)] == [message.title]


def test_watch_ends_with_0_when_nothing_is_wrong(deployment, capsys, monkeypatch):
    monkeypatch.setattr("market_data.config.feeds.load_feeds", lambda: ())
    assert main(["watch"], deployment) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"


def test_a_lake_that_cannot_be_read_is_an_error(deployment, capsys):
    deployment.lake().put_new("logs", b"not a folder")
    assert main(["watch"], deployment) == 1
    assert "error: lake list" in capsys.readouterr().err


def test_check_config_names_what_a_notifier_lacks(monkeypatch):
    notifiers = (Notifier("mail", "smtp", "mail"), Notifier("chat", "slack", "chat"), Notifier("ok", "http"))

    def check(notifier):
        if notifier.name == "chat":
            raise ConfigError("chat needs a package that is not installed; pip install apache-airflow-providers-slack")

    registry = SimpleNamespace(pools=list, connections=lambda: ["chat"])
    monkeypatch.setattr(setup, "load_alerts", lambda: Alerts(notifiers=notifiers))
    monkeypatch.setattr(setup, "load_feeds", lambda: ())
    found = list(setup.check(SimpleNamespace(registry=lambda: registry, check_notifier=check), {}))
    shown = {one.what: (one.state, one.ok) for one in found if one.what.startswith("notifier ")}
    assert shown == {
        "notifier mail": ("connection mail is missing", False),
        "notifier chat": ("chat needs a package that is not installed; pip install apache-airflow-providers-slack", False),
        "notifier ok": ("valid", True),
    }
