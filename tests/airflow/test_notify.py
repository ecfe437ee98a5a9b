"""Airflow notifiers by name and connection: a real web server receives the message, what cannot be sent is told with what to do."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from airflow.sdk import BaseNotifier

from market_data.airflow.maintain import watch as job
from market_data.airflow.notify import build, senders
from market_data.alerts.cause import Message
from market_data.config.alerts import KINDS, Alerts, Notifier
from market_data.core.errors import ConfigError, MarketDataError

MESSAGE = Message("session/f/2024-03-06", "f: late", "3 missing: <script>, {{ 7 * 7 }}", "trigger it", "http://af/dags/f")


@pytest.fixture(scope="module")
def web():
    """A web server; ``web.bodies`` has what was posted, ``web.status`` is its response."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.bodies.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook(web, monkeypatch):
    web.bodies, web.status = [], 200
    conn = {"conn_type": "http", "host": "127.0.0.1", "port": web.server_port, "login": "desk", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(conn))
    return Notifier("hook", "http", "hook", {"endpoint": "alert"})


def test_a_webhook_receives_the_message_as_it_is(web, hook):
    senders(Alerts(notifiers=(hook,)))["hook"](MESSAGE)
    ((path, authorization, body),) = web.bodies
    assert (path, authorization[:6]) == ("/alert", "Basic ")
    assert body == {"id": MESSAGE.id, "title": "f: late", "text": str(MESSAGE), "link": MESSAGE.link, "state": "open"}
    assert "<script>, {{ 7 * 7 }}" in body["text"]


class Board(BaseNotifier):
    """A notifier whose templates have the names that messages use."""

    template_fields = ("title", "message", "text")
    sent, error = [], None

    def __init__(self, title, message, text):
        super().__init__()
        self.title, self.message, self.text = title, message, text

    def notify(self, context):
        if self.error:
            raise self.error
        self.sent.append((self.title, self.message, self.text, context["message"]))


BOARD = Notifier(
    "board", f"{__name__}.Board", None, {"title": "{{ title }}", "message": "{{ message }}", "text": "{{ title }}: {{ text }}"}
)


def test_templates_named_as_parts_of_a_message_are_rendered_from_it_and_once(monkeypatch):
    monkeypatch.setattr(Board, "sent", [])
    senders(Alerts(notifiers=(BOARD,)))["board"](MESSAGE)
    assert Board.sent == [("f: late", str(MESSAGE), f"f: late: {MESSAGE.text}", str(MESSAGE))]
    assert "{{ 7 * 7 }}" in MESSAGE.text


def test_an_error_of_a_notifier_is_not_logged_with_what_it_quotes(monkeypatch, caplog):
    monkeypatch.setattr(Board, "error", OSError("https://hooks.example.com/s3cret"))
    with pytest.raises(OSError, match="hooks"):
        senders(Alerts(notifiers=(BOARD,)))["board"](MESSAGE)
    assert "s3cret" not in caplog.text


def test_the_dag_watches_and_is_red_while_a_message_cannot_be_sent(web, hook, monkeypatch, tmp_path, caplog):
    include = tmp_path / "include"
    include.mkdir()
    (include / "feeds.yaml").write_text(
        'defaults: {universe: dow30, schedule: "20:30", start_date: 2020-01-02, due: "07:00"}\n'
        "feeds: [{provider: mock, dataset: ohlcv-1d}]\n"
        "alerts: {notifiers: [{notifier: http, connection: hook, args: {endpoint: alert}}]}\n"
    )
    (include / "universes").symlink_to(job_include() / "universes")
    monkeypatch.setenv("MARKET_DATA_INCLUDE", str(include))
    monkeypatch.setattr("market_data.config.feeds.INCLUDE", include)
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    web.status = 500
    with pytest.raises(MarketDataError, match=r"not sent, tried again by the next run:\n  http: mock_ohlcv_1d .*: late"):
        job.run_watch()
    assert "mock_ohlcv_1d" in caplog.text
    web.status = 200
    (sent,) = job.run_watch()
    assert sent.startswith("http: mock_ohlcv_1d ")
    assert job.run_watch() == []
    assert len(web.bodies) == 2


def job_include():
    from market_data.core.paths import INCLUDE

    return INCLUDE


def test_the_dag_runs_every_five_minutes_and_waits_for_no_other():
    dag = job.watch_feeds()
    assert (dag.dag_id, dag.schedule, dag.max_active_runs) == ("watch_feeds", "*/5 * * * *", 1)
    assert [task.task_id for task in dag.tasks] == ["watch"]


def test_mail_takes_the_connection_and_escapes_the_text():
    mail = build(Notifier("mail", "smtp", "mail_default", {"to": "desk@example.com"}))
    assert mail.smtp_conn_id == "mail_default"
    values = dict(MESSAGE.values())
    mail.render_template_fields(values)
    assert mail.subject == "f: late"
    assert "&lt;script&gt;" in mail.html_content
    assert "{{ 7 * 7 }}" in mail.html_content


@pytest.mark.parametrize(
    ("notifier", "message"),
    [
        (Notifier("smtp", "smtp", "c", {"too": "x"}), "args of smtp: missing a required argument: 'to'"),
        (Notifier("x", "json.JSONDecoder"), "notifier of x is 'json.JSONDecoder'; a class of notifiers is needed"),
        (Notifier("x", "no_such_package.Notifier"), "x needs a package that is not installed; pip install no_such_package"),
        (Notifier("x", "airflow.sdk.BaseNotifier", "c"), "the class has no such argument: name it in args"),
        (Notifier("slack", "slack"), "slack needs a package that is not installed; pip install apache-airflow-providers-slack"),
    ],
)
def test_a_notifier_that_cannot_work_is_told_with_its_name(notifier, message, monkeypatch):
    if notifier.notifier == "slack":
        monkeypatch.setitem(__import__("sys").modules, "airflow.providers.slack", None)
    with pytest.raises(ConfigError) as caught:
        build(notifier)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_each_short_name_is_documented(name):
    from tests.docs.pages import DOCS

    assert f"| `{name}` | `{KINDS[name].package}` |" in DOCS["docs/tasks/get-messages.md"]
