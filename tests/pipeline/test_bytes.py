"""A run uploads each row twice and downloads it at most twice, as the S3 server's request log shows."""

import logging
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import date
from urllib.parse import unquote
from uuid import uuid4

import pytest

from market_data import pipeline
from market_data.config.universes import members
from market_data.core import calendar
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from sandbox.s3 import S3Server
from tests.pipeline.runs import World, feed_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SESSIONS = calendar.sessions(date(2024, 9, 3), date(2024, 9, 17))
SYMBOLS = members("sp500_etf")
STEPS = ("plan_run", "fetch_batch", "has_leftovers", "check_run", "load_run", "publish_run")


@dataclass(frozen=True)
class Logged:
    """One request for an object, and the body bytes that the client ``sent`` and ``received``."""

    step: str
    method: str
    key: str
    status: int
    sent: int
    received: int

    @property
    def prefix(self):
        return self.key.split("/")[0]


class RequestLog:
    """The requests that the S3 server served, with the step of the run that made them."""

    def __init__(self):
        self.step, self.requests, self.lock = "", [], threading.Lock()

    def wrap(self, application):
        def logged(environ, start_response):
            status = []

            def start(line, headers, exc_info=None):
                status.append(int(line.split()[0]))
                return start_response(line, headers, exc_info)

            body = b"".join(application(environ, start))
            key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")[2]
            sent = int(environ.get("CONTENT_LENGTH") or 0)
            if key:
                with self.lock:
                    self.requests.append(Logged(self.step, environ["REQUEST_METHOD"], key, status[-1], sent, len(body)))
            return [body]

        return logged

    def during(self, step, function):
        """Return ``function``, whose requests are logged under ``step``."""

        def named(*args, **options):
            self.step = step
            try:
                return function(*args, **options)
            finally:
                self.step = ""

        return named

    def of(self, method, prefix, *steps):
        """Return the requests for objects below ``prefix``; of all steps if none is named."""
        return [r for r in self.requests if (r.method, r.prefix) == (method, prefix) and (not steps or r.step in steps)]


@pytest.fixture
def log():
    return RequestLog()


@pytest.fixture
def lake(log, monkeypatch):
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = S3Server(wrap=log.wrap)
    bucket = f"bytes-{uuid4()}"  # all servers of a process share their buckets
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=bucket)
    for name, value in keys.items():
        monkeypatch.setenv(name.upper(), value)
    yield Lake.open(f"s3://{bucket}", S3Access(server.endpoint, "us-east-1"))
    server.stop()


@pytest.fixture
def run(lake, log, tmp_path, monkeypatch):
    """A function that runs a mock feed once over ``SESSIONS`` and returns the report."""
    for step in STEPS:
        monkeypatch.setattr(pipeline, step, log.during(step, getattr(pipeline, step)))

    def run(dag_id, symbols):
        world = World(feed_of(dag_id), tmp_path, make_hook)
        world.lake = lake
        _, report = world.run(SESSIONS, symbols)
        assert report["red"] == []
        return report

    return run


def make_hook():
    return MockHook(config=ProviderConfig("mock_default", "", extra={"calls_per_minute_per_slot": 60_000, "limits": []}))


def keys_of(lake, prefix):
    return {key for key, _ in lake.list(prefix)}


@pytest.mark.parametrize(
    ("dag_id", "symbols", "rows", "receipt_bytes_per_row"),
    [("mock_ohlcv_1d", members("sp500_etf"), 523 * 10, 45), ("mock_ohlcv_1m", members("sp500_etf")[:26], 100_000, 1)],
    ids=["523 symbols x 10 sessions", "100,000 minutes"],
)
def test_rows_are_uploaded_twice_downloaded_twice_and_kept_once(run, lake, log, dag_id, symbols, rows, receipt_bytes_per_row):
    report = run(dag_id, symbols)
    assert len(SESSIONS) == 10
    assert report["rows_landed"] == report["rows_loaded"] >= rows

    raw, staged = ({r.key for r in log.of("PUT", prefix)} for prefix in ("raw", "staging"))
    for prefix in ("raw", "staging"):
        assert set(Counter(r.key for r in log.of("PUT", prefix)).values()) == {1}, prefix
        assert {r.step for r in log.of("PUT", prefix)} == {"fetch_batch"}, prefix

    for step in ("check_run", "load_run"):
        assert Counter(r.key for r in log.of("GET", "staging", step)) == Counter(dict.fromkeys(staged, 1)), step
    assert log.of("GET", "staging", *(step for step in STEPS if step not in {"check_run", "load_run"})) == []
    # ``fetch`` may look for an earlier version of a file; there is none in an empty lake.
    assert [r for r in log.of("GET", "raw") if r.status == 200] == []

    assert keys_of(lake, "staging") == set()
    assert keys_of(lake, "raw") == raw

    # Measured: 40.2 bytes per daily bar, whose file holds one row; a receipt names each file.
    receipt_bytes = sum(r.sent for r in log.of("PUT", "receipts"))
    assert 0 < receipt_bytes / report["rows_landed"] < receipt_bytes_per_row
