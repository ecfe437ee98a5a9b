"""Messages from a real scheduler to a real webhook: one for each cause, none twice, and one all-clear."""

import json
import shutil
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from market_data.config.alerts import due_at
from market_data.core.calendar import XNYS
from tests.e2e.conftest import PROJECT, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WATCH, PAUSED, RED, UNPLANNED = "watch_feeds", "mock_ohlcv_1d", "polygon_ohlcv_1d", "mock_ohlcv_1m"
DUE = "07:00"
NOW = datetime.now(UTC)
LATE = [day for day in XNYS.recent_sessions(XNYS.last_completed_session(NOW), 5) if due_at(XNYS, day, DUE) <= NOW][-1]
PAST = "2013-01-03"
FEEDS = f"""
defaults: {{universe: dow30, start_date: 2012-01-03, schedule: "20:30"}}
alerts:
  notifiers:
    - {{notifier: http, connection: desk_webhook, args: {{endpoint: /alerts}}}}
feeds:
  - {{provider: mock, dataset: ohlcv-1d, due: "{DUE}"}}
  - {{provider: mock, dataset: ohlcv-1m, schedule: null}}
  - {{provider: polygon, dataset: ohlcv-1d}}
"""


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted in the server's ``inbox``."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.inbox.append((self.path, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def webhook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    server.inbox = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, webhook):
    include = tmp_path_factory.mktemp("alerts") / "include"
    shutil.copytree(PROJECT / "include", include)
    (include / "feeds.yaml").write_text(FEEDS)
    connection = {"conn_type": "http", "host": "http://127.0.0.1", "port": webhook.server_port}
    with running(
        tmp_path_factory.mktemp("alerts_stack"),
        AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parent / "alert_dags"),
        AIRFLOW_CONN_DESK_WEBHOOK=json.dumps(connection),
        MARKET_DATA_INCLUDE=str(include),
    ) as world:
        for dag_id in (WATCH, PAUSED, UNPLANNED):
            world.parsed(dag_id)
        for dag_id in (PAUSED, RED):
            world.stack.holds.add(dag_id)  # no scheduled run: they are triggered
        yield world


def watched(world):
    """Wait for two more runs of the watchdog: what the first one sends, the second one must not repeat."""
    before = {run["dag_run_id"] for run in world.runs(WATCH)}
    world.until(lambda: sum(run["state"] == "success" and run["dag_run_id"] not in before for run in world.runs(WATCH)) >= 2)
    assert {run["run_type"] for run in world.runs(WATCH)} == {"scheduled"}


def inbox(webhook):
    assert {path for path, _ in webhook.inbox} <= {"/alerts"}
    return Counter((body["title"], body["state"]) for _, body in webhook.inbox)


def test_a_late_a_red_and_an_unplanned_run_are_one_message_and_one_all_clear_each(world, webhook):
    for dag_id in (RED, UNPLANNED):
        world.airflow.unpause(dag_id)
    world.control("POST", "faults", kind="server_error", status=401, times=None)
    dates = {"symbols": ["AAPL"], "start_date": PAST, "end_date": PAST}
    failed = [
        world.trigger(dag_id=RED, **dates),
        world.trigger(dag_id=UNPLANNED, universe="nobody", start_date=PAST, end_date=PAST),
    ]
    assert {world.wait(run)["state"] for run in failed} == {"failed"}
    world.airflow.unpause(WATCH)
    open_causes = {
        f"{PAUSED} {LATE}: late": 1,
        f"{RED} 2013: a run failed": 1,
        f"{UNPLANNED} 2013: a run failed": 1,
    }
    watched(world)
    assert inbox(webhook) == {(title, "open"): 1 for title in open_causes}
    texts = {body["title"]: body["text"] for _, body in webhook.inbox}
    assert "No run has reported on it" in texts[f"{PAUSED} {LATE}: late"]
    assert "AuthError" in texts[f"{RED} 2013: a run failed"]
    assert "`plan` failed" in texts[f"{UNPLANNED} 2013: a run failed"]
    assert "universe is 'nobody'" in texts[f"{UNPLANNED} 2013: a run failed"]

    world.control("DELETE", "faults")
    world.airflow.unpause(PAUSED)
    repaired = [
        world.trigger(dag_id=RED, **dates),
        world.trigger(dag_id=UNPLANNED, start_date=PAST, end_date=PAST),
        world.trigger(dag_id=PAUSED, start_date=str(LATE), end_date=str(LATE)),
    ]
    for run in repaired:
        assert world.wait(run)["state"] == "success", world.trouble(run)
    watched(world)
    both = {(title, "open"): 1 for title in open_causes} | {(f"all-clear: {title}", "healed"): 1 for title in open_causes}
    assert inbox(webhook) == both
