"""A lake per test, once in the S3 server of the stack (over real HTTP, through the Airflow connection) and once in a folder."""

import json
import logging
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count

import pytest

from market_data.core.run import RunInfo
from market_data.lake.store import Lake
from sandbox.s3 import S3Server
from tests.lake.rows import open_lake


class Server:
    """What the S3 server saw, and the replies it shall lose."""

    def __init__(self):
        self.puts = []
        self.lose = 0
        self.lock = threading.Lock()

    def wrap(self, application):
        def watched(environ, start_response):
            if environ["REQUEST_METHOD"] != "PUT" or "versioning" in environ["QUERY_STRING"] or environ["PATH_INFO"].count("/") < 2:
                return application(environ, start_response)
            with self.lock:
                self.puts.append(environ["PATH_INFO"])
                lost, self.lose = self.lose > 0, max(0, self.lose - 1)
            if not lost:
                return application(environ, start_response)
            list(application(environ, lambda status, headers, exc_info=None: None))
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return []

        return watched


@pytest.fixture(scope="session")
def s3_server():
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    seen = Server()
    server = S3Server(wrap=seen.wrap)
    seen.endpoint = server.endpoint
    yield seen
    server.stop()


_BUCKETS = count()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server, with the Airflow connection pointing at it and a versioned bucket ``s3.bucket``."""
    import boto3

    connection = {
        "conn_type": "aws",
        "login": "AKIDTEST",
        "password": "not-a-secret",
        "extra": {"endpoint_url": s3_server.endpoint, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    s3_server.client = boto3.client(
        "s3", endpoint_url=s3_server.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    s3_server.bucket, s3_server.lose = f"lake-{next(_BUCKETS)}", 0
    s3_server.client.create_bucket(Bucket=s3_server.bucket)
    s3_server.client.put_bucket_versioning(Bucket=s3_server.bucket, VersioningConfiguration={"Status": "Enabled"})
    return s3_server


class Watch:
    """Counts the writes that reach the store."""

    def __init__(self, lake, server=None):
        self.lake, self.server = lake, server

    def _folder(self):
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.lake._root.rglob("*") if path.is_file()}

    @contextmanager
    def writes(self):
        """A list that holds, after the block, one entry for each PUT (S3) or each file written (folder)."""
        seen = []
        before = len(self.server.puts) if self.server else self._folder()
        yield seen
        if self.server:
            seen += self.server.puts[before:]
        else:
            seen += [path for path, version in self._folder().items() if before.get(path) != version]


@pytest.fixture(params=["s3", "file"])
def lake(request, tmp_path):
    if request.param == "file":
        return Lake.open(f"file://{tmp_path}/lake")
    return open_lake(f"s3://{request.getfixturevalue('s3').bucket}/some/prefix")


@pytest.fixture
def watch(lake, request):
    return Watch(lake, None if lake._root else request.getfixturevalue("s3"))


@pytest.fixture
def run():
    return RunInfo("polygon_ohlcv_1d", "manual__2024-09-16", "manual", 0, datetime(2024, 9, 16, tzinfo=UTC))
