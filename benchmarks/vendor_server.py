"""Serve minute bars in the form and the pages of Alpaca, Polygon and Databento, from memory.

The bodies are those of the sample vendors (`sandbox.vendors`), made and compressed before anything is measured. So the server costs a
look-up per call, and every stack gets the same bytes. A request that was not prepared is an error: it would bring other bytes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import thread_time
from typing import Any
from urllib.parse import parse_qsl

from benchmarks.stacks.harness import KEY, Job
from sandbox.http import SampleApi
from sandbox.http.listener import UvicornListener
from sandbox.vendors.messages import VendorRequest, VendorResponse

TICKER = re.compile(r"/v2/aggs/ticker/([^/]+)/range/1/minute/")
PAGE_ROWS = {"alpaca": "10000", "polygon": "50000"}


def key_of(provider: str, path: str, parameters: dict[str, str]) -> str:
    """Return what tells the prepared responses of a provider apart.

    The dates are not part of it: every stack requests the same span, and each client spells it in its own way.
    """
    if provider == "polygon":
        ticker = TICKER.match(path)
        return f"polygon {ticker[1] if ticker else path}"
    symbols = ",".join(sorted(parameters.get("symbols", "").split(",")))
    return f"{provider} {path} {symbols} {parameters.get('page_token', '')}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A response as it is sent."""

    headers: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def of(cls, response: VendorResponse) -> Prepared:
        """Encode and compress a response of a sample vendor.

        :raises ValueError: if it is a refusal.
        """
        body, headers = response.encoded(), response.all_headers
        if response.status != 200:
            raise ValueError(f"{response.request.target}: HTTP {response.status}: {body[:300]!r}")
        if response.request.vendor.compresses:
            body, headers = gzip.compress(body, 1, mtime=0), {**headers, "Content-Encoding": "gzip"}
        headers["Content-Length"] = str(len(body))
        return cls([(name.lower().encode(), value.encode()) for name, value in headers.items()], body)


@dataclass
class VendorServer:
    """The server; a context manager that listens on 127.0.0.1 in a thread.

    :ivar sent: bytes of bodies sent so far. ``cpu_seconds``: CPU time of the server so far.
    :ivar missing: keys of requests that were not prepared.
    """

    responses: dict[str, Prepared]
    sent: int = 0
    cpu_seconds: float = 0.0
    missing: list[str] = field(default_factory=list)

    def __enter__(self) -> VendorServer:
        self._listener = UvicornListener(self, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def url(self, provider: str) -> str:
        """Return the address of a provider's API."""
        return f"http://127.0.0.1:{self._listener.port}/{provider}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Respond to one call, as an application of ASGI."""
        form = b""
        while True:
            event = await receive()
            form += event.get("body", b"")
            if not event.get("more_body"):
                break
        _, provider, path = scope["path"].split("/", 2)
        parameters = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)) | dict(parse_qsl(form.decode()))
        key = key_of(provider, f"/{path}", parameters)
        found = self.responses.get(key)
        if found is None:
            self.missing.append(key)
            body = json.dumps({"message": f"not prepared: {key[:300]}"}).encode()
            found, status = Prepared([(b"content-length", str(len(body)).encode())], body), 404
        else:
            status = 200
        self.sent += len(found.body)
        await send({"type": "http.response.start", "status": status, "headers": found.headers})
        await send({"type": "http.response.body", "body": found.body})
        self.cpu_seconds = thread_time()


def responses(provider: str, job: Job) -> Iterator[tuple[str, Prepared]]:
    """Yield every response that fetching the job's symbols takes, by its key."""
    api = SampleApi(api_key=KEY)
    vendor = api.vendors[provider]

    def respond(endpoint: str, path: str, query: dict[str, str], found: dict[str, str] | None = None) -> VendorResponse:
        return vendor.respond(endpoint, VendorRequest(vendor, path, query, endpoint=endpoint, found=found or {}), found or {})

    span = {"start": job.start, "end": job.end}
    if provider == "polygon":
        for symbol in job.symbols:
            path = f"/v2/aggs/ticker/{symbol}/range/1/minute/{job.first}/{job.last}"
            found = {"ticker": symbol, "multiplier": "1", "timespan": "minute", "start": job.first, "end": job.last}
            query = {"adjusted": "false", "limit": PAGE_ROWS["polygon"]}
            yield key_of(provider, path, query), Prepared.of(respond("range", path, query, found))
        return
    for group in job.groups:
        symbols = {"symbols": ",".join(group)}
        if provider == "databento":
            query = {**symbols, **span, "dataset": "EQUS.MINI", "schema": "ohlcv-1m", "stype_in": "raw_symbol"}
            for endpoint, more in (
                ("metadata.get_record_count", {}),
                ("timeseries.get_range", {"encoding": "dbn", "compression": "zstd"}),
            ):
                path = f"/v0/{endpoint}"
                yield key_of(provider, path, query), Prepared.of(respond(endpoint.split(".")[1], path, {**query, **more}))
            continue
        path, token = "/v2/stocks/bars", ""
        while token is not None:
            query = {
                **symbols,
                **span,
                "timeframe": "1Min",
                "limit": PAGE_ROWS["alpaca"],
                **({"page_token": token} if token else {}),
            }
            page = respond("bars", path, query)
            yield key_of(provider, path, query), Prepared.of(page)
            token = page.body["next_page_token"]


def prepared(jobs: Sequence[tuple[str, Job]]) -> dict[str, Prepared]:
    """Return the responses of several providers."""
    return {key: response for provider, job in jobs for key, response in responses(provider, job)}
