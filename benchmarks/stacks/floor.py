"""The floor, the leanest loop that writes the same files.

HTTP, gunzip, parse, Arrow, Parquet with zstd; no check of anything. Option ``symbol``: a file per symbol; ``day``: a file per symbol and
session. The provider, Alpaca or Polygon, is the last part of the URL.
"""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.stacks.harness import KEY, Job, run

DAY = 86_400_000_000
PRICES = ("open", "high", "low", "close")
SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("bar_time", pa.timestamp("us", "UTC")),
        *((name, pa.float64()) for name in (*PRICES, "volume")),
        ("trade_count", pa.int64()),
        ("vwap", pa.float64()),
    ]
)


class AlpacaBar(msgspec.Struct, gc=False):
    """A bar of Alpaca's."""

    t: str
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    n: int
    vw: float


class AlpacaPage(msgspec.Struct, gc=False):
    """A page of Alpaca's."""

    bars: dict[str, list[AlpacaBar]]
    next_page_token: str | None


class PolygonBar(msgspec.Struct, gc=False):
    """A bar of Polygon's."""

    t: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    n: int
    vw: float


class PolygonPage(msgspec.Struct, gc=False):
    """A page of Polygon's."""

    results: list[PolygonBar]


class Api:
    """One connection that is kept open."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.connection, self.prefix, self.headers = http.client.HTTPConnection(parts.netloc), parts.path, headers

    def call(self, path: str, form: dict[str, str] | None = None) -> bytes:
        """Return the body of a response, as it was sent."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        body = urlencode(form) if form else None
        self.connection.request("POST" if form else "GET", self.prefix + path, body, {**self.headers, **kind})
        response = self.connection.getresponse()
        found = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: HTTP {response.status}: {found[:300]!r}")
        return found


def columns(symbol: str, times: pa.Array, bars: list[AlpacaBar] | list[PolygonBar]) -> pa.Table:
    """Return bars as columns."""
    values = ([b.o for b in bars], [b.h for b in bars], [b.l for b in bars], [b.c for b in bars], [b.v for b in bars])
    rest = pa.array([b.n for b in bars], pa.int64()), pa.array([b.vw for b in bars], pa.float64())
    prices = (pa.array(np.array(column)) for column in values)
    return pa.table([pa.repeat(symbol, len(bars)), times, *prices, *rest], schema=SCHEMA)


def alpaca(job: Job) -> Iterator[tuple[str, pa.Table]]:
    """Yield the bars of each symbol, from pages of many symbols."""
    api = Api(job.url, {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": KEY, "Accept-Encoding": "gzip"})
    decode = msgspec.json.Decoder(AlpacaPage).decode
    for group in job.groups:
        query = {"symbols": ",".join(group), "timeframe": "1Min", "start": job.start, "end": job.end, "limit": "10000"}
        token: str | None = ""
        held: dict[str, list[pa.Table]] = {}
        while token is not None:
            words = {**query, "page_token": token} if token else query
            page = decode(zlib.decompress(api.call(f"/v2/stocks/bars?{urlencode(words)}"), 31))
            for symbol, bars in page.bars.items():
                # "2024-02-01T14:30:00Z": 19 characters that numpy reads as a moment.
                times = pa.array(np.array([b.t[:19] for b in bars], "datetime64[us]"), SCHEMA.field("bar_time").type)
                held.setdefault(symbol, []).append(columns(symbol, times, bars))
            token = page.next_page_token
            last = next(reversed(page.bars))
            for symbol in [name for name in held if token is None or name != last]:
                yield symbol, pa.concat_tables(held.pop(symbol))


def polygon(job: Job) -> Iterator[tuple[str, pa.Table]]:
    """Yield the bars of each symbol, one page per symbol."""
    api = Api(job.url, {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "gzip"})
    decode = msgspec.json.Decoder(PolygonPage).decode
    for symbol in job.symbols:
        path = f"/v2/aggs/ticker/{symbol}/range/1/minute/{job.first}/{job.last}?adjusted=false&limit=50000"
        bars = decode(zlib.decompress(api.call(path), 31)).results
        times = pa.array(np.array([b.t for b in bars]) * 1000, SCHEMA.field("bar_time").type)
        yield symbol, columns(symbol, times, bars)


def write(table: pa.Table, job: Job, symbol: str) -> None:
    """Write the file of a symbol, or one per session: minutes of a session are of one UTC day."""
    if job.option == "symbol":
        pq.write_table(table, job.path(f"symbol={symbol}.parquet"), compression="zstd", use_dictionary=["symbol"])
        return
    days = np.asarray(table["bar_time"].cast(pa.int64())) // DAY
    edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for begin, end in pairwise(edges):
        part = table.slice(begin, end - begin)
        name = f"{symbol}-{np.datetime64(int(days[begin]), 'D')}.parquet"
        pq.write_table(part, job.path(name), compression="zstd", use_dictionary=["symbol"])


def work(job: Job) -> None:
    """Fetch and write all symbols."""
    for symbol, table in alpaca(job) if job.url.endswith("/alpaca") else polygon(job):
        write(table, job, symbol)


if __name__ == "__main__":
    run(work)
