"""The worst vendor repeats the key in every response: after the failing runs of every provider it is stored and logged nowhere."""

import base64
import io
import json
import logging
import re
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pyarrow.parquet as pq
import pytest

from market_data.config.feeds import load_feeds
from market_data.core.errors import MarketDataError
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import provider
from tests.contract.provider import quick
from tests.pipeline.runs import World
from tests.tiers import tiers

CANARY = "canary-7f3a9c51d2e84b60"
FEEDS = {feed.dag_id: feed for feed in load_feeds() if feed.provider not in ("ib", "mock")}  # these two have no key
STATUSES = (200, 307, 400, 401, 402, 403, 404, 408, 422, 429, 500, 503)
FORMS = ("text", "html", "json", "field", "list", "row", "cut")


class Echo(BaseHTTPRequestHandler):
    """Responds with all that was sent: in the body, in headers and in the reason phrase."""

    status, form = 200, "text"
    seen = 0

    def do_GET(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        said = " ".join([self.path, *self.headers.values(), sent])
        for basic in re.findall(r"Basic (\S+)", said):
            said += " " + base64.b64decode(basic).decode()
        type(self).seen += CANARY in said
        body = {
            "text": said,
            "html": f"<html><title>{said}</title><h1>{said}</h1></html>",
            "json": json.dumps({"status": "ERROR", "error": said, "message": said, "detail": said, "Error Message": said}),
            "field": json.dumps({said: said, "results": said, "bars": said}),
            "list": json.dumps([said]),
            "row": json.dumps({"results": [{"t": said, "T": said}], "bars": {said: [{"t": said}]}, "resultsCount": 1}),
            "cut": json.dumps({"results": [said]})[:-2],
        }[self.form].encode()
        self.send_response(self.status, said[:200].replace("\r", " ").replace("\n", " "))
        for name, value in {"Location": f"http://127.0.0.1:9/{said[:200]}", "Warning": said, "X-Request-Id": said}.items():
            self.send_header(name, value[:300].replace("\r", " ").replace("\n", " "))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def vendor():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def leaks(text):
    """Return each key in a text, with the 80 characters before it."""
    return [text[max(0, found.start() - 80) : found.end()] for found in re.finditer(CANARY, text)]


def stored(lake):
    """Yield the key and all text of every object of a lake."""
    for key, _ in lake.list(""):
        body = lake.get(key).body
        if body.startswith(b"PAR1"):
            table = pq.read_table(io.BytesIO(body))
            body = json.dumps([str(table.schema.metadata), table.to_pylist()], default=str).encode()
        yield key, body.decode(errors="replace")


@pytest.mark.parametrize("dag_id", tiers(list(FEEDS), "alpaca_ohlcv_1d"))
def test_no_failing_run_leaves_the_key_anywhere(dag_id, vendor, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    feed = FEEDS[dag_id]
    config = ProviderConfig(feed.conn_id, vendor, CANARY, CANARY, {"plan": "sample"})

    def make_hook():
        return quick(provider(feed.provider))(options=feed.options, config=config)

    symbols = ("META",) if feed.dataset == "symbol-changes" else ("AAPL", "IBM")
    Echo.seen = 0
    for status in STATUSES:
        for form in FORMS if status in (200, 400) else FORMS[:3]:
            monkeypatch.setattr(Echo, "status", status)
            monkeypatch.setattr(Echo, "form", form)
            world = World(feed, tmp_path, make_hook)
            try:
                _, report = world.run([date(2024, 1, 3)], symbols, world.context(f"{status}-{form}", max_retries=0))
                text = json.dumps(report, default=str)
            except MarketDataError as error:
                chain, text = error, ""
                while chain is not None:
                    text += f"{chain} {chain!r} {vars(chain)}"
                    chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
            assert leaks(text) == [], (status, form)
    assert Echo.seen > len(STATUSES)
    assert {key: found for key, text in stored(world.lake) if (found := leaks(key + text))} == {}
    assert CANARY.encode() not in (tmp_path / "warehouse.duckdb").read_bytes()
    logged = [f"{record.name}: {record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
    assert [found for text in logged for found in leaks(text)] == []
